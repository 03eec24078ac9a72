"""Several grains in one frame: which of them a place belongs to, and the sites of all of them.

Each grain has a lattice and a phase field of its own, over the whole frame. Where two meet, the stronger one owns the
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.lattice._phase import MIN_COVER, PhaseField
from latticewatch.lattice._sites import Sites, predict_sites

# How fast, from the line where two grains are equally strong, the place counts as one grain's alone.
STEEPNESS = 4.0
# Two grains cannot both have a column within this share of the shortest distance between columns.
MIN_DISTANCE = 0.6


def owned(fields: Sequence[PhaseField | None]) -> tuple[PhaseField | None, ...]:
    """The fields of the grains of a frame, each with its amplitude where it is the strongest, and little elsewhere.

    On a boundary each grain has half of its amplitude; together they cover it.

    Parameters
    ----------
    fields : sequence of PhaseField or None
        Amplitudes as measured; None for a grain out of view.
    """
    present = [field for field in fields if field is not None]
    if len(present) < 2:
        return tuple(fields)
    return tuple(None if field is None else _owned(field, present) for field in fields)


def _owned(field: PhaseField, present: Sequence[PhaseField]) -> PhaseField:
    nodes = field.nodes()
    most = np.max([o.amplitude_at(nodes) for o in present if o is not field], axis=0)
    most = most.reshape(field.amplitude.shape)
    together = np.minimum(field.amplitude + np.where(most > 1 - MIN_COVER, most, 0.0), 1.0)
    amplitude = np.minimum(
        np.maximum(field.amplitude, together), MIN_COVER + STEEPNESS * (field.amplitude - most)
    )
    amplitude = np.ascontiguousarray(np.maximum(amplitude, 0.0))
    return replace(field, amplitude=amplitude, covered=float((amplitude > MIN_COVER).mean()))


def grain_sites(
    main: PhaseField, columns: Sequence[NDArray[np.float64]], shape: tuple[int, int], margin: float
) -> Sites:
    """Every site of every grain inside a frame.

    Parameters
    ----------
    main : PhaseField
        With the other grains.
    columns : sequence of ndarray of shape (n_columns, 2), float64
        Cell coordinates of the columns of each grain. The sublattices of a grain are numbered after those of the grains
        before it.
    shape : tuple of int
        Rows and columns of the frame.
    margin : float
        Sites nearer than this to the edge of the frame are left out [px].

    Returns
    -------
    Sites
    """
    found, first = [], 0
    for field, own in zip(main.grains, columns, strict=True):
        if field is not None:
            sites = predict_sites(field, own, shape, margin, may_be_cut=len(main.grains) == 1)
            found.append((field, replace(sites, sublattice=sites.sublattice + np.int16(first))))
        first += len(own)
    if len(found) == 1:
        return found[0][1]
    joined = Sites(
        np.concatenate([sites.position for _, sites in found]),
        np.concatenate([sites.sublattice for _, sites in found]),
        np.concatenate([sites.cell for _, sites in found]),
    )
    strength = np.concatenate([field.amplitude_at(sites.position) for field, sites in found])
    grain = np.repeat(np.arange(len(found)), [len(sites) for _, sites in found])
    return joined.take(_not_twice(joined, grain, strength))


def _not_twice(sites: Sites, grain: NDArray[np.intp], strength: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Sites, without those that are nearer than columns can be to one of a stronger grain, or to their own kind.

    The latter come where the phase of a grain ends in that of another one.
    """
    kept = np.ones(len(sites), bool)
    if len(sites) < 2:
        return kept
    tree = KDTree(sites.position)
    spacing = float(np.median(tree.query(sites.position, k=2)[0][:, 1]))
    pairs = tree.query_pairs(MIN_DISTANCE * spacing, output_type="ndarray")
    first, second = pairs.T
    apart = grain[first] != grain[second]
    for a, b in pairs[apart | (sites.sublattice[first] == sites.sublattice[second])]:
        kept[a if strength[a] < strength[b] else b] = False
    return kept
