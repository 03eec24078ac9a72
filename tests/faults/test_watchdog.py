"""Analyses that hang or fail, and threads that die: told, counted, and never in the way of the end."""

from __future__ import annotations

import threading
import time

import pytest

from _fake_learner import FakeLearner, fake_analyse, grid_image
from _given import Given
from _running import PATIENCE_S, running, settings_of, until
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


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_readiness_goes_down_with_the_analysis_and_comes_back(tmp_path, how):
    broken, release = False, threading.Event()

    def analyse(frame, model, settings):
        if broken and how == "raises":
            raise RuntimeError("no more memory")
        if broken:
            release.wait(PATIENCE_S)
        return fake_analyse(frame, model, settings)

    # more threads than analyses that hang here: those are replaced, too many would end the process
    limits = {"frame_limit_s": 0.05, "threads": 8}
    with running(tmp_path, analyse=analyse, analysis=limits) as live:
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        assert live.http.get("/readyz").status_code == 200
        broken = True
        live.sender.send(grid_image(), n=10)
        live.until(lambda: sum(live.engine.receiver.counts().dropped.values()) == 10)
        assert live.http.get("/healthz").status_code == 200
        reply = live.http.get("/readyz")
        assert reply.status_code == 503
        assert "could not be analysed" in reply.json()["detail"]
        broken = False
        release.set()
        live.sender.send(grid_image())
        live.analysed(4)
        assert live.http.get("/readyz").status_code == 200


def test_health_says_that_too_many_analyses_hang(tmp_path):
    broken, release = False, threading.Event()

    def analyse(frame, model, settings):
        if broken:
            release.wait(PATIENCE_S)
        return fake_analyse(frame, model, settings)

    with running(tmp_path, analyse=analyse, analysis={"frame_limit_s": 0.05, "threads": 1}) as live:
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        broken = True
        live.sender.send(grid_image(), n=10)
        live.until(lambda: not live.engine.alive)
        for probe in ("/healthz", "/readyz"):
            reply = live.http.get(probe)
            assert (reply.status_code, reply.json()["detail"]) == (503, "too many analyses hang")
        release.set()


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
