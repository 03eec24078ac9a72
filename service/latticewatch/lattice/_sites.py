"""Sites: every place where the lattice has an atomic column, occupied or vacant, and peaks that belong to none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice._cell import UnitCell
from latticewatch.lattice._phase import MIN_COVER, PhaseField


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """Sites of one frame.

    Attributes
    ----------
    position : ndarray of shape (n, 2), float64
        Row and column [px].
    sublattice : ndarray of shape (n,), int16
        Index of the column in the unit cell; -1 for a peak that belongs to no site.
    cell : ndarray of shape (n, 2), int32
        Unit cell that the site belongs to.
    """

    position: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    cell: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.position)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Sites:
        """Some of the sites."""
        return Sites(self.position[which], self.sublattice[which], self.cell[which])


def predict_sites(
    field: PhaseField, columns: NDArray[np.float64], shape: tuple[int, int], margin: float
) -> Sites:
    """Every site of a lattice inside a frame.

    Parameters
    ----------
    field : PhaseField
    columns : ndarray of shape (n_columns, 2), float64
        Cell coordinates of the columns of the unit cell.
    shape : tuple of int
        Rows and columns of the frame.
    margin : float
        Sites nearer than this to the edge of the frame are left out [px].
    """
    height, width = shape
    corners = np.array([(r, c) for r in np.linspace(0, height - 1, 9) for c in np.linspace(0, width - 1, 9)])
    at = field.cell_coordinates(corners)
    low = np.floor(at.min(0)).astype(int) - 2
    high = np.ceil(at.max(0)).astype(int) + 2
    n1, n2 = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
    cells = np.stack([n1.ravel(), n2.ravel()], 1)
    parts = []
    for index, column in enumerate(columns):
        position = field.positions(cells + column)
        last = np.array([height - 1, width - 1]) - margin
        inside = np.logical_and((position >= margin).all(1), (position <= last).all(1))
        inside[np.flatnonzero(inside)] = field.amplitude_at(position[inside]) > MIN_COVER
        parts.append(
            (position[inside], np.full(inside.sum(), index, np.int16), cells[inside].astype(np.int32))
        )
    if not parts:
        return Sites(np.zeros((0, 2)), np.zeros(0, np.int16), np.zeros((0, 2), np.int32))
    position, sublattice, cell = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Sites(position, sublattice, cell)


def nearest_neighbour_px(field: PhaseField, cell: UnitCell) -> float:
    """Shortest distance between two columns of the perfect lattice [px]."""
    shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)], float)
    best = np.inf
    for a in range(len(cell.columns)):
        for b in range(len(cell.columns)):
            vectors = (cell.columns[b] - cell.columns[a] + shifts) @ field.vectors
            lengths = np.hypot(*vectors.T)
            best = min(best, float(lengths[lengths > 1e-6].min()))
    return best
