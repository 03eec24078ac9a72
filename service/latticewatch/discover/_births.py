"""Where a class is born: odd sites that are alike become one while the stream goes on; one alone, where it is sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.discover._displaced import MAX_KINDS, shift_kinds
from latticewatch.discover._grow import LONE_CHANCE, RELATIVE_SPREAD, bonferroni
from latticewatch.discover._pool import OddPool, OddTrack
from latticewatch.model import (
    MIN_SEPARATION,
    CatalogueEntry,
    Model,
    ShiftKinds,
    SublatticeModel,
    defect_name,
    displaced_name,
    loose_name,
    off_lattice_name,
    unique,
)

# A class that is born is no larger share of its sublattice than this, whatever the first frames that show it say.
MOST_SHARE = 0.1
# Heights in bonds that point elsewhere are measured by other filters: within so many deviations they are one class.
PLACES_APART = 2.0
# A stream that has just begun shows as many sites before anything is born in it by chance.
FEWEST_TRIALS = 10_000
# Gives the average patch, side `size`, of the sites in some rows of the newest frame.
PatchOf = Callable[[Sequence[int], int], NDArray[np.float32]]


def born(
    model: Model,
    pool: OddPool,
    next_class: int,
    patch: PatchOf,
    places: NDArray[np.intp],
    *,
    pixel_size_nm: float | None = None,
) -> tuple[Model, list[int]]:
    """The next version of a model, with the classes that the pool holds.

    Parameters
    ----------
    model : Model
    pool : OddPool
        Tracks that get a class are taken out of it.
    next_class : int
        Number for the first new class.
    patch : callable
        ``patch(rows, size)`` gives the average patch of sites of the newest frame.
    places : ndarray of shape (n_sublattices,), intp
        How many places each sublattice has in the newest frame, those between the columns with nothing there too.
    pixel_size_nm : float, optional
        For names that say how far columns are displaced.

    Returns
    -------
    model : Model
        The same object where nothing is new.
    found : list of int
        Numbers of the new classes.
    """
    found: list[int] = []
    for s in range(len(model.sublattices)):
        strange = pool.candidates(s, displaced=False)
        while strange:
            members, grown = _by_height(
                model, s, strange, next_class + len(found), patch, int(places[s]), pool.frames
            )
            strange = [one for one in strange if all(one is not other for other in members)]
            if grown is not None:
                model = grown
                found.append(next_class + len(found))
                pool.drop(members)
    if found:
        # how far columns are displaced was measured without what is known now of the light around them
        pool.measure_anew()
        return model, found
    for s in range(len(model.sublattices)):
        displaced = pool.candidates(s, displaced=True)
        if displaced:
            model, new = _by_shift(model, s, displaced, next_class + len(found), patch, pixel_size_nm)
            found += new
            pool.drop(displaced)
    return model, found


def _by_height(
    model: Model, s: int, strange: list[OddTrack], class_id: int, patch: PatchOf, places: int, frames: int
) -> tuple[list[OddTrack], Model | None]:
    """The largest group of odd tracks that are alike, and the model with their class, where they make one."""
    mixture, void = model.sublattices[s].mixture, model.sublattices[s].templates.void
    host, width = float(mixture.mean[0]), float(mixture.deviation[0])
    value = np.array([one.score / one.frames for one in strange])
    reach = 2 * np.hypot(width, RELATIVE_SPREAD * (value - host))
    alike = np.abs(value[:, None] - value) <= reach[:, None]
    best = int(alike.sum(1).argmax())
    members = [one for one, mine in zip(strange, alike[best], strict=True) if mine]
    # pooled over frames and members, beside what chance brings on the whole sublattice in all frames seen
    precision = sum(one.precision(void=void) for one in members)
    evidence = np.sqrt(precision) * abs(value[alike[best]].mean() - host) / width
    if evidence < bonferroni(max(places * frames, FEWEST_TRIALS), LONE_CHANCE):
        return members, None
    rows = [one.row for one in members]
    share = len(rows) / max(places, 1)
    grown = new_class(model, s, value[alike[best]], class_id, lambda size: patch(rows, size), share)
    return members, grown


def new_class(
    model: Model,
    sublattice: int,
    values: NDArray[np.float64],
    class_id: int,
    patch: Callable[[int], NDArray[np.float32]],
    share: float = 0.0,
) -> Model | None:
    """The next version of a model, with one class of changed height more.

    Parameters
    ----------
    model : Model
    sublattice : int
    values : ndarray of shape (n,), float64
        Mean filter output of each of its members [sigma].
    class_id : int
        Number of the new class.
    patch : callable
        ``patch(size)`` gives the average patch of the members.
    share : float, optional
        Of the places of the sublattice that the members hold.

    Returns
    -------
    Model or None
        None where a class is there already, or the host is too near.
    """
    known = model.sublattices[sublattice]
    mixture = known.mixture
    mean, width = float(np.mean(values)), float(mixture.deviation[0])
    deviation = max(float(np.std(values)), float(np.hypot(width, RELATIVE_SPREAD * (mean - mixture.mean[0]))))
    gaps = np.abs(mean - mixture.mean) / np.maximum(mixture.deviation, deviation)
    least = PLACES_APART if known.templates.void else 1.0
    if gaps[0] < MIN_SEPARATION or gaps.min() < least or (known.templates.void and mean < mixture.mean[0]):
        return None
    # as frequent as its members, and at least as the rarest class there is beside the host
    rarest = max(float(mixture.weight[1:].min()), 1e-4) if len(mixture.mean) > 1 else 1e-4
    weight = max(rarest, min(share, MOST_SHARE))
    distance = mean - mixture.mean[0]
    height = distance * known.filter.height_of_sigma
    entry = CatalogueEntry(
        class_id,
        unique(_name(known, sublattice, height), {e.name for e in model.classes}),
        "defect",
        sublattice,
        int(known.class_ids[0]),
        len(values),
        weight,
        abs(float(distance)),
        patch(model.patch_px),
    )
    # sublattices that share their classes (those of two grains) share the new one
    sublattices = tuple(
        _with_height(other, height, deviation * known.filter.height_of_sigma, weight, class_id)
        if _share_classes(other, known)
        else other
        for other in model.sublattices
    )
    return replace(model, version=model.version + 1, sublattices=sublattices, classes=(*model.classes, entry))


def _share_classes(one: SublatticeModel, other: SublatticeModel) -> bool:
    """Whether what stands on two sublattices is of the same classes: those of two grains, and bonds of one kind."""
    mine, its = one.templates, other.templates
    if mine.void or its.void:
        return mine.void == its.void and one.class_ids[0] == other.class_ids[0] and mine.around == its.around
    return bool(one.class_ids[0] == other.class_ids[0])


def _name(known: SublatticeModel, sublattice: int, height: float) -> str:
    share = height / known.templates.height
    if known.templates.void:
        return off_lattice_name(share, known.templates.around)
    return defect_name(sublattice, share)


def _with_height(
    known: SublatticeModel, height: float, spread: float, weight: float, class_id: int
) -> SublatticeModel:
    """A sublattice with a class whose columns differ by a height from the host's."""
    mixture, sigma = known.mixture, known.filter.height_of_sigma
    grown = replace(
        mixture,
        mean=np.append(mixture.mean, mixture.mean[0] + height / sigma),
        deviation=np.append(mixture.deviation, max(spread / sigma, float(mixture.deviation[0]))),
        weight=np.append(mixture.weight * (1 - weight), weight * (1 - mixture.background)),
        # odd sites may now be as far away as this
        span=max(float(mixture.span), 2 * abs(height) / sigma),
    )
    return replace(known, mixture=grown, class_ids=np.append(known.class_ids, np.int16(class_id)))


def _by_shift(
    model: Model,
    s: int,
    displaced: list[OddTrack],
    class_id: int,
    patch: PatchOf,
    pixel_size_nm: float | None,
) -> tuple[Model, list[int]]:
    """The model with the kinds of displacement that odd tracks of one sublattice show."""
    known = model.sublattices[s]
    shifts = np.stack([one.shift / one.frames for one in displaced])
    # each is the mean of two frames at least
    new = shift_kinds(shifts, known.displacement.sigma_px, 10_000)
    kinds, classes, found = known.shifts, model.classes, []
    taken = {entry.name for entry in classes}
    host = int(known.class_ids[0])

    def add(name: str, rows: Sequence[int], separation: float | None, number: int) -> int:
        nonlocal classes
        entry = CatalogueEntry(
            class_id + len(found),
            unique(name, taken),
            "defect",
            s,
            host,
            number,
            1e-4,
            separation,
            patch(rows, model.patch_px),
        )
        classes = (*classes, entry)
        found.append(entry.class_id)
        return entry.class_id

    for centre, spread in zip(new.centroid, new.spread, strict=True):
        near = np.hypot(*(shifts - centre).T) <= 3 * np.hypot(spread, known.displacement.sigma_px)
        rows = [one.row for one, mine in zip(displaced, near, strict=True) if mine]
        if len(kinds) >= MAX_KINDS:
            if kinds.loose_id < 0:
                kinds = replace(kinds, loose_id=add(loose_name(s), rows, None, len(rows)))
            break
        if model.invariant and len(kinds):
            number = int(kinds.class_ids[0])
        else:
            name = displaced_name(s, centre, pixel_size_nm, directed=not model.invariant)
            separation = float(np.hypot(*known.displacement.of(centre[None])[0]))
            number = add(name, rows, separation, len(rows))
        kinds = ShiftKinds(
            np.concatenate([kinds.centroid, centre[None]]),
            np.append(kinds.spread, spread),
            np.append(kinds.weight, 1e-4),
            np.append(kinds.class_ids, np.int16(number)),
            kinds.loose_id,
        )
    sublattices = tuple(replace(k, shifts=kinds) if t == s else k for t, k in enumerate(model.sublattices))
    return replace(model, version=model.version + 1, sublattices=sublattices, classes=classes), found
