"""A plane picture of the sites: force-relaxed layout of the graph of nearest neighbours."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from latticewatch.estimators._covariance import RunningCovariance
from latticewatch.estimators._pca import validated_rows

# "fast" without nnan and ninf: a NaN stays one. Python's check for division by zero would keep the loop over
# pairs from being vectorised, which makes it ten times slower. The last digits may be others in another process, which
# no other result depends on: this is a picture.
FAST_FLAGS = {"reassoc", "contract", "arcp", "nsz"}
kernel = njit(cache=True, nogil=True, fastmath=FAST_FLAGS, error_model="numpy")

# Nodes up to which every pair is computed, since tiles are no faster, and nodes of a tile beyond that.
EXACT_NODES = 4000
TILE_NODES = 32

# Added to squared distances in the repulsion: nodes on top of each other do not throw each other out.
SOFTENING = np.float32(0.01)


class ForceRelaxedLayout(BaseEstimator):
    """Lay rows out in the plane so that neighbours attract and all nodes repel each other.

    Parameters
    ----------
    n_neighbors : int, default=15
        Neighbours of each node in the graph; all others where there are fewer.
    n_iterations : int, default=100
        Steps of the relaxation.
    gravity : float, default=0.1
        Pull towards the centre. Without it, clusters that share no edge drift apart as long as steps are
        made; the more of it, the narrower the gaps between clusters.
    seed : int, default=0
        Of the jitter that parts equal rows. The same seed gives the same layout.

    Attributes
    ----------
    embedding_ : ndarray of shape (n, 2), float32
        Positions of the nodes; their centre is zero, their root mean squared distance from it one.
    n_features_in_ : int

    Notes
    -----
    Dan et al. (2022), Science Advances 8, eabk1005, doi:10.1126/sciadv.abk1005, lay the k-nearest-neighbour
    graph of Zernike features out by forces, because there the clusters come apart that overlap in the first two
    principal components. With p the positions and an ideal edge of length one, the force on node i is ::

        F_i = Σ_j w_ij (p_j - p_i) + Σ_j (p_i - p_j) / |p_i - p_j|² - g p_i

    The repulsion is that of Fruchterman and Reingold (1991), doi:10.1002/spe.4380211102; so is the relaxation:
    a node moves along its force, no further than a temperature that falls linearly from a tenth of the
    side of the layout to zero. The attraction is linear (the authors of the method start with such a force,
    too) and not their square of the distance, because then clusters keep a denser core and wider gaps.
    w is 1 between nodes that are neighbours of each other, ½ where one is a neighbour of the other.
    The start is the projection on the first two principal components.

    Up to 4,000 nodes the repulsion is exact. Beyond, nodes are packed in tiles of about 32 (sorted in x into
    strips, each strip in y, as in the R-trees of Leutenegger, Lopez and Edgington 1997), and a tile acts as if
    at its centre of mass on tiles that are far from it compared with its size (Barnes and Hut 1986,
    doi:10.1038/324446a0): an error of the forces of a few parts in a thousand.
    """

    def __init__(
        self, n_neighbors: int = 15, *, n_iterations: int = 100, gravity: float = 0.1, seed: int = 0
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_iterations = n_iterations
        self.gravity = gravity
        self.seed = seed

    embedding_: NDArray[np.float32]

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Lay out the rows of a matrix.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Whitened, so that distances are in sigma. At least two rows.
        y : ignored

        Returns
        -------
        ForceRelaxedLayout
            The estimator itself.
        """
        rows = validated_rows(self, X, reset=True, ensure_min_samples=2)
        self._check_parameters()
        n = len(rows)
        graph = _neighbour_graph(rows, min(self.n_neighbors, n - 1))
        positions = _start(rows, np.random.default_rng(self.seed))
        tiles_a_side = 1 if n <= EXACT_NODES else round(np.sqrt(n / TILE_NODES))
        for step in range(self.n_iterations):
            order, bounds = pack(positions, tiles_a_side)
            force = np.empty_like(positions)
            force[order] = repulsion(np.ascontiguousarray(positions[order].T), bounds)
            force += attraction(positions, *graph) - np.float32(self.gravity) * positions
            length = np.hypot(force[:, 0], force[:, 1])
            temperature = 0.1 * np.sqrt(n) * (1 - step / self.n_iterations)
            shrink = np.minimum(1, temperature / np.maximum(length, 1e-12))
            positions += force * shrink[:, np.newaxis].astype(np.float32)
        positions -= positions.mean(axis=0)
        self.embedding_ = positions / np.sqrt(np.square(positions).sum(axis=1).mean())
        return self

    def fit_transform(self, X: ArrayLike, y: object = None) -> NDArray[np.float32]:  # noqa: ARG002
        """Lay out the rows of a matrix, as `fit`, and return `embedding_`.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : ignored

        Returns
        -------
        ndarray of shape (n, 2), float32
            `embedding_`.
        """
        return self.fit(X).embedding_

    def warm(self) -> Self:
        """Compile the kernels, or load them from numba's cache, before the first layout is asked for."""
        points = np.zeros((2, 2), np.float32)
        repulsion(points, pack(points, 1)[1])
        attraction(points, *_neighbour_graph(points, 1))
        return self

    def _check_parameters(self) -> None:
        for name in ("n_neighbors", "n_iterations"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} is {value!r}; give a whole number, at least 1")
        if not (self.gravity >= 0 and np.isfinite(self.gravity)):
            raise ValueError(f"gravity is {self.gravity!r}; give a number, at least 0")


def _neighbour_graph(rows: NDArray[Any], n_neighbors: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Index pointer, neighbours and weights (compressed sparse rows) of the symmetric graph."""
    directed: Any = NearestNeighbors(n_neighbors=n_neighbors).fit(rows).kneighbors_graph()
    graph = ((directed + directed.T) / 2).tocsr()
    return graph.indptr, graph.indices, graph.data.astype(np.float32)


def _start(rows: NDArray[Any], generator: np.random.Generator) -> NDArray[np.float32]:
    """First two principal components, jittered, on the scale on which the layout comes to rest."""
    statistics = RunningCovariance.of(rows)
    axes = statistics.spectrum[1][:2]
    positions = generator.normal(scale=0.01, size=(len(rows), 2))
    # A whole layout of rows that are equal comes from the jitter.
    spread = np.sqrt(np.trace(axes @ statistics.covariance @ axes.T) / 2) or 1.0
    positions[:, : len(axes)] += 0.5 * np.sqrt(len(rows)) / spread * (rows - statistics.mean) @ axes.T
    return positions.astype(np.float32)


def pack(positions: NDArray[np.float32], tiles_a_side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort nodes into tiles of equal number: strips in x, and in each strip tiles in y.

    Parameters
    ----------
    positions : ndarray of shape (n, 2), float32
    tiles_a_side : int
        Strips, and tiles in each.

    Returns
    -------
    order : ndarray of shape (n,), int64
        Nodes, tile by tile.
    bounds : ndarray of shape (tiles_a_side² + 1,), int64
        Tile t is ``order[bounds[t] : bounds[t + 1]]``.
    """
    bounds = np.arange(tiles_a_side**2 + 1) * len(positions) // tiles_a_side**2
    by_x = np.argsort(positions[:, 0], kind="stable")
    strip = np.repeat(np.arange(tiles_a_side), np.diff(bounds[::tiles_a_side]))
    return by_x[np.lexsort((positions[by_x, 1], strip))], bounds


@kernel
def repulsion(xy: NDArray[np.float32], bounds: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sum of the repulsions from all nodes, on each.

    Parameters
    ----------
    xy : ndarray of shape (2, n), float32, C order
        Nodes, tile by tile.
    bounds : ndarray of shape (n_tiles + 1,), int64
        As from `pack`; no tile is empty.

    Returns
    -------
    ndarray of shape (n, 2), float32
    """
    # Element by element: numba takes 4 s to compile arithmetic and assignments of slices.
    x, y = xy
    n_tiles = bounds.size - 1
    centre = np.empty((n_tiles, 2), np.float32)
    radius = np.empty(n_tiles, np.float32)
    for t in range(n_tiles):
        first, last = bounds[t], bounds[t + 1]
        sum_x, sum_y = np.float32(0), np.float32(0)
        for i in range(first, last):
            sum_x += x[i]
            sum_y += y[i]
        centre[t, 0], centre[t, 1] = sum_x / (last - first), sum_y / (last - first)
        largest = np.float32(0)
        for i in range(first, last):
            largest = max(largest, (x[i] - centre[t, 0]) ** 2 + (y[i] - centre[t, 1]) ** 2)
        radius[t] = np.sqrt(largest)
    # What acts on the nodes of one tile: nodes nearby, and the centres of tiles far away.
    source_x = np.empty(x.size, np.float32)
    source_y = np.empty(x.size, np.float32)
    mass = np.empty(x.size, np.float32)
    force = np.empty((x.size, 2), np.float32)
    for t in range(n_tiles):
        n_sources = 0
        for other in range(n_tiles):
            first, last = bounds[other], bounds[other + 1]
            distance = np.hypot(centre[t, 0] - centre[other, 0], centre[t, 1] - centre[other, 1])
            if distance > radius[t] + 2 * radius[other]:
                source_x[n_sources], source_y[n_sources] = centre[other, 0], centre[other, 1]
                mass[n_sources] = last - first
                n_sources += 1
            else:
                for i in range(first, last):
                    source_x[n_sources], source_y[n_sources], mass[n_sources] = x[i], y[i], 1
                    n_sources += 1
        for i in range(bounds[t], bounds[t + 1]):
            force_x, force_y = np.float32(0), np.float32(0)
            for j in range(n_sources):
                dx, dy = x[i] - source_x[j], y[i] - source_y[j]
                push = mass[j] / (dx * dx + dy * dy + SOFTENING)
                force_x += dx * push
                force_y += dy * push
            force[i, 0], force[i, 1] = force_x, force_y
    return force


@kernel
def attraction(
    positions: NDArray[np.float32],
    start: NDArray[np.int32],
    neighbours: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Sum of the attractions along the edges, on each node.

    Parameters
    ----------
    positions : ndarray of shape (n, 2), float32
    start, neighbours, weights : ndarray
        Symmetric graph in compressed sparse rows: the edges of node i are at ``start[i]`` to
        ``start[i + 1]``.

    Returns
    -------
    ndarray of shape (n, 2), float32
    """
    force = np.zeros_like(positions)
    for i in range(len(positions)):
        for edge in range(start[i], start[i + 1]):
            pull = weights[edge]
            force[i, 0] += pull * (positions[neighbours[edge], 0] - positions[i, 0])
            force[i, 1] += pull * (positions[neighbours[edge], 1] - positions[i, 1])
    return force
