"""Peaks of a frame in which no lattice was found: what can be said without one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._sites import Sites
from latticewatch.robust import NORMAL

# A peak must stand this many standard deviations of the smoothed noise above the median; in a megapixel of noise the
# highest value is near 5.
MIN_SIGMA = 6.0
SMOOTHING_PX = 1.5
MAX_PEAKS = 20_000


def find_peaks(image: NDArray[np.float32], margin: float = 2.0) -> Sites:
    """Local maxima that are not noise, brightest first, as sites of no sublattice.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    margin : float, optional
        Peaks nearer than this to the edge of the frame are left out [px].

    Returns
    -------
    Sites
    """
    smooth = ndimage.gaussian_filter(image, SMOOTHING_PX) - ndimage.gaussian_filter(image, 8 * SMOOTHING_PX)
    spread = NORMAL * float(np.median(np.abs(smooth - np.median(smooth))))
    is_peak = (smooth == ndimage.maximum_filter(smooth, size=2 * int(2 * SMOOTHING_PX) + 1)) & (
        smooth > MIN_SIGMA * max(spread, np.finfo(np.float32).tiny)
    )
    rows, cols = np.nonzero(is_peak)
    height, width = image.shape
    inside = (
        (rows >= margin) & (cols >= margin) & (rows <= height - 1 - margin) & (cols <= width - 1 - margin)
    )
    rows, cols = rows[inside], cols[inside]
    order = np.argsort(-smooth[rows, cols], kind="stable")[:MAX_PEAKS]
    position = np.stack([rows, cols], 1)[order].astype(float)
    return Sites(position, np.full(len(position), -1, np.int16), np.zeros((len(position), 2), np.int32))
