"""A websocket's incoming side: bounded in size, number and rate, and opened with a key."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from latticewatch.messages import Authenticate
from latticewatch.serve._hub import Hub
from latticewatch.serve._news import woken

MAX_MESSAGE = 16 * 1024
MAX_REASON = 120  # bytes of a close reason, a few less than RFC 6455 allows
WAITING = 8
FIRST_MESSAGE_S = 5.0
RATE_PER_S = 500.0
BURST = 1000.0

BAD_MESSAGE = 1007
POLICY = 1008
GOING_AWAY = 1001
UNAUTHORIZED = 4401
GONE = 4410

M = TypeVar("M", bound=BaseModel)


class CloseError(Exception):
    """The socket must be closed, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Inbox:
    """The last few messages of one socket; older ones that were not looked at are forgotten.

    Parameters
    ----------
    socket : WebSocket
        Accepted.
    wake : asyncio.Event
        Set at each message and when the other side is gone.
    """

    def __init__(self, socket: WebSocket, wake: asyncio.Event) -> None:
        self._socket = socket
        self._wake = wake
        self._waiting: deque[str] = deque(maxlen=WAITING)
        self._ended: CloseError | None = None
        self._tokens, self._filled_at = BURST, time.monotonic()

    async def run(self) -> None:
        """Read until the other side is gone or breaks a rule."""
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise CloseError(GOING_AWAY, "gone")
                text = message.get("text") or ""
                self._spend()
                if not text or len(text) > MAX_MESSAGE:
                    raise CloseError(BAD_MESSAGE, f"expected text of 1 to {MAX_MESSAGE} characters")
                self._waiting.append(text)
                self._wake.set()
        except CloseError as error:
            self._ended = error
        except (WebSocketDisconnect, RuntimeError):
            self._ended = CloseError(GOING_AWAY, "gone")
        self._wake.set()

    def _spend(self) -> None:
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * RATE_PER_S) - 1
        self._filled_at = now
        if self._tokens < 0:
            raise CloseError(POLICY, f"more than {RATE_PER_S:g} messages a second")

    def take(self, model: type[M]) -> M | None:
        """The oldest message that waits; ``None`` where there is none.

        Raises
        ------
        CloseError
            The other side is gone, broke a rule, or sent what is no ``model``.
        """
        if self._ended is not None:
            raise self._ended
        if not self._waiting:
            return None
        try:
            return _adapter(model).validate_json(self._waiting.popleft())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise CloseError(BAD_MESSAGE, f"message {where}: {first['msg']}"[:MAX_REASON]) from error

    def newest(self, model: type[M]) -> M | None:
        """The newest message that waits; those before it are forgotten. See `take` for errors."""
        while len(self._waiting) > 1:
            self._waiting.popleft()
        return self.take(model)


@lru_cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


@contextlib.asynccontextmanager
async def conversation(socket: WebSocket, hub: Hub) -> AsyncIterator[tuple[Inbox, asyncio.Event]]:
    """An accepted socket's inbox, and an event set by messages and by news; closes the socket at the end."""
    await socket.accept()
    with hub.news.listening() as wake:
        inbox = Inbox(socket, wake)
        reader = asyncio.create_task(inbox.run())
        try:
            yield inbox, wake
            code, reason = GOING_AWAY, "the service is stopping"
        except CloseError as error:
            code, reason = error.code, error.reason
        except WebSocketDisconnect:
            # gone while something was being sent
            code, reason = GOING_AWAY, "gone"
        finally:
            reader.cancel()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(code, reason)


async def first_message(hub: Hub, inbox: Inbox, wake: asyncio.Event, model: type[M]) -> M:
    """The opening message; where the service has keys, with one that may read, or after an `Authenticate`.

    Raises
    ------
    CloseError
        None came within `FIRST_MESSAGE_S`, or its key is missing or wrong.
    """
    deadline = time.monotonic() + FIRST_MESSAGE_S
    allowed = hub.access.open
    while True:
        wake.clear()
        message = inbox.take(Authenticate | model)  # type: ignore[arg-type]
        if message is not None:
            allowed = allowed or hub.access.allows(getattr(message, "key", None), "read")
            if not allowed:
                raise CloseError(UNAUTHORIZED, "key missing or wrong; send it in the first message")
            if isinstance(message, model):
                return message
        elif not await woken(wake, max(0.0, deadline - time.monotonic())) or hub.news.closing:
            raise CloseError(POLICY, f"no message within {FIRST_MESSAGE_S:g} s of opening")
