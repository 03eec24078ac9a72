"""The end of the process: in time whatever hangs, at once the second time, and by itself when a thread has died."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time
sys.path[:0] = [{tests!r}]
from pathlib import Path
from _fake_learner import FakeLearner, fake_analyse, grid_image
from _given import Given
from _running import settings_of
from latticewatch.execute import Engine
from latticewatch.ingest import Frame
from latticewatch.serve import run_service

how = sys.argv[1]

def analyse(frame, model, settings):
    if how == "analysis":
        threading.Event().wait()
    return fake_analyse(frame, model, settings)

class Learner(FakeLearner):
    def fold(self, analysis):
        if how == "fold":
            threading.Event().wait()
        return super().fold(analysis)

class Source(Given):
    def get(self, timeout):
        if how == "dies" and not self.items:
            raise OSError("the network card was pulled out")
        return super().get(timeout)

source = Source([Frame(grid_image(), "a", number=i, ordinal=i) for i in range(6)])
engine = Engine(settings_of(Path(sys.argv[2])), learner=Learner(), analyse=analyse, receiver=source)
run_service(engine.settings, lambda service: print("ready", flush=True), engine=engine)
"""


def started(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    program = PROGRAM.format(tests=str(Path(__file__).parents[1]))
    process = subprocess.Popen(
        [sys.executable, "-c", program, how, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("how", ["analysis", "fold"])
def test_a_signal_ends_the_service_within_five_seconds_whatever_hangs(tmp_path, how):
    process = started(tmp_path, how)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert time.monotonic() - start < 5.5


def test_a_second_signal_ends_it_at_once(tmp_path):
    process = started(tmp_path, "fold")
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    # another one, as the same that still waits is not delivered twice
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert time.monotonic() - start < 3


def test_a_thread_that_dies_ends_the_process_with_a_status(tmp_path):
    assert started(tmp_path, "dies").wait(30) not in (0, None)
