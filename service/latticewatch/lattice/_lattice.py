"""The lattice of a frame: where it is, what its unit cell looks like, and how wide its columns are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import NoLatticeError
from latticewatch.lattice._cell import UnitCell, unit_cell
from latticewatch.lattice._phase import PhaseField, follow_phase, phase_field
from latticewatch.lattice._profile import ColumnProfile, column_profile
from latticewatch.lattice._sites import nearest_neighbour_px
from latticewatch.lattice._spectrum import bragg_peaks, reciprocal_basis

# A lattice that changed by less than this from one frame to the next is the same one, drifted or distorted.
MAX_STRAIN = 0.06
# Where fewer unit cells than this are in view, their average says nothing.
MIN_CELLS = 25
# In a crystal all Bragg peaks keep to one phase field; in smooth noise they do not.
MIN_COHERENCE = 0.7
# A lattice that was followed is taken for what it seems where it is about as even over the frame as it was.
MIN_EVENNESS = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The lattice of one frame.

    Attributes
    ----------
    field : PhaseField
        Cell coordinates over the frame.
    cell : UnitCell
        Average unit cell and the columns in it.
    profile : ColumnProfile
        Shape and heights of the columns.
    nearest_neighbour_px : float
        Shortest distance between columns [px].
    """

    field: PhaseField
    cell: UnitCell
    profile: ColumnProfile
    nearest_neighbour_px: float

    @property
    def constant_px(self) -> float:
        """Mean length of the lattice vectors [px]."""
        return self.field.lattice_constant


def find_lattice(image: NDArray[np.float32]) -> Lattice:
    """Find the lattice of a frame from nothing.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Finite counts.

    Raises
    ------
    NoLatticeError
        The frame shows no lattice.
    """
    if min(image.shape) < 16 or np.ptp(image) <= 0:
        raise NoLatticeError("the image is constant or smaller than 16 px; no lattice found")
    basis = reciprocal_basis(bragg_peaks(image))
    if basis is None:
        raise NoLatticeError("the power spectrum shows no two Bragg peaks; no lattice found")
    return _measure(image, phase_field(image, basis))


def follow_lattice(image: NDArray[np.float32], known: Lattice) -> PhaseField:
    """Find a known lattice again in a later frame, drifted and a little distorted.

    The columns keep their cell coordinates: the phase of the lattice moves with the specimen.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    known : Lattice

    Raises
    ------
    NoLatticeError
        The frame shows no lattice, or another one.
    """
    if np.ptp(image) <= 0:
        raise NoLatticeError("the image is constant; no lattice found")
    field = follow_phase(image, known.field.basis)
    if field.coherence >= MIN_COHERENCE and field.evenness >= MIN_EVENNESS * known.field.evenness:
        return field
    found = reciprocal_basis(bragg_peaks(image))
    if found is None:
        raise NoLatticeError("the power spectrum shows no two Bragg peaks; no lattice found")
    order = np.rint(found @ np.linalg.inv(known.field.basis))
    if abs(round(float(np.linalg.det(order)))) != 1:
        raise NoLatticeError("the lattice is not the one that was learnt")
    basis = np.asarray(np.linalg.solve(order, found), np.float64)
    change = np.hypot(*(basis - known.field.basis).T) / np.hypot(*known.field.basis.T)
    if change.max() > MAX_STRAIN:
        raise NoLatticeError(f"the lattice changed by {change.max():.1%} from the one that was learnt")
    field = phase_field(image, basis)
    if field.coherence < MIN_COHERENCE:
        raise NoLatticeError("the Bragg peaks do not belong together; no lattice found")
    return field


def _measure(image: NDArray[np.float32], field: PhaseField) -> Lattice:
    if field.coherence < MIN_COHERENCE:
        raise NoLatticeError("the Bragg peaks do not belong together; no lattice found")
    cell = unit_cell(image, field)
    n_cells = image.size * abs(float(np.linalg.det(field.basis)))
    if n_cells < MIN_CELLS:
        raise NoLatticeError(f"only {n_cells:.0f} unit cells in view, {MIN_CELLS} needed; no lattice found")
    if not len(cell.columns):
        raise NoLatticeError("the average unit cell shows no column; no lattice found")
    spacing = nearest_neighbour_px(field, cell)
    return Lattice(field, cell, column_profile(cell, field, spacing), spacing)
