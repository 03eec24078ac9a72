"""Dislocations are told where they are, and make no row of defects."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.lattice import PhaseField, find_cores

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
    assert cores.mask[150, 20]
    assert not cores.mask[150, 300]
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

    cores = find_cores(field(phase, amplitude), (300, 330))
    assert cores is None or not len(cores.position)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_dislocation_is_told_and_makes_no_row_of_defects(seed):
    frame, truth = made("dislocation", "MoSe2", seed)
    result = classified(frame, truth.pixel_nm)
    score = scored(result, truth)

    assert "dislocation" in {note.code for note in result.notes}
    assert score.recall > 0.96
    assert score.precision > 0.96
    assert score.false <= 2
