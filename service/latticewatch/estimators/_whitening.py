"""Coordinates in which the noise has variance one in every direction."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from latticewatch.estimators._covariance import ROUNDING, RunningCovariance, principal_directions
from latticewatch.estimators._pca import checked_columns, validated_rows


class NoiseWhitening(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Whiten by the covariance of the noise: the first half of the minimum-noise-fraction transform.

    Distances between whitened rows are in units of sigma, and principal components of whitened rows are
    ordered by signal-to-noise ratio, not by variance.

    Parameters
    ----------
    rank_tolerance : float, default=1e-4
        Directions whose noise variance is below this times the largest one are dropped. A small patch has
        fewer independent pixels than there are moments, so some combinations of moments hold neither signal
        nor noise, only rounding, which whitening would blow up.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64
        Subtracted before whitening.
    matrix_ : ndarray of shape (n_features, n_directions), float64
        ``transform(X) = (X - mean_) @ matrix_``.
    inverse_matrix_ : ndarray of shape (n_directions, n_features), float64
        ``matrix_ @ inverse_matrix_`` projects on the directions kept.
    noise_variance_ : ndarray of shape (n_directions,), float64
        Noise variance along the directions kept, largest first.
    noise_covariance_ : ndarray of shape (n_features, n_features), float64
    differences_ : RunningCovariance
        Of the differences seen; absent while there are none.

    Notes
    -----
    Green, Berman, Switzer and Craig (1988), "A transformation for ordering multispectral data in terms of
    image quality with implications for noise removal", doi:10.1109/36.3001. They take the noise from
    differences of neighbouring pixels; here it comes from the detector's noise propagated through the Zernike
    basis (`ZernikeMoments.noise_covariance`), or from differences of the same site between frames.
    """

    def __init__(self, *, rank_tolerance: float = 1e-4) -> None:
        self.rank_tolerance = rank_tolerance

    n_features_in_: int
    differences_: RunningCovariance

    @classmethod
    def from_covariance(
        cls, covariance: ArrayLike, mean: ArrayLike | None = None, *, rank_tolerance: float = 1e-4
    ) -> Self:
        """Whitening by a known noise covariance.

        Parameters
        ----------
        covariance : array-like of shape (n_features, n_features)
            Of the noise; symmetric, positive semi-definite.
        mean : array-like of shape (n_features,), optional
            Subtracted before whitening; zero if not given.
        rank_tolerance : float, default=1e-4

        Returns
        -------
        NoiseWhitening

        Raises
        ------
        ValueError
            A covariance that is not one, or zero, or a mean of another length.
        """
        whitening = cls(rank_tolerance=rank_tolerance)
        noise = np.array(covariance, np.float64)
        if noise.ndim != 2:
            raise ValueError(f"covariance of shape {noise.shape}; expected (n_features, n_features)")
        centre = np.zeros(len(noise)) if mean is None else np.array(mean, np.float64)
        if centre.shape != (len(noise),) or not np.isfinite(centre).all():
            raise ValueError(f"mean of shape {centre.shape}; expected ({len(noise)},), all finite")
        whitening.n_features_in_ = len(noise)
        whitening.mean_ = centre
        whitening._set_noise(noise)
        return whitening

    def fit(self, X: ArrayLike, y: object = None, *, noise_covariance: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """Learn the mean, and whiten by a noise covariance.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            At least two rows.
        y : ignored
        noise_covariance : array-like of shape (n_features, n_features), optional
            If not given, all variation in X counts as noise (ordinary whitening).

        Returns
        -------
        NoiseWhitening
            The estimator itself.

        Raises
        ------
        ValueError
            A covariance that is not one, or zero.
        """
        rows = validated_rows(self, X, reset=True, ensure_min_samples=2)
        statistics = RunningCovariance.of(rows)
        noise = statistics.covariance
        if noise_covariance is not None:
            noise = np.array(noise_covariance, np.float64)
        self.__dict__.pop("differences_", None)
        self.mean_ = statistics.mean
        self._set_noise(noise)
        return self

    def partial_fit_differences(self, D: ArrayLike) -> Self:
        """Learn the noise from differences of the same sites between successive registered frames.

        Noise is independent from frame to frame, so the difference of two has twice its covariance; what the
        frames have in common cancels. Batches of any sizes give what one batch gives. From the moment there
        are more differences than features, the noise they show replaces any given before; until then it
        stays, or the estimator is not fitted. For variances good to a few per cent, give a hundred times as many
        as there are features, and leave out sites that changed.

        Parameters
        ----------
        D : array-like of shape (n, n_features)
            Features in one frame minus those in the frame before.

        Returns
        -------
        NoiseWhitening
            The estimator itself.
        """
        known = hasattr(self, "n_features_in_")
        rows = validated_rows(self, D, reset=not known)
        batch = RunningCovariance.of(rows)
        seen = getattr(self, "differences_", None)
        self.differences_ = batch if seen is None else seen + batch
        if not hasattr(self, "mean_"):
            self.mean_ = np.zeros(rows.shape[1])
        if self.differences_.count > rows.shape[1]:
            self._set_noise(self.differences_.covariance / 2)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Whiten.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_directions), float32 where X is float32, else float64
        """
        self._check_fitted()
        rows = validated_rows(self, X, reset=False)
        return ((rows - self.mean_) @ self.matrix_).astype(rows.dtype, copy=False)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Features from whitened coordinates; what lay along dropped directions becomes the mean.

        Parameters
        ----------
        X : array-like of shape (n, n_kept)
            Whitened coordinates.

        Returns
        -------
        ndarray of shape (n, n_features)
            Of the dtype of `X`.

        Raises
        ------
        ValueError
            Another number of columns than directions kept.
        """
        self._check_fitted()
        rows = checked_columns(X, len(self.inverse_matrix_))
        return (rows @ self.inverse_matrix_ + self.mean_).astype(rows.dtype, copy=False)

    def _set_noise(self, covariance: NDArray[np.float64]) -> None:
        if not 0 <= self.rank_tolerance < 1:
            raise ValueError(f"rank_tolerance is {self.rank_tolerance!r}; give a number from 0, below 1")
        expected = (self.n_features_in_, self.n_features_in_)
        if covariance.shape != expected or not np.isfinite(covariance).all():
            raise ValueError(f"noise covariance of shape {covariance.shape}; expected {expected}, all finite")
        size = np.abs(covariance).max()
        if np.abs(covariance - covariance.T).max() > 1e-6 * size:
            raise ValueError("the noise covariance is not symmetric; give that of the same features twice")
        lowest = np.linalg.eigvalsh(covariance)[0] if size else 0.0
        if lowest < -1e-6 * size:
            raise ValueError(f"the noise covariance has a negative variance, {lowest:.3g}; give a covariance")
        variances, directions = principal_directions(covariance)
        kept = variances > max(self.rank_tolerance, ROUNDING) * variances[0]
        if not kept.any():
            raise ValueError(
                "the noise covariance is zero: the rows do not vary; give the covariance of noise"
            )
        sigma = np.sqrt(variances[kept])
        self.noise_covariance_ = covariance
        self.noise_variance_ = variances[kept]
        self.matrix_ = directions[kept].T / sigma
        self.inverse_matrix_ = directions[kept] * sigma[:, np.newaxis]

    def _check_fitted(self) -> None:
        if not hasattr(self, "matrix_") and hasattr(self, "differences_"):
            raise NotFittedError(
                f"{self.differences_.count:g} differences of {self.n_features_in_} features do not tell the noise; "
                f"give at least {self.n_features_in_ + 1}"
            )
        check_is_fitted(self, "matrix_")

    @property
    def _n_features_out(self) -> int:
        return self.matrix_.shape[1]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "matrix_")

    def __sklearn_tags__(self) -> Tags:
        tags: Any = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
