"""Smooth surfaces over coarse grids."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# The Gaussian window ends here [standard deviations].
REACH = 4.0


def weighted_plane(values: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares plane through a grid.

    Parameters
    ----------
    values, weight : ndarray of shape (rows, cols), float64

    Returns
    -------
    ndarray of shape (rows, cols), float64
        The plane at the nodes.
    """
    level, down, across = plane_coefficients(values, weight)
    r, c = (np.arange(n) - (n - 1) / 2 for n in values.shape)
    return level + down * r[:, None] + across * c


def plane_coefficients(values: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level at the middle of a grid, and slopes per row and per column, of the least-squares plane through it."""
    r, c = (np.arange(n) - (n - 1) / 2 for n in values.shape)
    across, down = np.stack([np.ones(len(c)), c, c**2], 1), np.stack([np.ones(len(r)), r, r**2])
    mass = down @ weight @ across
    total = down[:2] @ (weight * values) @ across[:, :2]
    normal = np.array(
        [
            [mass[0, 0], mass[1, 0], mass[0, 1]],
            [mass[1, 0], mass[2, 0], mass[1, 1]],
            [mass[0, 1], mass[1, 1], mass[0, 2]],
        ]
    )
    # a grid of one row or column has no slope along it, an empty one no level
    normal[[0, 1, 2], [0, 1, 2]] += 1e-12 * np.trace(normal) + np.finfo(float).tiny
    return np.linalg.solve(normal, [total[0, 0], total[1, 0], total[0, 1]])


def low_pass(grid: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian low-pass of a small grid, which is zero beyond its edges.

    Parameters
    ----------
    grid : ndarray of shape (rows, cols), float64
    sigma : float
        Standard deviation [nodes].
    """
    return convolved(grid, gaussian_window(sigma))


def gaussian_window(sigma: float) -> NDArray[np.float64]:
    """Right half of a Gaussian of weight one, from its middle on, for `convolved`."""
    window = np.exp(-0.5 * (np.arange(int(REACH * sigma + 0.5) + 1) / sigma) ** 2)
    return window / (2 * window.sum() - 1)


@njit(cache=True, nogil=True)
def convolved(grid, window):  # pragma: no cover - compiled
    """Separable convolution with a symmetric window, given from its middle on."""
    n_rows, n_cols = grid.shape
    down = np.zeros((n_rows, n_cols))
    for i in range(n_rows):
        for k in range(max(i - len(window) + 1, 0), min(i + len(window), n_rows)):
            w = window[abs(k - i)]
            for j in range(n_cols):
                down[i, j] += w * grid[k, j]
    out = np.zeros((n_rows, n_cols))
    for i in range(n_rows):
        for k in range(-len(window) + 1, len(window)):
            w = window[abs(k)]
            for j in range(max(-k, 0), min(n_cols, n_cols - k)):
                out[i, j] += w * down[i, j + k]
    return out
