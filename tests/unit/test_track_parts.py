"""The parts of the tracker against their slow, obvious versions."""

from __future__ import annotations

import numpy as np
import pytest

from latticewatch.track._correlation import displacement, shrink_of, thumbnail
from latticewatch.track._evidence import Evidence
from latticewatch.track._grid import Grid


def nearest_naive(position, sublattice, point, point_sublattice, radius):
    index = np.full(len(position), -1)
    for q in range(len(position)):
        distance = np.hypot(*(point - position[q]).T)
        distance[point_sublattice != sublattice[q]] = np.inf
        if len(distance) and distance.min() < radius:
            index[q] = distance.argmin()
    return index


@pytest.mark.parametrize("radius", [3.0, 10.0, 25.0])
def test_the_grid_finds_what_a_loop_over_all_points_finds(rng, radius):
    point, position = rng.normal(size=(400, 2)) * 80, rng.normal(size=(300, 2)) * 100 - 20
    kinds, wanted = rng.integers(-1, 2, 400).astype(np.int16), rng.integers(-1, 2, 300).astype(np.int16)
    found = Grid.of(point, kinds, 10.0).nearest(position, wanted, radius)
    np.testing.assert_array_equal(found, nearest_naive(position, wanted, point, kinds, radius))


def test_a_point_wanted_by_two_goes_to_the_nearer(rng):
    point, kinds = np.array([[0.0, 0.0], [10.0, 0.0]]), np.zeros(2, np.int16)
    position = np.array([[0.3, 0.0], [0.1, 0.0], [9.0, 0.0], [50.0, 0.0]])
    index, crowded = Grid.of(point, kinds, 5.0).link(position, np.zeros(4, np.int16), 4.0)
    assert index.tolist() == [-1, 0, 1, -1]
    assert crowded.tolist() == [True, False, False, False]


def test_a_grid_without_points_finds_nothing():
    grid = Grid.of(np.zeros((0, 2)), np.zeros(0, np.int16), 5.0)
    assert grid.nearest(np.zeros((2, 2)), np.zeros(2, np.int16), 4.0).tolist() == [-1, -1]


def forward_naive(likelihood, prior, before, stay):
    expected = stay * before + (1 - stay) * prior
    posterior = expected * np.exp(likelihood - likelihood.max())
    return posterior / posterior.sum()


def test_the_forward_step_is_that_of_the_hidden_markov_model(rng):
    prior = np.array([0.8, 0.15, 0.05])
    evidence = Evidence(0.01)
    ids, sublattice = np.array([0, 1, -1], np.int16), np.zeros(50, np.int16)
    known = np.zeros((50, 3), np.float32)
    expected = np.tile(prior, (50, 1))
    for frame in range(6):
        value = rng.normal(size=(50, 3)) * 2
        _, likelihood = evidence.single_frame(
            (value + np.log(prior)).astype(np.float32), sublattice, ids, np.log(prior)
        )
        frames = np.full(50, frame)
        known = evidence.fold(likelihood, sublattice, known, np.ones(50, np.int64), frames)
        stay = 0.99 if frame else 0.0
        expected = np.array(
            [forward_naive(*row, stay) for row in zip(value, np.tile(prior, (50, 1)), expected, strict=True)]
        )
        np.testing.assert_allclose(known, expected, rtol=1e-3, atol=1e-6)


def test_priors_are_estimated_as_the_frequency_of_the_classes(rng):
    evidence, prior = Evidence(1e-4), np.array([0.9, 0.1])
    ids, sublattice = np.array([0, 1], np.int16), np.zeros(4000, np.int16)
    state = rng.random(4000) < prior[1]
    feature = rng.normal(size=4000) + 3.0 * state
    value = np.stack([np.zeros(4000), 3.0 * feature - 4.5], axis=1) + np.log(prior)
    _, likelihood = evidence.single_frame(value.astype(np.float32), sublattice, ids, None)
    np.testing.assert_allclose(likelihood[:, 1] - likelihood[:, 0], 3.0 * feature - 4.5, atol=0.2)


@pytest.mark.parametrize("repeated", [0.0, 0.3, 1.0])
def test_repeatability_is_the_share_of_the_variance_that_is_the_same_in_every_frame(rng, repeated):
    evidence, prior = Evidence(1e-4), np.array([0.9, 0.05, 0.04, 0.01])
    ids, sublattice = np.array([0, 1, 2, -1], np.int16), np.zeros(2000, np.int16)
    static, sure = rng.normal(size=(2000, 4)), np.tile(np.eye(4, dtype=np.float32)[0], (2000, 1))
    before = None
    for _ in range(20):
        now = np.sqrt(repeated) * static + np.sqrt(1 - repeated) * rng.normal(size=(2000, 4))
        evidence.single_frame((now + np.log(prior)).astype(np.float32), sublattice, ids, np.log(prior))
        if before is not None:
            evidence.measure(now.astype(np.float32), before, sure, sublattice)
        before = now.astype(np.float32)
    assert evidence.repeatability == pytest.approx(repeated, abs=0.03)


@pytest.mark.parametrize("shift", [(0, 0), (7, -12), (-30, 21)])
def test_phase_correlation_says_how_far_features_have_moved(rng, shift):
    scene = rng.normal(size=(300, 300))
    scene = (scene + np.roll(scene, 1, 0) + np.roll(scene, 1, 1)).astype(np.float32)
    before = scene[80:220, 80:200]
    now = scene[80 - shift[0] : 220 - shift[0], 80 - shift[1] : 200 - shift[1]]
    np.testing.assert_allclose(displacement(before, now), shift, atol=0.3)


def test_constant_images_have_not_moved():
    flat = np.ones((32, 40), np.float32)
    np.testing.assert_array_equal(displacement(flat, flat), (0, 0))


def test_a_thumbnail_is_the_mean_of_blocks_and_leaves_the_remainder_out():
    image = np.arange(1025 * 600, dtype=np.float32).reshape(1025, 600)
    shrink = shrink_of(image.shape)
    small = thumbnail(image, shrink)
    assert small.shape == (205, 120)
    assert max(small.shape) <= 256
    assert small[1, 2] == pytest.approx(image[5:10, 10:15].mean())
