"""From the scene to one frame: the scan reads it line by line, the detector counts electrons."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from latticewatch_simulator._blemishes import blemish
from latticewatch_simulator._drift import Drift
from latticewatch_simulator._scene import Scene
from latticewatch_simulator._settings import SimulatorSettings

# Poisson numbers of a mean below TABLE_MEAN come from a table of distributions, STEPS to a unit of the mean.
# Rows hold the distribution function up to eight standard deviations above TABLE_MEAN.
TABLE_MEAN, STEPS, GUIDES = 48, 8, 256
COUNTS = TABLE_MEAN + 56
SPLIT = 2.0**26
GUIDE_WIDTH = np.uint32(SPLIT / GUIDES)
# How much a line's displacement remembers of the line before, and the beam current of the frame before.
LINE_MEMORY, FRAME_MEMORY = 0.3, 0.95


def poisson_tables() -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Distribution functions for `few_electrons`, and where to start looking in them.

    Returns
    -------
    cdf : ndarray of shape (n_means, COUNTS), float64
        P(k or fewer) for the means 0, 1/STEPS, 2/STEPS, …
    guide : ndarray of shape (n_means, GUIDES), uint8
        Smallest k with P(k or fewer) above u, for u = 0, 1/GUIDES, …
    """
    means = np.arange(TABLE_MEAN * STEPS) / STEPS
    cdf = poisson.cdf(np.arange(COUNTS), means[:, None])
    cdf[:, -1] = 1.0
    starts = np.arange(GUIDES) / GUIDES
    return cdf, np.array([np.searchsorted(row, starts, side="right") for row in cdf]).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
def few_electrons(mean: float, u: float, cdf: NDArray[np.float64], guide: NDArray[np.uint8]) -> float:
    """A Poisson number of a mean below TABLE_MEAN, from one uniform number in [0, 1).

    Poisson numbers add: it is the sum of one of a tabulated mean, found by its distribution function with the
    first 26 bits of u, and one of the rest of the mean, below 1/STEPS and nearly always zero, found with the
    other 27.
    """
    scaled = u * SPLIT
    first = np.uint32(scaled)
    second = scaled - first
    row = np.uint32(mean * STEPS)
    k = np.uint32(guide[row, first // GUIDE_WIDTH])
    while first >= cdf[row, k] * SPLIT:
        k += np.uint32(1)
    rest = mean - row / STEPS
    extra = 0
    # exp(-rest) is never below 1 - rest, so the exponential is rarely needed.
    if second >= 1.0 - rest:
        probability = math.exp(-rest)
        below = probability
        while second >= below and extra < 16:
            extra += 1
            probability *= rest / extra
            below += probability
    return float(k + extra)


@numba.njit(cache=True, nogil=True)
def many_electrons(mean: float, z: float) -> float:
    """A Poisson number of a mean of TABLE_MEAN or more, from one standard normal number.

    The Cornish-Fisher expansion to third order, within 0.06 % of the distribution and 0.2 % of the variance.
    """
    root = math.sqrt(mean)
    return max(0.0, math.floor(mean + root * z + (z * z - 1) / 6 + (z - z * z * z) / (72 * root) + 0.5))


@numba.njit(cache=True, nogil=True)
def scan(
    scene: NDArray[np.float32],
    lines: NDArray[np.float64],
    oversampling: int,
    analogue: NDArray[np.float64],
    rng: np.random.Generator,
    cdf: NDArray[np.float64],
    guide: NDArray[np.uint8],
    frame: NDArray[np.uint16],
) -> None:
    """Fill a frame with counts.

    Parameters
    ----------
    scene : ndarray of shape (scene_height, scene_width), float32
        Fraction of the beam that reaches the detector.
    lines : ndarray of shape (height, 3), float64
        Of each line: row and column of its first pixel from the scene's corner [frame px], and the electrons
        that one of its pixels gets.
    oversampling : int
        Scene pixels to a frame pixel.
    analogue : ndarray of shape (4,), float64
        Counts per electron, their spread per electron, read noise, offset [counts].
    rng : Generator
        Of numpy; its state moves on.
    cdf, guide : ndarray
        Of `poisson_tables`.
    frame : ndarray of shape (height, width), uint16
        Result, clipped to 16 bit.
    """
    bottom, right = scene.shape[0] - 1.001, scene.shape[1] - 1.001
    gain, spread, read, offset = analogue
    for r in range(frame.shape[0]):
        electrons = lines[r, 2]
        y = min(max(lines[r, 0] * oversampling, 0.0), bottom)
        y0 = int(y)
        fy = y - y0
        for c in range(frame.shape[1]):
            x = min(max((lines[r, 1] + c) * oversampling, 0.0), right)
            x0 = int(x)
            fx = x - x0
            upper = (1 - fx) * scene[y0, x0] + fx * scene[y0, x0 + 1]
            lower = (1 - fx) * scene[y0 + 1, x0] + fx * scene[y0 + 1, x0 + 1]
            mean = max(((1 - fy) * upper + fy * lower) * electrons, 0.0)
            if mean < TABLE_MEAN:
                k = few_electrons(mean, rng.random(), cdf, guide)
            else:
                k = many_electrons(mean, rng.standard_normal())
            # Independent normal contributions of k pulses and of the read-out are one normal number.
            noise = math.sqrt(k * spread * spread + read * read) * rng.standard_normal()
            frame[r, c] = np.uint16(min(max(k * gain + noise + offset, 0.0), 65535.0) + 0.5)


@numba.njit(cache=True, nogil=True)
def correlate_lines(jitter: NDArray[np.float64]) -> None:
    """Make each line remember the one before, in place; the variance stays."""
    fresh = math.sqrt(1 - LINE_MEMORY**2)
    for row in range(1, jitter.shape[0]):
        for axis in range(jitter.shape[1]):
            jitter[row, axis] = LINE_MEMORY * jitter[row - 1, axis] + fresh * jitter[row, axis]


class Detector:
    """Scan and detector, with the state that goes on from frame to frame.

    Parameters
    ----------
    settings : SimulatorSettings
        Line jitter, flicker and detector.
    dose_e_per_a2 : float
        Electrons per square angstrom and frame.
    """

    def __init__(self, settings: SimulatorSettings, dose_e_per_a2: float) -> None:
        self._settings = settings
        self._electrons = dose_e_per_a2 * (10 * settings.pixel_size_nm) ** 2
        gain = settings.counts_per_electron
        self._analogue = np.array([gain, gain * settings.gain_spread, settings.read_noise, settings.offset])
        self._tables = poisson_tables()
        self._rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([settings.seed, 1])))
        self._current = 1.0

    def use(self, settings: SimulatorSettings, dose_e_per_a2: float) -> None:
        """Go on with another scan."""
        self._settings = settings
        self._electrons = dose_e_per_a2 * (10 * settings.pixel_size_nm) ** 2

    def acquire(self, scene: Scene, drift: Drift, *, blanked: bool = False) -> NDArray[np.uint16]:
        """One frame.

        Parameters
        ----------
        scene : Scene
            The specimen.
        drift : Drift
            Since the scene was rendered.
        blanked : bool
            The beam is off: nothing but the dark.

        Returns
        -------
        ndarray of shape (height, width), uint16
            New memory in every call.
        """
        settings, rng = self._settings, self._rng
        rows = settings.shape[0]
        through = np.linspace(0, 1, rows)[:, None]
        lines = np.empty((rows, 3))
        lines[:, :2] = scene.margin_px + np.array(drift.start_px) + through * np.array(drift.step_px)
        lines[:, :2] += self._jitter(rows)
        lines[:, 0] += np.arange(rows)
        self._current = (
            1 + FRAME_MEMORY * (self._current - 1) + 0.3 * settings.flicker * float(rng.standard_normal())
        )
        flicker = self._current * (1 + 0.5 * settings.flicker * rng.standard_normal(rows))
        lines[:, 2] = 0.0 if blanked else self._electrons * np.clip(flicker, 0, None)
        frame = np.empty(settings.shape, np.uint16)
        scan(scene.image, lines, scene.oversampling, self._analogue, rng, *self._tables, frame)
        blemish(settings, frame)
        return frame

    def _jitter(self, rows: int) -> NDArray[np.float64]:
        """Displacement of each line (row, col) [px]: half across, the whole along it, a little correlated."""
        jitter = self._rng.standard_normal((rows, 2)) * self._settings.line_jitter_px * [0.5, 1.0]
        correlate_lines(jitter)
        return jitter
