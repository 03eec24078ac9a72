"""A frame is judged before it teaches: doubtful ones are classified and told, and change nothing that is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse
from latticewatch.pipeline._judge import AGREEING, Condition, Judge

SETTINGS = AnalysisSettings(learning_frames=2)
CRYSTAL = honeycomb(14.0).turned(11)
VECTORS = np.array([[0.0, 14.0], [12.1, 7.0]])
USUAL = Condition(800.0, 0.01, VECTORS)
DOUBTFUL = {
    "glitched": Condition(800.0, 0.3, VECTORS),
    "half blanked": Condition(300.0, 0.01, VECTORS),
    "moving": Condition(800.0, 0.01, np.array([[0.0, 14.0], [12.1, 7.5]])),
}


def picture(seed):
    options = {"shape": (256, 256), "counts": 400, "defects": (("vacancy", 1, 0.04, 0.0),), "clear": 20}
    return render(CRYSTAL, np.random.default_rng(seed), **options).image.astype(np.float32)


def glitched(image):
    """Every line of one half jumps by some pixels of its own."""
    rng, out = np.random.default_rng(3), image.copy()
    for row in range(128):
        out[row] = np.roll(out[row], rng.integers(-4, 5))
    return out


def sheared(image):
    """As of a stage that moves while the frame is taken."""
    return np.stack([np.roll(line, round(0.06 * row)) for row, line in enumerate(image)])


BAD = {"blanked": np.zeros_like, "glitched": glitched, "moving": sheared}


def taught(learner):
    """All that frames have taught, as numbers."""
    sums = [np.concatenate([s.n, s.score, s.square]) for s in learner._following.statistics._sums]
    gathered = learner._following.search._gathered
    return [*sums, gathered._frames.sum(), gathered._sum.sum(0)]


def fold(learner, image, number):
    frame = Frame(image, series_id="A", number=number, ordinal=number, t_received=1.7e9 + number)
    return learner.fold(analyse(frame, learner.model, SETTINGS))[-1]


@pytest.fixture(scope="module")
def pictures():
    return [picture(seed) for seed in range(4)]


@pytest.mark.parametrize("kind", BAD)
def test_a_doubtful_frame_teaches_nothing_and_is_told(pictures, kind):
    learner = Learner(SETTINGS)
    for number, image in enumerate(pictures):
        result = fold(learner, image, number)
    assert not result.notes
    before, model = taught(learner), learner.model
    result = fold(learner, BAD[kind](pictures[0]), 4)
    assert {note.code for note in result.notes} & {"frame-doubtful", "no-lattice"}
    for was, now in zip(before, taught(learner), strict=True):
        np.testing.assert_array_equal(was, now)
    assert learner.model is model
    result = fold(learner, pictures[1], 5)
    assert not result.notes
    assert not np.array_equal(taught(learner)[0], before[0])


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_one_frame_is_doubtful_and_several_that_agree_are_a_new_state(kind):
    judge, seen = Judge(), DOUBTFUL[kind]
    assert judge.doubt(USUAL) is None
    for _ in range(AGREEING - 1):
        assert judge.doubt(seen) is not None
    assert judge.doubt(seen) is None
    assert judge.doubt(seen) is None


def test_doubtful_frames_that_do_not_agree_stay_doubtful():
    judge = Judge()
    judge.doubt(USUAL)
    for n in range(3 * AGREEING):
        assert judge.doubt(list(DOUBTFUL.values())[n % len(DOUBTFUL)]) is not None
    assert judge.doubt(USUAL) is None


def test_what_changes_slowly_is_followed():
    judge = Judge()
    for n in range(100):
        assert judge.doubt(Condition(800.0 - 7 * n, 0.01 + 0.004 * n, VECTORS * (1 + 0.002 * n))) is None
