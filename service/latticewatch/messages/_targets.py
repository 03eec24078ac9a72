"""Targets: which defect a program is to look at next, who has it, and what became of it."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, FiniteFloat

from latticewatch.messages._api import TrackState
from latticewatch.messages._base import Asked, Written, known
from latticewatch.messages._events import DuringSeries, Nanometres

Policy = Literal["nearest", "most-confident", "most-uncertain", "newest", "farthest", "random"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
Kind = Literal["vacancy", "lower", "higher", "displaced", "added", "odd", "named"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Outcome = Literal["done", "failed", "refused", "released", "note"]
Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TargetRequest(Asked):
    """Body of ``POST /v1/targets:next``."""

    policy: Policy = "most-confident"
    holder: Word = Field(description="Who asks: a name of its own for each loop.")
    ttl_s: FiniteFloat = Field(
        default=60.0, ge=1, le=3600, description="For how long the target is its own [s]."
    )
    key: Word | None = Field(
        default=None,
        description="Idempotency key: the same request with the same one gets the same target.",
    )
    classes: tuple[Word, ...] = Field(
        default=(), max_length=64, description="Only classes of these names; none means every defect."
    )
    kinds: tuple[Kind, ...] = Field(default=(), max_length=8, description="Only these kinds of change.")
    min_confidence: FiniteFloat = Field(default=0.0, ge=0, le=1)
    min_edge_nm: FiniteFloat = Field(
        default=0.0, ge=0, le=1e6, description="Only those so far from the frame's edge."
    )
    out_of_view: bool = Field(
        default=False, description="Also those that were seen before and are beside the newest frame."
    )
    x_nm: FiniteFloat | None = Field(
        default=None, description="nearest, farthest: to this place; without it the middle of the frame."
    )
    y_nm: FiniteFloat | None = None
    apart_nm: FiniteFloat = Field(
        default=0.2, ge=0, le=1e3, description="A defect so near to a place that was visited is the same one."
    )


class Target(Written):
    """A defect as it is by the newest frame."""

    id: str = Field(description="``stream/track``: the same over restarts of the service.")
    track: TrackState
    kind: Annotated[Kind, known]
    series_id: str
    frame: int
    model_version: int
    epoch: int | None = Field(
        default=None, description="Of its track: when that of the status is another, the target is gone."
    )
    specimen_nm: Nanometres | None = Field(
        default=None, description="Its place on the specimen: that on the stage without the drift."
    )
    score: float = Field(description="What the policy ranks by; the highest comes first.")


class Lease(Written):
    """Reply of ``POST /v1/targets:next``; without a target where there is none."""

    target: Target | None
    holder: str
    key: str | None = None
    expires_in_s: float | None = Field(default=None, description="The target is its own for so long [s].")
    left: int = Field(description="Further targets that could be had.")
    reason: str | None = Field(default=None, description="Why there is none.")


class Targets(Written):
    """Reply of ``GET /v1/targets``: what could be had, best first; nothing is leased by asking."""

    policy: Annotated[Policy, known]
    n: int
    targets: list[Target]
    leased: int = Field(description="Defects in view that somebody has.")
    visited: int = Field(description="Defects in view that were visited.")
    phase: str
    last_frame_age_s: float | None


class AnnotationRequest(Asked):
    """Body of ``POST /v1/annotations``: what became of a target."""

    target: Word
    holder: Word
    outcome: Outcome = Field(
        description="released gives it back, note says something beside; after the others it is not given out again."
    )
    detail: str | None = Field(default=None, max_length=1000)
    series_id: str | None = Field(
        default=None, max_length=256, description="Frames that were acquired of it."
    )
    first: int | None = Field(default=None, ge=0, le=2**53)
    last: int | None = Field(default=None, ge=0, le=2**53)
    offset_nm: FiniteFloat | None = Field(
        default=None, ge=0, description="How far from the middle it was in them, or when it was exposed."
    )
    dose_e_per_a2: FiniteFloat | None = Field(default=None, ge=0)
    key: Word | None = Field(default=None, description="Idempotency key.")


class TargetLeasedData(DuringSeries):
    """Data of ``target.leased``."""

    target: str
    holder: str
    policy: str
    key: str | None = None
    until: float = Field(description="Seconds since 1970 UTC.")
    found: Target = Field(description="As it was in the frame of that moment.")
    asked: str = Field(default="", description="Digest of the request, for its key.")


class TargetAnnotatedData(DuringSeries):
    """Data of ``target.annotated``."""

    target: str
    holder: str
    outcome: Annotated[Outcome, known]
    detail: str | None = None
    first: int | None = None
    last: int | None = None
    offset_nm: float | None = None
    dose_e_per_a2: float | None = None
    specimen_nm: Nanometres | None = None
    key: str | None = None
    asked: str = ""


class Annotation(Written):
    """Reply of ``POST /v1/annotations``."""

    seq: int = Field(description="Of the event in the log.")
    target: str
    outcome: Annotated[Outcome, known]
