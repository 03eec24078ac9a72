"""Frames in, results in order: what a frame is analysed with is a matter of its place alone."""

from __future__ import annotations

import random
import threading
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest

from latticewatch.config import AnalysisSettings
from latticewatch.execute import Runner, Threads
from latticewatch.execute._executors import MOST_SLOTS
from latticewatch.execute._runner import LAG
from latticewatch.execute._workers import TooSlowError
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse
from latticewatch_simulator import Microscope, SimulatorSettings

BLANK = np.zeros((4, 4), np.uint16)


@dataclass(frozen=True)
class Version:
    number: int
    classes: int


@dataclass(frozen=True)
class Folded:
    learning: tuple[int, int] = (2, 2)


class Versions:
    """A learner whose model moves on every third frame, and gets another class after frames 2, 9 and 40."""

    def __init__(self):
        self.model = None
        self.used = []

    def fits(self, model):
        mine, other = (None if one is None else one.classes for one in (self.model, model))
        return mine == other

    def fold(self, analysis):
        frame, model = analysis
        self.used.append((frame.number, model))
        if frame.number in (2, 9, 40):
            self.model = Version(frame.number, 1 if self.model is None else self.model.classes + 1)
        elif self.model is not None and frame.number % 3 == 0:
            self.model = replace(self.model, number=frame.number)
        return [Folded()]


def frames(n):
    return [Frame(BLANK, "s", number, number) for number in range(n)]


def used_by(analyse, threads, n=60):
    learner = Versions()
    with closing(Threads(analyse, AnalysisSettings(threads=threads))) as executor:
        folded = [frame.number for frame, _ in Runner(executor, lambda: learner).results(frames(n))]
    assert folded == list(range(n))
    return learner.used


def test_a_frame_is_analysed_with_the_same_model_whatever_the_number_and_pace_of_the_workers():
    def quick(frame, model, settings):
        return frame, model

    chance = random.Random(3)

    def uneven(frame, model, settings):
        threading.Event().wait(chance.choice([0.0, 0.0, 0.004]))
        return frame, model

    expected = used_by(quick, 1)
    for threads in (2, 5, MOST_SLOTS):
        assert used_by(uneven, threads) == expected
    for number, model in expected:
        # those before the change were analysed with the classes of before, all others with those of after
        assert (0 if model is None else model.classes) == sum(number > changed for changed in (2, 9, 40))
    assert max(number - model.number for number, model in expected if model is not None) > LAG - 3


def test_a_frame_that_fails_has_its_turn_and_ends_the_run_of_a_file():
    def fail_on_the_third(frame, model, settings):
        if frame.number == 2:
            raise ZeroDivisionError
        return frame, model

    with pytest.raises(ZeroDivisionError):
        used_by(fail_on_the_third, 3)


def test_an_analysis_with_old_classes_that_hangs_is_given_up_like_any_other():
    going, never = threading.Event(), threading.Event()

    def analyse(frame, model, settings):
        if frame.number == 3 and model is None:
            going.set()
            never.wait()
        return frame, model

    learner = Versions()
    with closing(Threads(analyse, AnalysisSettings(threads=2))) as executor:
        runner = Runner(executor, lambda: learner)
        items = [runner.submit(frame) for frame in frames(5)]
        assert going.wait(30)
        for item in items[:3]:
            with runner.turn(item) as analysis:
                learner.fold(analysis)
        with pytest.raises(TooSlowError), runner.turn(items[3], 0.01):
            pass
        with runner.turn(items[4]) as analysis:
            assert analysis == (items[4].frame, learner.model)
    never.set()


def said_by(images, threads):
    settings = AnalysisSettings(learning_frames=2, threads=threads)
    learner = Learner(settings)
    stream = [Frame(image, "s", n, n, pixel_size_nm=0.02) for n, image in enumerate(images)]
    said = []
    with closing(Threads(analyse, settings)) as executor:
        for _, results in Runner(executor, lambda: learner).results(stream, settings.learning_frames):
            said += [result.sites.confidence.tobytes() for result in results]
            said += [event.data.model_dump_json() for result in results for event in result.events]
            said += [event.data.model_dump_json() for event in learner.take_events()]
    return said


def test_events_and_confidences_are_the_same_bit_for_bit_whatever_the_number_of_threads():
    settings = SimulatorSettings.checked(
        shape=(240, 240), pixel_size_nm=0.02, births_per_frame=0.5, dose_e_per_a2=2e5, seed=5
    )
    scope = Microscope(settings, "s")
    images = [scope.acquire().image for _ in range(22)]
    said = [said_by(images, threads) for threads in (1, 3)]
    assert said[0] == said[1]
    assert sum("defect" in str(one) for one in said[0]) > 5
