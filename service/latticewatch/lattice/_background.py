"""Slow background, scale and pixel noise of a frame, measured against its own average unit cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._cell import UnitCell, unfold_cell
from latticewatch.lattice._phase import PhaseField

# Standard deviation of the window in which the background counts as constant, in lattice constants.
WINDOW_CELLS = 2.5
# Residuals beyond this many standard deviations (defects, dirt) do not enter the background.
CLIP_SIGMA = 3.0
# The same for the noise of single pixels, whose distribution has the long tail of few counts.
NOISE_CLIP_SIGMA = 4.0
# Share of a column's height to which the average cell, resampled, says what a pixel should be. It counts as noise.
MODEL_ERROR = 0.005


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


def flatten(
    image: NDArray[np.float32], field: PhaseField, cell: UnitCell, *, noise: bool = True
) -> Flattened:
    """Take the slow background off a frame, scale it, and measure its pixel noise.

    The frame is a multiple of the average unit cell, its gain, and a background, which is low-passed over
    `WINDOW_CELLS` lattice constants; pixels that stand far out of both (defects, dirt) are left out in a second pass.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
    cell : UnitCell
        Of this frame, or of an earlier one of the same specimen: the gain between them is measured.
    noise : bool, optional
        Whether to measure the pixel noise too; else it is zero.
    """
    floor = float(cell.mean.min())
    peak = float(cell.height[0]) if len(cell.height) else float(np.ptp(cell.mean))
    perfect = unfold_cell(cell.mean - floor, field, image.shape)  # type: ignore[arg-type]
    block = max(int(field.lattice_constant / 3), 2)
    sigma = WINDOW_CELLS * field.lattice_constant / block
    sums = _blocks(image, perfect, np.zeros((2, 2)), np.float32(0.0), np.float32(np.inf), block)
    gain = _gain(sums)
    offset = _smooth_offset(sums, gain, sigma)
    limit = np.float32(CLIP_SIGMA * _spread(image, perfect, offset, gain, block))
    sums = _blocks(image, perfect, offset, np.float32(gain), limit, block)
    gain = _gain(sums)
    offset = _smooth_offset(sums, gain, sigma)
    scale = max(gain * peak, np.finfo(np.float32).tiny)
    flat = _subtract(image, offset, block, np.float32(1 / scale))
    measured = _pixel_noise(flat, perfect * np.float32(gain / scale)) if noise else PixelNoise(0.0, 0.0)
    return Flattened(flat, float(scale), measured)


def _gain(sums: NDArray[np.float64]) -> float:
    """Slope of the frame over the cell, each block with an offset of its own."""
    n = np.maximum(sums[0], 1.0)
    product = float((sums[3] - sums[1] * sums[2] / n).sum())
    square = float((sums[4] - sums[2] ** 2 / n).sum())
    gain = product / square if square > 0 else 1.0
    return gain if np.isfinite(gain) and gain > 0 else 1.0


def _smooth_offset(sums: NDArray[np.float64], gain: float, sigma: float) -> NDArray[np.float64]:
    """Background of every block from those around it."""
    left = sums[1] - gain * sums[2]
    plane = _plane(left, sums[0])
    mass = ndimage.gaussian_filter(sums[0], sigma, mode="constant")
    total = ndimage.gaussian_filter(left - plane * sums[0], sigma, mode="constant")
    return plane + total / np.maximum(mass, 1e-6 * mass.max())


def _plane(total: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted least-squares plane: a mean over a window that the edge of the frame cuts would be off a slope."""
    rows, cols = np.meshgrid(*(np.linspace(-1, 1, n) for n in mass.shape), indexing="ij")
    design = np.stack([np.ones(mass.size), rows.ravel(), cols.ravel()], 1)
    weight = np.sqrt(mass.ravel())[:, None]
    target = total.ravel() / np.maximum(weight[:, 0], 1e-9)
    fit = np.linalg.lstsq(design * weight, target, rcond=None)[0]
    return (design @ fit).reshape(mass.shape)


def _spread(
    image: NDArray[np.float32],
    perfect: NDArray[np.float32],
    offset: NDArray[np.float64],
    gain: float,
    block: int,
) -> float:
    """Robust standard deviation of the residual, from a thinned sample."""
    step = max(1, int(np.sqrt(image.size / 50_000)))
    rows, cols = np.arange(0, image.shape[0], step), np.arange(0, image.shape[1], step)
    residual = (
        image[np.ix_(rows, cols)]
        - gain * perfect[np.ix_(rows, cols)]
        - offset[np.ix_(rows // block, cols // block)]
    )
    return 1.4826 * float(np.median(np.abs(residual - np.median(residual)))) or float(np.inf)


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
    least = max(1e-3 * float(variance.max()), MODEL_ERROR**2)
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
def _blocks(image, perfect, offset, gain, limit, block):  # pragma: no cover - compiled
    """Sums of 1, I, P, IP and P² over the pixels of each block whose residual is within a limit."""
    height, width = image.shape
    sums = np.zeros((5, (height + block - 1) // block, (width + block - 1) // block))
    bounded = np.isfinite(limit)
    for a in range(sums.shape[1]):
        for r in range(a * block, min((a + 1) * block, height)):
            for b in range(sums.shape[2]):
                known = np.float32(offset[a, b]) if bounded else np.float32(0.0)
                n = 0
                si = sp = sip = spp = np.float32(0.0)
                for c in range(b * block, min((b + 1) * block, width)):
                    value, model = image[r, c], perfect[r, c]
                    if not bounded or abs(value - known - gain * model) <= limit:
                        n += 1
                        si += value
                        sp += model
                        sip += value * model
                        spp += model * model
                sums[0, a, b] += n
                sums[1, a, b] += si
                sums[2, a, b] += sp
                sums[3, a, b] += sip
                sums[4, a, b] += spp
    return sums


@njit(cache=True, nogil=True)
def _subtract(image, offset, block, factor):  # pragma: no cover - compiled
    """The image less its offset, bilinear between the centres of the blocks, times a factor."""
    height, width = image.shape
    n_rows, n_cols = offset.shape
    out = np.empty((height, width), np.float32)
    across = np.empty(n_cols, np.float32)
    for r in range(height):
        at = min(max((r + 0.5) / block - 0.5, 0.0), n_rows - 1.0)
        i = min(int(at), max(n_rows - 2, 0))
        f = at - i
        below = min(i + 1, n_rows - 1)
        for j in range(n_cols):
            across[j] = (1 - f) * offset[i, j] + f * offset[below, j]
        for c in range(width):
            at = min(max((c + 0.5) / block - 0.5, 0.0), n_cols - 1.0)
            j = min(int(at), max(n_cols - 2, 0))
            right = min(j + 1, n_cols - 1)
            out[r, c] = (image[r, c] - across[j] - np.float32(at - j) * (across[right] - across[j])) * factor
    return out
