"""A class that a person divides: the sites drawn round and the rest of it in, a model with one class more out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.model import MIN_SEPARATION, CatalogueEntry, Model, Part, SublatticeModel, unique

# A centroid of fewer sites than this says more of their noise than of what they have in common.
FEWEST_SITES = 3


class Halves(NamedTuple):
    """Sites of one class on one sublattice, those that a person drew round and the rest.

    Attributes
    ----------
    sublattice : int
    inside, rest : ndarray of shape (n, rank), float32
        Places in the space of the sublattice [sigma].
    axes : ndarray of shape (rank, n_axes), float64
        Components that the person saw them in, orthonormal.
    """

    sublattice: int
    inside: NDArray[np.float32]
    rest: NDArray[np.float32]
    axes: NDArray[np.float64]


def divided(
    model: Model, class_id: int, halves: Sequence[Halves], new_class: int, name: str | None = None
) -> Model:
    """The next version of a model, some sites of a class in a class of their own.

    Parameters
    ----------
    model : Model
    class_id : int
        Class to divide; keeps its number and its name.
    halves : sequence of Halves
        Its sites on each sublattice. Where too few of them are on either side it stays whole.
    new_class : int
        Number of the part.
    name : str, optional
        Of the part; that of the class and a number, if not given.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        Too few sites are on one side, a frame cannot tell the two sides apart, or it is a class of columns beside a
        defect.
    """
    entry = model.entry(class_id)
    measured = [class_id, *(old for old, into in model.alias.items() if into == class_id)]
    sublattices, shares, apart = list(model.sublattices), [], []
    for one in halves:
        known = sublattices[one.sublattice]
        own = {*known.measured_ids.tolist(), *(part.class_id for part in known.parts)}
        sources = tuple(k for k in measured if k in own)
        if not sources or min(len(one.inside), len(one.rest)) < FEWEST_SITES or not one.axes.shape[1]:
            continue
        distance, part = _cut(known, one, new_class, sources)
        apart.append(distance)
        if distance >= MIN_SEPARATION:
            sublattices[one.sublattice] = replace(known, parts=(*known.parts, part))
            shares.append(part.prior)
    if not shares:
        raise ValueError(_why_not(entry, halves, apart))
    share = float(np.mean(shares))
    centre = [one.inside.mean(0) @ one.axes for one in halves if len(one.inside) >= FEWEST_SITES]
    fresh = replace(
        entry,
        class_id=new_class,
        name=name or unique(entry.name, {other.name for other in model.classes}),
        host_class=class_id if entry.host_class is None else entry.host_class,
        total=round(share * entry.total),
        prior=share * entry.prior,
        separation=float(np.linalg.norm(centre[0])),
    )
    rest = replace(entry, total=entry.total - fresh.total, prior=entry.prior - fresh.prior)
    classes = tuple(rest if other is entry else other for other in model.classes)
    return replace(
        model, version=model.version + 1, sublattices=tuple(sublattices), classes=(*classes, fresh)
    )


def _cut(known: SublatticeModel, one: Halves, class_id: int, sources: tuple[int, ...]) -> tuple[float, Part]:
    """How far apart the two sides are [sigma], and the part that lies beyond the plane between them."""
    inside, rest = one.inside @ one.axes, one.rest @ one.axes
    gap = inside.mean(0) - rest.mean(0)
    length = float(np.linalg.norm(gap))
    along = gap / max(length, 1e-12)
    n, m = len(inside), len(rest)
    scatter = (n * float((inside @ along).var()) + m * float((rest @ along).var())) / (n + m)
    # no class is narrower than the noise of one site
    scatter = max(scatter, 1.0)
    prior = n / (n + m)
    direction = known.whitening @ (one.axes @ gap) / scatter
    middle = float((inside.mean(0) + rest.mean(0)) @ gap) / (2 * scatter)
    level = float(np.log(prior / (1 - prior))) - middle - float(known.filter.mean @ direction)
    return length / scatter**0.5, Part(class_id, sources, direction, level, prior)


def _why_not(entry: CatalogueEntry, halves: Sequence[Halves], apart: Sequence[float]) -> str:
    inside, rest = sum(len(one.inside) for one in halves), sum(len(one.rest) for one in halves)
    if entry.role == "neighbour":
        return f"class {entry.class_id} “{entry.name}” is told by the defect beside it; divide that"
    if not apart:
        return (
            f"{inside} of {inside + rest} sites of class {entry.class_id} “{entry.name}” are within the line; "
            f"draw it round at least {FEWEST_SITES}, and leave {FEWEST_SITES} outside"
        )
    return (
        f"the sites within the line are {max(apart):.1f} σ from the others of class {entry.class_id} “{entry.name}”; "
        f"a frame tells classes apart from {MIN_SEPARATION:g} σ"
    )
