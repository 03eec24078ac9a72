"""Which series are open and whether frames have stopped coming; each change gives the event that tells it."""

from __future__ import annotations

import threading
from typing import TypeVar

from latticewatch.ingest import SeriesEnded, SeriesStarted
from latticewatch.messages import EventData, EventType, StreamEventData

Data = TypeVar("Data", bound=EventData)
StreamDraft = tuple[EventType, StreamEventData]
# Address and detector; either may be unknown.
Origin = tuple[str | None, str | None]


class OpenSeries:
    """The series that are open, and whether they have stalled.

    One thread tells it what has come; any thread may ask for `open` and `placed`.

    Parameters
    ----------
    stall_after_s : float
        When an open series has given no frame for this long, the stream has stalled [s].

    Attributes
    ----------
    series_id : str or None
        The open series that was heard of last.
    """

    def __init__(self, stall_after_s: float) -> None:
        self._stall_after_s = stall_after_s
        self._heard_at = 0.0
        # A series that is heard of is taken out and put in again, as the newest: nobody is to look in between.
        self._lock = threading.RLock()
        self._newest_frame: dict[str, int | None] = {}
        # Where the open series come from, and the one that was heard of last, which may be over.
        self._origins: dict[str, Origin] = {}
        self._newest_origin: Origin = (None, None)
        # A stall that was told stays open until its end is told, over the end of its series.
        self._told = False
        self.stalled = False

    @property
    def series_id(self) -> str | None:
        with self._lock:
            return next(reversed(self._newest_frame), None)

    @property
    def open(self) -> list[tuple[str, str | None, str | None]]:
        """All series that are open, each with its address and detector."""
        with self._lock:
            return [(series_id, *self._origins[series_id]) for series_id in self._newest_frame]

    def placed(self, data: Data) -> Data:
        """The same data with series, address and detector, where it lacks them and they are known; from any thread.

        Parameters
        ----------
        data : EventData

        Returns
        -------
        EventData
            Of the same type.
        """
        with self._lock:
            series_id: str | None = getattr(data, "series_id", None) or self.series_id
            address, detector = self._origins.get(series_id or "", self._newest_origin)
        found = {"series_id": series_id, "address": address, "detector": detector}
        missing = {name: value for name, value in found.items() if value and not getattr(data, name)}
        return data.model_copy(update=missing) if missing else data

    def start(self, item: SeriesStarted, now: float) -> list[StreamDraft]:
        """A series has started; a stall of the one before it is over when its first frame comes."""
        self._heard(item.series_id, None, now, (item.address or None, item.detector))
        self.stalled = False
        return [
            (
                "series.started",
                StreamEventData(
                    series_id=item.series_id,
                    reason=item.reason,
                    address=item.address or None,
                    detector=item.detector,
                ),
            )
        ]

    def frame(
        self, series_id: str, number: int, now: float, origin: Origin = (None, None)
    ) -> list[StreamDraft]:
        """A frame has come; a stalled stream has resumed."""
        self._heard(series_id, number, now, origin)
        if not self._told:
            return []
        self._told = self.stalled = False
        return [("stream.resumed", StreamEventData(series_id=series_id, frame=number))]

    def _heard(self, series_id: str, number: int | None, now: float, origin: Origin) -> None:
        with self._lock:
            self._newest_frame.pop(series_id, None)
            self._newest_frame[series_id] = number
            known = self._origins.get(series_id, (None, None))
            self._newest_origin = origin[0] or known[0], origin[1] or known[1]
            self._origins[series_id] = self._newest_origin
        self._heard_at = now

    def end(self, item: SeriesEnded) -> list[StreamDraft]:
        """A series is over."""
        with self._lock:
            number = self._newest_frame.pop(item.series_id, None)
            data = StreamEventData(
                series_id=item.series_id, frame=number, frames=item.frames, reason=item.reason
            )
            data = self.placed(data)
            self._origins.pop(item.series_id, None)
            if not self._newest_frame:
                self.stalled = False
        return [("series.ended", data)]

    def end_all(self, reason: str) -> list[StreamDraft]:
        """Nothing more is heard of any series."""
        with self._lock:
            drafts: list[StreamDraft] = [
                (
                    "series.ended",
                    self.placed(StreamEventData(series_id=series_id, frame=number, reason=reason)),
                )
                for series_id, number in self._newest_frame.items()
            ]
            self._newest_frame.clear()
            self._origins.clear()
        self.stalled = False
        return drafts

    def check(self, last_frame_age_s: float | None, now: float) -> list[StreamDraft]:
        """Time went by: the stream may have stalled.

        Parameters
        ----------
        last_frame_age_s : float or None
            Since a frame was received, which may be one that still waits [s].
        now : float
            Monotonic time [s].
        """
        series_id = self.series_id
        if series_id is None or self.stalled:
            return []
        age_s = now - self._heard_at
        if last_frame_age_s is not None:
            age_s = min(age_s, last_frame_age_s)
        if age_s <= self._stall_after_s:
            return []
        self.stalled = True
        if self._told:
            return []  # still the same stall, though another series was announced meanwhile
        self._told = True
        data = StreamEventData(
            series_id=series_id, frame=self._newest_frame[series_id], last_frame_age_s=round(age_s, 3)
        )
        return [("stream.stalled", data)]
