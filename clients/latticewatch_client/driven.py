"""A `Microscope` of a vendor's interface: what all of them have to keep, around the few calls in which they differ."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from latticewatch.errors import ControlRefusedError, ControlTimeoutError
from latticewatch.messages import Acquired, Capabilities, Exposed, Limits, MicroscopeState

R = TypeVar("R")
ACTIONS = ("move_stage", "shift_image", "set_scan", "acquire", "expose", "blank", "stop")
POLL_S = 0.02
# Actions that are remembered by their id; the oldest go first.
REMEMBERED = 4096
PA_TO_E_PER_S = 1e-12 / 1.602176634e-19


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan that a microscope makes.

    Attributes
    ----------
    fov_nm : float
        Width of the field [nm].
    rotation_deg : float
        As in a `latticewatch.messages.Calibration`.
    dwell_s : float
        Time for one pixel [s].
    shape : tuple of int
        Rows and columns.
    frame_s : float
        From one frame to the next [s].
    """

    fov_nm: float
    rotation_deg: float
    dwell_s: float
    shape: tuple[int, int]
    frame_s: float


class Controls(Protocol):
    """The calls of one vendor; none waits, and none has to check anything. nm, degrees, seconds, pA.

    Notes
    -----
    Skeletons for AutoScript, PyJEM, DigitalMicrograph, Nion Swift and Tango: ``docs/how-to/drive-a-microscope.md``.
    """

    def stage(self) -> tuple[float, float, bool]:
        """Where the stage is (x, y), and whether it moves."""
        ...

    def move(self, x_nm: float, y_nm: float) -> None:
        """Let the stage begin to move.

        Parameters
        ----------
        x_nm, y_nm : float
            Where to [nm].
        """
        ...

    def halt(self) -> None:
        """Let the stage stay where it is."""
        ...

    def image_shift(self) -> tuple[float, float]:
        """By how much the field is shifted, along the stage's axes."""
        ...

    def set_image_shift(self, dx_nm: float, dy_nm: float) -> None:
        """Shift it: the shift itself, not a step.

        Parameters
        ----------
        dx_nm, dy_nm : float
            Along the stage's axes [nm].
        """
        ...

    def scan(self) -> Scan:
        """The scan that is made."""
        ...

    def set_scan(
        self,
        fov_nm: float | None,
        rotation_deg: float | None,
        dwell_s: float | None,
        shape: tuple[int, int] | None,
    ) -> None:
        """Make another one from the next frame on; None stays.

        Parameters
        ----------
        fov_nm : float or None
            Width of the field [nm].
        rotation_deg : float or None
            As in a `Scan` [degrees].
        dwell_s : float or None
            Time for one pixel [s].
        shape : tuple of int or None
            Rows and columns.
        """
        ...

    def newest(self) -> tuple[str, int]:
        """Series and number of the frame that was published last, as in its header; "" and -1 before the first."""
        ...

    def blanked(self) -> bool:
        """Whether the beam is off."""
        ...

    def blank(self, on: bool) -> None:
        """Take it off, or let it back.

        Parameters
        ----------
        on : bool
            True takes it off.
        """
        ...

    def park(self, place_nm: tuple[float, float] | None) -> None:
        """Let the beam stand, or scan on.

        Parameters
        ----------
        place_nm : tuple of float or None
            How far from the middle of the field, x and y along the stage's axes [nm]; None scans on.
        """
        ...

    def current_pa(self) -> float | None:
        """Of the beam; None where it is not measured."""
        ...


class DrivenMicroscope:
    """A `Microscope` made of a vendor's `Controls`: bounded, once for each id, settled or an error.

    Parameters
    ----------
    controls : Controls
        Of the vendor.
    limits : Limits
        What is beyond is refused before the vendor hears of it.
    name : str
    tolerance_nm : float
        The stage has arrived when it is this near, and stays there [nm].
    settled_s : float
        For so long [s].
    timeout_s : float
        Longest wait for the stage, or for frames beside the time that they take [s].
    spot_a2 : float, optional
        Area over which the standing beam spreads; without it an exposure tells no dose [Å²].
    """

    def __init__(
        self,
        controls: Controls,
        limits: Limits,
        name: str,
        *,
        tolerance_nm: float = 0.05,
        settled_s: float = 0.2,
        timeout_s: float = 30.0,
        spot_a2: float | None = None,
    ) -> None:
        self._controls, self._limits, self._name = controls, limits, name
        self._tolerance_nm, self._settled_s, self._timeout_s = tolerance_nm, settled_s, timeout_s
        self._spot_a2 = spot_a2
        self._session = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._done: OrderedDict[str, tuple[tuple[Any, ...], Any]] = OrderedDict()

    def limits(self) -> Limits:
        """What it can do at the utmost."""
        return self._limits

    def capabilities(self) -> Capabilities:
        """What it is, and which actions it has."""
        return Capabilities(name=self._name, actions=ACTIONS)

    def state(self) -> MicroscopeState:
        """What it does now."""
        x, y, moving = self._controls.stage()
        scan, current = self._controls.scan(), self._controls.current_pa()
        series_id, number = self._controls.newest()
        width, rows, cols = scan.fov_nm, *scan.shape
        area_a2 = 100 * width * width * rows / cols
        electrons = None if current is None else current * PA_TO_E_PER_S
        return MicroscopeState(
            x_nm=x,
            y_nm=y,
            moving=moving,
            shift_nm=self._controls.image_shift(),
            fov_nm=width,
            rotation_deg=scan.rotation_deg,
            dwell_s=scan.dwell_s,
            shape=scan.shape,
            frame_s=scan.frame_s,
            blanked=self._controls.blanked(),
            stopped=self._stopped.is_set(),
            current_pa=current,
            frame_dose_e_per_a2=None
            if electrons is None
            else electrons * scan.dwell_s * rows * cols / area_a2,
            spot_dose_e_per_a2_s=None
            if electrons is None or self._spot_a2 is None
            else electrons / self._spot_a2,
            series_id=series_id or None,
            last_frame=number if number >= 0 else None,
            session=self._session,
        )

    def move_stage(self, x_nm: float, y_nm: float, id: str) -> MicroscopeState:  # noqa: A002
        """Bring the stage to a place; returns when it has settled there.

        Parameters
        ----------
        x_nm, y_nm : float
            Where to [nm].
        id : str
            Of this action.

        Returns
        -------
        MicroscopeState
            After it.

        Raises
        ------
        ControlRefusedError
            The place is beyond the limits, the id was used for another action, or an emergency stop is in force.
        ControlTimeoutError
            The stage has not settled in ``timeout_s``, or an emergency stop came meanwhile.
        """
        x0, y0, x1, y1 = self._limits.stage_nm
        self._within("x", x_nm, x0, x1)
        self._within("y", y_nm, y0, y1)

        def act() -> MicroscopeState:
            self._controls.move(x_nm, y_nm)
            since: float | None = None

            def settled() -> bool:
                nonlocal since
                x, y, moving = self._controls.stage()
                if moving or math.dist((x, y), (x_nm, y_nm)) > self._tolerance_nm:
                    since = None
                    return False
                since = since or time.monotonic()
                return time.monotonic() - since >= self._settled_s

            self._until(settled, self._timeout_s, f"the stage has not settled at ({x_nm:g}, {y_nm:g}) nm")
            return self.state()

        return self._once(id, ("move_stage", x_nm, y_nm), act)

    def shift_image(self, dx_nm: float, dy_nm: float, id: str) -> MicroscopeState:  # noqa: A002
        """Set the image shift: the shift itself, not a step.

        Parameters
        ----------
        dx_nm, dy_nm : float
            Along the stage's axes [nm].
        id : str
            Of this action.

        Returns
        -------
        MicroscopeState
            After it.

        Raises
        ------
        ControlRefusedError
            The shift is beyond the limits, the id was used for another action, or an emergency stop is in force.
        """
        for axis, value in (("x", dx_nm), ("y", dy_nm)):
            self._within(f"image shift along {axis}", value, -self._limits.shift_nm, self._limits.shift_nm)

        def act() -> MicroscopeState:
            self._controls.set_image_shift(dx_nm, dy_nm)
            return self.state()

        return self._once(id, ("shift_image", dx_nm, dy_nm), act)

    def set_scan(
        self,
        fov_nm: float | None = None,
        rotation_deg: float | None = None,
        dwell_s: float | None = None,
        shape: tuple[int, int] | None = None,
        *,
        id: str,  # noqa: A002
    ) -> MicroscopeState:
        """Take another scan from the next frame on; what is not given stays.

        Parameters
        ----------
        fov_nm : float, optional
            Width of the field [nm].
        rotation_deg : float, optional
            As in a `Scan` [degrees].
        dwell_s : float, optional
            Time for one pixel [s].
        shape : tuple of int, optional
            Rows and columns.
        id : str
            Of this action.

        Returns
        -------
        MicroscopeState
            As soon as the scan is set; the frame that is being taken may still be of the one before.

        Raises
        ------
        ControlRefusedError
            A value is beyond the limits, the id was used for another action, or an emergency stop is in force.
        """
        limits = self._limits
        for name, value, (low, high) in (
            ("field", fov_nm, limits.fov_nm),
            ("rotation", rotation_deg, limits.rotation_deg),
            ("dwell time", dwell_s, limits.dwell_s),
            *(("side", side, limits.side_px) for side in shape or ()),
        ):
            if value is not None:
                self._within(name, value, low, high)

        def act() -> MicroscopeState:
            self._controls.set_scan(fov_nm, rotation_deg, dwell_s, shape)
            return self.state()

        return self._once(id, ("set_scan", fov_nm, rotation_deg, dwell_s, shape), act)

    def acquire(self, frames: int, id: str) -> Acquired:  # noqa: A002
        """Take frames that begin from now on; returns which ones they are, when they are published.

        Parameters
        ----------
        frames : int
            How many.
        id : str
            Of this action.

        Returns
        -------
        Acquired
            Their series, and the numbers of the first and the last.

        Raises
        ------
        ControlRefusedError
            More frames than the limits allow or none, the beam is blanked, the id was used for another action, or an
            emergency stop is in force.
        ControlTimeoutError
            The last frame has not come in ``timeout_s`` and the time that the frames take, another series began
            meanwhile, or an emergency stop came.
        """
        self._within("frames", frames, 1, self._limits.frames)

        def act() -> Acquired:
            if self._controls.blanked():
                raise ControlRefusedError("acquire: the beam is blanked")
            series_id, number = self._controls.newest()
            frame_s = self._controls.scan().frame_s
            if series_id:
                # The one that is being scanned began before.
                first = number + 2
            else:
                series_id, number = self._series_begun(self._timeout_s + 2 * frame_s)
                # What came first of it may have begun before.
                first = number + 1
            last = first + frames - 1
            longest = self._timeout_s + (frames + 1) * frame_s

            def there() -> bool:
                now, newest = self._controls.newest()
                if now != series_id:
                    raise ControlTimeoutError(f"acquire: another series, {now!r}, began meanwhile")
                return newest >= last

            self._until(there, longest, f"frame {last} of {series_id!r} has not come")
            return Acquired(series_id=series_id, first=first, last=last)

        return self._once(id, ("acquire", frames), act)

    def expose(self, x_nm: float, y_nm: float, duration_s: float, id: str) -> Exposed:  # noqa: A002
        """Let the beam stand at a place for a time; an emergency stop ends it early, without an error.

        Parameters
        ----------
        x_nm, y_nm : float
            Place of the stage [nm], within half the shorter side of the field from its middle.
        duration_s : float
            For how long [s].
        id : str
            Of this action.

        Returns
        -------
        Exposed
            For how long the beam stood there [s], and the dose that it gave [e/Å²]: 0 where ``spot_a2`` or the current
            of the beam is not known.

        Raises
        ------
        ControlRefusedError
            The place or the time is beyond the limits, the beam is blanked, the id was used for another action, or an
            emergency stop is in force.
        """
        self._within("exposure", duration_s, 0, self._limits.exposure_s)

        def act() -> Exposed:
            state = self.state()
            away = x_nm - state.x_nm - state.shift_nm[0], y_nm - state.y_nm - state.shift_nm[1]
            half = state.fov_nm / 2 * min(1.0, state.shape[0] / state.shape[1])
            if not math.hypot(*away) <= half:
                raise ControlRefusedError(
                    f"expose: ({x_nm:g}, {y_nm:g}) nm is {math.hypot(*away):.2f} nm from the middle of the field, "
                    f"limit {half:g} nm"
                )
            if state.blanked or self._stopped.is_set():
                raise ControlRefusedError("expose: the beam is blanked")
            began = time.monotonic()
            try:
                self._controls.park(away)
                self._stopped.wait(duration_s)
            finally:
                self._controls.park(None)
                seconds = time.monotonic() - began
            rate = state.spot_dose_e_per_a2_s
            return Exposed(dose_e_per_a2=0.0 if rate is None else rate * seconds, duration_s=seconds)

        return self._once(id, ("expose", x_nm, y_nm, duration_s), act)

    def blank(self, on: bool) -> None:
        """Take the beam off the specimen, or let it back.

        Parameters
        ----------
        on : bool
            True takes it off.

        Raises
        ------
        ControlRefusedError
            It is to be let back while an emergency stop is in force.
        """
        if not on and self._stopped.is_set():
            raise ControlRefusedError("an emergency stop is in force; release it")
        self._controls.blank(on)

    def stop(self) -> None:
        """Emergency stop, from any thread: the beam is off and nothing moves, until `release`."""
        self._stopped.set()
        try:
            self._controls.blank(True)
        finally:
            self._controls.halt()

    def release(self) -> None:
        """A person says that it may go on; the beam stays off."""
        self._stopped.clear()

    def _series_begun(self, longest_s: float) -> tuple[str, int]:
        """Series and number of the newest frame, once there is one."""
        newest = ("", -1)

        def begun() -> bool:
            nonlocal newest
            newest = self._controls.newest()
            return bool(newest[0])

        self._until(begun, longest_s, "acquire: no series has begun")
        return newest

    def _within(self, what: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise ControlRefusedError(f"{what} of {value:g}: the limits are {low:g} and {high:g}")

    def _until(self, done: Callable[[], bool], longest_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + longest_s
        while not done():
            if time.monotonic() > deadline:
                raise ControlTimeoutError(f"{otherwise} after {longest_s:g} s")
            if self._stopped.wait(POLL_S):
                raise ControlTimeoutError("an emergency stop came meanwhile")

    def _once(self, request_id: str, asked: tuple[Any, ...], act: Callable[[], R]) -> R:
        """Do an action, or give what it gave when it was done by the same id."""
        with self._lock:
            if request_id in self._done:
                known, result = self._done[request_id]
                if known != asked:
                    raise ControlRefusedError(f"id {request_id!r} was used for another action, {known[0]}")
                if isinstance(result, Exception):
                    raise result
                return result
            if self._stopped.is_set():
                raise ControlRefusedError("an emergency stop is in force; release it")
            try:
                result: Any = act()
            except ControlRefusedError:
                # Nothing was done, so it may be asked for again.
                raise
            except Exception as error:
                self._remember(request_id, asked, error)
                raise
            self._remember(request_id, asked, result)
            return result

    def _remember(self, request_id: str, asked: tuple[Any, ...], result: Any) -> None:
        self._done[request_id] = (asked, result)
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
