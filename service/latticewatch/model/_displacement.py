"""Where a column stands beside its place: the matched filters of the two derivatives of its profile.

They are made orthogonal to every change of height in reach, so a vacancy next door moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.model._matched import MatchedFilter
from latticewatch.model._templates import SublatticeTemplates, shift_terms

N_STEPS = 10
# Least slope of the filter at a displacement, beside that in place, for a step of Newton's method.
LEAST_SLOPE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class DisplacementFilter:
    """How far the central column of a patch is from its place.

    Attributes
    ----------
    weights : ndarray of shape (n_moments, 2), float64
        ``(moments - mean) @ weights`` is the displacement along two axes in standard deviations of the host.
    px_of_sigma : ndarray of shape (2, 2), float64
        ``z @ px_of_sigma`` is the displacement (row, column) [px] to first order.
    says : ndarray of shape (k + 1, n_terms, 2), float64
        What this filter says [sigma] of a displacement of its own column, and of each neighbour: factors of
        `shift_terms`.
    height_says : ndarray of shape (k + 1, n_terms), float64
        What the filter of the height says of it [sigma].
    farthest_px : float
        Up to where both hold.
    """

    weights: NDArray[np.float64]
    px_of_sigma: NDArray[np.float64]
    says: NDArray[np.float64]
    height_says: NDArray[np.float64]
    farthest_px: float

    def of(self, shift: NDArray[np.float64], place: int = 0) -> NDArray[np.float64]:
        """Output of this filter for displacements (row, column) [px] of its own column, or of a neighbour.

        Parameters
        ----------
        shift : ndarray of shape (n, 2), float64
        place : int, optional
            0 for its own column, q + 1 for neighbour q.

        Returns
        -------
        ndarray of shape (n, 2), float64
            [sigma]
        """
        return shift_terms(shift, self.farthest_px, len(self.says[place])) @ self.says[place]

    def height_of(self, shift: NDArray[np.float64], place: int = 0) -> NDArray[np.float64]:
        """Output of the filter of the height for the same, shape (n,) [sigma].

        Parameters
        ----------
        shift : ndarray of shape (n, 2), float64
            Row, column [px].
        place : int, optional
            0 for its own column, q + 1 for neighbour q.

        Returns
        -------
        ndarray of shape (n,), float64
            [sigma]
        """
        return shift_terms(shift, self.farthest_px, len(self.height_says[place])) @ self.height_says[place]

    def shift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement that the filter's output stands for.

        Parameters
        ----------
        z : ndarray of shape (n, 2), float64
            [sigma]

        Returns
        -------
        ndarray of shape (n, 2), float64
            Along rows and columns [px].
        """
        z = np.ascontiguousarray(z, np.float64)
        return shift_of(z, self.px_of_sigma, self.says[0], self.farthest_px)

    @property
    def sigma_px(self) -> float:
        """Standard error of a displacement along either axis [px]."""
        return float(np.sqrt((self.px_of_sigma**2).sum() / 2))


def displacement_filter(
    templates: SublatticeTemplates, whitening: NDArray[np.float64], height: MatchedFilter
) -> DisplacementFilter:
    """The filter of the displacement, from what a column and its neighbours do to a patch when they move.

    Parameters
    ----------
    templates : SublatticeTemplates
    whitening : ndarray of shape (n_moments, rank), float64
        Host patches, multiplied by it, have unit covariance.
    height : MatchedFilter

    Returns
    -------
    DisplacementFilter
    """
    heights = templates.columns @ whitening
    explained = np.linalg.qr(heights.T)[0] if len(heights) else np.zeros((whitening.shape[1], 0))
    # the terms of first order are the derivatives
    one = templates.away_px if templates.void else templates.farthest_px
    signal = templates.moved[0, :2] / one @ whitening
    alone = signal - (signal @ explained) @ explained.T
    # a patch of few pixels may not tell a displacement from changes of height at all
    power, axes = np.linalg.eigh(alone @ alone.T)
    power = np.maximum(power, 1e-9 * max(float((signal**2).sum()), 1e-30))
    root = (axes / np.sqrt(power)) @ axes.T
    weights = whitening @ alone.T @ root
    return DisplacementFilter(
        weights, root, templates.moved @ weights, templates.moved @ height.weights, templates.farthest_px
    )


@njit(cache=True, nogil=True)
def shift_of(z, px_of_sigma, says, farthest):  # pragma: no cover - compiled
    """Displacement that the output of a filter stands for, by Newton's method within a circle.

    z (n, 2) [sigma]; px_of_sigma (2, 2) and says (n_terms, 2) of one filter; farthest [px]. Returns (n, 2) [px].
    """
    out = np.empty((len(z), 2))
    whole = px_of_sigma[0, 0] * px_of_sigma[1, 1] - px_of_sigma[0, 1] * px_of_sigma[1, 0]
    value, slope = np.empty(2), np.empty((2, 2))
    for m in range(len(z)):
        a = z[m, 0] * px_of_sigma[0, 0] + z[m, 1] * px_of_sigma[1, 0]
        b = z[m, 0] * px_of_sigma[0, 1] + z[m, 1] * px_of_sigma[1, 1]
        for _ in range(N_STEPS + 1):
            length = np.sqrt(a * a + b * b)
            if length > farthest:
                a, b = a * farthest / length, b * farthest / length
            _said(a / farthest, b / farthest, says, value, slope)
            left, right = z[m, 0] - value[0], z[m, 1] - value[1]
            # slope[i, k]: what axis k says more for a step along i, in units of the farthest
            turned = (slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0]) / farthest**2
            if turned * whole < LEAST_SLOPE:
                # where the filter hardly says more for a longer way, the first order is a safe step
                da = left * px_of_sigma[0, 0] + right * px_of_sigma[1, 0]
                db = left * px_of_sigma[0, 1] + right * px_of_sigma[1, 1]
            else:
                da = (left * slope[1, 1] - right * slope[1, 0]) / (turned * farthest)
                db = (right * slope[0, 0] - left * slope[0, 1]) / (turned * farthest)
            a, b = a + da, b + db
            if da * da + db * db < (1e-6 * farthest) ** 2:
                break
        length = np.sqrt(a * a + b * b)
        if length > farthest:
            a, b = a * farthest / length, b * farthest / length
        out[m, 0], out[m, 1] = a, b
    return out


@njit(cache=True, nogil=True)
def _said(a, b, says, value, slope):  # pragma: no cover - compiled
    """Value and slope of the polynomial of `shift_terms` at (a, b)."""
    value[:] = 0.0
    slope[:] = 0.0
    k = n = 0
    while k < len(says):
        n += 1
        for i in range(n, -1, -1):
            term = a**i * b ** (n - i)
            by_a = i * a ** (i - 1) * b ** (n - i) if i > 0 else 0.0
            by_b = (n - i) * a**i * b ** (n - i - 1) if n > i else 0.0
            for axis in range(2):
                value[axis] += term * says[k, axis]
                slope[0, axis] += by_a * says[k, axis]
                slope[1, axis] += by_b * says[k, axis]
            k += 1
