"""Smooth surfaces over coarse grids."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice._rows import add_rows

# The Gaussian window ends here [standard deviations].
REACH = 4.0


@njit(cache=True, nogil=True)
def weighted_plane(values, weight):  # pragma: no cover - compiled
    """Least-squares plane through a grid, at its nodes; values and weight (rows, cols)."""
    n_rows, n_cols = values.shape
    level, down, across = plane_coefficients(values, weight)
    out = np.empty((n_rows, n_cols))
    for i in range(n_rows):
        for j in range(n_cols):
            out[i, j] = level + down * (i - (n_rows - 1) / 2) + across * (j - (n_cols - 1) / 2)
    return out


@njit(cache=True, nogil=True)
def plane_coefficients(values, weight):  # pragma: no cover - compiled
    """Level at the middle of a grid, and slopes per row and per column, of the least-squares plane through it."""
    n_rows, n_cols = values.shape
    a = b = c = d = e = f = x = y = z = 0.0
    for i in range(n_rows):
        row = i - (n_rows - 1) / 2
        mass = first = second = total = turned = 0.0
        for j in range(n_cols):
            col = j - (n_cols - 1) / 2
            w = weight[i, j]
            mass += w
            first += w * col
            second += w * col * col
            total += w * values[i, j]
            turned += w * values[i, j] * col
        a += mass
        b += mass * row
        c += first
        d += mass * row * row
        e += first * row
        f += second
        x += total
        y += total * row
        z += turned
    # a grid of one row or column has no slope along it, an empty one no level
    ridge = 1e-12 * (a + d + f) + 1e-300
    a, d, f = a + ridge, d + ridge, f + ridge
    # the normal equations [[a, b, c], [b, d, e], [c, e, f]], solved by elimination
    d, e, y = d - b * b / a, e - b * c / a, y - b * x / a
    f, z = f - c * c / a, z - c * x / a
    across = (z - e * y / d) / (f - e * e / d)
    down = (y - e * across) / d
    return (x - b * down - c * across) / a, down, across


def gaussian_window(sigma: float) -> NDArray[np.float64]:
    """Right half of a Gaussian of weight one, from its middle on, for `convolved`.

    Parameters
    ----------
    sigma : float
        Standard deviation [nodes of the grid].

    Returns
    -------
    ndarray of shape (n,), float64
        Four standard deviations long.
    """
    window = np.exp(-0.5 * (np.arange(int(REACH * sigma + 0.5) + 1) / sigma) ** 2)
    return window / (2 * window.sum() - 1)


@njit(cache=True, nogil=True)
def convolved(grid, window):  # pragma: no cover - compiled
    """Separable convolution with a symmetric window.

    Parameters
    ----------
    grid : ndarray of shape (rows, cols), float64
    window : ndarray of shape (n,), float64
        Its right half, from its middle on.

    Returns
    -------
    ndarray of shape (rows, cols), float64
    """
    return _turned(_along_columns(_turned(_along_columns(grid, window)), window))


@njit(cache=True, nogil=True)
def _turned(grid):  # pragma: no cover - compiled
    out = np.empty((grid.shape[1], grid.shape[0]))
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            out[j, i] = grid[i, j]
    return out


@njit(cache=True, nogil=True)
def _along_columns(grid, window):  # pragma: no cover - compiled
    reach = len(window) - 1
    whole = np.empty(2 * reach + 1)
    for k in range(-reach, reach + 1):
        whole[k + reach] = window[abs(k)]
    out = np.zeros(grid.shape)
    for i in range(len(grid)):
        first, last = max(i - reach, 0), min(i + reach + 1, len(grid))
        add_rows(grid[first:last], whole[first - i + reach : last - i + reach], out[i])
    return out
