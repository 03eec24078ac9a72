"""Posteriors of sublattices, shared out to the classes of the catalogue."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def share_components(out, rows, posterior, oddity, columns, odd_columns):  # pragma: no cover - compiled
    """Add the components of a mixture to their columns; the host's part goes to the oddities as well.

    out (n, n_classes + 1): posterior of each class and of none; rows (m,): the sites of the sublattice; posterior
    (m, k + 1): of each component, host first, and of none; oddity (m, k_odd + 2): of no oddity, of each kind, and of
    none of them; columns (k,) and odd_columns (k_odd,): where they go.
    """
    none, last, rest = out.shape[1] - 1, len(columns), len(odd_columns) + 1
    for m in range(len(rows)):
        i, host = rows[m], posterior[m, 0]
        out[i, columns[0]] += host * oddity[m, 0]
        for k in range(1, last):
            out[i, columns[k]] += posterior[m, k]
        for k in range(1, rest):
            out[i, odd_columns[k - 1]] += host * oddity[m, k]
        out[i, none] += posterior[m, last] + host * oddity[m, rest]


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
