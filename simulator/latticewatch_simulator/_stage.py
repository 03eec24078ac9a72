"""The stage and the image shift: where the field is, where it is going, and how far it may go."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from latticewatch.errors import ControlRefusedError
from latticewatch.messages import StageState
from latticewatch_simulator._settings import SimulatorSettings

Point = tuple[float, float]


class Stage:
    """A stage that arrives some time after it was asked to move, and may overshoot; safe in any thread.

    Moving by +x brings things into view that lie further along the frame's columns, by +y along its rows.

    Parameters
    ----------
    settings : SimulatorSettings
        Start, limit, settle time and overshoot.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(self, settings: SimulatorSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._shift_limit = settings.stage_limit_nm, settings.shift_limit_nm
        self._settle, self._tolerance = settings.settle_s, settings.stage_tolerance_nm
        self._overshoot, self._ringing_s = settings.overshoot, settings.overshoot_s
        self._clock = clock
        self._lock = threading.Lock()
        self._here = self._target = settings.stage_nm
        self._shift = (0.0, 0.0)
        self._arrival = -math.inf
        self._stuck = False

    def position(self) -> Point:
        """Where the stage is now (x, y) [nm]: the old place until a move arrives, then swinging around the new one."""
        with self._lock:
            return self._position()

    def field(self) -> Point:
        """Where the middle of the field is: stage and image shift (x, y) [nm]."""
        with self._lock:
            x, y = self._position()
            return x + self._shift[0], y + self._shift[1]

    @property
    def shift_nm(self) -> Point:
        """The image shift (x, y)."""
        return self._shift

    @property
    def moving(self) -> bool:
        """Whether it is not yet within the tolerance of where it is going, for good."""
        with self._lock:
            return self._position() != self._target

    def state(self) -> StageState:
        """The same, with the limit and whether it is still moving."""
        with self._lock:
            x, y = self._position()
            return StageState(x_nm=x, y_nm=y, limit_nm=self._limit, moving=(x, y) != self._target)

    def move(self, x_nm: float, y_nm: float, *, relative: bool = False, stuck: bool = False) -> Point:
        """Ask for a move; a new one replaces one that has not arrived.

        Parameters
        ----------
        x_nm, y_nm : float
            Where to go, or how far from where the stage is or is going.
        relative : bool
            Which of the two.
        stuck : bool
            Do not arrive.

        Returns
        -------
        tuple of float
            Where it is going (x, y).

        Raises
        ------
        ControlRefusedError
            Beyond the limit.
        """
        with self._lock:
            here = self._position()
            if relative:
                x_nm, y_nm = x_nm + self._target[0], y_nm + self._target[1]
            if not (abs(x_nm) <= self._limit and abs(y_nm) <= self._limit):
                raise ControlRefusedError(
                    f"stage move to ({x_nm:g}, {y_nm:g}) nm: the limit is plus and minus {self._limit:g} nm; "
                    f"the stage stays at ({here[0]:g}, {here[1]:g}) nm"
                )
            self._here, self._target = here, (x_nm, y_nm)
            self._arrival = self._clock() + self._settle
            self._stuck = stuck
            return self._target

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Set the image shift, at once.

        Parameters
        ----------
        dx_nm, dy_nm : float
            The shift itself, not a step.

        Raises
        ------
        ControlRefusedError
            Beyond the limit.
        """
        if not max(abs(dx_nm), abs(dy_nm)) <= self._shift_limit:
            raise ControlRefusedError(
                f"image shift of ({dx_nm:g}, {dy_nm:g}) nm: the limit is plus and minus {self._shift_limit:g} nm"
            )
        with self._lock:
            self._shift = (dx_nm, dy_nm)

    def halt(self) -> None:
        """Stay where it is."""
        with self._lock:
            self._here = self._target = self._position()
            self._arrival, self._stuck = -math.inf, False

    def _position(self) -> Point:
        since = self._clock() - self._arrival
        if since < 0 or self._stuck:
            return self._here
        away = [target - here for target, here in zip(self._target, self._here, strict=True)]
        swing = self._overshoot * math.exp(-since / self._ringing_s) if self._overshoot else 0.0
        if swing * math.hypot(*away) <= self._tolerance:
            self._here = self._target
            return self._target
        swing *= math.cos(2 * math.pi * since / self._ringing_s)
        return self._target[0] + swing * away[0], self._target[1] + swing * away[1]
