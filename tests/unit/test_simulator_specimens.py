"""Kinds of specimens that were read wrongly: made by the simulator, analysed, and compared with its truth."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.lattice import are_shifted, find_lattice, follow_lattice

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from specimens import classified, made, scored, separation_of


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


@pytest.mark.parametrize(
    ("material", "seed"),
    [("WS2", 0), *(pytest.param(material, 1, marks=pytest.mark.slow) for material in ("WS2", "MoSe2"))],
)
def test_domains_that_are_shifted_are_told_apart(material, seed):
    score, codes = analysed("antiphase", material, seed, size=300)
    assert "domains" in codes
    assert score.false == 0
    assert score.f1 > 0.95
    assert min(score.recall, score.precision) > 0.97


def test_shifted_domains_are_followed_where_they_drift():
    frame, truth = made("antiphase", "WS2", 0, size=300)
    image = frame.astype(np.float32)
    known = find_lattice(image)
    assert are_shifted(known.angles)
    moved = follow_lattice(np.ascontiguousarray(np.roll(image, (5, 7), (0, 1))), known)
    inside = truth.inside(3 * truth.constant_px)
    for field, grain in zip(moved.grains, known.grains, strict=True):
        assert field is not None
        mine = inside & (grain.field.amplitude_at(truth.site) > 0.95)
        assert mine.sum() > 50
        then = grain.field.cell_coordinates(truth.site[mine])
        now = field.cell_coordinates(truth.site[mine] + [5.0, 7.0])
        # in the same place of the cell
        np.testing.assert_allclose(now - then, np.rint(now - then), atol=0.06)


@pytest.mark.parametrize("material", ["WS2", "MoSe2"])
def test_few_cells_have_the_cell_that_explains_them_and_are_too_few_to_learn(material):
    frame, truth = made("few", material, 0, size=300)
    lattice = find_lattice(frame.astype(np.float32))
    assert lattice.constant_px == pytest.approx(truth.constant_px, rel=0.02)
    result = classified(frame, truth.pixel_nm)
    score = scored(result, truth)
    assert score.precision > 0.97
    assert score.recall > 0.9
    assert score.false == 0
    assert any("Too few sites" in note.text for note in result.notes)


@pytest.mark.parametrize("seed", [1, 2])
def test_columns_that_a_quarter_turn_maps_onto_each_other_share_what_is_rare(seed):
    # one or two vacant oxygen columns on each of the two sublattices, which jitter makes look a little unlike
    score, _ = analysed("perovskite", "PbTiO3", seed)
    assert score.hits == score.defects
    assert score.false <= 1


@pytest.mark.parametrize("seed", [1, 4])
def test_noise_beside_a_bright_column_is_no_atom_between_the_columns(seed):
    frame, truth = made("perovskite", "SrRuO3", seed)
    result = classified(frame, truth.pixel_nm)
    assert (result.sites.sublattice >= 0).all()


def test_the_ideal_observer_knows_how_much_lines_vary_but_not_which():
    rng = np.random.default_rng(0)
    change, variance = rng.normal(size=(4, 5)), rng.uniform(1, 2, (4, 5))
    lines = rng.normal(size=(3, 4, 5))

    # the same with the whole covariance
    covariance = np.diag(variance.ravel())
    for fault in lines:
        for row in range(4):
            one = np.zeros((4, 5))
            one[row] = fault[row]
            covariance += np.outer(one, one)
    expected = np.sqrt(change.ravel() @ np.linalg.solve(covariance, change.ravel()))
    assert separation_of(change, variance, lines) == pytest.approx(expected)
