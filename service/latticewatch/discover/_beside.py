"""Classes whose members all stand beside a much clearer defect: they are what that does to the columns around."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.model import CatalogueEntry, Model, Patches, neighbour_name, unique

# How far a defect shines, and moves others [shortest distances between columns].
REACH = 2.5
# What it does to a patch around it is less than this share of what it does to its own. An odd patch is no change of its
# own column, so it may be more.
MOST_ECHO, MOST_ODD = 0.1, 0.3
# So many of the members have one in reach, but no more than so many of all columns like them: then it is no chance.
SHARE_BESIDE, MOST_BESIDE = 0.8, 0.5
FEWEST = 3


def with_neighbours(
    model: Model,
    best: NDArray[np.intp],
    patches: Patches,
    only: frozenset[int] | None = None,
) -> tuple[CatalogueEntry, ...]:
    """The classes of a model; those that come with a much clearer defect are neighbours of it.

    Parameters
    ----------
    model : Model
    best : ndarray of shape (n,), intp
        Column of the most probable class of every site.
    patches : Patches
        The sites.
    only : frozenset of int, optional
        Classes that are looked at; all if not given.

    Returns
    -------
    tuple of CatalogueEntry

    Notes
    -----
    A defect that always comes with another one, as in a complex of two, is not far less clear than it.
    """
    clear = _clearness(model)
    odd = {class_id for known in model.sublattices for class_id in known.odd_ids.tolist()}
    reach = REACH * model.lattice.nearest_neighbour_px
    taken = {entry.name for entry in model.classes}
    out = []
    for k, entry in enumerate(model.classes):
        own = clear.get(entry.class_id, 0.0)
        looked_at = entry.role == "defect" and own > 0.0 and (only is None or entry.class_id in only)
        echo = MOST_ODD if entry.class_id in odd else MOST_ECHO
        members = np.flatnonzero(best == k) if looked_at else np.zeros(0, np.intp)
        brighter = {
            j
            for j, other in enumerate(model.classes)
            if other.role == "defect" and echo * clear.get(other.class_id, 0.0) > own
        }
        defects = np.flatnonzero(np.isin(best, list(brighter)))
        if len(members) < FEWEST or not len(defects):
            out.append(entry)
            continue
        beside = _nearest(patches, members, defects, reach)
        alike = np.flatnonzero(np.isin(patches.sublattice, np.unique(patches.sublattice[members])))
        usual = (_nearest(patches, alike, defects, reach) >= 0).mean()
        if (beside >= 0).mean() < SHARE_BESIDE or usual > MOST_BESIDE:
            out.append(entry)
            continue
        there = beside >= 0
        cause = Counter(best[beside[there]].tolist()).most_common(1)[0][0]
        of_cause = there & (best[np.maximum(beside, 0)] == cause)
        offset = patches.position[beside[of_cause]] - patches.position[members[of_cause]]
        name = neighbour_name(entry.sublattice, model.classes[cause].name, _agreed(offset))
        out.append(replace(entry, role="neighbour", name=unique(name, taken)))
    return tuple(out)


def _clearness(model: Model) -> dict[int, float]:
    """How far each class is from its host, where a frame shows it [sigma]."""
    out: dict[int, float] = {}
    for known in model.sublattices:
        away = np.abs(known.mixture.mean - known.mixture.mean[0])
        for class_id, sigma in zip(known.class_ids[1:].tolist(), away[1:].tolist(), strict=True):
            out[class_id] = max(out.get(class_id, 0.0), sigma)
        if known.oddities.classifier is not None:
            centroids = known.oddities.classifier.centroids_
            away = np.linalg.norm(centroids - centroids[0], axis=1)
            out |= dict(zip(known.odd_ids.tolist(), away[1:].tolist(), strict=True))
        away = np.hypot(*known.displacement.of(known.shifts.centroid).T)
        out |= dict(zip(known.shifts.class_ids.tolist(), away.tolist(), strict=True))
    return out


def _nearest(
    patches: Patches, rows: NDArray[np.intp], defects: NDArray[np.intp], reach: float
) -> NDArray[np.intp]:
    """The defect nearest to each of some sites, in the same frame and within reach; -1 where there is none."""
    # frames apart by more than any place is
    apart = 4.0 * sum(patches.shape)
    points = np.column_stack([patches.position, apart * patches.frame])
    distance, at = KDTree(points[defects]).query(points[rows], distance_upper_bound=reach)
    return np.where(np.isfinite(distance), defects[np.minimum(at, len(defects) - 1)], -1)


def _agreed(offset: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The mean of some offsets that all point about the same way; else None."""
    mean = offset.mean(0)
    length = np.hypot(*offset.T).mean()
    return mean if np.hypot(*mean) > 0.9 * length > 0.0 else None
