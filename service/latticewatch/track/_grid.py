"""Nearest points of the same sublattice, by a hashed grid: built and searched in a fraction of a millisecond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Share of the radius within which a nearest point is looked for first.
FIRST_LOOK = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Points sorted into square cells, the cells hashed into a table; room is needed for points only.

    Attributes
    ----------
    point : ndarray of shape (n, 2), float64
    sublattice : ndarray of shape (n,), int16
    per_px : float
        Cells to a pixel, along either axis.
    """

    point: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    per_px: float
    start: NDArray[np.int64]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, point: NDArray[np.float64], sublattice: NDArray[np.int16], cell: float) -> Self:
        """Sort points into cells of an edge [px]; searches are quickest within a radius smaller than that."""
        return cls(point, sublattice, 1 / cell, *_sort(point, 1 / cell))

    @property
    def arrays(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.int16], float, NDArray[np.int64], NDArray[np.int64]]:
        """What kernels need to search: the last arguments of `nearest_to` but one."""
        return self.point, self.sublattice, self.per_px, self.start, self.order

    def link(
        self,
        position: NDArray[np.float64],
        shift: NDArray[np.float64],
        sublattice: NDArray[np.int16],
        radius: float,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Nearest point of the same sublattice, all positions less a shift.

        Parameters
        ----------
        position : ndarray of shape (m, 2), float64
        shift : ndarray of shape (2,), float64
        sublattice : ndarray of shape (m,), int16
        radius : float
            [px]

        Returns
        -------
        near : ndarray of shape (m,), int64
            Index of the point; -1 where there is none within the radius.
        index : ndarray of shape (m,), int64
            The same, each point given to one position only, the nearest; -1 for the others.
        """
        return _link(position, shift, sublattice, *self.arrays, radius)


@njit(cache=True, nogil=True, forceinline=True)
def _slot(i, j, mask):
    return ((i * 73856093) ^ (j * 19349663)) & mask


@njit(cache=True, nogil=True)
def _sort(point, per_px):
    """Start of each slot in the order, and the order."""
    size = 16
    while size < 2 * len(point):
        size *= 2
    slot = np.empty(len(point), np.int64)
    start = np.zeros(size + 1, np.int64)
    for p in range(len(point)):
        slot[p] = _slot(
            np.int64(np.floor(point[p, 0] * per_px)), np.int64(np.floor(point[p, 1] * per_px)), size - 1
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


@njit(cache=True, nogil=True, forceinline=True)
def nearest_to(row, col, kind, point, sublattice, per_px, start, order, radius):
    """Index of the nearest point of a sublattice, -1 where there is none within a radius."""
    mask, found = len(start) - 2, -1
    # Mostly there is one quite near, which takes a look at one cell or two.
    for reach in (FIRST_LOOK * radius, radius):
        best = reach * reach
        i0, i1 = np.int64(np.floor((row - reach) * per_px)), np.int64(np.floor((row + reach) * per_px))
        j0, j1 = np.int64(np.floor((col - reach) * per_px)), np.int64(np.floor((col + reach) * per_px))
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                slot = _slot(i, j, mask)
                for o in range(start[slot], start[slot + 1]):
                    p = order[o]
                    if sublattice[p] != kind:
                        continue
                    distance = (point[p, 0] - row) ** 2 + (point[p, 1] - col) ** 2
                    if distance < best:
                        best, found = distance, p
        if found >= 0:
            break
    return found


@njit(cache=True, nogil=True)
def _link(position, shift, sublattice, point, point_sublattice, per_px, start, order, radius):
    """Nearest point of each position less a shift, and -1 or the only position that it is left to: the nearest."""
    near = np.empty(len(position), np.int64)
    index = np.empty(len(position), np.int64)
    owner = np.full(len(point), -1, np.int64)
    nearest = np.empty(len(point))
    for q in range(len(position)):
        row, col = position[q, 0] - shift[0], position[q, 1] - shift[1]
        p = nearest_to(row, col, sublattice[q], point, point_sublattice, per_px, start, order, radius)
        near[q] = index[q] = p
        if p < 0:
            continue
        distance = (point[p, 0] - row) ** 2 + (point[p, 1] - col) ** 2
        if owner[p] >= 0:
            if distance >= nearest[p]:
                index[q] = -1
                continue
            index[owner[p]] = -1
        owner[p], nearest[p] = q, distance
    return near, index
