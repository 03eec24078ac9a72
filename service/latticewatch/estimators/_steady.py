"""A plane picture that is drawn anew now and then, and in which nothing jumps."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import KDTree
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from latticewatch.estimators._layout import ForceRelaxedLayout
from latticewatch.estimators._pca import validated_rows

# Rows that two layouts must share for one to be turned onto the other: fewer do not tell a turn from chance.
FEWEST_SHARED = 3
# A row as near as this to a known one is drawn on it [sigma].
ON_IT = 1e-3


class SteadyLayout(BaseEstimator):
    """Force-relaxed layout of a pool of rows that changes, with a place for rows that are not in it.

    Parameters
    ----------
    n_neighbors : int, default=15
        Of `ForceRelaxedLayout`.
    n_placed_by : int, default=5
        Rows of the pool that a new row is placed by.
    seed : int, default=0

    Attributes
    ----------
    embedding_ : ndarray of shape (n, 2), float32
        Places of the rows of the pool.
    keys_ : ndarray of shape (n,), int64
        What each row of the pool is known by.
    n_layouts_ : int
        How often it was laid out.

    Notes
    -----
    Forces fix a layout up to a turn and a reflection, so that two layouts of nearly the same rows may look
    entirely different. Each one is turned onto the last by the rows they share: the orthogonal matrix that
    minimises the squared distances (Schönemann 1966, "A generalized solution of the orthogonal Procrustes
    problem", doi:10.1007/BF02289451), after both were centred on them. The scale is left as it is.

    A new row stands at the mean of its neighbours in the space of the rows, each with the inverse square of its
    distance as weight (Shepard 1968, doi:10.1145/800186.810616).
    """

    def __init__(self, n_neighbors: int = 15, *, n_placed_by: int = 5, seed: int = 0) -> None:
        self.n_neighbors = n_neighbors
        self.n_placed_by = n_placed_by
        self.seed = seed

    embedding_: NDArray[np.float32]
    keys_: NDArray[np.int64]

    def fit(self, X: ArrayLike, y: object = None, keys: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """Lay out a pool; a pool that shares rows with the last one is turned onto it.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Whitened, so that distances are in sigma. At least two rows.
        y : ignored
        keys : array-like of shape (n,), int, optional
            What each row is known by, all different: a row that was in the last pool has the key it had there.
            Without them nothing is shared.

        Returns
        -------
        SteadyLayout
            The estimator itself.

        Raises
        ------
        ValueError
            Keys of another number than rows, or some twice.
        """
        rows = validated_rows(self, X, reset=True, ensure_min_samples=2)
        named = np.full(len(rows), -1) if keys is None else np.asarray(keys, np.int64)
        if named.shape != (len(rows),) or (keys is not None and len(np.unique(named)) < len(named)):
            raise ValueError(f"keys of shape {named.shape}; give {len(rows)}, all different")
        fresh = ForceRelaxedLayout(min(self.n_neighbors, len(rows) - 1), seed=self.seed).fit_transform(rows)
        last = getattr(self, "keys_", np.zeros(0, np.int64))
        _, here, there = np.intersect1d(named[named >= 0], last[last >= 0], return_indices=True)
        if len(here) >= FEWEST_SHARED:
            fresh = turned_onto(fresh, fresh[here], self.embedding_[there])
        self.embedding_, self.keys_, self._tree = fresh, named, KDTree(rows)
        self.n_layouts_ = getattr(self, "n_layouts_", 0) + 1
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Places of rows by their neighbours in the pool.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, 2), float32
            In the units of `embedding_`.
        """
        check_is_fitted(self, "embedding_")
        rows = validated_rows(self, X, reset=False)
        k = min(self.n_placed_by, len(self.embedding_))
        distance, near = (np.reshape(found, (len(rows), k)) for found in self._tree.query(rows, k=k))
        weight = 1.0 / np.square(np.maximum(distance, ON_IT))
        weight /= weight.sum(1, keepdims=True)
        return (weight[:, :, np.newaxis] * self.embedding_[near]).sum(1).astype(np.float32)


def turned_onto(
    layout: NDArray[np.float32], shared: NDArray[np.float32], wanted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A layout turned, reflected and moved so that some of its points come as near as they can to wanted places.

    Parameters
    ----------
    layout : ndarray of shape (n, 2), float32
    shared, wanted : ndarray of shape (m, 2), float32
        The same points in this layout, and where they are wanted.
    """
    from_centre, to_centre = shared.mean(0), wanted.mean(0)
    turn, _ = orthogonal_procrustes(shared - from_centre, wanted - to_centre)
    return ((layout - from_centre) @ turn + to_centre).astype(np.float32)
