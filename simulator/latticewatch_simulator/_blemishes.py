"""What a frame shows that is no specimen: dirt on it, the empty border of an aligned stack, hot pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator._settings import SimulatorSettings

# Dirt: its edge falls off by this power of the distance, and beyond so many radii nothing of it is left.
EDGE_POWER, CLEAR = 6, 1.3
# How much the dirt scatters, in what the brightest column does; seeds apart from other numbers.
DIRT_LEVEL, STREAM = 1.5, 8


def dirt(settings: SimulatorSettings, xy_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much dirt lies at places of the specimen.

    Parameters
    ----------
    settings : SimulatorSettings
    xy_nm : ndarray of shape (..., 2), float64

    Returns
    -------
    ndarray of shape (...), float64
        From 0 to 1; 0 everywhere where the specimen is clean.
    """
    if settings.specimen != "dirt":
        return np.zeros(np.shape(xy_nm)[:-1])
    centre, radius = _dirt(settings)
    return np.exp(-((np.linalg.norm(xy_nm - centre, axis=-1) / radius) ** EDGE_POWER))


def hidden(
    settings: SimulatorSettings, xy_nm: NDArray[np.float64], px: NDArray[np.float64]
) -> NDArray[np.bool_] | None:
    """Which columns no frame can show.

    Parameters
    ----------
    settings : SimulatorSettings
    xy_nm : ndarray of shape (n, 2), float64
        Where they are on the specimen.
    px : ndarray of shape (n, 2), float64
        Where the frame has them (row, col).

    Returns
    -------
    ndarray of shape (n,), bool, or None
        Under the dirt, or in the empty border; None: there is neither.
    """
    if settings.specimen == "dirt":
        centre, radius = _dirt(settings)
        return np.linalg.norm(xy_nm - centre, axis=1) < CLEAR * radius
    if settings.specimen == "border":
        rows, cols = _border(settings)
        return (px[:, 0] < rows) | (px[:, 1] < cols)
    return None


def blemish(settings: SimulatorSettings, frame: NDArray[np.uint16]) -> None:
    """Put the border and the hot pixels into a frame.

    Parameters
    ----------
    settings : SimulatorSettings
    frame : ndarray of shape (rows, columns), uint16
        Changed in place.
    """
    if settings.specimen == "border":
        rows, cols = _border(settings)
        frame[:rows] = 0
        frame[:, :cols] = 0
    elif settings.specimen == "hot":
        rng = np.random.default_rng([settings.seed, STREAM])
        at = rng.integers(0, frame.shape, (round(settings.of_specimen), 2))
        frame[at[:, 0], at[:, 1]] = np.iinfo(frame.dtype).max


def _dirt(settings: SimulatorSettings) -> tuple[NDArray[np.float64], float]:
    """Centre and radius [nm]."""
    rng = np.random.default_rng([settings.seed, STREAM])
    field = min(settings.fov_nm)
    return np.array(settings.stage_nm) + rng.uniform(-0.25, 0.25, 2) * field, settings.of_specimen * field


def _border(settings: SimulatorSettings) -> tuple[int, int]:
    """Rows at the top and columns at the left that are empty."""
    return round(settings.of_specimen * settings.shape[0]), round(
        settings.of_specimen * settings.shape[1] / 2
    )
