"""The control loop: events of defects in, moves of the stage out; what is old is refused."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from latticewatch.errors import ControlError, ServiceError, StaleStreamError
from latticewatch.messages import Event, EventPage
from latticewatch_client._client import Client
from latticewatch_client._follow import WAIT_S, After
from latticewatch_client.microscope import Microscope

Policy = Literal["newest", "most-confident"]

TYPES = ("defect.appeared", "defect.reclassified", "defect.disappeared")
MAX_CANDIDATES = 1024
MAX_VISITED = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the loop did about one defect; ``refused`` says why it did not move."""

    event: Event
    x_nm: float | None
    y_nm: float | None
    refused: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class LoopReport:
    """What a loop has done: moves made, and refusals by reason."""

    moved: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def count(self, decision: Decision) -> None:
        """Add one decision."""
        if decision.refused is None:
            self.moved += 1
        else:
            self.refused[decision.refused] += 1


class ControlLoop:
    """Brings defects of chosen classes to the centre of the frame, one after another.

    The stage position of a frame is the place on the specimen at its centre, x along columns and y along
    rows; an event's ``stage_nm`` is where the defect is on the specimen. So the move is to ``stage_nm``,
    whatever the stage has done since.

    Parameters
    ----------
    client : Client
        Of the service that sees the defects.
    microscope : Microscope
        Whose stage is moved.
    classes : sequence of str
        Names of classes; none means every class that is a defect.
    policy : {"newest", "most-confident"}
        Which of the defects that wait is visited next.
    max_age_s : float
        A defect that was seen longer ago is not visited [s].
    stale_after_s : float
        Nothing is done when the last frame is older than this, or the stream has stalled [s].
    visited_radius_nm : float
        A defect this near to one that was visited is the same [nm].
    dry_run : bool
        Decide, but do not move.
    on_decision : callable, optional
        Called with each `Decision`.
    clock : callable
        Monotonic time [s].
    """

    def __init__(
        self,
        client: Client,
        microscope: Microscope,
        classes: Sequence[str] = (),
        policy: Policy = "newest",
        max_age_s: float = 30.0,
        stale_after_s: float = 5.0,
        visited_radius_nm: float = 0.2,
        dry_run: bool = False,
        on_decision: Callable[[Decision], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._microscope = microscope
        self._classes = frozenset(classes)
        self._policy = policy
        self._max_age_s = max_age_s
        self._stale_after_s = stale_after_s
        self._visited_radius_nm = visited_radius_nm
        self._dry_run = dry_run
        self._on_decision = on_decision
        self._clock = clock
        # By track, oldest first, with the moment on our own clock at which the defect was seen.
        self._candidates: dict[tuple[str, int], tuple[Event, float]] = {}
        self._visited: deque[tuple[float, float]] = deque(maxlen=MAX_VISITED)
        self.report = LoopReport()

    def run(self, moves: int | None = None, after: After = "now") -> LoopReport:
        """Follow the events and act on them.

        Parameters
        ----------
        moves : int, optional
            Return after this many; without it, go on for ever.
        after : None, "now", int, str or Cursor
            Where to begin in the log, as for `Client.events`.

        Returns
        -------
        LoopReport
        """
        for page in self._client.event_pages(
            after, TYPES, on_gap=self._missed, wait=lambda: 0.0 if self._candidates else WAIT_S
        ):
            self.take(page)
            # After a move, what happened meanwhile counts before the next choice is made.
            while (decision := self.act()) is not None and decision.refused is not None:
                pass
            if moves is not None and self.report.moved >= moves:
                break
        return self.report

    def take(self, page: EventPage) -> None:
        """Take note of what happened; the service's own clock says how long ago, so clocks need not agree."""
        now, service_now = self._clock(), datetime.fromisoformat(page.server_time).timestamp()
        for event in page.events:
            data = event.data
            key = (data["series_id"], data["track"])
            self._candidates.pop(key, None)
            if event.type != "defect.disappeared" and self._is_wanted(event):
                self._candidates[key] = (event, now - (service_now - data["t_received"]))
        while len(self._candidates) > MAX_CANDIDATES:
            self._candidates.pop(next(iter(self._candidates)))

    def act(self) -> Decision | None:
        """Decide about the next defect and visit it; ``None`` where none waits."""
        chosen = self._choose(self._candidates)
        if chosen is None:
            return None
        event, seen_at = self._candidates.pop(chosen)
        decision = self._decide(event, seen_at)
        self.report.count(decision)
        if decision.refused is not None:
            logger.info("%s: not visited, %s: %s", event.id, decision.refused, decision.detail)
        if self._on_decision is not None:
            self._on_decision(decision)
        return decision

    def _is_wanted(self, event: Event) -> bool:
        if event.data["role"] != "defect":
            return False
        return not self._classes or event.data["class_name"] in self._classes

    def _choose(self, keys: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
        def rank(key: tuple[str, int]) -> tuple[float, int]:
            event, _ = self._candidates[key]
            confidence = event.data["confidence"] if self._policy == "most-confident" else 0.0
            return confidence, event.seq

        return max(keys, key=rank, default=None)

    def _decide(self, event: Event, seen_at: float) -> Decision:
        place = event.data.get("stage_nm")
        if place is None:
            return Decision(event, None, None, "no position", "give the stage position and the pixel size")
        x_nm, y_nm = place["x"], place["y"]
        refusal = self._refusal(x_nm, y_nm, seen_at)
        if refusal is None and not self._dry_run:
            refusal = self._move(x_nm, y_nm)
        if refusal is None:
            self._visited.append((x_nm, y_nm))
            return Decision(event, x_nm, y_nm)
        return Decision(event, x_nm, y_nm, *refusal)

    def _refusal(self, x_nm: float, y_nm: float, seen_at: float) -> tuple[str, str] | None:
        """Reason and detail why a place is not visited."""
        age_s = self._clock() - seen_at
        if age_s > self._max_age_s:
            return "too old", f"seen {age_s:.1f} s ago, limit {self._max_age_s:g} s"
        if any(math.dist((x_nm, y_nm), place) <= self._visited_radius_nm for place in self._visited):
            return "visited", f"within {self._visited_radius_nm:g} nm of a place that was visited"
        try:
            self._check_fresh()
        except StaleStreamError as error:
            return "stale", str(error)
        except ServiceError as error:
            return "service", str(error)
        try:
            limit_nm = self._microscope.stage().limit_nm
        except ControlError as error:
            return "microscope", str(error)
        if max(abs(x_nm), abs(y_nm)) > limit_nm:
            return "out of reach", f"({x_nm:.1f}, {y_nm:.1f}) nm, limit ±{limit_nm:g} nm"
        return None

    def _check_fresh(self) -> None:
        status = self._client.status()
        age_s = status.last_frame_age_s
        if status.phase == "stalled" or age_s is None or age_s > self._stale_after_s:
            age = "no frame yet" if age_s is None else f"last frame {age_s:.1f} s ago"
            raise StaleStreamError(f"{status.phase}, {age}, limit {self._stale_after_s:g} s")

    def _move(self, x_nm: float, y_nm: float) -> tuple[str, str] | None:
        try:
            self._microscope.move_to(x_nm, y_nm)
            self._microscope.wait_until_still()
        except ControlError as error:
            return "microscope", str(error)
        return None

    def _missed(self, gone: ServiceError) -> None:
        logger.warning("events were missed: %s", gone)
        self._candidates.clear()
