"""A lattice that no frame shows alone is found in several together, whatever the drift between them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.config import AnalysisSettings
from latticewatch.errors import NoLatticeError
from latticewatch.ingest import Frame
from latticewatch.lattice import SpectrumSum, find_lattice
from latticewatch.pipeline import Learner, analyse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _specimen import Detector, crystal, frames

SIDE = 200


def drifting(material, dose, number, seed):
    """Frames of few electrons of a specimen that drifts by more than a lattice constant, and its lattice constant."""
    rng = np.random.default_rng([seed, 9])
    perfect = crystal(material, 0.02, SIDE, rng)
    shots = frames(iter([(perfect.image(), 0.04 * dose)] * number), SIDE, Detector(), rng, (5.3, -7.7))
    return [image for image, _ in shots], perfect.constant_px


def shows(image):
    """Whether a frame shows its lattice alone."""
    try:
        find_lattice(image.astype(np.float32))
    except NoLatticeError:
        return False
    return True


def test_frames_that_show_no_lattice_one_by_one_do_together():
    images, constant = drifting("WSe2", 110.0, 8, 1)
    assert not any(shows(image) for image in images[:2])
    together, bases = SpectrumSum(), []
    for image in images:
        together.add(image.astype(np.float32))
        bases.append(together.basis())
    assert bases[0] is None
    assert bases[-1] is not None
    for basis in bases:
        if basis is not None:
            # never the smaller cell of the strongest waves alone
            assert np.hypot(*np.linalg.inv(basis)) == pytest.approx(constant, rel=0.04)
    found = 0
    for image in images:
        try:
            lattice = find_lattice(image.astype(np.float32), bases[-1])
        except NoLatticeError:
            continue
        assert lattice.constant_px == pytest.approx(constant, rel=0.04)
        found += len(lattice.cell.columns) == 2
    assert found >= 4


def test_a_stream_of_such_frames_is_learnt_from():
    images, constant = drifting("WSe2", 110.0, 6, 1)
    settings = AnalysisSettings(learning_frames=3)
    learner, results = Learner(settings), []
    for number, image in enumerate(images):
        frame = Frame(image=image, series_id="s", number=number)
        results += learner.fold(analyse(frame, learner.model, settings))
        assert learner._gathering.n_hidden < settings.learning_frames
    assert learner.model is not None
    assert learner.model.lattice.constant_px == pytest.approx(constant, rel=0.04)
    assert len({result.number for result in results if result.lattice_found}) >= 3


@pytest.mark.parametrize("kind", ["noise", "lines"])
def test_noise_and_interference_add_up_to_no_lattice(rng, kind):
    together = SpectrumSum()
    for _ in range(24):
        image = rng.poisson(5, (96, 96)).astype(np.float32)
        if kind == "lines":
            image += 0.5 * np.cos(0.7 * np.arange(96) + rng.uniform(0, 6))[:, None]
        together.add(image)
        assert together.basis() is None


def test_what_is_added_up_is_one_array_and_begins_anew_with_another_shape(rng):
    together = SpectrumSum()
    for _ in range(200):
        together.add(rng.normal(size=(32, 32)).astype(np.float32))
    assert together.frames <= 65
    together.add(rng.normal(size=(32, 48)).astype(np.float32))
    assert together.frames == 1
