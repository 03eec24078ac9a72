"""What changes of occupancy do not explain: displaced columns, columns between sites, dirt, another phase.

Host patches, whitened and rid of what any change of height in reach could add, are noise: their squared length follows
χ². A site beyond it is odd. Odd sites that lie together in the force-relaxed layout of their nearest-neighbour graph,
and whose mean is seen in either half of them alone, are a class; the others are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from latticewatch.learn._mixture import MIN_SEPARATION
from latticewatch.learn._posteriors import shares

if TYPE_CHECKING:
    from latticewatch.learn._centroid import NearestCentroid

# Share of sites that are odd a priori, and how far the standardised χ² of odd sites may reach.
ODD_PRIOR = 1e-6
ODD_REACH = 60.0
# Sites are candidates for a class of their own from here on, in standard deviations of the standardised χ².
CANDIDATE = 4.0
MIN_CLUSTER = 5
HOSTS_BESIDE = 400


@dataclass(frozen=True, slots=True, eq=False)
class Oddities:
    """How odd the patches of one sublattice are, and the classes of odd ones.

    Attributes
    ----------
    mean : ndarray of shape (n_moments,), float64
        Moments of the host.
    projection : ndarray of shape (n_moments, n_axes), float64
        From moments to axes on which hosts have unit variance and changes of occupancy leave nothing.
    level, spread : float
        Median and robust standard deviation of the hosts' normal score of χ².
    axes : ndarray of shape (n_axes, n_classes), float64
        Directions of the classes, orthonormal.
    classifier : NearestCentroid or None
        On those directions: 0 is the host, 1 … the classes; None where there is no class.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    level: float
    spread: float
    axes: NDArray[np.float64]
    classifier: NearestCentroid | None

    @property
    def n_classes(self) -> int:
        """Number of classes of odd sites."""
        return 0 if self.classifier is None else self.axes.shape[1]

    def residual(self, moments: NDArray[np.floating]) -> NDArray[np.float64]:
        """What changes of occupancy leave unexplained, shape (n, n_axes) [sigma]."""
        return (moments - self.mean) @ self.projection

    def oddness(self, residual: NDArray[np.floating]) -> NDArray[np.float64]:
        """Normal score of the squared length of residuals, hosts near 0 with standard deviation 1."""
        return self._oddness(squared_lengths(residual))

    def _oddness(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        return (normal_score(squared, self.projection.shape[1]) - self.level) / self.spread

    def posteriors(self, moments: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability of not being odd, of each class of odd sites, and of none of them: shape (n, n_classes + 2)."""
        residual = self.residual(moments)
        return self.posteriors_of(residual, squared_lengths(residual))

    def posteriors_of(
        self, residual: NDArray[np.floating], squared: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The same from what is left unexplained, and its squared length."""
        oddness = self._oddness(squared)
        usual = (1 - ODD_PRIOR) * np.exp(-0.5 * np.maximum(oddness, 0.0) ** 2) / np.sqrt(2 * np.pi)
        odd = ODD_PRIOR / ODD_REACH
        share = odd / (usual + odd)
        if self.classifier is None:
            return np.stack([1 - share, share], 1)
        classifier = self.classifier
        apart = cdist(residual @ self.axes, classifier.centroids_, "sqeuclidean")
        of_class = shares(
            np.asarray(apart, np.float64),
            np.log(classifier.priors_),
            classifier.contamination,
            classifier.spread,
            self.axes.shape[1],
        )
        # a class may be found where χ² over all axes alone would say nothing
        known = of_class[:, 1:-1]
        host = of_class[:, 0] * (1 - share)
        rest = np.maximum(1 - host - known.sum(1), 0.0)
        return np.concatenate([host[:, None], known, rest[:, None]], 1)


def normal_score(squared: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Squared length of standard normal rows, n numbers long, as a standard normal variable.

    Wilson & Hilferty (1931), The distribution of chi-square, doi:10.1073/pnas.17.12.684.
    """
    if n == 0:
        return np.zeros(len(squared))
    return (np.cbrt(squared / n) - (1 - 2 / (9 * n))) / np.sqrt(2 / (9 * n))


def squared_lengths(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Squared length of each row, shape (n,)."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)


def find_oddities(
    moments: NDArray[np.float64],
    host: NDArray[np.bool_],
    mean: NDArray[np.float64],
    whitening: NDArray[np.float64],
    templates: NDArray[np.float64],
    seed: int,
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
        What changes of occupancy add.
    seed : int
    """
    explained, _ = np.linalg.qr((templates @ whitening).T)
    # an orthonormal basis of what is left
    left = np.linalg.svd(explained, full_matrices=True)[0][:, explained.shape[1] :]
    projection = whitening @ left
    residual = (moments - mean) @ projection
    score = normal_score(squared_lengths(residual), left.shape[1])
    level = float(np.median(score[host]))
    spread = 1.4826 * float(np.median(np.abs(score[host] - level))) or 1.0
    plain = Oddities(mean, projection, level, spread, np.zeros((left.shape[1], 0)), None)
    if left.shape[1] < 2:
        # small patches of few pixels: changes of occupancy explain them whole
        return plain
    odd = np.flatnonzero(host & (plain.oddness(residual) > CANDIDATE))
    if len(odd) < MIN_CLUSTER:
        return plain
    centroids, counts = _clusters(residual, odd, np.flatnonzero(host), np.random.default_rng(seed))
    if not len(centroids):
        return plain
    from latticewatch.learn._centroid import NearestCentroid

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

    from latticewatch.learn._centroid import NearestCentroid

    one = np.ones((1, 1))
    classifier = NearestCentroid.from_centroids([[0.0], [9.0]], [9, 1], contamination=ODD_PRIOR)
    Oddities(np.zeros(1), one, 0.0, 1.0, one, classifier).posteriors(one)


def _clusters(
    residual: NDArray[np.float64],
    odd: NDArray[np.intp],
    hosts: NDArray[np.intp],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and sizes of the clusters of odd sites in the force-relaxed layout, hosts beside them."""
    from sklearn.cluster import HDBSCAN

    from latticewatch.learn._layout import ForceRelaxedLayout
    from latticewatch.learn._pca import IncrementalPCA

    beside = rng.permutation(np.setdiff1d(hosts, odd))[:HOSTS_BESIDE]
    rows = np.concatenate([odd, beside])
    pca = IncrementalPCA(n_components="noise", noise_variance=1.0).fit(residual[odd])
    components = pca.transform(residual[rows])
    if components.shape[1] < 2:
        components = IncrementalPCA(n_components=2).fit(residual[odd]).transform(residual[rows])
    layout = ForceRelaxedLayout(n_neighbors=min(15, len(rows) - 1), seed=int(rng.integers(2**31)))
    picture = layout.fit_transform(components)
    labels = HDBSCAN(min_cluster_size=MIN_CLUSTER, copy=True).fit_predict(picture)  # type: ignore[arg-type]
    found, sizes = [], []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        mine = members[members < len(odd)]
        if len(mine) < max(MIN_CLUSTER, 0.8 * len(members)):
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
