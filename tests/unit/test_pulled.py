"""Bright atoms out of step with the lattice: it is followed where it is, and not where they pull it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests._crystal import Scene, add_columns, graphene, honeycomb, learnt, nearest, render

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import follow_lattice
from latticewatch.model import DISPLACED
from latticewatch.model._neighbours import neighbour_index
from latticewatch.pipeline import Learner, _analyse, analyse
from latticewatch.pipeline._pulled import pulls_px
from latticewatch_simulator import Microscope, SimulatorSettings

COUNTS, SHAPE = 300.0, (256, 256)
# Of the highest column, as a silicon atom on graphene.
BRIGHT = 5.0
# Where atoms stand, in bonds from a column, and the angle to the bond: middle of a bond, hollow, and half way to it.
PLACES = [(0.5, 0.0), (1.0, 60.0), (0.5, 60.0)]


def plain(seed, crystal):
    return render(crystal, np.random.default_rng(seed), shape=SHAPE, counts=COUNTS, width=0.22)


@pytest.fixture(scope="module", params=["graphene", "honeycomb"])
def known(request):
    """A crystal, and the model of five frames of it."""
    crystal = graphene(22.0) if request.param == "graphene" else honeycomb(26.0, (1.0, 0.4))
    return crystal, learnt([plain(seed, crystal) for seed in range(5)])


def with_atoms(crystal, bonds, degrees, height) -> tuple[Scene, np.ndarray]:
    """A frame with four atoms beside columns of the first sublattice, far from one another, and where they are."""
    rng = np.random.default_rng(9)
    scene = render(crystal, rng, shape=SHAPE, counts=None, width=0.22)
    columns = scene.position[(scene.sublattice == 0)]
    corners = np.array([(80, 80), (80, 176), (176, 80), (176, 176)], float)
    beside = columns[nearest(columns, corners)[1]]
    other = scene.position[scene.sublattice == 1]
    bond = other[nearest(other, beside)[1]] - beside
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    atoms = beside + bonds * bond @ turn
    clean = scene.clean.copy()
    add_columns(clean, atoms, np.full(len(atoms), height), scene.width)
    return replace(scene, image=rng.poisson(COUNTS * clean).astype(np.float32), clean=clean), atoms


@pytest.mark.parametrize(("bonds", "degrees"), PLACES)
def test_columns_around_a_bright_atom_are_where_they_are(known, bonds, degrees):
    crystal, model = known
    scene, atoms = with_atoms(crystal, bonds, degrees, BRIGHT)
    seen = analyse(Frame(scene.image, "pulled"), model, AnalysisSettings())
    column = seen.sites.sublattice < model.n_columns
    position = seen.sites.position[column]
    off, _ = nearest(scene.position, position)
    around = nearest(atoms, position)[0] < 4 * crystal.spacing
    assert np.sqrt(np.mean(off[around] ** 2)) < 0.015 * crystal.spacing
    # its light comes in from nearer than its place, too
    assert not (seen.verdict.component[column] == DISPLACED).any()


@pytest.mark.parametrize(("bonds", "degrees"), PLACES)
def test_a_bright_atom_anywhere_between_the_columns_is_found_once_where_it_is(known, bonds, degrees):
    crystal, model = known
    scene, atoms = with_atoms(crystal, bonds, degrees, BRIGHT)
    seen = analyse(Frame(scene.image, "pulled"), model, AnalysisSettings())
    found = seen.sites.position[seen.sites.sublattice >= model.n_columns]
    assert len(found) == len(atoms)
    assert nearest(found, atoms)[0].max() < 0.03 * crystal.spacing


@pytest.mark.parametrize("height", [0.0, BRIGHT])
def test_times_of_the_stages_add_up_though_a_frame_is_looked_at_twice(known, monkeypatch, height):
    crystal, model = known
    scene, _ = with_atoms(crystal, *PLACES[2], height)
    ticks, followed = itertools.count(), []

    def follow(*given):
        followed.append(given)
        return follow_lattice(*given)

    monkeypatch.setattr(_analyse, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    monkeypatch.setattr(_analyse, "follow_lattice", follow)
    seen = analyse(Frame(scene.image, "pulled"), model, AnalysisSettings())
    assert (len(followed) > 1) == (height > 0)
    assert sum(seen.timings_ms.values()) == 1e3 * (next(ticks) - 1)


def test_columns_are_where_they_are_though_many_were_missing_while_learning():
    crystal = graphene(26.0)
    rng = np.random.default_rng(3)
    vacancies = (("vacancy", 1, 0.06, 0.0),)
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    scenes = [
        render(crystal, rng, shape=SHAPE, counts=5000.0, width=0.22, defects=vacancies, shift=(k, 2 * k))
        for k in range(2)
    ]
    for number, scene in enumerate(scenes):
        frame = Frame(scene.image, "pulled", number=number, ordinal=number)
        result = learner.fold(analyse(frame, learner.model, settings))[-1]
        position = np.asarray(result.sites.position)
        _, which = nearest(scene.position, position)
        off = position - scene.position[which]
        # each vacancy pulls, and is taken off; together they turn the waves of the frame by more
        assert np.hypot(*off.mean(0)) < 0.013 * crystal.spacing


def test_what_is_in_step_with_the_lattice_does_not_pull_it(known):
    crystal, model = known
    pulls = pulls_px(model.lattice)
    # equal columns of a honeycomb are both out of step with their sum; of unequal ones the brighter is less so
    assert (pulls[:-1] < pulls[-1]).all()
    if crystal.heights[1] < crystal.heights[0]:
        assert pulls[0] < 0.5 * pulls[1]


def test_a_frame_too_small_to_know_empty_places_is_learnt_from_all_the_same():
    settings = SimulatorSettings.checked(shape=(110, 110), pixel_size_nm=0.02, dose_e_per_a2=2e5, seed=5)
    learner = Learner(AnalysisSettings(learning_frames=1))
    frame = Frame(Microscope(settings, "s").acquire().image, "s", 0, 0, pixel_size_nm=0.02)
    sites = learner.fold(analyse(frame, None, learner.settings))[-1].sites
    assert learner.model is not None
    assert (learner.model.n_columns, learner.model.n_voids) == (2, 0)
    assert len(sites) > 50


def test_a_site_of_no_sublattice_that_is_known_is_refused_and_not_looked_up():
    with pytest.raises(ValueError, match="sublattice 2; there are 1"):
        neighbour_index(np.array([0, 2], np.int16), np.zeros((2, 2), np.int32), (np.zeros((1, 3), np.int32),))
