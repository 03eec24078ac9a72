"""The gate before every act: go, wait, or no; and why."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from latticewatch.messages import Event, StageState, Status


@dataclass(frozen=True, slots=True)
class Ok:
    """Go on."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: the target is kept, and asked about again."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not this one: the target is dropped."""

    reason: str
    detail: str


Answer: TypeAlias = Ok | Wait | Refuse
Box: TypeAlias = tuple[float, float, float, float]
MINUTE_S = 60.0


@dataclass(slots=True, kw_only=True)
class Gate:
    """What must hold before the loop acts. Every limit is checked before each act, and nothing is assumed.

    What passes by itself (stale frames, learning, too many acts in a minute) waits; what does not (a place out of
    bounds, a doubtful or old defect, a model that was thrown away) is refused.

    Parameters
    ----------
    max_age_s : float
        A defect seen longer ago is refused [s].
    stale_after_s : float
        Longest time since the newest frame [s].
    max_latency_ms : float
        Longest median time from a frame to its events [ms].
    min_confidence : float
        Lowest posterior probability of the class.
    min_edge_nm : float
        Shortest distance from the edge of the frame, where that is known [nm].
    box_nm : tuple of float, optional
        x and y of the lowest corner, then of the highest, within which the stage may go; its limit holds anyway [nm].
    acts_per_minute : float
        Most acts in a minute.
    max_acts : int, optional
        Most acts in all.
    approve : callable, optional
        Asks a person: True goes on, False refuses, None waits.
    """

    max_age_s: float = 30.0
    stale_after_s: float = 5.0
    max_latency_ms: float = 5000.0
    min_confidence: float = 0.9
    min_edge_nm: float = 0.2
    box_nm: Box | None = None
    acts_per_minute: float = 60.0
    max_acts: int | None = None
    approve: Callable[[Event], bool | None] | None = None
    _acts: int = field(default=0, init=False)
    _times: deque[float] = field(default_factory=deque, init=False)

    def check(self, event: Event, age_s: float, status: Status, stage: StageState, now_s: float) -> Answer:
        """Whether to act on a defect.

        Parameters
        ----------
        event : Event
            With the place as it is now.
        age_s : float
            Since the defect was seen [s].
        status : Status
            Of the service, asked just now.
        stage : StageState
            Of the microscope, asked just now.
        now_s : float
            Monotonic time [s].
        """
        data = event.data
        place = data.get("stage_nm")
        if place is None:
            return Refuse("no position", "give the stage position and the pixel size")
        x, y = place["x"], place["y"]
        if not (math.isfinite(x) and math.isfinite(y)):
            return Refuse("no position", f"({x}, {y}) nm is no place")
        if age_s > self.max_age_s:
            return Refuse("too old", f"seen {age_s:.1f} s ago, limit {self.max_age_s:g} s")
        if data.get("model_version", 0) > status.model_version:
            return Refuse(
                "model",
                f"classified by version {data['model_version']}, now {status.model_version}: learnt again",
            )
        confidence = data.get("confidence", 0.0)
        if not confidence >= self.min_confidence:
            return Refuse("confidence", f"{confidence:.2f}, limit {self.min_confidence:g}")
        edge = data.get("edge_distance_nm")
        if edge is not None and not edge >= self.min_edge_nm:
            return Refuse("edge", f"{edge:.2f} nm from the edge of the frame, limit {self.min_edge_nm:g} nm")
        if not max(abs(x), abs(y)) <= stage.limit_nm:
            return Refuse("out of reach", f"({x:.1f}, {y:.1f}) nm, limit ±{stage.limit_nm:g} nm")
        if self.box_nm is not None:
            x0, y0, x1, y1 = self.box_nm
            if not (x0 <= x <= x1 and y0 <= y <= y1):
                return Refuse("out of the box", f"({x:.1f}, {y:.1f}) nm, box {self.box_nm} nm")
        if self.max_acts is not None and self._acts >= self.max_acts:
            return Refuse("budget", f"{self._acts} acts made, which is the limit")
        return self._now(event, status, now_s)

    def _now(self, event: Event, status: Status, now_s: float) -> Answer:
        """What may be otherwise in a while; a person is asked last."""
        age_s = status.last_frame_age_s
        if status.phase == "stalled" or age_s is None or age_s > self.stale_after_s:
            age = "no frame yet" if age_s is None else f"last frame {age_s:.1f} s ago"
            return Wait("stale", f"{status.phase}, {age}, limit {self.stale_after_s:g} s")
        if status.phase != "live":
            return Wait("not live", f"the service is {status.phase}")
        latency_ms = status.latency_ms.p50
        if latency_ms is not None and latency_ms > self.max_latency_ms:
            return Wait(
                "lag", f"events come {latency_ms:.0f} ms after frames, limit {self.max_latency_ms:g} ms"
            )
        while self._times and now_s - self._times[0] >= MINUTE_S:
            self._times.popleft()
        if len(self._times) >= self.acts_per_minute:
            return Wait("rate", f"{len(self._times)} acts in a minute, limit {self.acts_per_minute:g}")
        if self.approve is not None:
            approved = self.approve(event)
            if approved is None:
                return Wait("approval", "nobody has said yes or no yet")
            if not approved:
                return Refuse("approval", "a person said no")
        return Ok()

    def acted(self, now_s: float) -> None:
        """Count an act; an intent counts, whatever became of it."""
        self._acts += 1
        self._times.append(now_s)
