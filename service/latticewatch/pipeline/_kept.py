"""What of the pipeline outlives the process: the model and what follows it, and the tracks with their evidence."""

from __future__ import annotations

from latticewatch.discover import OddPool, OddTrack
from latticewatch.lattice._cell import UnitCell
from latticewatch.lattice._lattice import Lattice
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._profile import ColumnProfile
from latticewatch.messages import Note
from latticewatch.model import (
    CatalogueEntry,
    DisplacementFilter,
    MatchedFilter,
    Mixture,
    Model,
    Oddities,
    Part,
    ShiftKinds,
    SublatticeModel,
    SublatticeTemplates,
)
from latticewatch.pipeline._follow import ClassStatistics, Sums
from latticewatch.pipeline._pack import Packer
from latticewatch.track import Tracker
from latticewatch.track._evidence import Evidence
from latticewatch.track._map import TrackMap
from latticewatch.track._places import Places
from latticewatch.track._states import States
from latticewatch.track._transitions import Hysteresis

MODEL_CLASSES = (
    CatalogueEntry,
    ColumnProfile,
    DisplacementFilter,
    Lattice,
    MatchedFilter,
    Mixture,
    Model,
    Oddities,
    Part,
    PhaseField,
    ShiftKinds,
    SublatticeModel,
    SublatticeTemplates,
    UnitCell,
)
STATE_CLASSES = (
    Evidence,
    ClassStatistics,
    Hysteresis,
    OddPool,
    OddTrack,
    Places,
    States,
    Sums,
    TrackMap,
    Tracker,
)
# Made anew: notes are of a frame, room for more tracks is no knowledge, and a restart counts from where it finds
# the model.
LEFT_OUT = {
    ("Lattice", "notes"): tuple,
    ("TrackMap", "_room"): dict,
    ("ClassStatistics", "_since"): lambda: None,
}

# scikit-learn, which takes long to import, is not needed before a model has classes of odd patches.
LATER = {"NearestCentroid": "latticewatch.estimators"}
# A class that was renamed: what was kept under its old name is still read.
EARLIER = {"Follower": ClassStatistics}

state_packer = Packer((*MODEL_CLASSES, *STATE_CLASSES, Note), LEFT_OUT, LATER, EARLIER)
