"""Places of defects among the sites that could hold them in; nearest-neighbour distances beside chance out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Random arrangements that the expectation is the mean of; fewer where many defects are its mean as well.
DRAWS, MIN_DRAWS = 200, 20
MOST_DRAWN = 200_000
BINS = 24


@dataclass(frozen=True, slots=True, eq=False)
class PairDistances:
    """How near defects are to one another, and how near they would be by chance.

    Attributes
    ----------
    n : int
        Defects.
    edges : ndarray of shape (n_bins + 1,), float64
        Edges of the histogram, in the unit of the positions; from zero.
    observed : ndarray of shape (n_bins,), int64
        Defects whose nearest other defect is so far away.
    expected : ndarray of shape (n_bins,), float64
        The same number of defects on sites drawn at random, mean.
    mean, expected_mean : float
        Mean distances.
    ratio : float
        ``mean / expected_mean``: below 1 defects keep together, above 1 apart.
    z : float
        Deviation of the mean from chance in standard deviations of chance.
    """

    n: int
    edges: NDArray[np.float64]
    observed: NDArray[np.int64]
    expected: NDArray[np.float64]
    mean: float
    expected_mean: float
    ratio: float
    z: float


def nearest_distances(position: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance of each point to the nearest other one.

    Parameters
    ----------
    position : ndarray of shape (n, 2)

    Returns
    -------
    ndarray of shape (n,), float64
        Infinite for a point that is alone.
    """
    if len(position) < 2:
        return np.full(len(position), np.inf)
    from scipy.spatial import KDTree  # here, so that a service answers before it is loaded

    return KDTree(position).query(position, k=2)[0][:, 1]


def pair_distances(
    position: NDArray[np.floating],
    group: NDArray[np.integer],
    chosen: NDArray[np.bool_],
    *,
    bins: int = BINS,
    seed: int = 0,
) -> PairDistances | None:
    """Nearest-neighbour distances of some of the sites, beside those of as many drawn at random.

    Parameters
    ----------
    position : ndarray of shape (n_sites, 2)
        Every site that could be chosen.
    group : ndarray of shape (n_sites,), integer
        Sites are drawn within their groups, such as sublattices: as many of each as are chosen.
    chosen : ndarray of shape (n_sites,), bool
        Which are defects.
    bins : int
        Bins of the histogram.
    seed : int
        Of the draws.

    Returns
    -------
    PairDistances or None
        ``None`` where fewer than two sites are chosen, or where chance has no choice.

    Notes
    -----
    What is drawn from is the lattice in this very frame, so its spacings, its edges and its holes are in the
    expectation; the formula for points in the plane (Clark and Evans 1954) has none of them.
    """
    n = int(chosen.sum())
    if n < 2 or n == len(position):
        return None
    position = np.asarray(position, np.float64)
    found = nearest_distances(position[chosen])
    rng = np.random.default_rng(seed)
    draws = min(DRAWS, max(MIN_DRAWS, MOST_DRAWN // n))
    members = [(np.flatnonzero(group == g), int((chosen & (group == g)).sum())) for g in np.unique(group)]
    drawn = np.stack(
        [
            nearest_distances(
                position[np.concatenate([rng.choice(rows, k, replace=False) for rows, k in members])]
            )
            for _ in range(draws)
        ]
    )
    means = drawn.mean(axis=1)
    expected_mean, spread = float(means.mean()), float(means.std(ddof=1))
    if expected_mean == 0.0 or spread == 0.0:
        return None
    edges = np.linspace(0.0, max(found.max(), np.quantile(drawn, 0.99)) * (1 + 1e-9), bins + 1)
    mean = float(found.mean())
    return PairDistances(
        n,
        edges,
        np.histogram(found, edges)[0],
        np.histogram(drawn, edges)[0] / draws,
        mean,
        expected_mean,
        mean / expected_mean,
        (mean - expected_mean) / spread,
    )
