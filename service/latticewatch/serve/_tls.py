"""Certificate and key of a service that speaks HTTPS."""

from __future__ import annotations

import ssl
from typing import Any

from latticewatch.config import ServeSettings
from latticewatch.errors import ConfigurationError


def tls_files(settings: ServeSettings) -> dict[str, Any]:
    """What the web server needs for TLS; nothing where none is wanted.

    Parameters
    ----------
    settings : ServeSettings

    Raises
    ------
    ConfigurationError
        One of the two files is not given or cannot be read, or they do not belong together.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return {}
    if cert is None or key is None:
        raise ConfigurationError("serve.tls_cert and serve.tls_key belong together: give both or neither")
    try:
        # an empty password, so that nobody is asked for one
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"serve.tls_cert {cert} and serve.tls_key {key}: {error}; expected a certificate in PEM and its key, "
            "without a password"
        ) from error
    return {"ssl_certfile": cert, "ssl_keyfile": key}
