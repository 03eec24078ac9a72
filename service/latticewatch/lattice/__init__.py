"""A frame in; its lattice, flattened image and sites out, vacant sites included."""

from latticewatch.lattice._background import Flattened, PixelNoise, flatten
from latticewatch.lattice._bilinear import bilinear_pair
from latticewatch.lattice._cell import UnitCell, unit_cell
from latticewatch.lattice._continued import continued, settled
from latticewatch.lattice._cores import Cores, find_cores
from latticewatch.lattice._demodulator import SMOOTHING_CELLS
from latticewatch.lattice._domains import are_shifted, boundary, domain_notes
from latticewatch.lattice._grains import grain_sites
from latticewatch.lattice._lattice import Lattice, find_lattice, follow_lattice
from latticewatch.lattice._lines import columns_in_view, steadied
from latticewatch.lattice._peaks import find_peaks
from latticewatch.lattice._phase import PhaseField, phase_field
from latticewatch.lattice._polarity import DARK_COLUMNS, inverted
from latticewatch.lattice._profile import ColumnProfile, fit_columns
from latticewatch.lattice._sites import Sites, predict_sites
from latticewatch.lattice._smooth import convolved, gaussian_window
from latticewatch.lattice._specimen import Specimen, mend, touched
from latticewatch.lattice._spectrum import BraggPeaks, bragg_peaks, reciprocal_basis
from latticewatch.lattice._thickness import Thickness, may_vary, measure_thickness
from latticewatch.lattice._together import SpectrumSum
from latticewatch.lattice._voids import columns_around, lit, void_places, void_sites

__all__ = [
    "DARK_COLUMNS",
    "SMOOTHING_CELLS",
    "BraggPeaks",
    "ColumnProfile",
    "Cores",
    "Flattened",
    "Lattice",
    "PhaseField",
    "PixelNoise",
    "Sites",
    "Specimen",
    "SpectrumSum",
    "Thickness",
    "UnitCell",
    "are_shifted",
    "bilinear_pair",
    "boundary",
    "bragg_peaks",
    "columns_around",
    "columns_in_view",
    "continued",
    "convolved",
    "domain_notes",
    "find_cores",
    "find_lattice",
    "find_peaks",
    "fit_columns",
    "flatten",
    "follow_lattice",
    "gaussian_window",
    "grain_sites",
    "inverted",
    "lit",
    "may_vary",
    "measure_thickness",
    "mend",
    "phase_field",
    "predict_sites",
    "reciprocal_basis",
    "settled",
    "steadied",
    "touched",
    "unit_cell",
    "void_places",
    "void_sites",
]
