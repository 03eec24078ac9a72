"""Displacement of images that have no lattice, by phase correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

THUMBNAIL_PX = 256


def shrink_of(shape: tuple[int, int]) -> int:
    """Pixels of a frame to one of its thumbnail, along either axis."""
    return max(1, -(-max(shape) // THUMBNAIL_PX))


def thumbnail(image: NDArray[np.float32], shrink: int) -> NDArray[np.float32]:
    """Mean over blocks of shrink × shrink pixels; a remainder at the edge is left out."""
    rows, cols = (length // shrink for length in image.shape)
    blocks = image[: rows * shrink, : cols * shrink].reshape(rows, shrink, cols, shrink)
    return np.nan_to_num(blocks.mean(axis=(1, 3), dtype=np.float32), posinf=0.0, neginf=0.0)


def displacement(before: NDArray[np.float32], now: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far features of one image have moved in another one of the same shape.

    Returns
    -------
    ndarray of shape (2,), float64
        Rows and columns [px of these images], ``position_now = position_before + displacement``; good to about a
        tenth of a pixel.

    Notes
    -----
    Kuglin and Hines (1975), with a Hann window against the edges, and a parabola through the peak.
    """
    rows, cols = before.shape
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(cols + 2)[1:-1]).astype(np.float32)
    first, second = (np.asarray(rfft2(window * (image - image.mean()))) for image in (before, now))
    cross = second * np.conj(first)
    size = np.abs(cross)
    correlation = np.asarray(irfft2(cross / np.maximum(size, 1e-6 * size.max() + 1e-30), before.shape))
    peak = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    shift = []
    for axis, length in enumerate(correlation.shape):
        line = np.take(correlation, peak[1 - axis], axis=1 - axis)
        left, middle, right = (line[(peak[axis] + step) % length] for step in (-1, 0, 1))
        curve = left - 2 * middle + right
        fraction = 0.5 * (left - right) / curve if curve < 0 else 0.0
        shift.append((peak[axis] + fraction + length / 2) % length - length / 2)
    return np.array(shift)
