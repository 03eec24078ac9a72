"""The engine's parts: order, rates, series, states."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from _fake_learner import HOST, VACANCY, FakeLearner, fake_analyse, grid_image
from _given import Given
from _running import PATIENCE_S, settings_of, until
from latticewatch.errors import LatticewatchError, UnknownClassError
from latticewatch.execute import Engine, EngineBusyError, Meter
from latticewatch.execute._prepare import StoppedError
from latticewatch.execute._series import OpenSeries
from latticewatch.ingest import Frame, SeriesEnded, SeriesStarted
from latticewatch.messages import ClassPatch, StreamEventData


def warm_engine(tmp_path, monkeypatch, prepare):
    monkeypatch.setattr("latticewatch.execute._intake.prepare", prepare)
    source = Given(frames(3))
    return Engine(settings_of(tmp_path), receiver=source, warm=True), source


def frames(n, image=None):
    image = grid_image() if image is None else image
    return [Frame(image, "a", number=i, ordinal=i) for i in range(n)]


def run(tmp_path, items, analyse=fake_analyse, learner=None, log=None, threads=2):
    source = Given(items)
    learner = learner or FakeLearner()
    settings = settings_of(tmp_path, analysis={"threads": threads})
    engine = Engine(settings, learner=learner, analyse=analyse, receiver=source, log=log)
    engine.start()
    return engine, source


def test_frames_are_folded_in_order_though_later_ones_are_analysed_first(tmp_path):
    later_done = threading.Event()
    folded = []

    def analyse(frame, model, settings):
        if frame.ordinal == 0:
            assert later_done.wait(PATIENCE_S)
        else:
            later_done.set()
        return fake_analyse(frame, model, settings)

    class Noting(FakeLearner):
        def fold(self, analysis):
            folded.append(analysis.frame.ordinal)
            return super().fold(analysis)

    engine, source = run(tmp_path, frames(6), analyse, Noting())
    until(engine, lambda: len(source.finished) == 6)
    engine.close()
    assert folded == list(range(6))


def test_a_frame_that_fails_in_the_analysis_or_in_the_fold_is_dropped_and_the_next_goes_on(tmp_path):
    def analyse(frame, model, settings):
        if frame.ordinal == 1:
            raise ZeroDivisionError
        return fake_analyse(frame, model, settings)

    class Failing(FakeLearner):
        def fold(self, analysis):
            if analysis.frame.ordinal == 2:
                raise np.linalg.LinAlgError("singular")
            return super().fold(analysis)

    engine, source = run(tmp_path, frames(5), analyse, Failing())
    until(engine, lambda: len(source.finished) == 5)
    engine.close()
    assert source.finished == [(0, "done"), (1, "error"), (2, "error"), (3, "done"), (4, "done")]


def test_a_log_that_cannot_be_written_does_not_end_the_service_and_no_frame_is_lost(tmp_path):
    class Full:
        stream, first_seq, last_seq = "x", 1, 0

        def append(self, drafts, kept):
            raise LatticewatchError("disk full")

        def kept(self, name):
            return None

        def keeps(self, name):
            return False

        def close(self):
            pass

    engine, source = run(tmp_path, [SeriesStarted("a", "announced"), *frames(4)], log=Full())
    until(engine, lambda: len(source.finished) == 4)
    assert engine.alive
    assert "disk full" in (engine.status().degraded or "")
    engine.close()
    assert source.finished == [(0, "done"), (1, "done"), (2, "done"), (3, "done")]


def test_no_more_frames_are_taken_than_the_threads_can_hold(tmp_path):
    release, started = threading.Event(), threading.Semaphore(0)

    def analyse(frame, model, settings):
        started.release()
        release.wait(PATIENCE_S)
        return fake_analyse(frame, model, settings)

    engine, source = run(tmp_path, frames(20), analyse, threads=2)
    assert started.acquire(timeout=PATIENCE_S)
    assert started.acquire(timeout=PATIENCE_S)
    # Two in the threads, one behind them, and one that waits for room in the queue.
    until(engine, lambda: len(source.items) == 16)
    assert not started.acquire(timeout=0.1)
    assert len(source.items) == 16
    release.set()
    until(engine, lambda: len(source.finished) == 20)
    engine.close()


def test_states_are_numbered_and_hold_their_events(tmp_path):
    seen = []
    source = Given(frames(5))
    engine = Engine(settings_of(tmp_path), learner=FakeLearner(), analyse=fake_analyse, receiver=source)
    engine.subscribe(lambda: seen.append((engine.state.number, engine.state.as_of_seq, engine.log.last_seq)))
    engine.start()
    until(engine, lambda: len(source.finished) == 5)
    engine.close()
    assert [number for number, *_ in seen] == list(range(1, len(seen) + 1))
    assert all(as_of == last for _, as_of, last in seen)


def test_an_edit_of_an_unknown_class_changes_nothing(tmp_path):
    engine, source = run(tmp_path, frames(3))
    until(engine, lambda: len(source.finished) == 3)
    with pytest.raises(UnknownClassError, match="class 7"):
        engine.edit(HOST, ClassPatch(name="new", merge=[7]))
    assert [entry.name for entry in engine.state.catalogue] == ["host A", "vacancy"]
    engine.close()


def test_an_edit_does_all_that_it_says(tmp_path):
    engine, source = run(tmp_path, frames(3))
    until(engine, lambda: len(source.finished) == 3)
    entry = engine.edit(HOST, ClassPatch(name="W", role="unknown", merge=[VACANCY]))
    assert (entry.name, entry.role) == ("W", "unknown")
    assert [entry.name for entry in engine.state.catalogue] == ["W"]
    assert engine.state.role_counts["unknown"] == 64
    engine.close()


def test_an_engine_that_has_stopped_takes_no_edits(tmp_path):
    engine, _ = run(tmp_path, frames(3))
    engine.close()
    with pytest.raises(EngineBusyError):
        engine.relearn()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_rate_is_that_of_the_window_and_falls_when_frames_stop():
    clock = Clock()
    meter = Meter(window_s=5.0, clock=clock)
    assert meter.fps is None
    for _ in range(100):
        clock.now += 0.1
        meter.add(0.05)
    assert meter.fps == pytest.approx(10.0)
    clock.now += 2.0
    fps = meter.fps
    assert fps is not None
    assert 5 < fps < 10
    clock.now += 10.0
    assert meter.fps == 0.0


def test_latency_is_of_the_newest_frames_only():
    meter = Meter(kept=512)
    for latency in [9.0] * 100 + [0.1] * 500 + [0.3] * 12:
        meter.add(latency)
    latency = meter.latency_ms()
    assert latency.p50 == pytest.approx(100.0)
    assert latency.p99 == pytest.approx(300.0)
    cumulative, total = meter.histogram()
    assert cumulative[-1] == 612
    assert cumulative == sorted(cumulative)
    assert total == pytest.approx(900 + 50 + 3.6)


def test_a_clock_that_was_set_back_gives_no_negative_latency():
    meter = Meter()
    meter.add(-5.0)
    assert meter.latency_ms().p50 == 0.0


def test_an_open_series_without_frames_stalls_once():
    series = OpenSeries(stall_after_s=5.0)
    assert series.check(100.0, now=1000.0) == []
    series.start(SeriesStarted("a", "announced"), now=1000.0)
    assert series.check(None, now=1004.0) == []
    ((kind, data),) = series.check(None, now=1006.0)
    assert (kind, data.series_id, data.last_frame_age_s) == ("stream.stalled", "a", 6.0)
    assert series.check(None, now=1007.0) == []
    ((kind, _),) = series.frame("a", 0, now=1010.0)
    assert kind == "stream.resumed"


def test_a_stall_ends_with_the_first_frame_even_of_the_next_series():
    series = OpenSeries(stall_after_s=5.0)
    series.frame("a", 3, now=1000.0)
    assert [kind for kind, _ in series.check(None, now=1006.0)] == ["stream.stalled"]
    series.end(SeriesEnded("a", 4, "aborted"))
    assert series.check(None, now=1020.0) == []
    series.start(SeriesStarted("b", "announced"), now=1030.0)
    assert series.check(None, now=1040.0) == []
    ((kind, data),) = series.frame("b", 0, now=1041.0)
    assert (kind, data.series_id, data.frame) == ("stream.resumed", "b", 0)
    assert series.frame("b", 1, now=1042.0) == []


def test_frames_that_wait_to_be_analysed_are_no_stall():
    series = OpenSeries(stall_after_s=5.0)
    series.frame("a", 0, now=1000.0)
    assert series.check(last_frame_age_s=0.1, now=1060.0) == []


def test_the_end_of_one_series_leaves_another_open():
    series = OpenSeries(stall_after_s=5.0)
    series.frame("a", 3, now=1000.0)
    series.frame("b", 7, now=1001.0)
    ((_, ended),) = series.end(SeriesEnded("b", 8, "ended"))
    assert (ended.frame, series.series_id) == (7, "a")
    assert [data.series_id for _, data in series.end_all("service stopped")] == ["a"]
    assert series.series_id is None


def test_another_thread_never_sees_a_series_half_heard_of():
    series, enough = OpenSeries(stall_after_s=5.0), threading.Event()
    series.frame("a", 0, 0.0, ("tcp://left:1", "HAADF"))
    before = sys.getswitchinterval()

    def hear() -> None:
        while not enough.is_set():
            series.frame("a", 0, 0.0)
            series.frame("b", 0, 0.0, ("tcp://right:1", "BF"))
            series.end(SeriesEnded("b", 1, "ended"))

    thread = threading.Thread(target=hear)
    # a thread may be interrupted anywhere
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(20_000):
            data = series.placed(StreamEventData(series_id=""))
            assert (data.series_id, data.detector) in (("a", "HAADF"), ("b", "BF"))
            assert ("a", "tcp://left:1", "HAADF") in series.open
    finally:
        sys.setswitchinterval(before)
        enough.set()
        thread.join()


def test_an_engine_that_warms_up_says_what_it_does_and_takes_frames_afterwards(tmp_path, monkeypatch):
    go = threading.Event()

    def prepare(settings, tell, loaded, stopping, kept):
        tell("compiling")
        assert go.wait(PATIENCE_S)
        return FakeLearner(), fake_analyse, lambda: None

    engine, source = warm_engine(tmp_path, monkeypatch, prepare)
    engine.start()
    until(engine, lambda: engine.status().detail == "compiling")
    assert (engine.status().phase, engine.alive, engine.ready) == ("starting", True, False)
    with pytest.raises(EngineBusyError, match="starting"):
        engine.relearn()
    go.set()
    until(engine, lambda: len(source.finished) == 3)
    assert (engine.status().phase, engine.status().detail) == ("live", None)
    engine.close()


def test_frames_are_taken_while_what_is_left_is_loaded_and_though_that_fails(tmp_path, monkeypatch):
    go = threading.Event()

    def rest():
        assert go.wait(PATIENCE_S)
        raise ImportError("no scikit-learn")

    engine, source = warm_engine(tmp_path, monkeypatch, lambda *_: (FakeLearner(), fake_analyse, rest))
    engine.start()
    until(engine, lambda: len(source.finished) == 3)
    assert not go.is_set()
    # more of them may wait meanwhile
    assert source.held == [True]
    go.set()
    engine.close()
    assert source.held == [True, False]
    assert not [thread.name for thread in threading.enumerate() if thread.name == "prepare"]


def test_frames_may_wait_while_the_engine_warms_up_and_while_classes_are_discovered(tmp_path, monkeypatch):
    held = []

    class Noting(FakeLearner):
        def fold(self, analysis):
            held.append((analysis.frame.ordinal, source.held[-1]))
            return super().fold(analysis)

    engine, source = warm_engine(tmp_path, monkeypatch, lambda *_: (Noting(5), fake_analyse, lambda: None))
    source.items = []
    engine.start()
    assert source.held[0]
    until(engine, lambda: not source.held[-1])
    source.items = frames(8)
    until(engine, lambda: len(source.finished) == 8)
    engine.relearn()
    source.items = frames(16)[8:]
    until(engine, lambda: len(source.finished) == 16)
    engine.close()
    assert [ordinal for ordinal, waiting in held if waiting] == [4, 12]
    assert not source.held[-1]


def test_an_engine_stops_while_it_warms_up(tmp_path, monkeypatch):
    said = threading.Event()

    def prepare(settings, tell, loaded, stopping, kept):
        said.set()
        while not stopping():
            threading.Event().wait(0.005)
        raise StoppedError

    engine, source = warm_engine(tmp_path, monkeypatch, prepare)
    engine.start()
    assert said.wait(PATIENCE_S)
    engine.close()
    assert (engine.alive, source.finished) == (False, [])


def test_an_engine_that_cannot_warm_up_is_not_alive(tmp_path, monkeypatch):
    def prepare(settings, tell, loaded, stopping, kept):
        raise ImportError("no numba")

    engine, source = warm_engine(tmp_path, monkeypatch, prepare)
    engine.start()
    until(engine, lambda: not engine.alive)
    assert engine.status().phase == "starting"
    engine.close()
    assert source.finished == []


def test_the_status_says_that_classes_are_being_discovered(tmp_path):
    go = threading.Event()

    class Slow(FakeLearner):
        def fold(self, analysis):
            if len(self.gathered) == self.needed - 1:
                assert go.wait(PATIENCE_S)
            return super().fold(analysis)

    engine, source = run(tmp_path, frames(8), learner=Slow(5))
    until(engine, lambda: engine.status().detail == "discovering classes")
    assert engine.status().phase == "learning"
    go.set()
    until(engine, lambda: len(source.finished) == 8)
    assert (engine.status().phase, engine.status().detail) == ("live", None)
    engine.close()
