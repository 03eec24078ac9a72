"""The model follows the stream: slow change of the classes, and classes that were not there while it was learnt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.discover import OddPool, born
from latticewatch.identify import Confirmation, named_by_element
from latticewatch.model import Mixture, Model, average_patch, columns_of
from latticewatch.pipeline._analyse import flat_image
from latticewatch.pipeline._analysis import Classified

# Frames after which an old one counts half.
HALF_LIFE_FRAMES = 60.0
# The model follows after this many frames, so that frames in flight share one.
FRAMES_TOGETHER = 10
# It is another version when a class has moved by this share of its standard deviation, or has become wider, narrower,
# rarer or more frequent by these factors: less changes no decision but one that was open anyway.
FELT_SIGMA, FELT_WIDTH, FELT_WEIGHT = 0.25, 1.1, 2.0
# Classes nearer to their host than this many standard deviations move with the others only, and keep, within a factor,
# their weight.
SAFE_SIGMA = 4.0
# By no more than this factor at a time: what is more is another state of the microscope.
MOST_GROWTH = 1.3


@dataclass
class Sums:
    """Weighted sums over the sites of each component of a mixture; old frames fade."""

    n: NDArray[np.float64]
    score: NDArray[np.float64]
    square: NDArray[np.float64]


class ClassStatistics:
    """Running statistics of the classes of a model; bounded however long the stream."""

    def __init__(self) -> None:
        self._sums: list[Sums] = []
        self._frames = 0
        self._totals: dict[int, int] = {}
        self._pool = OddPool()
        # The version in force, and its mixtures when it came into force.
        self._since: tuple[int, list[Mixture]] | None = None

    def update(
        self, model: Model, analysis: Classified, track: NDArray[np.int32], next_class: int
    ) -> tuple[Model, list[int]]:
        """Count a frame; every `FRAMES_TOGETHER` frames give a model that follows, and so does every birth of a class.

        Its version grows when a decision can change.

        Parameters
        ----------
        model : Model
        analysis : Classified
            Classified with this model, or with one of its earlier versions.
        track : ndarray of shape (n,), int32
            Track of every site; -1 where it has none.
        next_class : int
            Number for a class that is found.

        Returns
        -------
        model : Model
            The same object where nothing is new.
        found : list of int
            Classes that were born.
        """
        verdict = analysis.verdict
        if [len(s.n) for s in self._sums] != [len(known.mixture.mean) for known in model.sublattices]:
            self._sums = [_fresh(known.mixture) for known in model.sublattices]
        fade = 0.5 ** (1 / HALF_LIFE_FRAMES)
        used = analysis.model
        ids = used.class_ids
        sublattice = analysis.sites.sublattice
        whole = _whole(used, verdict.posterior)
        new, counts = add_up(whole, verdict.score, verdict.component, sublattice, *_columns(used))
        if whole is not verdict.posterior:
            counts = np.bincount(verdict.posterior.argmax(1), minlength=len(ids))
        for s, sums in enumerate(self._sums):
            n = len(sums.n)
            if len(used.sublattices[s].class_ids) != n:
                continue  # of a version with other classes
            sums.n = fade * sums.n + new[s, 0, :n]
            sums.score = fade * sums.score + new[s, 1, :n]
            sums.square = fade * sums.square + new[s, 2, :n]
        for class_id, n in zip(ids.tolist(), counts.tolist(), strict=True):
            self._totals[class_id] = self._totals.get(class_id, 0) + n
        self._frames += 1
        if self._frames % FRAMES_TOGETHER == 0:
            model = self._next(model)
        unknown = verdict.posterior[:, -1].copy()
        for known, place in zip(used.sublattices, columns_of(used), strict=True):
            if known.shifts.loose_id >= 0:
                unknown += verdict.posterior[:, place.shifts[-1]]
        sound = self._pool.update(
            track,
            sublattice,
            verdict.score,
            verdict.shift,
            verdict.component,
            unknown,
            verdict.unsure,
            used.n_columns,
        )
        if not sound or len(used.classes) != len(model.classes):
            return model, []
        grown, found = born(
            model,
            self._pool,
            next_class,
            patches_of(analysis),
            _places(model, sublattice),
            pixel_size_nm=analysis.frame.pixel_size_nm,
        )
        return (confirmed_among(grown, found), found) if found else (grown, [])

    def _next(self, model: Model) -> Model:
        pairs = [(known.mixture, sums) for known, sums in zip(model.sublattices, self._sums, strict=True)]
        overall = _growth(pairs)
        sublattices = tuple(
            replace(known, mixture=_followed(*pair, _growth([pair], overall)))
            for known, pair in zip(model.sublattices, pairs, strict=True)
        )
        priors = {
            int(class_id): float(weight)
            for known in sublattices
            for class_id, weight in zip(known.class_ids, known.mixture.weight, strict=True)
        }
        for part in (part for known in sublattices for part in known.parts):
            # of several sublattices that share a class, each gives its share
            mine = sum(priors.get(k, 0.0) for k in part.sources)
            if mine > 0:
                priors |= {k: (1 - part.prior) * priors[k] for k in part.sources if k in priors}
                priors[part.class_id] = part.prior * mine
        classes = tuple(
            entry.with_total(
                entry.total + self._totals.get(entry.class_id, 0), priors.get(entry.class_id, entry.prior)
            )
            for entry in model.classes
        )
        self._totals = {}
        followed = replace(model, sublattices=sublattices, classes=classes)
        if self._since is None or self._since[0] != model.version:
            self._since = model.version, [known.mixture for known in model.sublattices]
        if any(_felt(then, known.mixture) for then, known in zip(self._since[1], sublattices, strict=True)):
            followed = replace(followed, version=model.version + 1)
            self._since = followed.version, [known.mixture for known in sublattices]
        return followed


def _whole(model: Model, posterior: NDArray[np.float32]) -> NDArray[np.float32]:
    """Posteriors, what a person split off a class counted with the rest of it: its height is followed as a whole."""
    pairs = [
        (of.parts[k], int(place.parts[k]))
        for of, place in zip(model.sublattices, columns_of(model), strict=True)
        for k in range(len(of.parts))
    ]
    if not pairs:
        return posterior
    column = {entry.class_id: k for k, entry in enumerate(model.classes)}
    out = posterior.copy()
    # what was split off last first, for a part may be divided again
    for part, mine in reversed(pairs):
        into = column.get(model.alias.get(part.sources[0], part.sources[0]), mine)
        if into != mine:
            out[:, into] += out[:, mine]
            out[:, mine] = 0.0
    return out


def _places(model: Model, sublattice: NDArray[np.int16]) -> NDArray[np.intp]:
    """How many places each sublattice has in a frame: one in each cell, where nothing need stand there."""
    number = np.bincount(sublattice[sublattice >= 0], minlength=len(model.sublattices))
    cells = number[: model.n_columns].max(initial=0)
    return np.where([known.templates.void for known in model.sublattices], cells, number)


def confirmed_among(model: Model, found: Collection[int]) -> Model:
    """The model, some of its classes beside the simulated ones that they look like, and called by their element."""
    if not found:
        return model
    confirm = Confirmation(model)
    entries = {entry.class_id: entry for entry in model.classes}
    classes = tuple(
        confirm(entry, entries.get(entry.host_class or 0)) if entry.class_id in found else entry
        for entry in model.classes
    )
    return named_by_element(replace(model, classes=classes), found)


def patches_of(
    analysis: Classified, among: NDArray[np.intp] | None = None
) -> Callable[[Sequence[int], int], NDArray[np.float32]]:
    """Gives the average patch of some sites of a frame, or of some among these rows of it."""
    position = analysis.sites.position
    image = cache(lambda: flat_image(analysis))
    if among is not None:
        position = position[among]

    def patch(rows: Sequence[int], size: int) -> NDArray[np.float32]:
        return average_patch(image(), position[list(rows)], size, np.random.default_rng(0))

    return patch


@lru_cache(maxsize=8)
def _columns(model: Model) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Column of each component of the mixtures in the posteriors, and whether a person merged it with others there.

    Both of shape (n_sublattices, most components of one); -1 where a mixture has no more components.
    """
    components = [place.components for place in columns_of(model)]
    columns = np.full((len(components), max(map(len, components))), -1)
    merged = np.zeros(columns.shape, bool)
    for s, mine in enumerate(components):
        columns[s, : len(mine)] = mine
        merged[s, : len(mine)] = np.bincount(mine)[mine] > 1
    return columns, merged


@njit(cache=True, nogil=True)
def add_up(posterior, score, component, sublattice, columns, merged):  # pragma: no cover - compiled
    """Sums of 1, score and its square over sites, by how much each counts for each component of a mixture.

    The host has what is left. Counted whole for the likeliest, a class near its host would be taken for what noise
    carries farthest from it. Of classes that a person merged, each keeps its sites.

    Returns
    -------
    sums : ndarray of shape (n_sublattices, 3, most components), float64
    counts : ndarray of shape (n_classes,), int64
        Sites of which each class is the most probable one.
    """
    n, classes = posterior.shape
    sublattices, most = columns.shape
    sums, counts = np.zeros((sublattices, 3, most)), np.zeros(classes, np.int64)
    for i in range(n):
        best = 0
        for k in range(classes):
            if posterior[i, k] > posterior[i, best]:
                best = k
            if posterior[i, best] > 0.5:
                break
        counts[best] += 1
        s = sublattice[i]
        if s < 0 or component[i] < -1:
            continue
        left = 1.0 - posterior[i, classes - 1]
        for k in range(1, most):
            if columns[s, k] < 0:
                break
            if merged[s, k] and component[i] != k:
                continue
            share = posterior[i, columns[s, k]]
            if share > 0.0:
                left -= share
                sums[s, 0, k] += share
                sums[s, 1, k] += share * score[i]
                sums[s, 2, k] += share * score[i] * score[i]
        if left > 0.0:
            sums[s, 0, 0] += left
            sums[s, 1, 0] += left * score[i]
            sums[s, 2, 0] += left * score[i] * score[i]
    return sums, counts


def _felt(then: Mixture, now: Mixture) -> bool:
    """Whether a mixture has changed by more than what changes no decision."""
    if len(then.mean) != len(now.mean):
        return True
    moved = np.abs(now.mean - then.mean) > FELT_SIGMA * then.deviation
    wider = np.abs(np.log(now.deviation / then.deviation)) > np.log(FELT_WIDTH)
    oftener = np.abs(np.log(now.weight / then.weight)) > np.log(FELT_WEIGHT)
    return bool((moved | wider | oftener).any())


def _fresh(mixture: Mixture) -> Sums:
    """Sums that say what the mixture says, with the weight of a half-life of sites."""
    n = HALF_LIFE_FRAMES * 100.0 * mixture.weight
    square = (mixture.deviation**2 + mixture.mean**2) * n
    return Sums(n, mixture.mean * n, square)


def _growth(pairs: Sequence[tuple[Mixture, Sums]], without: float = 1.0) -> float:
    """How much farther from their hosts classes are than before, in their standard deviations: dose and focus change
    these for all classes alike.

    By the classes that are followed, those known best first; without one, what is given.
    """
    total = weight = 0.0
    for mixture, sums in pairs:
        away = mixture.mean - mixture.mean[0]
        mean = sums.score / np.maximum(sums.n, 1e-9)
        now = mean - mean[0]
        told = (sums.n > 1.0) & _apart(mixture) & (away * now > 0.0)
        told[0] = False
        precision = sums.n[told] * (away[told] / mixture.deviation[told]) ** 2
        total += float(precision @ np.log(now[told] / away[told]))
        weight += float(precision.sum())
    return float(np.clip(np.exp(total / weight), 1 / MOST_GROWTH, MOST_GROWTH)) if weight > 0.0 else without


def _apart(mixture: Mixture) -> NDArray[np.bool_]:
    """Classes that are followed by themselves: one near its host would take up what noise carries out of it."""
    apart = np.abs(mixture.mean - mixture.mean[0]) > SAFE_SIGMA * mixture.deviation[0]
    apart[0] = True
    return np.asarray(apart)


def _followed(mixture: Mixture, sums: Sums, growth: float) -> Mixture:
    """The mixture that the sums say; the spread of what is in view is no narrower than the host's.

    Classes near their host move by as much as those that are followed have.
    """
    n = np.maximum(sums.n, 1e-9)
    mean = sums.score / n
    deviation = np.sqrt(np.maximum(sums.square / n - mean**2, 0.0))
    apart = _apart(mixture)
    known = (sums.n > 1.0) & apart
    host = float(mean[0]) if known[0] else float(mixture.mean[0])
    mean = np.where(known, mean, host + growth * (mixture.mean - mixture.mean[0]))
    deviation = np.where(known, np.maximum(deviation, deviation[0]), mixture.deviation)
    # a class that is not in view now is still possible
    weight = np.maximum(sums.n / max(float(sums.n.sum()), 1e-9), 1e-5)
    weight = np.where(apart, weight, np.clip(weight, 0.5 * mixture.weight, 2 * mixture.weight))
    weight[0] = max(1 - weight[1:].sum(), 0.5)
    weight *= (1 - mixture.background) / weight.sum()
    return replace(mixture, mean=mean, deviation=deviation, weight=weight)
