"""The engine: frames are analysed in threads, and folded into the state in the order in which they came."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel
from threadpoolctl import threadpool_limits

from latticewatch.config import Settings
from latticewatch.errors import LatticewatchError, UnknownClassError
from latticewatch.execute._history import record_of
from latticewatch.execute._meter import Meter
from latticewatch.execute._parts import Analyse, FrameLearner, FrameSource, Log
from latticewatch.execute._prepare import StoppedError, prepare
from latticewatch.execute._report import status_of
from latticewatch.execute._series import OpenSeries
from latticewatch.execute._state import LiveState
from latticewatch.ingest import Found, Frame, Gap, Partial, SeriesEnded, SeriesStarted
from latticewatch.messages import (
    ClassPatch,
    DefectEventData,
    EventType,
    FramesLostData,
    Status,
)
from latticewatch.parallel import working
from latticewatch.statistics import History

if TYPE_CHECKING:
    from latticewatch.pipeline import CatalogueEntry, EventDraft, FrameResult

POLL_S = 0.1
EDIT_TIMEOUT_S = 10.0


class EngineBusyError(LatticewatchError):
    """An edit of the catalogue could not be done in time; nothing was changed, or it will be done late."""


@dataclass(frozen=True, slots=True)
class _Analysed:
    frame: Frame
    analysis: Future[Any]


@dataclass(frozen=True, slots=True)
class _Edit:
    function: Callable[[], Any]
    done: Future[Any]


class Engine:
    """Receiver, threads, learner and event log, from the frame to the published state.

    One thread takes frames from the receiver and hands them to a pool; a queue as long as the pool is wide
    keeps the order; one thread folds, appends events to the log and publishes a `LiveState`. When the queue
    is full the receiver is left alone, and its own mode decides what waits and what is dropped.

    Parameters
    ----------
    settings : Settings
        The configuration.
    learner, analyse, receiver, log : optional
        Parts that take the place of the real ones; see `latticewatch.execute._parts`.
    warm : bool
        Import and compile the analysis after `start`, in a thread, and take frames when that is done, see
        `latticewatch.execute._prepare`; otherwise it is imported here, and compiled when frames come.

    Attributes
    ----------
    state : LiveState
        The newest state; replaced as a whole, so one look at it is consistent.
    history : History
        Statistics over time.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        learner: FrameLearner | None = None,
        analyse: Analyse | None = None,
        receiver: FrameSource | None = None,
        log: Log | None = None,
        warm: bool = False,
    ) -> None:
        if not warm and (learner is None or analyse is None):
            from latticewatch import pipeline

            learner = pipeline.Learner(settings.analysis) if learner is None else learner
            analyse = pipeline.analyse if analyse is None else analyse
        if receiver is None:
            from latticewatch.ingest import Receiver

            receiver = Receiver(settings.ingest)
        self.settings = settings
        self.source = f"/latticewatch/{settings.serve.instrument}"
        self._owns_log = log is None
        if log is None:
            from latticewatch.record import EventLog

            path = settings.record.data_dir / "events.sqlite"
            log = EventLog(path, self.source, settings.record.max_events)
        self.log: Log = log
        self.receiver: FrameSource = receiver
        self.meter = Meter()
        self.history = History()
        self.state = LiveState(as_of_seq=log.last_seq)
        # Set by `_adopt`, before the first frame is taken.
        self._learner: FrameLearner
        self._analyse: Analyse
        self._ready = threading.Event()
        self._limits = contextlib.ExitStack()
        if learner is not None and analyse is not None:
            self._adopt(learner, analyse)
        else:
            self.state = replace(self.state, starting="starting")
        threads = settings.analysis.threads
        # As many as the pool is wide: with fewer it idles while a frame takes longer than others, with more frames only
        # grow old. Measured at 20 ms to analyse and 8 ms to fold, each by ± 40 %: 83, 94, 96 frames/s for 1, 2, 3.
        self._work: queue.Queue[
            _Analysed | _Edit | SeriesStarted | SeriesEnded | Gap | Found | Partial | None
        ] = queue.Queue(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="analyse")
        self._series = OpenSeries(settings.ingest.stall_after_s)
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._stopping = threading.Event()
        self._preparing: threading.Thread | None = None
        self._hold_lock = threading.Lock()
        self._holding: frozenset[str] = frozenset()
        self._drain = False
        self._errors = 0
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatch", daemon=True)
        self._folder = threading.Thread(target=self._fold_all, name="fold", daemon=True)
        self._logger = structlog.get_logger("latticewatch.execute")

    # Life

    def start(self) -> None:
        """Open the receiver and start the threads."""
        self.receiver.start()
        if self.ready:
            self._limit_blas()
        else:
            self._hold("starting", True)
        self._folder.start()
        self._dispatcher.start()

    def _limit_blas(self) -> None:
        # Our threads are the parallelism: BLAS threads beside them only get in each other's way. This holds for the
        # libraries that are loaded now, and threadpoolctl lets only one of our threads set it.
        self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))

    def _adopt(self, learner: FrameLearner, analyse: Analyse) -> None:
        self._learner, self._analyse, self._model = learner, analyse, learner.model
        self._ready.set()

    def stop(self, drain: bool = False) -> None:
        """Stop for good; every frame that was received is analysed or counted as dropped when this returns.

        Parameters
        ----------
        drain : bool
            Analyse the frames that wait in the receiver; otherwise they are dropped, reason ``shutdown``.
        """
        if self._stopping.is_set():
            return
        self._drain = drain
        self._stopping.set()
        if self._dispatcher.ident is not None:
            self._dispatcher.join()
            if self._preparing is not None:
                self._preparing.join()
            self._work.put(None)
            self._folder.join()
            self._limits.close()
        self.receiver.close()
        self._pool.shutdown()

    def close(self) -> None:
        """Close the event log if it was made here; it can be read until then."""
        self.stop()
        if self._owns_log:
            self.log.close()

    @property
    def alive(self) -> bool:
        """Whether both threads run."""
        return self._dispatcher.is_alive() and self._folder.is_alive()

    # What is known now

    @property
    def last_frame_age_s(self) -> float | None:
        """Time since the last frame was received [s]."""
        return self.receiver.last_frame_age_s

    @property
    def sources(self) -> tuple[str, ...]:
        """Where frames come from, with the ports that the sockets really have."""
        return tuple(getattr(self.receiver, "endpoints", ())) or self.settings.ingest.sources

    def status(self) -> Status:
        """State of the stream."""
        return status_of(self, self.state)

    @property
    def ready(self) -> bool:
        """Whether frames are taken, or would be if some came."""
        return self._ready.is_set()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, from the folding thread, after each new state; returns what ends it."""
        self._listeners = (*self._listeners, callback)

        def unsubscribe() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not callback)

        return unsubscribe

    # Edits of the catalogue, from any thread

    def edit(self, class_id: int, patch: ClassPatch) -> CatalogueEntry:
        """Rename a class, set its role, merge others into it; unknown classes are refused at once.

        Raises
        ------
        UnknownClassError
            A class that the catalogue does not hold.
        ValueError
            A merge of a class into itself, or what the learner refuses.
        EngineBusyError
            Not done within `EDIT_TIMEOUT_S`.
        """
        return self._on_fold_thread(lambda: self._edit(class_id, patch))

    def relearn(self) -> None:
        """Throw the classes away and start a new learning phase.

        Raises
        ------
        EngineBusyError
            Not done within `EDIT_TIMEOUT_S`.
        """
        self._on_fold_thread(self._relearn)

    def _on_fold_thread(self, function: Callable[[], Any]) -> Any:
        if not self.ready:
            raise EngineBusyError("the service is starting; try again when its phase is another one")
        done: Future[Any] = Future()
        deadline = time.monotonic() + EDIT_TIMEOUT_S
        busy = EngineBusyError(f"the service was busy for {EDIT_TIMEOUT_S:g} s or is stopping; try again")
        try:
            if not self.alive or self._stopping.is_set():
                raise busy
            self._work.put(_Edit(function, done), timeout=EDIT_TIMEOUT_S)
            return done.result(timeout=max(0.0, deadline - time.monotonic()))
        except (queue.Full, TimeoutError) as error:
            # An edit that has begun cannot be called back; one that still waits is.
            done.cancel()
            raise busy from error

    def _edit(self, class_id: int, patch: ClassPatch) -> CatalogueEntry:
        known = {entry.class_id: entry for entry in self.state.catalogue}
        others = sorted(set(patch.merge or ()))
        for wanted in (class_id, *others):
            if wanted not in known:
                raise UnknownClassError(f"class {wanted}: not in the catalogue, which holds {sorted(known)}")
        if class_id in others:
            raise ValueError(f"class {class_id}: cannot be merged into itself; leave it out of merge")
        entry = known[class_id]
        if others:
            entry = self._learner.merge(class_id, others)
        if patch.role is not None:
            entry = self._learner.set_role(class_id, patch.role)
        if patch.name is not None:
            entry = self._learner.rename(class_id, patch.name)
        state = replace(self.state.with_entry(entry, others), model_version=self._version())
        self._publish(state, self._learner.take_events())
        return entry

    def _relearn(self) -> None:
        self._learner.relearn()
        self._publish(self.state.unlearnt(self._version()), self._learner.take_events())

    def _version(self) -> int:
        # Without a model the last version stays in force: it names what came before.
        return getattr(self._learner.model, "version", self.state.model_version)

    # The dispatching thread

    def _dispatch(self) -> None:
        try:
            if not self.ready:
                self._prepare()
            while not self._stopping.is_set():
                self._take(POLL_S)
            if self._drain and self.ready:
                # No more than what waits now: a sender that goes on must not keep the service from ending.
                for _ in range(self.receiver.counts().in_flight):
                    self._take(0.0)
        except Exception:
            # What the service knows can still be read; /healthz says that it takes no more frames.
            self._logger.exception("no more frames are taken")
        # What still waits is dropped and counted by the receiver, reason "shutdown".
        self.receiver.close()

    def _prepare(self) -> None:
        try:
            learner, analyse, rest = prepare(
                self.settings.analysis, self._say_starting, self._limit_blas, self._stopping.is_set
            )
        except StoppedError:
            return
        self._say_starting(None)
        self._adopt(learner, analyse)
        self._preparing = threading.Thread(target=self._finish, args=[rest], name="prepare", daemon=True)
        self._preparing.start()

    def _finish(self, rest: Callable[[], None]) -> None:
        try:
            rest()
        except StoppedError:
            pass
        except Exception:
            # Nothing is lost: it is done when it is asked for.
            self._logger.exception("loading ahead failed")
        finally:
            # Beside it frames are analysed at half the pace.
            self._hold("starting", False)

    def _hold(self, why: str, holding: bool) -> None:
        """Let more frames wait than otherwise while there is a reason to."""
        with self._hold_lock:
            self._holding = self._holding | {why} if holding else self._holding - {why}
            self.receiver.hold(bool(self._holding))

    def _say_starting(self, what: str | None) -> None:
        # The folding thread publishes nothing before the first item, and there is none yet.
        self._show(replace(self.state, starting=what))

    def _take(self, timeout: float) -> None:
        item = self.receiver.get(timeout)
        if isinstance(item, Frame):
            item = _Analysed(item, self._pool.submit(self._run, item))
        if item is not None:
            self._work.put(item)

    def _run(self, frame: Frame) -> Any:
        return self._analyse(frame, self._model, self.settings.analysis)

    # The folding thread

    def _fold_all(self) -> None:
        tick_s = min(0.25, self.settings.ingest.stall_after_s / 4)
        while True:
            try:
                item = self._work.get(timeout=tick_s)
            except queue.Empty:
                item = ()
            if item is None:
                break
            try:
                self._fold_one(item)
            except Exception:
                self._logger.exception("item skipped", item=type(item).__name__)
        try:
            self._tell(self._series.end_all("service stopped"))
        except LatticewatchError:
            self._logger.exception("end of the series not written")

    def _fold_one(
        self, item: _Analysed | _Edit | SeriesStarted | SeriesEnded | Gap | Found | Partial | tuple[()]
    ) -> None:
        now = time.monotonic()
        match item:
            case _Analysed():
                self._fold(item)
                self._model = self._learner.model
            case _Edit():
                if item.done.set_running_or_notify_cancel():
                    try:
                        item.done.set_result(item.function())
                    except Exception as error:  # noqa: BLE001 - belongs to the thread that waits for it
                        item.done.set_exception(error)
                    self._model = self._learner.model
            case SeriesStarted():
                self._tell(self._series.start(item, now))
            case SeriesEnded():
                self._tell(self._series.end(item))
            case Gap():
                self._tell([("frames.lost", _lost(item))])
            case Partial():
                self._show_partial(item)
            case Found():
                self._tell([("frames.found", _found(item))])
        self._tell(self._series.check(self.last_frame_age_s, now))

    def _fold(self, item: _Analysed) -> None:
        frame = item.frame
        try:
            # Before the analysis is awaited: what people see first is that the series has begun.
            self._tell(self._series.frame(frame.series_id, frame.number, time.monotonic()))
            analysis = item.analysis.result()
            with working():
                results = self._folded(analysis)
                drafts = [draft for result in results for draft in result.events]
                state = self.state.with_result(results[-1]) if results else self.state
                self._publish(state, [*drafts, *self._learner.take_events()])
                for result in results:
                    self._remember(result, frame)
        except Exception as error:  # noqa: BLE001 - a frame that cannot be analysed is counted and skipped
            self._drop(frame, error)
            return
        self.meter.add(time.time() - frame.t_received)
        self.receiver.done(frame)
        for result in results:
            self._log_learnt(result)

    def _show_partial(self, item: Partial) -> None:
        """A frame that is still being scanned, in the place of the newest one's picture."""
        result = self.state.result
        if result is None or (result.series_id, result.shape) != (item.series_id, item.image.shape):
            return
        from latticewatch.pipeline import counts_and_picture

        picture = counts_and_picture(item.image)[1]
        state = replace(self.state, partials=self.state.partials + 1)
        self._show(replace(state, result=replace(result, picture=picture)))

    def _folded(self, analysis: Any) -> list[FrameResult]:
        """Fold; while that discovers classes, which takes seconds, more frames may wait than otherwise."""
        result, needed = self.state.result, self.settings.analysis.learning_frames
        gathered = result.learning[0] if result is not None else 0
        if self._learner.model is not None or gathered + 1 < needed:
            return self._learner.fold(analysis)
        self._hold("learning", True)
        self._show(replace(self.state, busy="discovering classes"))
        try:
            return self._learner.fold(analysis)
        finally:
            self._hold("learning", False)

    def _remember(self, result: FrameResult, frame: Frame) -> None:
        if not result.classes:
            # What is learnt next has other tracks and classes.
            self.history.interrupt()
        elif result.lattice_found:
            self.history.add(record_of(result, frame.dose_e_per_a2))

    def _drop(self, frame: Frame, error: Exception) -> None:
        self._errors += 1
        # The trace of the first, second, fourth, eighth …: a stream of bad frames fills no disk.
        trace = error if self._errors & (self._errors - 1) == 0 else None
        self._logger.error(
            "frame dropped", series=frame.series_id, frame=frame.number, error=repr(error), exc_info=trace
        )
        self.receiver.dropped(frame, "error")

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

    def _tell(self, drafts: Sequence[tuple[EventType, BaseModel]]) -> None:
        if not drafts:
            return
        for kind, data in drafts:
            # The receiver has logged the rest.
            if kind in ("stream.stalled", "stream.resumed"):
                self._logger.warning(kind, **data.model_dump(exclude_none=True))
        self._append_and_publish(self.state, drafts)

    def _publish(self, state: LiveState, drafts: Sequence[EventDraft]) -> None:
        self._append_and_publish(state, [(draft.type, draft.data) for draft in drafts])

    def _append_and_publish(self, state: LiveState, drafts: Sequence[tuple[EventType, BaseModel]]) -> None:
        # Events first: whoever sees the state can read what led to it.
        if drafts:
            now = time.time()
            self.log.append([(kind, _emitted(data, now)) for kind, data in drafts])
        self._show(
            replace(
                state,
                busy=None,
                as_of_seq=self.log.last_seq,
                series_id=self._series.series_id,
                stalled=self._series.stalled,
            )
        )

    def _show(self, state: LiveState) -> None:
        self.state = replace(state, number=self.state.number + 1)
        for callback in self._listeners:
            callback()


def _lost(gap: Gap) -> FramesLostData:
    return FramesLostData(series_id=gap.series_id, first_frame=gap.first, last_frame=gap.last, n=gap.n)


def _found(item: Found) -> FramesLostData:
    return FramesLostData(series_id=item.series_id, first_frame=item.number, last_frame=item.number, n=1)


def _emitted(data: BaseModel, now: float) -> BaseModel:
    return data.model_copy(update={"t_emitted": now}) if isinstance(data, DefectEventData) else data
