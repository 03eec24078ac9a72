"""Messages of several senders in; frames in series of one shape and one counter, and what is missing, out.

Streams are not tidy: series are aborted, counters restart, subscribers join late, messages are lost, doubled,
reordered and damaged. Each of these has one meaning here. A frame whose numbers leap is held until the next ones agree
with it or go on as before: a damaged digit makes neither a series nor a loss.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from latticewatch.ingest._frame import Frame
from latticewatch.ingest._items import Found, Gap, Item, Partial, SeriesEnded, SeriesStarted
from latticewatch.ingest._run import LATE_WINDOW, MAX_GAP, Run, same_message
from latticewatch.ingest._wire import WireFrame
from latticewatch.messages import Note, SeriesEnd, SeriesStart

# Series that one source may have open side by side; beyond that the one that was silent longest is closed.
MAX_OPEN = 16
# Names that are remembered, to keep them unique.
MAX_NAMES = 65_536
# Frames that may be held at once; when another one leaps, too, the oldest is believed.
MAX_HELD = 2
# Frames that go on as before until a held one is damaged, and one more for each series that is open beside.
PATIENCE = 2

DAMAGED = "damaged header"
Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class Discarded:
    """A frame that was received but cannot be used."""

    series_id: str
    number: int
    reason: str


@dataclass(slots=True, eq=False)
class _Held:
    """A frame whose numbers leap."""

    message: WireFrame
    now: float
    against: int = 0


@dataclass(slots=True)
class _Source:
    """What is known of one endpoint."""

    runs: OrderedDict[Key, Run] = field(default_factory=OrderedDict)
    held: list[_Held] = field(default_factory=list)
    # Messages since the last frame that were refused and do not say which frame they were.
    unreadable: int = 0
    # Whether series were seen to alternate, so that a new one does not end the others; and the key and number at which
    # the last series was taken for aborted.
    interleaved: bool = False
    aborted: tuple[Key, int] | None = None


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
    detector : str, optional
        Analyse the frames of this detector alone; without it, in each series those of the first one seen.

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
        detector: str | None = None,
    ) -> None:
        self._pixel_size_nm = pixel_size_nm
        self._dose_e_per_a2 = dose_e_per_a2
        self._rotation_deg = rotation_deg
        self._flip_x, self._flip_y = flip_x, flip_y
        self._detector = detector
        self._sources: dict[int, _Source] = {}
        self._names: OrderedDict[str, None] = OrderedDict()
        # By series: the detector that is analysed, and the others.
        self._chosen: OrderedDict[tuple[int, str], tuple[str | None, set[str]]] = OrderedDict()

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
        Frame, SeriesStarted, SeriesEnded, Gap, Found, Partial or Discarded
            Frames have the ordinal zero; whoever hands them on numbers them.
        """
        at = self._sources.setdefault(source, _Source())
        if isinstance(message, SeriesStart):
            yield from self._start(source, at, message, t_received)
        elif isinstance(message, SeriesEnd):
            yield from self._end(source, at, message)
        elif message.header.partial:
            run = at.runs.get(self._key(at, message))
            if run is not None and message.header.shape == run.shape:
                yield Partial(message.image, run.series_id, run.number_of(message.header))
        else:
            yield from self._frame(source, at, message, t_received)

    def refuse(self, source: int, fields: dict[str, Any]) -> Iterator[Found]:
        """A message could not be read; the frame that it would have been is not lost.

        Parameters
        ----------
        source : int
        fields : dict
            What its header said, as far as it could be read.
        """
        at = self._sources.setdefault(source, _Source())
        key, number = fields.get("series_id", ""), fields.get("frame")
        run = at.runs.get((key, None)) if isinstance(key, str) else None
        if run is None or not isinstance(number, int) or isinstance(number, bool):
            at.unreadable += 1
        elif number in run.missing and run.lost:
            run.missing.discard(number)
            run.lost -= 1
            yield Found(run.series_id, number)
        elif run.last < number <= run.last + LATE_WINDOW:
            run.refused.add(number)
        elif number > run.last:
            at.unreadable += 1

    def holding(self, source: int) -> bool:
        """Whether a frame of this source waits for the next ones."""
        at = self._sources.get(source)
        return at is not None and bool(at.held)

    def release(self, source: int) -> Iterator[Item | Discarded]:
        """Nothing has come for some time: the frames that are held are believed."""
        at = self._sources.setdefault(source, _Source())
        while at.held:
            yield from self._believe(source, at)

    # Starts and ends

    def _start(
        self, source: int, at: _Source, message: SeriesStart, now: float
    ) -> Iterator[Item | Discarded]:
        key = (message.series_id, None)
        run = at.runs.get(key)
        if run is not None and run.announced and not run.received:
            return  # said twice
        yield from self._settle(source, at)
        yield from self._begin(source, at, key, "announced", now)
        at.runs[key].announced = True
        at.runs[key].last_msg = message.msg_number

    def _end(self, source: int, at: _Source, message: SeriesEnd) -> Iterator[Item | Discarded]:
        yield from self._settle(source, at, message)
        for key in [key for key in at.runs if key[0] == message.series_id]:
            run = at.runs.pop(key)
            lost = run.lost_at_end(message.msg_number, message.frames) if key[1] is None else None
            if lost is not None and 0 < lost <= MAX_GAP:
                missing = lost - sum(run.last < n <= run.last + lost for n in run.refused)
                missing -= min(missing, at.unreadable)
                if missing:
                    yield Gap(run.series_id, run.last + 1, run.last + lost, missing)
            yield SeriesEnded(run.series_id, run.received, "ended")
        at.unreadable = 0

    def _settle(self, source: int, at: _Source, end: SeriesEnd | None = None) -> Iterator[Item | Discarded]:
        """The series is over before the next frame agrees: held frames that go far, or past its end, are damaged."""
        while at.held:
            header = at.held[0].message.header
            run = at.runs.get((header.series_id, None))
            ahead = None if run is None else run.number_of(header) - run.last
            if ahead is not None and end is not None and run is not None:
                left = run.lost_at_end(end.msg_number, end.frames)
                if left is not None and ahead > left:
                    ahead = None
            if ahead is None or not 0 < ahead <= LATE_WINDOW:
                yield self._damaged(at, at.held[0])
                at.unreadable += 1
            else:
                yield from self._believe(source, at)

    def _begin(self, source: int, at: _Source, key: Key, reason: str, now: float) -> Iterator[Item]:
        """Close what the new series replaces, and open it."""
        replaced = at.runs.pop(key, None)
        if replaced is not None:
            ended = "aborted" if reason == "announced" else reason
            yield SeriesEnded(replaced.series_id, replaced.received, ended)
        elif reason == "another detector":
            pass
        elif not at.interleaved:
            for other, run in at.runs.items():
                at.aborted = (other, run.last)
                yield SeriesEnded(run.series_id, run.received, "aborted")
            at.runs.clear()
        if len(at.runs) >= MAX_OPEN:
            _, run = at.runs.popitem(last=False)
            yield SeriesEnded(run.series_id, run.received, "aborted")
        if reason != "another detector":
            self._chosen.pop((source, key[0]), None)
        at.runs[key] = Run(self._unique(key, now))
        yield SeriesStarted(at.runs[key].series_id, reason, key[1])

    # Frames

    def _frame(
        self, source: int, at: _Source, message: WireFrame, now: float, known: bool = False
    ) -> Iterator[Item | Discarded]:
        """Take a frame; one that is ``known`` to be right is not held."""
        header = message.header
        key = self._key(at, message)
        run = at.runs.get(key)
        size_nm = message.pixel_size_nm or self._pixel_size_nm
        number = (run or Run("")).number_of(header)
        reason = "first frame" if run is None else run.broken_by(header, number, size_nm)
        if reason == "counter restarted" and run is not None and run.other_detector(header, number):
            reason = ""
        if not known:
            for held in at.held:
                if same_message(held.message, message):
                    yield Discarded(self._name(run, key), number, "duplicate")
                    return
            if not (run is not None and not reason and self._goes_on(at, run, number)):
                # Not what was expected: perhaps what a held one leads to.
                for i, held in enumerate(at.held):
                    if self._follows(at, held, message):
                        for earlier in at.held[:i]:
                            if not self._follows(at, earlier, held.message):
                                yield self._damaged(at, earlier)
                                at.unreadable += 1
                        while held in at.held:
                            yield from self._believe(source, at)
                        yield from self._frame(source, at, message, now)
                        return
        if run is None or reason:
            first = run is None and not at.runs and not at.held
            if not (known or first or reason == "shape changed"):
                yield from self._hold(source, at, message, now)
                return
            if reason == "shape changed":
                yield from self._settle(source, at)
            if at.aborted is not None and at.aborted[0] == key and number > at.aborted[1]:
                at.interleaved = True  # it was not aborted, it takes turns
            yield from self._begin(source, at, key, reason, now)
            run = at.runs[key]
            number = run.number_of(header)
        elif run.received and number <= run.last:
            yield from self._again(source, at, run, message, number, now)
            return
        elif (
            not known
            and not run.vouched(header, number)
            and run.received
            and not self._goes_on(at, run, number)
        ):
            yield from self._hold(source, at, message, now)
            return
        yield from self._take(source, at, run, message, number, now)

    def _key(self, at: _Source, message: WireFrame) -> Key:
        header = message.header
        own = (header.series_id, header.detector)
        return own if own in at.runs and header.detector is not None else (header.series_id, None)

    def _again(
        self, source: int, at: _Source, run: Run, message: WireFrame, number: int, now: float
    ) -> Iterator[Item | Discarded]:
        """A number that has been passed: late, twice, or of another detector that counts alike."""
        header = message.header
        if run.other_detector(header, number):
            key = (header.series_id, header.detector)
            yield from self._begin(source, at, key, "another detector", now)
            yield from self._take(source, at, at.runs[key], message, number, now)
            return
        late = number in run.missing
        run.missing.discard(number)
        if late and run.lost:
            run.lost -= 1
            yield Found(run.series_id, number)
        yield Discarded(run.series_id, number, "out of order" if late else "duplicate")

    def _goes_on(self, at: _Source, run: Run, number: int) -> bool:
        """Whether nothing is missing before this number, what was refused or is held counted."""
        gap = number - run.last - 1
        explained = at.unreadable + len(at.held) + sum(run.last < n < number for n in run.refused)
        return 0 <= gap <= explained and not any(self._between(at, held, run, number) for held in at.held)

    def _between(self, at: _Source, held: _Held, run: Run, number: int) -> bool:
        """Whether a held frame is one of the series, with a number that has not come and is below this one."""
        header = held.message.header
        if at.runs.get(self._key(at, held.message)) is not run:
            return False
        its = run.number_of(header)
        size_nm = held.message.pixel_size_nm or self._pixel_size_nm
        return run.last < its < number and not run.broken_by(header, its, size_nm)

    def _follows(self, at: _Source, held: _Held, message: WireFrame) -> bool:
        """Whether a message agrees with a held one: the same series, shape and calibration, and a number soon after."""
        key = self._key(at, held.message)
        if key != self._key(at, message):
            return False
        then = Run("")
        size_nm = held.message.pixel_size_nm or self._pixel_size_nm
        before = (at.runs.get(key) or then).number_of(held.message.header)
        then.take(held.message, before, 0, size_nm)
        number = then.number_of(message.header)
        agrees = not then.broken_by(message.header, number, message.pixel_size_nm or self._pixel_size_nm)
        return agrees and before < number

    def _hold(self, source: int, at: _Source, message: WireFrame, now: float) -> Iterator[Item | Discarded]:
        if len(at.held) >= MAX_HELD:
            yield from self._believe(source, at)
        at.held.append(_Held(message, now))

    def _believe(self, source: int, at: _Source) -> Iterator[Item | Discarded]:
        """The oldest held frame is what it says it is."""
        held = at.held.pop(0)
        if held.against and self._key(at, held.message) not in at.runs:
            at.interleaved = True  # the other series went on beside it
        yield from self._frame(source, at, held.message, held.now, known=True)

    def _damaged(self, at: _Source, held: _Held) -> Discarded:
        at.held.remove(held)
        key = self._key(at, held.message)
        run = at.runs.get(key) or next(reversed(at.runs.values()), None)
        return Discarded(self._name(run, key), (run or Run("")).number_of(held.message.header), DAMAGED)

    def _take(
        self, source: int, at: _Source, run: Run, message: WireFrame, number: int, now: float
    ) -> Iterator[Item | Discarded]:
        """The frame continues the series; what is missing before it was refused, was damaged, or is lost."""
        header = message.header
        if run.received:
            gap = number - run.last - 1
            lost = gap - sum(run.last < n < number for n in run.refused)
        else:
            gap = lost = run.lost_before_first(number, header.msg_number)
        lost -= min(lost, at.unreadable)
        at.unreadable = 0
        for held in list(at.held):
            same = held.message.header.series_id == header.series_id
            if lost and run.received and (same or self._key(at, held.message) not in at.runs):
                yield self._damaged(at, held)
                lost -= 1
        if lost:
            yield Gap(run.series_id, number - gap, number - 1, lost)
        size_nm = message.pixel_size_nm or self._pixel_size_nm
        run.take(message, number, lost, size_nm)
        key = self._key(at, message)
        if key in at.runs:
            at.runs.move_to_end(key)
        yield self._given(source, run, message, number, size_nm, now)
        yield from self._weigh(source, at, run)

    def _weigh(self, source: int, at: _Source, run: Run) -> Iterator[Item | Discarded]:
        """After a frame that goes on as before: a held one comes next, or speaks less and less for itself."""
        for held in list(at.held):
            if held not in at.held:
                continue
            header = held.message.header
            mine = at.runs.get(self._key(at, held.message)) is run
            if (
                mine
                and run.number_of(header) == run.last + 1
                and not run.broken_by(header, run.last + 1, held.message.pixel_size_nm or self._pixel_size_nm)
            ):
                at.held.remove(held)  # two frames had changed places
                yield from self._frame(source, at, held.message, held.now, known=True)
                continue
            held.against += 1
            if held.against >= PATIENCE + len(at.runs):
                yield self._damaged(at, held)

    def _given(
        self, source: int, run: Run, message: WireFrame, number: int, size_nm: float | None, now: float
    ) -> Frame | Discarded:
        header = message.header
        chosen, others = self._choose(source, header.series_id, header.detector)
        if header.detector is not None and header.detector != chosen:
            return Discarded(run.series_id, number, "other detector")
        return Frame(
            image=message.image,
            series_id=run.series_id,
            number=number,
            t_received=now,
            t_acquired=header.timestamp,
            pixel_size_nm=size_nm,
            stage_nm=header.stage_nm,
            rotation_deg=self._rotation_deg if header.rotation_deg is None else header.rotation_deg,
            flip_x=self._flip_x if header.flip_x is None else header.flip_x,
            flip_y=self._flip_y if header.flip_y is None else header.flip_y,
            calibration_id=header.calibration_id,
            dwell_us=header.dwell_us,
            detector=header.detector,
            dose_e_per_a2=header.dose_e_per_a2 or self._dose_e_per_a2,
            scalars=header.scalars,
            notes=(*message.notes, *_several(chosen, others)),
        )

    def _choose(self, source: int, series: str, detector: str | None) -> tuple[str | None, set[str]]:
        """The detector of a series that is analysed, and the others that send."""
        first = self._detector if self._detector is not None else detector
        chosen, others = self._chosen.setdefault((source, series), (first, set()))
        if chosen is None:
            self._chosen[source, series] = chosen, others = detector, others
        elif detector is not None and detector != chosen and len(others) < MAX_OPEN:
            others.add(detector)
        while len(self._chosen) > MAX_OPEN * (1 + len(self._sources)):
            self._chosen.popitem(last=False)
        return chosen, others

    def _name(self, run: Run | None, key: Key) -> str:
        return key[0] if run is None else run.series_id

    def _unique(self, key: Key, now: float) -> str:
        base = key[0] or datetime.fromtimestamp(now, UTC).strftime("unnamed-%Y%m%dT%H%M%SZ")
        if key[1] is not None:
            base = f"{base}:{key[1]}"
        name, count = base, 1
        while name in self._names:
            count += 1
            name = f"{base}~{count}"
        self._names[name] = None
        if len(self._names) > MAX_NAMES:
            self._names.popitem(last=False)
        return name


def _several(chosen: str | None, others: set[str]) -> tuple[Note, ...]:
    if not others:
        return ()
    names = ", ".join(sorted(others))
    return (
        Note(
            code="several-detectors",
            text=f"The stream carries {chosen} and {names}; only {chosen} is analysed."[:600],
            remedy="Choose another one with --detector NAME, or give each detector a service of its own.",
        ),
    )
