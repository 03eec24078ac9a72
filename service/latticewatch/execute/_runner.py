"""Frames in, results in their order: the one loop of the service, of `analyse` and of the benchmark.

Frames are analysed side by side and out of order by an executor, and folded one after another. Which version of the
model a frame is analysed with is a matter of its place in the stream and of nothing else: neither of the number of
workers, nor of how fast they are, nor of where they run. So the same frames give the same results, bit for bit.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from latticewatch.execute._executors import MOST_SLOTS, Executor, Pending
from latticewatch.execute._parts import FrameLearner
from latticewatch.execute._workers import TooSlowError
from latticewatch.ingest import Frame
from latticewatch.parallel import working

# A frame is analysed with the model as it was so many frames before it: as many may be under way at once. The model
# follows the stream with a half-life of 60 frames, and classes that are born are known to the very next frame.
LAG = MOST_SLOTS + 2


class Submitted:
    """A frame, and its analysis, which may still be under way."""

    __slots__ = ("frame", "job", "model", "outdated")

    def __init__(self, frame: Frame, model: Any, job: Pending) -> None:
        self.frame, self.model, self.job = frame, model, job
        # Analyses with classes that are no longer those of the model, begun already.
        self.outdated: list[Pending] = []


class Runner:
    """Analyses frames side by side, and hands each analysis over in its turn.

    `submit` may be called from another thread than the rest.

    Parameters
    ----------
    executor : Executor
        Where frames are analysed; closed by whoever made it.
    learner : callable
        The learner, which is folded into in the thread that takes the turns.

    Notes
    -----
    Frame *k* is analysed with the model as it was after ``max(k - LAG, c)`` frames, where *c* frames had been folded
    when its classes last changed. What was under way with other classes is analysed again.
    """

    def __init__(self, executor: Executor, learner: Callable[[], FrameLearner]) -> None:
        self._executor, self._learner = executor, learner
        self._lock = threading.Lock()
        self._under_way: deque[Submitted] = deque()
        self._submitted = self._folded = 0
        # The model after the first `_since` frames, after one more, and so on to now.
        self._models: deque[Any] = deque([None])
        self._since = 0

    def submit(self, frame: Frame) -> Submitted:
        """Have a frame analysed; its turn comes after those of the frames before it.

        Parameters
        ----------
        frame : Frame

        Returns
        -------
        Submitted
            For `turn`.
        """
        with self._lock:
            place = max(self._submitted - LAG, self._since)
            model = self._models[min(place - self._since, len(self._models) - 1)]
            item = Submitted(frame, model, self._executor.submit(frame, model))
            self._submitted += 1
            self._under_way.append(item)
        return item

    @contextlib.contextmanager
    def turn(
        self,
        item: Submitted,
        limit_s: float | None = None,
        waiting: Callable[[], bool] = lambda: True,
    ) -> Iterator[Any]:
        """Wait for an analysis, which is folded within the block, or not at all.

        Parameters
        ----------
        item : Submitted
            The oldest that had no turn yet.
        limit_s : float, optional
            Longest time of the analysis [s]; without it, as long as it takes.
        waiting : callable, optional
            Whether it is still wanted.

        Yields
        ------
        Analysis

        Raises
        ------
        TooSlowError
            It took longer; what it runs in is replaced.
        """
        try:
            for job in (*item.outdated, item.job):
                try:
                    analysis = job.result(limit_s, waiting)
                except TooSlowError:
                    self._executor.replace(job)
                    raise
                except Exception:
                    if job is item.job:
                        raise
            yield analysis  # pyright: ignore[reportPossiblyUnboundVariable]
        finally:
            with self._lock:
                # those before it had no turn, and will have none
                while self._under_way.popleft() is not item:
                    self._folded += 1
                self._folded += 1
                self._note()

    def adopt(self) -> None:
        """The learner has another model, which no frame brought: the next frames are analysed with it."""
        with self._lock:
            # in the place of what there was: an edit shows in the next frame
            self._restart(self._learner().model)

    def state(self) -> dict[str, Any]:
        """The models that the next frames are analysed with, and after how many frames each of them was in force."""
        with self._lock:
            return {"folded": self._folded, "models": self._models, "since": self._since}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on with the frame after those that had been folded, before anything is submitted.

        Parameters
        ----------
        state : mapping
            As `state` gave it, perhaps in another process.
        """
        self._submitted = self._folded = state["folded"]
        self._models, self._since = state["models"], state["since"]

    def results(self, frames: Iterable[Frame], learning_frames: int = 1) -> Iterator[tuple[Frame, list[Any]]]:
        """Run frames through, as many at once as the executor takes.

        Parameters
        ----------
        frames : iterable of Frame
            Taken one by one, a few ahead.
        learning_frames : int
            Frames that a learning phase takes: no more than it still needs are analysed ahead of it.

        Yields
        ------
        frame : Frame
        results : list of FrameResult
            What folding it gave, see `latticewatch.pipeline.Learner.fold`.
        """
        waiting: deque[Submitted] = deque()
        needed = learning_frames
        source = iter(frames)
        try:
            while True:
                slots = self._executor.slots
                if self._learner().model is None:
                    slots = max(min(slots, needed), 1)
                while len(waiting) < slots and (frame := next(source, None)) is not None:
                    waiting.append(self.submit(frame))
                if not waiting:
                    return
                item = waiting.popleft()
                with self.turn(item) as analysis, working():
                    folded = self._learner().fold(analysis)
                if folded:
                    gathered, wanted = folded[-1].learning
                    needed = wanted - gathered
                yield item.frame, folded
        finally:
            for item in waiting:
                item.job.cancel()

    def _note(self) -> None:
        """Take note of the model after one more frame."""
        learner = self._learner()
        if not learner.fits(self._models[-1]):
            self._restart(learner.model)
            return
        self._models.append(learner.model)
        while len(self._models) > LAG + 1:
            self._models.popleft()
            self._since += 1

    def _restart(self, model: Any) -> None:
        """Frames from here on, and those under way with other classes, are analysed with this model."""
        self._models, self._since = deque([model]), self._folded
        learner = self._learner()
        for item in self._under_way:
            if learner.fits(item.model):
                continue
            if not item.job.cancel():
                item.outdated.append(item.job)
            item.model, item.job = model, self._executor.submit(item.frame, model)
