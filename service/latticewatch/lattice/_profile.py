"""The intensity profile of one atomic column, from the average unit cell: the probe, as the frame shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from latticewatch.lattice._cell import MIN_PROMINENCE_SIGMA, SMOOTHING, UnitCell
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._sites import nearest_neighbour_px

# Bounds of the two Gaussians, the narrow one in nearest-neighbour distances, the broad one in widths of the narrow.
NARROW = (0.08, 0.45)
BROAD = (1.3, 3.0)
# The broad Gaussian carries at most this share of the height: beyond, it would stand in for the background.
MAX_BROAD_SHARE = 0.5
# A column that no maximum shows must stand out of the fit of the others by this share of the range of the cell, be this
# share of the highest column, and leave at most this share of the misfit: where a profile is only a little wrong, the
# places between the columns stand out too.
MIN_LEFT_OVER = 0.015
MIN_HEIGHT = 0.02
MAX_MISFIT_LEFT = 0.4
# Or of the largest difference from the fit this share at most: a wrong profile leaves as much beside the columns, too.
MAX_PEAK_LEFT = 0.35
# So many columns are tried together, none of them higher than this share of the highest: others show alone.
MAX_AT_ONCE = 3
FAINT = 0.1
MAX_COLUMNS = 16
# Two columns nearer than this many widths of their profile are one column, of a shape that the profile does not have
# (astigmatism, jitter of the scan): two Gaussians nearer than that have one maximum only.
MIN_WIDTHS_APART = 2.0
# Columns less long than this many times their width count as round.
MIN_AXIS_RATIO = 1.15
# What the broad Gaussian costs, in the range of the cell: where columns overlap, a tail and a higher background look
# almost the same, and the one without a tail is taken.
TAIL_PENALTY = 0.005
# Orders of the Fourier series of the cell that take part.
MAX_ORDER = 20
# Real cells are fitted within some ten evaluations; one that is not after so many has no such profile.
MAX_EVALUATIONS = 60


@dataclass(frozen=True, slots=True, eq=False)
class ColumnProfile:
    """Two concentric Gaussians, common to all columns, and a height for each column of the unit cell.

    Attributes
    ----------
    narrow, broad : float
        Standard deviations [px].
    share : float
        Part of the height that the broad Gaussian carries.
    height : ndarray of shape (n_columns,), float64
        Height of each column, in the units of the image that the cell was averaged from.
    base : float
        Intensity between the columns.
    residual : float
        Root mean square of cell less fit, relative to the highest column.
    misfit : float
        The same without what noise adds to it, relative to the range of the cell.
    """

    narrow: float
    broad: float
    share: float
    height: NDArray[np.float64]
    base: float
    residual: float
    misfit: float = 0.0

    def at(self, squared_distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Profile of a column of height 1.

        Parameters
        ----------
        squared_distance : ndarray, float64
            From its middle, of any shape [px²].

        Returns
        -------
        ndarray, float64
            Of the same shape.
        """
        return _profile(squared_distance, self.narrow, self.broad, self.share)


def _profile(r2: NDArray[np.float64], narrow: float, broad: float, share: float) -> NDArray[np.float64]:
    return (1 - share) * np.exp(-0.5 * r2 / narrow**2) + share * np.exp(-0.5 * r2 / broad**2)


def fit_columns(cell: UnitCell, field: PhaseField) -> tuple[UnitCell, ColumnProfile]:
    """Fit the profile of the columns to the average unit cell, and find those that show as a shoulder only.

    Under a soft probe a dim column beside a bright one has no maximum of its own. What the profile of the columns known
    leaves over in one place is one column more, if with it, all columns moved to where they fit best, the misfit of the
    cell falls to a fraction of what it was.

    Parameters
    ----------
    cell : UnitCell
    field : PhaseField

    Returns
    -------
    UnitCell
        The same cell, with all its columns, brightest first.
    ColumnProfile
    """
    fit = _CellFit(cell, field)
    columns, profile = fit.refine(cell.columns)
    while len(columns) < MAX_COLUMNS:
        more = _with_more(fit, columns, profile)
        if more is None:
            break
        columns, profile = more
    order = np.argsort(-profile.height)
    found = replace(cell, columns=columns[order] % 1.0, height=profile.height[order])
    return found, replace(profile, height=profile.height[order], misfit=fit.misfit(profile) / fit.range)


def _with_more(
    fit: _CellFit, columns: NDArray[np.float64], profile: ColumnProfile
) -> tuple[NDArray[np.float64], ColumnProfile] | None:
    """Columns and profile with one column more, or with as few as explain together what is left over; None without.

    Of several alike each alone leaves what the others are: the oxygen of a perovskite beside its cations.
    """
    known, before = len(columns), fit.misfit(profile)
    first = fit.extremes(columns, profile)
    more, refined = columns, profile
    while len(more) < min(known + MAX_AT_ONCE, MAX_COLUMNS):
        place = fit.left_over(more, refined)
        if place is None:
            return None
        more, refined = fit.refine(np.concatenate([more, place[None]]))
        if nearest_neighbour_px(fit.vectors, more) <= MIN_WIDTHS_APART * refined.narrow:
            return None
        height = refined.height / refined.height.max()
        explained = fit.misfit(refined) < MAX_MISFIT_LEFT * before
        faint = height[known:].max() < FAINT
        if faint:
            # where all else fits already, most of the misfit is noise
            explained |= fit.extremes(more, refined) < MAX_PEAK_LEFT * first
        if explained and height.min() >= MIN_HEIGHT and not fit.is_longer(columns, profile, refined):
            return more, refined
        if not faint:
            # columns of a wrong shape can be made of several
            return None
    return None


def fit_ellipse(cell: UnitCell, profile: ColumnProfile, field: PhaseField) -> tuple[float, float, float]:
    """How much longer than wide the columns of a cell are.

    Parameters
    ----------
    cell : UnitCell
    profile : ColumnProfile
        As fitted to it.
    field : PhaseField

    Returns
    -------
    ratio : float
        Long axis over short axis.
    angle_deg : float
        Of the long axis from the rows of the frame, counter-clockwise, 0 to 180.
    misfit : float
        As in `ColumnProfile`, of columns of that shape.
    """
    return _CellFit(cell, field).ellipse(cell.columns, profile)


class _CellFit:
    """Least squares of columns with one profile against an average unit cell, both as Fourier series.

    A column and all its images are one wave for each order, a Gaussian a Gaussian of the frequency. Heights and base
    enter linearly and are solved for inside; only widths, share and places are searched (variable projection).

    Notes
    -----
    Derivatives are those of Kaufman (1975), BIT 15, 49, doi:10.1007/BF01932995: how the heights follow a parameter is
    left out where it changes nothing of the gradient.
    """

    def __init__(self, cell: UnitCell, field: PhaseField) -> None:
        self.vectors, self._field_basis = field.vectors, field.basis
        self._shape = n1, n2 = cell.mean.shape
        first, second = (np.arange(-m, m + 1) for m in (min((n - 1) // 2, MAX_ORDER) for n in (n1, n2)))
        self._orders = first, second
        h, k = (x.ravel() for x in np.meshgrid(first, second, indexing="ij"))
        self._order = np.stack([h, k], 1)
        self._target = (np.fft.fft2(cell.mean) / cell.mean.size)[h, k]
        self._square = ((self._order @ field.basis) ** 2).sum(1)
        self._area = abs(float(np.linalg.det(field.vectors)))
        self._noise = float((cell.error**2).mean()) / cell.mean.size
        self.range = float(np.ptp(cell.mean)) or 1.0
        spacing = nearest_neighbour_px(self.vectors, cell.columns)
        self._low = np.array([np.log(NARROW[0] * spacing), np.log(BROAD[0]), 0.0])
        self._high = np.array([np.log(NARROW[1] * spacing), np.log(BROAD[1]), MAX_BROAD_SHARE])
        self._start = np.array([np.log(0.2 * spacing), np.log(2.0), 0.1])

    def search(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithms of narrow width and of the ratio of widths, and share, that fit best."""
        fit = least_squares(
            lambda p: self._misfit(p, columns),
            self._start,
            lambda p: self._slopes(p, columns, places=False),  # type: ignore[arg-type]
            bounds=(self._low, self._high),
            max_nfev=MAX_EVALUATIONS,
            x_scale=self._high - self._low,
        )
        return np.asarray(fit.x, np.float64)

    def refine(self, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], ColumnProfile]:
        """Columns moved, by the width of one at most, to where they and their profile fit best."""
        first = np.clip(self.search(columns), self._low + 1e-6, self._high - 1e-6)
        step = np.exp(first[0]) / np.hypot(*self.vectors.T).mean()
        low = np.concatenate([self._low, columns.ravel() - step])
        high = np.concatenate([self._high, columns.ravel() + step])
        fit = least_squares(
            lambda p: self._misfit(p[:3], p[3:].reshape(-1, 2)),
            np.concatenate([first, columns.ravel()]),
            lambda p: self._slopes(p[:3], p[3:].reshape(-1, 2)),  # type: ignore[arg-type]
            bounds=(low, high),
            max_nfev=MAX_EVALUATIONS,
            x_scale=high - low,
        )
        moved = fit.x[3:].reshape(-1, 2)
        return moved, self.profile(fit.x[:3], moved)

    def profile(self, parameters: NDArray[np.float64], columns: NDArray[np.float64]) -> ColumnProfile:
        """The profile with these parameters, heights and base solved for."""
        heights, residual = self._solve(parameters, columns)
        top = max(float(np.abs(heights[:-1]).max()), np.finfo(float).tiny)
        narrow = float(np.exp(parameters[0]))
        return ColumnProfile(
            narrow=narrow,
            broad=float(narrow * np.exp(parameters[1])),
            share=float(parameters[2]),
            height=heights[:-1],
            base=float(heights[-1]),
            residual=float(np.linalg.norm(residual)) / top,
        )

    def is_longer(self, columns: NDArray[np.float64], profile: ColumnProfile, refined: ColumnProfile) -> bool:
        """Whether columns that are longer than wide fit better than round ones and one more of them."""
        ratio, _, misfit = self.ellipse(columns, profile)
        return ratio > MIN_AXIS_RATIO and misfit * self.range < self.misfit(refined)

    def ellipse(self, columns: NDArray[np.float64], profile: ColumnProfile) -> tuple[float, float, float]:
        """Ratio of the axes of columns of one area, angle of the long one [degrees], and misfit over the range."""
        wave, round_square = self._order @ self._field_basis, self._square
        start = [np.log(profile.narrow), np.log(profile.broad / profile.narrow), profile.share, 0.0, 0.0]

        def misfit(p: NDArray[np.float64]) -> NDArray[np.float64]:
            self._square = ((wave @ _stretch(p[3], p[4])) * wave).sum(1)
            return self._misfit(p[:3], columns)

        low, high = np.append(self._low, [-1.0, -1.0]), np.append(self._high, [1.0, 1.0])
        first = np.clip(start, low + 1e-6, high - 1e-6)
        try:
            fit = least_squares(
                misfit, first, bounds=(low, high), max_nfev=MAX_EVALUATIONS, x_scale=high - low
            )
            misfit(fit.x)
            reached = self.misfit(self.profile(fit.x[:3], columns)) / self.range
        except (np.linalg.LinAlgError, ValueError):
            # columns that are nowhere to be told apart have no shape
            return 1.0, 0.0, self.misfit(profile) / self.range
        finally:
            self._square = round_square
        _, axes = np.linalg.eigh(_stretch(fit.x[3], fit.x[4]))
        row, col = axes[:, 1]
        return float(np.exp(np.hypot(*fit.x[3:]))), float(np.degrees(np.arctan2(-row, col)) % 180), reached

    def misfit(self, profile: ColumnProfile) -> float:
        """Root mean square of cell less fit, without what noise adds to it."""
        square = (profile.residual * profile.height.max()) ** 2
        noise = self._noise * len(self._order)
        return float(np.sqrt(max(square - noise, 0.05 * noise)))

    def left_over(self, columns: NDArray[np.float64], profile: ColumnProfile) -> NDArray[np.float64] | None:
        """Where the cell stands out of its fit the most, in cell coordinates; None where it does not."""
        left, noise = self._left(columns, profile)
        top = np.unravel_index(np.argmax(left), self._shape)
        if left[top] < max(MIN_PROMINENCE_SIGMA * noise, MIN_LEFT_OVER * self.range):
            return None
        return np.array(top) / self._shape

    def extremes(self, columns: NDArray[np.float64], profile: ColumnProfile) -> float:
        """By how much the cell differs from its fit at most, up or down."""
        return float(np.abs(self._left(columns, profile)[0]).max())

    def _left(
        self, columns: NDArray[np.float64], profile: ColumnProfile
    ) -> tuple[NDArray[np.float64], float]:
        """The cell less its fit, smoothed, and the noise of that."""
        waves = self._waves(columns, profile.narrow, profile.broad, profile.share)
        residual = self._target - np.append(profile.height, profile.base) @ waves
        sigma = max(SMOOTHING * min(self._shape), 0.7)
        filtered = np.exp(-2 * np.pi**2 * sigma**2 * ((self._order / self._shape) ** 2).sum(1))
        grid = np.zeros(self._shape, complex)
        grid[self._order[:, 0], self._order[:, 1]] = residual * filtered
        return np.fft.ifft2(grid).real * grid.size, float(np.sqrt(self._noise * (filtered**2).sum()))

    def _waves(
        self, columns: NDArray[np.float64], narrow: float, broad: float, share: float
    ) -> NDArray[np.complex128]:
        """Fourier series of columns of height 1 and, last, of a constant, shape (n_columns + 1, n_orders)."""
        shape = (1 - share) * _gaussian_wave(self._square, narrow) + share * _gaussian_wave(
            self._square, broad
        )
        waves = np.empty((len(columns) + 1, len(shape)), np.complex128)
        waves[:-1] = self._phases(columns) * (shape / self._area)
        waves[-1] = self._square == 0
        return waves

    def _phases(self, columns: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Fourier series of points, shape (n_columns, n_orders)."""
        first, second = (
            np.exp(-2j * np.pi * at[:, None] * order)
            for at, order in zip(columns.T, self._orders, strict=True)
        )
        return (first[:, :, None] * second[:, None, :]).reshape(len(columns), -1)

    def _misfit(self, parameters: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        residual = self._solve(parameters, columns)[1] / self.range
        return np.append(residual, TAIL_PENALTY * parameters[2])

    def _slopes(
        self, parameters: NDArray[np.float64], columns: NDArray[np.float64], *, places: bool = True
    ) -> NDArray[np.float64]:
        """Derivatives of the misfit by the parameters and, if wanted, by the place of each column, as one array."""
        narrow, ratio, share = np.exp(parameters[0]), np.exp(parameters[1]), parameters[2]
        phases, square = self._phases(columns), self._square
        sharp, soft = _gaussian_wave(square, narrow), _gaussian_wave(square, narrow * ratio)
        waves = np.concatenate([phases * (((1 - share) * sharp + share * soft) / self._area), [square == 0]])
        design, target = _side_by_side(waves), _side_by_side(self._target)
        gram = design @ design.T
        heights = np.linalg.solve(gram, design @ target)
        # of a Gaussian by the logarithm of its width
        by_sharp = sharp * (2 - 4 * np.pi**2 * narrow**2 * square)
        by_soft = soft * (2 - 4 * np.pi**2 * (narrow * ratio) ** 2 * square)
        by_shape = np.stack([(1 - share) * by_sharp + share * by_soft, share * by_soft, soft - sharp])
        slopes = by_shape * (heights[:-1] @ phases / self._area)
        if places:
            by_place = -2j * np.pi * self._order.T * (heights[:-1, None] * waves[:-1])[:, None]
            slopes = np.concatenate([slopes, by_place.reshape(-1, len(square))])
        out = _side_by_side(slopes)
        out -= np.linalg.solve(gram, design @ out.T).T @ design
        penalty = np.zeros(len(out))
        penalty[2] = TAIL_PENALTY
        return np.concatenate([out.T / self.range, penalty[None]])

    def _solve(
        self, parameters: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        narrow, ratio, share = np.exp(parameters[0]), np.exp(parameters[1]), parameters[2]
        waves = self._waves(columns, narrow, narrow * ratio, share)
        design, target = _side_by_side(waves), _side_by_side(self._target)
        heights = np.asarray(np.linalg.solve(design @ design.T, design @ target), np.float64)
        return heights, heights @ design - target


def _side_by_side(waves: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Real parts, and imaginary parts behind them."""
    return np.concatenate([waves.real, waves.imag], -1)


def _stretch(first: float, second: float) -> NDArray[np.float64]:
    """Matrix of determinant 1 whose quadratic form makes round columns elliptic: exp of the one without a trace."""
    size = np.hypot(first, second)
    traceless = np.array([[first, second], [second, -first]])
    return np.cosh(size) * np.eye(2) + (np.sinh(size) / size if size > 1e-9 else 1.0) * traceless


def _gaussian_wave(square: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Fourier transform of a Gaussian of height 1 at squared frequencies."""
    return np.asarray(2 * np.pi * sigma**2 * np.exp(-2 * np.pi**2 * sigma**2 * square), np.float64)
