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
from latticewatch.messages._control import ControlReply, ControlRequest, StageState
from latticewatch.messages._events import (
    EVENT_TYPES,
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
from latticewatch.messages._live import LiveHeader, LiveRequest, LiveSection, pack_live, unpack_live
from latticewatch.messages._palette import colour_of

__all__ = [
    "EVENT_TYPES",
    "Authenticate",
    "ClassDetail",
    "ClassEventData",
    "ClassPatch",
    "ClassSummary",
    "ControlReply",
    "ControlRequest",
    "Counts",
    "CountsByClass",
    "CursorGone",
    "DefectEventData",
    "Event",
    "EventPage",
    "EventType",
    "FrameCounts",
    "FrameHeader",
    "FrameInfo",
    "FramesLostData",
    "Health",
    "LatencyMs",
    "LiveHeader",
    "LiveRequest",
    "LiveSection",
    "ModelEventData",
    "Nanometres",
    "Pixel",
    "Role",
    "SeriesEnd",
    "SeriesStart",
    "StageState",
    "Status",
    "StreamEventData",
    "Subscribe",
    "TrackState",
    "Tracks",
    "colour_of",
    "encode_frame",
    "encode_json",
    "pack_live",
    "unpack_live",
]
