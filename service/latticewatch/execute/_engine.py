"""The engine: its parts wired together, started, watched and stopped."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from threadpoolctl import threadpool_limits

from latticewatch.config import Settings
from latticewatch.errors import ConfigurationError, FileError
from latticewatch.execute._edits import Edits
from latticewatch.execute._executors import MOST_SLOTS, Executor, executor_of
from latticewatch.execute._fold import Folder
from latticewatch.execute._intake import Holding, Intake, Preparation
from latticewatch.execute._meter import Meter
from latticewatch.execute._operation import Operation
from latticewatch.execute._parts import Analyse, FrameLearner, FrameSource, Log
from latticewatch.execute._publisher import Publisher
from latticewatch.execute._report import Vitals, status_of
from latticewatch.execute._runner import Runner
from latticewatch.execute._series import Data
from latticewatch.execute._state import LiveState
from latticewatch.messages import ClassPatch, ClassSplit, Status
from latticewatch.statistics import History

if TYPE_CHECKING:
    from latticewatch.model import Model
    from latticewatch.pipeline import CatalogueEntry, SavedModel
    from latticewatch.record import Recorder

# Frames in a row that could not be analysed, after which the service is not ready.
FAILURES = 10
# The folding thread hangs when one item takes this many times the time limit of a frame.
STUCK_TIMES = 10.0
# How long each step of stopping may take [s]; what hangs then is left behind, as a daemon.
STOP_STEP_S = 1.5


class Engine:
    """Receiver, workers, learner and event log, from the frame to the published state.

    One thread takes frames from the receiver and hands them to workers; a queue as long as there are workers
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
            kept = settings.record
            log = EventLog(path, self.source, kept.max_events, kept.max_age_days, kept.max_mib)
        self.log: Log = log
        self.receiver: FrameSource = receiver
        self._start = None if settings.analysis.model is None else _read_model(settings.analysis.model)
        self._publisher = Publisher(log)
        # Set by `_adopt`, before the first frame is taken.
        self._learner: FrameLearner
        self._runner: Runner
        self._executor: Executor | None = None
        at_once = min(settings.analysis.threads + (settings.analysis.executor == "processes"), MOST_SLOTS)
        if settings.analysis.executor.startswith("dask:"):
            from latticewatch import pipeline

            # a cluster that does not answer stops the start
            self._executor = executor_of(settings.analysis, pipeline.analyse)
            # one waits before the queue and one behind it
            at_once = max(self._executor.slots - 2, 1)
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._limits = contextlib.ExitStack()
        # As many as there are workers: with fewer they idle while a frame takes longer than others, with more frames
        # only grow old. Measured at 20 ms to analyse and 8 ms to fold, each by ± 40 %: 83, 94, 96 frames/s for 1, 2, 3.
        work: queue.Queue[Any] = queue.Queue(at_once)
        self._work = work
        self._hold = Holding(receiver)
        self._folding = Folder(
            settings,
            work,
            self._publisher,
            receiver,
            self._hold,
            lambda: self._learner,
            lambda: self._runner,
        )
        self._recorder = self._folding.recorder = self._make_recorder()
        self._intake = Intake(receiver, work, lambda frame: self._runner.submit(frame), self._stopping)
        self._preparation = Preparation(
            settings.analysis,
            self._say_starting,
            self._limit_blas,
            self._stopping,
            self._hold,
            kept=log.keeps("model"),
            seen=lambda: self.state.result is not None,
        )
        self._edits = Edits(work, self._publisher, lambda: self._learner, self._refusal)
        if learner is not None and analyse is not None:
            self._adopt(learner, analyse)
        else:
            self._say_starting("starting")
        self._drain = False
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatch", daemon=True)
        self._folder = threading.Thread(target=self._folding.run, name="fold", daemon=True)
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

    def stop(self, drain: bool = False, patience_s: float | None = None) -> None:
        """Stop for good; every frame that was received is analysed or counted as dropped when this returns.

        Parameters
        ----------
        drain : bool
            Analyse the frames that wait in the receiver; otherwise they are dropped, reason ``shutdown``.
        patience_s : float, optional
            Wait no longer than this for each thread [s]; one that hangs is left behind, and the frames that it has
            stay in flight.
        """
        if self._stopping.is_set():
            return
        self._drain = drain
        self._stopping.set()
        if self._dispatcher.ident is not None:
            self._dispatcher.join(patience_s)
            if self._dispatcher.is_alive():
                # It waits for a queue that a frame which hangs does not empty.
                self._folding.give_up()
                self._dispatcher.join(patience_s)
            self._preparation.join(patience_s)
            with contextlib.suppress(queue.Full):
                self._work.put(None, timeout=patience_s)
            self._folder.join(patience_s)
            if self._folder.is_alive():
                self._folding.give_up()
                self._folder.join(patience_s)
            if self._folder.is_alive():
                self._logger.error("a thread hangs, and is left behind")
            self._limits.close()
        self.receiver.close()
        if self._executor is not None:
            self._executor.close()
        if self._recorder is not None:
            self._recorder.close(patience_s)

    def close(self) -> None:
        """Close the event log if it was made here; it can be read until then."""
        self.stop()
        if self._owns_log:
            self.log.close()

    @property
    def alive(self) -> bool:
        """Whether frames are taken and folded: both threads run, and neither they nor the workers hang."""
        return self._dispatcher.is_alive() and self._folder.is_alive() and self.fault is None

    @property
    def fault(self) -> str | None:
        """What only a restart of the process mends."""
        since = self._folding.since
        limit_s = STUCK_TIMES * self.settings.analysis.frame_limit_s
        if since is not None and time.monotonic() - since > limit_s:
            return f"the thread that folds has hung for more than {limit_s:g} s"
        if self._executor is not None and self._executor.exhausted:
            return "too many analyses hang"
        return None

    @property
    def trouble(self) -> str | None:
        """What keeps the service from doing its work just now; None where all is well."""
        if self._dispatcher.ident is not None and not self._stopping.is_set() and not self.alive:
            return self.fault or "a thread of the engine has ended; restart the service"
        if self._publisher.trouble is not None:
            return f"events cannot be stored: {self._publisher.trouble}"
        if self._folding.failures >= FAILURES:
            return (
                f"the last {self._folding.failures} frames could not be analysed: {self._folding.last_error}"
            )
        return None

    # What is known now

    @property
    def state(self) -> LiveState:
        """The newest state; replaced as a whole, so one look at it is consistent."""
        return self._publisher.state

    @property
    def meter(self) -> Meter:
        """Latency and rate."""
        return self._folding.meter

    @property
    def history(self) -> History:
        """Statistics over time."""
        return self._folding.history

    @property
    def last_frame_age_s(self) -> float | None:
        """Time since the last frame was received [s]."""
        return self.receiver.last_frame_age_s

    @property
    def sources(self) -> tuple[str, ...]:
        """Where frames come from, with the ports that the sockets really have."""
        return tuple(getattr(self.receiver, "endpoints", ())) or self.settings.ingest.sources

    def status(self, state: LiveState | None = None) -> Status:
        """State of the stream; of a state that was looked at before, or of the newest.

        Parameters
        ----------
        state : LiveState, optional

        Returns
        -------
        Status
        """
        vitals = Vitals(
            stream=self.log.stream,
            source=self.source,
            sources=self.sources,
            learning_frames=self.settings.analysis.learning_frames,
            frames=self.receiver.counts(),
            fps=self.meter.fps,
            latency_ms=self.meter.latency_ms(),
            last_frame_age_s=self.last_frame_age_s,
            first_seq=self.log.first_seq,
            last_seq=self.log.last_seq,
            trouble=self.trouble,
            refused=getattr(self.receiver, "notes", tuple)(),
            recording=self._recorder.status if self._recorder is not None else None,
        )
        return status_of(vitals, state or self.state)

    @property
    def operation(self) -> Operation:
        """What an operator watches beside the state."""
        return Operation(
            writes_failed=self._publisher.failures,
            events_waiting=self._publisher.waiting,
            events_lost=self._publisher.lost,
            told=dict(self._publisher.told),
            stored_age_s=self._folding.stored_age_s,
            queued=self._work.qsize(),
            hanging=0 if self._executor is None else self._executor.hanging,
        )

    @property
    def ready(self) -> bool:
        """Whether frames are taken, or would be if some came."""
        return self._ready.is_set()

    def placed(self, data: Data) -> Data:
        """Data of an event with the series, source and detector that it belongs to; from any thread.

        Parameters
        ----------
        data : EventData

        Returns
        -------
        EventData
            Of the same type; what is known already stays.
        """
        return self._folding.series.placed(data)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, from the folding thread, after each new state.

        Parameters
        ----------
        callback : callable
            Called without arguments; it must return at once.

        Returns
        -------
        callable
            Ends it, when called without arguments.
        """
        return self._publisher.subscribe(callback)

    # Edits of the catalogue, from any thread

    def edit(self, class_id: int, patch: ClassPatch) -> CatalogueEntry:
        """Rename a class, set its role, merge others into it; unknown classes are refused at once.

        Parameters
        ----------
        class_id : int
        patch : ClassPatch
            Name, role or classes to merge; what is not set stays.

        Returns
        -------
        CatalogueEntry
            As it is now.

        Raises
        ------
        UnknownClassError
            A class that the catalogue does not hold.
        ValueError
            A merge of a class into itself, or what the learner refuses.
        EngineBusyError
            Not done in time, or not stored.
        """
        return self._edits.edit(class_id, patch)

    def split(self, class_id: int, wanted: ClassSplit) -> CatalogueEntry:
        """Make some sites of a class one of their own; the new class.

        Parameters
        ----------
        class_id : int
        wanted : ClassSplit
            Line round the sites that are meant, in a layout of the plane, and a name.

        Returns
        -------
        CatalogueEntry

        Raises
        ------
        UnknownClassError
            A class that the catalogue does not hold.
        ValueError
            The layout is not kept any more, or a frame cannot tell these sites from the others.
        EngineBusyError
            Not done in time, or not stored.
        """
        return self._edits.split(class_id, wanted)

    def relearn(self) -> None:
        """Throw the classes away and start a new learning phase.

        Raises
        ------
        EngineBusyError
            Not done in time, or not stored.
        """
        self._edits.relearn()

    def saved_model(self) -> bytes | None:
        """The model in force as a file, see `latticewatch.pipeline.write_model`; None where nothing is learnt."""
        model = self._learner.model if self.ready else None
        if model is None:
            return None
        from latticewatch.pipeline import write_model

        result = self.state.result
        return write_model(model, self.log.stream, None if result is None else result.pixel_size_nm)

    def load_model(self, saved: SavedModel) -> Model:
        """Take up a model of another day; the one in force is remembered.

        Parameters
        ----------
        saved : SavedModel

        Returns
        -------
        Model
            In force now.

        Raises
        ------
        EngineBusyError
            Not done in time, or not stored.
        """
        return self._edits.load(saved)

    # Wiring

    def _refusal(self) -> str | None:
        if not self.ready:
            return "the service is starting; try again when its phase is another one"
        if not self.alive or self._stopping.is_set():
            return "the service is stopping; try again"
        return None

    def _make_recorder(self) -> Recorder | None:
        if self.settings.record.recording is None:
            return None
        from latticewatch.record import recorder_of

        about = {
            "source": self.source,
            "stream": self.log.stream,
            "analysis": self.settings.analysis.model_dump(mode="json"),
        }
        recorder = recorder_of(self.settings.record, lambda: about)
        if recorder is not None:
            self._publisher.tell(recorder.tell)
        return recorder

    def _limit_blas(self) -> None:
        # Our threads are the parallelism: BLAS threads beside them only get in each other's way. This holds for the
        # libraries that are loaded now, and threadpoolctl lets only one of our threads set it.
        self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))

    def _adopt(self, learner: FrameLearner, analyse: Analyse) -> None:
        self._folding.restore(learner, self.log.kept)
        if self._start is not None:
            self._folding.start_from(learner, *self._start)
        self._learner = learner
        if self._executor is None:
            self._executor = executor_of(self.settings.analysis, analyse)
        self._runner = Runner(self._executor, lambda: learner)
        self._runner.adopt()
        self._ready.set()

    def _say_starting(self, what: str | None) -> None:
        # The folding thread publishes nothing before the first item, and there is none yet.
        self._publisher.show(replace(self.state, starting=what))

    def _dispatch(self) -> None:
        try:
            if not self.ready:
                self._preparation.run(self._adopt)
            if self.ready:
                self._intake.run()
                if self._drain:
                    self._intake.drain()
        except Exception:
            # What the service knows can still be read; /healthz says that it takes no more frames.
            self._logger.exception("no more frames are taken")
        # What still waits is dropped and counted by the receiver, reason "shutdown".
        self.receiver.close()


def _read_model(path: Path) -> tuple[SavedModel, str]:
    """A model to start from, and what its file is known by."""
    from latticewatch.pipeline import MAX_FILE_BYTES, read_model

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        return read_model(data, trial=False), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}; give a model to start from") from error
    except FileError as error:
        raise ConfigurationError(f"{path}: {error}") from error
