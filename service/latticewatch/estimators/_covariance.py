"""Mean and covariance of a stream, exact and mergeable; what noise alone would show in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A variance below this times the largest one is what rounding leaves of zero.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class RunningCovariance:
    """Sufficient statistics of mean and covariance; adding two gives those of all their rows.

    Parameters
    ----------
    count : float
        Rows seen; a row of weight 2 counts as two rows.
    weight, weight_squared : float
        Sums over these rows of what is left of each (1 until `faded`), and of its square.
    mean : ndarray of shape (n_features,), float64
    scatter : ndarray of shape (n_features, n_features), float64
        Sum over the same of the outer products of the deviations from the mean.

    Notes
    -----
    Adding is eq. 2.1 of Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for
    computing sample variances", for matrices: with Δ the difference of the means,
    ``S = S_a + S_b + Δ Δᵀ w_a w_b / (w_a + w_b)``. Nothing cancels, however far the data are from zero.
    """

    count: float
    weight: float
    weight_squared: float
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, X: ArrayLike, sample_weight: NDArray[np.float64] | None = None) -> Self:
        """Statistics of the rows of a matrix.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        sample_weight : ndarray of shape (n,), float64, optional
            1 for each row where none are given.

        Returns
        -------
        RunningCovariance
        """
        # A copy, which is then centred in place: large temporaries cost more than the arithmetic.
        centred = np.array(X, np.float64)
        weights = np.ones(len(centred)) if sample_weight is None else sample_weight
        count = float(weights.sum())
        mean = weights @ centred / count
        centred -= mean
        if sample_weight is not None:
            centred *= np.sqrt(weights)[:, np.newaxis]
        return cls(count, count, count, mean, centred.T @ centred)

    def __add__(self, other: RunningCovariance) -> Self:
        weight = self.weight + other.weight
        share = other.weight / weight
        shift = other.mean - self.mean
        return replace(
            self,
            count=self.count + other.count,
            weight=weight,
            weight_squared=self.weight_squared + other.weight_squared,
            mean=self.mean + share * shift,
            scatter=self.scatter + other.scatter + np.outer(shift, shift) * (self.weight * share),
        )

    def faded(self, factor: float) -> Self:
        """The same rows, each with its weight multiplied by a factor.

        Parameters
        ----------
        factor : float
            From 0 to 1.

        Returns
        -------
        RunningCovariance
        """
        return replace(
            self,
            weight=factor * self.weight,
            weight_squared=factor**2 * self.weight_squared,
            scatter=factor * self.scatter,
        )

    @property
    def effective_count(self) -> float:
        """Rows of equal weight that would tell as much (Kish): the count, where nothing has faded."""
        return self.weight**2 / self.weight_squared

    @property
    def degrees_of_freedom(self) -> float:
        """What the scatter is divided by for an unbiased covariance: count - 1, where nothing has faded."""
        return self.weight - self.weight_squared / self.weight

    @cached_property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance, shape (n_features, n_features); zero for a single row."""
        dof = self.degrees_of_freedom
        # Rounding leaves a dof of 1e-16 or so where the answer is zero.
        return self.scatter / dof if dof > 1e-9 * self.weight else np.zeros_like(self.scatter)

    @cached_property
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Variances, largest first, and the unit directions they belong to, as rows."""
        return principal_directions(self.covariance)


def principal_directions(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues of a covariance, largest first, and its eigenvectors.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features), float64

    Returns
    -------
    variances : ndarray of shape (n_features,), float64
        Not negative.
    directions : ndarray of shape (n_features, n_features), float64
        Unit vectors, as rows; the entry of largest size is positive, as in ``sklearn.decomposition.PCA``.
    """
    variances, vectors = np.linalg.eigh(covariance)
    directions = np.ascontiguousarray(vectors.T[::-1])
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)[:, np.newaxis]
    return np.maximum(variances[::-1], 0.0), directions


def noise_edge(n_features: int, rows: float, whitened_by: float = np.inf) -> float:
    """Variance that pure noise of variance one reaches by chance in the direction in which it is largest.

    Parameters
    ----------
    n_features : int
    rows : float
        That the covariance comes from.
    whitened_by : float, optional
        Rows that the whitening was learnt from; of a whitening that is known exactly, infinite.

    Returns
    -------
    float
        Infinite where the whitening came from no more rows than there are features.

    Notes
    -----
    The edge of Wachter (1980), "The limiting empirical measure of multiple discriminant ratios",
    doi:10.1214/aos/1176345134: with ``y = p / rows``, ``z = p / whitened_by`` and ``h² = y + z - y z`` it is
    ``((1 + h) / (1 - z))²``. An exact whitening, z = 0, gives the edge of Marchenko and Pastur,
    ``(1 + sqrt(p / rows))²``.
    """
    y, z = n_features / rows, n_features / whitened_by
    if z >= 1:
        return float("inf")
    # h² is below y + z, and only of use for more rows than features
    return float(((1 + np.sqrt(max(y + z - y * z, 0.0))) / (1 - z)) ** 2)
