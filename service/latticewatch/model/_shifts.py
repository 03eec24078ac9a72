"""Which columns are displaced: the strongest first, and what each does to its neighbours taken off before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._displacement import DisplacementFilter
from latticewatch.model._patches import Patches
from latticewatch.model._templates import SublatticeTemplates, shift_terms

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
    left, score = readings.z.copy(), readings.score.copy()
    echo = np.zeros(len(left))
    for i in candidates.tolist():
        length = float(np.hypot(*(left[i] / readings.scale[i])))
        if length**2 <= gate[i] * (1 + (ECHO_ERROR * echo[i]) ** 2):
            continue
        own = filters[int(readings.sublattice[i])]
        moved = own.shift(left[i : i + 1])[0]
        dip = float(own.height_of(moved[None])[0])
        if abs(score[i] - dip) > max(HEIGHT_SIGMA, SHARE * abs(dip), SHARE * length):
            continue
        shift[i] = moved
        for j, q in _seen_by(i, readings.index):
            other = filters[int(readings.sublattice[j])]
            heard = other.of(moved[None], q + 1)[0]
            left[j] -= heard
            echo[j] += float(np.hypot(*heard))
            score[j] -= other.height_of(moved[None], q + 1)[0]
    for i in np.flatnonzero(shift.any(1)).tolist():
        if _is_strain(i, shift, left, readings, filters):
            shift[i] = 0.0
    return shift


def _seen_by(i: int, index: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Sites that have a site in their patches, and as which of their neighbours."""
    found = []
    for j in index[i].tolist():
        if j >= 0:
            found += [(j, int(q)) for q in np.flatnonzero(index[j] == i)]
    return found


def _is_strain(
    i: int,
    shift: NDArray[np.float64],
    left: NDArray[np.float64],
    readings: Readings,
    filters: Sequence[DisplacementFilter],
) -> bool:
    around = [j for j in readings.index[i].tolist() if j >= 0]
    if not around:
        return False
    moved = np.stack(
        [
            left[j] @ filters[int(readings.sublattice[j])].px_of_sigma if not shift[j].any() else shift[j]
            for j in around
        ]
    ).mean(0)
    length = float(np.hypot(*shift[i]))
    return float(moved @ shift[i]) / length > STRAIN_SHARE * length


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
        at = patches.index[rows, : len(known.neighbour)]
        moved = np.asarray(self.shift.any(1))
        active = moved | (self.extra != 0.0)
        seen = (at >= 0) & active[at]
        which = np.flatnonzero(seen.any(1))
        change = np.zeros((len(which), known.moved.shape[2]))
        for q in np.flatnonzero(seen.any(0)).tolist():
            mine = np.flatnonzero(seen[which, q])
            other = at[which[mine], q]
            if q >= known.n_columns:
                shape = (
                    known.moments[q + 1]
                    + shift_terms(self.away[other], known.farthest_px) @ known.moved[q + 1]
                )
                change[mine] += self.extra[other, None] * shape
                continue
            some = moved[other]
            terms = shift_terms(self.shift[other[some]], known.farthest_px)
            change[mine[some]] += terms @ known.moved[q + 1]
        return which, change

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
        change = np.zeros((len(rows), known.moved.shape[2]))
        for effects, sign in ((self, 1.0), (before, -1.0)):
            which, light = effects.seen(patches, rows, known)
            change[which] += sign * light
        which = np.flatnonzero(change.any(1))
        return which, change[which]

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
