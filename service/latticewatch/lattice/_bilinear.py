"""Values between the nodes of a coarse grid."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def bilinear(grid, row, col):  # pragma: no cover - compiled
    """Bilinear value of a grid (rows, cols) at fractional indices; beyond the grid, the value at its edge."""
    i, j, fr, fc = _node_before(grid, row, col)
    return (1 - fr) * ((1 - fc) * grid[i, j] + fc * grid[i, j + 1]) + fr * (
        (1 - fc) * grid[i + 1, j] + fc * grid[i + 1, j + 1]
    )


@njit(cache=True, nogil=True)
def bilinear_pair(grid, row, col):  # pragma: no cover - compiled
    """Bilinear values of two quantities at one place of a coarse grid; beyond the grid, those at its edge.

    Parameters
    ----------
    grid : ndarray of shape (rows, cols, 2), float64
    row, col : float
        Fractional indices of a node.

    Returns
    -------
    tuple of two floats
    """
    i, j, fr, fc = _node_before(grid, row, col)
    a, b, c, d = (1 - fr) * (1 - fc), (1 - fr) * fc, fr * (1 - fc), fr * fc
    return (
        a * grid[i, j, 0] + b * grid[i, j + 1, 0] + c * grid[i + 1, j, 0] + d * grid[i + 1, j + 1, 0],
        a * grid[i, j, 1] + b * grid[i, j + 1, 1] + c * grid[i + 1, j, 1] + d * grid[i + 1, j + 1, 1],
    )


@njit(cache=True, nogil=True)
def _node_before(grid, row, col):  # pragma: no cover - compiled
    """Node before a place inside the grid, and how far the place is on the way to the next one."""
    row = min(max(row, 0.0), grid.shape[0] - 1.000001)
    col = min(max(col, 0.0), grid.shape[1] - 1.000001)
    i, j = int(row), int(col)
    return i, j, row - i, col - j
