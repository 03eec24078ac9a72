"""Pages of the event log from a cursor on: the one way in which all three event resources read it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from starlette.concurrency import run_in_threadpool

from latticewatch.messages import EVENT_TYPES, CursorGone, EventPage
from latticewatch.serve._hub import Hub
from latticewatch.serve._news import woken

if TYPE_CHECKING:
    from latticewatch.record import LoggedEvent

DISCONNECT_CHECK_S = 2.0


class GoneError(Exception):
    """The cursor cannot be followed; carries the body of the 410."""

    def __init__(self, body: CursorGone) -> None:
        super().__init__(body.detail)
        self.body = body


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted: their types, all of them where it is ``None``."""

    types: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, words: Sequence[str] | None) -> Filter:
        """Read type names; each word may hold several, with commas, and ``defect.*`` is every type of defect.

        Raises
        ------
        ValueError
            A type that does not exist.
        """
        wanted: list[str] = []
        for word in (part.strip() for words_ in words or () for part in words_.split(",")):
            family = word.removesuffix("*")
            matching = [
                name for name in EVENT_TYPES if name == word or (family != word and name.startswith(family))
            ]
            if word and not matching:
                raise ValueError(f"event type {word[:64]!r}: expected one of {', '.join(EVENT_TYPES)}")
            wanted += matching if word else []
        return cls(tuple(dict.fromkeys(wanted)) or None)


@dataclass(frozen=True, slots=True)
class Page:
    """Events of the log, and what a reply says beside them.

    Attributes
    ----------
    events : list of LoggedEvent
    said : EventPage
        The reply, without its events.
    """

    events: list[LoggedEvent]
    said: EventPage

    @property
    def next(self) -> int:
        """Cursor for what follows."""
        return self.said.next

    def json(self) -> str:
        """The reply as JSON; the events are taken over as they were written."""
        said = self.said.model_dump_json(exclude={"events"})
        return f'{said[:-1]},"events":[{",".join(event.json() for event in self.events)}]}}'


def start_of(hub: Hub, after: int | Literal["now"] | None, stream: str | None) -> int:
    """The cursor that a client means; see `check` for errors."""
    log = hub.engine.log
    if after is None:
        _check_stream(hub, stream)
        return log.first_seq - 1
    if after == "now":
        _check_stream(hub, stream)
        return log.last_seq
    check(hub, after, stream)
    return after


def check(hub: Hub, after: int, stream: str | None) -> None:
    """Refuse a cursor that is too old, in the future, or of another log.

    Raises
    ------
    GoneError
    """
    _check_stream(hub, stream)
    log = hub.engine.log
    if after < log.first_seq - 1:
        raise _gone(hub, f"cursor {after} is too old: the log begins at {log.first_seq}")
    if after > log.last_seq:
        raise _gone(hub, f"cursor {after} is in the future: the log ends at {log.last_seq}")


def _check_stream(hub: Hub, stream: str | None) -> None:
    if stream is not None and stream != hub.engine.log.stream:
        raise _gone(hub, f"cursor of stream {stream[:64]!r}: this log is {hub.engine.log.stream!r}")


def _gone(hub: Hub, detail: str) -> GoneError:
    log = hub.engine.log
    detail += "; start again from first_seq - 1 or last_seq"
    return GoneError(
        CursorGone(detail=detail, stream=log.stream, first_seq=log.first_seq, last_seq=log.last_seq)
    )


async def read_page(hub: Hub, after: int, limit: int, wanted: Filter) -> Page:
    """The next events after a cursor, at once; ``next`` moves on over events that are not wanted."""
    log = hub.engine.log
    events, end = [], after
    if after < log.last_seq:
        page = log.recent(after, limit, wanted.types)
        if page is None:
            page = await run_in_threadpool(log.read, after, limit, wanted.types)
        events, end, *_ = page
        # Read first, then look: events that were dropped meanwhile must not be skipped in silence.
        check(hub, after, None)
    said = EventPage(
        stream=log.stream,
        events=[],
        next=end,
        first_seq=log.first_seq,
        last_seq=log.last_seq,
        server_time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        last_frame_age_s=hub.engine.last_frame_age_s,
    )
    return Page(events, said)


async def wait_page(
    hub: Hub,
    after: int,
    limit: int,
    wanted: Filter,
    wait_s: float,
    gone_away: Callable[[], Awaitable[bool]] | None = None,
) -> Page:
    """The next events after a cursor, as soon as there are any, or an empty page after ``wait_s``."""
    deadline = time.monotonic() + min(wait_s, hub.settings.max_wait_s)
    with hub.news.listening() as news:
        while True:
            news.clear()
            page = await read_page(hub, after, limit, wanted)
            left_s = deadline - time.monotonic()
            if page.events or left_s <= 0 or hub.news.closing:
                return page
            after = page.next
            if after < page.said.last_seq:
                continue
            # No one tells a handler that its client went away; it has to look.
            while left_s > 0 and not await woken(news, min(left_s, DISCONNECT_CHECK_S)):
                if gone_away is not None and await gone_away():
                    return page
                left_s = deadline - time.monotonic()
