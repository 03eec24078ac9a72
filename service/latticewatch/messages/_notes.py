"""What the program has to say about its own doubt: a picture that may be wrong never comes without a word."""

from __future__ import annotations

from pydantic import Field

from latticewatch.messages._base import Written


class OddRegion(Written):
    """A place in a frame where most columns fit neither the host nor one another: contamination, another phase."""

    row: float = Field(description="Of its middle [frame px].")
    col: float = Field(description="Of its middle [frame px].")
    n_sites: int = Field(description="Sites in it; they are of no class, and told as no defects.")
    area_px: float = Field(description="Area within the outline [frame px²].")
    outline: tuple[tuple[float, float], ...] = Field(
        description="Corners of a convex polygon around it, in order: row, column [frame px]."
    )


class Note(Written):
    """Something that whoever looks at a result should know: what it is, and what to do about it."""

    code: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=48,
        description="Short name that stays the same from frame to frame and from version to version.",
    )
    text: str = Field(max_length=600, description="What is the matter, as one or two sentences.")
    remedy: str = Field(
        default="", max_length=400, description="What to do about it; empty if nothing needs doing."
    )
    since_frame: int | None = Field(
        default=None, description="First of the frames in a row that say so; absent before it is known."
    )
