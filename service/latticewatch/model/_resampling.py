"""What resampling between pixels does to the moments, measured on the hosts and taken off.

Bilinear interpolation at the fraction f of a pixel blurs a patch as much as a kernel of variance ``f (1 - f)`` px²
along that axis. Where columns are only a few pixels wide, hosts differ by that more than by their noise.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Mean and variance of f (1 - f) where all fractions are as likely.
MEAN_BLUR = 1 / 6


@njit(cache=True, nogil=True)
def excess_blur(coordinate):  # pragma: no cover - compiled
    """Variance that interpolation at a coordinate adds along its axis, less its mean over all fractions.

    Parameters
    ----------
    coordinate : float
        [px]

    Returns
    -------
    float
        [px²]
    """
    fraction = coordinate - np.floor(coordinate)
    return fraction * (1 - fraction) - MEAN_BLUR


@njit(cache=True, nogil=True)
def without_blur(moments, position, sublattice, slopes):  # pragma: no cover - compiled
    """Moments as they would be at the mean blur.

    Parameters
    ----------
    moments : ndarray of shape (n, n_moments), float32
    position : ndarray of shape (n, 2), float64
        Row and column [px].
    sublattice : ndarray of shape (n,), int16
        -1 for sites of none, which stay as they are.
    slopes : ndarray of shape (n_sublattices, 2, n_moments), float32
        Change of the moments with the variance along rows and along columns [1/px²].

    Returns
    -------
    ndarray of shape (n, n_moments), float32
    """
    out = moments.copy()
    for i in range(len(moments)):
        s = sublattice[i]
        if s < 0:
            continue
        a, b = np.float32(excess_blur(position[i, 0])), np.float32(excess_blur(position[i, 1]))
        for p in range(moments.shape[1]):
            out[i, p] -= a * slopes[s, 0, p] + b * slopes[s, 1, p]
    return out
