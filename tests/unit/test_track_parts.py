"""The parts of the tracker against their slow, obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from _track_scene import Scene, softmax

from latticewatch.track._correlation import displacement, shrink_of, thumbnail
from latticewatch.track._evidence import Evidence, false_alarm_change
from latticewatch.track._grid import Grid
from latticewatch.track._map import TrackMap
from latticewatch.track._places import _Frame
from latticewatch.track._registration import Points
from latticewatch.track._states import States


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
    shift = np.array([3.0, -5.0])
    near, index = Grid.of(point, kinds, 10.0).link(position + shift, shift, wanted, radius)
    np.testing.assert_array_equal(near, nearest_naive(position, wanted, point, kinds, radius))
    distance = np.hypot(*(position - point[near]).T)
    for p in set(near.tolist()) - {-1}:
        want = np.flatnonzero(near == p)
        assert np.flatnonzero(index == p).tolist() == [want[distance[want].argmin()]]


def test_a_point_wanted_by_two_goes_to_the_nearer(rng):
    point, kinds = np.array([[0.0, 0.0], [10.0, 0.0]]), np.zeros(2, np.int16)
    position = np.array([[0.3, 0.0], [0.1, 0.0], [9.0, 0.0], [50.0, 0.0]])
    near, index = Grid.of(point, kinds, 5.0).link(position, np.zeros(2), np.zeros(4, np.int16), 4.0)
    assert index.tolist() == [-1, 0, 1, -1]
    assert near.tolist() == [0, 0, 1, -1]


def test_a_grid_without_points_finds_nothing():
    grid = Grid.of(np.zeros((0, 2)), np.zeros(0, np.int16), 5.0)
    near, index = grid.link(np.zeros((2, 2)), np.zeros(2), np.zeros(2, np.int16), 4.0)
    assert near.tolist() == index.tolist() == [-1, -1]


IDS, ROLES = np.array([0, 1, 2, -1], np.int16), ("host", "defect", "defect", "unknown")
PRIOR = np.array([0.9, 0.05, 0.049, 0.001])


class Sites:
    """Evidence about some sites of one sublattice, frame by frame."""

    def __init__(self, n, change=1e-4, prior=PRIOR):
        self.evidence, self.prior = Evidence(), prior
        self.row, self.index = np.ones(n, np.int64), np.arange(n)
        states = States.of(ROLES)
        self.tracks = TrackMap(IDS, states, np.zeros(2), 24.0, (9, 9), crystalline=True, provisional=False)
        self.tracks.append(np.zeros((n, 2)), np.zeros(n, np.int16), np.arange(n, dtype=np.int32), 1)
        self.change, self.now = change, 0

    def __call__(self, log_likelihood):
        """Posteriors after a frame with these log p(moments | class)."""
        posterior = softmax(log_likelihood + np.log(self.prior))
        value, _ = self.evidence.single_frame(posterior, self.row, IDS, ROLES, np.log(self.prior))
        self.evidence.change = self.change
        self.now += 1
        self.evidence.fold(self.tracks, self.index, value, posterior, self.row, self.now)
        self.tracks.last_seen[:] = self.now
        return self.tracks.posterior


def test_a_map_that_is_dropped_leaves_its_grid_to_no_other(rng):
    observation, _ = Scene(rng).frame()
    points = Points.of(observation.position, observation.sublattice, np.zeros(0, bool), observation.vectors)
    frame = _Frame(points, observation)

    def empty():
        return TrackMap(IDS, States.of(ROLES), np.zeros(2), 24.0, (9, 9), crystalline=True, provisional=True)

    # a new map often gets the memory, and so the address, of the one dropped before it
    for n in range(1, 30):
        tracks = empty()
        assert len(frame.grid(tracks).point) == 0
        dropped = empty()
        dropped.append(np.zeros((n, 2)), np.zeros(n, np.int16), np.arange(n, dtype=np.int32), 1)
        assert len(frame.grid(dropped).point) == n
        del dropped, tracks


def test_tracks_added_and_dropped_piece_by_piece_are_those_added_at_once(rng):
    def empty():
        return TrackMap(IDS, States.of(ROLES), np.zeros(2), 24.0, (9, 9), crystalline=True, provisional=False)

    position, kinds, number = rng.normal(size=(90, 2)), np.zeros(90, np.int16), np.arange(90, dtype=np.int32)
    whole, pieces = empty(), empty()
    whole.append(position, kinds, number, 5)
    for first, last in ((0, 40), (40, 41), (41, 41), (41, 80), (80, 90)):
        pieces.append(position[first:last], kinds[first:last], number[first:last], 5)
        pieces.posterior[:, 0] = pieces.track
        if last >= 80:
            pieces.keep(pieces.track >= 7)
    whole.posterior[:, 0] = whole.track
    whole.keep(whole.track >= 7)
    for name in TrackMap.COLUMNS:
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
        assert getattr(pieces, name).dtype == getattr(empty(), name).dtype


def frame_of(rng, state, separation, deviation=None, repeated=0.0):
    """Log-likelihoods of Gaussian classes, each defect on an axis of its own; unknown six nats behind the host."""
    feature = rng.normal(size=(len(state), 4)) * np.sqrt(1 - repeated)
    if deviation is not None:
        feature += np.sqrt(repeated) * deviation
    feature[np.arange(len(state)), state] += separation * (state > 0)
    value = separation * feature - separation**2 / 2
    value[:, 0], value[:, 3] = 0.0, -6.0
    return value


def test_a_map_that_an_earlier_version_kept_lacks_nothing(rng):
    tracks = TrackMap(IDS, States.of(ROLES), np.zeros(2), 24.0, (9, 9), crystalline=True, provisional=False)
    tracks.append(rng.uniform(0, 9, (4, 2)), np.zeros(4, np.int16), np.arange(4, dtype=np.int32), 3)
    tracks.known[:, :5] = rng.normal(size=(4, 5, tracks.known.shape[2]))
    whole = tracks.known.copy()
    tracks.known = tracks.known[:, :5]
    tracks.set_classes(IDS, States.of(ROLES))
    np.testing.assert_array_equal(tracks.known, whole)


def test_without_a_change_the_posterior_is_that_of_all_frames_together(rng):
    state = rng.choice(3, 400, p=[0.8, 0.1, 0.1])
    sites = Sites(400)
    total = np.zeros((400, 4))
    for _ in range(4):
        value = frame_of(rng, state, 1.5)
        known = sites(value)
        total += value
    posterior = np.exp(total) * PRIOR
    posterior /= posterior.sum(axis=1, keepdims=True)
    undecided = posterior.max(axis=1) < 0.97
    assert undecided.sum() > 20
    # The prior of unknown is followed, and those that were settled in between wait for more before they turn.
    np.testing.assert_allclose(np.median(np.abs(known - posterior)[undecided]), 0, atol=0.01)
    assert (known.argmax(axis=1) == posterior.argmax(axis=1)).mean() > 0.98


def test_a_change_is_found_as_by_the_likeliest_moment_of_change(rng):
    """Of one site, against the sums from every possible moment."""
    separation, change = 3.0, 1e-5
    state = np.zeros(300, int)
    sites = Sites(300, change)
    for _ in range(20):
        sites(frame_of(rng, state, separation))
    state[:] = 1
    ratios, first = [], np.full(300, -1)
    naive = np.full(300, -1)
    for frame in range(12):
        value = frame_of(rng, state, separation)
        ratios.append(value[:, 1] - value[:, 0])
        best = np.array([np.cumsum(ratios[::-1], axis=0)]).max(axis=(0, 1))
        odds = change * PRIOR[1] * np.exp(best)
        naive[(odds > 1) & (naive < 0)] = frame
        found = sites(value)[:, 1] > 0.5
        first[found & (first < 0)] = frame
    assert (first >= 0).mean() > 0.98
    assert (np.abs(first - naive) <= 1).mean() > 0.9


def test_false_changes_are_no_more_frequent_than_their_chance(rng):
    sites, changed = Sites(3000, change=1e-2), 0
    for frame in range(150):
        posterior = sites(frame_of(rng, np.zeros(3000, int), 2.5))
        if frame == 30:
            settled = posterior[:, 0] > 0.999
        if frame > 30:
            wrong = settled & (posterior[:, 1:3].sum(axis=1) > 0.95)
            changed += wrong.sum()
            settled &= ~wrong
    expected = 3000 * 120 * 1e-2 * PRIOR[1:3].sum() * (1 / 0.95 - 1)
    assert 0 < changed < expected


@pytest.mark.parametrize("separation", [2.5, 4.0])
def test_deviations_that_repeat_are_no_change(rng, separation):
    deviation = rng.normal(size=(1500, 4))
    sites, state = Sites(1500, change=1e-4), np.zeros(1500, int)
    for _ in range(100):
        posterior = sites(frame_of(rng, state, separation, deviation, 0.4))
    # Those that deviate most are not among the intact ones.
    assert sites.evidence.repeatability == pytest.approx(0.4, abs=0.08)
    wrong = posterior[:, 0] < 0.5
    assert wrong.mean() < 0.02
    state[:] = 1
    for _ in range(12):
        posterior = sites(frame_of(rng, state, separation, deviation, 0.4))
    assert (posterior[:, 1] > 0.5)[~wrong].mean() > 0.97


def test_neighbours_are_no_other_state_than_hosts():
    states = States.of(("host", "defect", "neighbour", "defect", "unknown", "unknown"))
    assert states.of_column.tolist() == [0, 1, 0, 2, 3, 3]
    prior = np.array([[0.9, 0.06, 0.2, 0.03, 0.005, 0.005]])
    np.testing.assert_allclose(states.priors(prior), [[0.9, 0.06, 0.03, 0.01]])
    np.testing.assert_allclose(prior @ states.member, [[1.1, 0.06, 0.03, 0.01]])
    assert states.defects.tolist() == [1, 3]
    assert states.unknown.tolist() == [4, 5]
    assert states.ids(np.array([7, 8, 9, 10, 11, -1])) == [-2, 8, 10, -1]


def test_the_rate_of_false_events_is_that_of_the_thresholds():
    # 2 × 25 defects × ε × (1/0.95 − 1) = the rate asked for
    assert false_alarm_change(1e-3, 25, 0.95) == pytest.approx(1e-3 / (50 * (1 / 0.95 - 1)))
    assert false_alarm_change(1e-9, 25, 0.95) < false_alarm_change(1e-3, 25, 0.95) < 1e-2 + 1e-9


def test_priors_are_estimated_as_the_frequency_of_the_classes(rng):
    evidence, prior = Evidence(), np.array([0.9, 0.099, 0.001])
    ids, roles = np.array([0, 1, -1], np.int16), ("host", "defect", "unknown")
    state = rng.random(4000) < prior[1]
    feature = rng.normal(size=4000) + 3.0 * state
    value = np.stack([np.zeros(4000), 3.0 * feature - 4.5, np.full(4000, -9.0)], axis=1) + np.log(prior)
    evidence.single_frame(softmax(value), np.ones(4000, np.int64), ids, roles, None)
    assert evidence.expected_defects(np.ones(1000, np.int64)) == pytest.approx(100, rel=0.1)


def test_nothing_can_be_on_a_sublattice_that_the_newest_frame_has_no_more():
    evidence = Evidence()
    ids, roles = np.array([0, 1, -1], np.int16), ("host", "defect", "unknown")
    # one sublattice in this frame, where the tracks know three
    evidence.single_frame(np.full((50, 3), 1 / 3, np.float32), np.ones(50, np.int64), ids, roles, None)
    found = evidence.priors(np.array([0, 1, 2], np.int16), 1)
    assert found[0] > 0
    assert found[1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("repeated", [0.0, 0.3, 1.0])
def test_repeatability_is_the_share_of_the_variance_that_is_the_same_in_every_frame(rng, repeated):
    sites, state, deviation = Sites(2000), np.zeros(2000, int), rng.normal(size=(2000, 4))
    for _ in range(20):
        sites(frame_of(rng, state, 4.0, deviation, repeated))
    assert sites.evidence.repeatability == pytest.approx(repeated, abs=0.03)


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
