"""Dislocations are told where they are, and make no row of defects."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.lattice import PhaseField, find_cores, find_lattice

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from specimens import classified, made, scored


def field(phase, amplitude=None):
    """A square lattice of ten pixels with this phase at nodes eight pixels apart."""
    ones = np.ones(phase.shape[:2])
    return PhaseField(np.eye(2) / 10, phase, ones if amplitude is None else amplitude, -8.0, 8.0)


def turning(row, col, shape=(40, 44)):
    """A phase that grows by a turn around one place [px], cut towards the left."""
    rows, cols = np.indices(shape)
    y, x = -8.0 + 8.0 * rows - row, -8.0 + 8.0 * cols - col
    return np.stack([np.arctan2(y, x), np.zeros(shape)], -1)


def test_a_core_is_where_the_phase_turns():
    cores = find_cores(field(turning(150.0, 170.0)), (300, 330))

    assert cores is not None
    np.testing.assert_allclose(cores.position, [[150.0, 170.0]], atol=10.0)
    assert cores.mask[150, 170]
    # not where the phase is cut
    assert not cores.mask[150, 20]
    assert "row 1" in cores.note().text


def test_a_smooth_phase_has_no_core():
    rows, cols = np.indices((40, 44))
    bent = np.stack([0.01 * rows**2, 0.3 * np.sin(cols / 5)], -1)

    assert find_cores(field(bent), (300, 330)) is None


def test_where_there_is_no_lattice_no_phase_is_looked_at():
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, (40, 44, 2))
    phase[:, :20] = 0.0
    amplitude = np.ones((40, 44))
    amplitude[:, 18:] = 0.1

    assert find_cores(field(phase, amplitude), (300, 330)) is None


def test_two_turns_that_cancel_within_a_step_are_noise():
    pair = turning(147.0, 165.0) - turning(147.0, 179.0)

    assert np.abs(np.diff(pair, axis=0)).max() > np.pi
    assert find_cores(field(pair), (300, 330)) is None


@pytest.mark.parametrize(("material", "dose"), [("WS2", 3e3), ("graphene", 2e3)])
def test_a_crop_of_a_perfect_crystal_has_no_core(material, dose):
    frame, _ = made("perfect", material, 1, dose)
    image = np.ascontiguousarray(frame[70:270, 60:260].astype(np.float32))

    assert find_cores(find_lattice(image).field, image.shape) is None


@pytest.mark.parametrize(
    ("material", "seed"), [("MoSe2", 1), *(pytest.param("WSe2", k, marks=pytest.mark.slow) for k in (1, 2))]
)
def test_a_dislocation_is_told_and_makes_no_row_of_defects(material, seed):
    frame, truth = made("dislocation", material, seed)
    result = classified(frame, truth.pixel_nm)
    score = scored(result, truth)

    assert "dislocation" in {note.code for note in result.notes}
    assert score.recall > 0.98
    assert score.precision > 0.98
    assert score.hits == score.defects
    assert score.false == 0
