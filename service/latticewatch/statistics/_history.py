"""What happened in each frame in; counts, events and lifetimes over the whole stream out."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import ROLES
from latticewatch.statistics._lifetimes import Lifetimes, Survival
from latticewatch.statistics._rates import EventRate, event_rate
from latticewatch.statistics._series import BinnedSeries, Bins

HappeningKind = Literal["appeared", "found", "moved", "reclassified", "disappeared"]
KINDS: tuple[HappeningKind, ...] = get_args(HappeningKind)
# Classes of which the course is kept; of more, those that were seen longest ago are forgotten.
MAX_CLASSES = 64
# Frames that brought new tracks, remembered to tell when a track was seen first.
MAX_MARKS = 8192
# Named numbers of the headers of which the course is kept: the first that come.
MAX_SCALARS = 16
# Beyond this, sums over many frames leave what float32 holds; no instrument reads it.
MAX_SCALAR = 1e30
DEFECT = ROLES.index("defect")
# Columns of the sums, before those of the events.
SECONDS, DOSE, AREA_SECONDS, UNDOSED, UNSIZED = range(5)
FIXED = 5
# Columns: values of roles, classes, scalars, drift along x and y; sums before those of the scalars, which are their
# sums and how many.
VALUES = len(ROLES) + MAX_CLASSES
DRIFT = VALUES + MAX_SCALARS
SUMS = FIXED + MAX_CLASSES * len(KINDS)


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a defect.

    Attributes
    ----------
    kind : {"appeared", "moved", "reclassified", "disappeared"}
    track, class_id : int
        Of the defect; of a reclassified one, its new class.
    latency_frames : int
        Frames between the first one that spoke for it and the one that decided.
    """

    kind: HappeningKind
    track: int
    class_id: int
    latency_frames: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FrameRecord:
    """One classified frame.

    Attributes
    ----------
    series_id : str
    time : float
        When it was received [s]; the times of the points.
    class_id, role, track : ndarray of shape (n_sites,), integer
        Of its sites; roles by their place in `latticewatch.messages.ROLES`.
    happenings : sequence of Happening
        What it brought.
    acquired : float or None
        When it was acquired, by the sender's clock [s]; the time between frames where they have it.
    area_nm2 : float or None
        Of the frame; ``None`` without a pixel size.
    dose_e_per_a2 : float or None
        Of the frame [electrons/Å²].
    scalars : mapping of str to float
        What else was measured or set, by name.
    drift_nm : tuple of float or None
        x, y since the start of the series.
    """

    series_id: str
    time: float
    class_id: NDArray[np.integer]
    role: NDArray[np.integer]
    track: NDArray[np.integer]
    happenings: Sequence[Happening] = ()
    acquired: float | None = None
    area_nm2: float | None = None
    dose_e_per_a2: float | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)
    drift_nm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class HistoryView:
    """The course of a stream.

    Attributes
    ----------
    start, end : ndarray of shape (n,), float64
        Times of the first and the last frame of each point [s].
    frames : ndarray of shape (n,), int64
    roles, classes : dict
        For each role, and for each class that was ever seen: minimum, mean and maximum of its sites in a frame of each
        point, each an ndarray of shape (n,).
    events : dict of str to ndarray of shape (n,), int64
        By kind. ``found`` are defects that were there when their place was first seen.
    rates : dict of str to EventRate
        Of all these points together; none for ``found``.
    seconds : float
        Time that was watched [s].
    area_nm2 : float or None
        Mean area of the field [nm²].
    dose_e_per_a2 : float or None
        Dose in this time [electrons/Å²]. Both are ``None`` where some of the frames do not tell them.
    lifetimes : Survival
        Over the whole stream.
    scalars : dict of str to ndarray of shape (3, n), float64
        For each name minimum, mean and maximum over those frames of each point that have it; NaN where none has.
    drift_nm : ndarray of shape (2, n), float64
        x and y since the start of the series, mean of each point; NaN where a frame of it does not tell them.
    doses_e_per_a2 : ndarray of shape (n,), float64
        Dose of each point [electrons/Å²]; NaN where a frame of it does not tell it.
    watched_s : ndarray of shape (n,), float64
        Time that was watched in each point [s]; their sum is ``seconds``.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    frames: NDArray[np.int64]
    roles: Mapping[str, NDArray[np.float32]]
    classes: Mapping[int, NDArray[np.float32]]
    events: Mapping[str, NDArray[np.int64]]
    rates: Mapping[str, EventRate]
    seconds: float
    area_nm2: float | None
    dose_e_per_a2: float | None
    lifetimes: Survival
    scalars: Mapping[str, NDArray[np.float64]]
    drift_nm: NDArray[np.float64]
    doses_e_per_a2: NDArray[np.float64]
    watched_s: NDArray[np.float64]


class History:
    """Statistics of a stream over time, in bounded memory; one thread adds, any thread looks.

    Notes
    -----
    The time that belongs to a frame is that since the frame before it in the same series; the first frame of a
    series has none, and what was there when it was first seen is not counted into a rate.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series = BinnedSeries(DRIFT + 2, SUMS + 2 * MAX_SCALARS)
        self._lifetimes = Lifetimes()
        self._columns: dict[int, int] = {}
        self._scalars: dict[str, int] = {}
        self._series_id: str | None = None
        self._time = -np.inf
        self._acquired: float | None = None
        self._index = 0
        self._marks: list[tuple[int, int]] = []

    def add(self, record: FrameRecord) -> None:
        """Count a frame; frames are added in their order.

        Parameters
        ----------
        record : FrameRecord
        """
        with self._lock:
            self._add(record)

    def _add(self, record: FrameRecord) -> None:
        values = np.zeros(DRIFT + 2, np.float32)
        sums = np.zeros(SUMS + 2 * MAX_SCALARS, np.float32)
        values[VALUES:] = np.nan
        if record.drift_nm is not None:
            values[DRIFT:] = record.drift_nm
        for name, number in record.scalars.items():
            column = self._scalars.get(name, len(self._scalars))
            if column < MAX_SCALARS and abs(number) < MAX_SCALAR:
                self._scalars[name] = column
                values[VALUES + column] = number
                sums[[SUMS + column, SUMS + MAX_SCALARS + column]] = number, 1
        first = record.series_id != self._series_id
        seconds = self._passed(record, first)
        values[: len(ROLES)] = np.bincount(record.role, minlength=len(ROLES))[: len(ROLES)]
        defect = record.role == DEFECT
        for class_id, n in _counted(record.class_id):
            values[len(ROLES) + self._column(class_id)] = n
        for class_id, n in _counted(record.class_id[defect]):
            self._lifetimes.expose(class_id, n * seconds)
        if not first:
            # The first frame shows what was there before it; what its dose does shows in the next one.
            sums[SECONDS] = seconds
            sums[AREA_SECONDS] = (record.area_nm2 or 0.0) * seconds
            sums[DOSE] = record.dose_e_per_a2 or 0.0
            sums[UNSIZED], sums[UNDOSED] = record.area_nm2 is None, record.dose_e_per_a2 is None
        self._mark(record.track)
        for happening in record.happenings:
            kind = self._told(happening, seconds)
            sums[FIXED + self._column(happening.class_id) * len(KINDS) + KINDS.index(kind)] += 1
        self._lifetimes.see(record.track[defect].tolist(), self._time)
        self._series.push(self._time, values, sums)
        self._index += 1

    def interrupt(self) -> None:
        """The thread is lost, as when classes are learnt anew: the next frame is the first of its series."""
        with self._lock:
            self._series_id = None

    def _passed(self, record: FrameRecord, first: bool) -> float:
        """Seconds since the frame before; a clock that was set back stands still."""
        if first:
            self._lifetimes.lose_all()
            self._series_id, self._marks, self._index = record.series_id, [], 0
        seconds = record.time - self._time
        if record.acquired is not None and self._acquired is not None:
            seconds = record.acquired - self._acquired
        self._time, self._acquired = max(self._time, record.time), record.acquired
        return 0.0 if first else max(0.0, seconds)

    def _mark(self, track: NDArray[np.integer]) -> None:
        # Tracks are numbered as they come, so the highest number tells which are new.
        highest = int(track.max(initial=-1))
        if highest > (self._marks[-1][0] if self._marks else -1):
            self._marks.append((highest, self._index))
            if len(self._marks) > MAX_MARKS:
                del self._marks[: MAX_MARKS // 2]

    def _told(self, happening: Happening, seconds: float) -> HappeningKind:
        """Take it into the lifetimes; an appearance may turn out to have been found there."""
        track, class_id = happening.track, happening.class_id
        time = self._time - happening.latency_frames * seconds
        match happening.kind:
            case "appeared":
                at = bisect_left(self._marks, (track, -1))
                first = self._marks[at][1] if at < len(self._marks) else self._index
                if self._index - happening.latency_frames <= first + 1:
                    return "found"
                self._lifetimes.begin(track, class_id, time)
            case "reclassified":
                self._lifetimes.reclassify(track, class_id)
            case "disappeared":
                self._lifetimes.end(track, class_id, time)
        return happening.kind

    def _column(self, class_id: int) -> int:
        """Column of a class, in the order in which classes were last seen."""
        column = self._columns.pop(class_id, None)
        if column is None:
            column = len(self._columns)
            if column == MAX_CLASSES:
                column = self._columns.pop(next(iter(self._columns)))
                events = FIXED + column * len(KINDS)
                self._series.forget(len(ROLES) + column, list(range(events, events + len(KINDS))))
        self._columns[class_id] = column
        return column

    def view(self, points: int, since: float | None = None, class_id: int | None = None) -> HistoryView:
        """The course so far.

        Parameters
        ----------
        points : int
            Points at most, at least 1.
        since : float, optional
            Only after this time [s]; the bounds of what is kept coarser are not exact.
        class_id : int, optional
            Only this class, and what happened to defects of it.

        Returns
        -------
        HistoryView
        """
        with self._lock:
            bins = self._series.view(points, since)
            columns = dict(self._columns)
            scalars = dict(self._scalars)
            lifetimes = self._lifetimes.survival(class_id)
        if class_id is not None:
            columns = {class_id: columns[class_id]} if class_id in columns else {}
        return _view(bins, columns, lifetimes, scalars)


def _counted(class_id: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Each class with the number of its sites; sites without a class are left out."""
    n = np.bincount(class_id[class_id >= 0])
    ids = np.flatnonzero(n)
    return list(zip(ids.tolist(), n[ids].tolist(), strict=True))


def _scalar(bins: Bins, column: int) -> NDArray[np.float64]:
    low, high = bins.low[:, VALUES + column], bins.high[:, VALUES + column]
    total, n = (bins.sums[:, SUMS + k * MAX_SCALARS + column].astype(np.float64) for k in range(2))
    mean = np.divide(total, n, out=np.full(len(bins), np.nan), where=n > 0)
    # the mean is rounded more often than what it is the mean of
    return np.stack([low, np.clip(mean, low, high), high]).astype(np.float64)


def _view(
    bins: Bins, columns: Mapping[int, int], lifetimes: Survival, scalars: Mapping[str, int]
) -> HistoryView:
    values = np.stack([bins.low, bins.mean, bins.high])
    events = bins.sums[:, FIXED:SUMS].reshape(len(bins), MAX_CLASSES, len(KINDS))
    events = events[:, list(columns.values())].sum(axis=1).round().astype(np.int64)
    total = bins.sums.sum(axis=0, dtype=np.float64)
    seconds = float(total[SECONDS])
    area = float(total[AREA_SECONDS]) / seconds if seconds > 0 and not total[UNSIZED] else None
    dose = float(total[DOSE]) or None if not total[UNDOSED] else None
    rates = {
        kind: event_rate(int(events[:, k].sum()), seconds, area, dose)
        for k, kind in enumerate(KINDS)
        if kind != "found"
    }
    return HistoryView(
        bins.start,
        bins.end,
        bins.frames,
        {role: values[:, :, k] for k, role in enumerate(ROLES)},
        {class_id: values[:, :, len(ROLES) + k] for class_id, k in sorted(columns.items())},
        {kind: events[:, k] for k, kind in enumerate(KINDS)},
        rates,
        seconds,
        area,
        dose,
        lifetimes,
        {name: course for name, k in scalars.items() if not np.isnan((course := _scalar(bins, k))[0]).all()},
        bins.mean[:, DRIFT:].T.astype(np.float64),
        np.where((dose is None) | (bins.sums[:, UNDOSED] > 0), np.nan, bins.sums[:, DOSE]).astype(np.float64),
        bins.sums[:, SECONDS].astype(np.float64),
    )
