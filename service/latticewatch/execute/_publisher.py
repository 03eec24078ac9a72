"""Events to the log first, then the state to everyone who looks at it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from pydantic import BaseModel

from latticewatch.errors import LatticewatchError
from latticewatch.execute._parts import Log
from latticewatch.execute._state import LiveState
from latticewatch.messages import DefectEventData, EventData, EventType, LogGapData

if TYPE_CHECKING:
    from latticewatch.record import LoggedEvent

Draft = tuple[EventType, BaseModel]
# Events that wait for a log that cannot be written; beyond that the oldest are dropped, and the log tells the gap.
MAX_WAITING = 10_000
# A log that could not be written is tried again after this long [s].
RETRY_S = 0.25
# While frames wait, the log is written no oftener than this [s].
HOLD_S = 0.05


class Publisher:
    """Keeps what is known and what is shown apart: a state is shown when the events that led to it are on disk.

    Used by one thread, that which folds; `state` and `trouble` may be looked at from any.

    Parameters
    ----------
    log : Log
        Where events go.
    max_waiting : int
        Events that are kept while the log cannot be written.

    Attributes
    ----------
    state : LiveState
        What is shown.
    newest : LiveState
        What is known; the same, unless events wait for the disk.
    trouble : str or None
        Why the log cannot be written.
    failures : int
        Attempts to write that failed.
    lost : int
        Events that were dropped while the log could not be written.
    told : Counter of str
        Events on disk since this was made, by type.
    """

    def __init__(
        self,
        log: Log,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.log = log
        self.state = self.newest = LiveState(as_of_seq=log.last_seq)
        self.trouble: str | None = None
        self.failures = 0
        self.lost = 0
        self.told: Counter[str] = Counter()
        self._keep: Callable[[], dict[str, bytes]] = dict
        self._stored: Callable[[dict[str, bytes]], None] = lambda _: None
        self._told: Callable[[Sequence[LoggedEvent]], None] = lambda _: None
        self._placed: Callable[[EventData], EventData] = lambda data: data
        self._waiting: deque[Draft] = deque()
        self._max_waiting = max_waiting
        self._lost = 0
        self._since = 0.0
        self._try_at = 0.0
        self._written_at = 0.0
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._logger = structlog.get_logger("latticewatch.execute")

    @property
    def waiting(self) -> int:
        """Events that wait for the disk."""
        return len(self._waiting)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each new state, from the thread that publishes; returns what ends it."""
        self._listeners = (*self._listeners, callback)

        def unsubscribe() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not callback)

        return unsubscribe

    def keep_with(
        self, keep: Callable[[], dict[str, bytes]], stored: Callable[[dict[str, bytes]], None]
    ) -> None:
        """Have something stored together with the events, so that after a crash both are on disk or neither.

        Parameters
        ----------
        keep : callable
            Gives it, by name; called for each write.
        stored : callable
            Called with it when it is on disk.
        """
        self._keep, self._stored = keep, stored

    def tell(self, told: Callable[[Sequence[LoggedEvent]], None]) -> None:
        """Have somebody called with events, in their envelopes, when they are on disk; it must not block or raise."""
        self._told = told

    def place_with(self, placed: Callable[[EventData], EventData]) -> None:
        """Have somebody say of each event which series, source and detector it belongs to."""
        self._placed = placed

    def store(self) -> None:
        """Store what goes with the events, though there are none."""
        if not self.flush() or self._waiting:
            return
        try:
            self._write()
        except (LatticewatchError, OSError) as error:
            self._fail(error)

    def publish(self, state: LiveState, drafts: Sequence[Draft], *, hurried: bool = False) -> bool:
        """Take in a state and the events that led to it; shown at once, or when the log can be written again.

        Parameters
        ----------
        state : LiveState
        drafts : sequence of (type, data)
        hurried : bool, optional
            More is to come at once, and the log was written a moment ago: it is written, and the state shown, with what
            comes next, at most `HOLD_S` after the last time.

        Returns
        -------
        bool
            Whether the events are on disk.
        """
        self.newest = replace(state, busy=None)
        self._waiting.extend(
            (kind, self._placed(data) if isinstance(data, EventData) else data) for kind, data in drafts
        )
        while len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._lost += 1
            self.lost += 1
        if hurried and self.trouble is None and time.monotonic() < self._written_at + HOLD_S:
            return False
        return self.flush()

    def flush(self, *, at_once: bool = False) -> bool:
        """Write what waits, and show the newest state if nothing waits any more.

        Parameters
        ----------
        at_once : bool
            Try even though the log could not be written a moment ago.
        """
        if self.trouble is not None and not at_once and time.monotonic() < self._try_at:
            return False
        if self._waiting or self._lost or self.trouble is not None:
            try:
                self._write()
            except (LatticewatchError, OSError) as error:
                self._fail(error)
                return False
        if self.newest is not self.state:
            self.show(replace(self.newest, as_of_seq=self.log.last_seq))
        return True

    def show(self, state: LiveState) -> None:
        """Show a state that brings no event."""
        self.state = self.newest = replace(state, number=self.state.number + 1)
        for callback in self._listeners:
            callback()

    def show_beside(self, **changes: object) -> None:
        """Change what is shown, without anything that an event would tell."""
        waiting = self.newest is not self.state
        newest = replace(self.newest, **changes)  # type: ignore[arg-type]
        self.show(replace(self.state, **changes))  # type: ignore[arg-type]
        if waiting:
            self.newest = newest

    def _write(self) -> None:
        now = time.time()
        drafts: list[Draft] = [(kind, _emitted(data, now)) for kind, data in self._waiting]
        if self._lost:
            gap = LogGapData(
                n=self._lost, seconds=round(time.monotonic() - self._since, 1), reason=self.trouble
            )
            drafts.insert(0, ("log.gap", self._placed(gap)))
        kept = self._keep()
        events = self.log.append(drafts, kept)
        self._stored(kept)
        self._told(events)
        self.told.update(kind for kind, _ in drafts)
        if self.trouble is not None:
            self._logger.warning("event log written again", written=len(drafts), lost=self._lost)
        self._waiting.clear()
        self._lost, self.trouble = 0, None
        self._written_at = time.monotonic()

    def _fail(self, error: Exception) -> None:
        now = time.monotonic()
        self.failures += 1
        if self.trouble is None:
            self._since = now
            self._logger.error("event log cannot be written; events wait", error=str(error))
        self.trouble = str(error)
        self._try_at = now + RETRY_S


def _emitted(data: BaseModel, now: float) -> BaseModel:
    """Data of an event that is written now; what was never written has no such time."""
    if not isinstance(data, DefectEventData):
        return data
    # a clock that was set back meanwhile must not make an effect come before its cause
    return data.model_copy(update={"t_emitted": max(now, data.t_received)})
