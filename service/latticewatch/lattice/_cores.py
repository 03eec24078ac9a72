"""Dislocations: where the phase of the lattice turns once around.

Around the core of a dislocation the geometric phase grows by a whole turn, however wide the way around. Columns beside
the core stand where elasticity, not the lattice, puts them, and have other neighbours.

Hÿtch, Putaux & Pénisson (2003), Measurement of the displacement field of dislocations to 0.03 Å by electron microscopy,
doi:10.1038/nature01638.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._bilinear import TURN
from latticewatch.lattice._phase import MIN_COVER, PhaseField
from latticewatch.messages import Note

# Columns this near to a core are displaced, and lack neighbours [lattice constants].
CORE_CELLS = 3.5
# The way around a core that is looked at is so far from it, and lies in the lattice all along [nodes]. At the edge of a
# crystal, or in noise, phases turn too; there the way leads out of the lattice, or the turns cancel.
AROUND_NODES = 3
MOST_NAMED = 5


class Cores(NamedTuple):
    """Dislocations of one frame.

    Attributes
    ----------
    position : ndarray of shape (n, 2), float64
        Row and column of each core, to about a lattice constant [px].
    mask : ndarray of shape (height, width), bool
        What is beside a core.
    """

    position: NDArray[np.float64]
    mask: NDArray[np.bool_]

    def note(self) -> Note:
        """What there is to say of them.

        Returns
        -------
        Note
        """
        n = len(self.position)
        some = self.position[:MOST_NAMED]
        places = "; ".join(f"row {row:.0f}, column {col:.0f}" for row, col in some)
        more = "" if n <= MOST_NAMED else f", and {n - MOST_NAMED} more"
        text = f"{n} core{'s' if n > 1 else ''} of dislocations: {places}{more}."
        return Note(code="dislocation", text=f"{text} Displaced columns beside one are not point defects.")


def find_cores(field: PhaseField, shape: tuple[int, ...]) -> Cores | None:
    """Cores of dislocations in a lattice; None where there is none.

    Parameters
    ----------
    field : PhaseField
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    Cores or None
    """
    turns = _turns(field.phase)
    if not turns.any():
        return None
    first, last = (
        np.floor((np.array(edge) - field.origin) / field.step).astype(int)
        for edge in ((0.0, 0.0), (shape[0] - 1, shape[1] - 1))
    )
    kept = []
    for place in _places(turns):
        low, high = np.rint(place - AROUND_NODES).astype(int), np.rint(place + AROUND_NODES).astype(int)
        if (low < first).any() or (high > last + 1).any():
            continue
        around = np.ones(tuple(high - low + 1), bool)
        around[1:-1, 1:-1] = False
        where = slice(low[0], high[0] + 1), slice(low[1], high[1] + 1)
        whole = turns[low[0] : high[0], low[1] : high[1]].sum((0, 1)).any()
        if whole and field.amplitude[where][around].min() > MIN_COVER:
            kept.append(place)
    if not kept:
        return None
    position = field.origin + field.step * np.array(kept)
    rows, cols = np.indices((shape[0], shape[1]), sparse=True)
    mask = np.zeros((shape[0], shape[1]), bool)
    for row, col in position:
        mask |= (rows - row) ** 2 + (cols - col) ** 2 < (CORE_CELLS * field.lattice_constant) ** 2
    return Cores(position, mask)


def _turns(phase: NDArray[np.float64]) -> NDArray[np.intp]:
    """Whole turns by which both phases grow around each square of four nodes, shape (rows - 1, cols - 1, 2)."""
    corners = phase[:-1, :-1], phase[:-1, 1:], phase[1:, 1:], phase[1:, :-1]
    around = np.zeros(corners[0].shape)
    for here, there in zip(corners, (*corners[1:], corners[0]), strict=True):
        step = there - here
        around += step - TURN * np.rint(step / TURN)
    return np.rint(around / TURN).astype(np.intp)


def _places(turns: NDArray[np.intp]) -> list[NDArray[np.float64]]:
    """Middles of the squares that have turns, those that touch together [nodes]."""
    some = turns.any(-1)
    labels, n = ndimage.label(some, np.ones((3, 3)))  # type: ignore[misc]
    middles = ndimage.center_of_mass(some, labels, np.arange(1, n + 1))
    return [np.array(middle) + 0.5 for middle in middles]
