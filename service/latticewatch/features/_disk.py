"""Positions in a frame in; Zernike moments of the patches around them out. Needs nothing but numpy and the kernel."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latticewatch.features._basis import KERNEL_N_MAX, disk_basis, orders, tables
from latticewatch.features._dense import dense_moments
from latticewatch.features._kernel import moments_around
from latticewatch.features._noise import noise_covariance

MAX_ORDER = 30
MAX_PATCH_PX = 1024


class ZernikeDisk:
    """Zernike polynomials on the disk of a patch, and the moments of such patches of a frame.

    What frames are analysed with; `ZernikeMoments` is the estimator made of it.

    Parameters
    ----------
    n_max, patch_size : int
        As for `ZernikeMoments`.
    """

    def __init__(self, n_max: int = 10, patch_size: int = 128) -> None:
        self.n_max = n_max
        self.patch_size = patch_size

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
            Or (n_sites, n_features) of `invariants`, if `ZernikeMoments` is asked for them. Where a patch sticks
            out of the image, the edge of the image is repeated; `complete` tells which do not.

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

    def of(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Moments of patches.

        Parameters
        ----------
        patches : ndarray of shape (n, patch_size, patch_size) or (n, patch_size²), float32, C order

        Returns
        -------
        ndarray of shape (n, n_orders), float32
        """
        size = self.patch_size
        # The patches one below the other are an image of their own.
        positions = np.full((len(patches), 2), size // 2, np.float64)
        positions[:, 0] += size * np.arange(len(patches))
        return self._features(patches.reshape(-1, size), positions)

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
            Of the moments, also where `ZernikeMoments` gives invariants (which are not linear).
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

        Raises
        ------
        ValueError
            Another number of moments than `n_max` has.
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

    def warm(self) -> Self:
        """Compile the kernel or load it from numba's cache, and make the tables, before the first frame."""
        size = self.patch_size
        self.at(np.zeros((size, size), np.float32), [(size // 2, size // 2), (0.5, 0.5)])
        return self

    def _features(self, image: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
        if self.n_max > KERNEL_N_MAX:
            return dense_moments(image, positions, self.n_max, self.patch_size)
        return moments_around(image, positions, tables(self.n_max, self.patch_size), len(self.n_))

    def _check_parameters(self) -> None:
        for name, low, high in (("n_max", 0, MAX_ORDER), ("patch_size", 3, MAX_PATCH_PX)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; give a whole number from {low} to {high}")


def _checked_positions(positions: ArrayLike) -> NDArray[np.float64]:
    centres = np.ascontiguousarray(positions, np.float64)
    if centres.size == 0:
        return centres.reshape(0, 2)
    if centres.ndim != 2 or centres.shape[1] != 2 or not np.isfinite(centres).all():
        raise ValueError(
            f"positions of shape {centres.shape}; expected (n_sites, 2), all finite, (row, column)"
        )
    return centres
