"""The stage: where it is, where it is going, and how far it may go."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from latticewatch.errors import ControlError
from latticewatch.messages import StageState
from latticewatch_simulator._settings import SimulatorSettings


class Stage:
    """A stage that arrives some time after it was asked to move; safe in any thread.

    Moving by +x brings things into view that lie further along the frame's columns, by +y along its rows.

    Parameters
    ----------
    settings : SimulatorSettings
        Start, limit and settle time.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(self, settings: SimulatorSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = settings.stage_limit_nm
        self._settle = settings.settle_s
        self._clock = clock
        self._lock = threading.Lock()
        self._here = self._target = settings.stage_nm
        self._arrival = -math.inf

    def position(self) -> tuple[float, float]:
        """Where the stage is now (x, y) [nm]: the old place until a move has settled."""
        with self._lock:
            return self._position()

    def state(self) -> StageState:
        """The same, with the limit and whether it is still moving."""
        with self._lock:
            x, y = self._position()
            return StageState(x_nm=x, y_nm=y, limit_nm=self._limit, moving=(x, y) != self._target)

    def move(self, x_nm: float, y_nm: float, *, relative: bool = False) -> tuple[float, float]:
        """Ask for a move; a new one replaces one that has not arrived.

        Parameters
        ----------
        x_nm, y_nm : float
            Where to go, or how far from where the stage is or is going.
        relative : bool
            Which of the two.

        Returns
        -------
        tuple of float
            Where it is going (x, y).

        Raises
        ------
        ControlError
            Beyond the limit.
        """
        with self._lock:
            here = self._position()
            if relative:
                x_nm, y_nm = x_nm + self._target[0], y_nm + self._target[1]
            if not (abs(x_nm) <= self._limit and abs(y_nm) <= self._limit):
                raise ControlError(
                    f"stage move to ({x_nm:g}, {y_nm:g}) nm: the limit is plus and minus {self._limit:g} nm; "
                    f"the stage stays at ({here[0]:g}, {here[1]:g}) nm"
                )
            self._here, self._target = here, (x_nm, y_nm)
            self._arrival = self._clock() + self._settle
            return self._target

    def _position(self) -> tuple[float, float]:
        if self._clock() >= self._arrival:
            self._here = self._target
        return self._here
