"""The estimator: patches, or positions in a frame, in; Zernike moments out."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array

from latticewatch.features._basis import KERNEL_N_MAX, disk_basis, orders, tables
from latticewatch.features._dense import dense_moments
from latticewatch.features._kernel import moments_around
from latticewatch.features._noise import noise_covariance
from latticewatch.features._symmetry import invariant_names, invariants

MAX_ORDER = 30
MAX_PATCH_PX = 1024


class ZernikeMoments(TransformerMixin, BaseEstimator):
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
        self.n_max = n_max
        self.patch_size = patch_size
        self.invariant = invariant

    @property
    def n_(self) -> NDArray[np.int64]:
        """Radial order of each moment."""
        return orders(self.n_max)[0]

    @property
    def m_(self) -> NDArray[np.int64]:
        """Azimuthal order of each moment."""
        return orders(self.n_max)[1]

    @property
    def basis(self) -> NDArray[np.float64]:
        """The polynomials on the pixel grid, shape (n_orders, patch_size, patch_size), read-only."""
        self._check_parameters()
        return disk_basis(self.n_max, self.patch_size)

    def fit(self, X: ArrayLike | None = None, y: object = None) -> Self:  # noqa: ARG002
        """Check the parameters; nothing is learnt.

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
        # The patches one below the other are an image of their own.
        positions = np.full((len(patches), 2), size // 2, np.float64)
        positions[:, 0] += size * np.arange(len(patches))
        return self._features(patches.reshape(-1, size), positions)

    def at(self, image: ArrayLike, positions: ArrayLike) -> NDArray[np.float32]:
        """Moments of the patches around positions in an image, without copying them out.

        Parameters
        ----------
        image : array-like of shape (height, width)
            Used in place if it is float32 and C-contiguous, else converted once. Not searched for NaN: one
            makes the moments NaN of the patches whose disk it lies in or touches.
        positions : array-like of shape (n_sites, 2)
            Patch centres (row, column) [px]. Pixel (i, j) of the patch is the image at
            (row - size // 2 + i, col - size // 2 + j), so for whole numbers and an even size the patch is
            ``image[row - size // 2 : row + size // 2, col - size // 2 : col + size // 2]`` and its centre of
            gravity is half a pixel before the position; for an odd size it is the position. Between pixels
            the image is interpolated bilinearly.

        Returns
        -------
        ndarray of shape (n_sites, n_orders), float32
            Or (n_sites, n_features) of `invariants`. Where a patch sticks out of the image, the edge of the
            image is repeated; `complete` tells which do not.

        Raises
        ------
        ValueError
            An image that is not two-dimensional and numeric, or positions of another shape or not finite.
        """
        self._check_parameters()
        pixels = np.asarray(image)
        if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype.kind not in "buif":
            raise ValueError(
                f"image of shape {pixels.shape} and type {pixels.dtype}; "
                "expected (height, width) of real numbers"
            )
        pixels = np.ascontiguousarray(pixels, np.float32)
        return self._features(pixels, _checked_positions(positions))

    def complete(self, shape: tuple[int, int], positions: ArrayLike) -> NDArray[np.bool_]:
        """Which patches lie wholly inside an image.

        Parameters
        ----------
        shape : tuple of int
            Height and width of the image [px].
        positions : array-like of shape (n_sites, 2)
            As for `at`.

        Returns
        -------
        ndarray of shape (n_sites,), bool
        """
        self._check_parameters()
        first = _checked_positions(positions) - self.patch_size // 2
        last = np.ceil(first) + self.patch_size - 1
        return np.all((first >= 0) & (last <= np.subtract(shape, 1)), axis=1)

    def noise_covariance(
        self, variance: ArrayLike = 1.0, shift: tuple[float, float] | Literal["uniform"] = (0.0, 0.0)
    ) -> NDArray[np.float64]:
        """Covariance of the moments from independent noise in the pixels.

        Parameters
        ----------
        variance : array-like, scalar or of shape (patch_size, patch_size) or (patch_size + 1, patch_size + 1)
            Variance of the pixels of the *image*, counted from the pixel at ``floor(position) - size //
            2``. A patch between the pixels draws on one row and one column more; where they are not given,
            the last ones are repeated.
        shift : tuple of float or "uniform", default=(0.0, 0.0)
            Fraction of a pixel in row and column by which the position goes beyond a whole one.
            Interpolation averages pixels: at (0.5, 0.5) the variance of low orders is that of whole
            positions, and of high orders less. "uniform": the mean over all fractions, for sites that lie
            anywhere; exact.

        Returns
        -------
        ndarray of shape (n_orders, n_orders), float64
            Of the moments, also where `invariant` is set (invariants are not linear).
        """
        self._check_parameters()
        return noise_covariance(self.n_max, self.patch_size, variance, shift)

    def reconstruct(self, moments: ArrayLike) -> NDArray[np.float64]:
        """Patches from moments: the least-squares fit, in the disk, of the patches they were taken from.

        Parameters
        ----------
        moments : array-like of shape (..., n_orders)
            Moments (not invariants).

        Returns
        -------
        ndarray of shape (..., patch_size, patch_size), float64
            Zero outside the disk. Their moments are `moments`, where the disk has pixels enough for n_max.
        """
        self._check_parameters()
        coefficients = np.asarray(moments, np.float64)
        basis = self.basis.reshape(len(self.n_), -1)
        if coefficients.shape[-1:] != (len(basis),):
            raise ValueError(f"moments of shape {coefficients.shape}; expected (..., {len(basis)})")
        # On pixels the polynomials are not quite orthogonal, so their Gram matrix has to be divided out.
        gram = basis @ basis.T / (np.pi * self.patch_size**2 / 4)
        patches = coefficients @ np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ basis
        return patches.reshape(*coefficients.shape[:-1], self.patch_size, self.patch_size)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Names of the columns: ``zernike_n_m``, or those of the invariants."""
        if self.invariant:
            return np.array(invariant_names(self.n_, self.m_), dtype=object)
        return np.array([f"zernike_{n}_{m}" for n, m in zip(self.n_, self.m_, strict=True)], dtype=object)

    def warm(self) -> Self:
        """Compile the kernel or load it from numba's cache, and make the tables, before the first frame."""
        size = self.patch_size
        self.at(np.zeros((size, size), np.float32), [(size // 2, size // 2), (0.5, 0.5)])
        return self

    def _features(self, image: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
        if self.n_max > KERNEL_N_MAX:
            moments = dense_moments(image, positions, self.n_max, self.patch_size)
        else:
            moments = moments_around(image, positions, tables(self.n_max, self.patch_size), len(self.n_))
        return invariants(moments, self.n_, self.m_) if self.invariant else moments

    def _check_parameters(self) -> None:
        for name, low, high in (("n_max", 0, MAX_ORDER), ("patch_size", 3, MAX_PATCH_PX)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; give a whole number from {low} to {high}")

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.requires_fit = False
        return tags


def _checked_positions(positions: ArrayLike) -> NDArray[np.float64]:
    centres = np.ascontiguousarray(positions, np.float64)
    if centres.size == 0:
        return centres.reshape(0, 2)
    if centres.ndim != 2 or centres.shape[1] != 2 or not np.isfinite(centres).all():
        raise ValueError(
            f"positions of shape {centres.shape}; expected (n_sites, 2), all finite, (row, column)"
        )
    return centres
