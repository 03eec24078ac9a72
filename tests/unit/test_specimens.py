"""Kinds of specimens that were read wrongly: made by the simulator, analysed, and compared with its truth."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from specimens import classified, made, scored


def analysed(name, material, seed, **options):
    """Score and codes of the notes of one frame."""
    frame, truth = made(name, material, seed, **options)
    result = classified(frame, truth.pixel_nm)
    return scored(result, truth), {note.code for note in result.notes}


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_many_columns_displaced_alike_are_not_taken_for_the_spread_of_their_hosts(seed):
    score, _ = analysed("displaced", "MoSe2", seed, size=300)
    assert score.defects > 10
    assert score.f1 > 0.95


@pytest.mark.parametrize(("material", "seed"), [("WS2", 1), pytest.param("MoSe2", 2, marks=pytest.mark.slow)])
def test_dirt_that_is_fainter_than_a_column_is_told_and_gives_no_defects(material, seed):
    score, codes = analysed("dirt", material, seed, size=300)
    assert "contamination" in codes
    assert score.false == 0
    assert score.hits == score.defects
    assert score.recall > 0.97


def test_few_cells_of_which_every_host_has_a_defect_beside_it_are_learnt_from():
    frame, truth = made("few", "WS2", 0, size=300)
    result = classified(frame, truth.pixel_nm)
    assert len(result.sites.position) > 30
