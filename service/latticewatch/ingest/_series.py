"""Messages of several senders in; frames in series of one shape and one counter, and what is missing, out.

Streams are not tidy: series are aborted, counters restart, subscribers join late, messages are lost. Each of
these has one meaning here.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from latticewatch.ingest._frame import Frame
from latticewatch.ingest._items import Gap, Item, SeriesEnded, SeriesStarted
from latticewatch.ingest._wire import WireFrame
from latticewatch.messages import FrameHeader, SeriesEnd, SeriesStart

# A jump further ahead than this is a counter that started elsewhere, not that many lost frames.
MAX_GAP = 100_000
# A frame at most this far behind the newest one came late or twice; further behind, the counter restarted.
LATE_WINDOW = 16
# Series that one source may have open side by side; beyond that the one that was silent longest is closed.
MAX_OPEN = 16
# Names that are remembered, to keep them unique.
MAX_NAMES = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Discarded:
    """A frame that was received but cannot be used.

    ``found`` says that it had been counted as lost.
    """

    series_id: str
    number: int
    reason: str
    found: bool = False


@dataclass(slots=True)
class _Run:
    """A series that is open: the newest numbers of one counter of one sender."""

    series_id: str
    announced: bool = False
    first: int = 0
    last: int = -1
    last_msg: int | None = None
    last_stamp: float | None = None
    shape: tuple[int, ...] = ()
    pixel_size_nm: float | None = None
    received: int = 0
    missing: set[int] = field(default_factory=set)


class SeriesTracker:
    """Sorts the messages of all sources into series.

    Parameters
    ----------
    pixel_size_nm : float, optional
        Used for frames whose header gives neither a pixel size nor a field of view [nm].
    dose_e_per_a2 : float, optional
        Used for frames whose header gives no dose [electrons per square angstrom and frame].
    rotation_deg, flip_x, flip_y
        Used for frames whose header does not say how the scan lies on the stage.

    Notes
    -----
    Loss is read from ``frame``, and from ``msg_number`` where a sender does not number its frames: messages
    that carry no frame are counted by the latter too. State is bounded however many series a peer invents.
    """

    def __init__(
        self,
        pixel_size_nm: float | None = None,
        dose_e_per_a2: float | None = None,
        rotation_deg: float = 0.0,
        flip_x: bool = False,
        flip_y: bool = False,
    ) -> None:
        self._pixel_size_nm = pixel_size_nm
        self._dose_e_per_a2 = dose_e_per_a2
        self._rotation_deg = rotation_deg
        self._flip_x, self._flip_y = flip_x, flip_y
        self._open: dict[int, OrderedDict[str, _Run]] = {}
        self._names: OrderedDict[str, None] = OrderedDict()
        # Sources on which series were seen to alternate, so that a new one does not end the others; and the
        # key and number at which the last series of each source was taken for aborted.
        self._interleaved: set[int] = set()
        self._aborted: dict[int, tuple[str, int]] = {}

    def accept(
        self, source: int, message: WireFrame | SeriesStart | SeriesEnd, t_received: float
    ) -> Iterator[Item | Discarded]:
        """Take one message and give what follows from it, in order.

        Parameters
        ----------
        source : int
            Which endpoint it came from; equal series identifiers of different sources are kept apart.
        message : WireFrame or SeriesStart or SeriesEnd
        t_received : float
            Seconds since 1970 UTC.

        Yields
        ------
        Frame, SeriesStarted, SeriesEnded, Gap or Discarded
            Frames have the ordinal zero; whoever hands them on numbers them.
        """
        runs = self._open.setdefault(source, OrderedDict())
        if isinstance(message, SeriesStart):
            yield from self._start(source, runs, message, t_received)
        elif isinstance(message, SeriesEnd):
            yield from self._end(runs, message)
        else:
            yield from self._frame(source, runs, message, t_received)

    def _start(
        self, source: int, runs: OrderedDict[str, _Run], message: SeriesStart, now: float
    ) -> Iterator[Item]:
        run = runs.get(message.series_id)
        if run is not None and run.announced and not run.received:
            return  # said twice
        yield from self._begin(source, runs, message.series_id, "announced", now)
        runs[message.series_id].announced = True
        runs[message.series_id].last_msg = message.msg_number

    def _end(self, runs: OrderedDict[str, _Run], message: SeriesEnd) -> Iterator[Item]:
        run = runs.pop(message.series_id, None)
        if run is None:
            return  # joined too late to see any of it
        lost = 0
        if message.msg_number is not None and run.last_msg is not None:
            lost = message.msg_number - run.last_msg - 1
        elif message.frames is not None and run.announced:
            lost = message.frames + run.first - 1 - run.last
        if 0 < lost <= MAX_GAP:
            yield Gap(run.series_id, run.last + 1, run.last + lost)
        yield SeriesEnded(run.series_id, run.received, "ended")

    def _frame(
        self, source: int, runs: OrderedDict[str, _Run], message: WireFrame, now: float
    ) -> Iterator[Item | Discarded]:
        header, key = message.header, message.header.series_id
        pixel_size_nm = message.pixel_size_nm or self._pixel_size_nm
        run = runs.get(key)
        number = _number(run, header)
        if run is None:
            aborted = self._aborted.get(source)
            if aborted is not None and aborted[0] == key and number > aborted[1]:
                self._interleaved.add(source)  # it was not aborted, it takes turns
            reason = "first frame"
        else:
            reason = _broken(run, header, number, pixel_size_nm)
        if reason:
            yield from self._begin(source, runs, key, reason, now)
            number = _number(None, header)
        run = runs[key]
        if run.received and number <= run.last:
            found = number in run.missing
            run.missing.discard(number)
            run.last_msg = header.msg_number
            yield Discarded(run.series_id, number, "out of order" if found else "duplicate", found)
            return
        lost = _lost_before(run, number, header.msg_number)
        if lost:
            yield Gap(run.series_id, number - lost, number - 1)
        run.missing = {n for n in run.missing if n >= number - LATE_WINDOW}
        run.missing.update(range(number - min(lost, LATE_WINDOW), number))
        if not run.received:
            run.first = number - lost
        run.last, run.last_msg, run.last_stamp = number, header.msg_number, header.timestamp
        run.shape, run.pixel_size_nm = header.shape, pixel_size_nm
        run.received += 1
        runs.move_to_end(key)
        yield Frame(
            image=message.image,
            series_id=run.series_id,
            number=number,
            t_received=now,
            t_acquired=header.timestamp,
            pixel_size_nm=pixel_size_nm,
            stage_nm=header.stage_nm,
            rotation_deg=self._rotation_deg if header.rotation_deg is None else header.rotation_deg,
            flip_x=self._flip_x if header.flip_x is None else header.flip_x,
            flip_y=self._flip_y if header.flip_y is None else header.flip_y,
            calibration_id=header.calibration_id,
            dwell_us=header.dwell_us,
            detector=header.detector,
            dose_e_per_a2=header.dose_e_per_a2 or self._dose_e_per_a2,
        )

    def _begin(
        self, source: int, runs: OrderedDict[str, _Run], key: str, reason: str, now: float
    ) -> Iterator[Item]:
        """Close what the new series replaces, and open it."""
        replaced = runs.pop(key, None)
        if replaced is not None:
            ended = "aborted" if reason == "announced" else reason
            yield SeriesEnded(replaced.series_id, replaced.received, ended)
        elif source not in self._interleaved:
            for other, run in runs.items():
                self._aborted[source] = (other, run.last)
                yield SeriesEnded(run.series_id, run.received, "aborted")
            runs.clear()
        elif len(runs) >= MAX_OPEN:
            _, run = runs.popitem(last=False)
            yield SeriesEnded(run.series_id, run.received, "aborted")
        runs[key] = _Run(self._unique(key, now))
        yield SeriesStarted(runs[key].series_id, reason)

    def _unique(self, key: str, now: float) -> str:
        base = key or datetime.fromtimestamp(now, UTC).strftime("unnamed-%Y%m%dT%H%M%SZ")
        name, count = base, 1
        while name in self._names:
            count += 1
            name = f"{base}~{count}"
        self._names[name] = None
        if len(self._names) > MAX_NAMES:
            self._names.popitem(last=False)
        return name


def _number(run: _Run | None, header: FrameHeader) -> int:
    if header.frame is not None:
        return header.frame
    if header.msg_number is not None:
        return header.msg_number
    return run.last + 1 if run else 0


def _broken(run: _Run, header: FrameHeader, number: int, pixel_size_nm: float | None) -> str:
    """Why this frame cannot continue the series; empty where it can."""
    if not run.received:
        return ""
    if header.shape != run.shape:
        return "shape changed"
    if not _same(pixel_size_nm, run.pixel_size_nm):
        return "pixel size changed"
    newer = header.timestamp is not None and run.last_stamp is not None and header.timestamp > run.last_stamp
    behind = run.last - number
    if behind > LATE_WINDOW or -behind > MAX_GAP + 1:
        return "counter restarted"
    if behind > 0 and (newer or (number <= 1 and number not in run.missing)):
        return "counter restarted"
    return ""


def _lost_before(run: _Run, number: int, msg_number: int | None) -> int:
    """Frames that the sender numbered between the one before, or the start of the series, and this one."""
    if run.received:
        return number - run.last - 1
    if not run.announced:
        return 0  # joined late: what was sent before we listened is not lost
    if run.last_msg is not None and msg_number is not None:
        return max(0, min(msg_number - run.last_msg - 1, number, MAX_GAP))
    # Some count from one, so a first frame of that number lacks nothing.
    return number if 1 < number <= MAX_GAP else 0


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6))
