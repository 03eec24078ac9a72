"""Analyses that hang or fail, and threads that die: told, counted, and never in the way of the end."""

from __future__ import annotations

import threading
import time

from _fake_learner import FakeLearner, fake_analyse, grid_image
from _given import Given
from _running import PATIENCE_S, settings_of, until
from latticewatch.execute import Engine
from latticewatch.execute._workers import FrameBudget, Workers
from latticewatch.ingest import Frame


def frames(n):
    return [Frame(grid_image(), "a", number=i, ordinal=i) for i in range(n)]


def started(tmp_path, items, analyse, **analysis):
    source = Given(items)
    settings = settings_of(tmp_path, analysis={"threads": 2, **analysis})
    engine = Engine(settings, learner=FakeLearner(), analyse=analyse, receiver=source)
    engine.start()
    return engine, source


def test_a_frame_that_hangs_is_given_up_and_the_next_ones_go_on(tmp_path):
    release = threading.Event()

    def analyse(frame, model, settings):
        if frame.ordinal in (4, 5):
            release.wait(PATIENCE_S)
        return fake_analyse(frame, model, settings)

    engine, source = started(tmp_path, frames(12), analyse, frame_limit_s=0.3)
    until(engine, lambda: len(source.finished) == 12)
    assert [reason for _, reason in source.finished] == ["done"] * 4 + ["too slow"] * 2 + ["done"] * 6
    assert engine.alive
    release.set()
    engine.close()


def test_a_service_whose_frames_all_fail_is_not_ready_until_one_goes_through(tmp_path):
    broken = True

    def analyse(frame, model, settings):
        if broken:
            raise RuntimeError("no more memory")
        return fake_analyse(frame, model, settings)

    engine, source = started(tmp_path, frames(12), analyse)
    until(engine, lambda: len(source.finished) == 12)
    assert "no more memory" in (engine.trouble or "")
    broken = False
    source.items = frames(1)
    until(engine, lambda: engine.trouble is None)
    engine.close()


def test_stopping_does_not_wait_for_what_hangs(tmp_path):
    release = threading.Event()

    def analyse(frame, model, settings):
        release.wait(PATIENCE_S)
        return fake_analyse(frame, model, settings)

    engine, source = started(tmp_path, frames(8), analyse)
    until(engine, lambda: len(source.items) <= 5)
    start = time.monotonic()
    engine.stop(patience_s=0.5)
    assert time.monotonic() - start < 5
    assert {reason for _, reason in source.finished} <= {"shutdown"}
    release.set()
    engine.close()


def test_too_many_analyses_that_hang_are_a_fault(tmp_path):
    release = threading.Event()
    workers = Workers(1)
    assert not workers.exhausted
    for _ in range(6):
        job = workers.submit(release.wait, PATIENCE_S)
        while job.started_at is None:
            time.sleep(0.001)
        assert job.abandon()
        workers.replace(job)
    assert workers.exhausted
    release.set()
    until_true(lambda: not workers.exhausted)
    assert workers.submit(lambda: 7).result(PATIENCE_S) == 7
    workers.close()


def until_true(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_budget_follows_what_frames_take_between_its_bounds():
    budget = FrameBudget(30.0)
    assert budget.seconds == 180.0
    budget.add(0.02)
    assert budget.seconds == 30.0
    for _ in range(20):
        budget.add(0.02)
    assert budget.seconds == 5.0
    for _ in range(64):
        budget.add(0.4)
    assert budget.seconds == 20.0
    for _ in range(64):
        budget.add(10.0)
    assert budget.seconds == 30.0
