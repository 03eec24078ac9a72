"""Local level and spread of the host over the frame: contamination and focus change it slowly from place to place."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice import bilinear_pair, convolved, gaussian_window
from latticewatch.model._resampling import excess_blur
from latticewatch.robust import median_and_spread

# Sites of one sublattice that share a local level, about; twice as many share a spread, which is known less well.
SITES_TOGETHER = 120
# Beyond this many standard deviations a site says nothing of the host's level; and what a Gaussian cut there keeps of
# its variance.
CLIP = 2.5
KEPT_VARIANCE = 0.9113
# One part in so many of the sites is looked for where they are densest, and how wide that part of a Gaussian is
# [standard deviations]. A spread more than so many times wider is that of several populations.
QUARTER = 4
QUARTER_WIDTH = 0.6373
CROWDED = 1.6
# A dependence of the spread that is not this many times its standard error is none.
CERTAIN = 3.0
# Windows of level and spread over bins that hold a tenth of the sites that share a level.
BIN_SIGMA = float(np.sqrt(10 / (4 * np.pi)))
WINDOWS = gaussian_window(BIN_SIGMA), gaussian_window(1.5 * BIN_SIGMA)


def standardise(
    values: NDArray[np.float64],
    position: NDArray[np.float64],
    frame: NDArray[np.int32],
    host: NDArray[np.bool_],
    shape: tuple[int, int],
    *,
    crowded: bool = False,
) -> NDArray[np.float64]:
    """Values in units of the local spread of the host, its local level at zero.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        Of sites of one sublattice.
    position : ndarray of shape (n, 2), float64
        Row and column [px].
    frame : ndarray of shape (n,), int32
        Frame that each site was seen in, from 0.
    host : ndarray of shape (n,), bool
        Sites thought to be host.
    shape : tuple of int
        Rows and columns of the frames.
    crowded : bool, optional
        The sites thought to be host may hold several populations, none of them rare: the densest one sets the scale.

    Returns
    -------
    ndarray of shape (n,), float64
        [sigma]
    """
    place = position, frame, host, float(shape[0]), float(shape[1])
    return standardised(values, *place, *WINDOWS, crowded)


@njit(cache=True, nogil=True)
def standardised(
    values, position, frame, host, height, width, near, wider, crowded
):  # pragma: no cover - compiled
    """See `standardise`; near, wider: `WINDOWS`."""
    last = 0
    for i in range(len(frame)):
        last = max(last, frame[i])
    if last == 0:
        return _standardise_frame(values, position, host, height, width, near, wider, crowded)
    out = np.empty_like(values)
    for number in range(last + 1):
        here = np.flatnonzero(frame == number)
        if len(here) > 0:
            out[here] = _standardise_frame(
                values[here], position[here], host[here], height, width, near, wider, crowded
            )
    return out


@njit(cache=True, nogil=True)
def unit_of(values, standard):  # pragma: no cover - compiled
    """Units of some values that one unit of the same values, standardised, stands for.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
    standard : ndarray of shape (n,), float64
        What `standardise` made of them.

    Returns
    -------
    float
    """
    # the slope: medians of both depend on what else is among the values
    mean = standard.mean()
    square = product = 0.0
    for i in range(len(values)):
        away = standard[i] - mean
        square += away * away
        product += away * values[i]
    return product / square if square > 0.0 else 1.0


@njit(cache=True, nogil=True)
def _standardise_frame(
    values, position, host, height, width_px, near, wider, crowded
):  # pragma: no cover - compiled
    if len(values) == 0:
        return values.copy()
    n_known = 0
    for i in range(len(host)):
        n_known += host[i]
    known = host
    if n_known < 8:
        known, n_known = np.ones(len(values), np.bool_), len(values)
    level, spread = _level_and_spread(values, known)
    if crowded:
        level, spread = densest(values[known], level, spread)
    scaled = np.empty(len(values))
    for i in range(len(values)):
        scaled[i] = (values[i] - level) / (spread if spread > 0 else 1.0)
    side = np.sqrt(height * width_px / n_known * SITES_TOGETHER / 10)
    # level and width at each node
    local = np.zeros((int(height / side) + 2, int(width_px / side) + 2, 2))
    for i in range(local.shape[0]):
        for j in range(local.shape[1]):
            local[i, j, 1] = 1.0
    for _ in range(2):
        sums = _bin(scaled, position, known, local, side, CLIP)
        mass, first = convolved(sums[0], near), convolved(sums[1], near)
        # where there are few sites the frame as a whole counts with the weight of ten
        prior = 10.0 / SITES_TOGETHER * mass.max()
        square = np.empty_like(mass)
        for i in range(mass.shape[0]):
            for j in range(mass.shape[1]):
                centre = first[i, j] / (mass[i, j] + prior)
                local[i, j, 0] = centre
                square[i, j] = sums[2, i, j] - 2 * centre * sums[1, i, j] + centre**2 * sums[0, i, j]
        mass, square = convolved(sums[0], wider), convolved(square, wider)
        for i in range(mass.shape[0]):
            for j in range(mass.shape[1]):
                variance = (square[i, j] + prior * KEPT_VARIANCE) / (mass[i, j] + prior)
                local[i, j, 1] = np.sqrt(max(variance / KEPT_VARIANCE, 0.05))
    out = _apply(scaled, position, local, side)
    blur = np.empty(len(out))
    for i in range(len(out)):
        blur[i] = excess_blur(position[i, 0]) + excess_blur(position[i, 1])
    slope = _blur_slope(out, blur, known)
    if slope != 0.0:
        for i in range(len(out)):
            out[i] /= np.sqrt(max(1.0 + slope * blur[i], 0.3))
    return out


@njit(cache=True, nogil=True)
def _level_and_spread(values, known):  # pragma: no cover - compiled
    """Median, and robust standard deviation, of those known."""
    some = np.empty(len(values))
    n = 0
    for i in range(len(values)):
        if known[i]:
            some[n] = values[i]
            n += 1
    return median_and_spread(some[:n])


@njit(cache=True, nogil=True)
def densest(values, level, spread):  # pragma: no cover - compiled
    """Centre and standard deviation of the densest quarter of some values, where that is much narrower than a spread.

    The median and the median deviation of two populations of like size are those of neither. Otherwise the level and
    the spread that were given, which are known better.
    """
    m = len(values) // QUARTER
    if m < 4:
        return level, spread
    ordered = np.sort(values)
    best = 0
    for i in range(len(ordered) - m):
        if ordered[i + m] - ordered[i] < ordered[best + m] - ordered[best]:
            best = i
    narrow = (ordered[best + m] - ordered[best]) / QUARTER_WIDTH
    if spread > CROWDED * narrow > 0.0:
        return ordered[best + m // 2], narrow
    return level, spread


@njit(cache=True, nogil=True)
def _blur_slope(values, blur, known):  # pragma: no cover - compiled
    """How the variance of the hosts changes with the blur, which averages noise too; 0 where that is not certain."""
    n, mean, square, first, second, cross = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(len(values)):
        if known[i] and abs(values[i]) <= CLIP:
            x, y = blur[i], values[i] ** 2
            n += 1
            mean += x
            square += x * x
            first += y
            second += y * y
            cross += x * y
    if n < 30:
        return 0.0
    spread = square - mean * mean / n
    if spread <= 1e-9 * n:
        return 0.0
    slope = (cross - mean * first / n) / spread
    error = np.sqrt(max(second - first * first / n, 0.0) / n / spread)
    # the cut keeps a little less of the wider ones
    return slope / (first / n) if abs(slope) > CERTAIN * error else 0.0


@njit(cache=True, nogil=True)
def _bin(values, position, known, local, side, clip):  # pragma: no cover - compiled
    """Number, sum and sum of squares of the values known, around each node of the grid, without outliers."""
    sums = np.zeros((3, local.shape[0], local.shape[1]))
    for i in range(len(values)):
        if not known[i]:
            continue
        row, col = position[i, 0] / side, position[i, 1] / side
        level, width = bilinear_pair(local, row, col)
        if abs(values[i] - level) > clip * width:
            continue
        a, b = min(int(row + 0.5), local.shape[0] - 1), min(int(col + 0.5), local.shape[1] - 1)
        sums[0, a, b] += 1.0
        sums[1, a, b] += values[i]
        sums[2, a, b] += values[i] * values[i]
    return sums


@njit(cache=True, nogil=True)
def _apply(values, position, local, side):  # pragma: no cover - compiled
    """Values less the level at their place, in units of the width there."""
    out = np.empty_like(values)
    for i in range(len(values)):
        level, width = bilinear_pair(local, position[i, 0] / side, position[i, 1] / side)
        out[i] = (values[i] - level) / width
    return out
