"""Which site is next to which, and what a defect adds to the patches around it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# A neighbour without a site of its own is taken to differ from the host beyond so many standard deviations.
UNSEEN_SIGMA = 4.0


def neighbour_index(
    sublattice: NDArray[np.int16],
    cell: NDArray[np.int32],
    neighbours: tuple[NDArray[np.int32], ...],
    n_columns: int | None = None,
) -> NDArray[np.int32]:
    """Index of every neighbour of every site.

    Parameters
    ----------
    sublattice : ndarray of shape (n,), int16
        -1 for peaks that belong to no site.
    cell : ndarray of shape (n, 2), int32
    neighbours : tuple of ndarray of shape (k_s, 3), int32
        For each sublattice: sublattice and relative cell of each neighbour.
    n_columns : int, optional
        Sublattices that have a column; the others are places between the columns, most of them empty.

    Returns
    -------
    ndarray of shape (n, max k_s), int32
        -1 where there is no such site; -2 where that is a place between the columns.

    Raises
    ------
    ValueError
        A site is of a sublattice that has no neighbours given.
    """
    if len(sublattice) and sublattice.max() >= len(neighbours):
        # compiled code does not look
        raise ValueError(f"a site is of sublattice {sublattice.max()}; there are {len(neighbours)}")
    widest = max((len(table) for table in neighbours), default=0)
    padded = np.full((len(neighbours), widest, 3), -1, np.int32)
    for row, table in zip(padded, neighbours, strict=True):
        row[: len(table)] = table
    return _neighbour_index(sublattice, cell, padded, len(padded) if n_columns is None else n_columns)


def without_unseen(
    moments: NDArray[np.float64],
    mean: NDArray[np.float64],
    whitening: NDArray[np.float64],
    templates: NDArray[np.float64],
    index: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Moments less what neighbours add that have no site of their own: beyond the edge of the frame, or in a hole.

    Where neighbours are missing, their change is estimated along with that of the centre, by least squares in the
    whitened moments; what stands out of the noise is taken off.

    Parameters
    ----------
    moments : ndarray of shape (n, n_moments), float64
        Of sites of one sublattice, without what the neighbours that have sites add.
    mean : ndarray of shape (n_moments,), float64
        Moments of the host.
    whitening : ndarray of shape (n_moments, rank), float64
    templates : ndarray of shape (k + 1, n_moments), float64
        The site itself first.
    index : ndarray of shape (n, at least k), int32
        Their neighbours; -1 where there is no site.

    Returns
    -------
    ndarray of shape (n, n_moments), float64
        `moments` itself where no neighbour is missing.
    """
    unseen = index[:, : len(templates) - 1] == -1
    some = np.flatnonzero(unseen.any(1))
    if not len(some):
        return moments
    out = moments.copy()
    patterns, of_pattern = np.unique(unseen[some], axis=0, return_inverse=True)
    signal = templates @ whitening
    for number, pattern in enumerate(patterns):
        rows = some[of_pattern.ravel() == number]
        wanted = np.r_[0, np.flatnonzero(pattern) + 1]
        inverse = np.linalg.pinv(signal[wanted] @ signal[wanted].T, rcond=1e-6, hermitian=True)
        change = (moments[rows] - mean) @ whitening @ signal[wanted].T @ inverse
        certain = np.abs(change) > UNSEEN_SIGMA * np.sqrt(np.maximum(np.diag(inverse), 0.0))
        certain[:, 0] = False
        out[rows] -= np.where(certain, change, 0.0) @ templates[wanted]
    return out


@njit(cache=True, nogil=True)
def _neighbour_index(sublattice, cell, table, n_columns):  # pragma: no cover - compiled
    n = len(sublattice)
    out = np.full((n, table.shape[1]), -1, np.int32)
    if n == 0:
        return out
    low0, low1 = cell[0]
    high0, high1 = cell[0]
    for i in range(1, n):
        low0, high0 = min(low0, cell[i, 0]), max(high0, cell[i, 0])
        low1, high1 = min(low1, cell[i, 1]), max(high1, cell[i, 1])
    n0, n1 = high0 - low0 + 1, high1 - low1 + 1
    lookup = np.full((table.shape[0], n0, n1), -1, np.int32)
    for i in range(n):
        if sublattice[i] >= 0:
            lookup[sublattice[i], cell[i, 0] - low0, cell[i, 1] - low1] = i
    for i in range(n):
        s = sublattice[i]
        if s < 0:
            continue
        for k in range(table.shape[1]):
            other = table[s, k, 0]
            if other < 0:
                break
            if other >= n_columns:
                out[i, k] = -2
            a = cell[i, 0] - low0 + table[s, k, 1]
            b = cell[i, 1] - low1 + table[s, k, 2]
            if 0 <= a < n0 and 0 <= b < n1 and lookup[other, a, b] >= 0:
                out[i, k] = lookup[other, a, b]
    return out


@njit(cache=True, nogil=True)
def without_neighbours(moments, amplitude, rows, index, templates):  # pragma: no cover - compiled
    """Moments of some sites less what the changed occupancy of their neighbours adds to them.

    Parameters
    ----------
    moments : ndarray of shape (n, n_moments), float32
    amplitude : ndarray of shape (n,), float64
        Change of height at every site.
    rows : ndarray of shape (m,), intp
        The sites wanted, all of one sublattice.
    index : ndarray of shape (n, k), int32
        Neighbours of every site, see `neighbour_index`.
    templates : ndarray of shape (k + 1, n_moments), float64
        Moments of a column of height 1 at the site itself, then at each neighbour.

    Returns
    -------
    ndarray of shape (m, n_moments), float64
    """
    out = np.empty((len(rows), moments.shape[1]))
    for m in range(len(rows)):
        i = rows[m]
        for p in range(moments.shape[1]):
            out[m, p] = moments[i, p]
        for k in range(templates.shape[0] - 1):
            j = index[i, k]
            if j >= 0 and amplitude[j] != 0.0:
                for p in range(moments.shape[1]):
                    out[m, p] -= amplitude[j] * templates[k + 1, p]
    return out


def least_disturbed(
    members: NDArray[np.intp], defect: NDArray[np.bool_], index: NDArray[np.int32], needed: int = 3
) -> NDArray[np.intp]:
    """Those of some sites that have the fewest defects around.

    Beside a rare class, one defect more in one patch would show in the average of the class.

    Parameters
    ----------
    members : ndarray of shape (m,), intp
    defect : ndarray of shape (n,), bool
        Sites that are defects.
    index : ndarray of shape (n, k), int32
        Neighbours of every site.
    needed : int, optional
        So many are kept at least, where there are so many.

    Returns
    -------
    ndarray of shape (q,), intp
        Some of `members`, in their order.
    """
    if len(members) <= needed:
        return members
    around = index[members]
    number = (defect[around] & (around >= 0)).sum(1)
    return members[number <= np.partition(number, needed - 1)[needed - 1]]
