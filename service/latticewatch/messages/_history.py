"""Statistics over time, as ``GET /v1/history`` gives them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latticewatch.messages._base import Written
from latticewatch.messages._events import ReadRole

HappeningName = Literal["appeared", "found", "moved", "reclassified", "disappeared"]


class Course(Written):
    """Sites in a frame, over the points of a history."""

    min: list[float]
    mean: list[float]
    max: list[float]


class ClassCourse(Course):
    """The same for one class; ``name`` and ``role`` are absent where the catalogue no longer holds it."""

    class_id: int
    name: str | None = None
    role: ReadRole | None = None


class ScalarCourse(Written):
    """A named number of the headers, over the points of a history; ``None`` in points without it."""

    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class Rate(Written):
    """How often something happened in all points together."""

    n: int
    n_low: float = Field(description="Of the expected number, confidence 95 %; rates scale with it.")
    n_high: float
    per_minute: float | None
    per_nm2_per_minute: float | None = Field(default=None, description="Absent without a pixel size.")
    per_nm2_per_dose: float | None = Field(
        default=None, description="For each nm² and electron per Å²; absent without a dose."
    )


class LifetimeSummary(Written):
    """How long defects live, over the whole stream."""

    n_ended: int = Field(description="Defects that were seen to disappear.")
    exposure_s: float = Field(description="Time that all defects together were watched [s].")
    mean_s: float | None = Field(default=None, description="exposure_s / n_ended [s].")
    mean_low_s: float | None = Field(default=None, description="Of the mean, confidence 95 % [s].")
    mean_high_s: float | None = None
    median_s: float | None = Field(default=None, description="Age at which half are gone [s].")
    n_followed: int = Field(description="Defects that were seen to appear; the curve is theirs.")
    age_s: list[float] = Field(description="Ages at which one disappeared [s].")
    share: list[float] = Field(description="Share that lives longer (Kaplan and Meier).")


class DistanceSummary(Written):
    """Distance of each defect of the newest frame to the nearest other one, beside chance."""

    unit: Literal["nm", "px"]
    n: int = Field(description="Defects.")
    edges: list[float] = Field(description="Of the bins of the histogram.")
    observed: list[int]
    expected: list[float] = Field(description="As many defects on sites drawn at random, mean.")
    mean: float
    expected_mean: float
    ratio: float = Field(description="Below 1 defects keep together, above 1 apart.")
    z: float = Field(description="Deviation from chance in standard deviations.")


class DriftCourse(Written):
    """How far the specimen has moved since the start of its series, mean of each point; null where it is not known."""

    x: list[float | None] = Field(description="Along columns [nm].")
    y: list[float | None] = Field(description="Along rows [nm].")


class History(Written):
    """Reply of ``GET /v1/history``: lists in it have an item for each point, oldest first."""

    as_of_seq: int
    start: list[float] = Field(description="Time of the first frame of each point, seconds since 1970 UTC.")
    end: list[float] = Field(description="Time of the last one; give it as ``since`` of the next call.")
    frames: list[int] = Field(description="Classified frames in each point.")
    by_role: dict[ReadRole, Course]
    by_class: list[ClassCourse]
    scalars: dict[str, ScalarCourse] = Field(
        default_factory=dict,
        description="Numbers of the headers, such as ``temperature_K``; the first 16 names that come.",
    )
    events: dict[HappeningName, list[int]] = Field(
        description="``found``: defects that were there when their place was first seen; they are in no rate."
    )
    rates: dict[HappeningName, Rate]
    seconds: float = Field(description="Time watched in all points together [s].")
    watched_s: list[float] = Field(
        default_factory=list,
        description="Time watched in each point [s], to make rates over time of the events.",
    )
    area_nm2: float | None = Field(default=None, description="Mean area of the field; absent where unknown.")
    dose_e_per_a2: float | None = Field(
        default=None, description="Dose in that time [electrons/Å²]; absent where unknown."
    )
    drift_nm: DriftCourse | None = Field(default=None, description="Absent where no frame has a pixel size.")
    doses_e_per_a2: list[float | None] | None = Field(
        default=None, description="Dose of each point [electrons/Å²]; absent where none is known."
    )
    lifetimes: LifetimeSummary
    distances: DistanceSummary | None = Field(default=None, description="Absent with fewer than two defects.")
