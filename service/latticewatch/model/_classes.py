"""Where a posterior is made: the classes of one sublattice, host and defects of every kind, as places in one space.

The axes are the height of the column, its displacement along two axes, what is left over along the directions of the
odd classes, and how odd the patch is as a whole: all in standard deviations of the host. Each class is a centroid with
a spread in it, and one `ClassTable` gives the posteriors. Where classes differ in height alone the other axes
cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.estimators import ClassTable
from latticewatch.model._judged import Heights, error_of
from latticewatch.model._mixture import TAIL_SHARE, TAIL_WIDTH, Mixture
from latticewatch.model._oddities import ODD_PRIOR, ODD_REACH, Oddities
from latticewatch.model._shifts import DIP_ERROR, LOOSE_WEIGHT, MISMATCH, SHIFT_ERROR
from latticewatch.model._sublattice import SublatticeModel

# Axes of the displacement, behind that of the height and before those of what is left over.
SHIFT = slice(1, 3)
LEFT_OVER = 3
# Steps in which the range of heights is looked for where the host is more probable than all else [standard deviations],
# and how probable it is there at least: more than the least that counts, as classes may be narrow.
HOST_STEPS = np.arange(0.0, 8.0, 0.05)
HOST_SURELY = 0.6
# A host with less than this share of its sublattice is one of several populations.
CROWDED_HOST = 0.75


class Place(NamedTuple):
    """A centroid: a class has one, or two where some of its members lie far out.

    Attributes
    ----------
    column : int
        Of the posteriors, that the place counts for.
    weight : float
        Share of the sublattice's sites.
    centroid, spread : tuple of float
        Along the axes of the space [sigma]; a spread is infinite where the place is anywhere. Of the axes behind the
        last one given nothing is said.
    reach : float
        Length of this *anywhere* [sigma].
    stretch : float
        How many times as wide as the class it is, the error of a site included.
    """

    column: int
    weight: float
    centroid: tuple[float, ...]
    spread: tuple[float, ...]
    reach: float = 1.0
    stretch: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SiteClasses:
    """All classes that a site of one sublattice may be of.

    Columns of its posteriors are the components of the mixture of heights, host first; then the kinds of odd patches;
    then the kinds of displacement, and last of them that of a column which is displaced in a way of its own; and last
    of all *of none*.

    Attributes
    ----------
    known : SublatticeModel
    heights : Heights
        On the axis of the height alone, for what only depends on it.
    in_place : ClassTable
        Without the displaced columns: those that may be are told by the gate.
    displaced : ClassTable
        All places.
    into : ndarray of shape (n_places,), int64
        Column of each place in `displaced`, in whose order those in place come first.
    """

    known: SublatticeModel
    heights: Heights
    in_place: ClassTable
    displaced: ClassTable
    into: NDArray[np.int64]

    @property
    def n_columns(self) -> int:
        """Columns of the posteriors of sites."""
        known = self.known
        return len(known.mixture.mean) + known.oddities.n_classes + len(known.shifts) + 2

    def of_sites(
        self,
        height: NDArray[np.float64],
        unsure: NDArray[np.float64],
        left_over: NDArray[np.float64],
        shift: NDArray[np.float64],
        scale: NDArray[np.float64],
        moved: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Probability of each class that a site may be of, and last of none.

        Parameters
        ----------
        height : ndarray of shape (n,), float64
            Change of the height of the column [sigma].
        unsure : ndarray of shape (n,), float64
            Standard deviation of its error, at least 1 [sigma].
        left_over : ndarray of shape (n, n_odd_axes + 1), float64
            Of `Oddities.left_over`; NaN where it is not asked.
        shift : ndarray of shape (n, 2), float64
            Displacement, in the units of its filter.
        scale : ndarray of shape (2,), float64
            Standard deviation of the hosts in these units.
        moved : ndarray of shape (n,), bool
            Columns that may be displaced. All others are in their place.

        Returns
        -------
        ndarray of shape (n, n_columns), float64
            Rows sum to one.
        """
        sites = np.full((len(height), LEFT_OVER + left_over.shape[1]), np.nan)
        sites[:, 0], sites[:, LEFT_OVER:] = height, left_over
        error = error_of(unsure, self.heights.deviation)
        n_still = len(self.in_place)
        if not moved.any():
            return self.in_place.posteriors(
                sites, error=error, into=self.into[:n_still], width=self.n_columns
            )
        out = np.empty((len(sites), self.n_columns))
        out[~moved] = self.in_place.posteriors(
            sites[~moved], error=error[~moved], into=self.into[:n_still], width=self.n_columns
        )
        sites[moved, SHIFT] = shift[moved] / scale
        offset = self._offset(height[moved], shift[moved], scale)
        out[moved] = self.displaced.rescaled(SHIFT, scale).posteriors(
            sites[moved], error=error[moved], offset=offset, into=self.into, width=self.n_columns
        )
        return out

    def _offset(
        self, height: NDArray[np.float64], shift: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Logarithm of what of the densities depends on the displacement or the height of a site by itself."""
        own = self.known.displacement
        square = ((shift / scale) ** 2).sum(1)
        offset = np.zeros((len(height), len(self.into)))
        # of no height that is known: the more it differs, the more it leaves in the filters of the displacement
        wide = 1 + (MISMATCH * height) ** 2
        none = int(np.flatnonzero(self.into == self.n_columns - 1)[0])
        offset[:, none] = -square / (2 * wide) - np.log(2 * np.pi * wide)
        # a displaced column keeps its height, but for what the displacement that was measured does to its filter
        dip = own.height_of(own.shift(shift))
        width = np.sqrt(1 + (DIP_ERROR * dip) ** 2 + SHIFT_ERROR**2 * square)
        level = -0.5 * ((height - dip) / width) ** 2 - np.log(width * np.sqrt(2 * np.pi))
        offset[:, len(self.in_place) :] = level[:, None]
        # in a way of its own: anywhere within reach
        far = np.hypot(*(own.of(own.farthest_px * np.eye(2)) / scale).T).mean()
        offset[:, -1] -= np.log(np.pi * far**2)
        return offset


@lru_cache(maxsize=32)
def site_classes(known: SublatticeModel) -> SiteClasses:
    """The classes of a sublattice, as places in one space.

    Parameters
    ----------
    known : SublatticeModel

    Returns
    -------
    SiteClasses
    """
    mixture, odd = known.mixture, known.oddities
    n_heights, n_odd = len(mixture.mean), odd.n_classes
    none = n_heights + n_odd + len(known.shifts) + 1
    heights = _height_places(mixture, n_heights)
    wide = [float(np.sqrt(1 + (MISMATCH * (m - mixture.mean[0])) ** 2)) for m in mixture.mean]
    # of none first, and the host last: the one is a place like no other, the other has several
    still = [
        place._replace(
            column=none if place.column == n_heights else place.column,
            centroid=(*place.centroid, 0.0, 0.0),
            spread=(*place.spread, *2 * [np.inf if place.column == n_heights else wide[place.column]]),
        )
        for place in heights
    ]
    host = still.pop(0)
    still += [host] if known.templates.void else _odd_places(host, odd, n_heights, none)
    moved = _displaced_places(known, n_heights + n_odd)
    n_axes = LEFT_OVER + (0 if known.templates.void else odd.axes.shape[1] + 1)
    return SiteClasses(
        known,
        _heights(known, heights),
        _table(still, n_axes),
        _table(still + moved, n_axes),
        np.array([place.column for place in still + moved], np.int64),
    )


def _heights(known: SublatticeModel, places: list[Place]) -> Heights:
    """What the kernels judge by."""
    mixture, table = known.mixture, _table(places, 1)
    into = np.array([place.column for place in places], np.int64)
    middle, deviation = float(mixture.mean[0]), float(mixture.deviation[0])
    low, high = _host_range(table, into, middle, deviation)
    sigma = float(known.filter.height_of_sigma)
    return Heights(
        table.centroids,
        table.spreads,
        table.stretches,
        *table.logarithms,
        into,
        low,
        high,
        deviation,
        # between the columns less than nothing is nothing
        middle if known.templates.void else -np.inf,
        (mixture.mean - middle) * sigma,
        sigma,
        bool(mixture.weight[0] < CROWDED_HOST),
    )


def _host_range(
    heights: ClassTable, into: NDArray[np.int64], middle: float, sigma: float
) -> tuple[float, float]:
    """Heights around the host's between which it is more probable than all else; none where it is not even there."""
    away = sigma * HOST_STEPS
    ends = []
    for side in (-1.0, 1.0):
        at = middle + side * away
        host = heights.posteriors(at[:, None], into=into, width=int(into.max()) + 1)[:, 0] > HOST_SURELY
        # the first step at which it is not ends the range before it
        ends.append(float(at[int(np.argmin(np.append(host, False))) - 1]) if host[0] else middle)
    return ends[0], ends[1]


def _height_places(mixture: Mixture, none: int) -> list[Place]:
    """The host; what fits no class; and the classes of changed height, some of whose members lie far out."""
    mean, deviation, weight = mixture.mean.tolist(), mixture.deviation.tolist(), mixture.weight.tolist()
    places = [
        Place(0, weight[0], (mean[0],), (deviation[0],)),
        Place(none, mixture.background, (mean[0],), (np.inf,), mixture.span),
    ]
    for k in range(1, len(mean)):
        places += [
            Place(k, (1 - TAIL_SHARE) * weight[k], (mean[k],), (deviation[k],)),
            Place(k, TAIL_SHARE * weight[k], (mean[k],), (TAIL_WIDTH * deviation[k],), stretch=TAIL_WIDTH),
        ]
    return places


def _odd_places(host: Place, odd: Oddities, first: int, none: int) -> list[Place]:
    """The host and what has its height: not odd, odd in a way of its own, and of each kind of odd patches."""
    share, contamination, wide = np.ones(1), 0.0, 1.0
    centres = np.zeros((1, odd.axes.shape[1]))
    if odd.classifier is not None:
        centres, share = odd.classifier.centroids_, odd.classifier.priors_
        contamination, wide = odd.classifier.contamination, odd.classifier.spread
    weight = (host.weight * (1 - contamination) * share).tolist()
    one = (1.0,) * centres.shape[1]
    usual = (*host.centroid, *centres[0].tolist())
    places = [
        Place(0, weight[0] * (1 - ODD_PRIOR), (*usual, 0.0), (*host.spread, *one, 1.0)),
        Place(none, weight[0] * ODD_PRIOR, (*usual, 0.0), (*host.spread, *one, np.inf), ODD_REACH),
    ]
    places += [
        Place(first + j - 1, weight[j], (*host.centroid, *centres[j].tolist()), (*host.spread, *one))
        for j in range(1, len(share))
    ]
    if contamination:
        scattered = (wide,) * centres.shape[1]
        for j, centre in enumerate(centres.tolist()):
            spread = (*host.spread, *scattered)
            places.append(
                Place(none, host.weight * contamination * float(share[j]), (*host.centroid, *centre), spread)
            )
    return places


def _displaced_places(known: SublatticeModel, first: int) -> list[Place]:
    """Kinds of displaced columns, whose height follows from their displacement; and, last, those that are displaced in
    a way of their own.
    """
    own, kinds = known.displacement, known.shifts
    places = []
    for k in range(len(kinds)):
        centre = own.of(kinds.centroid[k : k + 1])[0]
        spread = float(np.sqrt(1 + (kinds.spread[k] / own.sigma_px) ** 2))
        weight = max(float(kinds.weight[k]), 1e-6)
        places.append(Place(first + k, weight, (0.0, *centre.tolist()), (np.inf, spread, spread)))
    return [*places, Place(first + len(kinds), LOOSE_WEIGHT, (0.0, 0.0, 0.0), (np.inf, np.inf, np.inf))]


def _table(places: list[Place], n_axes: int) -> ClassTable:
    centroids, spreads = np.full((len(places), n_axes), np.nan), np.ones((len(places), n_axes))
    for row, place in enumerate(places):
        n = min(len(place.centroid), n_axes)
        centroids[row, :n], spreads[row, :n] = place.centroid[:n], place.spread[:n]
    reaches, stretches, weights = (
        np.array([getattr(place, name) for place in places], np.float64)
        for name in ("reach", "stretch", "weight")
    )
    return ClassTable(centroids, spreads, reaches, stretches, weights)
