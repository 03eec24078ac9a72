"""Median and spread of some numbers, without what numpy does for arrays of any kind: a frame asks for dozens."""

from __future__ import annotations

import numpy as np
from numba import njit

# What the median deviation of normal values is multiplied by to be their standard deviation.
NORMAL = 1.4826


@njit(cache=True, nogil=True)
def median(values):  # pragma: no cover - compiled
    """The same as `numpy.median`, as float64; NaN where there are none.

    Parameters
    ----------
    values : ndarray of any shape, float32 or float64
        Without NaN.

    Returns
    -------
    float
    """
    if values.size == 0:
        return np.nan
    return np.float64(np.median(values))


@njit(cache=True, nogil=True)
def median_and_spread(values):  # pragma: no cover - compiled
    """Median of some values, and robust standard deviation about it, as if most were normal.

    Parameters
    ----------
    values : ndarray of any shape, float32 or float64
        Without NaN.

    Returns
    -------
    float, float
        NaN where there are none.
    """
    level = median(values)
    return level, NORMAL * median(np.abs(values - level))
