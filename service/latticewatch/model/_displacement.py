"""Where a column stands beside its place: the matched filters of the two derivatives of its profile.

They are made orthogonal to every change of height in reach, so a vacancy next door moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
        return shift_terms(shift, self.farthest_px) @ self.says[place]

    def height_of(self, shift: NDArray[np.float64], place: int = 0) -> NDArray[np.float64]:
        """Output of the filter of the height for the same, shape (n,) [sigma]."""
        return shift_terms(shift, self.farthest_px) @ self.height_says[place]

    def shift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement (row, column) [px] that the filter's output stands for.

        Parameters
        ----------
        z : ndarray of shape (n, 2), float64
            [sigma]
        """
        shift = self._bounded(z @ self.px_of_sigma)
        step = 1e-3 * self.farthest_px
        for _ in range(N_STEPS):
            said = self.of(shift)
            slope = np.stack([(self.of(shift + by) - said) / step for by in step * np.eye(2)], 1)
            # where the filter hardly says more for a longer way, the first order is a safe step
            turned = np.linalg.det(slope) * np.linalg.det(self.px_of_sigma) < LEAST_SLOPE
            slope[turned] = np.linalg.inv(self.px_of_sigma)
            shift = self._bounded(
                shift + np.linalg.solve(slope.transpose(0, 2, 1), (z - said)[..., None])[..., 0]
            )
        return shift

    def _bounded(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        length = np.hypot(*shift.T)[:, None]
        return shift * np.minimum(1.0, self.farthest_px / np.maximum(length, 1e-12))

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
    """
    heights = templates.columns @ whitening
    explained = np.linalg.qr(heights.T)[0] if len(heights) else np.zeros((whitening.shape[1], 0))
    # the terms of first order are the derivatives
    signal = templates.moved[0, :2] / templates.farthest_px @ whitening
    alone = signal - (signal @ explained) @ explained.T
    # a patch of few pixels may not tell a displacement from changes of height at all
    power, axes = np.linalg.eigh(alone @ alone.T)
    power = np.maximum(power, 1e-9 * max(float((signal**2).sum()), 1e-30))
    root = (axes / np.sqrt(power)) @ axes.T
    weights = whitening @ alone.T @ root
    return DisplacementFilter(
        weights, root, templates.moved @ weights, templates.moved @ height.weights, templates.farthest_px
    )
