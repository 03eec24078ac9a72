"""Following the event log: the cursor, what to ask next, and how long to pause; without input or output."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from latticewatch.errors import CursorGoneError
from latticewatch.messages import EventPage
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


class Follower:
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

    def resume(self, gone: CursorGoneError) -> Cursor:
        """Go on from the oldest event that the log still has.

        Raises
        ------
        CursorGoneError
            Gone again before anything was read: the log loses events faster than they can be asked for.
        """
        if self._resumed:
            raise gone
        self._resumed = True
        self._stream, self._after = gone.stream, gone.first_seq - 1
        return Cursor(gone.stream, gone.first_seq - 1)
