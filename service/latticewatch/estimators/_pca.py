"""Exact principal component analysis of a stream, from its running covariance."""

from __future__ import annotations

from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from latticewatch.estimators._covariance import ROUNDING, RunningCovariance, noise_edge


def validated_rows(estimator: Any, X: Any, *, reset: bool, **limits: Any) -> NDArray[Any]:
    """Rows as float64, or as float32 if they are, checked and counted as scikit-learn does it."""
    return cast(
        "NDArray[Any]", validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], **limits)
    )


def checked_columns(X: Any, n_columns: int) -> NDArray[Any]:
    """Rows to transform back, as float64, or as float32 if they are; ValueError for another number of columns."""
    check: Any = check_array
    rows: NDArray[Any] = check(X, dtype=[np.float64, np.float32], ensure_min_features=0)
    if rows.shape[1] != n_columns:
        raise ValueError(f"got {rows.shape[1]} columns; expected the {n_columns} that transform gives")
    return rows


class IncrementalPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal component analysis that is exact on a stream, mergeable, and able to forget.

    Parameters
    ----------
    n_components : int, "noise" or None, default=None
        How many components are kept. "noise": those whose variance is above the upper edge that pure noise
        of variance `noise_variance` reaches by chance. None: all along which the rows vary. Never more than
        rows seen.
    noise_variance : float, optional
        Variance of the noise in every direction; 1 after `NoiseWhitening`, and 1 for "noise" if not given.
        Otherwise estimated, as in scikit-learn, from the components that are left out.
    forgetting : float, default=1.0
        Before each `partial_fit` the weight of everything seen is multiplied by this; 1 forgets nothing.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features), float64
        Principal axes, by decreasing variance; the entry of largest size of each is positive.
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray of shape (n_components_,)
    mean_ : ndarray of shape (n_features,), float64
    noise_variance_ : float
    covariance_ : ndarray of shape (n_features, n_features), float64
    n_components_ : int
    n_samples_seen_ : int
    statistics_ : RunningCovariance
        The whole state, of a size that does not depend on the length of the stream.

    See Also
    --------
    sklearn.decomposition.IncrementalPCA : Approximate where components are dropped between batches.

    Notes
    -----
    Mean and scatter matrix are sufficient statistics, so batches of any sizes give what one batch gives. The
    eigendecomposition is done once for each change, when first asked for.

    "noise" compares with the edge of Marchenko and Pastur (1967), doi:10.1070/SM1967v001n04ABEH001, for n
    samples in p dimensions: ``noise_variance (1 + sqrt(p / n))²``. At finite n the largest variance of pure
    noise scatters about this edge (Johnstone 2001, doi:10.1214/aos/1009210544), and is above it one time in
    six: one component of noise may be kept, a signal above the edge is not lost.
    """

    def __init__(
        self,
        n_components: int | Literal["noise"] | None = None,
        *,
        noise_variance: float | None = None,
        forgetting: float = 1.0,
    ) -> None:
        self.n_components = n_components
        self.noise_variance = noise_variance
        self.forgetting = forgetting

    n_features_in_: int
    statistics_: RunningCovariance

    @classmethod
    def from_statistics(cls, statistics: RunningCovariance, **parameters: Any) -> Self:
        """An estimator that has seen what the statistics say, for instance after loading them.

        Parameters
        ----------
        statistics : RunningCovariance
        **parameters
            Those of the class.

        Returns
        -------
        IncrementalPCA
            Fitted.
        """
        pca = cls(**parameters)
        pca.statistics_ = statistics
        pca.n_features_in_ = len(statistics.mean)
        return pca

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """Forget everything and learn from one batch.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : ignored
        sample_weight : array-like of shape (n,), optional
            How often each row counts; not negative, and not all zero.

        Returns
        -------
        IncrementalPCA
            The estimator itself.
        """
        self.statistics_ = self._batch(X, sample_weight, first=True)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """Learn from one more batch, of any size; what was seen before fades by `forgetting`.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : ignored
        sample_weight : array-like of shape (n,), optional
            As for `fit`.

        Returns
        -------
        IncrementalPCA
            The estimator itself.
        """
        seen = getattr(self, "statistics_", None)
        batch = self._batch(X, sample_weight, first=seen is None)
        self.statistics_ = batch if seen is None else seen.faded(self.forgetting) + batch
        return self

    def merge(self, other: IncrementalPCA) -> Self:
        """Add what another estimator has seen, for instance in another worker.

        Parameters
        ----------
        other : IncrementalPCA
            Fitted; it is not changed.

        Returns
        -------
        IncrementalPCA
            The estimator itself.

        Raises
        ------
        ValueError
            The other has seen another number of features.
        """
        check_is_fitted(other, "statistics_")
        if not hasattr(self, "statistics_"):
            self.statistics_ = other.statistics_
            self.n_features_in_ = other.n_features_in_
            return self
        if other.n_features_in_ != self.n_features_in_:
            raise ValueError(
                f"the other has {other.n_features_in_} features, this one {self.n_features_in_}; "
                "merge estimators of the same features"
            )
        self.statistics_ = self.statistics_ + other.statistics_
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Project on the components.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_components_), float32 where X is float32, else float64
        """
        check_is_fitted(self, "statistics_")
        rows = validated_rows(self, X, reset=False)
        return ((rows - self.mean_) @ self.components_.T).astype(rows.dtype, copy=False)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Features from projections: the nearest in the space of the components.

        Parameters
        ----------
        X : array-like of shape (n, n_components)

        Returns
        -------
        ndarray of shape (n, n_features)
            Of the dtype of `X`.

        Raises
        ------
        ValueError
            The projections do not have `n_components_` columns.
        """
        check_is_fitted(self, "statistics_")
        scores = checked_columns(X, self.n_components_)
        return (scores @ self.components_ + self.mean_).astype(scores.dtype, copy=False)

    @property
    def n_samples_seen_(self) -> int:
        """Rows seen since the last `fit`, each as often as its weight says."""
        return int(np.ceil(self._fitted().count))

    @property
    def mean_(self) -> NDArray[np.float64]:
        """Mean of the features, shape (n_features,)."""
        return self._fitted().mean

    @property
    def covariance_(self) -> NDArray[np.float64]:
        """Covariance of the features, shape (n_features, n_features)."""
        return self._fitted().covariance

    @property
    def n_components_(self) -> int:
        """Number of components kept."""
        statistics = self._fitted()
        variances = statistics.spectrum[0]
        if self.n_components is None:
            return int(np.count_nonzero(variances > ROUNDING * variances[0]))
        if isinstance(self.n_components, str):
            # The mean has used up one row. A single row has no variance, so nothing is above any edge.
            samples = max(statistics.effective_count - 1, 1.0)
            edge = self.noise_variance_ * noise_edge(len(statistics.mean), samples)
            return int(np.count_nonzero(variances > edge))
        return min(self.n_components, self._n_available)

    @property
    def components_(self) -> NDArray[np.float64]:
        """Principal axes, shape (n_components_, n_features)."""
        return self._fitted().spectrum[1][: self.n_components_]

    @property
    def explained_variance_(self) -> NDArray[np.float64]:
        """Variance along each component, shape (n_components_,)."""
        return self._fitted().spectrum[0][: self.n_components_]

    @property
    def explained_variance_ratio_(self) -> NDArray[np.float64]:
        """Share of the total variance along each component; zero where there is no variance at all."""
        total = self._fitted().spectrum[0].sum()
        return self.explained_variance_ / (total if total > 0 else 1.0)

    @property
    def singular_values_(self) -> NDArray[np.float64]:
        """Singular values of the centred and weighted data, shape (n_components_,)."""
        return np.sqrt(self.explained_variance_ * self._fitted().degrees_of_freedom)

    @property
    def noise_variance_(self) -> float:
        """Variance of the noise in every direction: given, or the mean over the components left out."""
        variances = self._fitted().spectrum[0]
        if self.noise_variance is not None:
            return self.noise_variance
        if self.n_components == "noise":
            return 1.0
        left_out = variances[self.n_components_ : self._n_available]
        return float(left_out.mean()) if left_out.size else 0.0

    @property
    def _n_available(self) -> int:
        return min(self.n_samples_seen_, self.n_features_in_)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _fitted(self) -> RunningCovariance:
        check_is_fitted(self, "statistics_")
        return self.statistics_

    def _batch(self, X: ArrayLike, sample_weight: ArrayLike | None, *, first: bool) -> RunningCovariance:
        rows = validated_rows(self, X, reset=first)
        self._check_parameters(rows.shape[1])
        if sample_weight is None:
            return RunningCovariance.of(rows)
        weights = np.asarray(sample_weight, np.float64)
        if weights.shape != (len(rows),) or not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(
                f"sample_weight of shape {weights.shape}; expected ({len(rows)},), finite and not negative"
            )
        if not weights.any():
            raise ValueError(f"sample_weight is zero for all {len(rows)} rows; leave such a batch out")
        return RunningCovariance.of(rows, weights)

    def _check_parameters(self, n_features: int) -> None:
        n = self.n_components
        whole = isinstance(n, int | np.integer) and not isinstance(n, bool) and 1 <= n <= n_features
        if not (n is None or n == "noise" or whole):
            raise ValueError(
                f"n_components is {n!r}; give a whole number from 1 to {n_features}, 'noise' or None"
            )
        if self.noise_variance is not None and not self.noise_variance > 0:
            raise ValueError(f"noise_variance is {self.noise_variance!r}; give a positive number or None")
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"forgetting is {self.forgetting!r}; give a factor above 0, at most 1")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "statistics_")

    def __sklearn_tags__(self) -> Tags:
        tags: Any = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
