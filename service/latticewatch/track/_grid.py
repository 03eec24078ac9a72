"""Nearest points of the same sublattice, by a hashed grid: built and searched in a fraction of a millisecond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Points sorted into square cells, the cells hashed into a table; room is needed for points only.

    Attributes
    ----------
    point : ndarray of shape (n, 2), float64
    sublattice : ndarray of shape (n,), int16
    cell : float
        Edge of a cell [px]; searches are quickest within a radius smaller than that.
    """

    point: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    cell: float
    start: NDArray[np.int64]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, point: NDArray[np.float64], sublattice: NDArray[np.int16], cell: float) -> Self:
        """Sort points into cells."""
        return cls(point, sublattice, cell, *_sort(point, cell))

    def nearest(
        self, position: NDArray[np.float64], sublattice: NDArray[np.int16], radius: float
    ) -> NDArray[np.int64]:
        """Index of the nearest point of the same sublattice; -1 where there is none within a radius.

        Parameters
        ----------
        position : ndarray of shape (m, 2), float64
        sublattice : ndarray of shape (m,), int16
        radius : float
            [px]
        """
        return _nearest(
            position, sublattice, self.point, self.sublattice, self.cell, self.start, self.order, radius
        )

    def link(
        self, position: NDArray[np.float64], sublattice: NDArray[np.int16], radius: float
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The same, each point given to one position only, the nearest.

        Returns
        -------
        index : ndarray of shape (m,), int64
            -1 where there is no point, or where another position is nearer to it.
        crowded : ndarray of shape (m,), bool
            Which positions lost their point to another one.
        """
        near = self.nearest(position, sublattice, radius)
        index = _settle(near, position, self.point)
        return index, (near >= 0) & (index < 0)


@njit(cache=True, nogil=True, inline="always")
def _slot(i, j, mask):
    return ((i * 73856093) ^ (j * 19349663)) & mask


@njit(cache=True, nogil=True)
def _sort(point, cell):
    """Start of each slot in the order, and the order."""
    size = 16
    while size < 2 * len(point):
        size *= 2
    slot = np.empty(len(point), np.int64)
    start = np.zeros(size + 1, np.int64)
    for p in range(len(point)):
        slot[p] = _slot(
            np.int64(np.floor(point[p, 0] / cell)), np.int64(np.floor(point[p, 1] / cell)), size - 1
        )
        start[slot[p] + 1] += 1
    for s in range(size):
        start[s + 1] += start[s]
    fill = start[:-1].copy()
    order = np.empty(len(point), np.int64)
    for p in range(len(point)):
        order[fill[slot[p]]] = p
        fill[slot[p]] += 1
    return start, order


@njit(cache=True, nogil=True)
def _nearest(position, sublattice, point, point_sublattice, cell, start, order, radius):
    index = np.full(len(position), -1, np.int64)
    mask = len(start) - 2
    for q in range(len(position)):
        row, col = position[q, 0], position[q, 1]
        best = radius * radius
        i0, i1 = np.int64(np.floor((row - radius) / cell)), np.int64(np.floor((row + radius) / cell))
        j0, j1 = np.int64(np.floor((col - radius) / cell)), np.int64(np.floor((col + radius) / cell))
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                slot = _slot(i, j, mask)
                for o in range(start[slot], start[slot + 1]):
                    p = order[o]
                    if point_sublattice[p] != sublattice[q]:
                        continue
                    distance = (point[p, 0] - row) ** 2 + (point[p, 1] - col) ** 2
                    if distance < best:
                        best = distance
                        index[q] = p
    return index


@njit(cache=True, nogil=True)
def _settle(near, position, point):
    """Leave each point to the nearest of the positions that want it."""
    owner = np.full(len(point), -1, np.int64)
    index = near.copy()
    for q in range(len(near)):
        p = near[q]
        if p < 0:
            continue
        other = owner[p]
        if other >= 0:
            mine = (point[p, 0] - position[q, 0]) ** 2 + (point[p, 1] - position[q, 1]) ** 2
            theirs = (point[p, 0] - position[other, 0]) ** 2 + (point[p, 1] - position[other, 1]) ** 2
            if mine >= theirs:
                index[q] = -1
                continue
            index[other] = -1
        owner[p] = q
    return index
