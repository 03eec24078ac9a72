"""How much resampling between pixels changes the moments of the hosts, measured on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch.model import excess_blur
from latticewatch.robust import NORMAL

BLUR_VARIANCE = 1 / 180
# Sites farther from the fit than nine in ten (defects, their neighbours) do not enter it.
KEPT = 0.9
# A slope that is not this many times its standard error is none.
MIN_SIGNIFICANCE = 3.0
MIN_SITES = 30


def resampling_slopes(moments: NDArray[np.float32], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the moments of a host change with the blur along rows and columns, by least squares.

    Parameters
    ----------
    moments : ndarray of shape (n, n_moments), float32
        Of sites of one sublattice, most of them hosts.
    position : ndarray of shape (n, 2), float64
        Row and column [px].

    Returns
    -------
    ndarray of shape (2, n_moments), float64
        Change of each moment per px² of variance.
    """
    n_moments = moments.shape[1]
    if len(moments) < MIN_SITES:
        return np.zeros((2, n_moments))
    blur = excess_blur(position)
    left = moments.astype(np.float64) - np.median(moments, axis=0)
    spread = NORMAL * np.median(np.abs(left), axis=0)
    distance = ((left / np.maximum(spread, 1e-12)) ** 2).sum(1)
    rows = np.flatnonzero(distance <= np.quantile(distance, KEPT))
    design, target = blur[rows], left[rows]
    design, target = design - design.mean(0), target - target.mean(0)
    # where all sites lie at one fraction there is nothing to learn, and nothing to take off
    inverse = np.linalg.inv(design.T @ design + BLUR_VARIANCE * np.eye(2))
    slopes = inverse @ design.T @ target
    error = np.sqrt(np.outer(np.diag(inverse), (target - design @ slopes).var(0)))
    return np.where(np.abs(slopes) > MIN_SIGNIFICANCE * error, slopes, 0.0)
