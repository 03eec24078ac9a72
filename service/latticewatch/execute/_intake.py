"""Frames from the receiver into the queue of work, each with its analysis under way."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from latticewatch.config import AnalysisSettings
from latticewatch.execute._parts import Analyse, FrameLearner, FrameSource
from latticewatch.execute._prepare import StoppedError, prepare
from latticewatch.execute._runner import Submitted
from latticewatch.ingest import Frame

POLL_S = 0.1
# For so long the first frame is waited for, before what is left is loaded beside those that come [s].
FIRST_FRAME_S = 5.0

log = structlog.get_logger("latticewatch.execute")


class Holding:
    """Lets more frames wait in the receiver while there is a reason to."""

    def __init__(self, receiver: FrameSource) -> None:
        self._receiver = receiver
        self._lock = threading.Lock()
        self._reasons: frozenset[str] = frozenset()

    def __call__(self, why: str, holding: bool) -> None:
        """Hold, or hold no longer, for this reason."""
        with self._lock:
            self._reasons = self._reasons | {why} if holding else self._reasons - {why}
            self._receiver.hold(bool(self._reasons))


class Intake:
    """Takes frames and has them analysed, until it is told to stop.

    Parameters
    ----------
    receiver : FrameSource
    work : queue.Queue
        Takes what the receiver gives, in its order; when it is full the receiver is left alone.
    submit : callable
        Has a frame analysed.
    stopping : threading.Event
    """

    def __init__(
        self,
        receiver: FrameSource,
        work: queue.Queue[Any],
        submit: Callable[[Frame], Submitted],
        stopping: threading.Event,
    ) -> None:
        self._receiver, self._work = receiver, work
        self._submit, self._stopping = submit, stopping

    def run(self) -> None:
        """Take frames until the service stops."""
        while not self._stopping.is_set():
            self._take(POLL_S)

    def drain(self) -> None:
        """Take what waits now, and no more: a sender that goes on must not keep the service from ending."""
        for _ in range(self._receiver.counts().in_flight):
            self._take(0.0)

    def _take(self, timeout: float) -> None:
        item = self._receiver.get(timeout)
        if isinstance(item, Frame):
            item = self._submit(item)
        if item is not None:
            self._work.put(item)


class Preparation:
    """Loads and compiles the analysis while the service already answers.

    Parameters
    ----------
    settings : AnalysisSettings
    say : callable
        Called with what is being done; None when frames can be taken.
    loaded : callable
        See `latticewatch.execute._prepare.prepare`.
    stopping : threading.Event
    hold : Holding
    kept : bool
        Whether a model is there to go on with: then nothing is loaded beside the first frame, which shows it again.
    seen : callable
        Whether a frame was analysed.
    """

    def __init__(
        self,
        settings: AnalysisSettings,
        say: Callable[[str | None], None],
        loaded: Callable[[], None],
        stopping: threading.Event,
        hold: Holding,
        kept: bool,
        seen: Callable[[], bool],
    ) -> None:
        self._settings, self._say, self._loaded = settings, say, loaded
        self._stopping, self._hold = stopping, hold
        self._kept, self._seen = kept, seen
        self._thread: threading.Thread | None = None

    def run(self, adopt: Callable[[FrameLearner, Analyse], None]) -> None:
        """Prepare, hand over what was prepared, and go on with the rest in a thread of its own."""
        try:
            learner, analyse, rest = prepare(
                self._settings, self._say, self._loaded, self._stopping.is_set, self._kept
            )
        except StoppedError:
            return
        adopt(learner, analyse)
        self._say(None)
        self._thread = threading.Thread(target=self._finish, args=[rest], name="prepare", daemon=True)
        self._thread.start()

    def join(self, timeout: float | None) -> None:
        """Wait for the rest."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _finish(self, rest: Callable[[], None]) -> None:
        try:
            self._let_pass()
            rest()
        except StoppedError:
            pass
        except Exception:
            # Nothing is lost: it is done when it is asked for.
            log.exception("loading ahead failed")
        finally:
            # Beside it frames are analysed at half the pace.
            self._hold("starting", False)

    def _let_pass(self) -> None:
        """Where a model was kept, wait for the first frame if one comes soon: beside it all takes twice as long."""
        until = time.monotonic() + FIRST_FRAME_S
        while self._kept and not self._seen() and time.monotonic() < until:
            if self._stopping.wait(POLL_S):
                return
