"""Frames in which columns are dark are read so, told so, and analysed as well as bright ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import find_lattice
from latticewatch.pipeline import Learner, analyse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import specimens


@pytest.mark.parametrize(
    ("material", "dose", "pixel_nm", "seed"),
    [
        ("WSe2", 20_000, 0.02, 0),
        pytest.param("MoS2", 20_000, 0.025, 1, marks=pytest.mark.slow),
        ("hBN", 5_000, 0.02, 2),
    ],
)
def test_dark_columns_are_found_with_their_vacancies_and_told(material, dose, pixel_nm, seed):
    frame, truth = specimens.made("dark", material, seed, dose, pixel_nm)
    result = specimens.classified(frame, truth.pixel_nm)
    score = specimens.scored(result, truth)
    assert min(score.recall, score.precision) >= 0.97
    assert score.f1 >= 0.95
    assert [note.code for note in result.notes] == ["dark-columns"]


@pytest.mark.parametrize("material", ["WS2", "MoSe2", "graphene"])
def test_bright_columns_are_not_taken_for_dark_ones(material):
    frame, _ = specimens.made("perfect", material, 0)
    lattice = find_lattice(frame.astype(np.float32))
    assert not lattice.dark
    assert lattice.profile.misfit < 0.01


def test_a_soft_probe_leaves_bright_columns_bright():
    """The sum of three waves, as a honeycomb at the limit of resolution: what is between is as round as a column."""
    turn = np.radians([10, 70, 130])
    rows, cols = np.mgrid[:256, :256]
    waves = [np.cos(2 * np.pi * (np.sin(a) * rows + np.cos(a) * cols) / 14) for a in turn]
    noise = np.random.default_rng(3).normal(0, 0.2, rows.shape)
    assert not find_lattice((10 - sum(waves) + noise).astype(np.float32)).dark


def test_a_stream_of_dark_columns_is_followed_with_what_was_learnt():
    settings = AnalysisSettings(learning_frames=2)
    learner = Learner(settings)
    results = []
    for number in range(4):
        image, truth = specimens.made("dark", "WS2", 4, 20_000)
        image = np.ascontiguousarray(np.roll(image, number, 1)) if number else image
        frame = Frame(image=image, series_id="s", number=number, pixel_size_nm=truth.pixel_nm)
        results = learner.fold(analyse(frame, learner.model, settings))
    assert learner.model is not None
    assert learner.model.lattice.dark
    assert results[-1].lattice_found
    assert "dark-columns" in [note.code for note in results[-1].notes]
