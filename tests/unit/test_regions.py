"""Contamination, another phase and a fold are told as one region; defects, however dense, stay defects."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from _crystal import honeycomb, nearest, render, square
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.model import REGION
from latticewatch.pipeline import ROLES, Classified, Learner, Surveyed, analyse
from latticewatch.pipeline._gathering import Gathering, Learnt
from latticewatch.pipeline._notes import too_few_sites
from latticewatch.pipeline._regions import SHARE_AROUND, find_regions

SHAPE, MIDDLE, COUNTS = (360, 360), (180.0, 190.0), 300
CRYSTAL = honeycomb(14.0).turned(11)
FEW = (("vacancy", 1, 0.02, 0.0), ("higher", 0, 0.02, 1.5))
SETTINGS = AnalysisSettings(learning_frames=2)
ROWS, COLS = np.indices(SHAPE)
AWAY = np.hypot(ROWS - MIDDLE[0], COLS - MIDDLE[1])


def crystal(seed, defects=FEW):
    return render(CRYSTAL, np.random.default_rng(seed), shape=SHAPE, counts=None, defects=defects, clear=20)


def soft(distance, reach):
    """One within a reach, zero beyond, over two pixels or so."""
    return 1 / (1 + np.exp(np.clip((distance - reach) / 2, -50, 50)))


def fringes(image):
    """A blob of contamination with fringes, over some 30 columns."""
    return image + 0.5 * (1 + np.cos(2 * np.pi * AWAY / 9)) * np.exp(-0.5 * (AWAY / 30) ** 2)


def other_phase(image):
    """A patch of another phase, as wide as six cells."""
    other = render(square(17.0).turned(30), np.random.default_rng(5), shape=SHAPE, counts=None).clean
    inside = soft(AWAY, 45)
    return image * (1 - inside) + other * inside


def fold(image):
    """A band in which the sheet lies on itself, turned."""
    turned = render(honeycomb(14.0).turned(40), np.random.default_rng(6), shape=SHAPE, counts=None).clean
    return image + turned * soft(np.abs(0.9 * (COLS - MIDDLE[1]) + 0.43 * (ROWS - MIDDLE[0])), 18)


def inside(kind, position):
    """Sites well within what was put there, and well outside."""
    row, col = position.T - np.array(MIDDLE)[:, None]
    away = np.abs(0.9 * col + 0.43 * row) if kind is fold else np.hypot(row, col)
    reach = 18 if kind is fold else 45
    return away < reach, away > reach + 45


def frame(image, number):
    counts = np.random.default_rng(50 + number).poisson(COUNTS * np.clip(image, 0, None))
    return Frame(counts.astype(np.uint16), series_id="s", number=number, ordinal=number)


def folded(kind, first, defects=FEW, n=5):
    """The last result of a stream in which something lies on the crystal from some frame on."""
    learner, scene = Learner(SETTINGS), crystal(3, defects)
    for number in range(n):
        image = kind(scene.clean) if number >= first else scene.clean
        results = learner.fold(analyse(frame(image, number), learner.model, SETTINGS))
    return scene, results[-1], learner


# A fold that is there from the first frame on is learnt in part: see docs/explanation/limits.md.
@pytest.mark.parametrize(
    ("kind", "first"), [(fringes, 0), (fringes, 3), (other_phase, 0), (other_phase, 3), (fold, 3)]
)
def test_what_is_no_crystal_is_one_region_and_no_defects(kind, first):
    scene, result, _ = folded(kind, first)
    within, without = inside(kind, result.sites.position)
    defect = result.sites.role == ROLES.index("defect")
    assert len(result.odd_regions) == 1
    assert [note.code for note in result.notes].count("odd-region") == 1
    assert (defect & within).sum() <= 0.05 * result.odd_regions[0].n_sites
    # and the defects beside it are those that are there
    there = scene.position[scene.kind != "host"]
    assert (nearest(there, result.sites.position[defect & without])[0] < 3).all()
    clear = there[inside(kind, there)[1] & ((there > 25) & (there < 334)).all(1)]
    # beside a fold they are eight or nine of twelve: the last digits decide
    assert (nearest(result.sites.position[defect], clear)[0] < 3).mean() > 0.6
    row, col = np.rint(result.sites.position).astype(int).T
    assert result.regions["odd-sites"][row, col][result.sites.region == 0].all()
    region = result.odd_regions[0]
    assert np.hypot(region.row - MIDDLE[0], region.col - MIDDLE[1]) < 30
    assert region.n_sites == (result.sites.region == 0).sum() >= 20
    assert (result.sites.role[result.sites.region == 0] == ROLES.index("unknown")).all()


@pytest.mark.parametrize("sublattice", [0, 1])
def test_dense_vacancies_are_defects(sublattice):
    scene, result, _ = folded(lambda image: image, 0, (("vacancy", sublattice, 0.1, 0.0),), n=3)
    there = (scene.kind[scene.inside(25)] == "vacancy").sum()
    assert result.odd_regions == ()
    assert result.sites.region is None
    assert (result.sites.role == ROLES.index("defect")).sum() >= there


def test_a_region_teaches_nothing():
    _, result, learner = folded(fringes, 3, n=7)
    inside_it = result.sites.track[result.sites.region == 0]
    assert len(inside_it) >= 20
    assert set(learner._following.statistics._pool._tracks).isdisjoint(inside_it.tolist())
    seen = analyse(frame(fringes(crystal(3).clean), 9), learner.model, SETTINGS)
    assert isinstance(seen, Classified)
    assert (seen.verdict.posterior[seen.odd_regions[0].rows, -1] == 1).all()
    assert (seen.verdict.component[seen.odd_regions[0].rows] == REGION).all()


def test_odd_sites_that_are_not_side_by_side_are_no_region():
    _, _, learner = folded(lambda image: image, 0, n=3)
    seen = analyse(frame(crystal(3).clean, 4), learner.model, SETTINGS)
    assert isinstance(seen, Classified)
    odd = np.random.default_rng(0).random(len(seen.sites)) < SHARE_AROUND / 3
    seen.verdict.posterior[odd] = 0.0
    seen.verdict.posterior[odd, -1] = 1.0
    assert find_regions(seen.verdict, seen.patches, seen.model, ()) == ()


def test_no_trouble_is_told_where_too_little_is_left_without_a_region(monkeypatch):
    gathering = Gathering(AnalysisSettings(learning_frames=1))
    surveyed = analyse(frame(crystal(0).clean, 0), None, AnalysisSettings())
    assert isinstance(surveyed, Surveyed)
    gathering.take(surveyed)
    learnt = Learnt(None, [surveyed], 1)  # type: ignore[arg-type]
    answers = [(learnt, None), (None, too_few_sites(3, 20))]

    def learn(*_):
        found, gathering.trouble = answers.pop(0)
        return found

    monkeypatch.setattr(gathering, "_learnt_from", learn)
    monkeypatch.setattr(gathering, "_odd_places", lambda seen: np.ones(seen.image.shape, bool))
    assert gathering.learn(1, 0) is learnt
    assert not answers
    assert gathering.trouble is None
