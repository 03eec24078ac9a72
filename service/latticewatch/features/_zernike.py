"""The estimator: patches, or positions in a frame, in; Zernike moments out."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array

from latticewatch.features._disk import ZernikeDisk
from latticewatch.features._symmetry import invariant_names, invariants


class ZernikeMoments(TransformerMixin, ZernikeDisk, BaseEstimator):
    """Zernike moments of square patches.

    Stateless: nothing is learnt from the patches, so `fit` only checks the parameters and may be left out.

    Parameters
    ----------
    n_max : int, default=10
        Highest radial order, 0 … 30; 10 gives 66 moments. Up to 10 the compiled kernel is used.
    patch_size : int, default=128
        Side of the patches, which is the diameter of the disk [px], 3 … 1024. An odd size has its centre on a
        pixel.
    invariant : bool, default=False
        Give the rotation and reflection `invariants` in place of the moments.

    Attributes
    ----------
    n_, m_ : ndarray of shape (n_orders,), int64
        Radial and azimuthal order of each moment, sorted by (n, m); m < 0 stands for sin |m|θ.
    basis : ndarray of shape (n_orders, patch_size, patch_size), float64
        The polynomials, zero outside the disk.

    Notes
    -----
    Real Zernike polynomials sqrt(2 (n + 1) / (1 + δ_m0)) R_n^|m|(ρ) × {cos mθ, sin |m|θ for m < 0}, on the
    grid linspace(-1, 1, patch_size) in x (columns) and y (rows, downwards), zero outside the unit disk. A
    moment is the sum of pixel × polynomial divided by π patch_size² / 4: that of the flat patch 1 is about
    1 at n = 0. These are the numbers of motif-learn 0.1.2, ``ZPs(n_max,
    patch_size).fit_transform(patches)``.

    `check_estimator` of scikit-learn stops at the tags, which say that X is three-dimensional: an arbitrary
    table of numbers has no patches in it. Flattened patches are taken as well, for pipelines.

    Examples
    --------
    >>> import numpy as np
    >>> from latticewatch.features import ZernikeMoments
    >>> zm = ZernikeMoments(n_max=10, patch_size=29)
    >>> frame = np.ones((100, 100), np.float32)
    >>> zm.at(frame, [(50, 50), (40.25, 61.5)]).shape
    (2, 66)
    """

    def __init__(self, n_max: int = 10, patch_size: int = 128, *, invariant: bool = False) -> None:
        super().__init__(n_max, patch_size)
        self.invariant = invariant

    def fit(self, X: ArrayLike | None = None, y: object = None) -> Self:  # noqa: ARG002
        """Check the parameters; nothing is learnt.

        Parameters
        ----------
        X, y : ignored

        Returns
        -------
        ZernikeMoments
            The estimator itself.
        """
        self._check_parameters()
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Moments of patches.

        Parameters
        ----------
        X : array-like of shape (n, patch_size, patch_size) or (n, patch_size²)
            Patches; computed in float32.

        Returns
        -------
        ndarray of shape (n, n_orders), float32
            Or (n, n_features) of `invariants`.

        Raises
        ------
        ValueError
            Another shape, or values that are not finite.
        """
        self._check_parameters()
        size = self.patch_size
        patches = check_array(X, dtype="float32", order="C", allow_nd=True, estimator=self)
        if patches.shape[1:] not in [(size, size), (size * size,)]:
            raise ValueError(
                f"patches of shape {patches.shape}; expected (n, {size}, {size}) or (n, {size * size}): "
                "set patch_size to their side"
            )
        return self.of(patches)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Names of the columns: ``zernike_n_m``, or those of the invariants.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (n_features_out,), object
        """
        if self.invariant:
            return np.array(invariant_names(self.n_, self.m_), dtype=object)
        return np.array([f"zernike_{n}_{m}" for n, m in zip(self.n_, self.m_, strict=True)], dtype=object)

    def _features(self, image: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
        moments = super()._features(image, positions)
        return invariants(moments, self.n_, self.m_) if self.invariant else moments

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.requires_fit = False
        return tags
