"""Sites: every place where the lattice has an atomic column, occupied or vacant, and peaks that belong to none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice._bilinear import bilinear, in_turn_of, is_cut
from latticewatch.lattice._phase import MIN_COVER, TURN, PhaseField, invert_coordinate


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

    @classmethod
    def none(cls) -> Sites:
        """No site at all."""
        return cls(np.zeros((0, 2)), np.zeros(0, np.int16), np.zeros((0, 2), np.int32))

    def __len__(self) -> int:
        return len(self.position)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Sites:
        """Some of the sites.

        Parameters
        ----------
        which : ndarray of shape (n,), bool, or of shape (m,), intp
            A mask, or rows; or a slice, of which nothing is copied.

        Returns
        -------
        Sites
        """
        return Sites(self.position[which], self.sublattice[which], self.cell[which])

    def joined(self, others: Sites) -> Sites:
        """These sites, and behind them others.

        Parameters
        ----------
        others : Sites

        Returns
        -------
        Sites
        """
        return Sites(
            np.concatenate([self.position, others.position]),
            np.concatenate([self.sublattice, others.sublattice]),
            np.concatenate([self.cell, others.cell]),
        )


def predict_sites(
    field: PhaseField,
    columns: NDArray[np.float64],
    shape: tuple[int, int],
    margin: float,
    *,
    may_be_cut: bool = True,
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
    may_be_cut : bool, optional
        Whether a jump of the phase may be the cut of a dislocation, on whose both sides there are sites. It is none at
        the edge of a grain, within which the phase is that of another one.

    Returns
    -------
    Sites
    """
    height, width = shape
    columns = np.ascontiguousarray(columns, float).reshape(-1, 2)
    last = np.array([height - 1 - margin, width - 1 - margin])
    if may_be_cut and _cut_in_view(field.phase, field.amplitude):
        return Sites(
            *_predict_by_squares(
                columns,
                field.basis,
                field.vectors,
                field.phase,
                field.amplitude,
                field.origin,
                field.step,
                last,
                float(margin),
            )
        )
    rows, cols = np.meshgrid(np.linspace(0, height - 1, 9), np.linspace(0, width - 1, 9), indexing="ij")
    at = field.cell_coordinates(np.stack([rows.ravel(), cols.ravel()], 1))
    position, sublattice, cell = _predict(
        columns,
        np.floor(at.min(0)).astype(np.int64) - 2,
        np.ceil(at.max(0)).astype(np.int64) + 2,
        field.basis,
        field.vectors,
        field.phase,
        field.amplitude,
        field.origin,
        field.step,
        last,
        float(margin),
    )
    return Sites(position, sublattice, cell)


@njit(cache=True, nogil=True)
def _predict(
    columns, low, high, basis, vectors, phase, amplitude, origin, step, last, margin
):  # pragma: no cover - compiled
    """Position, column and cell of every site in the frame and in the lattice, of the cells from low to high."""
    most = len(columns) * (high[0] - low[0] + 1) * (high[1] - low[1] + 1)
    position = np.empty((most, 2))
    sublattice = np.empty(most, np.int16)
    cell = np.empty((most, 2), np.int32)
    n = 0
    row_shift = col_shift = 0.0
    top, bottom, left, right = _shifts(phase, vectors)
    for s in range(len(columns)):
        for a in range(low[0], high[0] + 1):
            for b in range(low[1], high[1] + 1):
                u, v = a + columns[s, 0], b + columns[s, 1]
                r, c = u * vectors[0, 0] + v * vectors[1, 0], u * vectors[0, 1] + v * vectors[1, 1]
                if r + bottom < margin or r + top > last[0] or c + right < margin or c + left > last[1]:
                    continue
                # the one before was moved about as far
                r, c = invert_coordinate(u, v, row_shift, col_shift, basis, vectors, phase, origin, step)
                row_shift = r - u * vectors[0, 0] - v * vectors[1, 0]
                col_shift = c - u * vectors[0, 1] - v * vectors[1, 1]
                if not (margin <= r <= last[0] and margin <= c <= last[1]):
                    continue
                if bilinear(amplitude, (r - origin) / step, (c - origin) / step) > MIN_COVER:
                    position[n, 0], position[n, 1] = r, c
                    sublattice[n] = s
                    cell[n, 0], cell[n, 1] = a, b
                    n += 1
    return position[:n].copy(), sublattice[:n].copy(), cell[:n].copy()


@njit(cache=True, nogil=True)
def _cut_in_view(phase, amplitude):  # pragma: no cover - compiled
    """Whether the phase of a lattice jumps by more than half a turn where the lattice is seen."""
    for i in range(phase.shape[0] - 1):
        for j in range(phase.shape[1] - 1):
            weakest = min(amplitude[i, j], amplitude[i, j + 1], amplitude[i + 1, j], amplitude[i + 1, j + 1])
            if weakest > MIN_COVER and is_cut(phase, i, j):
                return True
    return False


@njit(cache=True, nogil=True)
def _strongest(amplitude, i, j):  # pragma: no cover - compiled
    return max(amplitude[i, j], amplitude[i, j + 1], amplitude[i + 1, j], amplitude[i + 1, j + 1])


@njit(cache=True, nogil=True)
def _predict_by_squares(
    columns, basis, vectors, phase, amplitude, origin, step, last, margin
):  # pragma: no cover - compiled
    """The same, square of nodes by square: in each the phase is smooth, though it may be cut between them.

    Cells are numbered as on their side of the cut, so that beside it two sites may have one number.
    """
    most = 4 * len(columns) * phase.shape[0] * phase.shape[1]
    position = np.empty((most, 2))
    sublattice = np.empty(most, np.int16)
    cell = np.empty((most, 2), np.int32)
    n = 0
    corner = np.empty((2, 4))
    for i in range(phase.shape[0] - 1):
        for j in range(phase.shape[1] - 1):
            if _strongest(amplitude, i, j) <= MIN_COVER:
                continue
            low0 = low1 = np.inf
            high0 = high1 = -np.inf
            for k in range(4):
                a, b = i + k // 2, j + k % 2
                r, c = origin + step * a, origin + step * b
                for d in range(2):
                    corner[d, k] = in_turn_of(phase[a, b, d], phase[i, j, d])
                u = basis[0, 0] * r + basis[0, 1] * c + corner[0, k] / TURN
                v = basis[1, 0] * r + basis[1, 1] * c + corner[1, k] / TURN
                low0, high0, low1, high1 = min(low0, u), max(high0, u), min(low1, v), max(high1, v)
            for s in range(len(columns)):
                for a in range(int(np.floor(low0 - columns[s, 0])), int(np.ceil(high0 - columns[s, 0])) + 1):
                    for b in range(
                        int(np.floor(low1 - columns[s, 1])), int(np.ceil(high1 - columns[s, 1])) + 1
                    ):
                        y, x = _in_square(
                            a + columns[s, 0], b + columns[s, 1], basis, vectors, corner, origin, step, i, j
                        )
                        r, c = origin + step * (i + y), origin + step * (j + x)
                        if not (0 <= y < 1 and 0 <= x < 1 and n < most):
                            continue
                        if not (margin <= r <= last[0] and margin <= c <= last[1]):
                            continue
                        if bilinear(amplitude, i + y, j + x) > MIN_COVER:
                            position[n, 0], position[n, 1] = r, c
                            sublattice[n] = s
                            cell[n, 0], cell[n, 1] = a, b
                            n += 1
    # sublattice by sublattice, as everywhere
    order = np.argsort(sublattice[:n], kind="mergesort")
    return position[:n][order], sublattice[:n][order], cell[:n][order]


@njit(cache=True, nogil=True)
def _in_square(u, v, basis, vectors, corner, origin, step, i, j):  # pragma: no cover - compiled
    """Where in a square of nodes a point has these cell coordinates, in its sides; outside of it, about where."""
    y = x = 0.5
    for _ in range(24):
        # beyond the square its phase says little
        fr, fc = min(max(y, -0.5), 1.5), min(max(x, -0.5), 1.5)
        r, c = origin + step * (i + y), origin + step * (j + x)
        m0 = u - basis[0, 0] * r - basis[0, 1] * c
        m1 = v - basis[1, 0] * r - basis[1, 1] * c
        for k in range(4):
            weight = (fr if k // 2 else 1 - fr) * (fc if k % 2 else 1 - fc) / TURN
            m0 -= weight * corner[0, k]
            m1 -= weight * corner[1, k]
        down = (m0 * vectors[0, 0] + m1 * vectors[1, 0]) / step
        across = (m0 * vectors[0, 1] + m1 * vectors[1, 1]) / step
        y += down
        x += across
        if abs(down) + abs(across) < 1e-7:
            break
    return y, x


@njit(cache=True, nogil=True)
def _shifts(phase, vectors):  # pragma: no cover - compiled
    """How far the phase moves a point anywhere, in rows and columns: least and most [px]."""
    top = left = np.inf
    bottom = right = -np.inf
    for i in range(phase.shape[0]):
        for j in range(phase.shape[1]):
            a, b = -phase[i, j, 0] / TURN, -phase[i, j, 1] / TURN
            down, across = a * vectors[0, 0] + b * vectors[1, 0], a * vectors[0, 1] + b * vectors[1, 1]
            top, bottom = min(top, down), max(bottom, down)
            left, right = min(left, across), max(right, across)
    return top, bottom, left, right


def nearest_neighbour_px(vectors: NDArray[np.float64], columns: NDArray[np.float64]) -> float:
    """Shortest distance between two columns of the perfect lattice [px].

    Parameters
    ----------
    vectors : ndarray of shape (2, 2), float64
        Lattice vectors in real space, as rows [px].
    columns : ndarray of shape (n_columns, 2), float64
        Cell coordinates.
    """
    shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)], float)
    best = np.inf
    for a in range(len(columns)):
        for b in range(a + 1):
            # a column is no neighbour of its own
            others = shifts if a != b else shifts[shifts.any(1)]
            best = min(best, float(np.hypot(*((columns[b] - columns[a] + others) @ vectors).T).min()))
    return best
