"""What changes of occupancy do not explain: displaced columns and the like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, norm

from _crystal import add_columns, honeycomb, judged, learnt, nearest, render
from latticewatch.discover._odd import CANDIDATE, find_oddities
from latticewatch.model._classes import LEFT_OVER, Place, _odd_places, _table
from latticewatch.model._oddities import normal_score, squared_lengths

CRYSTAL = honeycomb(12.0).turned(7)
SHAPE = (320, 320)


def frames(seed, n, **options):
    rng = np.random.default_rng(seed)
    settings = {"shape": SHAPE, "counts": 100, "clear": 30, **options}
    return [render(CRYSTAL, rng, shift=rng.uniform(0, 12, 2), **settings) for _ in range(n)]


@pytest.mark.parametrize("counts", [100, 300])
def test_displaced_columns_are_not_host(counts):
    scenes = frames(0, 2, counts=counts, displaced=10, by=0.2)
    model = learnt(scenes)
    for scene in scenes:
        j = judged(model, scene)
        displaced = j.kind == "displaced"
        assert displaced.sum() == 10
        assert (j.role[displaced] != "host").all()
        # beyond the patches that see them, nothing
        distance, _ = nearest(scene.position[scene.kind == "displaced"], j.survey.sites.position)
        assert (j.role[distance > 2.5 * CRYSTAL.spacing] != "host").sum() <= 1


def test_a_displaced_column_is_odd_in_a_model_that_never_saw_one():
    model = learnt(frames(1, 3))
    for scene in frames(2, 2, displaced=10, by=0.25):
        j = judged(model, scene)
        assert set(j.role[j.kind == "displaced"]) == {"unknown"}


def test_a_column_where_none_belongs_is_odd():
    model = learnt(frames(3, 3))
    (scene,) = frames(4, 1)
    # midway between the two columns of a bond
    bond = (
        scene.position[scene.sublattice == 0]
        + (CRYSTAL.columns[1] - CRYSTAL.columns[0]) @ CRYSTAL.vectors / 2
    )
    bond = bond[((bond > 40) & (bond < SHAPE[0] - 40)).all(1)]
    extra = np.zeros(SHAPE)
    add_columns(extra, bond[::60], [60.0] * len(bond[::60]), scene.width)
    dirty = replace(scene, image=(scene.image + extra).astype(np.float32))
    j = judged(model, dirty)
    for place in bond[::60]:
        near = np.hypot(*(j.survey.sites.position - place).T) < 0.7 * CRYSTAL.spacing
        assert (j.role[near] == "unknown").any()


@pytest.mark.parametrize("counts", [30, 300])
def test_a_host_is_hardly_ever_odd(counts):
    sites = odd = 0
    model = learnt(frames(5, 3, counts=counts))
    # frames that it learnt from, and others
    for scene in frames(5, 3, counts=counts) + frames(6, 3, counts=counts):
        role = judged(model, scene).role
        sites += len(role)
        odd += (role != "host").sum()
    assert sites > 8000
    assert odd <= sites / 2000
    assert all(known.oddities.n_classes == 0 for known in model.sublattices)


def test_vacancies_are_not_odd():
    scenes = frames(7, 3, defects=[("vacancy", 1, 0.03, 0.0)])
    model = learnt(scenes)
    assert not any(known.oddities.n_classes for known in model.sublattices)
    sites = unknown = 0
    for scene in scenes:
        role = judged(model, scene).role
        sites, unknown = sites + len(role), unknown + (role == "unknown").sum()
    assert unknown <= sites / 2000


def test_a_change_of_height_leaves_nothing_odd(rng):
    model = learnt(frames(8, 1))
    for known in model.sublattices:
        heights = rng.normal(size=(5, len(known.templates.columns)))
        changed = known.filter.mean + heights @ known.templates.columns
        np.testing.assert_allclose(known.oddities.residual(changed), 0, atol=1e-6)


def test_the_normal_score_is_that_of_chi_square(rng):
    residual = rng.normal(size=(20_000, 30))
    squared = (residual**2).sum(1)
    exact = norm.isf(chi2.sf(squared, 30))
    usual = exact > -3
    np.testing.assert_allclose(normal_score(squared, 30)[usual], exact[usual], atol=0.05)


# --- On whitened noise, without a picture ----------------------------------------------------------------------


def whitened(rng, n, *classes):
    """Host residuals of unit variance, and classes as (direction, distance, number); the first axis is the column's."""
    parts = [rng.normal(size=(n, 20))]
    for axis, distance, number in classes:
        part = rng.normal(size=(number, 20))
        part[:, axis] += distance
        parts.append(part)
    return np.concatenate(parts)


def oddities_of(moments, seed=0):
    return find_oddities(
        moments, np.ones(len(moments), bool), np.zeros(20), np.eye(20), np.eye(20)[:1], seed=seed
    )


@pytest.mark.filterwarnings("error")
def test_without_a_host_nothing_is_odd(rng):
    moments = rng.normal(size=(60, 20))
    found = find_oddities(moments, np.zeros(60, bool), np.zeros(20), np.eye(20), np.eye(20)[:1], seed=0)
    assert found.n_classes == 0
    assert np.isfinite([found.level, found.spread]).all()


def posteriors(found, moments):
    """Of not being odd, of each class of odd patches, and of none of them."""
    none = found.n_classes + 1
    places = _odd_places(Place(0, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), found, 1, none)
    classifier = _table(places, LEFT_OVER + found.axes.shape[1] + 1)
    residual = found.residual(moments)
    sites = np.full((len(moments), LEFT_OVER + found.axes.shape[1] + 1), np.nan)
    sites[:, LEFT_OVER:] = found.left_over(residual, squared_lengths(residual))
    into = np.array([place.column for place in places])
    return classifier.posteriors(sites, into=into, width=none + 1)


def test_noise_has_no_odd_class(rng):
    for seed in range(5):
        found = oddities_of(whitened(np.random.default_rng(seed), 3000))
        assert found.n_classes == 0
        oddness = found.oddness(found.residual(whitened(rng, 3000)))
        assert oddness.mean() == pytest.approx(0, abs=0.1)
        assert oddness.std() == pytest.approx(1, abs=0.1)
        posterior = posteriors(found, whitened(rng, 3000))
        np.testing.assert_allclose(posterior.sum(1), 1)
        assert (posterior.argmax(1) != 0).sum() <= 1


def test_sites_that_are_odd_alike_are_a_class(rng):
    moments = whitened(rng, 2000, (5, 14.0, 30), (9, 16.0, 25))
    found = oddities_of(moments)
    assert found.n_classes == 2
    posterior = posteriors(found, moments)
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-6)
    best = posterior.argmax(1)
    assert (best[:2000] == 0).mean() > 0.999
    first, second = best[2000:2030], best[2030:]
    assert {len(set(first.tolist())), len(set(second.tolist()))} == {1}
    assert {int(first[0]), int(second[0])} == {1, 2}


def test_odd_sites_each_in_its_own_way_are_of_no_class(rng):
    moments = whitened(rng, 2000)
    directions = rng.normal(size=(8, 19))
    moments[:8, 1:] += 20 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    found = oddities_of(moments)
    assert found.n_classes == 0
    assert (posteriors(found, moments)[:8].argmax(1) == 1).all()


def test_fewer_than_five_alike_are_unknown(rng):
    moments = whitened(rng, 2000, (5, 20.0, 4))
    found = oddities_of(moments)
    assert found.n_classes == 0
    assert (posteriors(found, moments)[-4:, -1] > 0.99).all()


def test_along_a_change_of_occupancy_nothing_is_odd(rng):
    moments = whitened(rng, 2000, (0, 50.0, 40))
    found = oddities_of(moments)
    assert found.n_classes == 0
    assert (found.oddness(found.residual(moments))[-40:] < CANDIDATE).all()
    assert (posteriors(found, moments)[-40:, 0] > 0.9).all()


def test_the_same_seed_gives_the_same_classes(rng):
    moments = whitened(rng, 1000, (5, 14.0, 20))
    first, second = oddities_of(moments, seed=4), oddities_of(moments, seed=4)
    np.testing.assert_array_equal(first.axes, second.axes)
    np.testing.assert_array_equal(posteriors(first, moments), posteriors(second, moments))
