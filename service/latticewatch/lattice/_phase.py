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
from scipy import ndimage

from latticewatch.lattice._bilinear import bilinear, bilinear_pair, bilinear_phase
from latticewatch.lattice._demodulator import SMOOTHING_CELLS, Demodulator, demodulator, thinned
from latticewatch.lattice._smooth import plane_coefficients
from latticewatch.robust import median

# Below this share of the usual amplitude there is no lattice of this grain.
MIN_AMPLITUDE = 0.4
# Above this share the frame counts as covered: half the lattice is missing at the very edge of a hole.
MIN_COVER = 0.6
# Harmonics whose phases are combined when a lattice is found, and when it is only followed.
MAX_HARMONICS = 8
HARMONICS_FOLLOWED = 3
TURN = 2 * np.pi


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
    others : tuple of PhaseField or None
        Those of the other grains of the frame, in their order; None for one that is out of view.
    means : ndarray or None
        Means of the frame over blocks of `block_side(lattice_constant)` pixels, which the demodulation takes anyway.
    """

    basis: NDArray[np.float64]
    phase: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    origin: float
    step: float
    coherence: float = 1.0
    covered: float = 1.0
    strength: float = 1.0
    others: tuple[PhaseField | None, ...] = ()
    means: NDArray[np.float32] | None = None

    @property
    def grains(self) -> tuple[PhaseField | None, ...]:
        """This field and the others."""
        return self, *self.others

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Lattice vectors in real space, as rows (row, column) [px]."""
        return np.asarray(np.linalg.inv(self.basis).T, np.float64)

    @property
    def lattice_constant(self) -> float:
        """Mean length of the two lattice vectors [px]."""
        return float(np.hypot(*self.vectors.T).mean())

    def nodes(self) -> NDArray[np.float64]:
        """Where phase and amplitude are given, row by row, shape (rows * cols, 2) [px]."""
        n_rows, n_cols = self.amplitude.shape
        grid = np.meshgrid(np.arange(n_rows), np.arange(n_cols), indexing="ij")
        return self.origin + self.step * np.stack(grid, -1).reshape(-1, 2)

    def cell_coordinates(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cell coordinates of points.

        Parameters
        ----------
        positions : ndarray of shape (n, 2), float64
            Row and column [px].

        Returns
        -------
        ndarray of shape (n, 2), float64
            [unit cells]
        """
        return cell_coordinates(
            np.ascontiguousarray(positions, float), self.basis, self.phase, self.origin, self.step
        )

    def positions(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points with these cell coordinates.

        Parameters
        ----------
        coordinates : ndarray of shape (n, 2), float64
            [unit cells]

        Returns
        -------
        ndarray of shape (n, 2), float64
            Row and column [px].
        """
        return invert_coordinates(
            np.ascontiguousarray(coordinates, float),
            self.basis,
            self.vectors,
            self.phase,
            self.origin,
            self.step,
        )

    def amplitude_at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strength of the lattice at points.

        Parameters
        ----------
        positions : ndarray of shape (n, 2), float64
            Row and column [px].

        Returns
        -------
        ndarray of shape (n,), float64
            1 where the lattice is as strong as usual.
        """
        return _interpolate_all(
            np.ascontiguousarray(positions, float), self.amplitude, self.origin, self.step
        )

    def amplitude_on(self, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strength of the lattice on a grid of rows and columns.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,), float64
        cols : ndarray of shape (n_cols,), float64
            [px]

        Returns
        -------
        ndarray of shape (n_rows, n_cols), float64
            1 where the lattice is as strong as usual.
        """
        last = np.array(self.amplitude.shape) - 1.0
        i = np.clip((rows - self.origin) / self.step, 0.0, last[0])
        j = np.clip((cols - self.origin) / self.step, 0.0, last[1])
        a, b = np.minimum(i.astype(int), int(last[0]) - 1), np.minimum(j.astype(int), int(last[1]) - 1)
        down = self.amplitude[a] + (i - a)[:, None] * (self.amplitude[a + 1] - self.amplitude[a])
        return down[:, b] + (j - b) * (down[:, b + 1] - down[:, b])


def phase_field(image: NDArray[np.float32], basis: NDArray[np.float64]) -> PhaseField:
    """Follow a lattice over a frame.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    basis : ndarray of shape (2, 2), float64
        Reciprocal vectors from the spectrum [cycles per pixel]; the vectors returned are finer.

    Returns
    -------
    PhaseField
    """
    for _ in range(2):
        field = _follow(image, demodulator(image.shape, basis, MAX_HARMONICS))  # type: ignore[arg-type]
        slope = mean_slope(field)
        basis = basis + slope
        # a plane left in the phase would be low-passed away towards the edges of the frame
        if np.abs(slope).max() * SMOOTHING_CELLS * field.lattice_constant < 0.02:
            break
    return _follow(image, demodulator(image.shape, basis, MAX_HARMONICS))  # type: ignore[arg-type]


def follow_phase(image: NDArray[np.float32], basis: NDArray[np.float64]) -> PhaseField:
    """The same for a later frame, whose lattice is nearly the one given: one pass over few harmonics.

    What the lattice has moved or strained since is in the phase.
    """
    shape = (image.shape[0], image.shape[1])
    return _follow(image, _kept_demodulator(shape, tuple(basis.ravel().tolist())))


@lru_cache(maxsize=8)
def _kept_demodulator(shape: tuple[int, int], basis: tuple[float, ...]) -> Demodulator:
    return demodulator(shape, np.array(basis).reshape(2, 2), HARMONICS_FOLLOWED)


def _follow(image: NDArray[np.float32], demodulate: Demodulator) -> PhaseField:
    """The field that the waves of a frame show."""
    sample = np.ascontiguousarray(thinned(image))
    waves, means = demodulate(image, float(sample.mean()))
    amplitude = np.sqrt((waves.real**2 + waves.imag**2).sum(0))
    inner = demodulate.mass > 0.3 * demodulate.mass.max()
    # the lattice may cover a small part of the frame only
    usual = _upper(amplitude[inner], 0.96) if inner.any() else 1.0
    amplitude = amplitude / max(usual, np.finfo(float).tiny)
    phase = _smooth_phase(waves[:2], amplitude, inner)
    good = inner & (amplitude > MIN_AMPLITUDE)
    change, coherence = _combine(waves, demodulate.orders, good if good.any() else np.ones_like(good))
    return PhaseField(
        demodulate.basis,
        np.ascontiguousarray(np.moveaxis(phase, 0, 2)) + change,
        amplitude,
        float(demodulate.rows[0]),
        float(demodulate.rows[1] - demodulate.rows[0]),
        coherence,
        float((amplitude[inner] > MIN_COVER).mean()) if inner.any() else 0.0,
        usual / max(float(sample.std()), float(np.finfo(float).tiny)),
        means=means,
    )


def _upper(values: NDArray[np.float64], share: float) -> float:
    """The value that a share of them is below; quicker than a quantile between two of them."""
    k = round(share * (len(values) - 1))
    return float(np.partition(values, k)[k])


def _smooth_phase(
    waves: NDArray[np.complex128], amplitude: NDArray[np.float64], inner: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Unwrapped phases of two waves, shape (2, rows, cols)."""
    # around the phase of all nodes together, few or none jump
    common = np.angle(waves.sum((1, 2), keepdims=True))
    phase = np.angle(waves * np.exp(-1j * common))
    seed = np.unravel_index(np.argmax(np.where(inner, amplitude, 0)), amplitude.shape)
    return _unwrap(phase, amplitude, int(seed[0]), int(seed[1])) + common


def mean_slope(field: PhaseField) -> NDArray[np.float64]:
    """Slope of the weighted plane through each phase, as rows (d/drow, d/dcol) [cycles per pixel].

    Through the largest region that the lattice covers: the phase of a scrap elsewhere has nothing to do with it.
    """
    covered = field.amplitude > MIN_AMPLITUDE
    if not covered.all():
        regions = np.asarray(ndimage.label(covered)[0])  # type: ignore[index]
        size = np.bincount(regions.ravel())[1:]
        covered = regions == 1 + int(np.argmax(size)) if len(size) else covered
    weight = np.where(covered, field.amplitude, 0.0) + 1e-9
    steps = [
        np.diff(field.phase, axis=0)[covered[1:] & covered[:-1]],
        np.diff(field.phase, axis=1)[covered[:, 1:] & covered[:, :-1]],
    ]
    if all(map(len, steps)):
        usual = [np.array([median(step[:, d]) for d in range(2)]) for step in steps]
        beyond = [step - most for step, most in zip(steps, usual, strict=True)]
        if any((np.abs(step) > np.pi).any() for step in beyond):
            # around a dislocation the phase is cut, and no plane goes through both sides of the cut
            means = [
                most + (step - TURN * np.rint(step / TURN)).mean(0)
                for step, most in zip(beyond, usual, strict=True)
            ]
            return np.asarray(means, np.float64).T / (TURN * field.step)
    slopes = [plane_coefficients(field.phase[..., d], weight)[1:] for d in range(2)]
    return np.asarray(slopes, np.float64) / (2 * np.pi * field.step)


def combined(
    waves: NDArray[np.complex128], orders: NDArray[np.float64], good: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """What the harmonics add to the phases of the two basis waves, (rows, cols, 2), and how well they keep to them.

    Parameters
    ----------
    waves : ndarray of shape (n_waves, rows, cols), complex128
        The two basis waves first.
    orders : ndarray of shape (n_waves, 2), float64
    good : ndarray of shape (rows, cols), bool
        Nodes of one pattern: the phases between its waves are the same there.
    """
    return _combine(waves, orders, good)


@njit(cache=True, nogil=True)
def _combine(waves, orders, good):  # pragma: no cover - compiled
    """What the harmonics, by least squares with the weight of their power, add to the phases of the two basis waves.

    waves (n_waves, rows, cols) complex128, the two basis waves first; orders (n_waves, 2); good (rows, cols) bool: the
    nodes that count for the coherence. Returns the change (rows, cols, 2) and the highest coherence of a harmonic with
    the basis waves.
    """
    n_waves, n_rows, n_cols = waves.shape
    # normal equations of every node: elements 00, 01, 11 and the right side
    sums = np.zeros((n_rows, n_cols, 5))
    turned = np.empty((n_rows, n_cols), np.complex128)
    best = 0.0
    for h in range(n_waves):
        common, size = 0j, 0.0
        for i in range(n_rows):
            for j in range(n_cols):
                wave = waves[h, i, j]
                power = wave.real**2 + wave.imag**2
                if h < 2:
                    turned[i, j] = np.sqrt(power)
                else:
                    turned[i, j] = wave * np.conj(
                        _power(waves[0, i, j], orders[h, 0]) * _power(waves[1, i, j], orders[h, 1])
                    )
                if good[i, j]:
                    common += turned[i, j]
                    size += np.sqrt(power)
        # a harmonic whose phase does not follow the two basis waves is noise
        coherence = abs(common) / max(size, 1e-300)
        if h >= 2:
            best = max(best, coherence)
        if coherence < 0.5:
            continue
        for i in range(n_rows):
            for j in range(n_cols):
                weight = waves[h, i, j].real ** 2 + waves[h, i, j].imag ** 2
                sums[i, j, 0] += weight * orders[h, 0] * orders[h, 0]
                sums[i, j, 1] += weight * orders[h, 0] * orders[h, 1]
                sums[i, j, 2] += weight * orders[h, 1] * orders[h, 1]
                if h >= 2:
                    miss = turned[i, j] * np.conj(common)
                    angle = np.arctan2(miss.imag, miss.real)
                    sums[i, j, 3] += weight * angle * orders[h, 0]
                    sums[i, j, 4] += weight * angle * orders[h, 1]
    change = np.zeros((n_rows, n_cols, 2))
    for i in range(n_rows):
        for j in range(n_cols):
            ridge = 1e-6 * (sums[i, j, 0] + sums[i, j, 2]) + 1e-300
            a, b, c = sums[i, j, 0] + ridge, sums[i, j, 1], sums[i, j, 2] + ridge
            scale = a * c - b * b
            if scale > 0:
                change[i, j, 0] = (c * sums[i, j, 3] - b * sums[i, j, 4]) / scale
                change[i, j, 1] = (a * sums[i, j, 4] - b * sums[i, j, 3]) / scale
    return change, best


@njit(cache=True, nogil=True)
def _power(wave, order):  # pragma: no cover - compiled
    """Whole power of the phase factor of a wave."""
    size = np.sqrt(wave.real**2 + wave.imag**2)
    unit = wave * (1 / size) if size > 0 else 1.0 + 0j
    if order < 0:
        unit = np.conj(unit)
    out = 1.0 + 0j
    for _ in range(int(abs(order))):
        out *= unit
    return out


@njit(cache=True, nogil=True)
def _jumps(phase):  # pragma: no cover - compiled
    """Whether a phase differs by more than half a turn between any two adjacent nodes, diagonals included."""
    n, n_rows, n_cols = phase.shape
    for d in range(n):
        for i in range(n_rows):
            for j in range(n_cols):
                for a, b in ((i, j + 1), (i + 1, j - 1), (i + 1, j), (i + 1, j + 1)):
                    if a < n_rows and 0 <= b < n_cols and abs(phase[d, a, b] - phase[d, i, j]) >= np.pi:
                        return True
    return False


@njit(cache=True, nogil=True)
def _unwrap(wrapped, quality, seed_row, seed_col):  # pragma: no cover - compiled
    """Unwrap two phases at once, best nodes first, each to the mean of its unwrapped neighbours."""
    _, n_rows, n_cols = wrapped.shape
    out = wrapped.copy()
    if not _jumps(wrapped):
        return out
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
        phase0, phase1 = bilinear_phase(phase, (r - origin) / step, (c - origin) / step)
        out[k, 0] = basis[0, 0] * r + basis[0, 1] * c + phase0 / TURN
        out[k, 1] = basis[1, 0] * r + basis[1, 1] * c + phase1 / TURN
    return out


@njit(cache=True, nogil=True)
def invert_coordinates(coordinates, basis, vectors, phase, origin, step):  # pragma: no cover - compiled
    """Points with given cell coordinates."""
    out = np.empty((len(coordinates), 2))
    for k in range(len(coordinates)):
        out[k] = invert_coordinate(
            coordinates[k, 0], coordinates[k, 1], 0.0, 0.0, basis, vectors, phase, origin, step
        )
    return out


@njit(cache=True, nogil=True)
def invert_coordinate(
    u, v, row_shift, col_shift, basis, vectors, phase, origin, step
):  # pragma: no cover - compiled
    """Point with these cell coordinates; the phase is smooth, so a few fixed-point steps converge.

    Where the phase is cut, see `predict_sites`: taken for smooth there, no two cells have one place.

    The shift, from where the point would be without a phase, is where to start; that of a point nearby saves steps.
    """
    r = u * vectors[0, 0] + v * vectors[1, 0] + row_shift
    c = u * vectors[0, 1] + v * vectors[1, 1] + col_shift
    for _ in range(12):
        phase0, phase1 = bilinear_pair(phase, (r - origin) / step, (c - origin) / step)
        m0 = u - basis[0, 0] * r - basis[0, 1] * c - phase0 / TURN
        m1 = v - basis[1, 0] * r - basis[1, 1] * c - phase1 / TURN
        dr = m0 * vectors[0, 0] + m1 * vectors[1, 0]
        dc = m0 * vectors[0, 1] + m1 * vectors[1, 1]
        r += dr
        c += dc
        if abs(dr) + abs(dc) < 1e-3:
            break
    return r, c
