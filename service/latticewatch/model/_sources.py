"""Which changes are those of a column of the lattice, and which are an atom between the columns: likelihoods compared.

An atom in the middle of a bond changes the patches of both its columns, and a changed column lights the places around
it. So everything that a patch between the columns may show is fitted to it: an atom there, wherever it stands in its
surroundings; a column around that is of another height or beside its place; all columns around, of other heights; an
atom at another place nearby. An atom there takes fewest numbers to explain both columns, and wins where it is true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.model._sublattice import ItSelf, SublatticeModel
from latticewatch.model._templates import RINGS, SublatticeTemplates, shift_terms, terms_of, trial_shifts

# What a number more in an explanation must gain [sigma²]: the Bayesian criterion for the numbers of a patch, some 60.
PENALTY = 4.0
# An atom between the columns is so much rarer than a changed column, as twice a logarithm [sigma²].
RARER = 9.0
# An atom is told where, with that, it is nine times as probable as the best of what else may be [sigma²].
CLEARLY = 4.4
# Another place explains the same light as well within this share.
AS_GOOD = 0.02
# An atom is fitted closely where the best of the places tried around it explains what it must, times this: the closer
# place explains a little more.
NEARLY = 1.5
# Columns as near as the nearest, within this share, are next to a place.
NEXT_SHARE = 0.3
# Share of its light that may be wrong in the patches around: the scan jitters while it passes. The profile adds to it.
LIGHT_ERROR = 0.03
# What is nearer to a column than this share of a bond is not between the columns: it is a change of that column.
LEAST_ROOM = 0.3
# Height and place of an atom.
FREE = 3
N_STEPS = 4
STEP_SHARE = 0.05
# Two atoms between the columns are no nearer than this many times the farthest that one is looked for from its place.
APART = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Explanations:
    """What the patches around a place between the columns may show, in the whitened moments of that place.

    Attributes
    ----------
    source : ndarray of shape (n_shifts, rank), float64
        A column of height 1 at the place and around it.
    terms : ndarray of shape (n_terms, rank), float64
        The same as factors of `shift_terms`, less that in the middle.
    around : ndarray of shape (rank, k · (1 + n_terms)), float64
        What each height more of a neighbour adds, and what its displacement does, as factors of `shift_terms`.
    shift_terms : ndarray of shape (n_terms, n_shifts), float64
        These factors of each displacement.
    height : ndarray of shape (k,), float64
        Of what is at each neighbour; 0 at a place between the columns, where it is not less than nothing.
    squares : ndarray of shape (3, k, n_shifts), float64
        Scalar products of what each height more of a displaced neighbour adds with itself, with what its displacement
        adds, and of the latter with itself.
    heights : ndarray of shape (rank, m), float64
        Orthonormal: all that changes of height of the columns around add.
    shifts : ndarray of shape (n_shifts, 2), float64
        Where that is [px].
    farthest_px : float
    columns : ndarray of shape (n, 2), float64
        Where the columns around are [px].
    room_px : float
        Nearer to one of them than this an atom is part of it.
    free : ndarray of shape (m,), intp
        Which of the shifts are not farther into a column than one step.
    """

    source: NDArray[np.float64]
    terms: NDArray[np.float64]
    around: NDArray[np.float64]
    shift_terms: NDArray[np.float64]
    height: NDArray[np.float64]
    squares: NDArray[np.float64]
    heights: NDArray[np.float64]
    shifts: NDArray[np.float64]
    farthest_px: float
    columns: NDArray[np.float64]
    room_px: float
    free: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """An atom between the columns, fitted to some patches.

    Attributes
    ----------
    height : ndarray of shape (m,), float64
    away : ndarray of shape (m, 2), float64
        From the middle of its place (row, column) [px].
    gain : ndarray of shape (m,), float64
        What it explains [sigma²].
    rival : ndarray of shape (m,), float64
        What it must explain to be believed, beside all else that may [sigma²]; more, where that is already beyond it.
    """

    height: NDArray[np.float64]
    away: NDArray[np.float64]
    gain: NDArray[np.float64]
    rival: NDArray[np.float64]

    @property
    def better(self) -> NDArray[np.bool_]:
        """Where an atom there is clearly the better explanation, shape (m,)."""
        return np.asarray((self.height > 0.0) & (self.gain > self.rival + CLEARLY))


def explanations(templates: SublatticeTemplates, whitening: NDArray[np.float64]) -> Explanations:
    """What the patches around a place may show.

    Parameters
    ----------
    templates : SublatticeTemplates
        Of a place between the columns.
    whitening : ndarray of shape (n_moments, rank), float64
        Patches where nothing is, multiplied by it, have unit covariance.

    Returns
    -------
    Explanations
    """
    farthest = templates.away_px
    shifts = np.concatenate([np.zeros((1, 2)), trial_shifts(farthest)])
    terms = shift_terms(shifts, farthest, templates.moved.shape[1])
    seen = templates.moments @ whitening
    moved = np.asarray(templates.moved @ whitening)
    own = templates.heights[1:]
    unit = np.where(own > 0.0, own, 1.0)
    fixed = np.asarray(terms @ moved[1:])
    free = seen[1:, None] + fixed / unit[:, None, None]
    fixed[own == 0.0] = 0.0
    columns = templates.offset[: templates.n_columns]
    distance = np.hypot(*columns.T)
    near = np.flatnonzero(distance <= distance.min(initial=np.inf) * (1 + NEXT_SHARE))
    alone = moved[0] / templates.height
    room = LEAST_ROOM * _bond(columns)
    apart = np.hypot(*(shifts[:, None] - columns).transpose(2, 0, 1)).min(1, initial=np.inf)
    return Explanations(
        seen[0] + terms @ alone,
        alone,
        np.ascontiguousarray(
            np.concatenate([seen[1:, None], moved[1:]], 1).reshape(-1, whitening.shape[1]).T
        ),
        np.ascontiguousarray(terms.T),
        own,
        np.stack([(free * free).sum(2), (fixed * free).sum(2), (fixed * fixed).sum(2)]),
        np.linalg.qr(seen[1 + near].T)[0] if len(near) else np.zeros((whitening.shape[1], 0)),
        shifts,
        farthest,
        columns,
        room,
        np.flatnonzero(apart >= room - farthest / RINGS),
    )


def _bond(columns: NDArray[np.float64]) -> float:
    """Shortest distance between two of some columns [px]; 0 where there is one only."""
    apart = np.hypot(*(columns[:, None] - columns).transpose(2, 0, 1))
    return float(apart[np.triu_indices(len(columns), 1)].min(initial=np.inf)) if len(columns) > 1 else 0.0


def explanations_of(known: SublatticeModel) -> Explanations:
    """The same for a sublattice of a learnt model.

    Parameters
    ----------
    known : SublatticeModel
        Of a place between the columns.

    Returns
    -------
    Explanations
    """
    return _explanations_once(known.templates, ItSelf(known.whitening))


@lru_cache(maxsize=32)
def _explanations_once(templates: SublatticeTemplates, whitening: ItSelf) -> Explanations:
    # classes that follow the stream change neither
    return explanations(templates, whitening.value)


def fitted(
    patches: NDArray[np.float64], known: Explanations, unsure: NDArray[np.float64] | float = 1.0
) -> Fitted:
    """An atom between the columns, beside whatever else some patches may show.

    Parameters
    ----------
    patches : ndarray of shape (m, rank), float64
        Whitened moments, less those of patches where nothing is.
    known : Explanations
    unsure : ndarray of shape (m,), float64, or float, optional
        Standard deviation of a patch, that of noise being 1.

    Returns
    -------
    Fitted
    """
    m = len(patches)
    variance = np.broadcast_to(np.square(unsure), m)
    norm = np.einsum("sr,sr->s", known.source, known.source)
    explained = np.maximum(patches @ known.source.T, 0.0) ** 2 / norm
    rival = _columns_around(patches, known, variance)
    height, away, gain = np.zeros(m), np.zeros((m, 2)), np.zeros(m)
    # most places that are lit are so by a column beside them, and need not be looked at closely
    nearly = NEARLY * explained[:, known.free].max(1, initial=0.0) / variance
    some = np.flatnonzero(nearly > rival)
    if len(some):
        rival[some] = _rival(patches[some], known, variance[some], rival[some], nearly[some])
        some = some[nearly[some] > rival[some]]
    if len(some):
        mine = patches[some]
        near = known.shifts[explained[some].argmax(1)]
        _refine(mine, near, known.source[0], known.terms, known.farthest_px)
        away[some] = near
        shape = _at(away[some], known)
        heard = np.einsum("mr,mr->m", mine, shape)
        height[some] = heard / np.einsum("mr,mr->m", shape, shape)
        apart = np.hypot(*(near[:, None] - known.columns).transpose(2, 0, 1))
        height[some] *= apart.min(1, initial=np.inf) >= known.room_px
        gain[some] = np.maximum(height[some], 0.0) * heard / variance[some]
    return Fitted(height, away, gain, rival)


def sureness(gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations beyond which a normal variable is as rarely as noise explains so much anywhere in a place.

    Parameters
    ----------
    gain : ndarray of shape (m,), float64
        What an atom explains [sigma²]: of noise χ² with three degrees of freedom, its height and where it stands.

    Returns
    -------
    ndarray of shape (m,), float64
        By the first term of both tails; 0 where they do not hold.
    """
    return np.sqrt(np.maximum(gain - 2 * np.log(np.maximum(gain, 1.0)), 0.0)) * (gain > FREE)


def _columns_around(
    patches: NDArray[np.float64], known: Explanations, variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What other heights of the columns around explain, as much as an atom must explain beside it."""
    most = (np.einsum("mr,rq->mq", patches, known.heights) ** 2).sum(1) / variance
    return np.asarray(most + RARER - PENALTY * (known.heights.shape[1] - FREE))


def _rival(
    patches: NDArray[np.float64],
    known: Explanations,
    variance: NDArray[np.float64],
    most: NDArray[np.float64],
    enough: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What an atom at the place must explain beside all else that may; see `Fitted`.

    Neighbours are asked one after another, the nearest columns first, until one explains enough.
    """
    n_around, n_terms = len(known.height), len(known.shift_terms)
    heard = (patches @ known.around).reshape(-1, n_around, 1 + n_terms)
    moved = heard[:, :, 1:].reshape(-1, n_terms) @ known.shift_terms
    most = most.copy()
    _ask_around(
        np.ascontiguousarray(heard[:, :, 0]),
        moved.reshape(len(patches), n_around, -1),
        known.height,
        known.squares,
        variance,
        most,
        enough,
    )
    return most


@njit(cache=True, nogil=True)
def _ask_around(heard, moved, height, squares, variance, most, enough):  # pragma: no cover - compiled
    """Fill in what the neighbours explain; see `_rival`.

    heard (m, k): scalar products with what each height more adds; moved (m, k, n_shifts): with what each displacement
    does; height (k,), squares (3, k, n_shifts): see `Explanations`; variance, enough (m,); most (m,): changed in place.
    """
    norm, lean, lost = squares[0], squares[1], squares[2]
    for m in range(len(heard)):
        for k in range(len(height)):
            if most[m] >= enough[m]:
                break
            stands = height[k] != 0.0
            each = 1 / height[k] if stands else 1.0
            best = -np.inf
            for s in range(moved.shape[2]):
                along = heard[m, k] + each * moved[m, k, s] - lean[k, s]
                if stands:
                    explained = along**2 / norm[k, s] + 2 * moved[m, k, s] - lost[k, s]
                else:
                    explained = max(along, 0.0) ** 2 / norm[k, s]
                best = max(best, explained)
            best /= variance[m]
            # of two places between which an atom stands, either may have it
            most[m] = max(most[m], best + RARER if stands else (1 - AS_GOOD) * best)


def _at(away: NDArray[np.float64], known: Explanations) -> NDArray[np.float64]:
    """A column of height 1 somewhere around the place, shape (m, rank)."""
    return known.source[0] + shift_terms(away, known.farthest_px, len(known.terms)) @ known.terms


@njit(cache=True, nogil=True)
def _refine(patches, away, middle, terms, farthest):  # pragma: no cover - compiled
    """Move to where a column fits the patches best, from near there: Gauss and Newton's method.

    patches (m, rank); away (m, 2) [px]: where to begin, changed in place; middle (rank,) and terms (n_terms, rank): see
    `Explanations`.
    """
    step = STEP_SHARE * farthest
    rank = patches.shape[1]
    design, at, products = np.empty((3, rank)), np.empty((2, rank)), np.empty((1, len(terms)))
    normal, wanted = np.empty((3, 3)), np.empty(3)
    for m in range(len(patches)):
        for _ in range(N_STEPS):
            _shape_at(away[m, 0], away[m, 1], middle, terms, farthest, products, design[0])
            heard, square = 0.0, 0.0
            for r in range(rank):
                heard += patches[m, r] * design[0, r]
                square += design[0, r] ** 2
            height = heard / square
            for axis in range(2):
                for side in range(2):
                    way = step if side == 0 else -step
                    down, across = away[m, 0], away[m, 1]
                    if axis == 0:
                        down += way
                    else:
                        across += way
                    _shape_at(down, across, middle, terms, farthest, products, at[side])
                for r in range(rank):
                    design[1 + axis, r] = height * (at[0, r] - at[1, r]) / (2 * step)
            trace = 0.0
            for a in range(3):
                wanted[a] = 0.0
                for r in range(rank):
                    wanted[a] += design[a, r] * (patches[m, r] - height * design[0, r])
                for b in range(3):
                    normal[a, b] = 0.0
                    for r in range(rank):
                        normal[a, b] += design[a, r] * design[b, r]
                trace += normal[a, a]
            for a in range(3):
                normal[a, a] += 1e-9 * trace
            change = np.linalg.solve(normal, wanted)
            length = np.hypot(change[1], change[2])
            most = min(1.0, farthest / 5 / max(length, 1e-12))
            away[m, 0] += change[1] * most
            away[m, 1] += change[2] * most
            length = np.hypot(away[m, 0], away[m, 1])
            within = min(1.0, farthest / max(length, 1e-12))
            away[m, 0] *= within
            away[m, 1] *= within


@njit(cache=True, nogil=True)
def _shape_at(down, across, middle, terms, farthest, products, out):  # pragma: no cover - compiled
    """A column of height 1 somewhere around a place, into `out`; see `_at`."""
    shift = np.empty((1, 2))
    shift[0, 0], shift[0, 1] = down / farthest, across / farthest
    terms_of(shift, products)
    out[:] = middle
    for k in range(len(terms)):
        for r in range(len(out)):
            out[r] += products[0, k] * terms[k, r]


def light_error(templates: SublatticeTemplates) -> float:
    """Share of the light of an atom between the columns that may be wrong in the patches of a sublattice.

    Parameters
    ----------
    templates : SublatticeTemplates
        Of that sublattice.

    Returns
    -------
    float
    """
    return math.hypot(LIGHT_ERROR, templates.profile_error)


def settle_sources(
    position: NDArray[np.float64],
    frame: NDArray[np.int32],
    found: Sequence[tuple[NDArray[np.intp], Fitted]],
    apart_px: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height and place of every atom between the columns; what explains most comes first, and no other is near it.

    Parameters
    ----------
    position : ndarray of shape (n, 2), float64
        Of all sites (row, column) [px].
    frame : ndarray of shape (n,), int32
        Frame of each.
    found : sequence of tuple
        Of each kind of place: the sites that were fitted, an intp array of shape (m,), and what was found there.
    apart_px : float
        How near two atoms may be.

    Returns
    -------
    extra : ndarray of shape (n,), float64
        0 where nothing is.
    away : ndarray of shape (n, 2), float64
        From the middle of its place (row, column) [px].
    """
    extra, away = np.zeros(len(position)), np.zeros((len(position), 2))
    if not found:
        return extra, away
    row = np.concatenate([rows for rows, _ in found])
    better, gain, height, shift = (
        np.concatenate([getattr(fit, name) for _, fit in found])
        for name in ("better", "gain", "height", "away")
    )
    stands = position[row] + shift
    taken = np.zeros(0, np.intp)
    for k in np.argsort(-gain, kind="stable").tolist():
        if not better[k]:
            continue
        near = np.hypot(*(stands[taken] - stands[k]).T) < apart_px
        if (near & (frame[row[taken]] == frame[row[k]])).any():
            continue
        taken = np.append(taken, k)
        extra[row[k]], away[row[k]] = height[k], shift[k]
    return extra, away
