"""Slow background, scale and pixel noise of a frame, measured against its own average unit cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._cell import UnitCell, unfold_cell
from latticewatch.lattice._phase import PhaseField, _interpolate

# Standard deviation of the window in which the background counts as constant, in lattice constants.
WINDOW_CELLS = 2.5
# Residuals beyond this many standard deviations (defects, dirt) do not enter the background.
CLIP_SIGMA = 3.0
# The same for the noise of single pixels, whose distribution has the long tail of few counts.
NOISE_CLIP_SIGMA = 4.0


@dataclass(frozen=True, slots=True)
class PixelNoise:
    """Variance of a pixel as a function of its expected intensity, in units of the flattened image.

    ``variance = read + shot * max(intensity - floor, 0)``

    Attributes
    ----------
    read : float
        Variance at the floor of the frame.
    shot : float
        Growth of the variance with intensity (Poisson noise with gain).
    """

    read: float
    shot: float

    def variance(self, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance at these intensities, never below the read noise."""
        return self.read + self.shot * np.maximum(intensity, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Flattened:
    """A frame without background, host columns near 1.

    Attributes
    ----------
    image : ndarray of shape (height, width), float32
    scale : float
        Counts that are 1 in `image`.
    noise : PixelNoise
    """

    image: NDArray[np.float32]
    scale: float
    noise: PixelNoise


def flatten(image: NDArray[np.float32], field: PhaseField, cell: UnitCell) -> Flattened:
    """Take the slow background off a frame, scale it, and measure its pixel noise.

    The background is what is left of the frame without the average unit cell, low-passed over `WINDOW_CELLS` lattice
    constants; pixels that stand far out of it are left out in a second pass.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
    cell : UnitCell
    """
    floor = float(cell.mean.min())
    peak = float(cell.height[0]) if len(cell.height) else float(np.ptp(cell.mean))
    scale = max(peak, np.finfo(np.float32).tiny)
    perfect = unfold_cell(cell.mean, field.basis, field.phase, field.origin, field.step, *image.shape)
    residual = image - perfect
    block = max(int(field.lattice_constant / 3), 2)
    sigma_blocks = WINDOW_CELLS * field.lattice_constant / block
    limit = np.float32(np.inf)
    offset = np.zeros((2, 2))
    for _ in range(2):
        total, mass = _blocks(residual, offset, limit, block)
        mass = ndimage.gaussian_filter(mass, sigma_blocks, mode="constant")
        total = ndimage.gaussian_filter(total, sigma_blocks, mode="constant")
        offset = total / np.maximum(mass, 1e-6 * mass.max())
        limit = np.float32(CLIP_SIGMA * _spread(residual))
    flat = _subtract(image, offset, block, np.float32(floor), np.float32(1 / scale))
    return Flattened(flat, scale, _pixel_noise(flat, (perfect - np.float32(floor)) / np.float32(scale)))


def _spread(residual: NDArray[np.float32]) -> float:
    """Robust standard deviation from a thinned sample."""
    sample = residual.ravel()[:: max(1, residual.size // 50_000)]
    return float(1.4826 * np.median(np.abs(sample - np.median(sample)))) or np.inf


def _pixel_noise(flat: NDArray[np.float32], perfect: NDArray[np.float32]) -> PixelNoise:
    """Straight line through the clipped variance of pixels of like intensity."""
    stride = max(1, flat.size // 400_000)
    x, e = perfect.ravel()[::stride], (flat - perfect).ravel()[::stride]
    order = np.argsort(x)
    bins = np.array_split(order, 24)
    at = np.array([x[b].mean() for b in bins])
    variance = np.array([_clipped_variance(e[b] - e[b].mean()) for b in bins])
    design = np.stack([np.ones_like(at), np.maximum(at, 0)], 1)
    weight = 1 / np.maximum(variance, 1e-3 * variance.max() + 1e-12)
    read, shot = np.linalg.lstsq(design * weight[:, None], variance * weight, rcond=None)[0]
    least = max(1e-3 * float(variance.max()), 1e-10)
    return PixelNoise(max(float(read), least), max(float(shot), 0.0))


def _clipped_variance(residual: NDArray[np.float32]) -> float:
    """Mean square without outliers. (A median of squares fails where a pixel counts few electrons.)"""
    squares = residual.astype(np.float64) ** 2
    variance = float(squares.mean())
    for _ in range(3):
        kept = squares[squares <= NOISE_CLIP_SIGMA**2 * variance]
        variance = float(kept.mean()) if len(kept) else variance
    return variance


@njit(cache=True, nogil=True)
def _blocks(residual, offset, limit, block):  # pragma: no cover - compiled
    """Sum and number of the pixels of each block that lie within a limit of the offset found so far."""
    height, width = residual.shape
    total = np.zeros(((height + block - 1) // block, (width + block - 1) // block))
    mass = np.zeros_like(total)
    known = offset.shape[0] == total.shape[0] and offset.shape[1] == total.shape[1]
    for r in range(height):
        for c in range(width):
            a, b = r // block, c // block
            here = offset[a, b] if known else 0.0
            if abs(residual[r, c] - here) <= limit:
                total[a, b] += residual[r, c]
                mass[a, b] += 1
    return total, mass


@njit(cache=True, nogil=True)
def _subtract(image, offset, block, floor, factor):  # pragma: no cover - compiled
    height, width = image.shape
    out = np.empty((height, width), np.float32)
    for r in range(height):
        i = (r + 0.5) / block - 0.5
        for c in range(width):
            j = (c + 0.5) / block - 0.5
            out[r, c] = (image[r, c] - floor - np.float32(_interpolate(offset, i, j))) * factor
    return out
