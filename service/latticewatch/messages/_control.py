"""The control of a microscope, as JSON over a ZeroMQ socket: what is asked, what it answers, what it may and does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from latticewatch.messages._base import Asked, Written, known

ControlAction = Literal[
    "get_stage",
    "move_stage",
    "shift_image",
    "set_scan",
    "acquire",
    "expose",
    "blank",
    "stop",
    "release",
    "limits",
    "state",
    "capabilities",
    "status",
    "get_truth",
    "dose_map",
    "fail",
]
ControlFault = Literal["refused", "timeout"]
Failure = Literal["refuse", "timeout", "silent", "lost", "stuck"]
Positive = Annotated[FiniteFloat, Field(gt=0)]


class ControlRequest(Asked):
    """One request.

    Whatever changes something carries a ``request_id``: the same request with the same one is done once, and asks what
    became of it. ``get_truth``, ``dose_map`` and ``fail`` are of the simulator alone.
    """

    action: ControlAction
    x_nm: FiniteFloat | None = Field(default=None, description="move_stage, expose: place on the stage.")
    y_nm: FiniteFloat | None = None
    relative: bool = False
    dx_nm: FiniteFloat | None = Field(default=None, description="shift_image: the shift itself, not a step.")
    dy_nm: FiniteFloat | None = None
    fov_nm: Positive | None = Field(default=None, description="set_scan: width of the field.")
    rotation_deg: FiniteFloat | None = Field(default=None, description="set_scan: as in a `Calibration`.")
    dwell_s: Positive | None = Field(default=None, description="set_scan: time on a pixel.")
    shape: tuple[int, int] | None = Field(default=None, description="set_scan: rows and columns.")
    frames: int | None = Field(default=None, ge=1, le=1_000_000, description="acquire: how many.")
    duration_s: Positive | None = Field(default=None, description="expose: for how long.")
    on: bool | None = Field(default=None, description="blank: whether the beam is off.")
    failure: Failure | None = Field(
        default=None,
        description="fail: the next requests are refused, time out, are not heard, are done without an answer, or the "
        "stage does not arrive.",
    )
    of: ControlAction | None = Field(default=None, description="fail: only requests of this action.")
    times: int = Field(default=1, ge=0, le=1000, description="fail: how many; 0 takes it back.")
    request_id: str = Field(
        default="", max_length=128, description="A request that is sent again is done once."
    )


class StageState(Written):
    """Where the stage is, and what it may do."""

    x_nm: float
    y_nm: float
    limit_nm: float = Field(description="The stage moves within plus and minus this distance on either axis.")
    moving: bool = False


class Limits(Written):
    """What a microscope can do at the utmost; lowest and highest value where there are two."""

    stage_nm: tuple[float, float, float, float] = Field(
        description="x and y of the lowest corner, then of the highest, that the stage reaches."
    )
    shift_nm: float = Field(description="Largest shift of the image on either axis.")
    fov_nm: tuple[float, float]
    rotation_deg: tuple[float, float]
    dwell_s: tuple[float, float]
    side_px: tuple[int, int] = Field(description="Rows or columns of a frame.")
    frames: int = Field(description="Frames of one acquisition.")
    exposure_s: float = Field(description="Longest exposure.")


class MicroscopeState(Written):
    """What a microscope does now."""

    x_nm: float
    y_nm: float
    moving: bool = False
    shift_nm: tuple[float, float] = Field(
        default=(0.0, 0.0), description="By how much the field is shifted from the stage's position."
    )
    fov_nm: float
    rotation_deg: float = 0.0
    dwell_s: float
    shape: tuple[int, int]
    frame_s: float = Field(description="From one frame to the next.")
    blanked: bool = False
    stopped: bool = Field(
        default=False, description="An emergency stop is in force; a person has to release it."
    )
    current_pa: float | None = None
    frame_dose_e_per_a2: float | None = Field(default=None, description="Dose that a frame gives its field.")
    spot_dose_e_per_a2_s: float | None = Field(
        default=None, description="Dose that the standing beam gives in a second."
    )
    dose_here_e_per_a2: float | None = Field(
        default=None, description="The highest dose that any part of this field has had."
    )
    series_id: str | None = None
    last_frame: int | None = None
    session: str = Field(
        default="",
        description="New each time that the microscope's server starts: ids of requests hold within it.",
    )


class Acquired(Written):
    """The frames of an acquisition."""

    series_id: str
    first: int
    last: int


class Exposed(Written):
    """An exposure that has ended."""

    dose_e_per_a2: float
    duration_s: float


class Capabilities(Written):
    """What a microscope is, and which actions it has."""

    name: str
    actions: tuple[str, ...]
    simulated: bool = False


class ControlReply(Written):
    """The answer; ``error`` says what was wrong where ``ok`` is false."""

    ok: bool
    done: bool = Field(
        default=True, description="False while it is being done: ask again with the same request."
    )
    error: str | None = None
    fault: Annotated[ControlFault | None, known] = None
    stage: StageState | None = None
    result: dict[str, Any] | None = None
