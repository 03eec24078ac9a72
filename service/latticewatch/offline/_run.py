"""A file through the pipeline: the frames are learnt from first, then classified in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.errors import FileError
from latticewatch.execute import Runner, executor_of
from latticewatch.ingest import FileSeries, Frame
from latticewatch.offline._checkpoint import RunState
from latticewatch.pipeline import EventDraft, FrameResult, Learner, analyse, cannot_learn

NO_PICTURE = np.zeros((0, 0), np.uint8)
# Frames whose results wait for the end of a learning phase; of a file that shows no lattice, the oldest go first.
MAX_PENDING = 512


@dataclass(frozen=True, slots=True, eq=False)
class AnalysedFile:
    """What a file holds.

    Attributes
    ----------
    series : FileSeries
    results : tuple of FrameResult
        One for each frame, in order.
    events : tuple of tuple of (EventDraft, int)
        Every event with the number of the frame that brought it.
    last_image : ndarray of shape (height, width)
        The last frame, as it was recorded.
    seconds : float
        Wall time.
    """

    series: FileSeries
    results: tuple[FrameResult, ...]
    events: tuple[tuple[EventDraft, int], ...]
    last_image: NDArray[np.generic]
    seconds: float


class Keeper(Protocol):
    """Keeps where an analysis is, now and then; see `latticewatch.offline.ResultWriter`."""

    @property
    def due(self) -> bool:
        """Whether it is time for it."""
        ...

    def keep(self, run: RunState) -> None:
        """Keep it."""
        ...


def analyse_file(
    series: FileSeries, settings: AnalysisSettings, progress: Callable[[int], None] | None = None
) -> AnalysedFile:
    """Analyse every frame of a file.

    Parameters
    ----------
    series : FileSeries
    settings : AnalysisSettings
        Of a file with fewer frames than ``learning_frames``, all are learnt from.
    progress : callable, optional
        Called with the number of frames done.

    Returns
    -------
    AnalysedFile
    """
    results: list[FrameResult] = []
    events: list[tuple[EventDraft, int]] = []
    start = time.perf_counter()
    image = run_file(
        series, settings, results.append, lambda event, number: events.append((event, number)), progress
    )
    return AnalysedFile(series, tuple(results), tuple(events), image, time.perf_counter() - start)


def run_file(
    series: FileSeries,
    settings: AnalysisSettings,
    on_result: Callable[[FrameResult], None],
    on_event: Callable[[EventDraft, int], None],
    progress: Callable[[int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_damage: Callable[[FileError], None] | None = None,
    keeper: Keeper | None = None,
    start: RunState | None = None,
) -> NDArray[np.generic]:
    """Analyse every frame of a file and hand on each result once, in order, as soon as it is final.

    Parameters
    ----------
    series : FileSeries
    settings : AnalysisSettings
        Of a file with fewer frames than ``learning_frames``, all are learnt from.
    on_result : callable
        Called with the result of each frame, without its picture.
    on_event : callable
        Called with each event and the number of the frame that brought it.
    progress : callable, optional
        Called with the number of frames analysed.
    stopped : callable, optional
        Asked before each frame; whatever was analysed until then is still handed on.
    on_damage : callable, optional
        Called where a frame cannot be read, which ends the analysis as `stopped` does; without it, that is raised.
    keeper : Keeper, optional
        Told where the analysis is, when it is due and where it ends early.
    start : RunState, optional
        Where to go on, with the same results as if there had been no end; without it, at the first frame.

    Returns
    -------
    ndarray of shape (height, width)
        The last frame that was analysed, as it was recorded.
    """
    needed = min(settings.learning_frames, len(series))
    settings = settings.model_copy(update={"learning_frames": needed})
    learner = Learner(settings, patient=True)
    # results of a learning phase, which come again with classes when it ends
    pending: dict[int, FrameResult] = {}
    first = done = next_number = 0
    if start is not None:
        first = done = start.frames
        pending = {result.number: result for result in start.pending}
        next_number = min(pending, default=done)

    def hand_on(keep: int) -> None:
        nonlocal next_number
        while len(pending) > keep:
            number = min(pending)
            on_result(_explained(pending.pop(number), learner))
            next_number = number + 1

    def take(folded: list[FrameResult], number: int) -> None:
        for result in folded:
            for event in result.events:
                on_event(event, result.number)
            if result.number >= next_number:
                # a picture for each of thousands of frames would be all of the memory
                pending[result.number] = replace(result, picture=NO_PICTURE)
        for event in learner.take_events():
            on_event(event, number)
        hand_on(MAX_PENDING if learner.model is None else 0)

    def frames() -> Iterator[Frame]:
        for number in range(first, len(series)):
            if stopped():
                return
            try:
                image = series.frame(number)
            except FileError as error:
                if on_damage is None:
                    raise
                on_damage(error)
                return
            yield _frame(series, image, number)

    def keep(runner: Runner) -> None:
        known = learner.state() if 0 < done < len(series) else None
        if keeper is not None and known is not None:
            keeper.keep(RunState(done, known, runner.state(), list(pending.values())))

    image: NDArray[np.generic] = np.zeros((0, 0), np.uint8) if start is None else series.frame(first - 1)
    # our threads are the parallelism: BLAS threads beside them only get in each other's way
    with threadpool_limits(limits=1, user_api="blas"), closing(executor_of(settings, analyse)) as executor:
        runner = Runner(executor, lambda: learner)
        if start is not None:
            learner.go_on(start.learner, lambda number: _frame(series, series.frame(number), number))
            runner.go_on(start.runner)
        for frame, folded in runner.results(frames(), learner.wanted):
            image, done = frame.image, frame.number + 1
            take(folded, frame.number)
            if progress is not None:
                progress(done)
            if keeper is not None and keeper.due:
                keep(runner)
        keep(runner)
        take(learner.finish_learning(), max(done - 1, 0))
        hand_on(0)
        if progress is not None:
            progress(done)
    return image


def _explained(result: FrameResult, learner: Learner) -> FrameResult:
    """A result that is final; one without classes says why, which was no matter while more frames could come."""
    if result.classes or result.notes:
        return result
    why = "the frame does not show the lattice that others have taught"
    if learner.model is None:
        why = "there were not enough that show one lattice"
    return replace(result, notes=(learner.trouble or cannot_learn(why),))


def _frame(series: FileSeries, image: NDArray[np.generic], number: int) -> Frame:
    return Frame(
        image=image,
        series_id=series.path.stem,
        number=number,
        ordinal=number,
        t_received=time.time(),
        t_acquired=series.t_acquired(number),
        pixel_size_nm=series.pixel_size_nm,
    )
