"""How the specimen drifts: steadily, on a random walk, settling after a stage move, and by jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator._settings import SimulatorSettings

# Steps of the random walk are cut off at so many standard deviations, so that the scene can hold them.
LARGEST_DEVIATION = 4.0


@dataclass(frozen=True, slots=True)
class Drift:
    """Where the scan looked during one frame.

    Attributes
    ----------
    start_px : tuple of float
        Row and column by which the specimen has drifted when the frame starts: its features appear at
        positions that are smaller by this.
    step_px : tuple of float
        Further drift while the frame is scanned, in proportion to the row.
    """

    start_px: tuple[float, float]
    step_px: tuple[float, float]

    def seen_at(self, positions_px: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
        """Where features without drift appear in a frame.

        Parameters
        ----------
        positions_px : ndarray of shape (n, 2), float64
            Row and column without drift.
        rows : int
            Of the frame.

        Returns
        -------
        ndarray of shape (n, 2), float64
            Row and column [px].
        """
        start, step = np.array(self.start_px), np.array(self.step_px)
        row = (positions_px[:, 0] - start[0]) / (1 + step[0] / (rows - 1))
        col = positions_px[:, 1] - start[1] - step[1] * row / (rows - 1)
        return np.stack([row, col], axis=1)

    def since(self, origin_px: NDArray[np.float64]) -> Drift:
        """The same, counted from another moment's drift.

        Parameters
        ----------
        origin_px : ndarray of shape (2,), float64
            Row and column by which the specimen had drifted then.

        Returns
        -------
        Drift
        """
        start = np.array(self.start_px) - origin_px
        return Drift((float(start[0]), float(start[1])), self.step_px)


class DriftPath:
    """The drift of one frame after another; seeded.

    Parameters
    ----------
    settings : SimulatorSettings
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._rng = np.random.default_rng([settings.seed, 3])
        self._drift_nm = np.zeros(2)
        self._creep_nm = np.zeros(2)

    def use(self, settings: SimulatorSettings) -> None:
        """Go on with another scan."""
        self._settings = settings

    def next(self, frame: int, moved_nm: tuple[float, float]) -> Drift:
        """Drift of the next frame.

        Parameters
        ----------
        frame : int
            Its number.
        moved_nm : tuple of float
            Move of the stage (x, y) since the frame before.
        """
        settings = self._settings
        self._creep_nm = self._creep_nm + settings.settling_fraction * np.array(moved_nm[::-1])
        self._drift_nm = self._drift_nm + np.array(settings.drift_jumps_nm.get(frame, (0.0, 0.0)))
        walk = np.clip(self._rng.standard_normal(2), -LARGEST_DEVIATION, LARGEST_DEVIATION)
        creep = self._creep_nm * _share_of_a_frame(settings)
        step = np.array(settings.drift_nm_per_frame) + settings.drift_walk_nm * walk + creep
        start = self._drift_nm
        self._creep_nm = self._creep_nm - creep
        self._drift_nm = start + step
        return Drift(_in_frame(start, settings), _in_frame(step, settings))


def _in_frame(moved_nm: NDArray[np.float64], settings: SimulatorSettings) -> tuple[float, float]:
    """A displacement (y, x) of the specimen as rows and columns of the scan [px]."""
    x, y = settings.turn_back(float(moved_nm[1]), float(moved_nm[0]))
    return y / settings.pixel_size_nm, x / settings.pixel_size_nm


def largest_step_nm(settings: SimulatorSettings) -> float:
    """The farthest that the specimen drifts along an axis while a frame is scanned, after a stage move of 10 nm."""
    steady = max(map(abs, settings.turn_back(*settings.drift_nm_per_frame[::-1])))
    creep = 10.0 * abs(settings.settling_fraction) * _share_of_a_frame(settings)
    return steady + LARGEST_DEVIATION * settings.drift_walk_nm + creep


def _share_of_a_frame(settings: SimulatorSettings) -> float:
    """Share of the creep that is left which one frame sees."""
    return -math.expm1(-1 / settings.settling_frames)
