"""The compiled parts of discovery against their slow, obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from latticewatch.learn._local import _apply, _bin, standardise
from latticewatch.learn._neighbours import neighbour_index, without_neighbours

seeds = st.integers(0, 2**32 - 1)
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
def test_bins_hold_the_hosts_around_their_node(seed):
    rng = np.random.default_rng(seed)
    values, position = 2 * rng.normal(size=80), rng.uniform(0, 99, (80, 2))
    known, centre = rng.random(80) < 0.8, rng.normal(size=(5, 6))
    width = rng.uniform(0.5, 1.5, (5, 6))
    arguments = values, position, known, centre, width, 22.0, 1.5
    np.testing.assert_allclose(_bin(*arguments), naive.binned(*arguments), atol=1e-9)


@given(seed=seeds)
@few
def test_local_levels_are_interpolated(seed):
    rng = np.random.default_rng(seed)
    values, position = rng.normal(size=30), rng.uniform(0, 120, (30, 2))
    centre, width = rng.normal(size=(5, 6)), rng.uniform(0.5, 1.5, (5, 6))
    arguments = values, position, centre, width, 22.0
    np.testing.assert_allclose(_apply(*arguments), naive.levelled(*arguments), rtol=1e-4, atol=1e-4)


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
