"""What changes of occupancy do not explain: displaced columns, columns between sites, dirt, another phase.

Host patches, whitened and rid of what any change of height in reach could add, are noise: their squared length follows
χ². A site beyond it is odd. Odd sites that lie together in the force-relaxed layout of their nearest-neighbour graph,
and whose mean is seen in either half of them alone, are a class; the others are unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latticewatch.model import MIN_SEPARATION, Oddities, normal_score, squared_lengths
from latticewatch.model._oddities import ODD_PRIOR
from latticewatch.robust import NORMAL

if TYPE_CHECKING:
    pass

# Sites are candidates for a class of their own from here on, in standard deviations of the standardised χ².
CANDIDATE = 4.0
MIN_CLUSTER = 5
HOSTS_BESIDE = 400


def find_oddities(
    moments: NDArray[np.float64],
    host: NDArray[np.bool_],
    mean: NDArray[np.float64],
    whitening: NDArray[np.float64],
    templates: NDArray[np.float64],
    seed: int,
    *,
    unsure: NDArray[np.float64] | None = None,
    times_seen: int = 1,
) -> Oddities:
    """Measure how odd hosts usually are, and find the classes of those that are odder.

    Parameters
    ----------
    moments : ndarray of shape (n, n_moments), float64
        Without what the defects around add.
    host : ndarray of shape (n,), bool
        Sites whose column has the height of the host.
    mean : ndarray of shape (n_moments,), float64
        Moments of the host.
    whitening : ndarray of shape (n_moments, rank), float64
    templates : ndarray of shape (k, n_moments), float64
        What changes of occupancy add, and displacements of the column itself.
    seed : int
    unsure : ndarray of shape (n,), float64, optional
        Standard deviation of what is measured at each, that of noise being 1.
    times_seen : int, optional
        Frames that show each site: one that is odd in all of them is still one.
    """
    explained, _ = np.linalg.qr((templates @ whitening).T)
    # an orthonormal basis of what is left
    left = np.linalg.svd(explained, full_matrices=True)[0][:, explained.shape[1] :]
    projection = whitening @ left
    residual = (moments - mean) @ projection
    if unsure is not None:
        residual /= unsure[:, None]
    score = normal_score(squared_lengths(residual), left.shape[1])
    # without a host there is nothing to be odd beside, and the scores are what noise gives
    hosts = score[host] if host.any() else np.zeros(1)
    level = float(np.median(hosts))
    spread = NORMAL * float(np.median(np.abs(hosts - level))) or 1.0
    plain = Oddities(mean, projection, level, spread, np.zeros((left.shape[1], 0)), None)
    if left.shape[1] < 2:
        # small patches of few pixels: changes of occupancy explain them whole
        return plain
    odd = np.flatnonzero(host & (plain.oddness(residual) > CANDIDATE))
    least = MIN_CLUSTER * times_seen
    if len(odd) < least:
        return plain
    centroids, counts = _clusters(residual, odd, np.flatnonzero(host), least, np.random.default_rng(seed))
    if not len(centroids):
        return plain
    from latticewatch.estimators import NearestCentroid

    axes, _ = np.linalg.qr(centroids.T)
    usual = residual[host].mean(0)
    classifier = NearestCentroid.from_centroids(
        np.concatenate([usual[None], centroids]) @ axes,
        np.concatenate([[max(int(host.sum()) - int(counts.sum()), 1)], counts]),
        contamination=ODD_PRIOR,
    )
    return Oddities(mean, projection, level, spread, axes, classifier)


def warm_oddities() -> None:
    """Import, and compile or load, what is asked for only where there are classes of odd sites."""
    from sklearn.cluster import HDBSCAN  # noqa: F401

    from latticewatch.estimators import NearestCentroid

    NearestCentroid.from_centroids([[0.0], [9.0]], [9, 1], contamination=ODD_PRIOR).predict_proba([[0.0]])


def _clusters(
    residual: NDArray[np.float64],
    odd: NDArray[np.intp],
    hosts: NDArray[np.intp],
    least: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and sizes of the clusters of odd sites in the force-relaxed layout, hosts beside them."""
    from sklearn.cluster import HDBSCAN

    from latticewatch.estimators import ForceRelaxedLayout, IncrementalPCA

    beside = rng.permutation(np.setdiff1d(hosts, odd))[:HOSTS_BESIDE]
    rows = np.concatenate([odd, beside])
    pca = IncrementalPCA(n_components="noise", noise_variance=1.0).fit(residual[odd])
    components = pca.transform(residual[rows])
    if components.shape[1] < 2:
        components = IncrementalPCA(n_components=2).fit(residual[odd]).transform(residual[rows])
    layout = ForceRelaxedLayout(n_neighbors=min(15, len(rows) - 1), seed=int(rng.integers(2**31)))
    picture = layout.fit_transform(components)
    labels = HDBSCAN(min_cluster_size=least, copy=True).fit_predict(picture)  # type: ignore[arg-type]
    found, sizes = [], []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        mine = members[members < len(odd)]
        if len(mine) < max(least, 0.8 * len(members)):
            continue
        if _seen_in_either_half(residual[odd[mine]]):
            found.append(residual[odd[mine]].mean(0))
            sizes.append(float(len(mine)))
    return np.array(found).reshape(len(found), residual.shape[1]), np.array(sizes)


def _seen_in_either_half(members: NDArray[np.float64]) -> bool:
    """Whether the mean of one half, as a matched filter, separates the other half from the host, and back."""
    first, second = members[::2], members[1::2]
    for mine, other in ((first, second), (second, first)):
        direction = mine.mean(0)
        direction = direction / np.linalg.norm(direction)
        if float((other @ direction).mean()) < MIN_SEPARATION:
            return False
    return True
