"""The waves of a lattice over a frame, low-passed: what is left of them at a coarse grid of nodes.

Window and wave are separable. Every few rows are turned by the wave along the rows and added up, the sums are turned by
the wave along the columns and added up over as many columns; the Gaussian window then weighs blocks, not pixels. Blocks
are at most a quarter of a lattice constant wide: what the steps of the window let through lies beyond the fourth order
of the lattice, where micrographs have nothing left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice._rows import FAST, add_rows, add_waves, pool

# Low-pass of the demodulated image, standard deviation in lattice constants: some thirty cells share their phase.
SMOOTHING_CELLS = 1.5
# The window ends here [standard deviations].
REACH = 4.0
# Blocks to a lattice constant, at least.
BLOCKS_TO_CELL = 4


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

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.complex128], NDArray[np.float32]]:
        """Demodulate a frame.

        Returns
        -------
        waves : ndarray of shape (n_waves, n_rows, n_cols), complex128
            At the nodes, without what the mean leaks into them.
        means : ndarray of shape (height // block, width // block), float32
            Means of the frame over blocks.
        """
        # without most of what is constant, single precision is enough
        pedestal = np.float32(thinned(image).mean())
        sums, means = demodulate(
            image, pedestal, self.block, self.down, self.across, self.over_rows, self.over_cols
        )
        sums = sums.T.astype(np.float64, order="C")
        waves = sums[1::2] + 1j * sums[2::2]
        return (waves - sums[0] / self.mass * self.leak) / self.mass, means


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
        centre = np.arange(0, length, block) + (block - 1) / 2
        distance = (centre - at[:, None]) / sigma
        window = np.where(np.abs(distance) < REACH, np.exp(-0.5 * distance**2), 0.0)
        turn = -2 * np.pi * np.outer(np.append(0.0, orders @ basis[:, axis]), np.arange(length))
        nodes.append(at)
        both = np.stack([np.cos(turn), np.sin(turn)], 1).reshape(-1, length)
        # the sine of the constant is nothing
        waves.append(np.delete(both, 1, 0).astype(np.float32))
        windows.append(window.astype(np.float32))
        # what each node makes of a constant, for every wave
        kernels.append(np.repeat(window, block, 1)[:, :length] @ np.exp(1j * turn).T)
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


@njit(cache=True, nogil=True, fastmath=FAST)
def demodulate(image, pedestal, block, down, across, over_rows, over_cols):  # pragma: no cover - compiled
    """Windowed sums of the frame less its pedestal, times each wave.

    image (height, width); the other arrays as in `Demodulator`, of which `block` is a power of two. Returns
    (n_cols, n_rows, 2 * n_waves + 1) float32: those of the frame itself, then real and imaginary part of each wave; and
    the means of the frame over blocks, (height // block, width // block) float32.
    """
    height, width = image.shape
    channels = len(down)
    n_rows, n_cols, n_blocks = len(over_rows), len(over_cols), over_cols.shape[1]
    strip = np.zeros((channels, n_blocks * block), np.float32)
    spare = np.empty(channels * n_blocks * block, np.float32)
    # four rows of blocks at a time
    pooled = np.zeros((4, channels * n_blocks), np.float32)
    nodes = np.zeros((n_rows, channels * n_blocks), np.float32)
    means = np.empty((height // block, width // block), np.float32)
    area = np.float32(block * block)
    row_from, row_to = _bounds(over_rows.T)
    col_from, col_to = _bounds(over_cols)
    for start in range(0, over_rows.shape[1], 4):
        stop = min(start + 4, over_rows.shape[1])
        for k in range(start, stop):
            strip[:, width:] = 0
            top, bottom = k * block, min((k + 1) * block, height)
            rows = image[top:bottom]
            strip[0, :width] = -pedestal * (bottom - top)
            add_rows(rows, down[0, top:bottom], strip[0, :width])
            for q in range(1, channels, 2):
                cosine, sine = down[q, top:bottom], down[q + 1, top:bottom]
                strip[q, :width] = -pedestal * cosine.sum()
                strip[q + 1, :width] = -pedestal * sine.sum()
                add_waves(rows, cosine, sine, strip[q, :width], strip[q + 1, :width])
                _turn(strip[q, :width], strip[q + 1, :width], across[q], across[q + 1])
            pool(strip.reshape(-1), spare, block, pooled[k - start])
            if k < len(means):
                for b in range(means.shape[1]):
                    means[k, b] = pooled[k - start, b] / area + pedestal
        for i in range(row_from[start], row_to[stop - 1]):
            add_rows(pooled, over_rows[i, start:stop], nodes[i])
    by_column = np.ascontiguousarray(nodes.reshape(n_rows * channels, n_blocks).T)
    out = np.zeros((n_cols, n_rows * channels), np.float32)
    for j in range(n_cols):
        left, right = col_from[j], col_to[j]
        add_rows(by_column[left:right], over_cols[j, left:right], out[j])
    return out.reshape(n_cols, n_rows, channels), means


@njit(cache=True, nogil=True)
def _bounds(windows):  # pragma: no cover - compiled
    """First column that is not zero in each row, and the one after the last."""
    first, last = np.zeros(len(windows), np.int64), np.zeros(len(windows), np.int64)
    for i in range(len(windows)):
        for k in range(windows.shape[1]):
            if windows[i, k] != 0:
                last[i] = k + 1
                if windows[i, first[i]] == 0:
                    first[i] = k
    return first, last


@njit(cache=True, nogil=True, fastmath=FAST)
def _turn(real, imaginary, cosine, sine):  # pragma: no cover - compiled
    for c in range(len(real)):
        a, b = real[c], imaginary[c]
        real[c] = a * cosine[c] - b * sine[c]
        imaginary[c] = a * sine[c] + b * cosine[c]
