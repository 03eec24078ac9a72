"""What a receiver gives beside frames: where series start and end, and what was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from latticewatch.ingest._frame import Frame


@dataclass(frozen=True, slots=True)
class SeriesStarted:
    """A series starts; every frame that follows with this ``series_id`` belongs to it.

    Attributes
    ----------
    series_id : str
        Unique since this process started: ``~2``, ``~3`` … is added where a sender uses one again.
    reason : str
        ``announced``, ``first frame``, ``another detector``, ``counter restarted``, ``shape changed``,
        ``pixel size changed`` or ``scan rotation changed``.
    detector : str or None
        Whose frames these are, where a stream carries those of several and this is not the first one's.
    address : str
        Where the series comes from.
    """

    series_id: str
    reason: str
    detector: str | None = None
    address: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SeriesEnded:
    """A series is over.

    Attributes
    ----------
    series_id : str
    frames : int
        Frames received in it.
    reason : str
        ``ended`` when its sender said so, ``aborted`` when it started another series instead, or the reason
        for which the next one starts.
    """

    series_id: str
    frames: int
    reason: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Of the frames ``first`` to ``last``, both included, which the sender numbered, ``n`` have not arrived.

    All of them, but for those whose messages arrived and were refused.
    """

    series_id: str
    first: int
    last: int
    n: int


@dataclass(frozen=True, slots=True)
class Found:
    """A frame that was told lost was not: it came late, or was refused."""

    series_id: str
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A frame that is still being scanned: it is shown, and neither counted nor analysed."""

    image: NDArray[Any]
    series_id: str
    number: int


Item = Frame | SeriesStarted | SeriesEnded | Gap | Found | Partial
