"""Posteriors of sublattices, shared out to the classes of the catalogue."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def add_columns(out, rows, posterior, columns):  # pragma: no cover - compiled
    """Add the posteriors of the sites of one sublattice to their columns.

    out (n, n_classes + 1): posterior of each class of the catalogue and of none; rows (m,): the sites; posterior
    (m, k): of each class that they may be of; columns (k,): where these go, negative ones counted from the end.
    """
    width = out.shape[1]
    for m in range(len(rows)):
        for k in range(len(columns)):
            out[rows[m], columns[k] % width] += posterior[m, k]


@njit(cache=True, nogil=True)
def share_neighbours(out, seen, rows, index, host, beside):  # pragma: no cover - compiled
    """Share the host's part between host and neighbour classes, by the chance of a defect in each direction.

    out as above, changed in place, and seen, as it was before; index (n, directions): neighbours of every site; host:
    column of the host; beside (k, 3): direction, column of the defect there, column of the neighbour class.
    """
    for m in range(len(rows)):
        i = rows[m]
        total, alone = 0.0, 1.0
        for q in range(len(beside)):
            j = index[i, beside[q, 0]]
            if j >= 0:
                total += seen[j, beside[q, 1]]
                alone *= 1 - seen[j, beside[q, 1]]
        mass = out[i, host] * (1 - alone) / max(total, 1e-12)
        out[i, host] *= alone
        for q in range(len(beside)):
            j = index[i, beside[q, 0]]
            if j >= 0:
                out[i, beside[q, 2]] += mass * seen[j, beside[q, 1]]
