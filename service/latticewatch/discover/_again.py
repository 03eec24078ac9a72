"""Classes are looked for anew in what tracks have gathered, and taken up into the model that is in use.

The average of n frames has √n times less noise than one, so what a few frames did not show comes out as the stream
goes on. The search (`search`) takes some tenths of a second and runs beside the stream; what it finds (`taken_up`)
becomes part of the model between two frames, and what the averages say of each site is told to its track.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.special import bdtrc, pdtrc, stdtr

from latticewatch.discover._beside import with_neighbours
from latticewatch.discover._births import PatchOf
from latticewatch.discover._grow import RELATIVE_SPREAD, tail_freedom
from latticewatch.discover._rounds import HOST_SHARE, Discovery, discover, displacement_filters
from latticewatch.features import ZernikeDisk
from latticewatch.model import (
    CatalogueEntry,
    DisplacementFilter,
    Mixture,
    Model,
    Patches,
    SublatticeModel,
    SublatticeTemplates,
    defect_name,
    gather_patches,
    host_name,
    named_change,
    rescaled,
    unique,
)
from latticewatch.robust import median_and_spread

# A class found anew is one that is known where their heights differ by less than this share, or the noise.
SAME_SHARE = 0.33
SAME_SIGMA = 2.0
# Two known classes are one where the averages show one and tell them apart by less than this [standard deviations].
ONE_SIGMA = 1.0
# A name that says a height says another one where it has come out so far from it, as a share of the host's.
RENAME_SHARE = 0.1
# Classes farther from their host than this are seen in every frame, and followed there [standard deviations].
HIDDEN_SIGMA = 4.0
# A rare class that only averages show has more sites than noise brings so far from the host with this probability, in
# any of the searches so far: a stream is searched again and again.
CHANCE_P = 1e-5
# Sites of a class that only averages show are explained by larger changes near them, where chance would bring so many
# near with less than this probability.
EXPLAINED_P = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """What a search has found.

    Attributes
    ----------
    found : Discovery
        In the averages.
    displacements : list of (DisplacementFilter, float)
        For each sublattice the filter of displacements, and the gate.
    templates : tuple of SublatticeTemplates
        With the noise of the averages.
    patches : Patches
        The averages.
    frames : float
        How many frames each is the average of.
    """

    found: Discovery
    displacements: list[tuple[DisplacementFilter, float]]
    templates: tuple[SublatticeTemplates, ...]
    patches: Patches
    frames: float


@dataclass(frozen=True, slots=True, eq=False)
class Renewed:
    """A model with what a search found in it.

    Attributes
    ----------
    model : Model
    found : list of int
        Classes that are new.
    renamed : dict
        Old name of each class whose name says another height now.
    merged : dict
        Class that each class which turned out to be the same is part of.
    hidden : set of int
        Classes of which a single frame says little.
    posterior : ndarray of shape (n, n_classes + 1), float32
        What the averages say of each site, in the order of the catalogue of `model`.
    """

    model: Model
    found: list[int]
    renamed: dict[int, str]
    merged: dict[int, int]
    hidden: set[int]
    posterior: NDArray[np.float32]


def averaged_patches(
    model: Model,
    moments: NDArray[np.float32],
    position: NDArray[np.float64],
    sublattice: NDArray[np.int16],
    cell: NDArray[np.int32],
    shape: tuple[int, int],
) -> Patches:
    """Averages of sites with a column, with their neighbours.

    Parameters
    ----------
    model : Model
    moments : ndarray of shape (n, n_moments), float32
    position : ndarray of shape (n, 2), float64
        In the newest frame [px].
    sublattice : ndarray of shape (n,), int16
    cell : ndarray of shape (n, 2), int32
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    Patches
    """
    return gather_patches([(moments, position, sublattice, cell)], _columns_alone(model), shape)


def _columns_alone(model: Model) -> tuple[SublatticeTemplates, ...]:
    """Templates as if nothing could be between the columns; resampling is taken off the moments already."""
    return tuple(
        replace(known.templates.without_voids(), resampling=None)
        for known in model.sublattices[: model.n_columns]
    )


def search(model: Model, patches: Patches, frames: float) -> Searched | None:
    """Find the classes in averages of many frames.

    Parameters
    ----------
    model : Model
    patches : Patches
        Of `averaged_patches`.
    frames : float
        How many frames each is the average of.

    Returns
    -------
    Searched or None
        None where the sites do not suffice.
    """
    quiet = tuple(replace(known, noise=known.noise / frames) for known in _columns_alone(model))
    zernike = ZernikeDisk(model.n_max, model.patch_px)
    try:
        found = discover(patches, quiet, np.stack([zernike.n_, zernike.m_]))
        return Searched(found, displacement_filters(found, patches, quiet), quiet, patches, frames)
    except (np.linalg.LinAlgError, FloatingPointError):
        return None


def taken_up(
    model: Model,
    searched: Searched,
    patches: Patches,
    next_class: int,
    patch: PatchOf,
    number: int = 1,
) -> Renewed | None:
    """The next version of a model, with what was found in the averages.

    Parameters
    ----------
    model : Model
        In use now; classes may have been born in it while the search went on.
    searched : Searched
    patches : Patches
        The averages as they are now.
    next_class : int
        Number for the first new class.
    patch : callable
        ``patch(rows, size)`` gives the average patch of some of the sites in the newest frame.
    number : int, optional
        Searches so far, this one among them.

    Returns
    -------
    Renewed or None
        None where the frames one by one show all that the averages do.
    """
    change = _Change(model, next_class, _times_larger(model, searched), CHANCE_P / max(number, 1))
    for s in _with_own_classes(model):
        change.take_up(s, searched)
    if not change.hidden:
        return None
    grown = change.model
    averages = _in_averages(grown, searched, change, patches)
    verdict = averages.classify(patches)
    best = grown.class_ids[verdict.posterior.argmax(1)]
    classes = tuple(
        replace(
            entry,
            average=patch(np.flatnonzero(best == entry.class_id).tolist(), grown.patch_px),
            total=int((best == entry.class_id).sum()),
        )
        if entry.class_id in change.found
        else entry
        for entry in grown.classes
    )
    grown = replace(grown, classes=classes)
    found = with_neighbours(grown, verdict.posterior.argmax(1), patches, frozenset(change.found))
    grown = replace(grown, version=model.version + 1, classes=found)
    return Renewed(grown, change.found, change.renamed, change.merged, change.hidden, verdict.posterior)


def _with_own_classes(model: Model) -> list[int]:
    """The first sublattice of each of those that share their classes."""
    hosts: dict[int, int] = {}
    for s in range(model.n_columns):
        hosts.setdefault(int(model.sublattices[s].class_ids[0]), s)
    return list(hosts.values())


def _times_larger(model: Model, searched: Searched) -> float:
    """How many times higher the same classes are in the averages than in frames now, by those that every frame shows.

    Averages lag behind where dose and focus drift. And where columns have become wider than their templates, the filter
    that suits little noise measures another share of them than that which suits the noise of a frame. Either is alike
    for all classes.
    """
    ratios: list[float] = []
    for s in _with_own_classes(model):
        known, found = model.sublattices[s], searched.found.sublattices[s]
        old, width = known.mixture.mean - known.mixture.mean[0], float(known.mixture.deviation[0])
        plain = np.flatnonzero(np.abs(old) > HIDDEN_SIGMA * width)
        old = old[plain] * known.filter.height_of_sigma
        sigma = found.filter.height_of_sigma
        new = (found.mixture.mean[1:] - found.mixture.mean[0]) * sigma
        ratios += [float(new[k] / old[j]) for k, j in _pairs(old, new, sigma).items()]
    return float(np.median(ratios)) if ratios else 1.0


def _by_themselves(searched: Searched, s: int, height: float, spread: float, reach_px: float) -> bool:
    """Whether nothing larger around the sites with a change of height explains it.

    What is left of a larger change in the patches around it is alike at each place around it, so it comes out as a
    class of its own once enough frames are averaged. Such sites are beside something larger, or near it more often
    than chance has it.
    """
    amplitude, patches = searched.found.amplitude, searched.patches
    mine = patches.sublattice == s
    members = mine & (amplitude != 0.0) & (np.abs(amplitude - height) < 2 * spread)
    larger = np.abs(amplitude) > abs(height) + spread
    beside = patches.index[members]
    next_to = (larger[np.maximum(beside, 0)] & (beside >= 0)).any(1)
    if 2 * next_to.sum() >= members.sum():
        return False
    others = mine & ~members & ~larger
    if not larger.any() or not others.any():
        return True
    distance, _ = KDTree(patches.position[larger]).query(patches.position[mine])
    near = np.zeros(len(mine), bool)
    near[mine] = distance < reach_px
    usual = float(near[others].mean())
    chance = bdtrc(int(near[members].sum()) - 1, int(members.sum()), usual)
    return bool(chance >= EXPLAINED_P)


def _by_chance(searched: Searched, s: int, k: int, chance: float = CHANCE_P) -> bool:
    """Whether noise alone, with some chance, may bring as many sites as far from the host as those of a class are.

    It brings so many beyond the nearest of them on average; how long its tails are is known from the hosts alone, and
    of few hosts badly (Student's t, as for a lone site).
    """
    found = searched.found
    one = found.sublattices[s]
    alike = [r for r, other in enumerate(found.sublattices) if other.group == one.group]
    mine = np.isin(searched.patches.sublattice, alike) & ~found.effects.shift.any(1)
    score, mixture = found.score[mine], one.mixture
    members = mixture.posteriors(score).argmax(1) == k
    if not members.any():
        return True
    away = np.sign(mixture.mean[k] - mixture.mean[0]) * (score - mixture.mean[0]) / mixture.deviation[0]
    usual = len(score) * stdtr(tail_freedom(len(score)), -float(away[members].min()))
    return bool(pdtrc(int(members.sum()) - 1, usual) >= chance)


class _Change:
    """A model that takes up what was found, one sublattice after another."""

    def __init__(self, model: Model, next_class: int, times: float = 1.0, chance: float = CHANCE_P) -> None:
        self.model = model
        self.chance = chance
        # heights in the averages, beside those in frames now
        self.times = times
        # by host, how much lower or higher than it each component was found in the averages, and its own spread
        self.seen: dict[int, dict[int, tuple[float, float]]] = {}
        self.found: list[int] = []
        self.renamed: dict[int, str] = {}
        self.merged: dict[int, int] = {}
        self.hidden: set[int] = set()
        self._next_class = next_class
        self._taken = {entry.name for entry in model.classes}

    def take_up(self, s: int, searched: Searched) -> None:
        """Take up what was found on a sublattice, and on those that share its classes."""
        found = searched.found.sublattices[s].mixture
        # heights are those of frames now
        sigma = searched.found.sublattices[s].filter.height_of_sigma / self.times
        known = self.model.sublattices[s]
        mixture, single = known.mixture, known.filter.height_of_sigma
        old = (mixture.mean - mixture.mean[0]) * single
        new = (found.mean - found.mean[0]) * sigma
        own = np.sqrt(np.maximum(found.deviation**2 - found.deviation[0] ** 2, 0.0)) * sigma
        pairs = _pairs(old[1:], new[1:], sigma)
        mean, deviation, weight = mixture.mean.copy(), mixture.deviation.copy(), mixture.weight.copy()
        ids = known.class_ids
        paired = {j + 1: k + 1 for k, j in pairs.items()}
        width = float(mixture.deviation[0])
        for k in range(1, len(new)):
            j = pairs.get(k - 1, -2) + 1
            place, spread = mixture.mean[0] + new[k] / single, np.hypot(width, own[k] / single)
            plain = abs(place - mean[0]) > HIDDEN_SIGMA * width
            if j > 0 and not plain:
                # where the stream drifts, averages lag behind: what every frame shows is followed there
                self.hidden.add(int(ids[j]))
                mean[j], deviation[j], weight[j] = place, spread, max(found.weight[k], 1e-5)
            if j > 0:
                continue
            near = np.abs(old - new[k]) < np.hypot(own[k], sigma)
            if plain or near.any():
                continue
            if found.weight[k] < HOST_SHARE and _by_chance(searched, s, k, self.chance):
                continue
            there = self.times * new[k], self.times * own[k], self.times * sigma
            spread_there = float(np.hypot(*there[1:]))
            if not _by_themselves(searched, s, there[0], spread_there, float(self.model.patch_px)):
                continue
            number = self._add(
                s, new[k] / known.templates.height, float(found.weight[k]), abs(place - mean[0])
            )
            mean, deviation = np.append(mean, place), np.append(deviation, spread)
            weight, ids = np.append(weight, found.weight[k]), np.append(ids, np.int16(number))
            self.hidden.add(number)
            paired[len(mean) - 1] = k
        self.seen[int(ids[0])] = {
            j: (self.times * float(new[k]), self.times * float(own[k])) for j, k in paired.items()
        }
        self._merge(known, old, new, own, sigma, paired)
        weight[0] = max(1 - weight[1:].sum(), 0.0)
        weight *= (1 - mixture.background) / weight.sum()
        span = max(float(mixture.span), 2 * float(np.abs(new).max(initial=0.0)) / single)
        grown = replace(mixture, mean=mean, deviation=deviation, weight=weight, span=span)
        self._put(known, grown, ids)

    def _add(self, s: int, share: float, weight: float, separation: float) -> int:
        common = weight >= HOST_SHARE
        name = host_name(s, share) if common else defect_name(s, share)
        number = self._next_class + len(self.found)
        host = int(self.model.sublattices[s].class_ids[0])
        blank = np.zeros((0, 0), np.float32)
        role = "host" if common else "defect"
        entry = CatalogueEntry(number, unique(name, self._taken), role, s, host, 0, weight, separation, blank)
        self.model = replace(self.model, classes=(*self.model.classes, entry))
        self.found.append(number)
        return number

    def _merge(
        self,
        known: SublatticeModel,
        old: NDArray[np.float64],
        new: NDArray[np.float64],
        own: NDArray[np.float64],
        sigma: float,
        paired: dict[int, int],
    ) -> None:
        """Classes of which the averages show one where the model has two."""
        alias = self.model.alias
        roles = {entry.class_id: entry.role for entry in self.model.classes}
        for j in range(1, len(old)):
            mine = int(known.class_ids[j])
            far = (
                abs(old[j]) > HIDDEN_SIGMA * float(known.mixture.deviation[0]) * known.filter.height_of_sigma
            )
            if far or j in paired or mine in alias or mine not in roles:
                continue
            for i, k in paired.items():
                other = int(known.class_ids[i])
                alike = abs(old[j] - new[k]) < ONE_SIGMA * np.hypot(own[k], sigma)
                if alike and other not in alias and roles.get(other) == roles[mine]:
                    self.merged[mine] = other
                    break

    def _put(self, known: SublatticeModel, mixture: Mixture, ids: NDArray[np.int16]) -> None:
        """Give every sublattice that shares the classes of one its mixture, and the catalogue what follows from it."""
        host = known.class_ids[0]
        single = known.filter.height_of_sigma
        sublattices = []
        for other in self.model.sublattices:
            if other.class_ids[0] != host or other.templates.void:
                sublattices.append(other)
            elif other is known:
                sublattices.append(replace(other, mixture=mixture, class_ids=ids))
            else:
                scaled = rescaled(mixture, single / other.filter.height_of_sigma, np.zeros(0))
                sublattices.append(replace(other, mixture=scaled, class_ids=ids))
        place = {int(class_id): k for k, class_id in enumerate(ids) if k}
        classes = []
        for entry in self.model.classes:
            k = place.get(entry.class_id)
            if k is not None:
                distance = float(mixture.mean[k] - mixture.mean[0])
                entry = replace(entry, separation=abs(distance), prior=float(mixture.weight[k]))
                if entry.class_id in self.hidden:
                    entry = self._named(entry, distance * single / known.templates.height)
            classes.append(entry)
        renamed = {
            e.class_id: (self.renamed[e.class_id], e.name) for e in classes if e.class_id in self.renamed
        }
        classes = [self._beside(entry, list(renamed.values())) for entry in classes]
        self.model = replace(self.model, sublattices=tuple(sublattices), classes=tuple(classes))

    def _named(self, entry: CatalogueEntry, share: float) -> CatalogueEntry:
        """The class, its name saying the height that it has; what a person called it stays."""
        said = named_change(entry.name)
        right = (host_name if entry.role == "host" else defect_name)(entry.sublattice, share)
        if said is None or abs(share - said) < RENAME_SHARE or entry.name.split(" (")[0] == right:
            return entry
        return self._renamed(entry, right)

    def _beside(self, entry: CatalogueEntry, renamed: list[tuple[str, str]]) -> CatalogueEntry:
        """A class of neighbours, named after the defect that they are beside."""
        if entry.role != "neighbour":
            return entry
        for before, after in renamed:
            head, beside, tail = entry.name.partition(f" beside {before}")
            if beside and (not tail or tail.startswith(" ")):
                return self._renamed(entry, f"{head} beside {after}{tail}")
        return entry

    def _renamed(self, entry: CatalogueEntry, name: str) -> CatalogueEntry:
        self.renamed.setdefault(entry.class_id, entry.name)
        self._taken.discard(entry.name)
        return replace(entry, name=unique(name, self._taken))


def _pairs(old: NDArray[np.float64], new: NDArray[np.float64], sigma: float) -> dict[int, int]:
    """For each class found that is known, which of the known ones it is: heights in, numbers out."""
    if not len(old) or not len(new):
        return {}
    apart = np.abs(new[:, None] - old)
    near = apart <= np.maximum(SAME_SHARE * np.maximum(np.abs(new)[:, None], np.abs(old)), SAME_SIGMA * sigma)
    near &= np.sign(new)[:, None] == np.sign(old)
    rows, columns = linear_sum_assignment(np.where(near, apart, 1e6))
    return {int(k): int(j) for k, j in zip(rows, columns, strict=True) if near[k, j]}


def _quieter(s: int, searched: Searched, patches: Patches) -> float:
    """How much noisier averages of a sublattice are now than when the search began: they are of more frames."""
    matched = searched.found.sublattices[s].filter
    then, now = (
        median_and_spread(matched(some.moments[some.sublattice == s]))[1]
        for some in (searched.patches, patches)
    )
    return now / then if then > 0.0 and now > 0.0 else 1.0


def _in_averages(model: Model, searched: Searched, change: _Change, patches: Patches) -> Model:
    """The model as the averages show it, with less noise, and without what is between the columns.

    Where a class was found there, it is where it was found: members that differ by little in frames differ by many
    standard deviations of an average.
    """
    sublattices = []
    parts = zip(
        model.sublattices,
        searched.found.sublattices,
        searched.templates,
        searched.displacements,
        strict=False,
    )
    for s, (known, one, templates, (displacement, gate)) in enumerate(parts):
        sigma = one.filter.height_of_sigma * _quieter(s, searched, patches)
        ratio = change.times * known.filter.height_of_sigma / sigma
        mixture = rescaled(known.mixture, ratio, np.zeros(0))
        mean, deviation = mixture.mean.copy(), mixture.deviation.copy()
        for j, (height, own) in change.seen[int(known.class_ids[0])].items():
            mean[j] = mean[0] + height / sigma
            deviation[j] = np.hypot(deviation[0], max(own, RELATIVE_SPREAD * abs(height)) / sigma)
        mixture = replace(mixture, mean=mean, deviation=deviation)
        mixture = replace(mixture, span=max(one.mixture.span, known.mixture.span * ratio))
        directions = len(templates.offset)
        sublattices.append(
            replace(
                known,
                templates=templates,
                filter=replace(one.filter, height_of_sigma=sigma),
                whitening=one.whitening,
                mixture=mixture,
                displacement=displacement,
                gate=gate,
                neighbour_class={k: v for k, v in known.neighbour_class.items() if k[0] < directions},
            )
        )
    return replace(model, sublattices=tuple(sublattices))
