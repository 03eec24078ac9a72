"""A file through the pipeline: the frames are learnt from first, then classified in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import FileSeries, Frame
from latticewatch.pipeline import EventDraft, FrameResult, Learner, analyse


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
    """
    start = time.perf_counter()
    needed = min(settings.learning_frames, len(series))
    settings = settings.model_copy(update={"learning_frames": needed})
    learner = Learner(settings)
    results: dict[int, FrameResult] = {}
    events: list[tuple[EventDraft, int]] = []

    def take(folded: list[FrameResult], number: int) -> None:
        for result in folded:
            results[result.number] = result
            events.extend((event, result.number) for event in result.events)
        events.extend((event, number) for event in learner.take_events())
        if progress is not None:
            progress(len(results))

    image = np.zeros((0, 0), np.uint8)
    # our threads are the parallelism: BLAS threads beside them only get in each other's way
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(settings.threads) as pool:
        waiting: list[tuple[int, Frame]] = []
        for number, image in enumerate(series):
            waiting.append((number, _frame(series, image, number)))
            batch = settings.threads if learner.model is not None else 1
            if len(waiting) >= batch:
                _fold(waiting, learner, settings, pool, take)
        _fold(waiting, learner, settings, pool, take)
        take(learner.finish_learning(), len(series) - 1)
    ordered = tuple(results[number] for number in sorted(results))
    return AnalysedFile(series, ordered, tuple(events), image, time.perf_counter() - start)


def _fold(
    waiting: list[tuple[int, Frame]],
    learner: Learner,
    settings: AnalysisSettings,
    pool: ThreadPoolExecutor,
    take: Callable[[list[FrameResult], int], None],
) -> None:
    """Analyse the frames that wait, side by side, and fold them in order."""
    futures = [pool.submit(analyse, frame, learner.model, settings) for _, frame in waiting]
    for (number, _), future in zip(waiting, futures, strict=True):
        take(learner.fold(future.result()), number)
    waiting.clear()


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
