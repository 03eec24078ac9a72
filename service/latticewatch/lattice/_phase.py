"""Geometric phase: where each point of the frame lies in its unit cell, followed locally.

The image is demodulated at the lowest Bragg frequencies and low-passed over a few unit cells. The phase that is left is
the displacement of the lattice: drift, scan distortion, strain and small rotations are read off it, not assumed away.

Hÿtch, Snoeck & Kilaas (1998), Quantitative measurement of displacement and strain fields from HREM micrographs,
doi:10.1016/S0304-3991(98)00035-7. We differ in combining all visible harmonics by least squares, not two.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice._bilinear import bilinear

# Low-pass of the demodulated image, standard deviation in lattice constants: some thirty cells share their phase.
SMOOTHING_CELLS = 1.5
# Below this share of the usual amplitude there is no lattice of this grain.
MIN_AMPLITUDE = 0.4
# Above this share the frame counts as covered: half the lattice is missing at the very edge of a hole.
MIN_COVER = 0.6
# Harmonics whose phases are combined when a lattice is found, and when it is only followed.
MAX_HARMONICS = 8
HARMONICS_FOLLOWED = 3


@dataclass(frozen=True, slots=True, eq=False)
class PhaseField:
    """Unit-cell coordinates over a frame, on a coarse grid of nodes.

    The cell coordinate of a point r (row, column) is ``basis @ r + phase(r) / 2 pi``; its whole part names the unit
    cell, its fraction the place in it.

    Attributes
    ----------
    basis : ndarray of shape (2, 2), float64
        Rows are reciprocal vectors (row, column) [cycles per pixel].
    phase : ndarray of shape (rows, cols, 2), float64
        Unwrapped phase at the nodes [radians].
    amplitude : ndarray of shape (rows, cols), float64
        Strength of the lattice, 1 where it is as strong as usual.
    origin : float
        Row and column of the first node [px].
    step : float
        Distance of the nodes [px].
    coherence : float
        How well the higher harmonics keep to the phases of the first two, 0 to 1; near 0 in a noise field.
    covered : float
        Share of the frame that the lattice covers.
    strength : float
        Amplitude of the waves over the standard deviation of the frame; tiny where they only leaked from a slope.
    """

    basis: NDArray[np.float64]
    phase: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    origin: float
    step: float
    coherence: float = 1.0
    covered: float = 1.0
    strength: float = 1.0

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Lattice vectors in real space, as rows (row, column) [px]."""
        return np.asarray(np.linalg.inv(self.basis).T, np.float64)

    @property
    def lattice_constant(self) -> float:
        """Mean length of the two lattice vectors [px]."""
        return float(np.hypot(*self.vectors.T).mean())

    def cell_coordinates(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cell coordinates of points, shape (n, 2) [unit cells]."""
        return cell_coordinates(
            np.ascontiguousarray(positions, float), self.basis, self.phase, self.origin, self.step
        )

    def positions(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (row, column) [px] with these cell coordinates, shape (n, 2)."""
        return invert_coordinates(
            np.ascontiguousarray(coordinates, float),
            self.basis,
            self.vectors,
            self.phase,
            self.origin,
            self.step,
        )

    def amplitude_at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strength of the lattice at points, shape (n,)."""
        return _interpolate_all(
            np.ascontiguousarray(positions, float), self.amplitude, self.origin, self.step
        )


def phase_field(image: NDArray[np.float32], basis: NDArray[np.float64]) -> PhaseField:
    """Follow a lattice over a frame.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    basis : ndarray of shape (2, 2), float64
        Reciprocal vectors from the spectrum [cycles per pixel]; the vectors returned are finer.
    """
    for _ in range(2):
        field = _follow(image, _demodulator(image.shape, basis, MAX_HARMONICS))  # type: ignore[arg-type]
        slope = mean_slope(field)
        basis = basis + slope
        # a plane left in the phase would be low-passed away towards the edges of the frame
        if np.abs(slope).max() * SMOOTHING_CELLS * field.lattice_constant < 0.02:
            break
    return _follow(image, _demodulator(image.shape, basis, MAX_HARMONICS))  # type: ignore[arg-type]


def follow_phase(image: NDArray[np.float32], basis: NDArray[np.float64]) -> PhaseField:
    """The same for a later frame, whose lattice is nearly the one given: one pass over few harmonics.

    What the lattice has moved or strained since is in the phase.
    """
    shape = (image.shape[0], image.shape[1])
    return _follow(image, _kept_demodulator(shape, tuple(basis.ravel().tolist())))


@dataclass(frozen=True, slots=True, eq=False)
class _Demodulator:
    """Gaussian-windowed Fourier components at nodes. Window and wave are separable: matrix products.

    ``left`` holds, one below the other, the real and imaginary part of the kernel of each harmonic over the rows, and
    first the plain window; ``right`` the kernels over the columns. ``mass`` is the window's weight inside the frame,
    ``leak`` what a constant leaves at each harmonic.
    """

    basis: NDArray[np.float64]
    orders: NDArray[np.float64]
    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    left: NDArray[np.float32]
    right: NDArray[np.complex64]
    mass: NDArray[np.float64]
    leak: NDArray[np.complex128]

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
        """Local mean, and the waves without what it leaks into them."""
        n = len(self.rows)
        half = self.left @ image
        mean = (half[:n] @ self.right[0].real.T) / self.mass
        waves = np.empty((len(self.orders), n, len(self.cols)), complex)
        for k in range(len(self.orders)):
            real, imaginary = half[(2 * k + 1) * n : (2 * k + 2) * n], half[(2 * k + 2) * n : (2 * k + 3) * n]
            waves[k] = ((real + 1j * imaginary) @ self.right[k + 1].T - mean * self.leak[k]) / self.mass
        return mean, waves


def _demodulator(shape: tuple[int, int], basis: NDArray[np.float64], harmonics: int) -> _Demodulator:
    height, width = shape
    constant = float(np.hypot(*np.linalg.inv(basis)).mean())
    sigma = SMOOTHING_CELLS * constant
    step = sigma / 2
    rows, cols = np.arange(-step, height + step, step), np.arange(-step, width + step, step)

    def kernel(nodes: NDArray[np.float64], length: int, frequency: float) -> NDArray[np.complex64]:
        x = np.arange(length)
        window = np.exp(-0.5 * ((x[None, :] - nodes[:, None]) / sigma) ** 2)
        return (window * np.exp(-2j * np.pi * frequency * x)).astype(np.complex64)

    orders = _harmonics(basis)[:harmonics]
    left = [kernel(rows, height, 0.0).real]
    right = [kernel(cols, width, 0.0)]
    leak = []
    mass = np.outer(left[0].sum(1), right[0].real.sum(1)).astype(float)
    for frequency in orders @ basis:
        down, across = kernel(rows, height, frequency[0]), kernel(cols, width, frequency[1])
        left += [down.real, down.imag]
        right.append(across)
        leak.append(np.outer(down.sum(1), across.sum(1)))
    return _Demodulator(
        basis,
        orders,
        rows,
        cols,
        np.concatenate(left),
        np.stack(right),
        np.maximum(mass, 1e-3 * mass.max()),
        np.array(leak),
    )


@lru_cache(maxsize=8)
def _kept_demodulator(shape: tuple[int, int], basis: tuple[float, ...]) -> _Demodulator:
    return _demodulator(shape, np.array(basis).reshape(2, 2), HARMONICS_FOLLOWED)


def _follow(image: NDArray[np.float32], demodulate: _Demodulator) -> PhaseField:
    """The field that the waves of a frame show."""
    _, waves = demodulate(image)
    amplitude = np.sqrt((np.abs(waves) ** 2).sum(0))
    inner = demodulate.mass > 0.3 * demodulate.mass.max()
    # the lattice may cover a small part of the frame only
    usual = float(np.quantile(amplitude[inner], 0.96)) if inner.any() else 1.0
    amplitude = amplitude / max(usual, np.finfo(float).tiny)

    seed = np.unravel_index(np.argmax(np.where(inner, amplitude, 0)), amplitude.shape)
    phase = _unwrap(np.angle(waves[:2]), amplitude, int(seed[0]), int(seed[1]))
    good = inner & (amplitude > MIN_AMPLITUDE)
    phase, coherence = _combine(phase, waves, demodulate.orders, good)
    return PhaseField(
        demodulate.basis,
        np.ascontiguousarray(np.moveaxis(phase, 0, 2)),
        amplitude,
        float(demodulate.rows[0]),
        float(demodulate.rows[1] - demodulate.rows[0]),
        coherence,
        float((amplitude[inner] > MIN_COVER).mean()) if inner.any() else 0.0,
        usual / max(float(image[::4, ::4].std()), float(np.finfo(float).tiny)),
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


def _combine(
    phase: NDArray[np.float64],
    waves: NDArray[np.complex128],
    orders: NDArray[np.float64],
    good: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], float]:
    """Least-squares phase of the two basis waves from all harmonics, each with the weight of its power.

    Also the highest coherence of a harmonic with them.
    """
    best = 0.0
    normal = np.zeros((*phase.shape[1:], 2, 2))
    right = np.zeros((*phase.shape[1:], 2))
    for order, wave in zip(orders, waves, strict=True):
        turned = wave * np.exp(-1j * (order[0] * phase[0] + order[1] * phase[1]))
        common = turned[good].sum() if good.any() else turned.sum()
        # a harmonic whose phase does not follow the two basis waves is noise
        coherence = abs(common) / max(float(np.abs(turned[good]).sum()), np.finfo(float).tiny)
        if np.abs(order).sum() > 1:
            best = max(best, coherence)
        if coherence < 0.5:
            continue
        weight = np.abs(wave) ** 2
        miss = np.angle(turned * np.conj(common))
        normal += weight[..., None, None] * np.multiply.outer(order, order)
        right += (weight * miss)[..., None] * order
    trace = np.trace(normal, axis1=2, axis2=3)
    if not trace.any():
        return phase, best
    normal += (1e-6 * trace + np.finfo(float).tiny)[..., None, None] * np.eye(2)
    change = np.linalg.solve(normal, right[..., None])[..., 0]
    return phase + np.moveaxis(change, 2, 0), best


def mean_slope(field: PhaseField) -> NDArray[np.float64]:
    """Slope of the weighted plane through each phase, as rows (d/drow, d/dcol) [cycles per pixel]."""
    n_rows, n_cols = field.amplitude.shape
    r, c = np.meshgrid(np.arange(n_rows) * field.step, np.arange(n_cols) * field.step, indexing="ij")
    design = np.stack([np.ones(r.size), r.ravel(), c.ravel()], 1)
    weight = np.where(field.amplitude > MIN_AMPLITUDE, field.amplitude, 0.0)
    root = np.sqrt(weight.ravel() + 1e-9)[:, None]
    fit = np.linalg.lstsq(design * root, field.phase.reshape(-1, 2) * root, rcond=None)[0]
    return np.asarray(fit[1:].T / (2 * np.pi), np.float64)


@njit(cache=True, nogil=True)
def _unwrap(wrapped, quality, seed_row, seed_col):  # pragma: no cover - compiled
    """Unwrap two phases at once, best nodes first, each to the mean of its unwrapped neighbours."""
    _, n_rows, n_cols = wrapped.shape
    out = wrapped.copy()
    state = np.zeros((n_rows, n_cols), np.uint8)
    state[seed_row, seed_col] = 1
    heap = [(-quality[seed_row, seed_col], seed_row, seed_col)]
    while len(heap) > 0:
        _, i, j = heapq.heappop(heap)
        if state[i, j] == 2:
            continue
        total0, total1, n = 0.0, 0.0, 0
        for di in range(-1, 2):
            for dj in range(-1, 2):
                a, b = i + di, j + dj
                if 0 <= a < n_rows and 0 <= b < n_cols and state[a, b] == 2:
                    total0 += out[0, a, b]
                    total1 += out[1, a, b]
                    n += 1
        if n > 0:
            turn = 2 * np.pi
            out[0, i, j] += turn * np.rint((total0 / n - out[0, i, j]) / turn)
            out[1, i, j] += turn * np.rint((total1 / n - out[1, i, j]) / turn)
        state[i, j] = 2
        for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            a, b = i + di, j + dj
            if 0 <= a < n_rows and 0 <= b < n_cols and state[a, b] == 0:
                state[a, b] = 1
                heapq.heappush(heap, (-quality[a, b], a, b))
    return out


@njit(cache=True, nogil=True)
def _interpolate_all(positions, grid, origin, step):  # pragma: no cover - compiled
    out = np.empty(len(positions))
    for k in range(len(positions)):
        out[k] = bilinear(grid, (positions[k, 0] - origin) / step, (positions[k, 1] - origin) / step)
    return out


@njit(cache=True, nogil=True)
def cell_coordinates(positions, basis, phase, origin, step):  # pragma: no cover - compiled
    """Cell coordinates of points (row, column) [px]."""
    out = np.empty((len(positions), 2))
    for k in range(len(positions)):
        r, c = positions[k, 0], positions[k, 1]
        i, j = (r - origin) / step, (c - origin) / step
        for d in range(2):
            out[k, d] = basis[d, 0] * r + basis[d, 1] * c + bilinear(phase[:, :, d], i, j) / (2 * np.pi)
    return out


@njit(cache=True, nogil=True)
def invert_coordinates(coordinates, basis, vectors, phase, origin, step):  # pragma: no cover - compiled
    """Points with given cell coordinates; the phase is smooth, so a few fixed-point steps converge."""
    out = np.empty((len(coordinates), 2))
    for k in range(len(coordinates)):
        r = coordinates[k, 0] * vectors[0, 0] + coordinates[k, 1] * vectors[1, 0]
        c = coordinates[k, 0] * vectors[0, 1] + coordinates[k, 1] * vectors[1, 1]
        for _ in range(12):
            i, j = (r - origin) / step, (c - origin) / step
            m0 = (
                coordinates[k, 0]
                - basis[0, 0] * r
                - basis[0, 1] * c
                - bilinear(phase[:, :, 0], i, j) / (2 * np.pi)
            )
            m1 = (
                coordinates[k, 1]
                - basis[1, 0] * r
                - basis[1, 1] * c
                - bilinear(phase[:, :, 1], i, j) / (2 * np.pi)
            )
            dr = m0 * vectors[0, 0] + m1 * vectors[1, 0]
            dc = m0 * vectors[0, 1] + m1 * vectors[1, 1]
            r += dr
            c += dc
            if abs(dr) + abs(dc) < 1e-4:
                break
        out[k, 0] = r
        out[k, 1] = c
    return out
