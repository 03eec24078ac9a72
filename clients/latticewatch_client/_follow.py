"""Following the event log: the cursor, what to ask next, and how long to pause; without input or output."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from latticewatch.errors import CursorGoneError, ServiceUnreachableError
from latticewatch.messages import Event, EventPage, Tracks
from latticewatch_client._calls import Call, event_page

PAGE = 500
WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event that was handled, in which log; as text ``stream:seq``."""

    stream: str
    seq: int

    def __str__(self) -> str:
        return f"{self.stream}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read ``stream:seq``.

        Parameters
        ----------
        text : str
            Such as the id of an event.

        Returns
        -------
        Cursor

        Raises
        ------
        ValueError
            Text that is no cursor.
        """
        stream, _, seq = text.rpartition(":")
        if not stream or not (seq.isascii() and seq.isdigit()):
            raise ValueError(f"cursor {text!r}: expected stream:seq, such as that of an event's id")
        return cls(stream, int(seq))


After: TypeAlias = Literal["now"] | int | str | Cursor | None
OnGap: TypeAlias = Literal["raise", "latest", "oldest"] | Callable[[CursorGoneError], None] | None

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is there now, and what happens from then on; see `Client.watch`."""

    tracks: Tracks
    as_of_seq: int
    events: Iterator[Event]


@dataclass(frozen=True, slots=True)
class AsyncWatch:
    """The same, with events to be awaited."""

    tracks: Tracks
    as_of_seq: int
    events: AsyncIterator[Event]


class Backoff:
    """Pauses between attempts: doubled each time, with jitter, so that many clients do not return at once.

    Parameters
    ----------
    first_s, longest_s : float
        Bounds of the pause before jitter [s].
    seed : int, optional
        Makes the jitter repeatable.
    """

    def __init__(self, first_s: float = 0.25, longest_s: float = 15.0, seed: int | None = None) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._pause_s = first_s
        self._random = random.Random(seed)

    def next(self) -> float:
        """The next pause [s]."""
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._longest_s)
        return pause_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """An attempt was good."""
        self._pause_s = self._first_s


class EventWalk:
    """One walk through the log.

    Parameters
    ----------
    after : None, "now", int, str or Cursor
        Where to begin: the oldest event, the next one to come, after a sequence number, or after a cursor.
    types : sequence of str, optional
        Types wanted; ``defect.*`` is a family.
    follow : bool
        Go on when the end is reached.
    """

    def __init__(
        self,
        after: After,
        types: Sequence[str] | None,
        follow: bool,
    ) -> None:
        self._after: int | Literal["now"] | None
        self._stream: str | None = None
        if isinstance(after, str) and after != "now":
            after = Cursor.parse(after)
        if isinstance(after, Cursor):
            self._stream, after = after.stream, after.seq
        self._after = after  # type: ignore[assignment]
        self._types = [types] if isinstance(types, str) else types
        self._follow = follow
        self._asked = self._resumed = False
        self.finished = False
        self.backoff = Backoff()

    def next_call(self, wait_s: float) -> Call[EventPage]:
        """What to ask now; the service may wait for an event for ``wait_s``."""
        params: dict[str, Any] = {"limit": PAGE}
        if self._after is not None:
            params["after"] = self._after
        if self._stream is not None:
            params["stream"] = self._stream
        if self._types:
            params["types"] = ",".join(self._types)
        # The first answer comes at once, so that "now" is the moment of the call.
        return event_page(params, wait_s if self._asked and self._follow else 0.0)

    def take(self, page: EventPage) -> Cursor:
        """A page was handled to its end; returns the cursor behind it and what was not wanted of it."""
        self.backoff.reset()
        self._asked, self._resumed = True, False
        self._stream, self._after = page.stream, page.next
        self.finished = not self._follow and page.next >= page.last_seq
        return Cursor(page.stream, page.next)

    def pause_s(self, error: ServiceUnreachableError) -> float:
        """How long to wait after a failed attempt [s]: as long as the service says, or a pause that grows."""
        return max(self.backoff.next(), error.retry_after_s)

    def resume(self, gone: CursorGoneError, on_gap: OnGap) -> Cursor:
        """Go on from the oldest event that the log still has, or from its end, if that is wanted.

        Raises
        ------
        CursorGoneError
            It is not wanted; or gone again before anything was read: the log loses events faster than they can be
            asked for. It names the events that were missed.
        """
        gone = self._named(gone)
        if on_gap is None or on_gap == "raise" or self._resumed:
            raise gone
        self._resumed = True
        latest = on_gap == "latest"
        if latest and gone.lost is not None:
            gone.lost = (gone.lost[0], gone.last_seq)
        self._stream, self._after = gone.stream, gone.last_seq if latest else gone.first_seq - 1
        if callable(on_gap):
            on_gap(gone)
        else:
            logger.warning("%s; going on with the %s one", gone, on_gap)
        return Cursor(gone.stream, self._after)

    def _named(self, gone: CursorGoneError) -> CursorGoneError:
        """The error with the events that this cursor has missed."""
        after = self._after
        if isinstance(after, int) and self._stream in (None, gone.stream) and after < gone.first_seq - 1:
            lost = (after + 1, gone.first_seq - 1)
            text = f"events {lost[0]} to {lost[1]} are lost: {gone}"
            return CursorGoneError(text, gone.stream, gone.first_seq, gone.last_seq, lost)
        if isinstance(after, int) and self._stream not in (None, gone.stream):
            text = f"events after {self._stream}:{after} are lost, as that log is gone: {gone}"
            return CursorGoneError(text, gone.stream, gone.first_seq, gone.last_seq)
        return gone
