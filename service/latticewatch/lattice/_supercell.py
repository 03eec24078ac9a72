"""Whether the cell that was found is too small: waves between its own, of cells twice and three times as large.

Where two columns differ a little (the cations of a perovskite, the sublattices of graphene beside a bright atom), the
strong reflections alone give a cell in which they are the same column. What tells them apart are weak waves between the
strong ones; over the whole frame they add up in step. A step in thickness, the edge of a hole and the jitter of lines
put power between the strong waves, too, but smear it along a line: a wave of a larger cell is a peak.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._bilinear import bilinear, bilinear_phase
from latticewatch.lattice._outliers import without_bright
from latticewatch.lattice._phase import MIN_COVER, TURN, PhaseField
from latticewatch.lattice._spectrum import reduced

# Orders are looked at in sixths: halves and thirds are among them.
SIXTHS = 6
MAX_ORDER = 2
# A wave between the strong ones is real beyond this multiple of the median power of those like it: the largest of the
# hundred that are looked at is, in noise, below 9.
MIN_SIGNIFICANCE = 25.0
# Amplitude, relative to the strongest wave, that the defects of a frame and the resampling of pixels can make.
MIN_STRENGTH = 0.012
# Waves are alike whose lengths differ by less than this share.
ALIKE = 0.35
# With fewer cells in view a few odd columns are as strong as a weak wave, but not as one of this amplitude.
MIN_CELLS = 144
FEW_STRENGTH = 0.15
# A wave stands out of what is around it by this factor in power. What steps, domains, wedges and jitter make does by
# six at most; where columns differ by 7 %, it is a hundred in 200 px, and more in larger frames.
MIN_PROMINENCE = 15.0
# Around it begins where the window of the frame no longer spreads it, and ends [waves over the frame].
AROUND = (2.9, 3.6, 5.1)
# The frame is seen in so many parts each way for it, and the strongest so many waves are looked at.
PARTS, MAX_LOOKED_AT = 48, 12
# Side of the part of a large frame that is enough [px].
ENOUGH_PX = 640
# Denominator of the order of a wave, and its numerators: cells twice as large in three ways, three times in four.
CENTRINGS = ((2, (1, 0)), (2, (0, 1)), (2, (1, 1)), (3, (1, 0)), (3, (0, 1)), (3, (1, 1)), (3, (1, 2)))

# What both kernels take: image, corner, window along rows and columns, waves, phase, origin, step, amplitude, least.
Windowed = tuple[Any, int, int, Any, Any, Any, Any, float, float, Any, float]


def larger_cell(image: NDArray[np.float32], field: PhaseField) -> NDArray[np.float64] | None:
    """Reciprocal vectors of the larger cell that the frame really has; None where the one known is whole.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
        Of the cell known.

    Returns
    -------
    ndarray of shape (2, 2), float64, or None
        Rows are reciprocal vectors (row, column) [cycles per pixel].
    """
    n_cells = field.covered * image.size * abs(float(np.linalg.det(field.basis)))
    weakest = MIN_STRENGTH if n_cells >= MIN_CELLS else FEW_STRENGTH
    seen = _windowed(image, field)
    larger = _larger(seen, field, weakest)
    if larger is None:
        # few bright atoms make waves of all lengths, and hide the weak ones
        alone = without_bright(seen[0], field.lattice_constant)
        larger = None if alone is None else _larger((alone, *seen[1:]), field, weakest)
    return larger


def _larger(seen: Windowed, field: PhaseField, weakest: float) -> NDArray[np.float64] | None:
    """The larger cell that the middle of a frame shows by waves of such an amplitude; None where there is none."""
    most = SIXTHS * MAX_ORDER
    power = np.abs(_waves(*seen, most)) ** 2
    sixths = np.stack(np.meshgrid(np.arange(-most, most + 1), np.arange(most + 1), indexing="ij"), -1)
    # near the origin is what the background left over
    near = np.hypot(*np.moveaxis(sixths, -1, 0)) > 0.4 * SIXTHS
    whole = near & (sixths % SIXTHS == 0).all(-1)
    neither = near & (sixths % 2 != 0).any(-1) & (sixths % 3 != 0).any(-1)
    # beside a strong wave stands what the edges of the frame make of it
    neither &= ((sixths + 1) % SIXTHS > 2).any(-1)
    length = np.hypot(*np.moveaxis(sixths @ field.basis, -1, 0))
    least = weakest**2 * float(power[whole].max())
    found: list[tuple[float, tuple[int, int, int], NDArray[np.intp]]] = []
    for denominator, (h, k) in CENTRINGS:
        step = SIXTHS // denominator
        own = np.zeros_like(near)
        for times in range(1, denominator):
            own |= ((sixths - times * step * np.array([h, k])) % SIXTHS == 0).all(-1)
        for i, j in np.argwhere(near & own & (power > least)):
            # defects here and there make diffuse waves, the more the longer
            alike = neither & (np.abs(length - length[i, j]) < ALIKE * length[i, j])
            ratio = float(power[i, j] / np.median(power[alike])) if alike.sum() >= 5 else 0.0
            if ratio > MIN_SIGNIFICANCE:
                found.append((ratio, (denominator, h, k), sixths[i, j]))
    found.sort(key=lambda one: -one[0])
    for _, (denominator, h, k), order in found[:MAX_LOOKED_AT]:
        if _prominence(seen, field, order) > MIN_PROMINENCE:
            between = (h * field.basis[0] + k * field.basis[1]) / denominator
            return reduced(np.array([between, field.basis[1 if h else 0]]))
    return None


def _prominence(seen: Windowed, field: PhaseField, order: NDArray[np.intp]) -> float:
    """Power of the wave of an order in sixths over the highest that stands around it in the spectrum."""
    shape = seen[0].shape
    block = max(min(shape) // PARTS, 1)
    parts = _demodulated(*seen, order / SIXTHS, block)
    power = np.abs(np.fft.fft2(parts)) ** 2
    # of a frame that is not square, waves over its shorter side
    scale = min(shape) / block
    radius = scale * np.hypot(np.fft.fftfreq(len(parts))[:, None], np.fft.fftfreq(parts.shape[1]))
    # nor is the nearest strong wave looked at
    away = min(abs(float(np.hypot(*((order / SIXTHS - whole) @ field.basis)))) for whole in _corners(order))
    least, narrow, wide = AROUND
    last = np.clip(min(shape) * away - least, narrow, wide)
    return float(power[0, 0] / power[(radius > least) & (radius < last)].max())


def _corners(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Whole orders around one in sixths."""
    return order // SIXTHS + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


def _windowed(image: NDArray[np.float32], field: PhaseField) -> Windowed:
    """The middle of a frame without its level, its corner, a window, and where the lattice lies in it."""
    first = [max(0, (n - ENOUGH_PX) // 2) for n in image.shape]
    part = image[tuple(slice(a, a + ENOUGH_PX) for a in first)]
    level = ndimage.gaussian_filter(part, 1.5 * field.lattice_constant)
    # without a window the strong waves would leak into those between them
    down, across = (np.hanning(n + 2)[1:-1] ** 2 for n in part.shape)
    return (
        part - level,
        first[0],
        first[1],
        down,
        across,
        field.basis,
        field.phase,
        field.origin,
        field.step,
        field.amplitude,
        MIN_COVER,
    )


@njit(cache=True, nogil=True)
def _weight(amplitude, i, j, least):  # pragma: no cover - compiled
    """How much a place counts, by how much lattice there is: an edge of the crystal that is smooth leaks little."""
    return min((bilinear(amplitude, i, j) - least) / (1 - least), 1.0)


@njit(cache=True, nogil=True)
def _cells(basis, phase, row, col, i, j):  # pragma: no cover - compiled
    """Where a pixel lies, in cells along both vectors."""
    phase0, phase1 = bilinear_phase(phase, i, j)
    u = basis[0, 0] * row + basis[0, 1] * col + phase0 / TURN
    v = basis[1, 0] * row + basis[1, 1] * col + phase1 / TURN
    return u, v


@njit(cache=True, nogil=True)
def _demodulated(
    image, top, left, down, across, basis, phase, origin, step, amplitude, least, order, block
):  # pragma: no cover - compiled
    """Sums over blocks of the image, windowed, times one wave; complex128."""
    out = np.zeros((image.shape[0] // block, image.shape[1] // block), np.complex128)
    for r in range(out.shape[0] * block):
        i = (top + r - origin) / step
        for c in range(out.shape[1] * block):
            j = (left + c - origin) / step
            weight = _weight(amplitude, i, j, least)
            if weight <= 0:
                continue
            u, v = _cells(basis, phase, top + r, left + c, i, j)
            turn = np.exp(-1j * TURN * (order[0] * u + order[1] * v))
            out[r // block, c // block] += weight * down[r] * across[c] * image[r, c] * turn
    return out


@njit(cache=True, nogil=True)
def _waves(
    image, top, left, down, across, basis, phase, origin, step, amplitude, least, most
):  # pragma: no cover - compiled
    """Sum of the image, windowed, times each wave; (2 * most + 1, most + 1) complex128."""
    out = np.zeros((2 * most + 1, most + 1), np.complex128)
    first = np.empty(2 * most + 1, np.complex128)
    for r in range(image.shape[0]):
        i = (top + r - origin) / step
        for c in range(image.shape[1]):
            j = (left + c - origin) / step
            weight = _weight(amplitude, i, j, least)
            if weight <= 0:
                continue
            u, v = _cells(basis, phase, top + r, left + c, i, j)
            turn_u, turn_v = np.exp(-1j * TURN / 6 * u), np.exp(-1j * TURN / 6 * v)
            first[most] = weight * down[r] * across[c] * image[r, c]
            for h in range(1, most + 1):
                first[most + h] = first[most + h - 1] * turn_u
                first[most - h] = first[most - h + 1] * np.conj(turn_u)
            for h in range(2 * most + 1):
                value = first[h]
                for k in range(most + 1):
                    out[h, k] += value
                    value *= turn_v
    return out
