"""Slow background, scale and pixel noise of a frame, measured against its own average unit cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._cell import UnitCell, unfold_cell
from latticewatch.lattice._demodulator import block_side
from latticewatch.lattice._phase import MIN_COVER, PhaseField
from latticewatch.lattice._rows import add_rows, pool
from latticewatch.lattice._smooth import convolved, gaussian_window, weighted_plane
from latticewatch.parallel import by_parts
from latticewatch.robust import NORMAL, median, median_and_spread
from latticewatch.vectors import kernel

# Standard deviation of the window in which the background counts as constant, in lattice constants.
WINDOW_CELLS = 2.5
# Distance of the places where the background is measured, in lattice constants.
OFFSET_CELLS = 0.8
# Residuals beyond this many standard deviations (defects, dirt) do not enter the background.
CLIP_SIGMA = 3.0
# The same for the noise of single pixels, whose distribution has the long tail of few counts.
NOISE_CLIP_SIGMA = 4.0
# Share of a column's height to which the average cell, resampled, says what a pixel should be. It counts as noise.
MODEL_ERROR = 0.005
# Dirt is brighter than what is around it by this share of a column's height, in this many blocks side by side at least:
# an atom, however heavy, fills fewer. What belongs to it the smooth background misses by this share.
DIRT_HEIGHT = 1.0
# Where as many blocks are missed by the background, which follows what has no edge, this share is enough.
DIRT_HEIGHT_EDGED = 0.3
MIN_DIRT_BLOCKS = 9
DIRT_LEFT = 0.1
# And by more than noise does to a block [standard deviations]: at a low dose it would join dirt to all the rest.
DIRT_SIGMA = 4.0
# Pixels that the background is taken off at a time where other cores help, at least.
FEWEST_PIXELS = 200_000


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
        """Variance at these intensities, never below the read noise.

        Parameters
        ----------
        intensity : ndarray, float64
            Expected intensity, of any shape, in units of the flattened image.

        Returns
        -------
        ndarray, float64
            Of the same shape, in the square of those units.
        """
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
    dirt : ndarray of shape (height, width), bool, or None
        Where the background is brighter than columns are: contamination, or something thick. None where nowhere.
    """

    image: NDArray[np.float32]
    scale: float
    noise: PixelNoise
    dirt: NDArray[np.bool_] | None = None


def flatten(
    image: NDArray[np.float32],
    field: PhaseField,
    cell: UnitCell,
    *,
    noise: bool = True,
    others: Sequence[UnitCell] = (),
    means: NDArray[np.float32] | None = None,
    steadied: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> Flattened:
    """Take the slow background off a frame, scale it, and measure its pixel noise.

    The frame is a multiple of the average unit cell, its gain, and a background, which is low-passed over
    `WINDOW_CELLS` lattice constants. Both are measured on means over blocks small enough to resolve the columns; blocks
    that stand far out (defects, dirt) are left out in a second pass.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
    cell : UnitCell
        Of this frame, or of an earlier one of the same specimen: the gain between them is measured.
    noise : bool, optional
        Whether to measure the pixel noise too; else it is zero.
    others : sequence of UnitCell, optional
        Of the other grains, whose fields are in `PhaseField.others`.
    means : ndarray, optional
        `PhaseField.means`, where the field is that of this very frame; else they are taken again.
    steadied : callable, optional
        What makes of the flat image one whose lines are where they belong, before its noise is measured.

    Returns
    -------
    Flattened
    """
    peak = float(cell.height[0]) if len(cell.height) else float(np.ptp(cell.mean))
    constant = field.lattice_constant
    block = block_side(constant)
    means = block_means(image, block) if means is None else means
    cells = [cell, *others]
    perfect = _perfect(field, cells, (means.shape[0], means.shape[1]), block)
    # blocks that share an offset
    group = max(round(OFFSET_CELLS * constant / block), 1)
    window = gaussian_window(WINDOW_CELLS * constant / (group * block))
    nothing = np.zeros([-(-n // group) for n in means.shape])
    sums = _blocks(means, perfect, nothing, np.float32(0.0), np.float32(np.inf), group)
    gain = _gain(sums)
    level = (sums[1] - gain * sums[2]) / np.maximum(sums[0], 1.0)
    offset = _smooth_offset(sums, gain, window)
    spread = max(_spread(means, perfect, offset, gain, group), MODEL_ERROR * gain * peak)
    sums = _blocks(means, perfect, offset, np.float32(gain), np.float32(CLIP_SIGMA * spread), group)
    gain = _gain(sums)
    scale = max(gain * peak, np.finfo(np.float32).tiny)
    offset, dirt = _clean(sums, level, gain, window, float(scale))
    flat = _subtract(image, offset, group * block, np.float32(1 / scale))
    # under dirt a line says nothing of all of its columns
    if steadied is not None and dirt is None:
        flat = steadied(flat)
    measured = PixelNoise(0.0, 0.0)
    if noise:
        shape = (image.shape[0], image.shape[1])
        measured = _pixel_noise(flat, _perfect(field, cells, shape, 1) * np.float32(gain / scale))
    if dirt is not None:
        dirt = _in_pixels(dirt, group * block, flat.shape)  # type: ignore[arg-type]
    return Flattened(flat, float(scale), measured, dirt)


def _clean(
    sums: NDArray[np.float64],
    level: NDArray[np.float64],
    gain: float,
    window: NDArray[np.float64],
    scale: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Background of every block, beside dirt that of the clean specimen, and the dirt; see `_dirt`."""
    offset = _smooth_offset(sums, gain, window)
    dirt = _dirt(level, offset, scale)
    if dirt is None:
        return offset, None
    around = np.asarray(ndimage.binary_dilation(dirt), bool)
    if around.all():
        return offset, dirt
    beside = _smooth_offset(np.where(around, 0.0, sums), gain, window)
    again = _dirt(level, beside, scale)
    # where few clean blocks make it too uncertain to see the dirt again, what was seen first holds
    return (offset, dirt) if again is None else (beside, again)


def _dirt(level: NDArray[np.float64], offset: NDArray[np.float64], scale: float) -> NDArray[np.bool_] | None:
    """Regions of blocks whose level is above that of the frame, and what belongs to them.

    By more than a column is high, or by less where the smooth background misses an edge.

    Parameters
    ----------
    level : ndarray of shape (rows, cols), float64
        Background of each block alone.
    offset : ndarray of shape (rows, cols), float64
        Background as it was smoothed.
    scale : float
        Height of a column.
    """
    left = np.abs(level - offset)
    noise = DIRT_SIGMA * NORMAL * median(left)
    above = level - median(level)
    bright = above > max(DIRT_HEIGHT_EDGED * scale, noise)
    if np.count_nonzero(bright) < MIN_DIRT_BLOCKS:
        return None
    some = _side_by_side(bright)
    if not some.any():
        return None
    # the smooth background does not follow its slopes
    missed = left > max(DIRT_LEFT * scale, noise)
    labels = np.asarray(ndimage.label(bright | missed)[0], np.intp)  # type: ignore[index]
    n = labels.max() + 1
    dirt = np.bincount(labels[_side_by_side(above > max(DIRT_HEIGHT * scale, noise))], minlength=n) > 0
    edged = np.bincount(labels[missed], minlength=n) >= MIN_DIRT_BLOCKS
    dirt |= edged & (np.bincount(labels[some], minlength=n) > 0)
    dirt[0] = False
    return dirt[labels] if dirt.any() else None


def _side_by_side(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of some blocks that stand together in a piece of enough: many heavy atoms, each for itself, are no dirt."""
    pieces = np.asarray(ndimage.label(blocks)[0], np.intp)  # type: ignore[index]
    return blocks & (np.bincount(pieces.ravel()) >= MIN_DIRT_BLOCKS)[pieces]


def _in_pixels(blocks: NDArray[np.bool_], side: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Blocks as the pixels in them; those beyond the last whole block are as it is."""
    rows, cols = (np.minimum(np.arange(n) // side, m - 1) for n, m in zip(shape, blocks.shape, strict=True))
    return blocks[rows][:, cols]


def _perfect(
    main: PhaseField, cells: Sequence[UnitCell], shape: tuple[int, int], block: int
) -> NDArray[np.float32]:
    """The frame of a perfect crystal less its floor, in means over blocks; zero where there is no crystal."""
    out = np.zeros(shape, np.float32)
    for field, cell in zip(main.grains, cells, strict=True):
        if field is None:
            continue
        perfect = unfold_cell(cell.mean - float(cell.mean.min()), field, shape, block=block)
        if field.amplitude.min() > MIN_COVER:
            return perfect
        middle = (block - 1) / 2
        rows, cols = (middle + block * np.arange(n, dtype=float) for n in shape)
        np.copyto(out, perfect, where=field.amplitude_on(rows, cols) > MIN_COVER)
    return out


def _gain(sums: NDArray[np.float64]) -> float:
    """Slope of the frame over the cell, each block with an offset of its own."""
    n = np.maximum(sums[0], 1.0)
    product = float((sums[3] - sums[1] * sums[2] / n).sum())
    square = float((sums[4] - sums[2] ** 2 / n).sum())
    gain = product / square if square > 0 else 1.0
    return gain if np.isfinite(gain) and gain > 0 else 1.0


@njit(cache=True, nogil=True)
def _smooth_offset(sums, gain, window):  # pragma: no cover - compiled
    """Background of every block from those around it."""
    mass = sums[0]
    left, mean = np.empty_like(mass), np.empty_like(mass)
    for i in range(mass.shape[0]):
        for j in range(mass.shape[1]):
            left[i, j] = sums[1, i, j] - gain * sums[2, i, j]
            mean[i, j] = left[i, j] / max(mass[i, j], 1.0)
    # a mean over a window that the edge of the frame cuts would be off a slope
    plane = weighted_plane(mean, mass)
    for i in range(mass.shape[0]):
        for j in range(mass.shape[1]):
            left[i, j] -= plane[i, j] * mass[i, j]
    smooth, total = convolved(mass, window), convolved(left, window)
    # without any block that the lattice covers there is nothing to take off
    least = max(1e-6 * smooth.max(), 1e-12)
    for i in range(mass.shape[0]):
        for j in range(mass.shape[1]):
            plane[i, j] += total[i, j] / max(smooth[i, j], least)
    return plane


def _spread(
    image: NDArray[np.float32],
    perfect: NDArray[np.float32],
    offset: NDArray[np.float64],
    gain: float,
    block: int,
) -> float:
    """Robust standard deviation of the residual, from a thinned sample."""
    step = max(1, int(np.sqrt(image.size / 4_000)))
    rows, cols = np.arange(0, image.shape[0], step) // block, np.arange(0, image.shape[1], step) // block
    residual = image[::step, ::step] - gain * perfect[::step, ::step] - offset[rows][:, cols]
    return median_and_spread(residual)[1] or float(np.inf)


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
    """Sums of 1, I, P, IP and P² over the pixels of each block whose residual is within a limit.

    image and perfect (height, width) float32; offset: of each block. Returns (5, rows, cols) float64.
    """
    height, width = image.shape
    sums = np.zeros((5, offset.shape[0], offset.shape[1]))
    known = np.empty(width, np.float32)
    n, i, p = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    ip, pp = np.empty(width, np.float32), np.empty(width, np.float32)
    for a in range(sums.shape[1]):
        for c in range(width):
            known[c] = offset[a, c // block]
            n[c] = i[c] = p[c] = ip[c] = pp[c] = 0.0
        for r in range(a * block, min((a + 1) * block, height)):
            _add_within(image[r], perfect[r], known, gain, limit, n, i, p, ip, pp)
        for c in range(width):
            b = c // block
            sums[0, a, b] += n[c]
            sums[1, a, b] += i[c]
            sums[2, a, b] += p[c]
            sums[3, a, b] += ip[c]
            sums[4, a, b] += pp[c]
    return sums


@kernel
def _add_within(image, perfect, known, gain, limit, n, i, p, ip, pp):  # pragma: no cover - compiled
    for c in range(len(image)):
        value, model = image[c], perfect[c]
        kept = np.float32(1.0) if abs(value - known[c] - gain * model) <= limit else np.float32(0.0)
        n[c] += kept
        i[c] += kept * value
        p[c] += kept * model
        ip[c] += kept * value * model
        pp[c] += kept * model * model


def _subtract(
    image: NDArray[np.float32], offset: NDArray[np.float64], block: int, factor: np.float32
) -> NDArray[np.float32]:
    """The image less its offset, bilinear between the centres of the blocks, times a factor."""
    # numpy asks for huge pages, numba does not: on a large frame first touching small ones takes longer than the rest
    out = np.empty(image.shape, np.float32)
    wide = _spread_out(offset, block, factor, image.shape[1])

    def subtract(first: int, last: int) -> None:
        _subtract_into(image, wide, block, factor, first, last, out)

    by_parts(subtract, len(image), max(FEWEST_PIXELS // image.shape[1], 1))
    return out


@njit(cache=True, nogil=True)
def _spread_out(offset, block, factor, width):  # pragma: no cover - compiled
    """The offset of each row of blocks, over the columns: the rows of pixels in between are then sums of two rows."""
    n_rows, n_cols = offset.shape
    wide = np.empty((n_rows, width), np.float32)
    before, share = np.empty(width, np.int64), np.empty(width, np.float32)
    for c in range(width):
        before[c], share[c] = _between(c, block, n_cols)
    level = np.empty(n_cols + 1, np.float32)
    for i in range(n_rows):
        for j in range(n_cols + 1):
            level[j] = factor * offset[i, min(j, n_cols - 1)]
        for c in range(width):
            wide[i, c] = level[before[c]] + share[c] * (level[before[c] + 1] - level[before[c]])
    return wide


@njit(cache=True, nogil=True)
def _subtract_into(image, wide, block, factor, first, last, out):  # pragma: no cover - compiled
    n_rows = len(wide)
    for r in range(first, last):
        i, f = _between(r, block, n_rows)
        below = wide[min(i + 1, n_rows - 1)]
        _less(image[r], factor, wide[i], below, np.float32(1 - f), np.float32(f), out[r])


@njit(cache=True, nogil=True)
def _between(pixel, block, n):  # pragma: no cover - compiled
    """The block whose centre comes before a pixel, and how far the pixel is on the way to the next."""
    at = min(max((pixel + 0.5) / block - 0.5, 0.0), n - 1.0)
    before = min(int(at), max(n - 2, 0))
    return before, at - before


@kernel
def _less(row, factor, above, below, share_above, share_below, out):  # pragma: no cover - compiled
    for c in range(len(out)):
        out[c] = factor * row[c] - (share_above * above[c] + share_below * below[c])


@njit(cache=True, nogil=True)
def block_means(image, block):  # pragma: no cover - compiled
    """Means over whole square blocks, whose side is a power of two; the rest at the far edges is left out."""
    n_rows, n_cols = image.shape[0] // block, image.shape[1] // block
    out = np.empty((n_rows, n_cols), np.float32)
    weights = np.full(block, np.float32(1.0 / block**2))
    line = np.empty(n_cols * block, np.float32)
    spare = np.empty_like(line)
    for i in range(n_rows):
        line[:] = 0
        add_rows(image[i * block : (i + 1) * block, : n_cols * block], weights, line)
        pool(line, spare, block, out[i])
    return out
