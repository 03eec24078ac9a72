"""The waves of a lattice over a frame, low-passed: what is left of them at a coarse grid of nodes.

Window and wave are separable. Every few rows are turned by the wave along the rows and added up, the sums are turned by
the wave along the columns and added up over as many columns; the Gaussian window then weighs blocks, not pixels. Blocks
are at most a quarter of a lattice constant wide: what the steps of the window let through lies beyond the fourth order
of the lattice, where micrographs have nothing left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice._banded import add_windowed, bounds, padded
from latticewatch.lattice._rows import pool
from latticewatch.parallel import run
from latticewatch.vectors import (
    WIDE_LANES,
    add,
    kernel,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    wide_zeros,
)

# Low-pass of the demodulated image, standard deviation in lattice constants: some thirty cells share their phase.
SMOOTHING_CELLS = 1.5
# The window ends here [standard deviations].
REACH = 4.0
# Blocks to a lattice constant, at least.
BLOCKS_TO_CELL = 4
# Rows of blocks that are taken to the nodes at a time.
BLOCKS_TOGETHER = 16
# Parts that a frame falls into, each with nodes of its own, however many cores there are: the last digits of a sum
# depend on how it is split, and must not depend on what else the machine does.
PARTS = 2


class Part(NamedTuple):
    """Some whole rows of blocks.

    Attributes
    ----------
    rows : slice
        Of the frame.
    down, over_rows : ndarray
        What belongs to them of those of the `Demodulator`.
    """

    rows: slice
    down: NDArray[np.float32]
    over_rows: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Demodulator:
    """Gaussian-windowed Fourier components of frames of one shape, at nodes.

    Attributes
    ----------
    basis : ndarray of shape (2, 2), float64
        Reciprocal vectors (row, column) [cycles per pixel].
    orders : ndarray of shape (n_waves, 2), float64
        Harmonics, in units of the basis.
    rows, cols : ndarray of shape (n_rows,) and (n_cols,), float64
        Where the nodes are [px].
    block : int
        Side of the blocks [px].
    down, across : ndarray of shape (2 * n_waves + 1, height) and (…, width), float32
        A constant, then cosine and sine of each wave along the axis.
    over_rows, over_cols : ndarray of shape (n_rows, n_blocks), float32
        Window of each node over the blocks along each axis.
    mass : ndarray of shape (n_rows, n_cols), float64
        The window's weight inside the frame.
    leak : ndarray of shape (n_waves, n_rows, n_cols), complex128
        What a constant leaves in each wave.
    parts : tuple of Part
        Pieces of the frame, one below the other.
    """

    basis: NDArray[np.float64]
    orders: NDArray[np.float64]
    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    block: int
    down: NDArray[np.float32]
    across: NDArray[np.float32]
    over_rows: NDArray[np.float32]
    over_cols: NDArray[np.float32]
    mass: NDArray[np.float64]
    leak: NDArray[np.complex128]
    parts: tuple[Part, ...]

    def __call__(
        self, image: NDArray[np.float32], pedestal: float = 0.0
    ) -> tuple[NDArray[np.complex128], NDArray[np.float32]]:
        """Demodulate a frame.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
        pedestal : float, optional
            About its mean: without most of what is constant, single precision is enough.

        Returns
        -------
        waves : ndarray of shape (n_waves, n_rows, n_cols), complex128
            At the nodes, without what the mean leaks into them.
        means : ndarray of shape (height // block, width // block), float32
            Means of the frame over blocks.
        """
        base = np.float32(pedestal)
        width = image.shape[1]
        if width < WIDE_LANES:
            image = np.pad(image, ((0, 0), (0, WIDE_LANES - width)), constant_values=base)
        parts = run(
            *(
                partial(to_nodes, image[p.rows], base, self.block, p.down, self.across, p.over_rows)
                for p in self.parts
            )
        )
        nodes, means = zip(*parts, strict=True)
        means = means[0] if len(means) == 1 else np.concatenate(means)
        sums = to_columns(sum(nodes[1:], nodes[0]), self.over_cols, len(self.down))
        sums = np.ascontiguousarray(sums.transpose(1, 2, 0), np.float64)
        waves = sums[1::2] + 1j * sums[2::2]
        return (waves - sums[0] / self.mass * self.leak) / self.mass, means[:, : width // self.block]


def block_side(constant: float) -> int:
    """Side of blocks that resolve the columns of a lattice with this constant, a power of two [px]."""
    block = 1
    while 2 * block * BLOCKS_TO_CELL <= constant:
        block *= 2
    return block


def thinned(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every few rows and columns of a frame, about 16,000 pixels."""
    return image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)]


def demodulator(shape: tuple[int, int], basis: NDArray[np.float64], harmonics: int) -> Demodulator:
    """For frames of this shape and a lattice near this one.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frames.
    basis : ndarray of shape (2, 2), float64
        Reciprocal vectors [cycles per pixel].
    harmonics : int
        So many waves at most.
    """
    constant = float(np.hypot(*np.linalg.inv(basis)).mean())
    sigma = SMOOTHING_CELLS * constant
    step = sigma / 2
    block = block_side(constant)
    orders = _harmonics(basis)[:harmonics]
    nodes, waves, windows, kernels = [], [], [], []
    for axis, length in enumerate(shape):
        at = np.arange(-step, length + step, step)
        # a row holds a vector at least
        room = max(length, WIDE_LANES) if axis else length
        centre = np.arange(0, room, block) + (block - 1) / 2
        distance = (centre - at[:, None]) / sigma
        window = np.where(np.abs(distance) < REACH, np.exp(-0.5 * distance**2), 0.0)
        turn = -2 * np.pi * np.outer(np.append(0.0, orders @ basis[:, axis]), np.arange(room))
        nodes.append(at)
        both = np.stack([np.cos(turn), np.sin(turn)], 1).reshape(-1, room)
        # the sine of the constant is nothing
        waves.append(np.delete(both, 1, 0).astype(np.float32))
        windows.append(window.astype(np.float32))
        # what each node makes of a constant, for every wave
        kernels.append(np.repeat(window, block, 1)[:, :length] @ np.exp(1j * turn[:, :length]).T)
    constant_gives = np.einsum("ik,jk->kij", *kernels)
    mass = constant_gives[0].real
    return Demodulator(
        basis,
        orders,
        nodes[0],
        nodes[1],
        block,
        waves[0],
        waves[1],
        windows[0],
        windows[1],
        np.maximum(mass, 1e-3 * mass.max()),
        constant_gives[1:],
        _parts(waves[0], windows[0], block),
    )


def _parts(down: NDArray[np.float32], over_rows: NDArray[np.float32], block: int) -> tuple[Part, ...]:
    """`PARTS` pieces of equal height, none of them empty."""
    n_strips = over_rows.shape[1]
    ends = np.unique(np.linspace(0, n_strips, PARTS + 1).astype(int)).tolist()
    return tuple(
        Part(
            slice(first * block, last * block),
            np.ascontiguousarray(down[:, first * block : last * block]),
            np.ascontiguousarray(over_rows[:, first:last]),
        )
        for first, last in pairwise(ends)
    )


def _harmonics(basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orders (h, k) of the two basis vectors first, then of the other short ones that the sampling resolves."""
    sign = -1.0 if basis[0] @ basis[1] > 0 else 1.0
    orders = np.array(
        [(1, 0), (0, 1), (1, sign), (1, -sign), (2, sign), (1, 2 * sign), (2, 0), (0, 2)], float
    )
    length = np.hypot(*(orders @ basis).T)
    keep = (length < 0.45) & (length < 2.05 * length[:2].max())
    keep[:2] = True
    return orders[keep]


@kernel
def to_nodes(image, pedestal, block, down, across, over_rows):  # pragma: no cover - compiled
    """Sums down the columns, windowed, of some rows of a frame less its pedestal, times each wave.

    image (height, width); the other arrays as in `Demodulator`, for these rows; `block` is a power of two. Returns
    (n_rows, at least (2 * n_waves + 1) * n_blocks) float32: at each row of nodes those of the frame itself, of every
    block along the rows, then real and imaginary part of each wave; and the means of the frame over blocks,
    (height // block, width // block) float32.
    """
    height, width = image.shape
    channels, n_strips = len(down), over_rows.shape[1]
    n_blocks = (across.shape[1] + block - 1) // block
    strip = np.zeros((channels, n_blocks * block), np.float32)
    initial = np.empty((channels, WIDE_LANES), np.float32)
    spare = np.empty(channels * n_blocks * block, np.float32)
    pooled = np.zeros((BLOCKS_TOGETHER, padded(channels * n_blocks)), np.float32)
    nodes = np.zeros((len(over_rows), pooled.shape[1]), np.float32)
    means = np.empty((height // block, width // block), np.float32)
    area = np.float32(block * block)
    low, high = bounds(over_rows.T)
    for start in range(0, n_strips, BLOCKS_TOGETHER):
        stop = min(start + BLOCKS_TOGETHER, n_strips)
        for k in range(start, stop):
            top, bottom = k * block, min((k + 1) * block, height)
            for q in range(channels):
                offset = np.float32(0.0)
                for r in range(top, bottom):
                    offset -= pedestal * down[q, r]
                for x in range(WIDE_LANES):
                    initial[q, x] = offset
                # what pooling has left there
                for x in range(width, strip.shape[1]):
                    strip[q, x] = 0.0
            _turn_rows(image, top, bottom, down, across, initial, strip)
            pool(strip.reshape(-1), spare, block, pooled[k - start, : channels * n_blocks])
            if k < len(means):
                for b in range(means.shape[1]):
                    means[k, b] = pooled[k - start, b] / area + pedestal
        add_windowed(pooled, over_rows, start, stop, low[start:stop].min(), high[start:stop].max(), nodes)
    return nodes, means


@kernel
def to_columns(nodes, over_cols, channels):  # pragma: no cover - compiled
    """The same windowed along the rows: (n_cols, 2 * n_waves + 1, n_rows) float32, from the sum of all rows' nodes."""
    n_rows, n_cols, n_blocks = len(nodes), len(over_cols), over_cols.shape[1]
    by_column = np.zeros((n_blocks, padded(channels * n_rows)), np.float32)
    for i in range(n_rows):
        for q in range(channels):
            for k in range(n_blocks):
                by_column[k, q * n_rows + i] = nodes[i, q * n_blocks + k]
    out = np.zeros((n_cols, by_column.shape[1]), np.float32)
    low, high = bounds(over_cols.T)
    for start in range(0, n_blocks, BLOCKS_TOGETHER):
        stop = min(start + BLOCKS_TOGETHER, n_blocks)
        first, last = low[start:stop].min(), high[start:stop].max()
        add_windowed(by_column[start:stop], over_cols, start, stop, first, last, out)
    return out[:, : channels * n_rows].copy().reshape(n_cols, channels, n_rows)


@kernel
def _turn_rows(image, top, bottom, down, across, initial, strip):  # pragma: no cover - compiled
    """Sums over some rows times each wave down the columns, turned by the wave along the rows.

    initial (channels, WIDE_LANES): what the sums begin with; strip (channels, at least the width of the image): for the
    result.
    """
    width = image.shape[1]
    for begin in range(0, width, WIDE_LANES):
        # the last vector overlaps the one before
        x = min(begin, width - WIDE_LANES)
        total = load(wide_zeros(), initial, 0, 0)
        for r in range(top, bottom):
            total = add(total, load(wide_zeros(), image, r, x))
        store(strip, 0, x, total)
        for q in range(1, len(down), 2):
            real, imaginary = load(wide_zeros(), initial, q, 0), load(wide_zeros(), initial, q + 1, 0)
            for r in range(top, bottom):
                value = load(wide_zeros(), image, r, x)
                real = multiply_add(real, down[q, r], value)
                imaginary = multiply_add(imaginary, down[q + 1, r], value)
            cosine, sine = load(wide_zeros(), across, q, x), load(wide_zeros(), across, q + 1, x)
            store(strip, q, x, subtract(multiply(real, cosine), multiply(imaginary, sine)))
            store(strip, q + 1, x, add(multiply(real, sine), multiply(imaginary, cosine)))
