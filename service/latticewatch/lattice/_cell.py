"""The average unit cell of a frame, and the atomic columns in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._bilinear import bilinear, bilinear_phase, is_cut
from latticewatch.lattice._phase import MIN_COVER, TURN, PhaseField
from latticewatch.parallel import by_parts
from latticewatch.vectors import kernel

# A column must stand out of the average cell by this many standard deviations of its noise, and by this share of the
# range of the cell, under which lie the ripples of the probe's tails and of the interpolation.
MIN_PROMINENCE_SIGMA = 6.0
MIN_PROMINENCE_SHARE = 0.015
# Standard deviation, in lattice constants, of the smoothing under which the centre of a column is refined.
REFINE_SMOOTHING = 0.06
# The same under which columns are looked for: below the width of a column in any micrograph that resolves them.
SMOOTHING = 0.035
# What is taken for slow: a Gaussian so wide leaves 2 × 10⁻⁵ of a lattice [distances of its farthest planes].
SLOW_SPACINGS = 0.75
# Pixels of a perfect frame that are made at a time where other cores help, at least.
FEWEST_PIXELS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class UnitCell:
    """The average unit cell.

    Attributes
    ----------
    mean : ndarray of shape (n1, n2), float64
        Intensity on a grid of cell coordinates, first index along the first lattice vector; node (0, 0) is the
        corner of the cell.
    error : ndarray of shape (n1, n2), float64
        Standard error of `mean`, of its differences between places of the cell: what lifts all alike is left out.
    columns : ndarray of shape (n_columns, 2), float64
        Cell coordinates of the atomic columns, brightest first.
    height : ndarray of shape (n_columns,), float64
        Intensity of the columns above the lowest point of the cell.
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    columns: NDArray[np.float64]
    height: NDArray[np.float64]


def unit_cell(
    image: NDArray[np.float32], field: PhaseField, flat: NDArray[np.float32] | None = None
) -> UnitCell:
    """Fold a frame into one unit cell and find the columns in it, dim ones that no single frame shows included.

    Pixels where the lattice is missing (holes, vacuum, another grain) do not take part.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
    flat : ndarray of shape (height, width), float32, optional
        The image `without_slow`, where that is at hand.

    Returns
    -------
    UnitCell
    """
    shape = np.clip(np.rint(2 * np.hypot(*field.vectors.T)), 32, 128).astype(int)
    # few pixels cannot fill a fine grid
    fill = np.sqrt(field.covered * image.size / (8.0 * shape.prod()))
    shape = np.maximum(np.rint(shape * min(1.0, fill)).astype(int), 8)
    flat = without_slow(image, field.vectors) if flat is None else flat
    mean, error = _folded(image, flat, field, shape)
    columns, height = found_columns(mean, error)
    return UnitCell(mean, error, columns, height)


def _folded(
    image: NDArray[np.float32], flat: NDArray[np.float32], field: PhaseField, shape: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the cells of a frame, and its standard error, on so many nodes.

    What is slow lifts all places of a cell alike, and is no noise of their differences, in which dim columns are lost.
    """
    total, left, squares, mass = fold_cells(
        image,
        flat,
        field.basis,
        field.phase,
        field.origin,
        field.step,
        field.amplitude,
        MIN_COVER,
        int(shape[0]),
        int(shape[1]),
    )
    if mass.min() <= 0:
        # nodes that no pixel came near take what the nearest one has
        nearest = ndimage.distance_transform_edt(mass <= 0, return_distances=False, return_indices=True)
        at = tuple(np.asarray(nearest))
        total, left, squares, mass = total[at], left[at], squares[at], mass[at]
    return total / mass, np.sqrt(np.maximum(squares / mass - (left / mass) ** 2, 0) / mass)


def without_slow(image: NDArray[np.float32], vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """A frame without what varies over more than a cell, such as dirt."""
    farthest = 1 / np.hypot(*np.linalg.inv(vectors)).min()
    return np.asarray(image - ndimage.gaussian_filter(image, SLOW_SPACINGS * farthest), np.float32)


def found_columns(
    mean: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local maxima of the cell that stand out of what separates them from a brighter one.

    Parameters
    ----------
    mean, error : ndarray of shape (n1, n2), float64
        As in `UnitCell`.

    Returns
    -------
    columns, height : ndarray
        As in `UnitCell`.
    """
    sigma = max(SMOOTHING * min(mean.shape), 0.7)
    smooth = ndimage.gaussian_filter(mean, sigma, mode="wrap")
    noise = float(np.median(error)) / (2 * np.sqrt(np.pi) * sigma)
    span = float(np.ptp(smooth))
    needed = max(MIN_PROMINENCE_SIGMA * noise, MIN_PROMINENCE_SHARE * span)
    peaks = [(i, j) for i, j, prominence in _prominent(smooth) if prominence > needed]
    if not peaks:
        return np.zeros((0, 2)), np.zeros(0)
    # a broader smoothing than shows the column gives its centre with less noise
    broad = ndimage.gaussian_filter(mean, max(sigma, REFINE_SMOOTHING * min(mean.shape)), mode="wrap")
    refined = np.array([_vertex(broad, i, j) for i, j in peaks])
    height = np.array([smooth[i, j] for i, j in peaks]) - smooth.min()
    order = np.argsort(-height)
    return refined[order] / mean.shape % 1.0, height[order]


def _prominent(cell: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """Every maximum of a periodic map with its prominence: its height over the saddle to a higher one.

    The map is flooded from the top; where two basins meet, the lower of the two summits gets its prominence.
    """
    n1, n2 = cell.shape
    owner = np.full(cell.shape, -1)
    summits: list[tuple[int, int]] = []
    parent: list[int] = []
    prominence: list[float] = []

    def root(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    for flat in np.argsort(-cell, axis=None, kind="stable"):
        i, j = divmod(int(flat), n2)
        around = {
            root(int(owner[(i + di) % n1, (j + dj) % n2]))
            for di in (-1, 0, 1)
            for dj in (-1, 0, 1)
            if (di, dj) != (0, 0) and owner[(i + di) % n1, (j + dj) % n2] >= 0
        }
        if not around:
            owner[i, j] = len(summits)
            parent.append(len(summits))
            prominence.append(np.inf)
            summits.append((i, j))
            continue
        highest = min(around)  # summits are numbered from the top
        owner[i, j] = highest
        for other in around - {highest}:
            parent[other] = highest
            prominence[other] = float(cell[summits[other]] - cell[i, j])
    prominence = [p if np.isfinite(p) else float(np.ptp(cell)) for p in prominence]
    return [(i, j, p) for (i, j), p in zip(summits, prominence, strict=True)]


def _vertex(cell: NDArray[np.float64], i: int, j: int) -> NDArray[np.float64]:
    """Sub-node position of a maximum: vertex of the paraboloid through the nodes around it."""
    n1, n2 = cell.shape
    z = cell[np.ix_(np.arange(i - 1, i + 2) % n1, np.arange(j - 1, j + 2) % n2)]
    gradient = np.array([(z[2, 1] - z[0, 1]) / 2, (z[1, 2] - z[1, 0]) / 2])
    mixed = (z[2, 2] - z[2, 0] - z[0, 2] + z[0, 0]) / 4
    hessian = np.array([[z[2, 1] - 2 * z[1, 1] + z[0, 1], mixed], [mixed, z[1, 2] - 2 * z[1, 1] + z[1, 0]]])
    if np.linalg.det(hessian) <= 0:
        return np.array([i, j], float)
    return np.array([i, j]) + np.clip(np.linalg.solve(hessian, -gradient), -2.0, 2.0)


@njit(cache=True, nogil=True)
def fold_cells(
    image, flat, basis, phase, origin, step, amplitude, least, n1, n2
):  # pragma: no cover - compiled
    """Sums of I, F, F² and 1 over pixels, shared bilinearly between the four nearest nodes of the cell: I is a frame,
    F the same without what is slow.

    Pixels take part where the amplitude of the lattice, given at the nodes of its phase, is above the least.
    """
    height, width = image.shape
    total = np.zeros((n1, n2))
    left = np.zeros((n1, n2))
    squares = np.zeros((n1, n2))
    mass = np.zeros((n1, n2))
    for r in range(height):
        i = (r - origin) / step
        for c in range(width):
            j = (c - origin) / step
            if bilinear(amplitude, i, j) <= least:
                continue
            phase0, phase1 = bilinear_phase(phase, i, j)
            u = basis[0, 0] * r + basis[0, 1] * c + phase0 / TURN
            v = basis[1, 0] * r + basis[1, 1] * c + phase1 / TURN
            u = (u - np.floor(u)) * n1
            v = (v - np.floor(v)) * n2
            i0, j0 = int(u), int(v)
            fu, fv = u - i0, v - j0
            i0 %= n1
            j0 %= n2
            i1, j1 = (i0 + 1) % n1, (j0 + 1) % n2
            value, other = float(image[r, c]), float(flat[r, c])
            for a, wa in ((i0, 1 - fu), (i1, fu)):
                for b, wb in ((j0, 1 - fv), (j1, fv)):
                    q = wa * wb
                    total[a, b] += q * value
                    left[a, b] += q * other
                    squares[a, b] += q * other * other
                    mass[a, b] += q
    return total, left, squares, mass


def unfold_cell(
    cell: NDArray[np.float64], field: PhaseField, shape: tuple[int, int], *, block: int = 1
) -> NDArray[np.float32]:
    """The frame that a perfect lattice would give.

    Parameters
    ----------
    cell : ndarray of shape (n1, n2), float64
        One unit cell, as in `UnitCell.mean`.
    field : PhaseField
    shape : tuple of int
        Rows and columns of the frame, in blocks.
    block : int, optional
        Side of the blocks whose means are wanted [px].
    """
    if block > 1:
        cell = _mean_over_block(cell.tobytes(), cell.shape, tuple(field.basis.ravel().tolist()), block)
    # one more row and column spare the kernel the wrap
    padded = np.pad(cell, ((0, 1), (0, 1)), mode="wrap").astype(np.float32)
    # coordinates in blocks, from the middle of the first one
    middle = (block - 1) / 2
    turns = field.phase / TURN + field.basis.sum(1) * middle
    first, second = np.ascontiguousarray(turns[..., 0]), np.ascontiguousarray(turns[..., 1])
    origin, step = (field.origin - middle) / block, field.step / block
    basis = field.basis * block
    out = np.empty(shape, np.float32)
    wide = (
        _widened(first, basis[0, 1], origin, step, shape[1]),
        _widened(second, basis[1, 1], origin, step, shape[1]),
    )

    def unfold(top: int, bottom: int) -> None:
        _unfold(padded, basis, *wide, origin, step, top, bottom, out)

    by_parts(unfold, shape[0], max(FEWEST_PIXELS // max(shape[1], 1), 1))
    _unfold_cuts(padded, basis, turns * TURN, origin, step, out)
    return out


@lru_cache(maxsize=16)
def _mean_over_block(
    values: bytes, shape: tuple[int, int], waves: tuple[float, ...], block: int
) -> NDArray[np.float64]:
    """Mean of a cell over a square block of pixels around each of its points; the same for every frame of a stream."""
    cell, basis = np.frombuffer(values).reshape(shape), np.reshape(waves, (2, 2))
    n1, n2 = shape
    h, k = np.fft.fftfreq(n1, 1 / n1)[:, None], np.fft.rfftfreq(n2, 1 / n2)
    kept = np.ones((n1, len(k)))
    for axis in range(2):
        half = np.pi * (h * basis[0, axis] + k * basis[1, axis])
        sine = block * np.sin(half)
        # a wave of whole turns to a pixel is constant
        kept *= np.divide(np.sin(block * half), sine, out=np.ones_like(kept), where=np.abs(sine) > 1e-9)
    return np.fft.irfft2(np.fft.rfft2(cell) * kept, s=shape)


@njit(cache=True, nogil=True)
def _unfold(cell, basis, wide1, wide2, origin, step, top, bottom, out):  # pragma: no cover - compiled
    """Bilinear in the cell and in the phase; the rows from top to before bottom."""
    n1, n2 = cell.shape[0] - 1, cell.shape[1] - 1
    flat = cell.reshape(-1)
    for r in range(top, bottom):
        at = min(max((r - origin) / step, 0.0), len(wide1) - 1.000001)
        i = int(at)
        f = np.float32(at - i)
        u, v = np.float32(basis[0, 0] * r), np.float32(basis[1, 0] * r)
        _read(flat, n1, n2, wide1[i], wide1[i + 1], wide2[i], wide2[i + 1], f, u, v, out[r])


@njit(cache=True, nogil=True)
def _unfold_cuts(cell, basis, phase, origin, step, out):  # pragma: no cover - compiled
    """The same anew in the squares of nodes that a cut of the phase goes through."""
    n1, n2 = cell.shape[0] - 1, cell.shape[1] - 1
    height, width = out.shape
    for i in range(phase.shape[0] - 1):
        top, bottom = _pixels(i, origin, step, height)
        for j in range(phase.shape[1] - 1):
            if not is_cut(phase, i, j):
                continue
            left, right = _pixels(j, origin, step, width)
            for r in range(top, bottom):
                for c in range(left, right):
                    phase0, phase1 = bilinear_phase(phase, (r - origin) / step, (c - origin) / step)
                    u = basis[0, 0] * r + basis[0, 1] * c + phase0 / TURN
                    v = basis[1, 0] * r + basis[1, 1] * c + phase1 / TURN
                    u, v = (u - np.floor(u)) * n1, (v - np.floor(v)) * n2
                    a, b = min(int(u), n1 - 1), min(int(v), n2 - 1)
                    fu, fv = u - a, v - b
                    low = cell[a, b] + fv * (cell[a, b + 1] - cell[a, b])
                    high = cell[a + 1, b] + fv * (cell[a + 1, b + 1] - cell[a + 1, b])
                    out[r, c] = low + fu * (high - low)


@njit(cache=True, nogil=True)
def _pixels(node, origin, step, n):  # pragma: no cover - compiled
    """The first pixel between a node and the next one, and the first behind them."""
    first, last = int(np.ceil(origin + step * node)), int(np.ceil(origin + step * (node + 1)))
    return max(first, 0), min(last, n)


@njit(cache=True, nogil=True)
def _widened(turns, slope, origin, step, width):  # pragma: no cover - compiled
    """Rows of nodes, interpolated at every pixel of a row, and the wave along it."""
    out = np.empty((len(turns), width), np.float32)
    before, share = np.empty(width, np.int64), np.empty(width, np.float32)
    for c in range(width):
        at = min(max((c - origin) / step, 0.0), turns.shape[1] - 1.000001)
        before[c] = int(at)
        share[c] = at - before[c]
    for i in range(len(turns)):
        for c in range(width):
            j = before[c]
            out[i, c] = slope * c + turns[i, j] + share[c] * (turns[i, j + 1] - turns[i, j])
    return out


@kernel
def _read(cell, n1, n2, above1, below1, above2, below2, f, u0, v0, out):  # pragma: no cover - compiled
    """One row: the cell, flat and padded by a row and a column, where the cell coordinates point."""
    width = n2 + 1
    for c in range(len(out)):
        u = u0 + (np.float32(1.0) - f) * above1[c] + f * below1[c]
        v = v0 + (np.float32(1.0) - f) * above2[c] + f * below2[c]
        u = (u - np.floor(u)) * np.float32(n1)
        v = (v - np.floor(v)) * np.float32(n2)
        # just below a whole turn the product may round up to it
        a = max(min(np.int32(u), np.int32(n1 - 1)), np.int32(0))
        b = max(min(np.int32(v), np.int32(n2 - 1)), np.int32(0))
        fu, fv = u - np.float32(a), v - np.float32(b)
        k = np.uintp(a * width + b)
        below = k + np.uintp(width)
        low = cell[k] + fv * (cell[k + np.uintp(1)] - cell[k])
        high = cell[below] + fv * (cell[below + np.uintp(1)] - cell[below])
        out[c] = low + fu * (high - low)
