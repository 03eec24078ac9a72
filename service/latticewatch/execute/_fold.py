"""Analyses in, in the order of their frames; events to the publisher, and each frame accounted for."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from latticewatch.config import Settings
from latticewatch.errors import FileError
from latticewatch.execute._edits import Edit
from latticewatch.execute._history import record_of
from latticewatch.execute._intake import Holding
from latticewatch.execute._meter import Meter
from latticewatch.execute._parts import FrameLearner, FrameSource
from latticewatch.execute._publisher import Draft, Publisher
from latticewatch.execute._runner import Runner, Submitted
from latticewatch.execute._series import OpenSeries
from latticewatch.execute._workers import FrameBudget, TooSlowError
from latticewatch.ingest import Found, Frame, Gap, Partial, SeriesEnded, SeriesStarted
from latticewatch.messages import FramesLostData, StreamEventData
from latticewatch.parallel import working
from latticewatch.statistics import History

if TYPE_CHECKING:
    from latticewatch.pipeline import FrameResult, SavedModel
    from latticewatch.record import Recorder

# What changes without an event is stored after this long [s].
STORE_EVERY_S = 5.0
# Doses of frames remembered, so that those gathered while learning keep their own.
DOSES_KEPT = 256


class Folder:
    """Folds, in one thread.

    Parameters
    ----------
    settings : Settings
    work : queue.Queue
        What is to be folded; None ends it.
    publisher : Publisher
    receiver : FrameSource
        Is told what became of each frame.
    hold : Holding
    learner : callable
        The learner, once there is one.
    runner : callable
        The runner, once there is one; gives analyses in their turn.

    Attributes
    ----------
    series : OpenSeries
    meter : Meter
    history : History
    failures : int
        Frames in a row that could not be analysed.
    last_error : str
        Why the last one could not.
    recorder : Recorder or None
        Is given each frame that was analysed.
    since : float or None
        Since when the item at hand is worked on, in monotonic time [s]; None between items.
    """

    def __init__(
        self,
        settings: Settings,
        work: queue.Queue[Any],
        publisher: Publisher,
        receiver: FrameSource,
        hold: Holding,
        learner: Callable[[], FrameLearner],
        runner: Callable[[], Runner],
    ) -> None:
        self._settings, self._work, self._publisher = settings, work, publisher
        self._receiver, self._hold = receiver, hold
        self._learner, self._runner = learner, runner
        self.series = OpenSeries(settings.ingest.stall_after_s)
        self.meter = Meter()
        self.history = History()
        self.failures = 0
        self.last_error = ""
        self.since: float | None = None
        self._budget = FrameBudget(settings.analysis.frame_limit_s)
        self._doses: dict[tuple[str, int], float | None] = {}
        self._errors = 0
        self._given_up = False
        self.recorder: Recorder | None = None
        self._stored_model: Any = None
        self._start = b""
        self._stored_at = time.monotonic()
        publisher.keep_with(self.kept, self.stored)
        publisher.place_with(self.series.placed)
        self._logger = structlog.get_logger("latticewatch.execute")

    def kept(self) -> dict[str, bytes]:
        """What goes to disk with the events, so that a restart goes on from there."""
        kept = {"series": json.dumps(self.series.open).encode(), "start": self._start}
        keep = getattr(self._learner(), "kept", None) if self._has_learner() else None
        if keep is not None:
            try:
                kept |= keep(with_model=self._learner().model is not self._stored_model)
            except TypeError:
                # Events count for more than what a restart can go on from.
                self._logger.exception("what was learnt cannot be stored")
        return kept

    def stored(self, kept: Mapping[str, bytes]) -> None:
        """It is on disk."""
        if "model" in kept:
            self._stored_model = self._learner().model
        self._stored_at = time.monotonic()

    @property
    def stored_age_s(self) -> float:
        """Time since what was learnt was last stored, or since the start [s]."""
        return time.monotonic() - self._stored_at

    def restore(self, learner: Any, kept: Callable[[str], bytes | None]) -> None:
        """Go on from what is on disk; called before the first item."""
        names = ("model", "tracks", "series", "numbers", "start")
        found = {name: data for name in names if (data := kept(name)) is not None}
        self._start = found.get("start", b"")
        state = self._publisher.state
        if "model" in found and hasattr(learner, "restore"):
            try:
                learner.restore(found)
            except FileError as error:
                self._logger.error(
                    "what was learnt before cannot be read; it is learnt anew", error=str(error)
                )
                # a number that was given out must not come to mean something else
                learner.number_on(found)
            else:
                model = learner.model
                entries = tuple(sorted(getattr(model, "classes", ()), key=lambda entry: entry.class_id))
                state = replace(state, catalogue=entries, model_version=getattr(model, "version", 0))
                self._logger.info(
                    "went on with what was learnt", version=state.model_version, classes=len(entries)
                )
                self._stored_model = model
                self._publisher.show(state)
        ended: list[Draft] = [
            ("series.ended", _cut_short(one)) for one in json.loads(found.get("series", b"[]"))
        ]
        if ended:
            self._publisher.publish(state, ended)

    def start_from(self, learner: Any, saved: SavedModel, digest: str) -> None:
        """Start from a model in a file, unless it was started from it before: what was learnt since counts more."""
        if self._start == digest.encode():
            self._logger.info("went on from the model given before", model=digest[:12])
            return
        own = bool(saved.stream) and saved.stream == self._publisher.log.stream
        model = learner.start_from(saved.model, own=own)
        self._start = digest.encode()
        self._publisher.publish(self._publisher.newest.with_model(model), learner.take_events())
        self._logger.info("started from a model", version=model.version, classes=len(model.classes))

    def give_up(self) -> None:
        """Wait for no analysis any longer; what comes is dropped, reason ``shutdown``."""
        self._given_up = True

    def run(self) -> None:
        """Fold until the queue gives None."""
        tick_s = min(0.25, self._settings.ingest.stall_after_s / 4)
        while True:
            self.since = None
            try:
                item = self._work.get(timeout=tick_s)
            except queue.Empty:
                item = ()
            if item is None:
                break
            self.since = time.monotonic()
            try:
                self._fold_one(item)
            except Exception:
                self._logger.exception("item skipped", item=type(item).__name__)
        self.since = time.monotonic()
        self._publish_events(self.series.end_all("service stopped"))
        self._publisher.store()
        if not self._publisher.flush(at_once=True):
            self._logger.error("last events not written", error=self._publisher.trouble)
        self.since = None

    def _fold_one(
        self, item: Submitted | Edit | SeriesStarted | SeriesEnded | Gap | Found | Partial | tuple[()]
    ) -> None:
        now = time.monotonic()
        match item:
            case Submitted():
                self._fold(item)
            case Edit():
                item.run()
                self._runner().adopt()
            case SeriesStarted():
                self._publish_events(self.series.start(item, now))
            case SeriesEnded():
                self._publish_events(self.series.end(item))
            case Gap():
                self._publish_events([("frames.lost", _lost(item))])
            case Partial():
                self._show_partial(item)
            case Found():
                self._publish_events([("frames.found", _found(item))])
            case _:
                if not self._has_learner():
                    # Another thread restores what was known before: events written by both would be told twice.
                    return
                self._publisher.flush()
                self._store_now_and_then()
        self._publish_events(self.series.check(self._receiver.last_frame_age_s, now))

    def _store_now_and_then(self) -> None:
        """Evidence grows and classes follow the stream without an event."""
        if self._has_learner() and time.monotonic() - self._stored_at > STORE_EVERY_S:
            self._publisher.store()

    def _has_learner(self) -> bool:
        try:
            return self._learner() is not None
        except AttributeError:
            return False

    def _fold(self, item: Submitted) -> None:
        frame = item.frame
        try:
            # Before the analysis is awaited: what people see first is that the series has begun.
            self._publish_events(self._frame_came(frame))
            turn = self._runner().turn(item, self._budget.seconds, lambda: not self._given_up)
            with turn as analysis, working():
                self._budget.add(item.job.seconds)
                # The time budget is that of the analysis; `since` watches the rest.
                self.since = time.monotonic()
                self._note_dose(frame)
                results = self._folded(analysis)
                drafts: list[Draft] = [draft for result in results for draft in result.events]
                drafts += self._learner().take_events()
                newest = self._publisher.newest
                self._publish(
                    newest.with_result(results[-1]) if results else newest, drafts, hurried=self._behind
                )
                for result in results:
                    self._remember(result)
        except TooSlowError as error:
            self._drop(frame, error, "shutdown" if self._given_up else "too slow")
            return
        except Exception as error:  # noqa: BLE001 - a frame that cannot be analysed is counted and skipped
            self._drop(frame, error, "error")
            return
        self._store_now_and_then()
        self.failures = 0
        self.meter.add(time.monotonic() - frame.received_at)
        for result in results[-1:]:
            self.meter.add_stages(result.timings_ms)
        self._receiver.done(frame)
        if self.recorder is not None:
            self.recorder.add(frame, results)
        for result in results:
            self._log_learnt(result)

    def _frame_came(self, frame: Frame) -> Sequence[Draft]:
        origin = frame.address or None, frame.detector
        return self.series.frame(frame.series_id, frame.number, time.monotonic(), origin)

    def _show_partial(self, item: Partial) -> None:
        """A frame that is still being scanned, in the place of the newest one's picture."""
        state = self._publisher.state
        result = state.result
        if self._publisher.trouble is not None or result is None:
            return
        if (result.series_id, result.shape) != (item.series_id, item.image.shape):
            return
        from latticewatch.pipeline import picture_of

        picture = picture_of(item.image)
        self._publisher.show_beside(partials=state.partials + 1, result=replace(result, picture=picture))

    def _folded(self, analysis: Any) -> list[FrameResult]:
        """Fold; while that discovers classes, which takes seconds, more frames may wait than otherwise."""
        learner = self._learner()
        result, needed = self._publisher.newest.result, self._settings.analysis.learning_frames
        gathered = result.learning[0] if result is not None else 0
        if learner.model is not None or gathered + 1 < needed:
            return learner.fold(analysis)
        self._hold("learning", True)
        self._publisher.show_beside(busy="discovering classes")
        try:
            return learner.fold(analysis)
        finally:
            self._hold("learning", False)

    def _note_dose(self, frame: Frame) -> None:
        self._doses[frame.series_id, frame.number] = frame.dose_e_per_a2
        while len(self._doses) > DOSES_KEPT:
            del self._doses[next(iter(self._doses))]

    def _remember(self, result: FrameResult) -> None:
        if not result.classes:
            # What is learnt next has other tracks and classes.
            self.history.interrupt()
        elif result.lattice_found:
            self.history.add(record_of(result, self._doses.get((result.series_id, result.number))))

    def _drop(self, frame: Frame, error: Exception, reason: str) -> None:
        self._errors += 1
        self.failures += 1
        self.last_error = str(error) or repr(error)
        # The trace of the first, second, fourth, eighth …: a stream of bad frames fills no disk.
        trace = error if self._errors & (self._errors - 1) == 0 else None
        self._logger.error(
            "frame dropped", series=frame.series_id, frame=frame.number, error=repr(error), exc_info=trace
        )
        self._receiver.dropped(frame, reason)

    def _log_learnt(self, result: FrameResult) -> None:
        for draft in result.events:
            if draft.type == "model.updated":
                self._logger.info(
                    "model updated",
                    series=result.series_id,
                    frame=result.number,
                    version=result.model_version,
                    classes=len(result.classes),
                )

    def _publish_events(self, drafts: Sequence[Draft]) -> None:
        if not drafts:
            return
        for kind, data in drafts:
            # The receiver has logged the rest.
            if kind in ("stream.stalled", "stream.resumed"):
                self._logger.warning(kind, **data.model_dump(exclude_none=True))
        self._publish(self._publisher.newest, drafts)

    @property
    def _behind(self) -> bool:
        """Whether as many frames wait as can: every write of the log has all tracks in it, and is for some together."""
        return self._work.full()

    def _publish(self, state: Any, drafts: Sequence[Draft], *, hurried: bool = False) -> None:
        series = self.series
        state = replace(state, series_id=series.series_id, stalled=series.stalled)
        self._publisher.publish(state, drafts, hurried=hurried)


def _cut_short(one: str | list[Any]) -> StreamEventData:
    """The end of a series that was kept as open: with address and detector, or in older logs the series alone."""
    series_id, address, detector = (one, None, None) if isinstance(one, str) else one
    return StreamEventData(
        series_id=series_id, address=address, detector=detector, reason="service restarted"
    )


def _lost(gap: Gap) -> FramesLostData:
    return FramesLostData(series_id=gap.series_id, first_frame=gap.first, last_frame=gap.last, n=gap.n)


def _found(item: Found) -> FramesLostData:
    return FramesLostData(series_id=item.series_id, first_frame=item.number, last_frame=item.number, n=1)
