"""Threads that analyse: jobs in, results out in the order in which they were asked for; one that hangs is replaced."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from latticewatch.errors import LatticewatchError
from latticewatch.parallel import wanted_while

# A frame may take this many times what frames usually take, and at least so long [s]; never longer than the limit.
TIMES_TYPICAL = 50.0
LEAST_S = 5.0
# Frames after which it is known what frames usually take.
KNOWN_FRAMES = 8
# Until the first one is through, kernels may have to be compiled.
FIRST_TIMES = 6.0
# Abandoned analyses that may still run beside this many workers; with more, the machine has nothing left for frames.
ABANDONED_PER_WORKER = 4


class TooSlowError(LatticewatchError):
    """A frame took longer than it may; it is no longer waited for."""


class Job:
    """One analysis, waiting, running or done."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._lock = threading.Lock()
        self._future: Future[Any] = Future()
        self.started_at: float | None = None
        self.abandoned = False
        self.cancelled = False
        self.seconds = 0.0

    def begin(self) -> bool:
        """Whether it is still to be done; from now on it cannot be cancelled."""
        with self._lock:
            if self.abandoned or self.cancelled:
                return False
            self.started_at = time.monotonic()
            return True

    def run(self) -> None:
        """Do it, in the thread of a worker."""
        if self.started_at is None and not self.begin():
            return
        assert self.started_at is not None
        try:
            with wanted_while(lambda: not self.abandoned):
                value, error = self._function(*self._arguments), None
        except BaseException as raised:  # noqa: BLE001 - belongs to the thread that waits for it
            value, error = None, raised
        self.seconds = time.monotonic() - self.started_at
        with self._lock:
            if self.abandoned:
                return
            if error is None:
                self._future.set_result(value)
            else:
                self._future.set_exception(error)

    def cancel(self) -> bool:
        """Do not begin with it; false where that is too late."""
        with self._lock:
            self.cancelled = self.started_at is None
            return self.cancelled

    def abandon(self) -> bool:
        """Wait for it no longer; false where it is done after all."""
        with self._lock:
            self.abandoned = not self._future.done()
            return self.abandoned

    def result(self, limit_s: float | None, waiting: Callable[[], bool] = lambda: True) -> Any:
        """What the analysis gives.

        Parameters
        ----------
        limit_s : float or None
            From when a worker began with it [s]; None for as long as it takes.
        waiting : callable
            Whether it is still wanted; looked at ten times a second.

        Raises
        ------
        TooSlowError
            It took longer, or is no longer wanted.
        """
        while True:
            left = 0.1
            if limit_s is not None and self.started_at is not None:
                left = min(left, self.started_at + limit_s - time.monotonic())
            try:
                return self._future.result(timeout=max(left, 0.0))
            except TimeoutError:
                if self._future.done():
                    return self._future.result()
            if (left <= 0 or not waiting()) and self.abandon():
                limit = "" if limit_s is None else f" took longer than {limit_s:.1f} s, and"
                raise TooSlowError(f"analysis{limit} was abandoned")


class Workers:
    """A fixed number of threads, each of which can be given up and replaced.

    Parameters
    ----------
    n : int
        Jobs that run side by side.

    Notes
    -----
    A thread of Python cannot be ended from outside. A search for a lattice notices that it is not wanted any more, and
    ends. What hangs is left behind, as a daemon that dies with the process; `exhausted` says when so many were that the
    process should be started anew.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._left_behind: list[threading.Thread] = []
        self._running: dict[Job, threading.Thread] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Have a function called in one of the threads."""
        if len(self._threads) < self._n:
            self._add()
        job = Job(function, arguments)
        self._jobs.put(job)
        return job

    def replace(self, job: Job) -> None:
        """Leave behind the thread that an abandoned job runs in, and put another one in its place."""
        thread = self._running.pop(job, None)
        if thread is None:
            return
        self._left_behind = [one for one in self._left_behind if one.is_alive()] + [thread]
        if thread in self._threads:
            self._threads.remove(thread)
            self._add()

    @property
    def left_behind(self) -> int:
        """Threads that still hang in an analysis nobody waits for."""
        return sum(one.is_alive() for one in self._left_behind)

    @property
    def exhausted(self) -> bool:
        """Whether more threads hang than may."""
        return self.left_behind > ABANDONED_PER_WORKER * self._n

    def close(self) -> None:
        """Let the threads end when they have nothing left to do; those that hang are not waited for."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads = []

    def _add(self) -> None:
        thread = threading.Thread(target=self._work, name="analyse", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.begin():
                continue
            self._running[job] = threading.current_thread()
            job.run()
            self._running.pop(job, None)
            if job.abandoned:
                return


class FrameBudget:
    """How long a frame may take: many times what frames usually take, and never longer than a limit.

    Parameters
    ----------
    limit_s : float
        The limit [s].
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seconds: deque[float] = deque(maxlen=64)

    def add(self, seconds: float) -> None:
        """A frame took so long [s]."""
        self._seconds.append(seconds)

    @property
    def seconds(self) -> float:
        """What the next frame may take [s]."""
        if not self._seconds:
            return FIRST_TIMES * self._limit_s
        if len(self._seconds) < KNOWN_FRAMES:
            return self._limit_s
        return min(self._limit_s, max(LEAST_S, TIMES_TYPICAL * statistics.median(self._seconds)))
