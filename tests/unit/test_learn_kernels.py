"""The compiled parts of discovery against their slow, obvious versions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from latticewatch.estimators._posteriors import posteriors
from latticewatch.model._displacement import DisplacementFilter
from latticewatch.model._local import _apply, _bin, standardise
from latticewatch.model._mixture import Mixture
from latticewatch.model._neighbours import neighbour_index, without_neighbours, without_unseen
from latticewatch.model._projection import scores_alone
from latticewatch.model._shares import add_columns, share_neighbours
from latticewatch.model._shifts import (
    ECHO_ERROR,
    HEIGHT_SIGMA,
    SHARE,
    STRAIN_SHARE,
    Effects,
    Readings,
    settle_shifts,
)
from latticewatch.model._templates import ORDER

seeds = st.integers(0, 2**32 - 1)
NONE, NOTHING = np.zeros(0), np.zeros((0, 0))
few = settings(max_examples=25, deadline=None, derandomize=True)


@given(seed=seeds, n=st.integers(0, 60))
@few
def test_neighbours_are_found_by_their_cells(seed, n):
    rng = np.random.default_rng(seed)
    # one site to a cell and sublattice; some peaks of no sublattice among them
    every = np.array([(s, a, b) for s in range(2) for a in range(-4, 4) for b in range(3, 9)])
    chosen = rng.permutation(every)[:n]
    sublattice, cell = chosen[:, 0].astype(np.int16), chosen[:, 1:].astype(np.int32)
    sublattice[rng.random(n) < 0.1] = -1
    tables = tuple(
        np.column_stack([rng.integers(0, 2, k), rng.integers(-2, 3, (k, 2))]).astype(np.int32) for k in (5, 3)
    )
    found = neighbour_index(sublattice, cell, tables)
    np.testing.assert_array_equal(found, naive.neighbours_of(sublattice, cell, tables))


@given(seed=seeds)
@few
def test_what_the_neighbours_add_is_taken_off(seed):
    rng = np.random.default_rng(seed)
    moments = rng.normal(size=(12, 5)).astype(np.float32)
    amplitude = rng.normal(size=12) * (rng.random(12) < 0.4)
    index = rng.integers(-1, 12, (12, 6)).astype(np.int32)
    # fewer templates than columns: another sublattice has more neighbours
    templates, rows = rng.normal(size=(5, 5)), rng.permutation(12)[:7]
    found = without_neighbours(moments, amplitude, rows, index, templates)
    np.testing.assert_allclose(found, naive.moments_alone(moments, amplitude, rows, index, templates))


@given(seed=seeds)
@few
def test_scores_are_those_of_the_moments_without_the_neighbours(seed):
    rng = np.random.default_rng(seed)
    n, n_moments, k = 15, 8, 4
    moments = rng.normal(size=(n, n_moments)).astype(np.float32)
    amplitude = rng.normal(size=n) * (rng.random(n) < 0.4)
    # a column more than this sublattice has neighbours
    index = rng.integers(-1, n, (n, k + 1)).astype(np.int32)
    templates, whitening = 4 * rng.normal(size=(k + 1, n_moments)), rng.normal(size=(n_moments, n_moments))
    mean, weights = rng.normal(size=(2, n_moments))
    rows, signal = rng.permutation(n)[:11], templates @ whitening
    height = (moments[rows] - mean) @ np.column_stack([weights, whitening @ signal.T])
    found = scores_alone(height, amplitude, rows, index, templates @ weights, signal @ signal.T)
    alone = without_neighbours(moments, amplitude, rows, index, templates)
    alone = without_unseen(alone, mean, whitening, templates, index[rows])
    # but for the ridge
    np.testing.assert_allclose(found, (alone - mean) @ weights, atol=0.02)


@given(seed=seeds, classes=st.integers(1, 4))
@few
def test_densities_are_normal_with_a_tail_beside_the_host(seed, classes):
    rng = np.random.default_rng(seed)
    values, mean = 5 * rng.normal(size=9), rng.normal(size=classes)
    deviation, weight = rng.uniform(0.3, 2, (2, classes))
    found = Mixture(mean, deviation, weight, background=0.01, span=30.0).densities(values)
    expected = naive.weighted_densities(values, mean, deviation, weight, 0.01, 30.0)
    np.testing.assert_allclose(found, expected, atol=1e-40)


@given(seed=seeds, classes=st.integers(1, 5), axes=st.integers(1, 4))
@few
def test_posteriors_are_those_of_normal_densities_written_out(seed, classes, axes):
    rng = np.random.default_rng(seed)
    centroids, spreads = 3 * rng.normal(size=(classes, axes)), rng.uniform(0.5, 2, (classes, axes))
    depth = rng.integers(1, axes + 1, classes)
    centroids[np.arange(axes) >= depth[:, None]] = np.nan
    # somewhere along the last axis that it says something of
    anywhere = rng.random(classes) < 0.3
    spreads[anywhere, depth[anywhere] - 1] = np.inf
    reaches, priors = np.where(anywhere, 20.0, 1.0), rng.dirichlet(np.ones(classes))
    x = 4 * rng.normal(size=(7, axes))
    x[rng.random(x.shape) < 0.1] = np.nan
    found = posteriors(
        x,
        NONE,
        NOTHING,
        centroids,
        spreads,
        np.ones(classes),
        np.log(reaches),
        np.log(priors),
        np.arange(classes),
        classes,
    )
    expected = [naive.class_posteriors(row, centroids, spreads, reaches, priors) for row in x]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_classes_that_differ_along_one_axis_alone_are_told_by_it_alone(rng):
    centroids = np.array([[0.0, 2.0, -1.0], [4.0, 2.0, -1.0], [9.0, 2.0, -1.0]])
    spreads, nothing = np.full((3, 3), 1.5), np.zeros(3)
    x, prior, into = 5 * rng.normal(size=(50, 3)), np.log([0.9, 0.08, 0.02]), np.arange(3)
    whole = posteriors(x, NONE, NOTHING, centroids, spreads, np.ones(3), nothing, prior, into, 3)
    alone = posteriors(
        np.ascontiguousarray(x[:, :1]),
        NONE,
        NOTHING,
        np.ascontiguousarray(centroids[:, :1]),
        np.ascontiguousarray(spreads[:, :1]),
        np.ones(3),
        nothing,
        prior,
        into,
        3,
    )
    np.testing.assert_allclose(whole, alone, atol=1e-12)


def test_posteriors_far_from_every_class_do_not_underflow():
    centroids, spreads = np.array([[0.0], [40.0]]), np.ones((2, 1))
    found = posteriors(
        np.array([[-1e3]]),
        NONE,
        NOTHING,
        centroids,
        spreads,
        np.ones(2),
        np.zeros(2),
        np.log([0.9, 0.1]),
        np.arange(2),
        2,
    )
    np.testing.assert_allclose(found, [[1.0, 0.0]])


@given(seed=seeds)
@few
def test_posteriors_of_a_sublattice_go_to_its_classes(seed):
    rng = np.random.default_rng(seed)
    out, rows = np.zeros((9, 6)), rng.permutation(9)[:5]
    posterior = rng.dirichlet(np.ones(5), 5)
    # classes 4 and 1 of the catalogue are one for this model
    add_columns(out, rows, posterior, np.array([3, 1, 1, 4, -1]))
    expected = np.zeros((9, 6))
    expected[rows, 3], expected[rows, 1] = posterior[:, 0], posterior[:, 1] + posterior[:, 2]
    expected[rows, 4], expected[rows, 5] = posterior[:, 3], posterior[:, 4]
    np.testing.assert_allclose(out, expected)


@given(seed=seeds)
@few
def test_hosts_beside_defects_are_neighbours(seed):
    rng = np.random.default_rng(seed)
    out, index = rng.dirichlet(np.ones(6), 12), rng.integers(-1, 12, (12, 3)).astype(np.int32)
    beside = np.array([(0, 1, 3), (2, 1, 4), (2, 2, 3)])
    rows, seen = rng.permutation(12)[:8], out.copy()
    share_neighbours(out, seen, rows, index, 0, beside)
    np.testing.assert_allclose(out, naive.shared_among_neighbours(seen, rows, index, 0, beside))
    np.testing.assert_allclose(out.sum(1), 1)


@given(seed=seeds)
@few
def test_bins_hold_the_hosts_around_their_node(seed):
    rng = np.random.default_rng(seed)
    values, position = 2 * rng.normal(size=80), rng.uniform(0, 99, (80, 2))
    known, centre = rng.random(80) < 0.8, rng.normal(size=(5, 6))
    width = rng.uniform(0.5, 1.5, (5, 6))
    found = _bin(values, position, known, np.stack([centre, width], -1), 22.0, 1.5)
    np.testing.assert_allclose(
        found, naive.binned(values, position, known, centre, width, 22.0, 1.5), atol=1e-9
    )


@given(seed=seeds)
@few
def test_local_levels_are_interpolated(seed):
    rng = np.random.default_rng(seed)
    values, position = rng.normal(size=30), rng.uniform(0, 120, (30, 2))
    centre, width = rng.normal(size=(5, 6)), rng.uniform(0.5, 1.5, (5, 6))
    found = _apply(values, position, np.stack([centre, width], -1), 22.0)
    np.testing.assert_allclose(
        found, naive.levelled(values, position, centre, width, 22.0), rtol=1e-4, atol=1e-4
    )


@given(seed=seeds, hosts=st.sampled_from([0.0, 0.05, 0.9]))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_scores_are_in_units_of_the_hosts_around(seed, hosts):
    rng = np.random.default_rng(seed)
    values, position = 3 + 2 * rng.normal(size=150), rng.uniform(0, 100, (150, 2))
    host = rng.random(150) < hosts
    found = standardise(values, position, np.zeros(150, np.int32), host, (100, 100))
    np.testing.assert_allclose(
        found, naive.standardised(values, position, host, (100, 100)), rtol=1e-4, atol=1e-4
    )


def test_a_level_and_spread_that_change_over_the_frame_are_followed(rng):
    position = rng.uniform(0, 500, (4000, 2))
    true = rng.normal(size=4000)
    across = position[:, 1] / 500
    values = 10 + 3 * across + (1 + across) * true
    score = standardise(values, position, np.zeros(4000, np.int32), np.ones(4000, bool), (500, 500))
    for part in (across < 0.25, across > 0.75):
        assert score[part].mean() == pytest.approx(0, abs=0.25)
        assert score[part].std() == pytest.approx(1, abs=0.12)
    assert np.corrcoef(score, true)[0, 1] > 0.97


def test_frames_of_different_gain_are_levelled_one_by_one(rng):
    frame = np.repeat(np.arange(2, dtype=np.int32), 1000)
    values = np.where(frame == 0, 5.0, -7.0) + np.where(frame == 0, 1.0, 4.0) * rng.normal(size=2000)
    score = standardise(values, rng.uniform(0, 300, (2000, 2)), frame, np.ones(2000, bool), (300, 300))
    for number in (0, 1):
        assert score[frame == number].mean() == pytest.approx(0, abs=0.1)
        assert score[frame == number].std() == pytest.approx(1, abs=0.1)


def test_defects_among_the_sites_do_not_move_the_level(rng):
    values = rng.normal(size=2000)
    values[:100] -= 15.0
    position = rng.uniform(0, 300, (2000, 2))
    score = standardise(values, position, np.zeros(2000, np.int32), np.ones(2000, bool), (300, 300))
    assert np.median(score[100:]) == pytest.approx(0, abs=0.1)
    assert score[100:].std() == pytest.approx(1, abs=0.12)


def a_filter(rng, n_places, farthest):
    """A filter of the displacement that says about what its first order says, and of neighbours a little."""
    n_terms = ORDER * (ORDER + 3) // 2
    says = 0.05 * rng.normal(size=(n_places, n_terms, 2))
    says[0, :2] += 10 * np.eye(2)
    return DisplacementFilter(
        weights=np.zeros((1, 2)),
        px_of_sigma=farthest / 10 * np.eye(2),
        says=says,
        height_says=0.05 * rng.normal(size=(n_places, n_terms)),
        farthest_px=farthest,
    )


def around_in_a_square(side):
    """Four neighbours of each site of a square grid; -1 beyond its edge."""
    number = np.pad(np.arange(side * side).reshape(side, side), 1, constant_values=-1)
    shifted = [number[2:, 1:-1], number[:-2, 1:-1], number[1:-1, 2:], number[1:-1, :-2]]
    return np.stack([one.ravel() for one in shifted], 1).astype(np.int32)


@given(seed=seeds, strained=st.booleans())
@few
def test_displacements_are_settled_one_after_another(seed, strained):
    rng = np.random.default_rng(seed)
    index = around_in_a_square(6)
    n = len(index)
    sublattice = rng.integers(0, 2, n).astype(np.int16)
    filters = [a_filter(rng, 5, 3.0), a_filter(rng, 6, 2.5)]
    z = rng.normal(size=(n, 2))
    z[rng.random(n) < 0.2] += rng.normal(0.0, 6.0, 2)
    if strained:
        z += 5.0
    readings = Readings(z, rng.uniform(0.8, 1.2, (n, 2)), rng.normal(size=n), sublattice, index)
    gates = [16.0, 20.0]
    found = settle_shifts(readings, filters, gates)
    limits = HEIGHT_SIGMA, SHARE, ECHO_ERROR, STRAIN_SHARE
    expected = naive.settled_shifts(readings, filters, gates, limits)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(seed=seeds)
@few
def test_the_light_of_what_is_displaced_or_between_the_columns(seed):
    rng = np.random.default_rng(seed)
    n, k, n_columns, n_moments, farthest, between = 20, 5, 3, 6, 2.0, 3.0
    index = rng.integers(-1, n, (n, k + 1)).astype(np.int32)
    rows = rng.permutation(n)[:12]
    few_of_them = rng.random((n, 2)) < 0.3
    effects = Effects(
        np.where(few_of_them[:, :1], rng.normal(size=(n, 2)), 0.0),
        np.where(few_of_them[:, 1], rng.random(n), 0.0),
        rng.normal(size=(n, 2)),
    )
    moments = rng.normal(size=(k + 1, n_moments))
    moved = rng.normal(size=(k + 1, ORDER * (ORDER + 3) // 2, n_moments))
    known = SimpleNamespace(
        neighbour=np.zeros((k, 3)),
        n_columns=n_columns,
        moments=moments,
        moved=moved,
        farthest_px=farthest,
        away_px=between,
    )
    which, change = effects.seen(SimpleNamespace(index=index), rows, known)
    found = np.zeros((len(rows), n_moments))
    found[which] = change
    reaches = (farthest, between)
    expected = naive.light_around(
        index, rows, n_columns, effects.shift, effects.extra, effects.away, moments, moved, reaches, ORDER
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # and beside itself it adds nothing
    which, change = effects.beyond(effects, SimpleNamespace(index=index), rows, known)
    assert not len(which)
    assert not len(change)
