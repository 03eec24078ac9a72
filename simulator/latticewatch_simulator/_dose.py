"""The dose map: how many electrons each part of the specimen has had."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FINEST_NM = 0.5
MOST_CELLS = 2048


class DoseMap:
    """Electrons per square angstrom, on a grid over all that the stage reaches.

    Parameters
    ----------
    reach_nm : float
        Half the side of the square around the origin that is kept.

    Attributes
    ----------
    cell_nm : float
        Side of a cell.
    total : float
        Electrons in all.
    """

    def __init__(self, reach_nm: float) -> None:
        n = min(MOST_CELLS, max(1, math.ceil(2 * reach_nm / FINEST_NM)))
        self.cell_nm = 2 * reach_nm / n
        self._reach = reach_nm
        self._dose = np.zeros((n, n))
        self.total = 0.0

    def add_field(
        self, centre_nm: tuple[float, float], size_nm: tuple[float, float], rotation_deg: float, dose: float
    ) -> None:
        """A frame's dose, in the cells whose middle its field covers.

        Parameters
        ----------
        centre_nm : tuple of float
            x, y.
        size_nm : tuple of float
            Height, width.
        rotation_deg : float
            Of the scan.
        dose : float
            Electrons per square angstrom.
        """
        part, inside = self._under(centre_nm, size_nm, rotation_deg)
        self._dose[part][inside] += dose
        self.total += dose * size_nm[0] * size_nm[1] * 100

    def add_spot(self, place_nm: tuple[float, float], electrons: float) -> None:
        """Electrons of the standing beam, spread over the cell that it stands in.

        Parameters
        ----------
        place_nm : tuple of float
            x, y.
        electrons : float
            How many.
        """
        self.total += electrons
        row, col = self._cell(place_nm)
        if 0 <= row < len(self._dose) and 0 <= col < len(self._dose):
            self._dose[row, col] += electrons / (10 * self.cell_nm) ** 2

    def highest(
        self, centre_nm: tuple[float, float], size_nm: tuple[float, float], rotation_deg: float
    ) -> float:
        """The highest dose of a cell in a field.

        Parameters
        ----------
        centre_nm : tuple of float
            x, y.
        size_nm : tuple of float
            Height, width.
        rotation_deg : float
            Of the scan.

        Returns
        -------
        float
            [electrons/Å²]
        """
        part, inside = self._under(centre_nm, size_nm, rotation_deg)
        return float(self._dose[part][inside].max(initial=0.0))

    def table(self, centre_nm: tuple[float, float], cells: int = 32) -> dict[str, Any]:
        """The part around a place, ready for JSON: cells from a corner on, rows along y.

        Parameters
        ----------
        centre_nm : tuple of float
            x, y.
        cells : int
            Most cells on a side.

        Returns
        -------
        dict of str
            ``cell_nm``, ``corner_nm`` (x, y), ``dose_e_per_a2`` and ``total_e``.
        """
        row, col = self._cell(centre_nm)
        top, left = max(0, row - cells // 2), max(0, col - cells // 2)
        part = self._dose[top : top + cells, left : left + cells]
        return {
            "cell_nm": self.cell_nm,
            "corner_nm": [left * self.cell_nm - self._reach, top * self.cell_nm - self._reach],
            "dose_e_per_a2": [[float(f"{value:.4g}") for value in line] for line in part.tolist()],
            "total_e": self.total,
        }

    def _cell(self, place_nm: tuple[float, float]) -> tuple[int, int]:
        x, y = place_nm
        return math.floor((y + self._reach) / self.cell_nm), math.floor((x + self._reach) / self.cell_nm)

    def _under(
        self, centre_nm: tuple[float, float], size_nm: tuple[float, float], rotation_deg: float
    ) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
        half = math.hypot(*size_nm) / 2
        x, y = centre_nm
        top, left = self._cell((x - half, y - half))
        bottom, right = self._cell((x + half, y + half))
        rows = slice(max(0, top), max(0, bottom + 1))
        cols = slice(max(0, left), max(0, right + 1))
        n_rows, n_cols = self._dose[rows, cols].shape
        dy = (np.arange(rows.start, rows.start + n_rows) + 0.5) * self.cell_nm - self._reach - y
        dx = (np.arange(cols.start, cols.start + n_cols) + 0.5) * self.cell_nm - self._reach - x
        cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
        along = cos * dx[None, :] + sin * dy[:, None]
        across = -sin * dx[None, :] + cos * dy[:, None]
        return (rows, cols), (np.abs(along) <= size_nm[1] / 2) & (np.abs(across) <= size_nm[0] / 2)
