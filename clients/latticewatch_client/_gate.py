"""The gate: whether to act on a target, and whether each action of an act may be done; go, wait, or no, and why."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from latticewatch.messages import Limits, MicroscopeState, Status, Target, TrackState
from latticewatch_client._dose_book import MOST_ON_A_SIDE, Dose, DoseBook


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
# What moves the field or gives dose; the rest of the actions needs no leave.
MOVES = ("move_stage", "shift_image", "expose")


@dataclass(slots=True, kw_only=True)
class Gate:
    """What must hold before the loop acts, and before each action of its act. Nothing is assumed.

    What passes by itself (stale frames, learning, lag, too many acts in a minute, a person who has not answered) waits;
    what does not is refused.

    Parameters
    ----------
    max_age_s : float
        A target last seen longer ago is refused [s].
    stale_after_s : float
        Longest time since the newest frame [s].
    max_latency_ms : float
        Longest median time from a frame to its events [ms].
    min_confidence : float
        Lowest posterior probability of the class.
    min_edge_nm : float
        Shortest distance from the edge of the frame, where that is known [nm].
    box_nm : tuple of float, optional
        x and y of the lowest corner, then of the highest, within which the field may be; the microscope's own limits
        hold anyway [nm].
    sample_nm : tuple of float, optional
        The same for places of targets on the specimen, without the drift: it goes along with the specimen [nm].
    acts_per_minute : float
        Most acts in a minute.
    max_acts : int, optional
        Most acts in all.
    max_exposure_s : float
        Longest exposure of one place [s].
    exposures_per_minute : float
        Most exposures in a minute.
    max_dose_e_per_a2 : float, optional
        Most dose for any square nanometre, with what it has had already [e/Å²].
    max_electrons : float, optional
        Most electrons in all.
    approve : callable, optional
        Asks a person about a target: True goes on, False refuses, None waits.
    """

    max_age_s: float = 30.0
    stale_after_s: float = 5.0
    max_latency_ms: float = 5000.0
    min_confidence: float = 0.9
    min_edge_nm: float = 0.2
    box_nm: Box | None = None
    sample_nm: Box | None = None
    acts_per_minute: float = 60.0
    max_acts: int | None = None
    max_exposure_s: float = 10.0
    exposures_per_minute: float = 60.0
    max_dose_e_per_a2: float | None = None
    max_electrons: float | None = None
    approve: Callable[[Target], bool | None] | None = None
    dose: DoseBook = field(default_factory=DoseBook, init=False)
    _acts: int = field(default=0, init=False)
    _times: deque[float] = field(default_factory=deque, init=False)
    _exposures: deque[float] = field(default_factory=deque, init=False)

    def check(
        self,
        target: Target,
        now: TrackState | None,
        age_s: float,
        status: Status,
        state: MicroscopeState,
        limits: Limits,
        now_s: float,
    ) -> Answer:
        """Whether to act on a target.

        Parameters
        ----------
        target : Target
            As it was leased.
        now : TrackState or None
            The same in the newest frame; None where that does not show it.
        age_s : float
            Since it was seen last [s].
        status : Status
            Of the service, asked just now.
        state, limits : MicroscopeState, Limits
            Of the microscope, asked just now.
        now_s : float
            Monotonic time [s].

        Returns
        -------
        Ok, Wait or Refuse
            The last two with the reason.
        """
        later = self._now(status, state, now_s)
        if later is not None and later.reason in ("stale", "not live", "stopped"):
            # What is known is old: whatever else holds is asked when it is not.
            return later
        refusal = self._target(target, now, age_s, status) or self._sample(target)
        refusal = refusal or self._place(now or target.track, limits)
        if refusal is not None:
            return refusal
        if self.max_acts is not None and self._acts >= self.max_acts:
            return Refuse("budget", f"{self._acts} acts made, which is the limit")
        if now is None:
            return Wait("not in view", f"track {target.track.track} is not in the newest frame")
        if later is not None:
            return later
        if self.approve is not None:
            approved = self.approve(target)
            if approved is None:
                return Wait("approval", "nobody has said yes or no yet")
            if not approved:
                return Refuse("approval", "a person said no")
        return Ok()

    def action(
        self, name: str, args: Mapping[str, Any], state: MicroscopeState, limits: Limits, now_s: float
    ) -> tuple[Answer, Dose | None]:
        """Whether an action may be done, and the dose that it will give.

        Parameters
        ----------
        name : str
            Of the action, such as ``expose``.
        args : mapping
            What it is called with.
        state, limits : MicroscopeState, Limits
            Of the microscope, asked just now.
        now_s : float
            Monotonic time [s].

        Returns
        -------
        answer : Ok, Wait or Refuse
        dose : Dose or None
            None where it gives none, or is refused before that is known.
        """
        place = _field_after(name, args, state)
        if name in MOVES and (refusal := self._within(*place, limits)) is not None:
            return refusal, None
        if name == "expose":
            duration = args["duration_s"]
            if not duration <= min(self.max_exposure_s, limits.exposure_s):
                most = min(self.max_exposure_s, limits.exposure_s)
                return Refuse("exposure", f"{duration:g} s, limit {most:g} s"), None
            _forget(self._exposures, now_s)
            if len(self._exposures) >= self.exposures_per_minute:
                most = f"limit {self.exposures_per_minute:g}"
                return Refuse("rate", f"{len(self._exposures)} exposures in a minute, {most}"), None
        if name == "acquire" and not args["frames"] <= limits.frames:
            return Refuse("frames", f"{args['frames']} frames, limit {limits.frames}"), None
        dose = _dose_of(name, args, state)
        return self._afford(name, dose, state) or Ok(), dose

    def acted(self, now_s: float) -> None:
        """Count an act; an intent counts, whatever became of it.

        Parameters
        ----------
        now_s : float
            Monotonic time [s].
        """
        self._acts += 1
        self._times.append(now_s)

    def charge(self, name: str, dose: Dose | None, now_s: float) -> None:
        """Count an action that is about to be done, with its dose.

        Parameters
        ----------
        name : str
            Of the action.
        dose : Dose or None
            As `action` gave it.
        now_s : float
            Monotonic time [s].
        """
        if name == "expose":
            self._exposures.append(now_s)
        if dose is not None:
            self.dose.add(dose)

    # Of a target

    def _target(self, target: Target, now: TrackState | None, age_s: float, status: Status) -> Refuse | None:
        if age_s > self.max_age_s:
            return Refuse("too old", f"seen {age_s:.1f} s ago, limit {self.max_age_s:g} s")
        if target.model_version > status.model_version or not target.id.startswith(f"{status.stream}/"):
            detail = f"classified by version {target.model_version}, now {status.model_version}: learnt again"
            return Refuse("model", detail)
        if None not in (target.epoch, status.epoch) and target.epoch != status.epoch:
            return Refuse(
                "model", f"its track is of epoch {target.epoch}, now {status.epoch}: tracks began anew"
            )
        if now is None:
            return None
        before = target.track
        if now.role != "defect" or now.class_name != before.class_name:
            return Refuse(
                "model", f"{before.class_name} when it was chosen, now {now.class_name} ({now.role})"
            )
        if not now.confidence >= self.min_confidence:
            return Refuse("confidence", f"{now.confidence:.2f}, limit {self.min_confidence:g}")
        edge = now.edge_distance_nm
        if edge is not None and not edge >= self.min_edge_nm:
            return Refuse("edge", f"{edge:.2f} nm from the edge of the frame, limit {self.min_edge_nm:g} nm")
        return None

    def _sample(self, target: Target) -> Refuse | None:
        place = target.specimen_nm
        if self.sample_nm is None:
            return None
        if place is None:
            return Refuse(
                "no position", "its place on the specimen is not known, so the sample cannot be kept to"
            )
        if not _inside(place.x, place.y, self.sample_nm):
            return Refuse(
                "out of the sample", f"({place.x:.1f}, {place.y:.1f}) nm, sample {self.sample_nm} nm"
            )
        return None

    def _place(self, track: TrackState, limits: Limits) -> Refuse | None:
        if track.stage_nm is None:
            return Refuse("no position", "give the stage position and the pixel size")
        return self._within(track.stage_nm.x, track.stage_nm.y, limits)

    def _within(self, x: float, y: float, limits: Limits) -> Refuse | None:
        if not (math.isfinite(x) and math.isfinite(y)):
            return Refuse("no position", f"({x}, {y}) nm is no place")
        if not _inside(x, y, limits.stage_nm):
            return Refuse(
                "out of reach", f"({x:.1f}, {y:.1f}) nm, the microscope's limits {limits.stage_nm} nm"
            )
        if self.box_nm is not None and not _inside(x, y, self.box_nm):
            return Refuse("out of the box", f"({x:.1f}, {y:.1f}) nm, box {self.box_nm} nm")
        return None

    def _now(self, status: Status, state: MicroscopeState, now_s: float) -> Wait | None:
        """What may be otherwise in a while."""
        if state.stopped:
            return Wait("stopped", "an emergency stop is in force; a person has to release it")
        age_s = status.last_frame_age_s
        if status.phase == "stalled" or age_s is None or age_s > self.stale_after_s:
            age = "no frame yet" if age_s is None else f"last frame {age_s:.1f} s ago"
            return Wait("stale", f"{status.phase}, {age}, limit {self.stale_after_s:g} s")
        if status.phase != "live":
            return Wait("not live", f"the service is {status.phase}")
        latency_ms = status.latency_ms.p50
        if latency_ms is not None and latency_ms > self.max_latency_ms:
            late = f"events come {latency_ms:.0f} ms after frames, limit {self.max_latency_ms:g} ms"
            return Wait("lag", late)
        _forget(self._times, now_s)
        if len(self._times) >= self.acts_per_minute:
            return Wait("rate", f"{len(self._times)} acts in a minute, limit {self.acts_per_minute:g}")
        return None

    # Of dose

    def _afford(self, name: str, dose: Dose | None, state: MicroscopeState) -> Refuse | None:
        if name not in ("acquire", "expose") or (
            self.max_dose_e_per_a2 is None and self.max_electrons is None
        ):
            return None
        if dose is None:
            return Refuse("dose", "the microscope does not say its dose, so a limit of it cannot be kept")
        if self.max_dose_e_per_a2 is not None:
            had = max(self.dose.highest(dose), state.dose_here_e_per_a2 or 0.0)
            if not had + dose.per_cell <= self.max_dose_e_per_a2:
                more = f"{had:.3g} e/Å² and {dose.per_cell:.3g} more, limit {self.max_dose_e_per_a2:.3g} e/Å²"
                return Refuse("dose", more)
        total = self.dose.electrons + dose.electrons
        if self.max_electrons is not None and not total <= self.max_electrons:
            return Refuse("dose", f"{total:.3g} electrons in all, limit {self.max_electrons:.3g}")
        if dose.side_nm > MOST_ON_A_SIDE:
            most = f"limit {MOST_ON_A_SIDE} nm"
            return Refuse(
                "dose", f"a field of {dose.side_nm:g} nm is too large to keep its dose by place, {most}"
            )
        if self.dose.full:
            return Refuse("dose", "more places than the book of doses holds; begin another journal")
        return None


def _inside(x: float, y: float, box: Box) -> bool:
    x0, y0, x1, y1 = box
    return x0 <= x <= x1 and y0 <= y <= y1


def _forget(times: deque[float], now_s: float) -> None:
    while times and now_s - times[0] >= MINUTE_S:
        times.popleft()


def _field_after(name: str, args: Mapping[str, Any], state: MicroscopeState) -> tuple[float, float]:
    """Where the middle of the field, or the standing beam, will be."""
    if name == "expose":
        return args["x_nm"], args["y_nm"]
    if name == "move_stage":
        return args["x_nm"] + state.shift_nm[0], args["y_nm"] + state.shift_nm[1]
    if name == "shift_image":
        return state.x_nm + args["dx_nm"], state.y_nm + args["dy_nm"]
    return state.x_nm + state.shift_nm[0], state.y_nm + state.shift_nm[1]


def _dose_of(name: str, args: Mapping[str, Any], state: MicroscopeState) -> Dose | None:
    if name == "acquire" and state.frame_dose_e_per_a2 is not None:
        rows, cols = state.shape
        side = max(state.fov_nm, state.fov_nm * rows / cols)
        return Dose(
            *_field_after(name, args, state),
            side_nm=side,
            e_per_a2=args["frames"] * state.frame_dose_e_per_a2,
        )
    if name == "expose" and state.current_pa is not None:
        electrons = state.current_pa * 1e-12 / 1.602176634e-19 * args["duration_s"]
        return Dose(args["x_nm"], args["y_nm"], side_nm=0.0, e_per_a2=electrons / 100)
    return None
