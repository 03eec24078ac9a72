"""What each request to the simulated microscope does, and what it refuses."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from latticewatch.errors import ConfigurationError, ControlError, ControlRefusedError, ControlTimeoutError
from latticewatch.messages import Capabilities, ControlReply, ControlRequest, Limits, MicroscopeState
from latticewatch_simulator._microscope import Microscope
from latticewatch_simulator._operations import Operations
from latticewatch_simulator._settings import SimulatorSettings

NEEDED: dict[str, tuple[str, ...]] = {
    "move_stage": ("x_nm", "y_nm"),
    "shift_image": ("dx_nm", "dy_nm"),
    "acquire": ("frames",),
    "expose": ("x_nm", "y_nm", "duration_s"),
    "blank": ("on",),
    "fail": ("failure",),
}
# What is done once for each id. The others change nothing, or come to the same when they are done again.
ONCE = ("move_stage", "shift_image", "set_scan", "acquire", "expose")
# What an emergency stop keeps from being done.
HELD = (*ONCE, "blank")
MOST_FRAMES = 10_000
FASTEST_FPS = 1000.0
SIDE_PX = (64, 8192)


class Actions:
    """Answers requests for one microscope, from one thread.

    Parameters
    ----------
    microscope : Microscope
    status, truth : callable
        Results of the actions ``status`` and ``get_truth``.
    fixed_scan : str, optional
        Why the scan cannot be changed.
    """

    def __init__(
        self,
        microscope: Microscope,
        status: Callable[[], dict[str, Any]],
        truth: Callable[[], dict[str, Any]],
        fixed_scan: str | None = None,
    ) -> None:
        self._microscope = microscope
        self._fixed_scan = fixed_scan
        self._session = uuid.uuid4().hex
        self._failures: list[ControlRequest] = []
        self.last: tuple[str, int] | None = None
        self.results: dict[str, Callable[[], dict[str, Any]]] = {
            "status": status,
            "get_truth": truth,
            "state": lambda: self.state().model_dump(mode="json"),
            "limits": lambda: self._limits().model_dump(mode="json"),
            "capabilities": lambda: self._capabilities().model_dump(mode="json"),
            "dose_map": self._dose_map,
        }

    def answer(self, asked: ControlRequest) -> ControlReply | None:
        """The reply to a request.

        Parameters
        ----------
        asked : ControlRequest

        Returns
        -------
        ControlReply or None
            None where a failure that was asked for keeps it back.
        """
        failure = self._failure(asked)
        if failure == "silent":
            return None
        try:
            if failure == "refuse":
                raise ControlRefusedError(f"{asked.action}: refused, as was asked for")
            if failure == "timeout":
                raise ControlTimeoutError(f"{asked.action}: did not end in time, as was asked for")
            reply = self._do(asked, stuck=failure == "stuck")
        except ControlError as error:
            fault = "timeout" if isinstance(error, ControlTimeoutError) else "refused"
            reply = ControlReply(ok=False, fault=fault, error=str(error))
        return (
            None if failure == "lost" else reply.model_copy(update={"stage": self._microscope.stage.state()})
        )

    def state(self) -> MicroscopeState:
        """What the microscope does now."""
        microscope, scan = self._microscope, self._microscope.scan
        stage, beam = microscope.stage.state(), microscope.beam
        with beam.lock:
            here = beam.dose.highest(microscope.stage.field(), scan.fov_nm, scan.scan_rotation_deg)
        return MicroscopeState(
            x_nm=stage.x_nm,
            y_nm=stage.y_nm,
            moving=stage.moving,
            shift_nm=microscope.stage.shift_nm,
            fov_nm=scan.fov_nm[1],
            rotation_deg=scan.scan_rotation_deg,
            dwell_s=scan.dwell * 1e-6,
            shape=scan.shape,
            frame_s=1 / scan.fps,
            blanked=beam.blanked,
            stopped=beam.stopped,
            current_pa=beam.current_pa,
            frame_dose_e_per_a2=beam.frame_dose(scan),
            spot_dose_e_per_a2_s=beam.spot_dose_per_s(scan),
            dose_here_e_per_a2=here,
            series_id=self.last[0] if self.last else None,
            last_frame=self.last[1] if self.last else None,
            session=self._session,
        )

    # Once for each id

    def _do(self, asked: ControlRequest, *, stuck: bool) -> ControlReply:
        missing = [name for name in NEEDED.get(asked.action, ()) if getattr(asked, name) is None]
        if missing:
            needed = " and ".join(NEEDED[asked.action])
            raise ControlRefusedError(f"{asked.action}: give {needed}")
        if asked.action in ONCE and (known := self._operations.find(asked)) is not None:
            return known.reply or ControlReply(ok=True, done=False)
        if self._microscope.beam.stopped and asked.action in HELD and asked.on is not True:
            raise ControlRefusedError(
                f"{asked.action}: an emergency stop is in force; release it when all is well"
            )
        if asked.action in ("acquire", "expose"):
            self._check_beam(asked)
            self._operations.begin(asked)
            return ControlReply(ok=True, done=False)
        if asked.action in ONCE:
            try:
                result = getattr(self, f"_{asked.action}")(asked, stuck)
            except ControlRefusedError as error:
                refused = ControlReply(ok=False, fault="refused", error=str(error))
                return self._operations.begin(asked, refused).reply or refused
            reply = ControlReply(ok=True, result=result)
            return self._operations.begin(asked, reply).reply or reply
        if asked.action in self.results:
            return ControlReply(ok=True, result=self.results[asked.action]())
        self._switch(asked)
        return ControlReply(ok=True)

    @property
    def _operations(self) -> Operations:
        return self._microscope.operations

    def _move_stage(self, asked: ControlRequest, stuck: bool) -> dict[str, Any]:
        target = self._microscope.stage.move(
            asked.x_nm or 0.0, asked.y_nm or 0.0, relative=asked.relative, stuck=stuck
        )
        return {"target_nm": list(target)}

    def _shift_image(self, asked: ControlRequest, _: bool) -> dict[str, Any]:
        self._microscope.stage.shift(asked.dx_nm or 0.0, asked.dy_nm or 0.0)
        return {"shift_nm": list(self._microscope.stage.shift_nm)}

    def _set_scan(self, asked: ControlRequest, _: bool) -> dict[str, Any]:
        scan = self._microscope.scan
        shape = asked.shape or scan.shape
        if not all(SIDE_PX[0] <= n <= SIDE_PX[1] for n in shape):
            raise ControlRefusedError(
                f"set_scan: {shape} px; give {SIDE_PX[0]} to {SIDE_PX[1]} on either side"
            )
        dwell_us = scan.dwell if asked.dwell_s is None else 1e6 * asked.dwell_s
        settings = {
            "shape": shape,
            "pixel_size_nm": (asked.fov_nm or scan.fov_nm[1]) / shape[1],
            "scan_rotation_deg": scan.scan_rotation_deg if asked.rotation_deg is None else asked.rotation_deg,
            "dwell_us": dwell_us,
            "fps": 1e6 / (dwell_us * shape[0] * shape[1]),
        }
        if all(getattr(scan, name) == value for name, value in settings.items() if name != "fps"):
            return {}
        if self._fixed_scan is not None:
            raise ControlRefusedError(f"set_scan: {self._fixed_scan}")
        try:
            wanted = SimulatorSettings.checked(**{**scan.model_dump(), **settings})
        except ConfigurationError as error:
            raise ControlRefusedError(f"set_scan: {error}") from error
        self._microscope.set_scan(wanted)
        return {}

    def _check_beam(self, asked: ControlRequest) -> None:
        scan = self._microscope.scan
        if self._microscope.beam.blanked:
            raise ControlRefusedError(f"{asked.action}: the beam is blanked; blank it off first")
        if asked.action == "acquire" and (asked.frames or 0) > MOST_FRAMES:
            raise ControlRefusedError(f"acquire: {asked.frames} frames; give {MOST_FRAMES} at most")
        if asked.action == "expose":
            if (asked.duration_s or 0.0) > scan.exposure_limit_s:
                raise ControlRefusedError(
                    f"expose: {asked.duration_s:g} s; give {scan.exposure_limit_s:g} s at most"
                )
            x, y = self._microscope.stage.field()
            on_scan = scan.turn_back((asked.x_nm or 0.0) - x, (asked.y_nm or 0.0) - y)
            if abs(on_scan[0]) > scan.fov_nm[1] / 2 or abs(on_scan[1]) > scan.fov_nm[0] / 2:
                raise ControlRefusedError(
                    f"expose: ({asked.x_nm:g}, {asked.y_nm:g}) nm is out of the field around ({x:g}, {y:g}) nm"
                )

    def _switch(self, asked: ControlRequest) -> None:
        microscope = self._microscope
        if asked.action == "blank":
            microscope.beam.blank(bool(asked.on))
        elif asked.action == "stop":
            microscope.beam.stop()
            microscope.stage.halt()
            microscope.operations.abandon("an emergency stop")
        elif asked.action == "release":
            microscope.beam.release()
        elif asked.action == "fail":
            self._failures = [one for one in self._failures if one.of != asked.of]
            if asked.times:
                self._failures.append(asked)

    def _failure(self, asked: ControlRequest) -> str | None:
        for at, armed in enumerate(self._failures):
            if asked.action != "fail" and armed.of in (None, asked.action):
                left = armed.times - 1
                self._failures[at : at + 1] = [armed.model_copy(update={"times": left})] if left else []
                return armed.failure
        return None

    def _limits(self) -> Limits:
        scan = self._microscope.scan
        far = scan.stage_limit_nm
        return Limits(
            stage_nm=(-far, -far, far, far),
            shift_nm=scan.shift_limit_nm,
            fov_nm=(0.001 * SIDE_PX[0], 0.1 * SIDE_PX[1]),
            rotation_deg=(-360.0, 360.0),
            dwell_s=(1 / (FASTEST_FPS * SIDE_PX[1] ** 2), 1.0),
            side_px=SIDE_PX,
            frames=MOST_FRAMES,
            exposure_s=scan.exposure_limit_s,
        )

    def _capabilities(self) -> Capabilities:
        return Capabilities(
            name=f"simulated {self._microscope.specimen.crystal.name}",
            actions=(*ONCE, "blank", "stop", "release", "limits", "state", "capabilities"),
            simulated=True,
        )

    def _dose_map(self) -> dict[str, Any]:
        beam = self._microscope.beam
        with beam.lock:
            return beam.dose.table(self._microscope.stage.field())
