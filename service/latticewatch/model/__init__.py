"""A learnt model: an immutable snapshot; the moments of a frame in, the class probabilities of its sites out."""

from latticewatch.model._catalogue import (
    PATCHES_AVERAGED,
    CatalogueEntry,
    arrow,
    average_patch,
    defect_name,
    displaced_name,
    host_name,
    letter,
    loose_name,
    named_change,
    neighbour_name,
    off_lattice_name,
    unique,
)
from latticewatch.model._displacement import DisplacementFilter, displacement_filter
from latticewatch.model._heights import expected_height
from latticewatch.model._kinds import displacements, kinds_of
from latticewatch.model._local import standardise
from latticewatch.model._matched import MatchedFilter
from latticewatch.model._mixture import MIN_SEPARATION, Mixture, rescaled
from latticewatch.model._model import DISPLACED, NONE, REGION, Columns, Model, Verdict, columns_of
from latticewatch.model._neighbours import (
    least_disturbed,
    neighbour_index,
    without_neighbours,
    without_unseen,
)
from latticewatch.model._numbers import renumbered
from latticewatch.model._oddities import Oddities, normal_score, squared_lengths
from latticewatch.model._parts import Part
from latticewatch.model._patches import Patches, gather_patches
from latticewatch.model._resampling import excess_blur, without_blur
from latticewatch.model._shifts import Effects, Readings, ShiftKinds, settle_shifts
from latticewatch.model._sources import explanations, fitted, light_error, settle_sources
from latticewatch.model._sublattice import SublatticeModel
from latticewatch.model._survey import Survey
from latticewatch.model._templates import SublatticeTemplates, sublattice_templates

__all__ = [
    "DISPLACED",
    "MIN_SEPARATION",
    "NONE",
    "PATCHES_AVERAGED",
    "REGION",
    "CatalogueEntry",
    "Columns",
    "DisplacementFilter",
    "Effects",
    "MatchedFilter",
    "Mixture",
    "Model",
    "Oddities",
    "Part",
    "Patches",
    "Readings",
    "ShiftKinds",
    "SublatticeModel",
    "SublatticeTemplates",
    "Survey",
    "Verdict",
    "arrow",
    "average_patch",
    "columns_of",
    "defect_name",
    "displaced_name",
    "displacement_filter",
    "displacements",
    "excess_blur",
    "expected_height",
    "explanations",
    "fitted",
    "gather_patches",
    "host_name",
    "kinds_of",
    "least_disturbed",
    "letter",
    "light_error",
    "loose_name",
    "named_change",
    "neighbour_index",
    "neighbour_name",
    "normal_score",
    "off_lattice_name",
    "renumbered",
    "rescaled",
    "settle_shifts",
    "settle_sources",
    "squared_lengths",
    "standardise",
    "sublattice_templates",
    "unique",
    "without_blur",
    "without_neighbours",
    "without_unseen",
]
