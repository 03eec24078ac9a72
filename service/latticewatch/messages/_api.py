"""States that the HTTP interface gives, and the bodies that it takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from latticewatch.messages._base import Asked, Read, Written, known
from latticewatch.messages._events import Displacement, Event, Nanometres, Pixel, ReadKind, ReadRole, Role
from latticewatch.messages._notes import Note, OddRegion
from latticewatch.messages._palette import Shape

Phase = Literal["starting", "waiting", "refusing", "learning", "live", "stalled"]


class SourceCounts(Written):
    """Every frame is in exactly one place: received = analysed + sum(dropped) + in_flight."""

    received: int = 0
    analysed: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    in_flight: int = 0
    lost_upstream: int = Field(default=0, description="Numbered by the sender, never received.")
    rejected: dict[str, int] = Field(
        default_factory=dict, description="Messages that could not be read; not counted as lost."
    )


class FrameCounts(SourceCounts):
    """The same of all sources together, and of each."""

    pixels_lost: int = Field(
        default=0,
        description="Places of a scan whose diffraction frame did not arrive; only with a virtual detector.",
    )
    by_source: dict[str, SourceCounts] = Field(
        default_factory=dict, description="The account of each source; only where there are several."
    )
    ignored: dict[str, int] = Field(
        default_factory=dict,
        description="Fields of headers that could not be read and were left out, by name.",
    )


class LatencyMs(Written):
    """From a frame received to its events readable."""

    p50: float | None = None
    p99: float | None = None


class RecordingStatus(Written):
    """What is recorded on the service's disk."""

    directory: str
    recorded: int = Field(default=0, description="Frames written since the service started.")
    skipped: dict[str, int] = Field(
        default_factory=dict, description="Analysed frames that were not recorded, by reason."
    )
    bytes: int = Field(default=0, description="Size of all parts, those of earlier runs included, about.")
    trouble: str | None = Field(default=None, description="Why nothing is recorded just now.")


class Status(Written):
    """State of the stream."""

    version: str
    stream: str
    source: str
    sources: tuple[str, ...] = Field(default=(), description="Where frames come from.")
    series_id: str | None
    phase: Annotated[Phase, known]
    detail: str | None = Field(
        default=None, description="What is being done in this phase, if that is known."
    )
    degraded: str | None = Field(
        default=None, description="What keeps the service from doing its work; absent where all is well."
    )
    learning: tuple[int, int] = Field(default=(0, 0), description="Frames gathered and needed for learning.")
    lattice_found: bool | None = None
    frames: FrameCounts
    fps: float | None
    latency_ms: LatencyMs
    last_frame: int | None = None
    last_frame_age_s: float | None
    model_version: int
    epoch: int | None = Field(default=None, description="Of the tracks; grows when they begin anew.")
    n_sites: int | None = None
    pixel_size_nm: float | None = None
    lattice_constant_nm: float | None = None
    lattice_constant_px: float | None = None
    first_seq: int = 1
    last_seq: int = 0
    notes: tuple[Note, ...] = Field(
        default=(), description="What may be wrong with the newest frame or with how it was understood."
    )
    odd_regions: tuple[OddRegion, ...] = Field(
        default=(), description="Places of the newest frame in which most sites are odd, the largest first."
    )
    recording: RecordingStatus | None = Field(
        default=None, description="Of a service that records; absent where it does not."
    )


class CountsByClass(Written):
    """Sites of one class in the newest frame."""

    class_id: int
    name: str
    role: ReadRole
    n: int


class Counts(Written):
    """Sites in the newest frame, by role and by class."""

    as_of_seq: int
    series_id: str | None
    frame: int | None
    by_role: dict[ReadRole, int]
    by_class: list[CountsByClass]


class ClassSummary(Written):
    """A class of the catalogue."""

    class_id: int
    name: str
    role: ReadRole
    kind: ReadKind | None = Field(
        default=None, description="What the class differs in from its host; only of defects."
    )
    sublattice: int
    host_class: int | None = Field(
        default=None,
        description="The host class of the same sublattice; of what stands between the columns, that of the grain.",
    )
    count: int = Field(description="Sites of this class in the newest frame.")
    total: int = Field(description="Sites seen in this class since the model was learnt.")
    prior: float
    separation: float | None = Field(
        default=None, description="Distance d' of the centroid from its host [sigma]."
    )
    colour: str = Field(
        pattern=r"^#[0-9a-f]{6}$",
        description="By what the class is, never by its id; the same after relearning.",
    )
    shape: Shape = Field(default="circle", description="The second sign beside the colour.")
    template: str | None = Field(
        default=None, description="Simulated class that it looks like; absent where none matches."
    )
    score: float | None = Field(
        default=None,
        description="How well the nearest simulated class matches, 0 to 1; absent if not compared.",
    )
    runner_up: tuple[str, float] | None = Field(
        default=None, description="Next best simulated class and its score; the nearest where none matches."
    )


class ClassDetail(ClassSummary):
    """A class with its average patch, and the simulated one that comes nearest."""

    patch_px: int
    pixel_size_nm: float | None
    average: list[list[float]] = Field(description="Average patch, host columns near 1.")
    template_patch: list[list[float]] | None = Field(
        default=None, description="Simulated patch of the nearest class, on the same scale."
    )
    difference: list[list[float]] | None = Field(
        default=None, description="Average patch less the simulated one."
    )


class ClassPatch(Asked):
    """Body of ``PATCH /v1/classes/{id}``: rename, set the role, or take in other classes."""

    name: str | None = Field(default=None, min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")
    role: Role | None = None
    merge: list[int] | None = Field(default=None, max_length=64)


class ClassSplit(Asked):
    """Body of ``POST /v1/classes/{id}/split``: which of its sites become a class of their own."""

    layout: int = Field(description="Number of the layout of the plane that the line is drawn in.")
    line: list[tuple[FiniteFloat, FiniteFloat]] = Field(
        min_length=3,
        max_length=1000,
        description="Corners of a closed line round them, x and y in the plane.",
    )
    name: str | None = Field(default=None, min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")


class EventPage(Written):
    """Reply of ``GET /v1/events``."""

    stream: str
    events: list[Event]
    next: int = Field(description="Cursor for the next call: the last sequence number looked at.")
    first_seq: int
    last_seq: int
    server_time: str
    last_frame_age_s: float | None


class AccessInfo(Written):
    """Reply of ``GET /v1/access``: what the key of this request may do."""

    scopes: list[Literal["read", "control"]]


class Authenticate(Read):
    """First message on a websocket of a service that has keys, if the second one is not to carry the key."""

    type: Literal["auth"]
    key: str = Field(max_length=512, repr=False)


class Subscribe(Read):
    """Opens ``WS /v1/events/ws``; each `Event` comes back, and an empty `EventPage` as the heartbeat."""

    type: Literal["subscribe"] = "subscribe"
    after: int | Literal["now"] | None = Field(
        default=None, description="Cursor; without one, from the oldest event."
    )
    stream: str | None = Field(default=None, max_length=64, description="Log that the cursor belongs to.")
    types: list[str] | None = Field(default=None, max_length=64, description="As in ``GET /v1/events``.")
    key: str | None = Field(
        default=None, max_length=512, repr=False, description="Where the service has keys."
    )


class CursorGone(Written):
    """Body of a 410."""

    detail: str
    stream: str
    first_seq: int
    last_seq: int


class TrackState(Written):
    """A site that is followed over frames, as it is by the newest one."""

    track: int = Field(description="-1 for a site that is not followed (yet).")
    class_id: int
    class_name: str
    role: ReadRole
    confidence: float
    px: Pixel
    nm: Nanometres | None = Field(
        default=None, description="Position in the frame; absent without a pixel size."
    )
    stage_nm: Nanometres | None = Field(
        default=None, description="Where the stage has to go to bring it to the centre, as of this frame."
    )
    sigma_nm: float | None = Field(default=None, description="Standard deviation of the position [nm].")
    kind: ReadKind | None = Field(
        default=None, description="What the class differs in from its host; only of defects."
    )
    displacement_nm: Displacement | None = Field(
        default=None,
        description="How far a displaced column was found from its place in this frame, along the axes of `nm`.",
    )
    edge_distance_nm: float | None = None
    in_view: bool = Field(
        default=True,
        description="Whether the newest frame shows it; else it is where drift and moves have brought it since.",
    )


class Tracks(Written):
    """Reply of ``GET /v1/tracks``: most confident first."""

    stream: str | None = Field(default=None, description="Log to which ``as_of_seq`` belongs.")
    as_of_seq: int
    series_id: str | None
    frame: int | None
    n: int = Field(description="Sites that match, whether or not they fit into the limit.")
    epoch: int | None = Field(
        default=None,
        description="Of all these tracks; grows when tracks begin anew, as in the events of defects.",
    )
    tracks: list[TrackState]


class FrameInfo(Written):
    """Reply of ``GET /v1/frames/latest``."""

    as_of_seq: int
    series_id: str
    frame: int
    shape: tuple[int, int]
    t_received: float
    t_acquired: float | None
    pixel_size_nm: float | None
    stage_nm: Nanometres | None = Field(
        default=None, description="Position of the centre of the frame on the specimen."
    )
    drift_px: Pixel
    stage_drift_nm: Nanometres | None = Field(
        default=None,
        description="How far the specimen has moved without the stage, along the stage's axes: `stage_nm` of a "
        "thing less its place on the specimen.",
    )
    lattice_found: bool
    lattice_constant_px: float | None
    n_sites: int
    model_version: int
    timings_ms: dict[str, float]
    notes: tuple[Note, ...] = ()


class Health(Written):
    """Alive, and what is running."""

    status: Annotated[Literal["ok", "degraded"], known]
    detail: str | None = None


class Microscope(Written):
    """One of several microscopes that a service watches; reply of ``GET /v1/microscopes``."""

    name: str
    path: str = Field(description="Below it is the whole interface for this microscope, its page included.")
    status: Status
