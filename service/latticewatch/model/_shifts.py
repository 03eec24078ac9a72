"""Which columns are displaced: the strongest first, and what each does to its neighbours taken off before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.model._displacement import DisplacementFilter, shift_of
from latticewatch.model._patches import Patches
from latticewatch.model._templates import SublatticeTemplates, terms_of

# A displaced column keeps its height: within this many standard deviations, or this share of what the displacement
# itself does to the filters, which is known only so well.
HEIGHT_SIGMA = 4.0
SHARE = 0.3
# The same share, once what displaced neighbours do is taken off.
DIP_ERROR, SHIFT_ERROR = 0.15, 0.05
# Share of what a displaced column does to a patch beside it that may be wrong.
ECHO_ERROR = 0.1
# Share of the height of what stands between the columns that may still be there a place or two away.
GLARE = 0.01
GLARE_REACH = 3.0
# A column whose neighbours are displaced by this share of its own displacement, in its direction, follows a strain.
STRAIN_SHARE = 0.5
# Candidates looked at in a frame at most, the strongest ones: more than that are no single displaced columns.
MAX_CANDIDATES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What the filters say of the sites of a frame.

    Attributes
    ----------
    z : ndarray of shape (n, 2), float64
        Displacement, its local level taken off, in the units of the filters.
    scale : ndarray of shape (n, 2), float64
        Standard deviation of the hosts in these units.
    score : ndarray of shape (n,), float64
        Change of height, standardised [sigma].
    sublattice : ndarray of shape (n,), int
    index : ndarray of shape (n, k), int32
        Neighbours of every site; negative where there is none.
    """

    z: NDArray[np.float64]
    scale: NDArray[np.float64]
    score: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    index: NDArray[np.int32]


def settle_shifts(
    readings: Readings, filters: Sequence[DisplacementFilter], gates: Sequence[float]
) -> NDArray[np.float64]:
    """Displacement of every column that stands beside its place.

    Parameters
    ----------
    readings : Readings
    filters : sequence of DisplacementFilter
        Of each sublattice.
    gates : sequence of float
        Of each sublattice, the squared length [sigma²] that chance does not bring.

    Returns
    -------
    ndarray of shape (n, 2), float64
        Row and column [px]; zero where a column is in its place.
    """
    shift = np.zeros_like(readings.z)
    gate = np.array([*gates, np.inf])[readings.sublattice]
    square = ((readings.z / readings.scale) ** 2).sum(1)
    candidates = np.flatnonzero(square > gate)
    if not len(candidates):
        return shift
    candidates = candidates[np.argsort(-square[candidates], kind="stable")][:MAX_CANDIDATES]
    _settle(
        candidates,
        readings.z.copy(),
        readings.score.copy(),
        readings.scale,
        gate,
        readings.sublattice,
        readings.index,
        *_side_by_side(tuple(filters)),
        shift,
    )
    return shift


class _Filters(NamedTuple):
    """The filters of all sublattices in one array each; see `DisplacementFilter`. Places that one lacks are 0."""

    px_of_sigma: NDArray[np.float64]
    says: NDArray[np.float64]
    height_says: NDArray[np.float64]
    farthest_px: NDArray[np.float64]


@lru_cache(maxsize=16)
def _side_by_side(filters: tuple[DisplacementFilter, ...]) -> _Filters:
    most = max(len(own.says) for own in filters)
    says = np.zeros((len(filters), most, *filters[0].says.shape[1:]))
    height_says = np.zeros(says.shape[:3])
    for s, own in enumerate(filters):
        says[s, : len(own.says)], height_says[s, : len(own.says)] = own.says, own.height_says
    return _Filters(
        np.stack([own.px_of_sigma for own in filters]),
        says,
        height_says,
        np.array([own.farthest_px for own in filters]),
    )


@njit(cache=True, nogil=True)
def _settle(
    candidates, left, score, scale, gate, sublattice, index, px_of_sigma, says, height_says, farthest, shift
):  # pragma: no cover - compiled
    """Fill in the displacements, the strongest candidate first; `left` and `score` are used up. See `settle_shifts`."""
    echo = np.zeros(len(left))
    terms = np.empty((1, says.shape[2]))
    for i in candidates:
        s = sublattice[i]
        length = np.hypot(left[i, 0] / scale[i, 0], left[i, 1] / scale[i, 1])
        if length**2 <= gate[i] * (1 + (ECHO_ERROR * echo[i]) ** 2):
            continue
        moved = shift_of(left[i : i + 1], px_of_sigma[s], says[s, 0], farthest[s])
        terms_of(moved / farthest[s], terms)
        dip = _product(terms[0], height_says[s, 0])
        if abs(score[i] - dip) > max(HEIGHT_SIGMA, SHARE * abs(dip), SHARE * length):
            continue
        shift[i] = moved[0]
        for j in index[i]:
            if j < 0:
                continue
            t = sublattice[j]
            terms_of(moved / farthest[t], terms)
            for q in range(index.shape[1]):
                if index[j, q] != i:
                    continue
                down = _product(terms[0], says[t, q + 1, :, 0])
                across = _product(terms[0], says[t, q + 1, :, 1])
                left[j, 0] -= down
                left[j, 1] -= across
                echo[j] += np.hypot(down, across)
                score[j] -= _product(terms[0], height_says[t, q + 1])
    for i in range(len(shift)):
        if (shift[i, 0] != 0.0 or shift[i, 1] != 0.0) and _is_strain(
            i, shift, left, sublattice, index, px_of_sigma
        ):
            shift[i] = 0.0


@njit(cache=True, nogil=True)
def _product(a, b):  # pragma: no cover - compiled
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@njit(cache=True, nogil=True)
def _is_strain(i, shift, left, sublattice, index, px_of_sigma):  # pragma: no cover - compiled
    """Whether the neighbours of a displaced column, on average, follow it."""
    n, down, across = 0, 0.0, 0.0
    for j in index[i]:
        if j < 0:
            continue
        n += 1
        if shift[j, 0] != 0.0 or shift[j, 1] != 0.0:
            down += shift[j, 0]
            across += shift[j, 1]
        else:
            own = px_of_sigma[sublattice[j]]
            down += left[j, 0] * own[0, 0] + left[j, 1] * own[1, 0]
            across += left[j, 0] * own[0, 1] + left[j, 1] * own[1, 1]
    length = np.hypot(shift[i, 0], shift[i, 1])
    return n > 0 and (down * shift[i, 0] + across * shift[i, 1]) / n > STRAIN_SHARE * length**2


@dataclass(frozen=True, slots=True, eq=False)
class ShiftKinds:
    """The kinds of displaced columns of one sublattice.

    Attributes
    ----------
    centroid : ndarray of shape (m, 2), float64
        Displacement (row, column) of each kind [px].
    spread : ndarray of shape (m,), float64
        Standard deviation within a kind along either axis, beside the noise [px].
    weight : ndarray of shape (m,), float64
        Share of the sublattice's sites.
    class_ids : ndarray of shape (m,), int16
    loose_id : int
        Class of those that are displaced in a way of their own; -1 where there is none yet.
    """

    centroid: NDArray[np.float64]
    spread: NDArray[np.float64]
    weight: NDArray[np.float64]
    class_ids: NDArray[np.int16]
    loose_id: int = -1

    @classmethod
    def none(cls) -> ShiftKinds:
        """No kind is known."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0, np.int16))

    def __len__(self) -> int:
        return len(self.centroid)


# Share of the sites that are displaced in a way of their own, a priori.
LOOSE_WEIGHT = 1e-4
# Heights of changed columns leave this share of their change in the filter of the displacement.
MISMATCH = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """What sites of a frame do to the patches around, beside changes of the height of columns.

    Attributes
    ----------
    shift : ndarray of shape (n, 2), float64
        Displacement (row, column) of every column [px].
    extra : ndarray of shape (n,), float64
        Height of what is at every place between the columns, 0 where nothing is.
    away : ndarray of shape (n, 2), float64
        How far (row, column) that stands from the middle of its place [px].
    """

    shift: NDArray[np.float64]
    extra: NDArray[np.float64]
    away: NDArray[np.float64]

    @classmethod
    def none(cls, n: int) -> Effects:
        """Nothing is displaced or between the columns.

        Parameters
        ----------
        n : int
            Sites of the frame.

        Returns
        -------
        Effects
        """
        return cls(np.zeros((n, 2)), np.zeros(n), np.zeros((n, 2)))

    def __bool__(self) -> bool:
        return bool(self.shift.any() or self.extra.any())

    @property
    def active(self) -> NDArray[np.bool_]:
        """Sites that do anything, shape (n,)."""
        return (self.shift[:, 0] != 0.0) | (self.shift[:, 1] != 0.0) | (self.extra != 0.0)

    def seen(
        self, patches: Patches, rows: NDArray[np.intp], known: SublatticeTemplates
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """What it adds to the patches around.

        Parameters
        ----------
        patches : Patches
        rows : ndarray of shape (m,), intp
            Patches of one sublattice.
        known : SublatticeTemplates
            Of that sublattice.

        Returns
        -------
        which : ndarray of shape (q,), intp
            Rows among those given that see any.
        change : ndarray of shape (q, n_moments), float64
            What it adds to their moments.
        """
        which = np.flatnonzero(_see(patches.index, rows, len(known.neighbour), self.active))
        return which, self._light(patches.index, rows[which], known)

    def beyond(
        self, before: Effects, patches: Patches, rows: NDArray[np.intp], known: SublatticeTemplates
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """What it adds to the patches around beside what others did; see `seen`.

        Parameters
        ----------
        before : Effects
            What was taken off already.
        patches : Patches
        rows : ndarray of shape (m,), intp
            Patches of one sublattice.
        known : SublatticeTemplates
            Of that sublattice.

        Returns
        -------
        which : ndarray of shape (q,), intp
        change : ndarray of shape (q, n_moments), float64
        """
        active = self.active | before.active
        which = np.flatnonzero(_see(patches.index, rows, len(known.neighbour), active))
        change = self._light(patches.index, rows[which], known)
        change -= before._light(patches.index, rows[which], known)
        some = np.flatnonzero(change.any(1))
        return which[some], change[some]

    def _light(
        self, index: NDArray[np.int32], rows: NDArray[np.intp], known: SublatticeTemplates
    ) -> NDArray[np.float64]:
        """What it adds to the moments of some patches of one sublattice."""
        return _light(
            index,
            rows,
            known.n_columns,
            self.shift,
            self.extra,
            self.away,
            known.moments,
            known.moved,
            known.farthest_px,
            known.away_px,
        )

    def taken_off(self, patches: Patches, templates: Sequence[SublatticeTemplates]) -> NDArray[np.float32]:
        """Moments of all patches without it.

        Parameters
        ----------
        patches : Patches
            Of the frame.
        templates : sequence of SublatticeTemplates
            One for each sublattice.

        Returns
        -------
        ndarray of shape (n, n_moments), float32
            The moments of `patches` themselves where there is nothing to take off.
        """
        if not self:
            return patches.moments
        out = patches.moments.copy()
        for s, known in enumerate(templates):
            rows = np.flatnonzero(patches.sublattice == s)
            which, change = self.seen(patches, rows, known)
            out[rows[which]] -= change
        return out


@njit(cache=True, nogil=True)
def _see(index, rows, n_neighbours, active):  # pragma: no cover - compiled
    """Which rows have an active neighbour."""
    out = np.zeros(len(rows), np.bool_)
    for m in range(len(rows)):
        for q in range(n_neighbours):
            j = index[rows[m], q]
            if j >= 0 and active[j]:
                out[m] = True
                break
    return out


@njit(cache=True, nogil=True)
def _light(
    index, rows, n_columns, shift, extra, away, moments, moved, farthest, between
):  # pragma: no cover - compiled
    """What displaced columns and atoms between the columns add to the moments of some patches, (m, n_moments)."""
    out = np.zeros((len(rows), moments.shape[1]))
    terms = np.empty((1, moved.shape[1]))
    for m in range(len(rows)):
        for q in range(len(moments) - 1):
            j = index[rows[m], q]
            if j < 0:
                continue
            factor = 1.0
            if q < n_columns:
                if shift[j, 0] == 0.0 and shift[j, 1] == 0.0:
                    continue
                terms_of(shift[j : j + 1] / farthest, terms)
            else:
                factor = extra[j]
                if factor == 0.0:
                    continue
                terms_of(away[j : j + 1] / between, terms)
                for p in range(out.shape[1]):
                    out[m, p] += factor * moments[q + 1, p]
            for k in range(terms.shape[1]):
                share = factor * terms[0, k]
                for p in range(out.shape[1]):
                    out[m, p] += share * moved[q + 1, k, p]
    return out


def glare(
    position: NDArray[np.float64], rows: NDArray[np.intp], extra: NDArray[np.float64], reach_px: float
) -> NDArray[np.float64]:
    """Light that may be wrong at places between the columns, from what stands at others nearby.

    Parameters
    ----------
    position : ndarray of shape (n, 2), float64
        Of all sites (row, column) [px].
    rows : ndarray of shape (m,), intp
        Places between the columns.
    extra : ndarray of shape (n,), float64
        Height of what stands at every place.
    reach_px : float
        How far it shines.

    Returns
    -------
    ndarray of shape (m,), float64
        In heights.
    """
    out = np.zeros(len(rows))
    for i in np.flatnonzero(extra).tolist():
        apart = np.hypot(*(position[rows] - position[i]).T)
        out += np.where((apart > 0.0) & (apart < reach_px), GLARE * abs(extra[i]), 0.0) ** 2
    return np.sqrt(out)
