"""An atom between the columns beside all else that a patch may show: the likelier explanation wins."""

from __future__ import annotations

import numpy as np
import pytest
from tests._crystal import honeycomb, learnt, render, surveyed

import naive
from latticewatch.config import AnalysisSettings
from latticewatch.estimators import NoiseWhitening
from latticewatch.ingest import Frame
from latticewatch.model import explanations, fitted, settle_sources, sublattice_templates
from latticewatch.model._sources import AS_GOOD, RARER, Fitted, _rival
from latticewatch.model._templates import shift_terms
from latticewatch.pipeline import analyse

# What a change amounts to [sigma].
CLEAR = 30.0


@pytest.fixture(scope="module")
def between():
    """Templates of the hollow and the bonds of a honeycomb, each with its whitening, and how to draw a column."""
    rng = np.random.default_rng(0)
    scene = render(honeycomb(20.0, (1.0, 0.4)), rng, shape=(192, 192), counts=300.0)
    lattice, zernike, surveys = surveyed([scene])
    templates = sublattice_templates(lattice, surveys[0].flat.scale, surveys[0].flat.noise, zernike)
    voids = [known for known in templates if known.void]
    axis = np.arange(zernike.patch_size) - zernike.patch_size // 2
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)

    def column(at):
        drawn = lattice.profile.at(((grid - at) ** 2).sum(-1))
        return zernike.of(drawn[None].astype(np.float32)).astype(float)[0]

    return [(known, NoiseWhitening.from_covariance(known.noise).matrix_) for known in voids], column


def judged(known, whitening, moments, noise):
    """What is made of a change of the moments, as clear as `CLEAR`, with noise."""
    patch = moments @ whitening
    scale = CLEAR / np.linalg.norm(patch)
    found = fitted((scale * patch + noise)[None], explanations(known, whitening))
    return found, scale


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_an_atom_is_found_where_it_stands(between, rng, place, share):
    voids, column = between
    known, whitening = voids[place]
    for angle in rng.uniform(0, 2 * np.pi, 4):
        at = share * known.away_px * np.array([np.sin(angle), np.cos(angle)])
        found, scale = judged(known, whitening, column(at), rng.normal(size=whitening.shape[1]))
        room = explanations(known, whitening).room_px
        beside = np.hypot(*(known.offset[: known.n_columns] - at).T).min()
        if beside < 1.2 * room:
            # so near to a column it is a change of that column
            assert beside > 0.8 * room or not found.better[0]
            continue
        assert found.better[0]
        assert np.hypot(*(found.away[0] - at)) < 0.12 * known.farthest_px
        assert found.height[0] == pytest.approx(scale, rel=0.15)


def columns_beside(known):
    return [q for q in range(known.n_columns) if np.hypot(*known.offset[q]) < known.radius]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_column_of_another_height_is_no_atom_between(between, rng, place, sign):
    known, whitening = between[0][place]
    for q in columns_beside(known):
        noise = rng.normal(size=whitening.shape[1])
        assert not judged(known, whitening, sign * known.moments[q + 1], noise)[0].better[0]


@pytest.mark.parametrize("place", range(4))
def test_a_column_beside_its_place_is_no_atom_between(between, rng, place):
    known, whitening = between[0][place]
    for q in columns_beside(known):
        for angle in rng.uniform(0, 2 * np.pi, 4):
            away = 0.5 * known.farthest_px * np.array([np.sin(angle), np.cos(angle)])
            moved = shift_terms(away[None], known.farthest_px)[0] @ known.moved[q + 1]
            patch = moved @ whitening + rng.normal(size=whitening.shape[1])
            assert not fitted(patch[None], explanations(known, whitening)).better[0]


def test_two_brighter_columns_are_no_atom_in_their_bond(between, rng):
    for known, whitening in between[0][1:]:
        both = known.moments[1] + known.moments[2]
        assert not judged(known, whitening, both, rng.normal(size=whitening.shape[1]))[0].better[0]


def test_noise_is_no_atom(between, rng):
    for known, whitening in between[0]:
        found = fitted(rng.normal(size=(200, whitening.shape[1])), explanations(known, whitening))
        assert found.better.mean() < 0.05


@pytest.mark.parametrize("place", range(4))
def test_what_the_neighbours_explain_is_the_best_fit_of_any(between, rng, place):
    known, whitening = between[0][place]
    mine = explanations(known, whitening)
    patches = 20 * rng.normal(size=(6, whitening.shape[1]))
    variance = rng.uniform(1, 3, 6)
    found = _rival(patches, mine, variance, np.full(6, -np.inf), np.full(6, np.inf))
    terms = shift_terms(mine.shifts, known.away_px)
    for patch, one, most in zip(patches, variance, found, strict=True):
        around = known.moments[1:] @ whitening, known.moved[1:] @ whitening, known.heights[1:]
        assert most == pytest.approx(naive.rival_around(patch, *around, terms, one, AS_GOOD, RARER), rel=1e-9)


def fits(gain):
    n = len(gain)
    return Fitted(np.ones(n), np.zeros((n, 2)), np.array(gain, float), np.zeros(n))


def test_what_two_places_see_belongs_to_the_one_that_explains_more():
    position = np.array([[10.0, 10.0], [10.0, 13.0], [40.0, 40.0]])
    found = [(np.array([0]), fits([50.0])), (np.array([1, 2]), fits([80.0, 60.0]))]
    extra, _ = settle_sources(position, np.zeros(3, np.int32), found, 6.0)
    assert extra.tolist() == [0.0, 1.0, 1.0]


def test_atoms_in_one_place_of_two_frames_are_two():
    position = np.array([[10.0, 10.0], [10.0, 10.5]])
    extra, _ = settle_sources(position, np.array([0, 1], np.int32), [(np.arange(2), fits([50.0, 80.0]))], 6.0)
    assert extra.tolist() == [1.0, 1.0]


def test_noise_that_has_grown_since_is_no_atom():
    crystal, shape = honeycomb(14.0, (1.0, 0.5)), (256, 256)

    def taken(seed, counts, background):
        rng = np.random.default_rng(seed)
        return render(crystal, rng, shape=shape, counts=counts, width=0.22, background=background)

    model = learnt([taken(seed, 200.0, 0.1) for seed in range(5)])
    found = 0
    for seed in range(100, 160):
        # half as many electrons, and dirt: weighed as while learning, noise is an atom in one frame of three
        seen = analyse(Frame(taken(seed, 100.0, 0.3).image, "dirty"), model, AnalysisSettings())
        found += int((seen.sites.sublattice >= model.n_columns).sum())
    assert found <= 3
