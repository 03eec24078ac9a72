"""What stands out of a frame and is no lattice: bright dopants, clusters, dirt. It must not hide the lattice.

A handful of atoms that are many times as bright as their lattice have a spectrum of their own, over all frequencies,
and it may lie above the Bragg peaks. Columns of the lattice themselves cover a good part of the frame; what covers
little of it and stands far out is taken off before the lattice is looked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.robust import NORMAL

# Beyond this many robust standard deviations of the smoothed frame something stands out ...
MIN_SIGMA = 5.0
# ... and where it is more than this share of the frame it is the lattice itself.
MAX_SHARE = 0.05
# Standard deviations of the smoothing under which it is looked for, and of the background, relative to that [px].
SMOOTHING_PX = (1.0, 3.0)
BACKGROUND = 8.0
# Where so many places a unit cell stand out they are columns of the lattice, the brighter ones.
MAX_PLACES_A_CELL = 0.1
# A place is bright that is higher than this many times what most are, beyond which is no more than one in ten.
BRIGHTER = 2.0
USUAL_SHARE = 0.9
# How far around it a frame is filled, and the smoothing under which it is looked for [lattice constants].
REACH_CELLS, BRIGHT_CELLS = 0.6, 0.1
# Pixels that median and spread are taken from, about.
SAMPLED = 4_096


def without_outliers(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], int] | None:
    """A frame with what stands out of it replaced by the level around, and in how many places; None where nothing does.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    """
    out = np.zeros(image.shape, bool)
    for sigma in SMOOTHING_PX:
        wide = max(BACKGROUND * sigma, 16.0)
        smooth = ndimage.gaussian_filter(image, sigma) - ndimage.gaussian_filter(image, wide)
        far = outlying(smooth)
        if far is not None:
            out |= ndimage.binary_dilation(far, iterations=int(2 * sigma))
    if not out.any() or out.mean() > 2 * MAX_SHARE:
        return None
    return filled(image, out, 16.0), int(ndimage.label(out)[1])  # type: ignore[index]


def without_bright(levelled: NDArray[np.floating], constant_px: float) -> NDArray[np.floating] | None:
    """A frame without its brightest places; None where they are columns, or none.

    Parameters
    ----------
    levelled : ndarray of shape (height, width)
        Less the level around.
    constant_px : float
        Of the lattice, about [px].
    """
    smooth = ndimage.gaussian_filter(levelled, BRIGHT_CELLS * constant_px)
    tops = np.argwhere(smooth == ndimage.maximum_filter(smooth, max(int(REACH_CELLS * constant_px), 1) | 1))
    height = smooth[tuple(tops.T)] - np.median(smooth)
    bright = tops[height > BRIGHTER * np.quantile(height, USUAL_SHARE)]
    if not len(bright) or len(bright) > MAX_PLACES_A_CELL * len(tops):
        return None
    around = near_places(levelled.shape, bright, REACH_CELLS * constant_px)
    return np.where(around, levelled.dtype.type(0), levelled)


def near_places(shape: tuple[int, ...], places: NDArray[np.number], reach_px: float) -> NDArray[np.bool_]:
    """Pixels of a frame that are nearer than so far to one of some places (row, column) [px]."""
    apart = np.ones(shape, bool)
    apart[tuple(np.clip(np.rint(places).astype(int), 0, np.array(shape) - 1).T)] = False
    return np.asarray(ndimage.distance_transform_edt(apart)) < reach_px


def outlying(values: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Where a map is farther than `MIN_SIGMA` from its median; None where nowhere, or in too much of it."""
    step = max(1, int(np.sqrt(values.size / SAMPLED)))
    sample = values[::step, ::step].ravel()
    level = np.median(sample)
    spread = NORMAL * np.median(np.abs(sample - level))
    if spread <= 0:
        return None
    far = np.abs(values - level) > MIN_SIGMA * spread
    share = np.count_nonzero(far) / far.size
    return far if 0 < share <= MAX_SHARE else None


def filled(image: NDArray[np.float32], out: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """An image with some of its pixels replaced by the mean of the others around them."""
    known = (~out).astype(np.float32)
    weight = ndimage.gaussian_filter(known, sigma)
    level = ndimage.gaussian_filter(image * known, sigma) / np.maximum(weight, 1e-6)
    far = float((image * known).sum() / max(float(known.sum()), 1.0))
    return np.where(out, np.where(weight > 1e-3, level, far), image).astype(np.float32)
