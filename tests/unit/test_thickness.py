"""Lattices that are stronger in some places than in others: steps, wedges, holes, alloys."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import find_lattice, may_vary, measure_thickness
from latticewatch.lattice._supercell import larger_cell
from latticewatch.pipeline import ROLES, Learner, analyse
from latticewatch.pipeline._withheld import as_elsewhere

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import specimens
from _specimen import KINDS, Detector, Kind, crystal, frames, planted

SIZE, PIXEL_NM = 320, 0.02


def some_frame(material, height, seed, dose=60_000.0, count=8):
    """A frame whose lattice is as high as a function of (row, column) says, with vacancies in it."""
    rng = np.random.default_rng(seed)
    perfect = crystal(material, PIXEL_NM, SIZE, rng)
    kind = KINDS[material]["vacancy"]
    if material == "graphene":
        kind = Kind((), 0)
    made = planted(perfect, {"vacancy": (kind, count)}, rng, 24.0)
    made = made.scaled(height(made.site))
    ((frame, _),) = frames(iter([(made.image(), dose * (10 * PIXEL_NM) ** 2)]), SIZE, Detector(), rng)
    return frame, made


def classified(frame):
    """Sites, roles and notes of one frame that is learnt from and classified."""
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    (result,) = learner.fold(
        analyse(Frame(image=frame, series_id="s", number=0, pixel_size_nm=PIXEL_NM), None, settings)
    )
    return result


def scores(frame, made):
    """Recall of sites, places of false defects, recall of defects, codes of notes."""
    result = classified(frame)
    inside = made.inside(24.0)
    position, role = result.sites.position, np.array(ROLES)[result.sites.role]
    found = KDTree(position).query(made.site[inside])[0] < 0.3 * made.nearest_px
    defects = position[role == "defect"]
    true = made.site[made.defects()]
    near = KDTree(true).query(defects)[0] < 0.3 * made.nearest_px if len(defects) else np.zeros(0, bool)
    return found.mean(), defects[~near], near.sum() / len(true), {note.code for note in result.notes}


def step(site):
    return np.where(site @ [0.3, 1.0] > 0.6 * SIZE, 2.0, 1.0)


def wedge(site):
    return 1.0 + 2.0 * np.clip(site[:, 0] / SIZE, 0, 1)


@pytest.mark.parametrize("seed", [1, 5])
def test_a_step_in_thickness_hides_no_site_and_is_no_row_of_defects(seed):
    recall, false, found, notes = scores(*some_frame("MoSe2", step, seed))

    assert recall > 0.99
    assert len(false) <= 1
    assert found >= 0.75
    assert {"thickness-varies", "step"} <= notes


@pytest.mark.parametrize(("material", "seed"), [("MoSe2", 1), ("MoSe2", 2), ("WS2", 2)])
def test_vacancies_beside_a_straight_step_are_found(material, seed):
    # as many are in its rim as elsewhere, and its columns are compared with those of their own side
    frame, truth = specimens.made("step", material, seed)
    score = specimens.scored(specimens.classified(frame, truth.pixel_nm), truth)

    assert score.hits == score.defects
    assert score.false == 0


@pytest.mark.parametrize(("seed", "ragged_px", "most"), [(1, 4.0, 0), (5, 4.0, 0), (5, 8.0, 2)])
def test_a_ragged_step_is_no_row_of_defects(seed, ragged_px, most):
    rng = np.random.default_rng(seed)

    def ragged(site):
        away = rng.normal(0, ragged_px, len(site))
        return np.where(site @ [0.3, 1.0] + away > 0.6 * SIZE, 2.0, 1.0)

    _, false, _, notes = scores(*some_frame("MoSe2", ragged, seed))

    assert len(false) <= most
    assert "step" in notes


def test_more_changed_columns_than_elsewhere_are_the_steps_and_as_many_are_not():
    inside = np.arange(900) < 100
    elsewhere = np.arange(900) >= 892

    assert as_elsewhere(inside, elsewhere | (np.arange(900) < 3))
    assert not as_elsewhere(inside, elsewhere | (np.arange(900) < 10))
    assert not as_elsewhere(inside, np.arange(900) < 3)


def test_the_columns_of_an_alloy_are_no_step():
    # where more of the heavy element lies together the lattice is stronger, but single columns differ as much
    frame, truth = specimens.made("alloy", "WS2", 4)
    result = specimens.classified(frame, truth.pixel_nm)
    score = specimens.scored(result, truth)

    assert not result.notes
    assert score.hits == score.defects
    assert score.false == 0


def test_a_wedge_has_sites_and_defects_where_it_is_thin():
    recall, false, found, notes = scores(*some_frame("MoSe2", wedge, 2))

    assert recall > 0.99
    assert len(false) == 0
    assert found == 1.0
    assert "thickness-varies" in notes
    assert "step" not in notes


def test_a_hole_stays_a_hole_and_is_no_thin_place():
    recall, _, _, notes = scores(
        *some_frame("WS2", lambda site: (np.hypot(*(site - 100).T) > 60).astype(float), 3)
    )

    assert recall < 0.97
    assert "thickness-varies" not in notes


def test_a_uniform_crystal_is_not_looked_at_twice():
    frame, _ = some_frame("WS2", lambda site: np.ones(len(site)), 4)
    lattice = find_lattice(frame.astype(np.float32))

    assert not may_vary(lattice.field)
    assert measure_thickness(frame.astype(np.float32), lattice.field, lattice.cell) is None


@pytest.mark.parametrize(
    ("name", "seed", "amount"), [("step", 4, 2.0), ("step", 11, 1.4), ("jitter", 0, 0.6)]
)
def test_neither_a_step_nor_the_jitter_of_lines_makes_a_larger_cell(name, seed, amount):
    # a reciprocal vector lies across the step or the lines: what they smear out lies on halves and thirds of it
    frame, truth = specimens.made(name, "WS2", seed, amount=amount, defects="none")
    image = frame.astype(np.float32)
    lattice = find_lattice(image)
    assert lattice.constant_px == pytest.approx(truth.constant_px, rel=0.01)
    assert larger_cell(image, lattice.field) is None


@pytest.mark.parametrize("seed", [1, 2])
def test_the_thin_side_of_a_step_is_no_other_grain(seed):
    frame, truth = specimens.made("step", "WS2", seed)
    lattice = find_lattice(frame.astype(np.float32))
    assert not lattice.others
    assert lattice.constant_px == pytest.approx(truth.constant_px, rel=0.01)
