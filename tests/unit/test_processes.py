"""Frames analysed in processes of this machine: the same results as in threads, and none lost with a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.execute import Runner, executor_of
from latticewatch.execute._common import CommonMemory, new_descriptor
from latticewatch.execute._processes import AnalysisError, Processes
from latticewatch.execute._workers import TooSlowError
from latticewatch.ingest import Frame
from latticewatch.pipeline import Classified, Learner, analyse
from latticewatch.pipeline._analyse import flat_image
from latticewatch.pipeline._carrier import STAYING, carrier
from latticewatch.pipeline._pack import Packer, Shared
from latticewatch_simulator import Microscope, SimulatorSettings

LEARNING = 2
WAIT_S = 120.0


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    settings = SimulatorSettings.checked(
        shape=(240, 240), pixel_size_nm=0.02, births_per_frame=0.5, dose_e_per_a2=2e5, seed=5
    )
    scope = Microscope(settings, "s")
    return [Frame(scope.acquire().image, "s", n, n, pixel_size_nm=0.02) for n in range(24)]


@pytest.fixture(scope="module")
def model(frames):
    settings = AnalysisSettings(learning_frames=LEARNING)
    learner = Learner(settings, patient=True)
    with threadpool_limits(limits=1, user_api="blas"):
        for frame in frames[:LEARNING]:
            learner.fold(analyse(frame, learner.model, settings))
    return learner.model


def here(*_: object) -> None:
    raise AssertionError("analysed in this process")


@pytest.fixture(scope="module")
def processes(frames, model) -> Iterator[Processes]:
    """One process, which is ready; nothing is analysed here."""
    settings = AnalysisSettings(learning_frames=LEARNING, executor="processes", threads=1)
    with closing(Processes(analyse, settings)) as executor:
        executor.submit(frames[0], model).result(WAIT_S)
        until(lambda: executor.ready == 1)
        executor._here = here
        yield executor


def until(so) -> None:
    end = time.monotonic() + WAIT_S
    while not so():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def child_of(executor: Processes) -> int:
    (one,) = executor._all
    return one._process.pid


def said_by(frames: list[Frame], executor: str, at=lambda used, number: None) -> list:
    """Everything that a run says, in order; `at` is called after each frame."""
    settings = AnalysisSettings(learning_frames=LEARNING, executor=executor, threads=2)
    learner = Learner(settings, patient=True)
    said: list = []
    used = executor_of(settings, analyse)
    with threadpool_limits(limits=1, user_api="blas"), closing(used):  # type: ignore[type-var]
        for frame, results in Runner(used, lambda: learner).results(frames, LEARNING):
            said += [(r.number, r.sites.confidence.tobytes(), r.sites.track.tobytes()) for r in results]
            drafts = [event for result in results for event in result.events]
            said += [
                (event.type, event.data.model_dump_json()) for event in (*drafts, *learner.take_events())
            ]
            at(used, frame.number)
    return said


def test_processes_say_what_threads_say_and_none_is_lost_with_one_that_is_killed(frames):
    seen = []

    def at(used: Processes, number: int) -> None:
        if number == 5:
            until(lambda: used.ready >= 1)
        if number == 12:
            one = next(one for one in used._all if one._models)
            os.kill(one._process.pid, signal.SIGKILL)
            seen.append(len(one._models))

    assert said_by(frames, "processes", at) == said_by(frames, "threads")
    assert seen
    assert seen[0] > 0


def test_what_comes_back_is_what_an_analysis_here_gives(processes, frames, model):
    settings = AnalysisSettings(learning_frames=LEARNING)
    with threadpool_limits(limits=1, user_api="blas"):
        own = analyse(frames[4], model, settings)
    found = processes.submit(frames[4], model).result(WAIT_S)
    assert isinstance(found, Classified)
    assert found.frame is frames[4]
    assert found.model is model
    assert np.array_equal(found.verdict.posterior, own.verdict.posterior)
    assert np.array_equal(found.picture, own.picture)
    assert np.array_equal(found.patches.moments, own.patches.moments)
    assert found.image.shape == own.image.shape
    with threadpool_limits(limits=1, user_api="blas"):
        assert np.array_equal(flat_image(found), own.survey.flat.image)


def test_any_type_and_order_of_pixels_goes_there(processes, frames, model):
    image = frames[4].image
    own = processes.submit(frames[4], model).result(WAIT_S)
    for other in (image.astype(">u2"), image.astype(np.float64), np.asfortranarray(image), image[::1, ::1]):
        found = processes.submit(replace(frames[4], image=other), model).result(WAIT_S)
        assert np.array_equal(found.sites.position, own.sites.position)


def test_an_error_of_the_analysis_is_that_of_the_frame(processes, frames, model):
    job = processes.submit(replace(frames[0], image=np.zeros(3, np.float32)), model)
    with pytest.raises(AnalysisError, match=r"\w+: ."):
        job.result(WAIT_S)
    assert isinstance(processes.submit(frames[1], model).result(WAIT_S), Classified)


def test_what_is_not_wanted_any_more_ends_with_its_process(processes, frames, model, monkeypatch):
    monkeypatch.setattr("latticewatch.execute._processes.AGAIN_S", 0.0)
    hung = child_of(processes)
    os.kill(hung, signal.SIGSTOP)
    job = processes.submit(frames[2], model)
    with pytest.raises(TooSlowError):
        job.result(0.3)
    processes.replace(job)
    until(lambda: processes.ready == 1)
    assert child_of(processes) != hung
    assert not os.path.exists(f"/proc/{hung}")  # noqa: PTH110
    assert isinstance(processes.submit(frames[3], model).result(WAIT_S), Classified)


def test_until_one_is_ready_frames_are_analysed_here(frames, model, monkeypatch):
    monkeypatch.setattr(
        "latticewatch.execute._processes.COMMAND", [sys.executable, "-c", "raise SystemExit(3)"]
    )
    asked = []

    def analysed_here(*arguments):
        asked.append(1)
        return analyse(*arguments)

    settings = AnalysisSettings(learning_frames=LEARNING, executor="processes", threads=1)
    with closing(Processes(analysed_here, settings)) as executor:
        for frame in frames[:3]:
            assert isinstance(executor.submit(frame, model).result(WAIT_S), Classified)
        assert len(asked) == 3


def test_they_end_with_the_process_that_asked_even_when_it_is_killed():
    program = (
        "import sys, time\n"
        "from latticewatch.config import AnalysisSettings\n"
        "from latticewatch.execute._processes import Analyser\n"
        "one = Analyser()\n"
        "one.start(AnalysisSettings())\n"
        "print(one._process.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        child = int(asking.stdout.readline())
        os.kill(child, 0)
        asking.kill()

    def gone() -> bool:
        try:
            with open(f"/proc/{child}/stat") as file:  # noqa: PTH123
                return file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    until(gone)


@dataclass(frozen=True, eq=False)
class Part:
    value: int
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class Whole:
    part: Part
    number: int


def test_a_part_that_stays_is_sent_once_and_is_one_object_there():
    packer, known, held = Packer((Part, Whole)), Shared((Part,), kept=2), {}
    part = Part(7, np.arange(1000.0))

    def sent(value):
        for number in known.begin():
            del held[number]
        parts, n_text = packer.parts(value, known)
        data = b"".join(parts)
        return packer.value_of(data, n_text, held), len(data)

    (first, size), (second, again) = sent(Whole(part, 1)), sent(Whole(part, 2))
    assert second.part is first.part
    assert (second.part.value, second.number) == (7, 2)
    assert np.array_equal(first.part.pixels, part.pixels)
    assert again < size - part.pixels.nbytes
    # what three values in a row did not hold is let go, here and there
    for number in range(3):
        sent(Whole(Part(number, np.zeros(1)), number))
    assert len(held) <= 4
    assert sent(Whole(part, 3))[0].part is not first.part


def test_a_model_that_followed_the_stream_shares_its_lattice_with_the_one_before(model):
    known, held = Shared(STAYING, kept=4), {}
    sizes, there = [], []
    for version in (model, replace(model, version=model.version + 1)):
        known.begin()
        parts, n_text = carrier.parts(version, known)
        sizes.append(sum(memoryview(part).nbytes for part in parts))
        there.append(carrier.value_of(b"".join(parts), n_text, held))
    assert there[0].lattice is there[1].lattice
    assert there[0].sublattices[0].templates is there[1].sublattices[0].templates
    assert sizes[1] < 0.2 * sizes[0]
    assert there[1].version == model.version + 1


def test_memory_in_common_grows_and_keeps_what_is_in_it():
    one = CommonMemory(new_descriptor())
    other = CommonMemory(os.dup(one.descriptor))
    try:
        one.grow(10)
        n = one.put(3, [b"abc", memoryview(b"defg")])
        one.grow(2**23)
        other.follow(one.size)
        assert n == 7
        assert bytes(other.part(3, n)) == b"abcdefg"
        other.put(2**23, [bytes(2**23)])
        one.follow(other.size)
        assert bytes(one.part(3, n)) == b"abcdefg"
    finally:
        os.close(one.descriptor)
        os.close(other.descriptor)
