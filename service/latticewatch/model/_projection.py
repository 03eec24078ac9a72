"""The few numbers of a patch that classification needs, and what the defects next door add to them.

Filter and whitening are linear: what a neighbour adds to the moments is taken off their projections instead. What
changes of occupancy do not explain is free of it by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.model._displacement import DisplacementFilter
from latticewatch.model._matched import MatchedFilter
from latticewatch.model._neighbours import UNSEEN_SIGMA
from latticewatch.model._oddities import Oddities
from latticewatch.model._sublattice import ItSelf, SublatticeModel
from latticewatch.model._templates import SublatticeTemplates
from latticewatch.vectors import LANES, add, kernel, load, multiply, store, subtract, zeros

# Changes that the patch hardly shows are held back by this share of the one it shows best.
RIDGE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Patches of one sublattice, projected.

    Attributes
    ----------
    rows : ndarray of shape (m,), intp
        Which of the sites of the frame they are.
    height : ndarray of shape (m, k + 2), float32
        Output of the matched filter [sigma], then the scalar product with each whitened template.
    shift : ndarray of shape (m, 2), float32
        Output of the filters of the displacement [sigma].
    residual : ndarray of shape (m, n_axes), float32
        What changes of occupancy leave unexplained [sigma].
    squared : ndarray of shape (m,), float64
        Its squared length [sigma²].
    response : ndarray of shape (k + 1,), float64
        Output of the filter for each template [sigma].
    gram : ndarray of shape (k + 1, k + 1), float64
        Scalar products of the whitened templates.
    doubt : ndarray of shape (k + 1,), float64
        Standard deviation of what a change of height 1 at each neighbour adds, see `doubts`.
    """

    rows: NDArray[np.intp]
    height: NDArray[np.float32]
    shift: NDArray[np.float32]
    residual: NDArray[np.float32]
    squared: NDArray[np.float64]
    response: NDArray[np.float64]
    gram: NDArray[np.float64]
    doubt: NDArray[np.float64]


def project(moments: NDArray[np.float32], rows: NDArray[np.intp], known: SublatticeModel) -> Projection:
    """Project the patches of one sublattice.

    Parameters
    ----------
    moments : ndarray of shape (m, n_moments), float32
    rows : ndarray of shape (m,), intp
        Which of the sites of the frame they are.
    known : SublatticeModel
    """
    onto = _projector(known)
    out = moments @ onto.axes
    n = len(onto.response) + 1
    squared = _less_offset(out, onto.offset, n + 2)
    return Projection(
        rows, out[:, :n], out[:, n : n + 2], out[:, n + 2 :], squared, onto.response, onto.gram, onto.doubt
    )


@kernel
def _less_offset(rows, offset, n):  # pragma: no cover - compiled
    """Take an offset off all rows, and give the squared length of what is beyond their first n numbers.

    rows (m, k); offset (1, k).
    """
    k = rows.shape[1]
    whole = n + (k - n) // LANES * LANES
    squared, lanes = np.empty(len(rows)), np.empty((1, LANES), np.float32)
    for i in range(len(rows)):
        for c in range(n):
            rows[i, c] -= offset[0, c]
        # many sums side by side, as one would wait for itself
        sums = zeros()
        for c in range(n, whole, LANES):
            rest = subtract(load(zeros(), rows, i, c), load(zeros(), offset, 0, c))
            store(rows, i, c, rest)
            sums = add(sums, multiply(rest, rest))
        store(lanes, 0, 0, sums)
        total = np.float32(0.0)
        for c in range(LANES):
            total += lanes[0, c]
        for c in range(whole, k):
            rows[i, c] -= offset[0, c]
            total += rows[i, c] * rows[i, c]
        squared[i] = total
    return squared


class _Projector(NamedTuple):
    """What the patches of one sublattice are multiplied by.

    Attributes
    ----------
    axes : ndarray of shape (n_moments, k + 4 + n_axes), float32
        Filter, whitened templates, filters of the displacement and what these leave unexplained, side by side.
    offset : ndarray of shape (1, k + 4 + n_axes), float32
        What the host gives.
    response : ndarray of shape (k + 1,), float64
    gram : ndarray of shape (k + 1, k + 1), float64
    doubt : ndarray of shape (k + 1,), float64
    """

    axes: NDArray[np.float32]
    offset: NDArray[np.float32]
    response: NDArray[np.float64]
    gram: NDArray[np.float64]
    doubt: NDArray[np.float64]


def _projector(known: SublatticeModel) -> _Projector:
    # classes that follow the stream change none of these
    return _projector_once(
        known.templates, known.filter, ItSelf(known.whitening), known.displacement, known.oddities
    )


@lru_cache(maxsize=32)
def _projector_once(
    templates: SublatticeTemplates,
    matched: MatchedFilter,
    whitening: ItSelf,
    displacement: DisplacementFilter,
    odd: Oddities,
) -> _Projector:
    columns, signal = templates.columns, templates.columns @ whitening.value
    height = np.column_stack([matched.weights, whitening.value @ signal.T, displacement.weights])
    # what is odd may have been learnt from other frames than the filter
    offset = np.concatenate([matched.mean @ height, odd.mean @ odd.projection])
    return _Projector(
        np.concatenate([height, odd.projection], 1).astype(np.float32),
        offset.astype(np.float32)[None],
        columns @ matched.weights,
        signal @ signal.T,
        doubts(templates, whitening.value),
    )


def doubts(templates: SublatticeTemplates, whitening: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well is known what a change of height 1 at each neighbour adds to a patch, shape (k + 1,) [sigma].

    The profile of one column stands for that of another no better than for its own.
    """
    return templates.profile_error * np.linalg.norm(templates.columns @ whitening, axis=1)


@njit(cache=True, nogil=True)
def scores_alone(height, amplitude, rows, index, response, gram):  # pragma: no cover - compiled
    """Output of the filter without what the neighbours add [sigma], (m,).

    height (m, k + 2), rows, response and gram as in `Projection`; amplitude (n,): change of height at every site of the
    frame; index (n, at least k): neighbours of every site, -1 where there is none. Their change is estimated along with
    that of the centre, as in `without_unseen`.
    """
    k = len(response) - 1
    out = np.empty(len(rows))
    wanted = np.empty(k + 1, np.int64)
    projected = np.empty(k + 1)
    for m in range(len(rows)):
        i = rows[m]
        out[m] = height[m, 0]
        n = 1
        wanted[0] = 0
        for q in range(k):
            j = index[i, q]
            if j == -1:
                wanted[n] = q + 1
                n += 1
            elif j >= 0:
                out[m] -= amplitude[j] * response[q + 1]
        if n == 1:
            continue
        for t in range(n):
            projected[t] = height[m, wanted[t] + 1]
            for q in range(k):
                if index[i, q] >= 0:
                    projected[t] -= amplitude[index[i, q]] * gram[q + 1, wanted[t]]
        inverse = _inverse_of(gram, wanted[:n])
        for t in range(1, n):
            change = 0.0
            for u in range(n):
                change += inverse[t, u] * projected[u]
            if abs(change) > UNSEEN_SIGMA * np.sqrt(inverse[t, t]):
                out[m] -= change * response[wanted[t]]
    return out


@njit(cache=True, nogil=True)
def doubt(amplitude, rows, index, each):  # pragma: no cover - compiled
    """Standard deviation of scores, that of noise being 1, for what is not known of the changes around.

    amplitude (n,): change of height at every site; rows (m,): sites of one sublattice; index (n, at least k): their
    neighbours; each (k + 1,): see `doubts`. Returns (m,).
    """
    out = np.empty(len(rows))
    for m in range(len(rows)):
        total = 0.0
        for q in range(len(each) - 1):
            j = index[rows[m], q]
            if j >= 0 and amplitude[j] != 0.0:
                total += (amplitude[j] * each[q + 1]) ** 2
        out[m] = np.sqrt(1.0 + total)
    return out


@njit(cache=True, nogil=True)
def _inverse_of(gram, wanted):  # pragma: no cover - compiled
    """Inverse of some rows and columns of a positive definite matrix, by elimination, a ridge added."""
    n = len(wanted)
    left, right = np.empty((n, n)), np.eye(n)
    ridge = 0.0
    for t in range(n):
        ridge = max(ridge, RIDGE * gram[wanted[t], wanted[t]])
        for u in range(n):
            left[t, u] = gram[wanted[t], wanted[u]]
    for t in range(n):
        left[t, t] += ridge
    for t in range(n):
        factor = 1 / left[t, t]
        for k in range(n):
            left[t, k] *= factor
            right[t, k] *= factor
        for u in range(n):
            if u != t:
                factor = left[u, t]
                for k in range(n):
                    left[u, k] -= factor * left[t, k]
                    right[u, k] -= factor * right[t, k]
    return right
