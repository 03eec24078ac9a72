"""The intensity profile of one atomic column, from the average unit cell: the probe, as the frame shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from latticewatch.lattice._cell import UnitCell
from latticewatch.lattice._phase import PhaseField

# Bounds of the two Gaussians, the narrow one in nearest-neighbour distances, the broad one in widths of the narrow.
NARROW = (0.08, 0.45)
BROAD = (1.3, 3.0)
# The broad Gaussian carries at most this share of the height: beyond, it would stand in for the background.
MAX_BROAD_SHARE = 0.5


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
    """

    narrow: float
    broad: float
    share: float
    height: NDArray[np.float64]
    base: float
    residual: float

    def at(self, squared_distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Profile of a column of height 1 at squared distances [px²]."""
        return _profile(squared_distance, self.narrow, self.broad, self.share)


def _profile(r2: NDArray[np.float64], narrow: float, broad: float, share: float) -> NDArray[np.float64]:
    return (1 - share) * np.exp(-0.5 * r2 / narrow**2) + share * np.exp(-0.5 * r2 / broad**2)


def column_profile(cell: UnitCell, field: PhaseField, nearest_neighbour_px: float) -> ColumnProfile:
    """Fit the profile of the columns to the average unit cell.

    Heights and base enter linearly and are solved for inside; only widths and share are searched (variable projection).

    Parameters
    ----------
    cell : UnitCell
    field : PhaseField
    nearest_neighbour_px : float
        Shortest distance between columns [px].
    """
    n1, n2 = cell.mean.shape
    nodes = np.stack(np.meshgrid(np.arange(n1) / n1, np.arange(n2) / n2, indexing="ij"), -1).reshape(-1, 2)
    stride = max(1, len(nodes) // 1500)
    nodes, target = nodes[::stride], cell.mean.ravel()[::stride]
    reach = (
        int(np.ceil(4 * NARROW[1] * BROAD[1] * nearest_neighbour_px / np.hypot(*field.vectors.T).min())) + 1
    )
    shifts = np.array([(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)], float)
    limit = (4 * NARROW[1] * BROAD[1] * nearest_neighbour_px) ** 2
    squared = []
    for column in cell.columns:
        offset = (nodes[:, None, :] - column - shifts[None]) @ field.vectors
        r2 = (offset**2).sum(2)
        squared.append(np.sort(r2, axis=1)[:, : max(int((r2 < limit).sum(1).max()), 1)])

    def solve(parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        narrow, ratio, share = np.exp(parameters[0]), np.exp(parameters[1]), parameters[2]
        design = np.stack(
            [_profile(r2, narrow, narrow * ratio, share).sum(1) for r2 in squared] + [np.ones(len(nodes))], 1
        )
        heights = np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], np.float64)
        return heights, design @ heights - target

    low = np.array([np.log(NARROW[0] * nearest_neighbour_px), np.log(BROAD[0]), 0.0])
    high = np.array([np.log(NARROW[1] * nearest_neighbour_px), np.log(BROAD[1]), MAX_BROAD_SHARE])
    start = np.array([np.log(0.2 * nearest_neighbour_px), np.log(2.0), 0.1])
    scale = float(np.ptp(target)) or 1.0
    fit = least_squares(
        lambda p: solve(p)[1] / scale, start, bounds=(low, high), max_nfev=60, x_scale=high - low
    )
    heights, residual = solve(fit.x)
    top = max(float(np.abs(heights[:-1]).max()), np.finfo(float).tiny)
    narrow = float(np.exp(fit.x[0]))
    return ColumnProfile(
        narrow=narrow,
        broad=float(narrow * np.exp(fit.x[1])),
        share=float(fit.x[2]),
        height=heights[:-1],
        base=float(heights[-1]),
        residual=float(np.sqrt((residual**2).mean()) / top),
    )
