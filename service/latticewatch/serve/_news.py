"""News from the engine's thread to coroutines that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class News:
    """Wakes every coroutine that listens; says nothing of what is new, so nothing is queued."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: set[asyncio.Event] = set()
        self._waking = False
        self.closing = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the listeners run in."""
        self._loop = loop

    def notify(self) -> None:
        """Wake all listeners; from any thread."""
        # Who begins to listen now looks at the state first, and so sees what this is about.
        if self._loop is None or self._waking or not self._listening:
            return
        self._waking = True
        # A loop that has closed has no listeners left.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Tell all listeners to come to an end; from any thread."""
        self.closing = True
        self.notify()

    def _wake(self) -> None:
        self._waking = False
        for event in self._listening:
            event.set()

    @property
    def listeners(self) -> int:
        """How many listen now: live pages, followers of events, and whoever waits for a page of them."""
        return len(self._listening)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that is set at each piece of news. Clear it, look at the state, then wait for it."""
        event = asyncio.Event()
        self._listening.add(event)
        try:
            yield event
        finally:
            self._listening.discard(event)


async def woken(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Wait for an event; False when time ran out."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
