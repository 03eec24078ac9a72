"""Moves of the stage, as JSON over a ZeroMQ REQ/REP socket: what the loop asks, what a microscope answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, FiniteFloat

from latticewatch.messages._base import Asked, Written


class ControlRequest(Asked):
    """One request.

    ``get_stage`` and ``status`` take nothing; ``move_stage`` takes ``x_nm``, ``y_nm`` and ``relative``;
    ``get_truth`` asks the simulator for every column of the newest frame.
    """

    action: Literal["get_stage", "move_stage", "status", "get_truth"]
    x_nm: FiniteFloat | None = None
    y_nm: FiniteFloat | None = None
    relative: bool = False
    request_id: str = Field(
        default="", max_length=128, description="A request that is sent again is done once."
    )


class StageState(Written):
    """Where the stage is, and what it may do."""

    x_nm: float
    y_nm: float
    limit_nm: float = Field(description="The stage moves within plus and minus this distance on either axis.")
    moving: bool = False


class ControlReply(Written):
    """The answer; ``error`` says what was wrong where ``ok`` is false."""

    ok: bool
    error: str | None = None
    stage: StageState | None = None
    result: dict[str, Any] | None = None
