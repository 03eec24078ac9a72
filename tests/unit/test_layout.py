"""Force-relaxed layout: clusters come apart, the forces are the written ones, the same every time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks

import naive
from latticewatch.estimators._layout import SOFTENING, ForceRelaxedLayout, _start, attraction, pack, repulsion


@parametrize_with_checks([ForceRelaxedLayout()])
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def gaussians(rng, sizes, separation, n_features=6):
    """Clusters of unit variance, each one `separation` sigma from every other, and which row is of which."""
    centres = separation / np.sqrt(2) * np.eye(len(sizes), n_features)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return centres[truth] + rng.normal(size=(len(truth), n_features)), truth


def purity(embedding, truth, n_neighbors=10):
    """Share of each cluster's neighbours in the layout that are of the same cluster."""
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(embedding)
    same = truth[search.kneighbors(return_distance=False)] == truth[:, np.newaxis]
    return np.array([same[truth == k].mean() for k in np.unique(truth)])


def test_three_clusters_at_eight_sigma_come_apart(rng):
    rows, truth = gaussians(rng, [300, 300, 300], separation=8)
    embedding = ForceRelaxedLayout().fit_transform(rows)
    assert (purity(embedding, truth) > 0.99).all()
    assert silhouette_score(embedding, truth) > 0.8 > silhouette_score(rows, truth)


def test_rare_classes_come_apart_from_their_host_where_two_components_mix_them(rng):
    rows, truth = gaussians(rng, [1800, 60, 60, 60, 60], separation=8)
    centred = rows - rows.mean(axis=0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    embedding = ForceRelaxedLayout().fit_transform(rows)
    assert purity(plane, truth).min() < 0.9
    assert (purity(embedding, truth) > 0.97).all()


def test_the_same_seed_gives_the_same_layout_and_another_seed_another(rng):
    rows, _ = gaussians(rng, [60, 60], separation=8)
    first = ForceRelaxedLayout(seed=3).fit_transform(rows)
    np.testing.assert_array_equal(ForceRelaxedLayout(seed=3).fit_transform(rows), first)
    assert not np.array_equal(ForceRelaxedLayout(seed=4).fit_transform(rows), first)


def test_the_layout_is_centred_with_unit_rms_in_float32(rng):
    rows = 1e3 + 50 * rng.normal(size=(200, 4))
    embedding = ForceRelaxedLayout().fit_transform(rows)
    assert embedding.shape == (200, 2)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding.mean(axis=0), 0, atol=1e-5)
    assert np.mean(np.sum(embedding**2, axis=1)) == pytest.approx(1, rel=1e-5)


def symmetric_graph(rng, n):
    upper = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.2), 1)
    return upper + upper.T


def test_forces_are_the_written_ones(rng):
    positions = (5 * rng.normal(size=(40, 2))).astype(np.float32)
    positions[7] = positions[3]
    weights = symmetric_graph(rng, 40)
    start = np.concatenate([[0], np.cumsum(np.count_nonzero(weights, axis=1))]).astype(np.int32)
    edges = np.nonzero(weights)
    force = repulsion(np.ascontiguousarray(positions.T), np.array([0, 40]))
    force += attraction(positions, start, edges[1].astype(np.int32), weights[edges].astype(np.float32))
    expected = naive.layout_force(positions, weights, gravity=0.0, softening=float(SOFTENING))
    np.testing.assert_allclose(force, expected, rtol=1e-4, atol=1e-4)


def test_one_step_moves_nodes_along_the_force_no_further_than_the_temperature(rng):
    rows = rng.normal(size=(30, 4))
    distance = np.linalg.norm(rows[:, np.newaxis] - rows, axis=2) + np.diag(np.full(30, np.inf))
    neighbours = distance <= np.sort(distance, axis=1)[:, 4:5]
    start = _start(rows, np.random.default_rng(0)).astype(float)
    force = naive.layout_force(start, (neighbours + neighbours.T.astype(float)) / 2, 0.1, float(SOFTENING))
    length = np.linalg.norm(force, axis=1, keepdims=True)
    temperature = 0.1 * np.sqrt(30)
    assert (length > temperature).any()
    assert (length < temperature).any()
    expected = start + force * np.minimum(1, temperature / length)
    expected -= expected.mean(axis=0)
    expected /= np.sqrt(np.mean(np.sum(expected**2, axis=1)))
    embedding = ForceRelaxedLayout(5, n_iterations=1).fit_transform(rows)
    np.testing.assert_allclose(embedding, expected, atol=1e-4)


def test_repulsion_by_tiles_is_that_of_all_pairs_within_a_hundredth(rng):
    positions = np.concatenate([rng.normal(size=(1500, 2)), [20, 0] + 0.3 * rng.normal(size=(500, 2))])
    positions = (20 * positions).astype(np.float32)
    order, bounds = pack(positions, 8)
    tiled = np.empty_like(positions)
    tiled[order] = repulsion(np.ascontiguousarray(positions[order].T), bounds)
    exact = repulsion(np.ascontiguousarray(positions.T), np.array([0, 2000]))
    assert np.linalg.norm(tiled - exact) < 0.01 * np.linalg.norm(exact)


@pytest.mark.parametrize(("n", "tiles_a_side"), [(1, 1), (10, 3), (1000, 5), (1023, 7)])
def test_tiles_hold_every_node_once_and_about_equally_many(rng, n, tiles_a_side):
    positions = rng.normal(size=(n, 2)).astype(np.float32)
    order, bounds = pack(positions, tiles_a_side)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    assert np.ptp(np.diff(bounds)) <= 1
    strips = np.split(positions[order, 0], bounds[:-1:tiles_a_side][1:])
    assert all(left.max() <= right.min() for left, right in pairwise(strips))


def test_more_nodes_than_are_computed_exactly_separate_as_well(rng, monkeypatch):
    monkeypatch.setattr("latticewatch.estimators._layout.EXACT_NODES", 500)
    rows, truth = gaussians(rng, [1000, 100, 100], separation=8)
    assert (purity(ForceRelaxedLayout().fit_transform(rows), truth) > 0.98).all()


def test_equal_rows_and_fewer_rows_than_neighbours_are_laid_out():
    for rows in (np.ones((2, 3)), np.ones((50, 3)), np.arange(5.0)[:, np.newaxis]):
        embedding = ForceRelaxedLayout().fit_transform(rows)
        assert np.isfinite(embedding).all()
        assert len(np.unique(embedding, axis=0)) == len(rows)


@pytest.mark.parametrize(
    "parameters", [{"n_neighbors": 0}, {"n_iterations": 0}, {"gravity": -1.0}, {"gravity": np.inf}]
)
def test_parameters_that_cannot_work_are_named(parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        ForceRelaxedLayout(**parameters).fit(np.eye(4))


def test_warming_compiles_without_fitting():
    layout = ForceRelaxedLayout().warm()
    assert not hasattr(layout, "embedding_")
