"""The control loop: events of defects in, moves of the stage out, each through a gate and a journal."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from latticewatch.errors import ControlError, ServiceError
from latticewatch.messages import Event, EventPage, Status, TrackState
from latticewatch_client._client import Client
from latticewatch_client._follow import WAIT_S, After, Cursor
from latticewatch_client._gate import Answer, Gate, Refuse, Wait
from latticewatch_client._journal import Journal
from latticewatch_client._zmq_microscope import ZmqMicroscope

Policy = Literal["newest", "most-confident"]

TYPES = ("defect.appeared", "defect.reclassified", "defect.moved", "defect.disappeared")
MAX_CANDIDATES = 1024
MAX_VISITED = 4096
# How long a target that has to wait is left alone; events are followed meanwhile.
ASK_AGAIN_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the loop did about one defect; ``refused`` says why it did not move, ``dry`` that it would have."""

    event: Event
    x_nm: float | None
    y_nm: float | None
    refused: str | None = None
    detail: str | None = None
    dry: bool = False


@dataclass(slots=True)
class LoopReport:
    """What a loop has done: moves made, moves that a dry run would have made, and refusals and waits by reason."""

    moved: int = 0
    would: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    waited: Counter[str] = field(default_factory=Counter)

    def count(self, decision: Decision) -> None:
        """Add one decision."""
        if decision.refused is not None:
            self.refused[decision.refused] += 1
        elif decision.dry:
            self.would += 1
        else:
            self.moved += 1


class ControlLoop:
    """Brings defects of chosen classes to the centre of the frame, one after another.

    An event's ``stage_nm`` is where the stage has to go to bring the defect to the centre, as of its frame. Before a
    move the loop looks where the defect is in the newest frame, so that drift since then does not count.

    What waits (see `Gate`) is kept; what is refused is dropped. An intent is in the journal before the stage is
    asked to move, and a track is visited once, however far it has drifted.

    Parameters
    ----------
    client : Client
        Of the service that sees the defects.
    microscope : ZmqMicroscope
        Whose stage is moved.
    classes : sequence of str
        Names of classes; none means every class that is a defect.
    policy : {"newest", "most-confident"}
        Which of the defects that wait is visited next.
    visited_radius_nm : float
        A defect this near to a place that was visited is the same, though its track is another one [nm].
    dry_run : bool
        Decide, but do not move.
    on_decision : callable, optional
        Called with each `Decision`.
    clock : callable
        Monotonic time [s].
    gate : Gate, optional
        What must hold before each move.
    journal : Journal, optional
        Where intents are kept; without one a restart does not know what was visited.
    on_wait : callable, optional
        Called when the reason to wait is a new one.
    """

    def __init__(
        self,
        client: Client,
        microscope: ZmqMicroscope,
        classes: Sequence[str] = (),
        policy: Policy = "newest",
        visited_radius_nm: float = 0.2,
        dry_run: bool = False,
        on_decision: Callable[[Decision], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        gate: Gate | None = None,
        journal: Journal | None = None,
        on_wait: Callable[[Event, Wait], None] | None = None,
    ) -> None:
        self._client = client
        self._microscope = microscope
        self._classes = frozenset(classes)
        self._policy = policy
        self._visited_radius_nm = visited_radius_nm
        self._dry_run = dry_run
        self._on_decision = on_decision
        self._on_wait = on_wait
        self._clock = clock
        self._gate = gate or Gate()
        self._journal = journal or Journal()
        self._halt = threading.Event()
        self._waiting: str | None = None
        # By track, oldest first, with the moment on our own clock at which the defect was seen.
        self._candidates: dict[str, tuple[Event, float]] = {}
        self._seen_dry: set[str] = set()
        self._visited: deque[tuple[float, float]] = deque(maxlen=MAX_VISITED)
        self.report = LoopReport()

    def run(self, moves: int | None = None, after: After | Literal["view"] = "view") -> LoopReport:
        """Follow the events and act on them.

        Parameters
        ----------
        moves : int, optional
            Return after this many, those of a dry run included; without it, go on until `stop`.
        after : "view", None, "now", int, str or Cursor
            Where to begin: with the defects in view, or somewhere in the log, as for `Client.events`.

        Returns
        -------
        LoopReport
        """
        if after == "view":
            after = self._look()
        for page in self._client.event_pages(after, TYPES, on_gap=self._missed, wait=self._wait_s):
            self.take(page)
            # After a move, what happened meanwhile counts before the next choice is made.
            while (decision := self.act()) is not None and decision.refused is not None:
                pass
            if self._halt.is_set() or (moves is not None and self.report.moved + self.report.would >= moves):
                break
            if self._waiting is not None:
                self._halt.wait(ASK_AGAIN_S)
        return self.report

    def stop(self) -> None:
        """Begin no further move; from any thread or signal handler. The move that is being made ends."""
        self._halt.set()

    def take(self, page: EventPage) -> None:
        """Take note of what happened; the service's own clock says how long ago, so clocks need not agree."""
        now, service_now = self._clock(), datetime.fromisoformat(page.server_time).timestamp()
        for event in page.events:
            key = _identity(event)
            if key is None:
                continue
            self._candidates.pop(key, None)
            if event.type != "defect.disappeared" and self._is_wanted(event):
                self._add(key, event, now - (service_now - event.data.get("t_received", service_now)))

    def act(self) -> Decision | None:
        """Decide about the next defect and visit it; ``None`` where none waits, or where one has to."""
        chosen = None if self._halt.is_set() else self._choose(self._candidates)
        if chosen is None:
            self._waiting = None
            return None
        event, seen_at = self._candidates[chosen]
        decision = self._decide(chosen, event, seen_at)
        if isinstance(decision, Wait):
            if decision.reason != self._waiting:
                self.report.waited[decision.reason] += 1
                logger.info("%s: waits, %s: %s", event.id, decision.reason, decision.detail)
                if self._on_wait is not None:
                    self._on_wait(event, decision)
            self._waiting = decision.reason
            return None
        self._waiting = None
        self._candidates.pop(chosen)
        self.report.count(decision)
        if decision.refused is not None:
            logger.info("%s: not visited, %s: %s", event.id, decision.refused, decision.detail)
        if self._on_decision is not None:
            self._on_decision(decision)
        return decision

    def _look(self) -> Cursor:
        """The defects in view become candidates; returns the cursor behind them."""
        status = self._client.status()
        seen = self._client.tracks("defect")
        now = self._clock() - (status.last_frame_age_s or 0.0)
        stream = seen.stream or status.stream
        for track in seen.tracks:
            if track.track < 0:
                continue
            data = {"series_id": seen.series_id, "model_version": status.model_version, **_data_of(track)}
            event = Event(
                type="defect.appeared",
                source=status.source,
                id=f"{stream}:{seen.as_of_seq}",
                stream=stream,
                seq=max(seen.as_of_seq, 1),
                time="",
                data=data,
            )
            key = _identity(event)
            if key is not None and self._is_wanted(event):
                self._add(key, event, now)
        return Cursor(stream, seen.as_of_seq)

    def _add(self, key: str, event: Event, seen_at: float) -> None:
        if key in self._journal.visited or key in self._seen_dry:
            return
        self._candidates[key] = (event, seen_at)
        while len(self._candidates) > MAX_CANDIDATES:
            self._candidates.pop(next(iter(self._candidates)))

    def _wait_s(self) -> float:
        return 0.0 if self._candidates else WAIT_S

    def _is_wanted(self, event: Event) -> bool:
        if event.data.get("role") != "defect":
            return False
        return not self._classes or event.data.get("class_name") in self._classes

    def _choose(self, keys: Iterable[str]) -> str | None:
        def rank(key: str) -> tuple[float, int]:
            event, _ = self._candidates[key]
            confidence = event.data.get("confidence", 0.0) if self._policy == "most-confident" else 0.0
            return confidence, event.seq

        return max(keys, key=rank, default=None)

    def _decide(self, key: str, event: Event, seen_at: float) -> Decision | Wait:
        try:
            status = self._client.status()
            event, seen_at = self._where_now(event, seen_at, status)
        except ServiceError as error:
            return Wait("service", str(error))
        place = event.data.get("stage_nm") or {}
        x_nm, y_nm = place.get("x"), place.get("y")
        if x_nm is not None and y_nm is not None and self._was_visited(x_nm, y_nm):
            near = f"within {self._visited_radius_nm:g} nm of a place that was visited"
            return Decision(event, x_nm, y_nm, "visited", near)
        answer = self._ask(event, seen_at, status)
        if isinstance(answer, Wait):
            return answer
        if isinstance(answer, Refuse):
            return Decision(event, x_nm, y_nm, answer.reason, answer.detail)
        assert x_nm is not None
        assert y_nm is not None
        return self._move(key, event, x_nm, y_nm)

    def _ask(self, event: Event, seen_at: float, status: Status) -> Answer:
        now = self._clock()
        try:
            stage = self._microscope.stage()
        except ControlError as error:
            return Refuse("microscope", str(error))
        return self._gate.check(event, now - seen_at, status, stage, now)

    def _where_now(self, event: Event, seen_at: float, status: Status) -> tuple[Event, float]:
        """The event with the place of its track in the newest frame, where that shows it."""
        seen = self._client.tracks("defect")
        for track in seen.tracks:
            if track.track == event.data.get("track") and seen.series_id == event.data.get("series_id"):
                data = {**event.data, **_data_of(track)}
                moment = self._clock() - (status.last_frame_age_s or 0.0)
                return event.model_copy(update={"data": data}), max(seen_at, moment)
        return event, seen_at

    def _was_visited(self, x_nm: float, y_nm: float) -> bool:
        return any(math.dist((x_nm, y_nm), place) <= self._visited_radius_nm for place in self._visited)

    def _move(self, key: str, event: Event, x_nm: float, y_nm: float) -> Decision:
        if self._dry_run:
            self._seen_dry.add(key)
            self._visited.append((x_nm, y_nm))
            return Decision(event, x_nm, y_nm, dry=True)
        intent = uuid.uuid4().hex
        self._journal.write("intent", intent, target=key, event=event.id, x_nm=x_nm, y_nm=y_nm)
        self._gate.acted(self._clock())
        self._visited.append((x_nm, y_nm))
        try:
            self._microscope.move_to(x_nm, y_nm, request_id=intent)
            self._microscope.wait_until_still()
        except ControlError as error:
            self._journal.write("failed", intent, error=str(error))
            return Decision(event, x_nm, y_nm, "microscope", str(error))
        self._journal.write("done", intent)
        return Decision(event, x_nm, y_nm)

    def _missed(self, gone: ServiceError) -> None:
        logger.warning("events were missed: %s", gone)
        self._candidates.clear()


def _identity(event: Event) -> str | None:
    """What a defect is called over frames: its stream, its epoch or else its series, and its track."""
    data = event.data
    if "track" not in data:
        return None
    epoch = data.get("epoch")
    return f"{event.stream}/{data.get('series_id') if epoch is None else epoch}/{data['track']}"


def _data_of(track: TrackState) -> dict[str, object]:
    return track.model_dump(exclude_none=True)
