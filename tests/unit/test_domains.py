"""Domains of one lattice: told apart, each with its columns, and the boundary is no row of defects."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import find_lattice, follow_lattice
from latticewatch.lattice._lattice import SAME_CELL, _likeness
from latticewatch.pipeline import Learner, analyse, counts_and_picture

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from specimens import classified, made, scored


@pytest.mark.parametrize(("material", "seed"), [("MoSe2", 0), pytest.param("WS2", 3, marks=pytest.mark.slow)])
def test_domains_turned_by_half_a_turn_have_columns_of_their_own_and_share_classes(material, seed):
    frame, truth = made("domains", material, seed)
    result = classified(frame, truth.pixel_nm)
    score = scored(result, truth)

    assert score.recall > 0.98
    assert score.precision > 0.99
    assert score.false == 0
    assert score.f1 > 0.97
    assert "domains" in {note.code for note in result.notes}


@pytest.mark.parametrize(("material", "seed"), [("WSe2", 2), pytest.param("WSe2", 0, marks=pytest.mark.slow)])
def test_vacancies_beside_a_boundary_are_defects(material, seed):
    frame, truth = made("domains", material, seed)
    score = scored(classified(frame, truth.pixel_nm), truth)

    assert score.hits == score.defects
    assert score.false == 0
    assert score.recall > 0.99


def test_a_crystal_with_vacancies_is_one_domain():
    frame, _ = made("perfect", "MoSe2", 1)

    assert find_lattice(frame.astype(np.float32)).angles == ()


def test_domains_are_followed_where_they_drift():
    frame, truth = made("domains", "MoSe2", 2)
    image = frame.astype(np.float32)
    known = find_lattice(image)
    moved = follow_lattice(np.ascontiguousarray(np.roll(image, (3, 2), (0, 1))), known)

    assert len(known.angles) == 2
    for field, grain in zip(moved.grains, known.grains, strict=True):
        assert field is not None
        inside = grain.field.amplitude_at(truth.site) > 0.95
        inside &= truth.inside(4 * truth.constant_px)
        at = grain.field.cell_coordinates(truth.site[inside])
        then = field.cell_coordinates(truth.site[inside] + [3.0, 2.0])
        # the same place in the cell, whichever cell that is called
        apart = (then - at) - np.rint(np.median(then - at, axis=0))
        assert np.abs(np.median(apart, axis=0)).max() < 0.02


def test_a_learner_keeps_its_model_while_one_domain_leaves_the_view():
    frame, _ = made("domains", "MoSe2", 2)
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    learner.fold(analyse(Frame(image=frame, series_id="s", number=0, pixel_size_nm=0.02), None, settings))
    assert learner.model is not None
    other, _ = made("perfect", "MoSe2", 3)
    result = learner.fold(
        analyse(Frame(image=other, series_id="s", number=1, pixel_size_nm=0.02), learner.model, settings)
    )

    assert len(result) == 1
    assert "domains" not in {note.code for note in result[0].notes}


def test_dumbbells_of_one_element_have_no_domains_however_the_thickness_varies(shared_data):
    # a wedge turns the structure invariant; what seem two domains have the same cell
    wedge = np.load(shared_data / "cases" / "wedge_x3_Si110.npz")
    assert not find_lattice(counts_and_picture(wedge["frames"][0])[0]).angles


def test_the_same_average_cell_twice_is_no_domain(rng):
    cell = rng.normal(size=(24, 24))
    noisy = cell + 0.1 * rng.normal(size=cell.shape)
    assert _likeness(cell, noisy) > SAME_CELL
    assert _likeness(cell, cell[::-1, ::-1]) < SAME_CELL
    assert _likeness(cell, cell[:12]) == 0.0
