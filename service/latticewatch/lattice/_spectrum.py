"""Bragg peaks of the power spectrum, and the reciprocal lattice that explains them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

# A noise-only spectrum of a megapixel has its largest value near ln(1e6) = 14 times the local mean; smeared peaks are
# summed over nine bins, which brings the noise maximum down. Beyond this a peak is not noise.
MIN_SIGNIFICANCE = 8.0
MAX_PEAKS = 48
# In a smoothed or compressed image there is next to no noise, and artefacts stand out of it: a peak also needs this
# share of the power of the strongest.
MIN_SHARE = 2e-3
# What leaks through the window from a smooth image is below this share of its variance.
LEAKAGE = 1e-6
# Lattice constants between these are looked for: below, columns are not sampled; above, too few cells are in view.
MIN_PERIOD_PX = 2.5
MIN_PERIODS_IN_VIEW = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class BraggPeaks:
    """Significant peaks of one half of the power spectrum.

    Attributes
    ----------
    frequency : ndarray of shape (n, 2), float64
        Along rows and columns [cycles per pixel].
    significance : ndarray of shape (n,), float64
        Power over the median power at the same distance from the origin, summed over 3 x 3 bins.
    resolution : float
        Size of a bin [cycles per pixel].
    """

    frequency: NDArray[np.float64]
    significance: NDArray[np.float64]
    resolution: float


def bragg_peaks(image: NDArray[np.float32]) -> BraggPeaks:
    """Find the peaks of the power spectrum that are not noise.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32

    Returns
    -------
    BraggPeaks
    """
    return peaks_of(power_spectrum(image), min(image.shape))


def power_spectrum(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power of one half of the frequencies, without the plane in the image.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32

    Returns
    -------
    ndarray of shape (size, size // 2 + 1), float32
        size is the longer side of the image.
    """
    height, width = image.shape
    window = (np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]).astype(np.float32)
    size = max(height, width)
    spectrum: NDArray[np.complex64] = np.asarray(
        fft.rfft2((image - _plane(image, window)) * window, s=(size, size))
    )
    return np.abs(spectrum) ** 2


def peaks_of(
    power: NDArray[np.float32], shorter: int, min_significance: float = MIN_SIGNIFICANCE
) -> BraggPeaks:
    """The peaks of a power spectrum that are not noise.

    Parameters
    ----------
    power : ndarray of shape (size, size // 2 + 1), float32
        Of one frame, or the sum of several.
    shorter : int
        Shorter side of the frame [px].
    min_significance : float, optional
        What noise does not reach.

    Returns
    -------
    BraggPeaks
    """
    size = len(power)
    total = float(power.sum())
    power = np.asarray(ndimage.uniform_filter(power, size=3, mode="nearest"), np.float32)
    rows = fft.fftfreq(size)[:, None]
    cols = fft.rfftfreq(size)[None, :]
    radius = np.hypot(rows, cols)
    significance = power / _radial_median(power, radius * size)
    low = MIN_PERIODS_IN_VIEW / shorter
    allowed = (radius >= low) & (radius <= 1.0 / MIN_PERIOD_PX)
    is_peak = (
        (significance == ndimage.maximum_filter(significance, size=5, mode="nearest"))
        & (significance > min_significance)
        & allowed
        & (power > LEAKAGE * total)
    )
    if is_peak.any():
        is_peak &= power > MIN_SHARE * power[is_peak].max()
    # rfft2 holds the zero column once, with both halves of it
    is_peak[size // 2 + 1 :, 0] = False
    index = np.argwhere(is_peak)
    order = np.argsort(-significance[is_peak])[:MAX_PEAKS]
    index = index[order]
    frequency = np.array([_centroid(power, i, j, size) for i, j in index]).reshape(-1, 2)
    return BraggPeaks(frequency, significance[is_peak][order].astype(float), 1.0 / size)


def significance_of(power: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power, mean over 3 x 3 bins, over the median power at the same distance from the origin.

    Parameters
    ----------
    power : ndarray of shape (size, size // 2 + 1), float32

    Returns
    -------
    ndarray of the same shape, float64
    """
    size = len(power)
    radius = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :])
    smooth = np.asarray(ndimage.uniform_filter(power, size=3, mode="nearest"))
    return smooth / _radial_median(smooth, radius * size)


def _plane(image: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted least-squares plane through the image: its spectrum would leak into all others."""
    rows = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None]
    cols = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None, :]
    weighted = image * window
    # the window is symmetric and separable, so the three terms of the plane are orthogonal under it
    mass = max(float(window.sum()), 1e-12)
    level = float(weighted.sum()) / mass
    down = float((weighted.sum(1) * rows[:, 0]).sum()) / max(
        float((window.sum(1) * rows[:, 0] ** 2).sum()), 1e-12
    )
    right = float((weighted.sum(0) * cols[0]).sum()) / max(float((window.sum(0) * cols[0] ** 2).sum()), 1e-12)
    return (level + down * rows + right * cols).astype(np.float32)


def _radial_median(power: NDArray[np.floating], radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median power at each distance from the origin, interpolated."""
    ring = np.minimum((radius / 4).astype(np.int32), power.shape[0] // 8)
    order = np.argsort(ring, axis=None, kind="stable")
    edges = np.searchsorted(ring.ravel()[order], np.arange(ring.max() + 2))
    values = power.ravel()[order]
    medians = np.array([np.median(values[a:b]) if b > a else 0.0 for a, b in pairwise(edges)])
    centre = 4 * (np.arange(len(medians)) + 0.5)
    floor = max(float(medians.max()) * 1e-12, np.finfo(float).tiny)
    return np.maximum(np.interp(radius, centre, medians), floor)


def _centroid(power: NDArray[np.floating], i: int, j: int, size: int) -> tuple[float, float]:
    """Position of a peak from the centre of mass of the bins around it [cycles per pixel]."""
    reach = np.arange(-2, 3)
    rows = (i + reach) % size
    cols = j + reach
    keep = (cols >= 0) & (cols < power.shape[1])
    cols, reach_c = cols[keep], reach[keep]
    patch = power[np.ix_(rows, cols)]
    patch = patch - patch.min()
    total = max(float(patch.sum()), np.finfo(float).tiny)
    row = i + float((patch * reach[:, None]).sum()) / total
    col = j + float((patch * reach_c[None, :]).sum()) / total
    return ((row + size / 2) % size - size / 2) / size, col / size


def reciprocal_basis(peaks: BraggPeaks) -> NDArray[np.float64] | None:
    """The two shortest reciprocal vectors of the lattice that explains the peaks.

    Every pair of short peaks is tried; a pair scores the significance of the peaks that are integer combinations of
    it, less what it predicts at low order and is not there (a finer lattice would explain everything).

    Parameters
    ----------
    peaks : BraggPeaks

    Returns
    -------
    ndarray of shape (2, 2), float64, or None
        Rows are reciprocal vectors (row, column) [cycles per pixel], the angle between them 60 to 120 degrees where
        the lattice allows it; None where the peaks are not a lattice.
    """
    if len(peaks.frequency) < 2:
        return None
    both = np.concatenate([peaks.frequency, -peaks.frequency])
    weight = np.log(np.concatenate([peaks.significance, peaks.significance]))
    short = np.argsort(np.hypot(*peaks.frequency.T) - 1e-3 * np.log(peaks.significance))
    strong = peaks.significance >= 0.01 * peaks.significance.max()
    candidates = [i for i in short if strong[i]][:14]
    best, best_score = None, 0.0
    for n, i in enumerate(candidates):
        for j in candidates[n + 1 :]:
            basis = reduced(np.array([peaks.frequency[i], peaks.frequency[j]]))
            if basis is None or np.hypot(*basis[0]) < MIN_PERIODS_IN_VIEW * peaks.resolution:
                continue
            score = _score(basis, both, weight, 2.0 * peaks.resolution)
            if score > best_score:
                best, best_score = basis, score
    return best


def reduced(basis: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Gauss-reduce a basis; None where it is nearly collinear."""
    b1, b2 = basis
    for _ in range(16):
        if b1 @ b1 > b2 @ b2:
            b1, b2 = b2, b1
        turns = np.rint((b1 @ b2) / (b1 @ b1))
        if turns == 0:
            break
        b2 = b2 - turns * b1
    area = abs(b1[0] * b2[1] - b1[1] * b2[0])
    if area < 0.4 * np.sqrt((b1 @ b1) * (b2 @ b2)):
        return None
    return np.array([b1, b2])


def _score(
    basis: NDArray[np.float64], peaks: NDArray[np.float64], weight: NDArray[np.float64], tolerance: float
) -> float:
    order = peaks @ np.linalg.inv(basis)
    whole = np.rint(order)
    miss = np.hypot(*((order - whole) @ basis).T)
    # an error of half a bin in the basis grows with the order
    explained = miss <= tolerance * (1.0 + 0.5 * np.abs(whole).max(1))
    explained &= np.abs(whole).max(1) > 0
    low = np.array([(h, k) for h in range(-1, 2) for k in range(-1, 2) if (h, k) != (0, 0)])
    predicted = low @ basis
    length = np.hypot(*predicted.T)
    first = length < 1.25 * np.sort(length)[3]
    found = np.array([np.hypot(*(peaks - q).T).min() <= 1.5 * tolerance for q in predicted])
    present = found[first].mean()
    return float(weight[explained].sum() / weight.sum() * present**2)
