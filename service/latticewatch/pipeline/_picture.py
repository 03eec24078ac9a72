"""A frame as it came in; its counts and a picture of it out."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

PICTURE_PERCENTILES = (0.5, 99.8)
# Pixels that the percentiles are taken from, about.
SAMPLE = 16_384


def as_counts(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """The image as float32, gaps (NaN, infinite) filled with the median of the rest."""
    # always a copy: arrays that may not be written to would have kernels of their own
    with np.errstate(over="ignore"):
        counts = np.array(image, np.float32, order="C")
    if np.issubdtype(image.dtype, np.floating):
        gaps = ~np.isfinite(counts)
        if gaps.any():
            counts[gaps] = np.median(counts[~gaps]) if not gaps.all() else 0.0
    return counts


def as_picture(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image for display, stretched between two percentiles."""
    sample = image.ravel()[:: max(1, image.size // SAMPLE)]
    first, last = (round(p / 100 * (len(sample) - 1)) for p in PICTURE_PERCENTILES)
    low, high = np.partition(sample, (first, last))[[first, last]]
    factor = np.float32(255.0 / (float(high) - float(low))) if high > low else np.float32(0.0)
    out = np.empty(image.shape, np.uint8)
    _stretch(np.ascontiguousarray(image).reshape(-1), low, factor, out.reshape(-1))
    return out


@njit(cache=True, nogil=True)
def _stretch(pixels, low, factor, out):  # pragma: no cover - compiled
    for i in range(len(pixels)):
        value = (pixels[i] - low) * factor
        # written so that LLVM makes vectors of it
        value = value if value > np.float32(0.0) else np.float32(0.0)
        value = value if value < np.float32(255.0) else np.float32(255.0)
        out[i] = np.uint8(np.int32(value))
