"""Files and recordings in; one frame after another, with what is to be said of it on the wire, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from latticewatch.ingest.files import FileSeries
from latticewatch.ingest.files.recording import Recording

# What a recording says of a frame that belongs to the service that recorded it, not to the microscope.
_NOT_SENT = ("row", "ordinal", "t_received", "series_id", "frame")


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame that is to be sent.

    Attributes
    ----------
    source : FileSeries or Recording
    series : FileSeries
        Holds its image.
    number : int
        In that series.
    header : dict or None
        What was recorded with it; None of a file, whose frames are sent as if they were acquired now.
    """

    source: FileSeries | Recording
    series: FileSeries
    number: int
    header: dict[str, Any] | None = None

    @property
    def image(self) -> NDArray[Any]:
        """The pixels; raises `FileError` where they cannot be read."""
        return self.series.frame(self.number)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Frames of one kind in a row make a series."""
        if self.header is not None:
            return (id(self.source), self.header.get("series_id", ""))
        return (self.series.shape, self.series.pixel_size_nm)

    @property
    def fields(self) -> dict[str, Any]:
        """What the header says beside shape and number."""
        if self.header is None:
            size = self.series.pixel_size_nm
            return {} if size is None else {"pixel_size_nm": size}
        return {name: value for name, value in self.header.items() if name not in _NOT_SENT}


def shots_of(
    sources: Sequence[FileSeries | Recording], first: int = 0, last: int | None = None
) -> list[Shot]:
    """Every frame of every source, in order, from one to another of them.

    Parameters
    ----------
    sources : sequence of FileSeries or Recording
    first, last : int
        Of all frames, counted from zero; `last` is sent, too.
    """
    shots: list[Shot] = []
    for source in sources:
        if isinstance(source, Recording):
            shots += [Shot(source, source.series(one.part), one.row, one.header) for one in source.frames]
        else:
            shots += [Shot(source, source, number) for number in range(len(source))]
    return shots[first : None if last is None else last + 1]
