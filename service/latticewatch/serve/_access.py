"""Who may do what: keys for reading and for control, and what a service without keys may listen on."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from latticewatch.config import ServeSettings
from latticewatch.errors import ConfigurationError
from latticewatch.serve._keys import Hashed, KeyFile, Scope, hash_of


def split_address(http: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPv6]:PORT``.

    Raises
    ------
    ConfigurationError
        A port above 65535.
    """
    host, _, port = http.rpartition(":")
    if int(port) > 65535:
        raise ConfigurationError(f"serve.http {http!r}: port {port} is above 65535; give HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """The keys of a service.

    Parameters
    ----------
    settings : ServeSettings
        Address and keys.

    Raises
    ------
    ConfigurationError
        An address that others reach, and no key; or a file of keys that is none.
    """

    def __init__(self, settings: ServeSettings) -> None:
        given: list[tuple[Scope, SecretStr | None]] = [
            ("read", settings.read_key),
            ("control", settings.control_key),
        ]
        self._set = Hashed([(scope, _hashed(key)) for scope, key in given if key is not None])
        self._file = None if settings.keys_file is None else KeyFile(settings.keys_file)
        host, _ = split_address(settings.http)
        self.open = not self._set and self._file is None
        if "*" in settings.allowed_origins and not is_loopback(host):
            raise ConfigurationError(
                "serve.allowed_origins holds '*', and others can reach this service: any page in a browser could use "
                "it; name the origins, as in https://microscope.example.org"
            )
        if self.open and not is_loopback(host):
            raise ConfigurationError(
                f"serve.http {settings.http!r}: others can reach this address and there is no key; "
                "set LATTICEWATCH_SERVE__READ_KEY (and LATTICEWATCH_SERVE__CONTROL_KEY for edits) or serve.keys_file, "
                "or listen on 127.0.0.1"
            )

    def allows(self, key: str | None, scope: Scope) -> bool:
        """Whether a key grants a scope; the control key grants both.

        Parameters
        ----------
        key : str or None
            As it came; None where none did.
        scope : {"read", "control"}

        Returns
        -------
        bool
        """
        if self.open:
            return True
        return self._set.allows(key, scope) or (self._file is not None and self._file.allows(key, scope))


def _hashed(key: SecretStr) -> str:
    text = key.get_secret_value()
    if not text:
        raise ConfigurationError("a serve key is empty; give it a value or leave it out")
    return hash_of(text)


bearer = HTTPBearer(
    auto_error=False, description="Read or control key; not needed where the service has none."
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


def read_scope(request: Request, credentials: Credentials) -> None:
    """Refuse a request without a key for reading."""
    _require(request, credentials, "read")


def control_scope(request: Request, credentials: Credentials) -> None:
    """Refuse a request without a key for control."""
    _require(request, credentials, "control")


def _require(request: Request, credentials: HTTPAuthorizationCredentials | None, scope: Scope) -> None:
    access: Access = request.app.state.hub.access
    key = credentials.credentials if credentials else None
    if access.allows(key, scope):
        return
    if access.allows(key, "read"):
        raise HTTPException(403, f"this key may read but not {scope}; use the control key")
    raise HTTPException(
        401, "key missing or wrong; send it as  Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
    )
