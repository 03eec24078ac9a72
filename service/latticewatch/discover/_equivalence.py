"""Sublattices that symmetry maps onto each other, whose classes are found together.

The two of graphene are, and those of two grains of one crystal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latticewatch.features import mirror_moments, rotate_moments
from latticewatch.model import SublatticeTemplates

# Two hosts are the same when an operation of the lattice brings their patches closer than this [sigma of one patch]:
# then no single patch can tell them apart; or closer than this share of the contrast of a patch: scan lines cut them in
# other directions, and their places are known to so much only.
SAME_SIGMA = 1.0
SAME_SHARE = 0.1
# Rotations that occur in plane lattices; axes of mirrors lie at half of such angles.
ROTATIONS_DEG = np.arange(0.0, 360.0, 30.0)


def equivalent_sublattices(
    means: list[NDArray[np.float64]],
    whitenings: list[NDArray[np.float64]],
    orders: NDArray[np.int64],
    templates: Sequence[SublatticeTemplates],
) -> list[int]:
    """Group sublattices whose hosts differ by a rotation or a mirror only.

    Parameters
    ----------
    means : list of ndarray of shape (n_moments,), float64
        Moments of the host of each sublattice.
    whitenings : list of ndarray of shape (n_moments, rank), float64
    orders : ndarray of shape (2, n_moments), int
        n and m of the moments.
    templates : sequence of SublatticeTemplates
        They say which grain each sublattice belongs to, and where its lattice vectors point.

    Returns
    -------
    list of int
        For each sublattice the first one that it is equivalent to; itself where there is none before it.
    """
    n, m = orders
    group: list[int] = []
    for s, mean in enumerate(means):
        closest = {}
        for other in sorted(set(group)):
            images = []
            own = templates[s].directions_deg[0]
            for direction in templates[other].directions_deg:
                turns = direction - own + ROTATIONS_DEG
                axes = (direction + own + ROTATIONS_DEG) / 2
                images += [rotate_moments(mean[None], n, m, turns), mirror_moments(mean[None], n, m, axes)]
            distance = np.linalg.norm((np.concatenate(images) - means[other]) @ whitenings[other], axis=1)
            # columns of other heights are other columns, however like their surroundings make the patches
            one, two = templates[other], templates[s]
            alike = abs(one.height - two.height) < SAME_SHARE * max(one.height, two.height)
            limit = SAME_SIGMA
            if alike or one.grain != two.grain:
                contrast = np.linalg.norm(np.where(n == 0, 0.0, means[other]) @ whitenings[other])
                limit = max(limit, SAME_SHARE * float(contrast))
            if distance.min() < limit:
                closest[other] = float(distance.min()) / limit
        group.append(min(closest, key=lambda other: closest[other]) if closest else s)
    return group
