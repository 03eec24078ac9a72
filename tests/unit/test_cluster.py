"""Frames analysed by Dask workers: the same results as in threads, and none lost with a worker."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from latticewatch.cli import main
from latticewatch.config import AnalysisSettings
from latticewatch.errors import ConfigurationError
from latticewatch.execute import Executor, Runner, executor_of
from latticewatch.execute._dask import analyse_there
from latticewatch.ingest import Frame
from latticewatch.pipeline import Classified, Learner, analyse
from latticewatch.pipeline._analyse import flat_image
from latticewatch.pipeline._follow import patches_of
from latticewatch_simulator import Microscope, SimulatorSettings

distributed = pytest.importorskip("distributed")

LEARNING = 2


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    settings = SimulatorSettings.checked(
        shape=(240, 240), pixel_size_nm=0.02, births_per_frame=0.5, dose_e_per_a2=2e5, seed=5
    )
    scope = Microscope(settings, "s")
    return [scope.acquire().image for _ in range(24)]


def said_by(
    images: list[np.ndarray], executor: str, at: Callable[[int], object] = lambda number: None
) -> list:
    """Everything that a run says, in order; `at` is called after each frame."""
    settings = AnalysisSettings(learning_frames=LEARNING, executor=executor)
    learner = Learner(settings, patient=True)
    stream = [Frame(image, "s", n, n, pixel_size_nm=0.02) for n, image in enumerate(images)]
    said: list = []
    used: Executor = executor_of(settings, analyse)
    # as in the workers, and wherever frames are folded: two threads of BLAS round otherwise than one
    with threadpool_limits(limits=1, user_api="blas"), closing(used):  # type: ignore[type-var]
        for frame, results in Runner(used, lambda: learner).results(stream, LEARNING):
            said += [(r.number, r.sites.confidence.tobytes(), r.sites.track.tobytes()) for r in results]
            drafts = [event for result in results for event in result.events]
            said += [
                (event.type, event.data.model_dump_json()) for event in (*drafts, *learner.take_events())
            ]
            at(frame.number)
    return said


@pytest.fixture
def worker_here() -> Iterator[str]:
    """A scheduler and a worker in this process, who talk through a socket all the same."""
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


def test_frames_that_went_through_a_socket_give_what_threads_give(images, worker_here):
    assert said_by(images[:6], worker_here) == said_by(images[:6], "threads")


def test_a_worker_keeps_its_images_and_what_is_asked_of_them_is_the_same(images):
    settings = AnalysisSettings(learning_frames=LEARNING)
    learner = Learner(settings, patient=True)
    frames = [Frame(image, "s", n, n, pixel_size_nm=0.02) for n, image in enumerate(images[:4])]
    for frame in frames[:3]:
        learner.fold(analyse(frame, learner.model, settings))
    frame, model = frames[3], learner.model
    here = analyse(frame, model, settings)
    there, _ = analyse_there(replace(frame, image=frame.image[:0, :0]), frame.image, model, settings)
    assert isinstance(here, Classified)
    assert isinstance(there, Classified)
    kept = 2 * here.image.nbytes + here.survey.moments.nbytes
    assert len(pickle.dumps(there)) < len(pickle.dumps(here)) - kept
    there = replace(there, frame=frame, model=here.model)
    assert np.array_equal(flat_image(there), here.survey.flat.image)
    rows = np.flatnonzero(here.sites.sublattice == 0).tolist()
    assert np.array_equal(patches_of(there)(rows, 15), patches_of(here)(rows, 15))


@pytest.fixture
def used_here(worker_here, images) -> Iterator[tuple]:
    """An executor, a model, and so many frames for it."""
    settings = AnalysisSettings(learning_frames=LEARNING, executor=worker_here)
    learner = Learner(settings, patient=True)
    frames = [Frame(image, "s", n, n, pixel_size_nm=0.02) for n, image in enumerate(images[:6])]
    for frame in frames[:LEARNING]:
        learner.fold(analyse(frame, learner.model, settings))
    with closing(executor_of(settings, analyse)) as executor:  # type: ignore[type-var]
        yield executor, learner.model, frames


def test_a_frame_is_handed_over_without_waiting_and_the_model_once(used_here, monkeypatch):
    executor, model, frames = used_here
    scatter, sent, taken = executor._client.scatter, [], threading.Event()

    async def busy(what, **options):
        sent.append(what)
        while not taken.is_set():
            await asyncio.sleep(0.01)
        return await scatter(what, **options)

    monkeypatch.setattr(executor._client, "scatter", busy)
    jobs = [executor.submit(frame, model) for frame in frames]
    taken.set()
    analyses = [job.result(60.0) for job in jobs]
    assert [one.frame.number for one in analyses] == [frame.number for frame in frames]
    assert sum(what is model for what in sent) == 1


def test_a_frame_that_is_not_wanted_any_more_takes_none_of_the_others_along(used_here):
    executor, model, frames = used_here
    jobs = [executor.submit(frame, model) for frame in frames]
    jobs[0].cancel()
    jobs[3].cancel()
    for job in (jobs[1], jobs[2], jobs[4], jobs[5]):
        assert isinstance(job.result(60.0), Classified)


def test_an_error_of_the_analysis_is_that_of_the_frame(used_here):
    executor, model, frames = used_here
    job = executor.submit(replace(frames[0], image=np.zeros(3, np.float32)), model)
    with pytest.raises(Exception, match=r"."):
        job.result(60.0)
    assert isinstance(executor.submit(frames[1], model).result(60.0), Classified)


def test_an_address_at_which_nobody_answers_ends_the_start_with_one_line(monkeypatch):
    monkeypatch.setattr("latticewatch.execute._dask.CONNECT_S", 0.2)
    settings = AnalysisSettings(executor="dask://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=r"dask://127\.0\.0\.1:9: no scheduler answers"):
        executor_of(settings, analyse)


@pytest.mark.slow
def test_with_a_worker_process_killed_in_the_middle_no_frame_is_lost_and_all_events_are_the_same(images):
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        with distributed.Client(cluster, set_as_default=False) as client:
            workers = list(client.run(os.getpid).values())

        def kill(number: int) -> None:
            if number == 9:
                os.kill(workers[0], signal.SIGKILL)

        address = cluster.scheduler_address.replace("tcp://", "dask://")
        said = said_by(images, address, kill)
    assert len(workers) == 2
    assert said == said_by(images, "threads")


# What only a clock says.
CLOCK = re.compile(rb'"(?:time|t_received|t_emitted|t_acquired)": ?(?:"[^"]*"|[0-9.e+-]+)')


def told_by(stack: Path, out: Path, *options: str) -> bytes:
    """``events.jsonl`` of `analyse`, without what only a clock says."""
    with pytest.raises(SystemExit) as ended:
        main(["analyse", str(stack), "--out", str(out), "--no-figures", *options])
    assert ended.value.code in (0, None)
    return CLOCK.sub(b"", (out / "events.jsonl").read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [2, 4])
def test_events_of_worker_processes_are_those_of_threads_byte_for_byte_but_for_times(
    images, workers, tmp_path
):
    stack = tmp_path / "stack.npz"
    np.savez(stack, frames=np.stack(images), pixel_size_nm=0.02)
    threads = told_by(stack, tmp_path / "threads")
    assert threads.count(b"\n") > 20
    with distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        assert told_by(stack, tmp_path / "dask", "--executor", address) == threads
