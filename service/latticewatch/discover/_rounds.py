"""Discovery: from the patches of a few frames to the classes in them, without a label.

For each sublattice in turn, and several times over, because each helps the next: the host's mean and noise; the matched
filter for a change of the central column; its output, standardised locally; a mixture grown on it; and what the defects
found so add to the patches of their neighbours, taken off before the next round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.discover._displaced import displacement_gate, shift_kinds
from latticewatch.discover._equivalence import equivalent_sublattices
from latticewatch.discover._filter import matched_filter
from latticewatch.discover._grow import LONE_CHANCE, above_host, bonferroni, grow_mixture
from latticewatch.discover._odd import find_oddities
from latticewatch.model import (
    MIN_SEPARATION,
    DisplacementFilter,
    Effects,
    MatchedFilter,
    Mixture,
    Patches,
    Readings,
    SublatticeModel,
    SublatticeTemplates,
    displacement_filter,
    expected_height,
    explanations,
    fitted,
    light_error,
    rescaled,
    settle_shifts,
    settle_sources,
    standardise,
    without_neighbours,
    without_unseen,
)
from latticewatch.model._local import unit_of
from latticewatch.model._projection import doubt, doubts
from latticewatch.model._shifts import ECHO_ERROR
from latticewatch.model._sources import APART

N_ROUNDS = 4
# Places between the columns that are looked at, in standard deviations of those where nothing is.
LIT_SIGMA = 4.0
# A class of neighbours is kept apart from the host when this many of it were seen.
MIN_NEIGHBOURS = 3
# A population with at least this share of its sublattice is a host too, as in an alloy: what is rare is a defect.
HOST_SHARE = 0.2
# Of fewer sites that look alike on one sublattice nothing is learnt: three quarters of them have a covariance.
FEWEST_HOSTS = 4
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
        Sites whose column is the host's, in its place.
    effects : Effects
        What is displaced, and what is between the columns.
    score : ndarray of shape (n,), float64
        Output of each site's filter, locally standardised: what the mixtures are of.
    """

    sublattices: tuple[Finding, ...]
    amplitude: NDArray[np.float64]
    host: NDArray[np.bool_]
    effects: Effects
    score: NDArray[np.float64]


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

    Returns
    -------
    Discovery
    """
    members = [np.flatnonzero(patches.sublattice == s) for s in range(len(templates))]
    amplitude = np.zeros(len(patches.moments))
    host = np.ones(len(patches.moments), bool)
    effects = Effects.none(len(host))
    group = list(range(len(templates)))
    results: list[_Round] = []
    mixtures: list[Mixture] = []
    for round_number in range(N_ROUNDS):
        still = _cleared(effects, patches, templates)
        results = [
            _measured(patches, still, rows, known, amplitude, host, first=round_number == 0)
            for rows, known in zip(members, templates, strict=True)
        ]
        # what is displaced is looked for with what is between the columns taken off, but not with itself
        alone = _Cleared(still.between, still.between)
        shift = _displaced(patches, alone, results, members, templates, amplitude, host)
        suspect = np.zeros(len(host), bool)
        if round_number == 0:
            # too early to say, but the spread of the hosts had better be measured without them
            suspect = _rare(np.asarray(shift.any(1)), members)
            shift = np.zeros_like(shift)
        host &= ~shift.any(1)
        if orders is not None:
            group = equivalent_sublattices(
                [r.matched.mean for r in results], [r.whitening for r in results], orders, templates
            )
            group = _places_together(group, templates)
        extra, away, results = _between(patches, still, results, members, templates)
        in_place = [np.asarray(~shift[rows].any(1)) for rows in members]
        mixtures = _grown_together(results, in_place, group, [known.void for known in templates])
        next_amplitude = np.zeros_like(amplitude)
        next_host = host.copy()
        for rows, result, mixture in zip(members, results, mixtures, strict=True):
            posterior = mixture.posteriors(result.score)
            next_host[rows] = posterior[:, 0] > 0.5
            next_amplitude[rows] = expected_height(result.score, posterior, mixture, result.matched)
        next_host &= ~shift.any(1)
        next_amplitude[shift.any(1)] = 0.0
        if round_number == 0:
            # what looks like a change beside something between the columns is looked at again without it
            beside = patches.index[extra != 0.0]
            next_host[beside[beside >= 0]] = True
            next_amplitude[beside[beside >= 0]] = 0.0
        next_host &= ~suspect
        effects = Effects(shift, extra, away)
        settled = bool((next_host == host).all()) and round_number > 1
        amplitude, host = next_amplitude, next_host
        if settled:
            break
    found = tuple(
        Finding(r.matched, r.whitening, mixture, g)
        for r, mixture, g in zip(results, mixtures, group, strict=True)
    )
    return Discovery(found, amplitude, host, effects, _by_site(results, members))


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
    effects = Effects(
        np.where(seen[:, None], found.effects.shift[site], 0.0),
        np.where(seen, found.effects.extra[site], 0.0),
        np.where(seen[:, None], found.effects.away[site], 0.0),
    )
    still = _cleared(effects, patches, templates)
    alone, results = [], []
    members = [np.flatnonzero(patches.sublattice == s) for s in range(len(templates))]
    for rows, known, averaged in zip(members, templates, found.sublattices, strict=True):
        result = _measured(patches, still, rows, known, amplitude, host)
        ratio = averaged.filter.height_of_sigma / result.matched.height_of_sigma
        mixture = rescaled(averaged.mixture, ratio, result.score)
        alone.append(Finding(result.matched, result.whitening, mixture, averaged.group))
        results.append(result)
    return Discovery(tuple(alone), amplitude, host, effects, _by_site(results, members))


def sublattice_models(
    found: Discovery,
    patches: Patches,
    templates: tuple[SublatticeTemplates, ...],
    seed: int = 0,
    times_seen: int = 1,
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
    times_seen : int, optional
        Frames that show each site.

    Returns
    -------
    tuple of SublatticeModel
        Without class ids of the catalogue yet (`learn_model` gives them): those of the mixture count from 0 on each
        sublattice.
    """
    models = []
    still = _cleared(found.effects, patches, templates)
    displacements = displacement_filters(found, patches, templates)
    for s, (known, one) in enumerate(zip(templates, found.sublattices, strict=True)):
        rows = np.flatnonzero(patches.sublattice == s)
        moments = without_neighbours(still.all, found.amplitude, rows, patches.index, known.columns)
        mean = one.filter.mean
        moments = without_unseen(moments, mean, one.whitening, known.columns, patches.index[rows])
        spanned = np.concatenate([known.columns, known.moved[0, :2]])
        unsure = _unsure(patches, still, rows, known, found.amplitude, one.whitening)
        oddities = find_oddities(
            moments,
            found.host[rows],
            mean,
            one.whitening,
            spanned,
            seed,
            unsure=unsure,
            # what is between the columns is told by its height alone
            times_seen=len(rows) + 1 if known.void else times_seen,
        )
        displacement, gate = displacements[s]
        mine = found.effects.shift[rows]
        mine = mine[mine.any(1)]
        kinds = shift_kinds(mine, displacement.sigma_px, len(rows))
        ids = np.arange(len(one.mixture.mean), dtype=np.int16)
        odd_ids = np.arange(oddities.n_classes, dtype=np.int16)
        models.append(
            SublatticeModel(
                known,
                one.filter,
                one.whitening,
                one.mixture,
                ids,
                {},
                oddities,
                odd_ids,
                displacement,
                gate,
                kinds,
                one.group,
            )
        )
    return tuple(models)


def displacement_filters(
    found: Discovery, patches: Patches, templates: tuple[SublatticeTemplates, ...]
) -> list[tuple[DisplacementFilter, float]]:
    """For each sublattice the filter of the displacement, and the squared length that chance does not bring.

    Parameters
    ----------
    found : Discovery
        In these patches.
    patches : Patches
    templates : tuple of SublatticeTemplates
    """
    still = _cleared(found.effects, patches, templates)
    out = []
    for s, (known, one) in enumerate(zip(templates, found.sublattices, strict=True)):
        rows = np.flatnonzero(patches.sublattice == s)
        own = displacement_filter(known, one.whitening, one.filter)
        moments = without_neighbours(still.all, found.amplitude, rows, patches.index, known.columns)
        raw = (moments - one.filter.mean) @ own.weights
        unsure = _unsure(patches, still, rows, known, found.amplitude, one.whitening)
        z, scale = _standardised(raw / unsure[:, None], patches, rows, found.host)
        out.append((own, displacement_gate(z[found.host[rows]] / scale)))
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Round:
    """What one round of discovery finds on one sublattice."""

    matched: MatchedFilter
    whitening: NDArray[np.float64]
    score: NDArray[np.float64]
    least: float


def _by_site(results: list[_Round], members: list[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Scores of all sites, from those of each sublattice."""
    score = np.zeros(sum(map(len, members)))
    for rows, result in zip(members, results, strict=True):
        score[rows] = result.score
    return score


class _Cleared(NamedTuple):
    """Moments of all patches without what is between the columns, and without what is displaced too."""

    between: NDArray[np.float32]
    all: NDArray[np.float32]


def _cleared(effects: Effects, patches: Patches, templates: tuple[SublatticeTemplates, ...]) -> _Cleared:
    between = replace(effects, shift=np.zeros_like(effects.shift)).taken_off(patches, templates)
    return _Cleared(between, effects.taken_off(patches, templates) if effects.shift.any() else between)


def _measured(
    patches: Patches,
    still: _Cleared,
    rows: NDArray[np.intp],
    known: SublatticeTemplates,
    amplitude: NDArray[np.float64],
    host: NDArray[np.bool_],
    *,
    first: bool = False,
) -> _Round:
    """The filter of one sublattice and what it says, given what is known of the sites; first: nothing is."""
    n = int(np.count_nonzero(host[rows]))
    if n < FEWEST_HOSTS:
        raise FloatingPointError(
            f"only {n} of {len(rows)} sites of one sublattice look alike, at least {FEWEST_HOSTS} are needed"
        )
    own = without_neighbours(still.all, amplitude, rows, patches.index, known.columns)
    mean = np.median(own[host[rows]], axis=0)
    matched, whitening = matched_filter(None if first else own[host[rows]], known, mean)
    own = without_unseen(own, mean, whitening, known.columns, patches.index[rows])
    unsure = _unsure(patches, still, rows, known, amplitude, whitening)
    score = standardise(
        matched(own) / unsure,
        patches.position[rows],
        patches.frame[rows],
        host[rows],
        patches.shape,
        crowded=first,
    )
    noise = min(float(matched.weights @ known.noise @ matched.weights), 1.0)
    return _Round(matched, whitening, score, MIN_SEPARATION + OWN_MARGIN * (1 - noise))


def _rare(which: NDArray[np.bool_], members: list[NDArray[np.intp]]) -> NDArray[np.bool_]:
    """Those of some sites that are rare on their sublattices; of many alike nothing is said."""
    rare = np.zeros(len(which), bool)
    for rows in members:
        if which[rows].sum() < HOST_SHARE * len(rows):
            rare[rows] = which[rows]
    return rare


def _displaced(
    patches: Patches,
    base: _Cleared,
    results: list[_Round],
    members: list[NDArray[np.intp]],
    templates: tuple[SublatticeTemplates, ...],
    amplitude: NDArray[np.float64],
    host: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Displacement of every column beside its place [px]."""
    z, scale, score = np.zeros((len(host), 2)), np.ones((len(host), 2)), np.zeros(len(host))
    filters, gates = [], []
    for rows, result, known in zip(members, results, templates, strict=True):
        found = displacement_filter(known, result.whitening, result.matched)
        moments = without_neighbours(base.all, amplitude, rows, patches.index, known.columns)
        raw = (moments - result.matched.mean) @ found.weights
        unsure = _unsure(patches, base, rows, known, amplitude, result.whitening)
        z[rows], scale[rows] = _standardised(raw / unsure[:, None], patches, rows, host)
        score[rows] = result.score
        filters.append(found)
        gates.append(np.inf if known.void else displacement_gate((z[rows] / scale[rows])[host[rows]]))
    return settle_shifts(Readings(z, scale, score, patches.sublattice, patches.index), filters, gates)


def _places_together(group: list[int], templates: tuple[SublatticeTemplates, ...]) -> list[int]:
    """Groups of sublattices in which places between the same columns of a grain are one, whichever way they point."""
    first: dict[tuple[int, tuple[int, ...]], int] = {}
    out = list(group)
    for s, known in enumerate(templates):
        if known.void:
            other = templates[group[s]]
            # the same place of another grain where that is one too, or else the first of its kind here
            alike = first.get((other.grain, other.around), s) if other.grain != known.grain else s
            out[s] = first.setdefault((known.grain, known.around), alike)
    return out


def _between(
    patches: Patches,
    still: _Cleared,
    results: list[_Round],
    members: list[NDArray[np.intp]],
    templates: tuple[SublatticeTemplates, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[_Round]]:
    """Height of what stands between the columns, how far from its place [px], and the rounds with that for scores.

    still: moments without what is known from the round before.
    """
    found, seen = [], []
    gain = np.zeros(len(patches.moments))
    for s, (rows, result, known) in enumerate(zip(members, results, templates, strict=True)):
        if known.void:
            lit = np.flatnonzero(result.score > LIT_SIGMA)
            whitened = (still.all[rows[lit]] - result.matched.mean) @ result.whitening
            unsure = np.hypot(1.0, _echo(patches, still, rows[lit], known, result.whitening))
            found.append((rows[lit], fitted(whitened, explanations(known, result.whitening), unsure)))
            gain[rows[lit]] = found[-1][1].gain
            seen.append(s)
    certain = bonferroni(sum(len(members[s]) for s in seen), LONE_CHANCE)
    apart = APART * templates[-1].farthest_px
    extra, away = settle_sources(patches.position, patches.frame, found, apart)
    settled = list(results)
    for s in seen:
        result, height = results[s], extra[members[s]]
        measured = height / result.matched.height_of_sigma
        # beside a bright column noise is more than in the middle: what may be chance is no surer than it explains
        sure = np.sqrt(gain[members[s]])
        measured = np.where(sure < certain, np.minimum(measured, sure), measured)
        score = np.where(height > 0.0, measured, np.minimum(result.score, LIT_SIGMA))
        settled[s] = replace(result, score=score)
    return extra, away, settled


def _unsure(
    patches: Patches,
    still: _Cleared,
    rows: NDArray[np.intp],
    known: SublatticeTemplates,
    amplitude: NDArray[np.float64],
    whitening: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Standard deviation of what is measured, that of noise being 1, for what is not known of the changes around."""
    unsure = doubt(amplitude, rows, patches.index, doubts(known, whitening))
    if still.all is patches.moments:
        return unsure
    return np.hypot(unsure, _echo(patches, still, rows, known, whitening))


def _echo(
    patches: Patches,
    still: _Cleared,
    rows: NDArray[np.intp],
    known: SublatticeTemplates,
    whitening: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What may be left in some patches of what was taken off them, shape (m,) [sigma]."""
    light = np.linalg.norm((patches.moments[rows] - still.between[rows]) @ whitening, axis=1)
    moved = np.linalg.norm((still.between[rows] - still.all[rows]) @ whitening, axis=1)
    return np.hypot(light_error(known) * light, ECHO_ERROR * moved)


def _standardised(
    raw: NDArray[np.float64], patches: Patches, rows: NDArray[np.intp], host: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displacements less their local level, shape (m, 2), and how they scatter among the hosts, shape (2,)."""
    place = patches.position[rows], patches.frame[rows], host[rows], patches.shape
    z = np.stack([standardise(np.ascontiguousarray(raw[:, axis]), *place) for axis in range(2)], 1)
    mine = host[rows]
    scale = np.array([unit_of(raw[mine, k], z[mine, k]) if mine.any() else 1.0 for k in range(2)])
    return z * scale, scale


def _grown_together(
    rounds: list[_Round], in_place: list[NDArray[np.bool_]], group: list[int], void: list[bool]
) -> list[Mixture]:
    """A mixture for each sublattice, the same one for those that are equivalent."""
    grown = {}
    for first in set(group):
        alike = [(r, kept) for r, kept, g in zip(rounds, in_place, group, strict=True) if g == first]
        values = np.concatenate([r.score[kept] for r, kept in alike])
        if void[first]:
            # less than nothing is nothing
            values = np.maximum(values, float(np.median(values)) - 3.0)
        grown[first] = grow_mixture(values, max(r.least for r, _ in alike))
        if void[first]:
            # fainter than what is looked at is what is left of the light of the columns
            grown[first] = above_host(grown[first], LIT_SIGMA)
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
        if model.templates.void:
            continue
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
