"""The hands of an act: the microscope's actions, each through the gate and the journal, and a look at what they did."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from latticewatch.errors import (
    ControlError,
    ControlRefusedError,
    ControlTimeoutError,
    ServiceUnreachableError,
)
from latticewatch.messages import Acquired, Exposed, Limits, MicroscopeState, Target, Tracks, TrackState
from latticewatch_client._client import Client
from latticewatch_client._dose_book import Dose
from latticewatch_client._gate import Gate, Ok
from latticewatch_client._journal import Journal
from latticewatch_client.microscope import Microscope

M = TypeVar("M", bound=BaseModel)
# How long the service may take to analyse frames that were acquired, or be away; on a busy machine a start takes a
# minute or two [s].
PATIENCE_S = 300.0
LOOK_AGAIN_S = 0.02
# Frames of which the service shows a later one instead are taken again, so often: at usual drifts a defect goes less
# than 0.1 nm in that time [s].
LATE_S = 1.0
MOST_RETAKEN = 3
LATE = "late"
# An exposure that was begun before an interruption is asked for again if its target has not gone farther [nm].
STILL_NM = 0.05
# A track that was lost at a move is the defect of the same class that is nearest, within this [nm].
SAME_NM = 0.3
# An image shift is exact and at once, a stage is neither: short ways are gone by shift.
SHIFT_NM = 2.0


@dataclass(frozen=True, slots=True)
class Sight:
    """A target in frames that were acquired for it.

    Attributes
    ----------
    track : TrackState
        As it is in the newest of them.
    frames : Acquired
    offset_nm : float
        From the middle of the field [nm].
    """

    track: TrackState
    frames: Acquired
    offset_nm: float


class StoppedError(ControlError):
    """The loop was stopped: no further action is begun."""


class Hands:
    """What an act may do; made by the loop for each act.

    Every action is asked of the gate, written to the journal with an id, and only then done. An act that was
    interrupted is done anew from its beginning. Before anything was exposed, what was begun is ended by its id, and
    then everything is gone to and looked at again: the specimen has drifted meanwhile. After an exposure what was done
    and seen comes from the journal, with the same ids, and nothing is exposed again before a new look.

    Parameters
    ----------
    act : str
        Id of the act, the same after an interruption.
    target : Target
        What it is done to.
    client : Client
    microscope : Microscope
    gate : Gate
        Asked before each action.
    journal : Journal
        Holds what was done of this act already.
    halt : Event
        When it is set no further action is begun.
    clock : callable
        Monotonic time [s].

    Attributes
    ----------
    limits : Limits
        Of the microscope.
    seen : Sight or None
        The last look at the target, if nothing was moved or exposed since.
    exposed : Sight or None
        The look on which the last exposure was made.
    acquired : Acquired or None
        The last frames.
    dose_e_per_a2 : float
        Of all exposures of this act.
    """

    def __init__(
        self,
        act: str,
        target: Target,
        client: Client,
        microscope: Microscope,
        gate: Gate,
        journal: Journal,
        halt: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._act, self._target = act, target
        self._client, self._microscope, self._gate, self._journal = client, microscope, gate, journal
        self._halt, self._clock = halt, clock
        past = [dict(entry) for entry in journal.actions.get(act, ())]
        exposed = any(entry["call"] == "expose" for entry in past)
        self._past = past if exposed else []
        self._n = 0 if exposed else len(past)
        # Whether what is known of the target is from before an interruption.
        self._stale = bool(past)
        self.limits: Limits = microscope.limits()
        self.seen: Sight | None = None
        self.exposed: Sight | None = None
        self.acquired: Acquired | None = None
        self.dose_e_per_a2 = 0.0
        if past and not exposed and "result" not in past[-1]:
            # Begun, and nobody knows whether it was done.
            result = self._ask(past[-1]["call"], past[-1]["args"], f"{act}.{self._n - 1}")
            journal.write("result", act, result=result.model_dump(mode="json"))

    def state(self) -> MicroscopeState:
        """What the microscope does now."""
        return self._microscope.state()

    def move_stage(self, x_nm: float, y_nm: float) -> MicroscopeState:
        """Bring the stage to a place, settled.

        Parameters
        ----------
        x_nm, y_nm : float
            [nm]

        Returns
        -------
        MicroscopeState
            After it.
        """
        return self._do("move_stage", MicroscopeState, x_nm=x_nm, y_nm=y_nm)

    def shift_image(self, dx_nm: float, dy_nm: float) -> MicroscopeState:
        """Set the image shift: the shift itself, not a step.

        Parameters
        ----------
        dx_nm, dy_nm : float
            [nm]

        Returns
        -------
        MicroscopeState
            After it.
        """
        return self._do("shift_image", MicroscopeState, dx_nm=dx_nm, dy_nm=dy_nm)

    def set_scan(
        self,
        fov_nm: float | None = None,
        rotation_deg: float | None = None,
        dwell_s: float | None = None,
        shape: tuple[int, int] | None = None,
    ) -> MicroscopeState:
        """Take another scan; what is not given stays.

        Parameters
        ----------
        fov_nm : float, optional
            Width of the field [nm].
        rotation_deg : float, optional
            [degrees]
        dwell_s : float, optional
            Time for one pixel [s].
        shape : tuple of int, optional
            Rows and columns.

        Returns
        -------
        MicroscopeState
            After it.
        """
        fields = {"fov_nm": fov_nm, "rotation_deg": rotation_deg, "dwell_s": dwell_s, "shape": shape}
        return self._do("set_scan", MicroscopeState, **fields)

    def acquire(self, frames: int = 1) -> Acquired:
        """Take frames.

        Parameters
        ----------
        frames : int
            How many.

        Returns
        -------
        Acquired
            Which ones they are.
        """
        self.acquired = self._do("acquire", Acquired, frames=frames)
        return self.acquired

    def expose(self, x_nm: float, y_nm: float, duration_s: float) -> Exposed:
        """Let the beam stand at a place.

        Parameters
        ----------
        x_nm, y_nm : float
            Place of the stage [nm].
        duration_s : float
            [s]

        Returns
        -------
        Exposed
            With the dose that it gave.
        """
        seen = self.seen
        exposed = self._do("expose", Exposed, x_nm=x_nm, y_nm=y_nm, duration_s=duration_s)
        self.exposed = seen
        self.dose_e_per_a2 += exposed.dose_e_per_a2
        return exposed

    def go_to(self, x_nm: float, y_nm: float) -> MicroscopeState:
        """Bring a place to the middle of the field: by image shift where it is near, else by the stage.

        Parameters
        ----------
        x_nm, y_nm : float
            Place of the stage [nm].

        Returns
        -------
        MicroscopeState
            After it.
        """
        state = self.state()
        dx, dy = x_nm - state.x_nm, y_nm - state.y_nm
        near = math.hypot(dx, dy) <= min(SHIFT_NM, self.limits.shift_nm)
        way = "shift" if near else "stage"
        if self._n < len(self._past):
            # What is near now is so because it was gone to before the interruption.
            way = self._past[self._n].get("way") or way
        if way == "shift":
            return self._do("shift_image", MicroscopeState, way, dx_nm=dx, dy_nm=dy)
        # The shift stays: taken back first, it would lead through a place that nobody asked for.
        shift_x, shift_y = state.shift_nm
        return self._do("move_stage", MicroscopeState, "stage", x_nm=x_nm - shift_x, y_nm=y_nm - shift_y)

    def look(self, frames: int = 1) -> Sight | None:
        """Take frames, wait until the service has analysed them, and find the target in them.

        Parameters
        ----------
        frames : int
            How many to take.

        Returns
        -------
        Sight or None
            None where they do not show it.

        Raises
        ------
        ControlTimeoutError
            The service has not analysed them in time.
        """
        for _ in range(MOST_RETAKEN):
            number = self._n
            acquired = self.acquire(frames)
            if number < len(self._past) and "sight" in self._past[number]:
                found = self._past[number]["sight"]
                if found == LATE:
                    continue
                self.seen = None
                if found is not None:
                    self.seen = Sight(TrackState.model_validate(found["track"]), acquired, found["offset_nm"])
                return self.seen
            seen = self._analysed(acquired)
            state = self.state()
            if ((seen.frame or 0) - acquired.last) * state.frame_s > LATE_S:
                # The service was away: what it shows now has drifted from where these frames had it.
                self._journal.write("sight", self._act, sight=LATE)
                continue
            middle = state.x_nm + state.shift_nm[0], state.y_nm + state.shift_nm[1]
            track = self._find(seen.tracks, middle)
            self.seen, told = None, None
            if track is not None and track.stage_nm is not None:
                self.seen = Sight(track, acquired, math.dist((track.stage_nm.x, track.stage_nm.y), middle))
                told = {"track": track.model_dump(mode="json"), "offset_nm": self.seen.offset_nm}
            self._journal.write("sight", self._act, sight=told)
            self._stale = False
            return self.seen
        raise ControlTimeoutError(
            f"taken {MOST_RETAKEN} times, and analysed more than {LATE_S:g} s late each time"
        )

    def _analysed(self, acquired: Acquired) -> Tracks:
        """The defects, when the service has analysed the frames."""
        deadline = self._clock() + PATIENCE_S
        while True:
            self._go_on()
            try:
                seen = self._client.tracks("defect", 10_000)
            except ServiceUnreachableError:
                seen = None
            if (
                seen is not None
                and seen.series_id == acquired.series_id
                and (seen.frame or 0) >= acquired.last
            ):
                return seen
            if self._clock() > deadline:
                raise ControlTimeoutError(
                    f"frame {acquired.last} of {acquired.series_id}: not analysed within {PATIENCE_S:g} s"
                )
            self._halt.wait(LOOK_AGAIN_S)

    def _find(self, tracks: list[TrackState], middle: tuple[float, float]) -> TrackState | None:
        wanted = self._target.track
        for track in tracks:
            if track.track == wanted.track:
                return track
        near = [
            (math.dist((track.stage_nm.x, track.stage_nm.y), middle), track)
            for track in tracks
            if track.class_name == wanted.class_name and track.stage_nm is not None
        ]
        away, track = min(near, key=lambda one: one[0], default=(math.inf, None))
        return track if away <= SAME_NM else None

    def _go_on(self) -> None:
        if self._halt.is_set():
            raise StoppedError("stopped: no further action is begun")

    def _do(self, name: str, model: type[M], way: str | None = None, **args: Any) -> M:
        """One action: from the journal if it was done, else through gate and journal."""
        self._go_on()
        number, self._n = self._n, self._n + 1
        request_id = f"{self._act}.{number}"
        if name != "acquire":
            self.seen = None
        if number < len(self._past):
            past = self._past[number]
            if past["call"] != name:
                raise ControlRefusedError(
                    f"{request_id}: was {past['call']} before the interruption, is {name} now; it cannot go on"
                )
            if "result" in past:
                return model.model_validate(past["result"])
            # Begun, and nobody knows whether it was done: the same again, which is done once.
            args = past["args"]
            if name == "expose":
                self._check_still_there(number)
        else:
            if name == "expose" and self._stale:
                raise ControlRefusedError("expose: interrupted, and not looked at since; look before it")
            answer, dose = self._gate.action(name, args, self.state(), self.limits, self._clock())
            if not isinstance(answer, Ok):
                raise ControlRefusedError(f"{name}: {answer.reason}: {answer.detail}")
            fields = {"call": name, "args": args, "dose": None if dose is None else asdict(dose)}
            if way is not None:
                fields["way"] = way
            self._journal.write("action", self._act, **fields)
            self._gate.charge(name, dose, self._clock())
        result = self._ask(name, args, request_id)
        self._journal.write("result", self._act, result=result.model_dump(mode="json"))
        return result

    def _check_still_there(self, number: int) -> None:
        """Refuse to ask for an exposure again when the target has moved since."""
        sights = [entry["sight"] for entry in self._past[:number] if "sight" in entry]
        seen = [sight["track"] for sight in sights if sight not in (None, LATE)]
        before = TrackState.model_validate(
            seen[-1] if seen else self._journal.open[self._act]["found"]["track"]
        )
        tracks = self._client.tracks("all", 10_000).tracks
        now = next((one for one in tracks if one.track == before.track), None)
        if now is None or now.stage_nm is None or before.stage_nm is None:
            raise ControlRefusedError(
                "expose: interrupted, and the target is not in view; was it done? look at it"
            )
        moved = math.dist((now.stage_nm.x, now.stage_nm.y), (before.stage_nm.x, before.stage_nm.y))
        if moved > STILL_NM:
            raise ControlRefusedError(
                f"expose: interrupted, and the target has moved {moved:.2f} nm since, limit {STILL_NM:g} nm; was it "
                "done? look at it"
            )

    def _ask(self, name: str, args: dict[str, Any], request_id: str) -> Any:
        if args.get("shape") is not None:
            args = {**args, "shape": tuple(args["shape"])}
        return getattr(self._microscope, name)(**args, id=request_id)


def charge_past(gate: Gate, journal: Journal, now_s: float) -> None:
    """Count what an earlier run did towards the limits; what is older than a minute only towards dose and number."""
    wall = time.time()
    for entry in journal.past:
        moment = now_s - max(0.0, wall - entry["time"])
        if entry["what"] == "intent":
            gate.acted(moment)
        elif entry["what"] == "action":
            dose = entry.get("dose")
            gate.charge(entry["call"], None if dose is None else Dose(**dose), moment)
    journal.past.clear()
