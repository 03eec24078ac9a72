"""What each square nanometre of the specimen has had by our own acts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CELLS = 500_000
# Cells on a side of the largest field whose dose is kept by place; the gate refuses larger ones.
MOST_ON_A_SIDE = 256


@dataclass(frozen=True, slots=True)
class Dose:
    """Of one action.

    Attributes
    ----------
    x_nm, y_nm : float
        The middle of the field, or the place of the standing beam.
    side_nm : float
        Of the square field; 0 is the standing beam, whose electrons go to the square nanometre that it stands in.
    e_per_a2 : float
        Mean over the field, or over that square nanometre.
    """

    x_nm: float
    y_nm: float
    side_nm: float
    e_per_a2: float

    @property
    def per_cell(self) -> float:
        """What a square nanometre gets at the most [e/Å²]."""
        return self.e_per_a2

    @property
    def electrons(self) -> float:
        """In all."""
        return self.e_per_a2 * 100 * max(self.side_nm, 1.0) ** 2


class DoseBook:
    """Doses by square nanometre; bounded: it says when it is full, and never forgets.

    Attributes
    ----------
    electrons : float
        In all.
    full : bool
        No further places can be written down.
    """

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], float] = {}
        self.electrons = 0.0

    @property
    def full(self) -> bool:
        """Whether no further places can be written down."""
        return len(self._cells) > MAX_CELLS

    def add(self, dose: Dose) -> None:
        """Write down a dose.

        Parameters
        ----------
        dose : Dose
            About to be given.
        """
        self.electrons += dose.electrons
        for cell in _cells(dose):
            self._cells[cell] = self._cells.get(cell, 0.0) + dose.per_cell

    def highest(self, dose: Dose) -> float:
        """What any part of the same field has had.

        Parameters
        ----------
        dose : Dose
            Its field is looked up; its own electrons are not counted.

        Returns
        -------
        float
            [e/Å²]
        """
        return max((self._cells.get(cell, 0.0) for cell in _cells(dose)), default=0.0)


def _cells(dose: Dose) -> Iterator[tuple[int, int]]:
    # A turned field lies within the circle around its corners.
    half = min(dose.side_nm * math.sqrt(2) / 2, MOST_ON_A_SIDE / 2)
    for row in range(math.floor(dose.y_nm - half), math.floor(dose.y_nm + half) + 1):
        for col in range(math.floor(dose.x_nm - half), math.floor(dose.x_nm + half) + 1):
            yield row, col
