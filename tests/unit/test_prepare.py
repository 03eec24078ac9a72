"""The start of a service: what is loaded before frames are taken, and what after."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
import threading

import pytest

pytest.importorskip("numba")

from numba import njit

from latticewatch import pipeline
from latticewatch.cli import _compile as compiling
from latticewatch.config import AnalysisSettings
from latticewatch.execute._prepare import StoppedError, prepare
from latticewatch.pipeline import _warm as warming

# What takes longest to import of all that some part of the service needs at some time.
NOT_FOR_FRAMES = {"sklearn", "joblib", "scipy.stats", "matplotlib"}

START = """
import json, sys
import latticewatch.cli._serve, latticewatch.serve
served = sorted(sys.modules)
from latticewatch.config import AnalysisSettings
from latticewatch.execute._prepare import prepare
said = []
*_, rest = prepare(AnalysisSettings(), said.append, lambda: None, lambda: False)
ready = sorted(sys.modules)
rest()
print(json.dumps({"served": served, "said": said, "ready": ready, "in the end": sorted(sys.modules)}))
"""


AGAIN = """
import base64, json, sys
from latticewatch import pipeline
from latticewatch.cli import _compile as compiling
from latticewatch.config import AnalysisSettings
from latticewatch.execute._prepare import prepare
from latticewatch.pipeline._warm import _fitting, _frames
settings = _fitting(AnalysisSettings())
said = []
prepare(settings, said.append, lambda: None, lambda: False, True)
learner = pipeline.Learner(settings)
learner.restore({name: base64.b64decode(data) for name, data in json.load(sys.stdin).items()})
(result,) = learner.fold(pipeline.analyse(_frames(1)[0], learner.model, settings))
print(json.dumps({"said": said, "learning": result.learning, "loaded": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def second_start():
    """Modules that a service has loaded when it answers, when it takes frames, and in the end."""
    pipeline.warm()
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout.splitlines()[-1])


def compiles(settings=None):
    njit(lambda x: x + 1)(1)


def started(monkeypatch, first, stopping=lambda: False, kept=False):
    """Prepare with stand-ins for the frames that are taken through; what is called, and what `prepare` gives."""
    called = []
    monkeypatch.setattr(
        pipeline, "warm_for_learning", lambda settings: [called.append("frames"), first(settings)]
    )
    monkeypatch.setattr(pipeline, "warm", lambda settings: called.append("all"))
    return called, prepare(AnalysisSettings(), lambda _: None, lambda: None, stopping, kept)


def test_a_service_answers_before_numba_and_scipy_are_imported(second_start):
    assert {"numba", "scipy", *NOT_FOR_FRAMES}.isdisjoint(second_start["served"])


def test_frames_are_taken_before_what_only_discovery_needs_is_imported(second_start):
    assert "latticewatch.lattice" in second_start["ready"]
    assert NOT_FOR_FRAMES.isdisjoint(second_start["ready"])


def test_at_the_second_start_nothing_is_compiled(second_start):
    assert second_start["said"] == ["loading the analysis"]


def test_with_a_model_that_was_kept_a_first_frame_is_taken_without_what_discovery_needs():
    pipeline.warm()
    settings = warming._fitting(AnalysisSettings())
    learner = pipeline.Learner(settings)
    for frame in warming._frames(2):
        learner.fold(pipeline.analyse(frame, learner.model, settings))
    kept = {name: base64.b64encode(data).decode() for name, data in learner.kept().items()}
    done = subprocess.run(
        [sys.executable, "-c", AGAIN],
        input=json.dumps(kept),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["said"], told["learning"]) == (["loading the analysis"], [1, 1])
    assert NOT_FOR_FRAMES.isdisjoint(told["loaded"])


@pytest.mark.parametrize(("cached", "takes"), [(True, []), (False, ["frames", "all"])])
def test_with_a_model_that_was_kept_nothing_is_taken_through_unless_kernels_have_to_be_compiled(
    monkeypatch, cached, takes
):
    last = (lambda: True) if cached else (lambda: compiles(None))
    monkeypatch.setattr(pipeline, "last_kernel", last)
    called, _ = started(monkeypatch, first=compiles, kept=True)
    assert called == takes


def test_what_discovery_needs_is_imported_before_it_is_asked_for(second_start):
    assert {"sklearn.cluster", "latticewatch.estimators._centroid"} <= set(second_start["in the end"])


def test_where_no_kernel_is_compiled_the_rest_is_left_for_later(monkeypatch):
    called, (*_, rest) = started(monkeypatch, first=lambda settings: None)
    assert called == ["frames"]
    rest()
    assert called == ["frames", "all"]


def test_where_kernels_are_compiled_all_of_them_are_before_frames_are_taken(monkeypatch):
    called, _ = started(monkeypatch, first=compiles)
    assert called == ["frames", "all"]


def test_a_service_that_is_told_to_stop_compiles_no_further(monkeypatch):
    with pytest.raises(StoppedError):
        started(monkeypatch, first=compiles, stopping=lambda: True)
    assert gc.isenabled()


def test_kernels_that_frames_ask_for_are_compiled_while_the_rest_gives_up(monkeypatch):
    stop = threading.Event()
    _, (*_, rest) = started(monkeypatch, first=lambda settings: None, stopping=stop.is_set)
    results = []

    def in_another_thread(settings):
        stop.set()
        frames = threading.Thread(target=lambda: results.append(njit(lambda x: x + 1)(1)))
        frames.start()
        frames.join()
        compiles(settings)

    monkeypatch.setattr(pipeline, "warm", in_another_thread)
    with pytest.raises(StoppedError):
        rest()
    assert results == [2]


def test_kernels_are_compiled_beforehand_and_only_those_that_are_not_yet(monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "warm", compiles)
    monkeypatch.setattr(compiling, "_simulated", lambda: compiles(None))
    for simulated, told in ((True, "2 kernels compiled in"), (False, "1 kernel compiled in")):
        monkeypatch.setattr(compiling, "find_spec", lambda name, there=simulated: there or None)
        compiling.compile_kernels()
        assert capsys.readouterr().out.startswith(told)
    monkeypatch.setattr(pipeline, "warm", lambda: None)
    compiling.compile_kernels()
    assert capsys.readouterr().out.startswith("all kernels are compiled already")
