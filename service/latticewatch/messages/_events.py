"""Events: transitions of defects, classes, model and stream, in an envelope shaped like a CloudEvent."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from latticewatch.messages._base import Written, known

Role = Literal["host", "defect", "neighbour", "unknown"]
ROLES: tuple[Role, ...] = get_args(Role)
ReadRole = Annotated[Role, known]
"""A role as a client reads it: a word that a newer service uses passes."""

DefectKind = Literal["vacancy", "lower", "higher", "displaced", "added", "odd"]
ReadKind = Annotated[DefectKind, known]
"""What a defect differs in from its host, as a client reads it."""

EventType = Literal[
    "defect.appeared",
    "defect.reclassified",
    "defect.moved",
    "defect.disappeared",
    "class.discovered",
    "class.merged",
    "class.renamed",
    "class.split",
    "model.updated",
    "frames.lost",
    "frames.found",
    "series.started",
    "series.ended",
    "stream.stalled",
    "stream.resumed",
    "stream.paused",
    "log.gap",
    "target.leased",
    "target.annotated",
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)


class Pixel(Written):
    """A position on the pixel grid; the centre of the first pixel is 0, 0."""

    row: float
    col: float


class Nanometres(Written):
    """A position or a displacement in nanometres, x along columns and y along rows."""

    x: float
    y: float


class Displacement(Nanometres):
    """How far a column stands beside its place on the lattice."""

    sigma: float = Field(ge=0, description="Standard error along either axis [nm].")


class EventData(Written):
    """What every event says beside its series: the source and the detector that it belongs to, where there is one."""

    address: str | None = Field(default=None, description="Source that its frames come from.")
    detector: str | None = Field(default=None, description="Detector that made them, where they say so.")


class DuringSeries(EventData):
    """Data of an event that is not about a series, and may happen while one is open."""

    series_id: str | None = Field(default=None, description="The series that was open.")


class DefectEventData(EventData):
    """Where a defect is, what it is, and how sure we are."""

    series_id: str
    frame: int
    t_acquired: float | None = Field(default=None, description="Seconds since 1970 UTC, from the header.")
    t_received: float
    t_emitted: float | None = Field(
        default=None, description="When it was written to the log; absent where no log was kept, as of files."
    )
    model_version: int
    track: int
    epoch: int | None = Field(
        default=None,
        ge=1,
        description="Grows when tracks begin anew: with a new series, another lattice, a loaded model, or when learning"
        " anew. A track of an epoch before does not come back. A defect is named by stream, epoch and track.",
    )
    class_id: int
    class_name: str
    role: ReadRole
    kind: ReadKind | None = Field(
        default=None,
        description="What the class differs in from its host: the height of the column (`vacancy`, `lower`, `higher`), "
        "its place (`displaced`), being where no column belongs (`added`), or something else (`odd`); renamed or not.",
    )
    confidence: float = Field(ge=0, le=1)
    alternatives: dict[str, float] = Field(default_factory=dict)
    previous_class_id: int | None = None
    previous_class_name: str | None = None
    px: Pixel
    sigma_px: float = Field(description="Standard deviation of the position [px].")
    nm: Nanometres | None = Field(
        default=None, description="Position in the frame; absent without a pixel size."
    )
    stage_nm: Nanometres | None = Field(
        default=None,
        description="Where the stage has to go to bring it to the centre, as of this frame: rotation and flips of the "
        "scan are in it, and so is the drift so far. Needs the stage position.",
    )
    stage_sigma_nm: float | None = Field(
        default=None, description="Standard deviation of that position [nm]."
    )
    drift_nm: Nanometres | None = Field(
        default=None,
        description="Drift since the first frame of the series, along the axes of `nm`; moves of the stage are not "
        "in it.",
    )
    displacement_nm: Displacement | None = Field(
        default=None,
        description="How far a displaced column was found from its place in this frame, along the axes of `nm`. "
        "Needs a pixel size.",
    )
    edge_distance_nm: float | None = None
    scalars: dict[str, float | str] = Field(
        default_factory=dict,
        description="What else was measured or set while the frame was taken, from its header.",
    )
    latency_frames: int | None = Field(
        default=None, ge=0, description="Frames between the first one that spoke for the change and this one."
    )


class ClassEventData(DuringSeries):
    """A class was discovered, merged, renamed, or split off another."""

    model_version: int
    class_id: int
    class_name: str
    role: ReadRole
    previous_name: str | None = None
    merged: tuple[int, ...] = Field(default=(), description="Classes that this one took in.")
    split_from: int | None = Field(default=None, description="Class that this one was a part of.")
    count: int | None = None


class ModelEventData(DuringSeries):
    """A new version of the model is in force."""

    model_version: int
    frame: int | None = None
    n_classes: int
    reason: str


class FramesLostData(EventData):
    """Frames that the sender numbered but that did not arrive; or, with ``frames.found``, that did after all."""

    series_id: str
    first_frame: int
    last_frame: int
    n: int


class StreamEventData(EventData):
    """A series started or ended, or the stream stalled or resumed."""

    series_id: str
    frame: int | None = None
    frames: int | None = None
    reason: str | None = None
    last_frame_age_s: float | None = None


class LogGapData(DuringSeries):
    """Events could not be stored for so long that some were dropped; read the states anew, then go on from here."""

    n: int = Field(ge=1, description="Events that are missing.")
    seconds: float = Field(description="For how long nothing could be stored [s].")
    reason: str | None = Field(default=None, description="Why the log could not be written.")


class Event(Written):
    """The envelope. ``data`` is the model that belongs to ``type``, as a dictionary."""

    specversion: str = Field(default="1.0", max_length=16)
    type: Annotated[EventType, known]
    source: str
    id: str = Field(description="``stream:seq``")
    stream: str
    seq: int = Field(ge=1)
    time: str = Field(description="RFC 3339, UTC")
    data: dict[str, Any]
