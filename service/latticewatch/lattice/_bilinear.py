"""Values between the nodes of a coarse grid."""

from __future__ import annotations

import numpy as np
from numba import njit

TURN = 2 * np.pi


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
def bilinear_phase(phase, row, col):  # pragma: no cover - compiled
    """The same of two phases at each node [radians], which are the same phase after whole turns.

    Where a phase was cut to be unwrapped, as it must be somewhere around a dislocation, its nodes differ by a turn.
    """
    i, j, fr, fc = _node_before(phase, row, col)
    a, b, c, d = (1 - fr) * (1 - fc), (1 - fr) * fc, fr * (1 - fc), fr * fc
    return _mean_phase(phase, i, j, a, b, c, d, 0), _mean_phase(phase, i, j, a, b, c, d, 1)


@njit(cache=True, nogil=True)
def _mean_phase(phase, i, j, a, b, c, d, n):  # pragma: no cover - compiled
    """Weighted mean of four nodes, each in the turn nearest to the first."""
    first = phase[i, j, n]
    right, below, across = phase[i, j + 1, n], phase[i + 1, j, n], phase[i + 1, j + 1, n]
    if max(abs(right - first), abs(below - first), abs(across - first)) > np.pi:
        right = in_turn_of(right, first)
        below = in_turn_of(below, first)
        across = in_turn_of(across, first)
    return a * first + b * right + c * below + d * across


@njit(cache=True, nogil=True)
def in_turn_of(phase, other):  # pragma: no cover - compiled
    """A phase, whole turns added, as near to another as can be."""
    return phase + TURN * np.rint((other - phase) / TURN)


@njit(cache=True, nogil=True)
def is_cut(phase, i, j):  # pragma: no cover - compiled
    """Whether a phase jumps by more than half a turn between the nodes of the square that begins at one."""
    for n in range(2):
        low = min(phase[i, j, n], phase[i, j + 1, n], phase[i + 1, j, n], phase[i + 1, j + 1, n])
        high = max(phase[i, j, n], phase[i, j + 1, n], phase[i + 1, j, n], phase[i + 1, j + 1, n])
        if high - low > np.pi:
            return True
    return False


@njit(cache=True, nogil=True)
def _node_before(grid, row, col):  # pragma: no cover - compiled
    """Node before a place inside the grid, and how far the place is on the way to the next one."""
    row = min(max(row, 0.0), grid.shape[0] - 1.000001)
    col = min(max(col, 0.0), grid.shape[1] - 1.000001)
    i, j = int(row), int(col)
    return i, j, row - i, col - j
