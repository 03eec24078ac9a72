"""Bounds on connections: how many one address may have, and how long one may say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# A connection that has not sent its first request by then is closed [s].
REQUEST_TIMEOUT_S = 10.0


def protocol_of(max_connections: int) -> type[asyncio.Protocol]:
    """The HTTP protocol of a server.

    Parameters
    ----------
    max_connections : int
        Connections of one address beyond twice this many, and 16, are cut off at once; those of others go on.

    Returns
    -------
    type
        For ``uvicorn.Config(http=...)``.
    """
    limit = 2 * max_connections + 16

    class BoundedProtocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else None
            alike = sum(
                1 for other in self.connections if (getattr(other, "client", None) or (None,))[0] == address
            )
            if alike > limit:
                transport.abort()
                return
            self.loop.call_later(REQUEST_TIMEOUT_S, self._expect_request)

        def _expect_request(self) -> None:
            # after an upgrade the transport belongs to the websocket
            if (
                self.cycle is None
                and self.transport.get_protocol() is self
                and not self.transport.is_closing()
            ):
                self.transport.abort()

    return BoundedProtocol
