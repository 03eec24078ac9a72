"""Threads of a service take turns often: who has news to send does not wait long for who analyses."""

from __future__ import annotations

import sys
import threading

from _fake_learner import FakeLearner, fake_analyse
from _running import PATIENCE_S, settings_of
from latticewatch.execute import Engine
from latticewatch.serve import run_service


def test_turns_are_short_while_a_service_runs_and_as_before_afterwards(tmp_path):
    settings, before, during = settings_of(tmp_path), sys.getswitchinterval(), []
    ready, stop = threading.Event(), threading.Event()

    def say(_):
        during.append(sys.getswitchinterval())
        ready.set()

    engine = Engine(settings, learner=FakeLearner(), analyse=fake_analyse)
    thread = threading.Thread(target=run_service, args=(settings, say, stop, engine))
    thread.start()
    assert ready.wait(PATIENCE_S)
    stop.set()
    thread.join(PATIENCE_S)
    assert during[0] < before
    assert sys.getswitchinterval() == before
