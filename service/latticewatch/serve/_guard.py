"""The gate before every resource: whose page asks, how much it sends, how many are here."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latticewatch.config import ServeSettings
from latticewatch.serve._access import Access, is_loopback, split_address

MAX_BODY = 64 * 1024
BODY_TIMEOUT_S = 10.0
# Bodies of another size, with the control key alone: the path, its limit [bytes], and the time for it [s].
LARGE = {("PUT", "/v1/model/file"): (64 * 2**20, 60.0)}
PROBES = ("/healthz", "/readyz")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TRY_AGAIN_LATER = 1013
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses what must not reach a resource.

    - ``Host`` of a service on loopback must be a name of loopback or of an allowed origin: a page of another
      site whose name was made to point here (DNS rebinding) is refused with 421.
    - ``Origin`` of a websocket and of a request that changes something must be our own or an allowed one
      (403). A request without one does not come from another site's page.
    - A request that changes something needs a key before its body is read (401), and one with a large body the
      control key (403).
    - Bodies are read to `MAX_BODY` and no further (413), within `BODY_TIMEOUT_S` (408); see `LARGE` for others, of
      which one is read at a time (503).
    - Requests and sockets beyond ``max_connections`` at a time are turned away: 503, or close code 1013.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)
        # The name under which a proxy in front of us is known comes through in Host.
        self._hosts = frozenset(urlsplit(origin).netloc for origin in self._origins)
        self._loopback = is_loopback(split_address(settings.http)[0])
        self._access = Access(settings)
        self._max_connections = settings.max_connections
        self._connections = 0
        self._large = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["type"] == "http":
            send = _with_security_headers(send, scope["path"])
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        if scope["type"] == "http" and scope["path"] in PROBES and scope["method"] == "GET":
            # Whoever watches over the service is answered under any load.
            await self._app(scope, receive, send)
            return
        if self._connections >= self._max_connections:
            await _turn_away(scope, receive, send, self._max_connections)
            return
        self._connections += 1
        try:
            if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
                if not self._access.allows(_key_of(headers), "read"):
                    # before the body: a stranger is not waited for
                    await JSONResponse(
                        {"detail": "key missing or wrong; send it as  Authorization: Bearer KEY"},
                        401,
                        {"WWW-Authenticate": "Bearer"},
                    )(scope, receive, send)
                    return
                body = await self._body(scope, receive, headers)
                if isinstance(body, tuple):
                    await _refuse(scope, receive, send, *body)
                    return
                receive = _replayed(body, receive)
            await self._app(scope, receive, send)
        finally:
            self._connections -= 1

    async def _body(self, scope: Scope, receive: Receive, headers: Headers) -> bytes | tuple[int, str]:
        """The body, or the status that refuses it and why."""
        large = LARGE.get((scope["method"], scope["path"]))
        if large is None:
            return await _bounded_body(receive, headers, MAX_BODY, BODY_TIMEOUT_S)
        if not self._access.allows(_key_of(headers), "control"):
            return 403, "this key may read but not control; use the control key"
        if self._large:
            return 503, "another large body is being read; try again when it is done"
        self._large = True
        try:
            return await _bounded_body(receive, headers, *large)
        finally:
            self._large = False

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._loopback and not is_loopback(_hostname(f"//{host}")) and host.lower() not in self._hosts:
            return 421, f"host {host[:100]!r}: not a name of this machine; add it to serve.allowed_origins"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if changes and origin is not None and not self._is_ours(origin.lower(), host.lower()):
            return 403, f"origin {origin[:100]!r}: not this service's page; add it to serve.allowed_origins"
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        return origin in self._origins or (bool(host) and origin in (f"http://{host}", f"https://{host}"))


def _key_of(headers: Headers) -> str | None:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" and key else None


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        # Closed before it is accepted: the handshake fails with 403.
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    await JSONResponse({"detail": detail}, status)(scope, receive, send)


async def _turn_away(scope: Scope, receive: Receive, send: Send, limit: int) -> None:
    detail = f"{limit} connections are open, which is the limit; try again later"
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": detail})
        return
    await JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})(scope, receive, send)


async def _bounded_body(
    receive: Receive, headers: Headers, limit: int, timeout_s: float
) -> bytes | tuple[int, str]:
    too_large = 413, f"body larger than {limit} bytes"
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 12 or int(length) > limit:
        return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > limit:
                    return too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return 408, f"the body did not come within {timeout_s:g} s"


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _with_security_headers(send: Send, path: str) -> Send:
    # States are never kept; the page may be, if the browser asks whether it is still the same.
    caching = "no-store" if path.startswith("/v1/") else "no-cache"

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", caching)
        await send(message)

    return sender
