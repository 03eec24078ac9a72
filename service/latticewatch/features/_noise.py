"""Pixel noise propagated to Zernike moments: the map is linear, so the covariance is exact."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latticewatch.features._basis import disk_basis

# Gauss-Legendre nodes on 0 … 1 with equal weights; exact up to the third degree, and the covariance is of
# the second degree in each shift.
_NODES = (0.5 - np.sqrt(1 / 12), 0.5 + np.sqrt(1 / 12))


def noise_covariance(
    n_max: int,
    size: int,
    variance: ArrayLike = 1.0,
    shift: tuple[float, float] | Literal["uniform"] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Covariance of the moments of a patch with independent noise in the pixels; see `ZernikeDisk`."""
    noise = _variance_map(np.asarray(variance, np.float64), size)
    basis = disk_basis(n_max, size) / (np.pi * size**2 / 4)
    shifts = [(down, right) for down in _NODES for right in _NODES] if shift == "uniform" else [shift]
    covariance = np.zeros((len(basis), len(basis)))
    for down, right in shifts:
        if not (0 <= down < 1 and 0 <= right < 1):
            raise ValueError(
                f"shift {shift} is not a fraction of a pixel; give 0 ≤ (row, column) < 1 or 'uniform'"
            )
        weights = _spread(basis, down, right).reshape(len(basis), -1)
        covariance += (weights * noise.ravel()) @ weights.T / len(shifts)
    return covariance


def _variance_map(variance: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Variance of the (size + 1)² pixels that a patch between the pixels draws on."""
    if variance.shape not in [(), (size, size), (size + 1, size + 1)]:
        raise ValueError(
            f"variance of shape {variance.shape}; expected a number, ({size}, {size}) or "
            f"({size + 1}, {size + 1})"
        )
    if not (np.isfinite(variance).all() and (variance >= 0).all()):
        raise ValueError(
            "a variance is negative or not finite; give the mean square of the noise of each pixel"
        )
    if variance.shape == (size, size):
        return np.pad(variance, ((0, 1), (0, 1)), mode="edge")
    return np.broadcast_to(variance, (size + 1, size + 1))


def _spread(basis: NDArray[np.float64], down: float, right: float) -> NDArray[np.float64]:
    """Weight of every pixel of the image in the moments of the patch interpolated at (down, right)."""
    n, size, _ = basis.shape
    weights = np.zeros((n, size + 1, size + 1))
    for row, by_row in ((0, 1 - down), (1, down)):
        for col, by_col in ((0, 1 - right), (1, right)):
            weights[:, row : row + size, col : col + size] += by_row * by_col * basis
    return weights
