"""Discovery: from the patches of a few frames to the classes in them, without a label.

For each sublattice in turn, and several times over, because each helps the next: the host's mean and noise; the matched
filter for a change of the central column; its output, standardised locally; a mixture grown on it; and what the defects
found so add to the patches of their neighbours, taken off before the next round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.discover._equivalence import equivalent_sublattices
from latticewatch.discover._filter import matched_filter
from latticewatch.discover._grow import grow_mixture
from latticewatch.discover._odd import find_oddities
from latticewatch.model import (
    MIN_SEPARATION,
    MatchedFilter,
    Mixture,
    Patches,
    SublatticeModel,
    SublatticeTemplates,
    expected_height,
    rescaled,
    standardise,
    without_neighbours,
    without_unseen,
)
from latticewatch.model._projection import doubt, doubts

N_ROUNDS = 4
# A class of neighbours is kept apart from the host when this many of it were seen.
MIN_NEIGHBOURS = 3
# A population with at least this share of its sublattice is a host too, as in an alloy: what is rare is a defect.
HOST_SHARE = 0.2
# Where hosts differ by more than the noise of the pixels, they need not do so like a Gaussian: by so many standard
# deviations more a class must be away from them where all that they differ by is their own.
OWN_MARGIN = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What is found on one sublattice.

    Attributes
    ----------
    filter : MatchedFilter
    whitening : ndarray of shape (n_moments, rank), float64
        Host patches, multiplied by it, have unit covariance.
    mixture : Mixture
        Of the filter's output, locally standardised; host first.
    group : int
        First sublattice that symmetry maps onto this one.
    """

    filter: MatchedFilter
    whitening: NDArray[np.float64]
    mixture: Mixture
    group: int


@dataclass(frozen=True, slots=True, eq=False)
class Discovery:
    """What is found in some patches.

    Attributes
    ----------
    sublattices : tuple of Finding
    amplitude : ndarray of shape (n,), float64
        Change of height of the column at every site that is not host, 0 elsewhere.
    host : ndarray of shape (n,), bool
        Sites whose column is the host's.
    """

    sublattices: tuple[Finding, ...]
    amplitude: NDArray[np.float64]
    host: NDArray[np.bool_]


def discover(
    patches: Patches,
    templates: tuple[SublatticeTemplates, ...],
    orders: NDArray[np.int64] | None = None,
) -> Discovery:
    """Find the classes of every sublattice.

    Parameters
    ----------
    patches : Patches
    templates : tuple of SublatticeTemplates
    orders : ndarray of shape (2, n_moments), int, optional
        n and m of the moments; with them, sublattices that symmetry maps onto each other are learnt together.
    """
    members = [np.flatnonzero(patches.sublattice == s) for s in range(len(templates))]
    amplitude = np.zeros(len(patches.moments))
    host = np.ones(len(patches.moments), bool)
    group = list(range(len(templates)))
    results: list[_Round] = []
    mixtures: list[Mixture] = []
    for round_number in range(N_ROUNDS):
        results = [
            _measured(patches, rows, known, amplitude, host, first=round_number == 0)
            for rows, known in zip(members, templates, strict=True)
        ]
        if orders is not None:
            group = equivalent_sublattices(
                [r.matched.mean for r in results], [r.whitening for r in results], orders, templates
            )
        mixtures = _grown_together(results, group)
        next_amplitude = np.zeros_like(amplitude)
        next_host = host.copy()
        for rows, result, mixture in zip(members, results, mixtures, strict=True):
            posterior = mixture.posteriors(result.score)
            next_host[rows] = posterior[:, 0] > 0.5
            next_amplitude[rows] = expected_height(result.score, posterior, mixture, result.matched)
        settled = bool((next_host == host).all()) and round_number > 1
        amplitude, host = next_amplitude, next_host
        if settled:
            break
    found = tuple(
        Finding(r.matched, r.whitening, mixture, g)
        for r, mixture, g in zip(results, mixtures, group, strict=True)
    )
    return Discovery(found, amplitude, host)


def in_single_frames(
    found: Discovery,
    site: NDArray[np.int32],
    patches: Patches,
    templates: tuple[SublatticeTemplates, ...],
) -> Discovery:
    """What was found in averages of several frames, as single frames show it, with more noise.

    Parameters
    ----------
    found : Discovery
        In the averages.
    site : ndarray of shape (n,), int32
        Of every patch its row among the averages; -1 where it has none.
    patches : Patches
        Of the single frames.
    templates : tuple of SublatticeTemplates
    """
    seen = site >= 0
    amplitude = np.where(seen, found.amplitude[site], 0.0)
    host = seen & found.host[site]
    alone = []
    for s, (known, averaged) in enumerate(zip(templates, found.sublattices, strict=True)):
        rows = np.flatnonzero(patches.sublattice == s)
        result = _measured(patches, rows, known, amplitude, host)
        ratio = averaged.filter.height_of_sigma / result.matched.height_of_sigma
        mixture = rescaled(averaged.mixture, ratio, result.score)
        alone.append(Finding(result.matched, result.whitening, mixture, averaged.group))
    return Discovery(tuple(alone), amplitude, host)


def sublattice_models(
    found: Discovery, patches: Patches, templates: tuple[SublatticeTemplates, ...], seed: int = 0
) -> tuple[SublatticeModel, ...]:
    """Everything that is known of the sublattices in the end, the classes of odd sites among it.

    Parameters
    ----------
    found : Discovery
        In these patches.
    patches : Patches
    templates : tuple of SublatticeTemplates
    seed : int, optional
        For the layout of odd sites.

    Returns
    -------
    tuple of SublatticeModel
        Without class ids of the catalogue yet (`learn_model` gives them): those of the mixture count from 0 on each
        sublattice.
    """
    models = []
    for s, (known, one) in enumerate(zip(templates, found.sublattices, strict=True)):
        rows = np.flatnonzero(patches.sublattice == s)
        moments = without_neighbours(patches.moments, found.amplitude, rows, patches.index, known.moments)
        mean = one.filter.mean
        moments = without_unseen(moments, mean, one.whitening, known.moments, patches.index[rows])
        oddities = find_oddities(moments, found.host[rows], mean, one.whitening, known.moments, seed)
        ids = np.arange(len(one.mixture.mean), dtype=np.int16)
        odd_ids = np.arange(oddities.n_classes, dtype=np.int16)
        models.append(
            SublatticeModel(
                known, one.filter, one.whitening, one.mixture, ids, {}, oddities, odd_ids, one.group
            )
        )
    return tuple(models)


@dataclass(frozen=True, slots=True, eq=False)
class _Round:
    """What one round of discovery finds on one sublattice."""

    matched: MatchedFilter
    whitening: NDArray[np.float64]
    score: NDArray[np.float64]
    least: float


def _measured(
    patches: Patches,
    rows: NDArray[np.intp],
    known: SublatticeTemplates,
    amplitude: NDArray[np.float64],
    host: NDArray[np.bool_],
    *,
    first: bool = False,
) -> _Round:
    """The filter of one sublattice and what it says, given what is known of the sites; first: nothing is."""
    moments = without_neighbours(patches.moments, amplitude, rows, patches.index, known.moments)
    mean = np.median(moments[host[rows]], axis=0)
    matched, whitening = matched_filter(None if first else moments[host[rows]], known, mean)
    moments = without_unseen(moments, mean, whitening, known.moments, patches.index[rows])
    score = standardise(
        matched(moments) / doubt(amplitude, rows, patches.index, doubts(known, whitening)),
        patches.position[rows],
        patches.frame[rows],
        host[rows],
        patches.shape,
        crowded=first,
    )
    noise = min(float(matched.weights @ known.noise @ matched.weights), 1.0)
    return _Round(matched, whitening, score, MIN_SEPARATION + OWN_MARGIN * (1 - noise))


def _grown_together(rounds: list[_Round], group: list[int]) -> list[Mixture]:
    """A mixture for each sublattice, the same one for those that are equivalent."""
    grown = {}
    for first in set(group):
        alike = [r for r, g in zip(rounds, group, strict=True) if g == first]
        grown[first] = grow_mixture(np.concatenate([r.score for r in alike]), max(r.least for r in alike))
    return [grown[first] for first in group]


def neighbour_effect(model: SublatticeModel, direction: int, height: float) -> float:
    """Distance d' [sigma] from the host of a host patch whose neighbour in a direction changed its height."""
    return abs(height) * float(np.linalg.norm(model.templates.moments[direction + 1] @ model.whitening))


def visible_neighbours(
    models: tuple[SublatticeModel, ...], patches: Patches, verdict: NDArray[np.int16]
) -> list[tuple[int, int, int, int]]:
    """Every (sublattice, direction, sublattice of the defect, component of the defect) that forms a class.

    Parameters
    ----------
    models : tuple of SublatticeModel
    patches : Patches
    verdict : ndarray of shape (n,), int16
        Component of the mixture of each site's sublattice; 0 host, -1 none.
    """
    found = []
    for s, model in enumerate(models):
        hosts = np.flatnonzero((patches.sublattice == s) & (verdict == 0))
        within = np.hypot(*model.templates.offset.T) <= model.templates.radius
        for direction, (other, _, _) in enumerate(model.templates.neighbour):
            if not within[direction]:
                continue
            at = patches.index[hosts, direction]
            beside = np.where(at >= 0, verdict[at], 0)
            for component in range(1, len(models[other].mixture.mean)):
                defect = models[other]
                if defect.mixture.weight[component] >= HOST_SHARE:
                    continue
                height = (
                    defect.mixture.mean[component] - defect.mixture.mean[0]
                ) * defect.filter.height_of_sigma
                if neighbour_effect(model, direction, height) < MIN_SEPARATION:
                    continue
                if (beside == component).sum() >= MIN_NEIGHBOURS:
                    found.append((s, direction, int(other), component))
    return found
