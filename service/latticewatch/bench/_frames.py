"""Whole frames, one at a time: from decoded to classified and tracked, with the share of each stage."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latticewatch.bench._results import FrameTimes, Spread, Stage
from latticewatch.bench._script import Script
from latticewatch.bench._turns import MAX_REPEATS, MIN_REPEATS, SPIN_S, WARM_UP_S
from latticewatch.config import AnalysisSettings
from latticewatch.errors import NoLatticeError
from latticewatch.execute import Runner, Threads
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse

# Frames that are analysed before it counts: the first one after learning makes tables and tracks.
WARM_UP_FRAMES = 2
# Frames that count in a turn, and how often the script does one in its own; what each does at first, after the other's
# turn, does not count.
FRAMES_TOGETHER = 8
SCRIPT_TOGETHER = 2
# What the stages do not say: the frame's result, and whatever lies between the stages.
REST = "rest"


def measure_frames(
    images: NDArray[np.uint16],
    pixel_size_nm: float,
    seconds: float,
    script: Script | None = None,
    learning_frames: int = 2,
) -> FrameTimes:
    """Times of frames of one size, once the model is learnt.

    Parameters
    ----------
    images : ndarray of shape (n, height, width)
        Successive frames; they are taken to and fro.
    pixel_size_nm : float
    seconds : float
        How long to measure, learning not counted [s].
    script : Script or None
        Measured beside it, in turn.
    learning_frames : int
        Frames learnt from.

    Returns
    -------
    FrameTimes

    Raises
    ------
    NoLatticeError
        The frames show no lattice.
    """
    settings = AnalysisSettings(learning_frames=learning_frames, threads=1)
    with closing(Threads(analyse, settings)) as executor:
        return _measured(Learner(settings), executor, images, pixel_size_nm, seconds, script)


def _measured(
    learner: Learner,
    executor: Threads,
    images: NDArray[np.uint16],
    pixel_size_nm: float,
    seconds: float,
    script: Script | None,
) -> FrameTimes:
    runner = Runner(executor, lambda: learner)
    frames = _to_and_fro(images, pixel_size_nm)
    # As in the service; the script has all cores for its products.
    with threadpool_limits(1, user_api="blas"):
        for frame in itertools.islice(frames, learner.settings.learning_frames + WARM_UP_FRAMES):
            _seconds_of(frame, runner)
    model = learner.model
    if model is None:
        rows, cols = images[0].shape
        raise NoLatticeError(f"frames of {rows} x {cols} px show no lattice to learn; give a larger size")
    follow = None
    if script is not None:
        follow = script.learn(
            images[0].astype(np.float32), model.lattice.nearest_neighbour_px, model.patch_px
        )

    taken: list[dict[str, float]] = []
    script_taken: list[dict[str, float]] = []
    sites = 0
    end = time.perf_counter() + seconds
    for repeat in range(MAX_REPEATS):
        with threadpool_limits(1, user_api="blas"):
            warm_at = time.perf_counter() + WARM_UP_S
            while time.perf_counter() < warm_at:
                _seconds_of(next(frames), runner)
            for frame in itertools.islice(frames, FRAMES_TOGETHER):
                stages, sites = _seconds_of(frame, runner)
                taken.append(stages)
        if follow is not None:
            decoded = next(frames).image.astype(np.float32)
            follow(decoded)
            script_taken += [follow(decoded) for _ in range(SCRIPT_TOGETHER)]
            time.sleep(SPIN_S)
        if repeat + 1 >= MIN_REPEATS and time.perf_counter() > end:
            break
    ms = _total(taken)
    script_ms = _total(script_taken) if script_taken else None
    return FrameTimes(
        shape_px=images.shape[1:],
        sites=sites,
        patch_px=model.patch_px,
        ms=ms,
        frames_per_s=1e3 / ms.median,
        stages=_stages(taken),
        script_ms=script_ms,
        script_stages=_stages(script_taken),
        ratio=None if script_ms is None else script_ms.median / ms.median,
    )


def _to_and_fro(images: NDArray[np.uint16], pixel_size_nm: float) -> Iterator[Frame]:
    """Frames without end and without a jump: to the last image, and back again."""
    path = itertools.cycle([*range(len(images)), *range(len(images) - 2, 0, -1)])
    for number, i in enumerate(path):
        yield Frame(images[i], "bench", number, number, pixel_size_nm=pixel_size_nm)


def _seconds_of(frame: Frame, runner: Runner) -> tuple[dict[str, float], int]:
    """Seconds of each stage, which add up to those of the frame; and its number of sites."""
    start = time.perf_counter()
    ((_, results),) = runner.results([frame])
    total = time.perf_counter() - start
    stages = {name: ms / 1e3 for name, ms in results[-1].timings_ms.items()}
    return {**stages, REST: max(total - sum(stages.values()), 0.0)}, len(results[-1].sites)


def _total(taken: list[dict[str, float]]) -> Spread:
    return Spread.of([sum(stages.values()) for stages in taken], 1e3)


def _stages(taken: list[dict[str, float]]) -> list[Stage]:
    """Each stage in the order of the first frame; a stage that some frames skip took no time in them."""
    names = list(dict.fromkeys(name for stages in taken for name in stages))
    if REST in names:
        names.append(names.pop(names.index(REST)))
    whole = sum(sum(stages.values()) for stages in taken)
    stages = []
    for name in names:
        values = [one.get(name, 0.0) for one in taken]
        ms = Spread.of(values, 1e3)
        stages.append(Stage(name, ms, 1e3 / ms.median if ms.median else None, sum(values) / whole))
    return stages
