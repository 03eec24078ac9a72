"""Sublattices that symmetry maps onto each other, like the two of graphene, whose classes are found together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch.features import mirror_moments, rotate_moments

# Two hosts are the same when an operation of the lattice brings their patches closer than this [sigma of one patch]:
# then no single patch can tell them apart.
SAME_SIGMA = 1.0
# Rotations and mirrors that occur in plane lattices.
OPERATIONS_DEG = np.arange(0.0, 360.0, 30.0)
MIRRORS_DEG = np.arange(0.0, 180.0, 15.0)


def equivalent_sublattices(
    means: list[NDArray[np.float64]], whitenings: list[NDArray[np.float64]], orders: NDArray[np.int64]
) -> list[int]:
    """Group sublattices whose hosts differ by a rotation or a mirror only.

    Parameters
    ----------
    means : list of ndarray of shape (n_moments,), float64
        Moments of the host of each sublattice.
    whitenings : list of ndarray of shape (n_moments, rank), float64
    orders : ndarray of shape (2, n_moments), int
        n and m of the moments.

    Returns
    -------
    list of int
        For each sublattice the first one that it is equivalent to; itself where there is none before it.
    """
    n, m = orders
    group: list[int] = []
    for s, mean in enumerate(means):
        images = np.concatenate(
            [
                rotate_moments(np.repeat(mean[None], len(OPERATIONS_DEG), 0), n, m, OPERATIONS_DEG),
                *[mirror_moments(mean[None], n, m, angle) for angle in MIRRORS_DEG],
            ]
        )
        same = s
        for other in sorted(set(group)):
            distance = np.linalg.norm((images - means[other]) @ whitenings[other], axis=1).min()
            if distance < SAME_SIGMA:
                same = other
                break
        group.append(same)
    return group
