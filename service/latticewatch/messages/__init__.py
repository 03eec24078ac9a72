"""What crosses a process boundary: frames in, events and states out, moves to the microscope.

One frozen model a message. What we write forbids extra fields; what we read keeps the fields of others.
"""

from latticewatch.messages._api import (
    Authenticate,
    ClassDetail,
    ClassPatch,
    ClassSummary,
    Counts,
    CountsByClass,
    CursorGone,
    EventPage,
    FrameCounts,
    FrameInfo,
    Health,
    LatencyMs,
    Status,
    Subscribe,
    Tracks,
    TrackState,
)
from latticewatch.messages._calibration import Calibration
from latticewatch.messages._control import ControlReply, ControlRequest, StageState
from latticewatch.messages._events import (
    EVENT_TYPES,
    ROLES,
    ClassEventData,
    DefectEventData,
    Event,
    EventType,
    FramesLostData,
    ModelEventData,
    Nanometres,
    Pixel,
    Role,
    StreamEventData,
)
from latticewatch.messages._frames import FrameHeader, SeriesEnd, SeriesStart, encode_frame, encode_json
from latticewatch.messages._history import (
    ClassCourse,
    Course,
    DistanceSummary,
    History,
    LifetimeSummary,
    Rate,
)
from latticewatch.messages._live import LiveHeader, LiveRequest, LiveSection, pack_live, unpack_live
from latticewatch.messages._model import ClassSpace, EmbeddingState, ModelState, SublatticeSpace
from latticewatch.messages._notes import Note
from latticewatch.messages._palette import colour_of

__all__ = [
    "EVENT_TYPES",
    "ROLES",
    "Authenticate",
    "Calibration",
    "ClassCourse",
    "ClassDetail",
    "ClassEventData",
    "ClassPatch",
    "ClassSpace",
    "ClassSummary",
    "ControlReply",
    "ControlRequest",
    "Counts",
    "CountsByClass",
    "Course",
    "CursorGone",
    "DefectEventData",
    "DistanceSummary",
    "EmbeddingState",
    "Event",
    "EventPage",
    "EventType",
    "FrameCounts",
    "FrameHeader",
    "FrameInfo",
    "FramesLostData",
    "Health",
    "History",
    "LatencyMs",
    "LifetimeSummary",
    "LiveHeader",
    "LiveRequest",
    "LiveSection",
    "ModelEventData",
    "ModelState",
    "Nanometres",
    "Note",
    "Pixel",
    "Rate",
    "Role",
    "SeriesEnd",
    "SeriesStart",
    "StageState",
    "Status",
    "StreamEventData",
    "SublatticeSpace",
    "Subscribe",
    "TrackState",
    "Tracks",
    "colour_of",
    "encode_frame",
    "encode_json",
    "pack_live",
    "unpack_live",
]
