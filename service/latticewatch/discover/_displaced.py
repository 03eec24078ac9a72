"""Displaced columns in the patches that classes are discovered in, and the kinds of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch.model import ShiftKinds

# Chance that a whole sample of hosts brings one displacement so long that it counts.
CHANCE = 1e-3
# Share of the hosts whose displacement tells whether their tails are those of a Gaussian, and its squared length then.
TAIL_QUANTILE = 0.99
TAIL_SQUARE = 9.21
# Displacements are of one kind within so many standard errors, or this share of their length.
SAME_SIGMA = 3.0
SAME_SHARE = 0.25
MAX_KINDS = 8
# Kinds of fewer than this many stand for themselves only while there are few kinds.
MIN_ALIKE = 3


def displacement_gate(z: NDArray[np.float64]) -> float:
    """Squared length of a displacement that chance does not bring in as many hosts [sigma²].

    Parameters
    ----------
    z : ndarray of shape (n, 2), float64
        Displacements of hosts [sigma].
    """
    square = (z**2).sum(1)
    if len(square) < 8:
        return float("inf")
    gate = 2 * float(np.log(len(square) / CHANCE))
    # where hosts have longer tails than a Gaussian, more is needed; those beyond may be displaced, many of them alike
    inside = square[square <= gate]
    tail = max(1.0, float(np.quantile(inside, TAIL_QUANTILE)) / TAIL_SQUARE) if len(inside) else 1.0
    return gate * tail**2


def shift_kinds(shift: NDArray[np.float64], sigma_px: float, n_sites: int) -> ShiftKinds:
    """The kinds of displacement on one sublattice.

    Parameters
    ----------
    shift : ndarray of shape (m, 2), float64
        Displacements (row, column) of the displaced columns [px].
    sigma_px : float
        Standard error of each along either axis.
    n_sites : int
        Sites that they were found among.
    """
    found: list[NDArray[np.float64]] = []
    mine = np.zeros(len(shift), bool)
    left = shift
    while len(left):
        reach = np.hypot(SAME_SIGMA * sigma_px, SAME_SHARE * np.hypot(*left.T))
        apart = np.hypot(*(left[:, None] - left[None]).transpose(2, 0, 1))
        best = int(np.argmax((apart <= reach[:, None]).sum(1)))
        centre = left[best]
        for _ in range(3):
            mine = np.hypot(*(left - centre).T) <= reach[best]
            centre = left[mine].mean(0) if mine.any() else centre
        mine[best] = True
        found.append(left[mine])
        left = left[~mine]
    if len(found) > MAX_KINDS:
        found = [members for members in found if len(members) >= MIN_ALIKE][:MAX_KINDS]
    if not found:
        return ShiftKinds.none()
    centroid = np.stack([members.mean(0) for members in found])
    spread = []
    for members, centre in zip(found, centroid, strict=True):
        # a few say little of their spread: a tenth of the displacement, with the weight of four
        prior = (0.1 * np.hypot(*centre)) ** 2
        own = ((members - centre) ** 2).sum() / 2 - (len(members) - 1) * sigma_px**2
        spread.append(np.sqrt((max(own, 0.0) + 4 * prior) / (len(members) + 4)))
    number = np.array([len(members) for members in found], float)
    return ShiftKinds(
        centroid, np.array(spread), number / max(n_sites, 1), np.arange(len(found), dtype=np.int16)
    )
