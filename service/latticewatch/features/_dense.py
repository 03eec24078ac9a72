"""Moments by one matrix product with the whole basis: slower than the kernel, exact at any order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch.features._basis import disk_basis

# Pixels copied out at a time: 32 MiB of float64.
CHUNK_PIXELS = 1 << 22


def dense_moments(
    image: NDArray[np.float32],
    positions: NDArray[np.float64],
    n_max: int,
    size: int,
) -> NDArray[np.float32]:
    """Zernike moments of the patches around `positions`, as `moments_around` takes them.

    Float32 sums of separable products lose digits with the order (1e-5 at n = 12, 1e-3 at n = 20), so high
    orders are summed here.

    Returns
    -------
    ndarray of shape (n_sites, n_orders), float32
    """
    # Further out than a patch nothing changes any more, and the corners stay within int64.
    limit = 2.0 * size + 2
    centres = positions.clip(-limit, np.add(image.shape, limit))
    shifts = (centres - np.floor(centres)).astype(np.float32)
    corners = np.floor(centres).astype(np.int64) - size // 2
    basis = disk_basis(n_max, size).reshape(-1, size * size).T / (np.pi * size**2 / 4)
    pixels = np.flatnonzero(disk_basis(0, size))
    moments = np.empty((len(corners), basis.shape[1]), np.float32)
    step = max(CHUNK_PIXELS // size**2, 1)
    for begin in range(0, len(corners), step):
        chunk = slice(begin, begin + step)
        patches = _patches(image, corners[chunk], shifts[chunk], size)
        moments[chunk] = patches.reshape(len(patches), -1)[:, pixels] @ basis[pixels]
    return moments


def _patches(
    image: NDArray[np.float32], corners: NDArray[np.int64], shifts: NDArray[np.float32], size: int
) -> NDArray[np.float64]:
    """Copy patches out, interpolated between pixels, the edge of the image repeated."""
    height, width = image.shape
    down, right = shifts.astype(np.float64).T[..., None, None]
    steps = np.arange(size)
    rows = corners[:, :1] + steps
    cols = corners[:, 1:] + steps

    def at(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.floating]:
        return image[rows.clip(0, height - 1)[:, :, None], cols.clip(0, width - 1)[:, None, :]]

    next_rows, next_cols = rows + (down[:, 0] > 0), cols + (right[:, 0] > 0)
    upper = (1 - right) * at(rows, cols) + right * at(rows, next_cols)
    lower = (1 - right) * at(next_rows, cols) + right * at(next_rows, next_cols)
    return (1 - down) * upper + down * lower
