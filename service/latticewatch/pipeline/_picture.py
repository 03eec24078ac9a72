"""A frame as it came in; its counts and a picture of it out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.parallel import by_parts

PICTURE_PERCENTILES = (0.5, 99.8)
# Rows and columns that the percentiles are taken from, about.
SAMPLED = 128
# Pixels that are converted at a time where other cores help, at least.
FEWEST_PIXELS = 200_000
# What cameras and scan generators send: converted and stretched in one pass.
DIRECT = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


def counts_and_picture(image: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The image as float32, gaps (NaN, infinite) filled with the median of the rest; and for display.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Of any real dtype; it is not changed.

    Returns
    -------
    counts : ndarray of shape (height, width), float32
        A copy.
    picture : ndarray of shape (height, width), uint8
        Stretched between two percentiles.
    """
    if image.dtype not in DIRECT:
        with np.errstate(over="ignore"):
            image = image.astype(np.float32)
    if image.dtype == np.float32:
        image = _filled(image)
    low, factor = _stretch(image)
    counts, picture = np.empty(image.shape, np.float32), np.empty(image.shape, np.uint8)
    pixels = np.ascontiguousarray(image).reshape(-1)
    # frames from a socket are read-only, others are not; numba would compile the kernel for each
    pixels.flags.writeable = False
    counted, shown = counts.reshape(-1), picture.reshape(-1)

    def convert(first: int, last: int) -> None:
        _convert(pixels[first:last], low, factor, counted[first:last], shown[first:last])

    by_parts(convert, len(pixels), FEWEST_PIXELS)
    return counts, picture


def picture_of(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """An image for display alone, as `counts_and_picture` gives it.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Of any real dtype; it is not changed.

    Returns
    -------
    ndarray of shape (height, width), uint8
    """
    if image.dtype not in DIRECT or image.dtype == np.float32:
        return counts_and_picture(image)[1]
    low, factor = _stretch(image)
    picture = np.empty(image.shape, np.uint8)
    pixels = np.ascontiguousarray(image).reshape(-1)
    pixels.flags.writeable = False
    _show(pixels, low, factor, picture.reshape(-1))
    return picture


def _filled(image: NDArray[Any]) -> NDArray[Any]:
    gaps = ~np.isfinite(image)
    if not gaps.any():
        return image
    return np.where(gaps, np.median(image[~gaps]) if not gaps.all() else np.float32(0.0), image)


def _stretch(image: NDArray[np.generic]) -> tuple[np.float32, np.float32]:
    """What is black, and grey levels to a count."""
    sample = image[tuple(slice(None, None, max(1, n // SAMPLED)) for n in image.shape)].ravel()
    first, last = (round(p / 100 * (len(sample) - 1)) for p in PICTURE_PERCENTILES)
    low, high = np.partition(sample, (first, last))[[first, last]].astype(np.float32)
    factor = np.float32(255.0 / (float(high) - float(low))) if high > low else np.float32(0.0)
    return low, factor


@njit(cache=True, nogil=True, inline="always")
def _grey(count, low, factor):  # pragma: no cover - compiled
    value = (count - low) * factor
    # written so that LLVM makes vectors of it
    value = value if value > np.float32(0.0) else np.float32(0.0)
    value = value if value < np.float32(255.0) else np.float32(255.0)
    return np.uint8(np.int32(value))


@njit(cache=True, nogil=True)
def _convert(pixels, low, factor, counts, picture):  # pragma: no cover - compiled
    for i in range(len(pixels)):
        count = np.float32(pixels[i])
        counts[i] = count
        picture[i] = _grey(count, low, factor)


@njit(cache=True, nogil=True)
def _show(pixels, low, factor, picture):  # pragma: no cover - compiled
    for i in range(len(pixels)):
        picture[i] = _grey(np.float32(pixels[i]), low, factor)
