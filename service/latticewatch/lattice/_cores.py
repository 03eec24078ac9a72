"""Dislocations: where the phase of the lattice turns once around, and where it is cut to be followed.

Around the core of a dislocation the geometric phase grows by a whole turn, so that no smooth phase covers the place: it
jumps along a line from the core to another, or to the edge. Sites on that line are predicted between two rows, and
columns around the core stand where elasticity, not the lattice, puts them.

Hÿtch, Putaux & Pénisson (2003), Measurement of the displacement field of dislocations to 0.03 Å by electron microscopy,
doi:10.1038/nature01638.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._phase import MIN_AMPLITUDE, MIN_COVER, PhaseField
from latticewatch.messages import Note

# Columns this near to a core, or to the line where the phase is cut, are not where the lattice says
# [lattice constants]: the windows of the phase are 1.5 wide.
CORE_CELLS = 3.5
CUT_CELLS = 1.0
# A core is in a crystal: the lattice is seen at half of the nodes so near [nodes].
AROUND_NODES = 4
MOST_NAMED = 5


class Cores(NamedTuple):
    """Dislocations of one frame.

    Attributes
    ----------
    position : ndarray of shape (n, 2), float64
        Row and column of each core, to about a lattice constant [px].
    mask : ndarray of shape (height, width), bool
        What is beside a core or a cut.
    """

    position: NDArray[np.float64]
    mask: NDArray[np.bool_]

    def note(self) -> Note:
        """What there is to say of them."""
        n = len(self.position)
        if not n:
            text = "The lattice does not fit together along a line: a fault, or a dislocation out of view."
        else:
            some = self.position[:MOST_NAMED]
            places = "; ".join(f"row {row:.0f}, column {col:.0f}" for row, col in some)
            more = "" if n <= MOST_NAMED else f", and {n - MOST_NAMED} more"
            text = f"{n} core{'s' if n > 1 else ''} of dislocations: {places}{more}."
        return Note(code="dislocation", text=f"{text} Columns beside are no point defects.")


def find_cores(field: PhaseField, shape: tuple[int, ...]) -> Cores | None:
    """Cores of dislocations in a lattice; None where its phase is smooth.

    Parameters
    ----------
    field : PhaseField
    shape : tuple of int
        Rows and columns of the frame.
    """
    down = np.abs(np.diff(field.phase, axis=0)).max(-1) > np.pi
    across = np.abs(np.diff(field.phase, axis=1)).max(-1) > np.pi
    if not down.any() and not across.any():
        return None
    seen = field.amplitude > MIN_AMPLITUDE
    size = 2 * AROUND_NODES + 1
    covered = np.asarray(field.amplitude > MIN_COVER, np.float64)
    crystal = np.asarray(ndimage.uniform_filter(covered, size)) > 0.5
    seen &= crystal
    cut = np.zeros(seen.shape, bool)
    cut[:-1] |= down & seen[:-1] & seen[1:]
    cut[1:] |= down & seen[:-1] & seen[1:]
    cut[:, :-1] |= across & seen[:, :-1] & seen[:, 1:]
    cut[:, 1:] |= across & seen[:, :-1] & seen[:, 1:]
    turns = _turns(field.phase) & crystal[:-1, :-1]
    labels = np.asarray(ndimage.label(ndimage.binary_dilation(turns))[0])  # type: ignore[index]
    found = np.arange(1, int(labels.max()) + 1)
    middle = np.array(ndimage.center_of_mass(turns, labels, found), np.float64).reshape(-1, 2) + 0.5
    position = field.origin + field.step * middle
    within = ((position >= 0) & (position <= np.array(shape) - 1)).all(1)
    position = position[within]
    if not len(position) and not cut.any():
        return None
    rows, cols = np.indices((shape[0], shape[1]), sparse=True)
    mask = np.zeros((shape[0], shape[1]), bool)
    constant = field.lattice_constant
    for row, col in position:
        mask |= (rows - row) ** 2 + (cols - col) ** 2 < (CORE_CELLS * constant) ** 2
    if cut.any():
        # nodes are less than a lattice constant apart
        near = np.asarray(ndimage.distance_transform_edt(~cut)) * field.step < CUT_CELLS * constant
        at = [
            np.clip(np.rint((np.arange(n) - field.origin) / field.step).astype(int), 0, m - 1)
            for n, m in zip(shape, cut.shape, strict=True)
        ]
        mask |= near[at[0]][:, at[1]]
    return Cores(position, mask)


def _turns(phase: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Squares of four nodes around which one of the phases grows by a whole turn."""
    out = np.zeros((phase.shape[0] - 1, phase.shape[1] - 1), bool)
    for d in range(2):
        corners = phase[:-1, :-1, d], phase[:-1, 1:, d], phase[1:, 1:, d], phase[1:, :-1, d]
        around = np.zeros(out.shape)
        for here, there in zip(corners, (*corners[1:], corners[0]), strict=True):
            step = there - here
            around += step - 2 * np.pi * np.rint(step / (2 * np.pi))
        out |= np.abs(around) > np.pi
    return out
