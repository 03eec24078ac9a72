"""Who may do what: keys for reading and for control, and what a service without keys may listen on."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Annotated, Literal

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from latticewatch.config import ServeSettings
from latticewatch.errors import ConfigurationError

Scope = Literal["read", "control"]


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
        An address that others reach, and no key.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._read = _encoded(settings.read_key)
        self._control = _encoded(settings.control_key)
        host, _ = split_address(settings.http)
        self.open = self._read is None and self._control is None
        if "*" in settings.allowed_origins and not is_loopback(host):
            raise ConfigurationError(
                "serve.allowed_origins holds '*', and others can reach this service: any page in a browser could use "
                "it; name the origins, as in https://microscope.example.org"
            )
        if self.open and not is_loopback(host):
            raise ConfigurationError(
                f"serve.http {settings.http!r}: others can reach this address and there is no key; "
                "set LATTICEWATCH_SERVE__READ_KEY (and LATTICEWATCH_SERVE__CONTROL_KEY for edits), "
                "or listen on 127.0.0.1"
            )

    def allows(self, key: str | None, scope: Scope) -> bool:
        """Whether a key grants a scope; the control key grants both."""
        if self.open:
            return True
        given = (key or "").encode()
        # Both are compared, whatever the first says: the time taken tells nothing.
        reads = self._read is not None and hmac.compare_digest(given, self._read)
        controls = self._control is not None and hmac.compare_digest(given, self._control)
        return controls or (reads and scope == "read")


def _encoded(key: SecretStr | None) -> bytes | None:
    if key is None:
        return None
    if not key.get_secret_value():
        raise ConfigurationError("a serve key is empty; give it a value or leave it out")
    return key.get_secret_value().encode()


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
