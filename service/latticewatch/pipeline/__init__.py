"""Frames in; sites with classes, tracks and events out.

``analyse(frame, model, settings)`` is a pure function, safe in any thread; ``Learner.fold(analysis)`` holds the only
state and is called in frame order.
"""

from latticewatch.model import CatalogueEntry
from latticewatch.pipeline._analyse import analyse
from latticewatch.pipeline._analysis import Analysis, Classified, Surveyed
from latticewatch.pipeline._learner import Learner
from latticewatch.pipeline._model_file import MAX_FILE_BYTES, SavedModel, read_model, write_model
from latticewatch.pipeline._notes import NoteBook, cannot_learn, said_in_all
from latticewatch.pipeline._picture import counts_and_picture, picture_of
from latticewatch.pipeline._plane import PlaneView
from latticewatch.pipeline._plausible import lattice_notes, lattices_like
from latticewatch.pipeline._results import ROLES, EventDraft, FrameResult, SiteTable
from latticewatch.pipeline._space import CentroidView, LiveSpace, SpaceView, SublatticeView
from latticewatch.pipeline._warm import last_kernel, warm, warm_for_learning

__all__ = [
    "MAX_FILE_BYTES",
    "ROLES",
    "Analysis",
    "CatalogueEntry",
    "CentroidView",
    "Classified",
    "EventDraft",
    "FrameResult",
    "Learner",
    "LiveSpace",
    "NoteBook",
    "PlaneView",
    "SavedModel",
    "SiteTable",
    "SpaceView",
    "SublatticeView",
    "Surveyed",
    "analyse",
    "cannot_learn",
    "counts_and_picture",
    "last_kernel",
    "lattice_notes",
    "lattices_like",
    "picture_of",
    "read_model",
    "said_in_all",
    "warm",
    "warm_for_learning",
    "write_model",
]
