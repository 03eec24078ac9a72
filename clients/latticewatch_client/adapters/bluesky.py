"""Events of defects as a readable device of ophyd-async, and a plan that takes a row of each (extra ``bluesky``)."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Any

from bluesky import plan_stubs, preprocessors
from ophyd_async.core import AsyncStatus, StandardReadable, soft_signal_r_and_setter

from latticewatch.errors import CursorGoneError, StaleStreamError
from latticewatch.messages import Event, EventPage
from latticewatch_client._async import AsyncClient
from latticewatch_client._calls import DEFAULT_URL
from latticewatch_client._follow import After, Cursor

# How long one request waits for an event; the age of the newest frame is looked at between two [s].
POLL_S = 0.5
# Of each row: its type, its unit, and where it comes from.
COLUMNS: dict[str, tuple[type, str | None, Callable[[Event], Any]]] = {
    "event_id": (str, None, lambda event: event.id),
    "seq": (int, None, lambda event: event.seq),
    "type": (str, None, lambda event: event.type),
    "series_id": (str, None, lambda event: event.data["series_id"]),
    "frame": (int, None, lambda event: event.data["frame"]),
    "track": (int, None, lambda event: event.data["track"]),
    "class_name": (str, None, lambda event: event.data["class_name"]),
    "confidence": (float, None, lambda event: event.data["confidence"]),
    "stage_x": (float, "nm", lambda event: _place(event, "x")),
    "stage_y": (float, "nm", lambda event: _place(event, "y")),
}


class DefectFeed(StandardReadable):
    """The next event of a defect, at each trigger: all its signals are of one event.

    Parameters
    ----------
    url, key
        Of the service; see `latticewatch_client.Client`.
    after : None, "now", int, str or Cursor
        Where to begin; see `latticewatch_client.Client.events`.
    types : sequence of str
        Types of events; those of defects only.
    timeout_s : float
        Longest wait for an event [s].
    stale_after_s : float or None
        When the newest frame is older than this a trigger raises, whatever waits to be read [s]; None never does, to
        read what was recorded.
    name : str
        Of the device.

    Attributes
    ----------
    cursor : Cursor or None
        The last event that was latched.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        after: After = "now",
        types: Sequence[str] = ("defect.*",),
        timeout_s: float = 60.0,
        stale_after_s: float | None = 5.0,
        name: str = "defects",
    ) -> None:
        self._client = AsyncClient(url, key)
        self._types, self._timeout_s, self._stale_after_s = list(types), timeout_s, stale_after_s
        self._after: After = after
        self.cursor: Cursor | None = None
        self._waiting: deque[Event] = deque()
        self._pages: AsyncIterator[EventPage] | None = None
        self._set: dict[str, Callable[[Any], None]] = {}
        with self.add_children_as_readables():
            for column, (kind, unit, _) in COLUMNS.items():
                signal, self._set[column] = soft_signal_r_and_setter(kind, units=unit)
                setattr(self, column, signal)
        super().__init__(name)

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Wait for the next event and latch it.

        Raises
        ------
        StaleStreamError
            Frames have stopped arriving.
        TimeoutError
            No event in time.
        CursorGoneError
            Events were missed; it names them.
        """
        event = await self._next()
        row = {column: read(event) for column, (_, _, read) in COLUMNS.items()}
        # Nothing is awaited between the first and the last: no reader sees half of it.
        for column, value in row.items():
            self._set[column](value)
        self.cursor = Cursor(event.stream, event.seq)

    async def close(self) -> None:
        """Close the connections; in the loop that triggers."""
        await self._client.aclose()

    async def _next(self) -> Event:
        deadline = time.monotonic() + self._timeout_s
        await self._check_age()
        while not self._waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no event within {self._timeout_s:g} s; wait longer with timeout_s")
            if self._pages is None:
                self._pages = self._client.event_pages(self._after, self._types, wait=lambda: POLL_S)
            try:
                page = await asyncio.wait_for(anext(self._pages), deadline - time.monotonic() + POLL_S)
            except (TimeoutError, CursorGoneError):
                # The walk is over; the next trigger begins another one where this one stood.
                self._pages = None
                raise
            self._after = Cursor(page.stream, page.next)
            self._waiting.extend(page.events)
            if not self._waiting:
                await self._check_age()
        return self._waiting.popleft()

    async def _check_age(self) -> None:
        if self._stale_after_s is None:
            return
        age_s = (await self._client.status()).last_frame_age_s
        if age_s is None or age_s > self._stale_after_s:
            age = "no frame yet" if age_s is None else f"last frame {age_s:.1f} s ago"
            raise StaleStreamError(
                f"{age}, limit {self._stale_after_s:g} s: positions are old; see the stream"
            )


def watch_defects(
    feed: DefectFeed, n: int, detectors: Sequence[Any] = (), **metadata: Any
) -> Generator[Any, Any, Any]:
    """A plan: for each of the next events of defects one row, with what detectors read at that moment.

    Parameters
    ----------
    feed : DefectFeed
    n : int
        Events.
    detectors : sequence of devices
        Triggered after the event has come.
    **metadata
        Of the run.

    Yields
    ------
    Msg
        For a `RunEngine`.
    """

    @preprocessors.stage_decorator([feed, *detectors])
    @preprocessors.run_decorator(md={"plan_name": "watch_defects", "events": n, **metadata})
    def rows() -> Generator[Any, Any, Any]:
        for _ in range(n):
            yield from plan_stubs.trigger(feed, wait=True)
            for detector in detectors:
                yield from plan_stubs.trigger(detector, wait=True)
            yield from plan_stubs.create("primary")
            for device in (feed, *detectors):
                yield from plan_stubs.read(device)
            yield from plan_stubs.save()

    return (yield from rows())


def _place(event: Event, axis: str) -> float:
    place = event.data.get("stage_nm")
    return math.nan if place is None else float(place[axis])
