"""What a receiver gives beside frames: where series start and end, and what was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass

from latticewatch.ingest._frame import Frame


@dataclass(frozen=True, slots=True)
class SeriesStarted:
    """A series starts; every frame that follows with this ``series_id`` belongs to it.

    Attributes
    ----------
    series_id : str
        Unique since this process started: ``~2``, ``~3`` … is added where a sender uses one again.
    reason : str
        ``announced``, ``first frame``, ``counter restarted``, ``shape changed`` or ``pixel size changed``.
    """

    series_id: str
    reason: str


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
    """Frames ``first`` to ``last``, both included, were numbered by the sender and have not arrived."""

    series_id: str
    first: int
    last: int

    @property
    def n(self) -> int:
        """Number of frames lost."""
        return self.last - self.first + 1


Item = Frame | SeriesStarted | SeriesEnded | Gap
