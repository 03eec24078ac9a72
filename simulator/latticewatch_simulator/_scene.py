"""The noise-free image around the frame, rendered once and sampled for every frame."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError
from latticewatch_simulator._blemishes import DIRT_LEVEL, dirt
from latticewatch_simulator._drift import largest_step_nm
from latticewatch_simulator._settings import MAX_SCENE_PX, SimulatorSettings
from latticewatch_simulator._signal import Spot
from latticewatch_simulator._specimen import ColumnTable, Specimen, uniform_hash

# Bilinear sampling needs pixels below this many standard deviations of the narrow Gaussian.
COARSEST_PIXEL = 0.4
# Beyond this many standard deviations both Gaussians are below 1e-5 of the peak.
NARROW_CUTOFF, WIDE_CUTOFF = 5.0, 4.0
DRIFT_MARGIN_PX = 64
CONTAMINATION_SCALE_NM = 3.0
CONTAMINATION_CONTRAST = 0.6
# Of the beam, what a bright-field detector gets where there are no atoms.
BRIGHT_FIELD = 0.5
# Of the number that turns elliptic columns: apart from those of defects and noise.
ELLIPSE_STREAM = 10


@numba.njit(cache=True, nogil=True)
def add_spots(
    scene: NDArray[np.float32],
    positions: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigma: float,
    radius: int,
) -> None:
    """Add a Gaussian at each position (row, col) [px], cut off at the radius [px]."""
    height, width = scene.shape
    scale = -0.5 / (sigma * sigma)
    along = np.empty(2 * radius + 1)
    for n in range(len(positions)):
        if weights[n] == 0.0:
            continue
        row, col = positions[n]
        top, left = round(row) - radius, round(col) - radius
        for k in range(2 * radius + 1):
            along[k] = math.exp(scale * (left + k - col) ** 2)
        first, last = max(0, -left), min(2 * radius + 1, width - left)
        for r in range(max(top, 0), min(top + 2 * radius + 1, height)):
            across = weights[n] * math.exp(scale * (r - row) ** 2)
            for k in range(first, last):
                scene[r, left + k] += np.float32(across * along[k])


@numba.njit(cache=True, nogil=True)
def add_ellipses(
    scene: NDArray[np.float32],
    positions: NDArray[np.float64],
    weights: NDArray[np.float64],
    inverse: NDArray[np.float64],
    radius: int,
) -> None:
    """Add a Gaussian of any covariance at each position (row, col) [px]; ``inverse`` is that of its covariance."""
    height, width = scene.shape
    for n in range(len(positions)):
        row, col = positions[n]
        top, left = round(row) - radius, round(col) - radius
        for r in range(max(top, 0), min(top + 2 * radius + 1, height)):
            y = r - row
            for c in range(max(left, 0), min(left + 2 * radius + 1, width)):
                x = c - col
                form = inverse[0, 0] * y * y + 2 * inverse[0, 1] * x * y + inverse[1, 1] * x * x
                scene[r, c] += np.float32(weights[n] * math.exp(-0.5 * form))


class Scene:
    """What the beam would see around a frame, as the fraction of it that reaches the detector.

    Parameters
    ----------
    settings : SimulatorSettings
        Pixel size, probe, contamination, drift and jitter.
    specimen : Specimen
        Where the columns are.
    centre_nm : ndarray of shape (2,), float64
        Specimen coordinates (x, y) of the middle of the frame.

    Attributes
    ----------
    image : ndarray of shape (height, width), float32
        Finer than the frame by `oversampling`, larger by `margin_px` on each side.
    columns : ColumnTable
        Every column in it.
    sign : float
        What a column adds to the image, in its signal: 1 in dark field, below 0 in bright field.
    """

    def __init__(
        self, settings: SimulatorSettings, specimen: Specimen, centre_nm: NDArray[np.float64]
    ) -> None:
        self._specimen = specimen
        self._spot = Spot.of_probe(settings.probe_fwhm_nm, settings.source_sigma_nm)
        self._ellipse = _ellipse(settings) if settings.specimen == "elliptic" else None
        brightest = float(specimen.signal[: specimen.n_hosts].max())
        # what a column of the signal one adds: less than nothing in bright field
        self.sign, self._empty = 1.0, 0.0
        if settings.specimen == "dark":
            self.sign, self._empty = -BRIGHT_FIELD * settings.of_specimen / brightest, BRIGHT_FIELD
        self.oversampling = math.ceil(settings.pixel_size_nm / (COARSEST_PIXEL * self._spot.narrow_nm))
        drift_px = largest_step_nm(settings) / settings.pixel_size_nm
        self.margin_px = DRIFT_MARGIN_PX + math.ceil(2 * drift_px + 6 * settings.line_jitter_px)
        self._fine_nm = settings.pixel_size_nm / self.oversampling
        rows, cols = (self.oversampling * (n + 2 * self.margin_px) for n in settings.shape)
        if rows * cols > MAX_SCENE_PX:
            raise ConfigurationError(
                f"scene of {rows} x {cols} px for a frame of {settings.shape[0]} x {settings.shape[1]}; "
                "give fewer or smaller pixels"
            )
        # Specimen coordinates of the first pixel; frame row r is scene row oversampling * (margin + r).
        half = (np.array(settings.shape[::-1]) - 1) / 2 + self.margin_px
        self._centre_nm = np.asarray(centre_nm, float)
        self._corner_nm = self._centre_nm - half * settings.pixel_size_nm
        self._turned = None
        if settings.scan_rotation_deg:
            # Columns of this matrix are the scan's axes; a row vector times it is what the scan sees.
            self._turned = np.array([settings.turn(1.0, 0.0), settings.turn(0.0, 1.0)]).T
        reach = WIDE_CUTOFF * self._spot.wide_nm
        extent = np.array([cols, rows]) * self._fine_nm
        low, high = self._corner_nm - reach, self._corner_nm + extent + reach
        if self._turned is not None:
            half_nm = np.abs(self._turned) @ np.maximum(high - self._centre_nm, self._centre_nm - low)
            low, high = self._centre_nm - half_nm, self._centre_nm + half_nm
        self.columns: ColumnTable = specimen.columns(low, high)
        self.image = np.full((rows, cols), self._empty, np.float32)
        self._add(self.columns.xy_nm, specimen.signal[self.columns.species] * self.columns.height)
        if settings.specimen == "dirt":
            amount = dirt(settings, self._places()).astype(np.float32)
            self.image += amount * np.float32(DIRT_LEVEL * brightest) * self._contamination(settings.seed ^ 1)
        if settings.contamination:
            level = settings.contamination * specimen.crystal_mean() * self._spot.integral_nm2
            self.image += np.float32(self.sign * level) * self._contamination(settings.seed)

    def positions_px(self, which: slice = slice(None)) -> NDArray[np.float64]:
        """Row and column of the columns in a frame without drift since the scene was rendered [frame px]."""
        fine = (self._on_scan(self.columns.xy_nm[which])[:, ::-1] - self._corner_nm[::-1]) / self._fine_nm
        return fine / self.oversampling - self.margin_px

    def change(self, at: int, species: int) -> None:
        """Make column number ``at`` of the table another species, in the table and in the image."""
        signal = self._specimen.signal
        now = self.columns.species[at]
        more = (signal[species : species + 1] - signal[now]) * self.columns.height[at]
        self._add(self.columns.xy_nm[at : at + 1], more)
        self.columns.species[at] = species

    def remove(self, at: int) -> None:
        """Take column number ``at`` out of the table and the image."""
        species = self.columns.species[at : at + 1]
        less = -self._specimen.signal[species] * self.columns.height[at]
        self._add(self.columns.xy_nm[at : at + 1], less)
        self.columns = self.columns.without(at)

    def insert(self, column: int, species: int, sublattice: int) -> None:
        """Put a column that was not there into the table and the image."""
        xy, height = self._specimen.position_nm(column)[None], self._specimen.height(column)
        self._add(xy, self._specimen.signal[species : species + 1] * height)
        self.columns = self.columns.with_one(column, xy, species, sublattice, height)

    def _add(self, xy_nm: NDArray[np.float64], signal: NDArray[np.float64]) -> None:
        positions = np.ascontiguousarray((self._on_scan(xy_nm) - self._corner_nm)[:, ::-1] / self._fine_nm)
        for sigma, amplitude, cutoff in (
            (self._spot.narrow_nm, self._spot.narrow, NARROW_CUTOFF),
            (self._spot.wide_nm, self._spot.wide, WIDE_CUTOFF),
        ):
            weights, wide = self.sign * amplitude * signal, sigma / self._fine_nm
            if self._ellipse is None:
                add_spots(self.image, positions, weights, wide, math.ceil(cutoff * wide))
            else:
                longest = math.sqrt(np.linalg.eigvalsh(self._ellipse)[-1])
                inverse = np.asarray(np.linalg.inv(self._ellipse) / wide**2, np.float64)
                add_ellipses(self.image, positions, weights, inverse, math.ceil(cutoff * wide * longest))

    def _places(self) -> NDArray[np.float64]:
        """Where each pixel lies on the specimen, shape (height, width, 2) [nm]."""
        rows, cols = self.image.shape
        xy = np.empty((rows, cols, 2))
        xy[..., 0] = self._corner_nm[0] + np.arange(cols) * self._fine_nm
        xy[..., 1] = self._corner_nm[1] + np.arange(rows)[:, None] * self._fine_nm
        return xy if self._turned is None else (xy - self._centre_nm) @ self._turned.T + self._centre_nm

    def _on_scan(self, xy_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places on the specimen as a scan that is not turned would see them."""
        if self._turned is None:
            return xy_nm
        return (xy_nm - self._centre_nm) @ self._turned + self._centre_nm

    def _contamination(self, seed: int) -> NDArray[np.float32]:
        """Log-normal smooth noise of mean one, fixed to the specimen: a B-spline through hashed nodes."""
        first = np.floor(self._corner_nm / CONTAMINATION_SCALE_NM).astype(np.int64) - 1
        basis, nodes = [], []
        for axis, n in ((1, self.image.shape[0]), (0, self.image.shape[1])):
            along = (self._corner_nm[axis] + np.arange(n) * self._fine_nm) / CONTAMINATION_SCALE_NM - first[
                axis
            ]
            number = np.arange(int(along[-1]) + 3)
            basis.append(_cubic_b_spline(along[:, None] - number))
            nodes.append(number + first[axis])
        key = (nodes[0][:, None] << 32) ^ (nodes[1] & 0xFFFFFFFF)
        # The sum of twelve uniform numbers less six is normal enough for dirt.
        normal = sum(uniform_hash(12 * key + k, seed ^ 0xD1B7) for k in range(12)) - 6.0
        rows, cols = basis
        # The spline averages nodes: divided by the root of its summed squares the variance is one everywhere.
        spread = np.sqrt((rows**2).sum(1))[:, None] * np.sqrt((cols**2).sum(1))
        smooth = CONTAMINATION_CONTRAST * (rows @ normal @ cols.T) / spread
        return np.exp(smooth - CONTAMINATION_CONTRAST**2 / 2).astype(np.float32)


def _ellipse(settings: SimulatorSettings) -> NDArray[np.float64]:
    """Covariance (row, col) of an elliptic column, in that of a round one of the same area."""
    angle = np.random.default_rng([settings.seed, ELLIPSE_STREAM]).uniform(0, np.pi)
    axis = np.array([math.sin(angle), math.cos(angle)])
    ratio = settings.of_specimen
    return np.eye(2) / ratio + (ratio - 1 / ratio) * np.outer(axis, axis)


def _cubic_b_spline(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cubic B-spline: support -2 to 2, integral one."""
    x = np.abs(x)
    inner = 2 / 3 - x**2 + x**3 / 2
    outer = np.clip(2 - x, 0, None) ** 3 / 6
    return np.where(x < 1, inner, outer)
