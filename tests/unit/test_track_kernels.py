"""The kernels of the tracker against slow references."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from latticewatch.track._grid import Grid
from latticewatch.track._priors import follow_priors
from latticewatch.track._reading import add_up, weigh
from latticewatch.track._registration import _box, _meet, _phase
from latticewatch.track._restless import find_restless
from latticewatch.track._segments import BASE, N_ROWS, step
from latticewatch.track._shares import share_out
from latticewatch.track._tracker import _most_probable

# Two sublattices, the first row for peaks; host, defect, neighbour, defect, defect, unknown.
STATE = np.array([0, 1, 0, 2, 3, 4])
PRIOR = np.array(
    [[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [0.9, 0.05, 0.04, 0.0, 0.0, 0.01], [0.8, 0.0, 0.1, 0.05, 0.03, 0.02]]
)


def frame_of(rng, n=60):
    """Posteriors of a frame, nothing said about two sites, and the row of the priors of each site."""
    row = rng.integers(1, 3, n)
    posterior = rng.dirichlet(np.full(6, 0.15), n) * (PRIOR[row] > 0)
    posterior[rng.random(posterior.shape) < 0.2] *= 1e-32
    posterior /= posterior.sum(axis=1, keepdims=True)
    posterior[3], posterior[4] = 0.0, np.nan
    return posterior.astype(np.float32), row


def test_the_evidence_of_a_frame_is_that_of_a_loop_over_sites(rng):
    posterior, row = frame_of(rng)
    with np.errstate(divide="ignore"):
        log_prior = np.log(np.stack([PRIOR[:, s == STATE].sum(axis=1) for s in range(5)], axis=1))
    value, total, evident = add_up(posterior, row, STATE, 3, 5)
    mass = value.copy()
    weigh(value, row, log_prior)
    for i in range(len(row)):
        expected = naive.likelihood_of_states(posterior[i].astype(float), STATE, log_prior[row[i]])
        if expected is None:
            assert np.isnan(value[i]).all()
            assert not mass[i].any()
            continue
        np.testing.assert_allclose(value[i], expected, rtol=1e-5, atol=1e-4)
        assert evident[i] == (posterior[i, [1, 3, 4]].sum() > 0.5)
    said = np.nan_to_num(posterior)
    for r in range(3):
        np.testing.assert_allclose(total[r], said[row == r].sum(axis=0), rtol=1e-5, atol=1e-20)
        assert ((total[r] > 0) == (said[row == r] > 1e-26).any(axis=0)).all()


@pytest.mark.parametrize("frames", [1, 4])
def test_priors_follow_the_frequency_of_unknown_and_what_is_given_of_the_others(rng, frames):
    unknown, given = STATE == 4, np.array([0.7, 0.1, 0.05, 0.1, 0.05, 1e-6])
    totals = rng.random((frames, 3, 6)) * np.where(unknown, 0.1, 1.0) * (PRIOR > 0)
    totals[0, 2, 4] = 0.0
    possible, frequency, prior = np.zeros((3, 6), bool), np.zeros((3, 6)), np.zeros((3, 6))
    for total in totals:
        follow_priors(total, given, unknown, possible, frequency, prior)
    for r in range(3):
        np.testing.assert_allclose(prior[r], naive.priors_followed(totals[:, r], given, unknown), atol=1e-9)
    once = np.zeros((2, 3, 6))
    follow_priors(totals[0], np.zeros(0), unknown, np.zeros((3, 6), bool), *once)
    np.testing.assert_array_equal(*once)


def test_a_state_is_shared_among_its_classes_as_by_a_loop_over_sites(rng):
    alone, row = frame_of(rng)
    alone = np.nan_to_num(alone)
    posterior = rng.dirichlet(np.full(6, 0.2), len(row)).astype(np.float32) * (PRIOR[row] > 0)
    posterior[:5], alone[2] = 0.0, 0.0
    belief = rng.dirichlet(np.full(5, 0.2), len(row)).astype(np.float32)
    belief[np.stack([(PRIOR[row][:, s == STATE] == 0).all(axis=1) for s in range(5)], axis=1)] = 0.0
    belief[10] = 0.0
    index = rng.permutation(len(row))
    index[20] = -1
    found = posterior.copy()
    share_out(belief, alone, row, index, STATE, PRIOR, found)
    expected = posterior.copy()
    for i, t in enumerate(index):
        if t >= 0 and i != 10:
            expected[t] = naive.shared_to_classes(belief[i], alone[i], posterior[t], PRIOR[row[i]], STATE)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_states_of_a_site_are_those_of_a_slow_change_point_test(rng):
    log_prior, change, n = np.log([[0.9, 0.06, 0.03, 0.01]]), 1e-4, 200
    known = np.zeros((n, N_ROWS, 4), np.float32)
    known[:, BASE] = np.nan
    run_frames, recent_frames = np.zeros((2, n), np.int64)
    slow = [naive.SiteEvidence(log_prior[0], change) for _ in range(n)]
    state = rng.choice(3, n, p=[0.8, 0.1, 0.1])
    row, index, typical = np.zeros(n, np.int64), rng.permutation(n), np.full((1, 4, 4), np.nan)
    for frame in range(20):
        if frame == 12:
            state = rng.permutation(state)
        value = rng.normal(size=(n, 4)) * 2.5
        value[np.arange(n), state] += np.where(state > 0, 8.0, 3.0)
        value -= value.max(axis=1, keepdims=True)
        seen = np.full(n, frame - 1)
        belief = step(
            value.astype(np.float32),
            row,
            index,
            frame,
            seen,
            log_prior,
            typical,
            change,
            0.0,
            30,
            known,
            run_frames,
            recent_frames,
        )
        expected = np.array([site(v) for site, v in zip(slow, value, strict=True)])
        np.testing.assert_allclose(belief, expected, atol=1e-4)


def test_sites_and_what_nothing_is_said_about_are_told_by_their_tracks(rng):
    alone, known = (rng.dirichlet(np.full(4, 0.3), n).astype(np.float32) for n in (30, 40))
    index = rng.permutation(40)[:30]
    index[::7] = -1
    alone[0] = known[index[1]] = 0.0
    ids, roles = np.array([5, 6, 9, -1], np.int16), np.array([0, 1, 2, 3], np.uint8)
    number = rng.integers(0, 1000, 40).astype(np.int32)
    track, class_id, role, confidence = (
        np.empty(30, kind) for kind in (np.int32, np.int16, np.uint8, np.float32)
    )
    _most_probable(index, alone, known, number, ids, roles, track, class_id, role, confidence)
    for i, t in enumerate(index):
        posterior = known[t] if t >= 0 else alone[i]
        best = posterior.argmax() if posterior.any() else 3
        assert (track[i], class_id[i], role[i]) == (number[t] if t >= 0 else -1, ids[best], roles[best])
        assert confidence[i] == posterior.max()


def test_the_phase_of_a_frame_is_the_mean_over_every_so_many_sites(rng):
    vectors = np.array([[0.0, 20.0], [17.0, 10.0]])
    cells = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2)
    point, kinds = cells @ vectors, np.zeros(len(cells), np.int16)
    drift = np.array([103.0, -54.0])
    position, sublattice = point + drift + rng.normal(size=point.shape), kinds.copy()
    sublattice[::5] = -1
    arrays = Grid.of(point, kinds, 20.0).arrays
    found, *parts = _phase(position, sublattice, 3, drift + 2.0, vectors, *arrays, 20.0)
    some = np.flatnonzero(sublattice == 0)[::3]
    moved = position[some] - drift - 2.0
    distance = np.hypot(*(moved[:, None] - point).transpose(2, 0, 1))
    near = distance.min(axis=1) < 20.0
    residual = (moved - point[distance.argmin(axis=1)])[near] @ np.linalg.inv(vectors)
    mean = np.exp(2j * np.pi * residual).sum(axis=0)
    assert found == near.sum()
    np.testing.assert_allclose(parts, [mean[0].real, mean[0].imag, mean[1].real, mean[1].imag], atol=1e-9)


def test_defects_that_meet_are_those_of_a_loop(rng):
    point, position = rng.random((200, 2)) * 300, rng.random((80, 2)) * 300
    kinds, wanted = rng.integers(0, 2, 200).astype(np.int16), rng.integers(0, 2, 80).astype(np.int16)
    evident, defects, drift = rng.random(200) < 0.5, np.sort(rng.permutation(80)[:30]), np.array([4.0, -7.0])
    low, high = np.array([20.0, 30.0]), np.array([250.0, 280.0])
    found = _meet(
        position, wanted, defects, drift, evident, low, high, *Grid.of(point, kinds, 25.0).arrays, 10.0
    )
    in_frame = matched = 0
    for i in defects:
        distance = np.hypot(*(position[i] - drift - point).T)
        distance[kinds != wanted[i]] = np.inf
        in_frame += distance.min() < 10
        matched += distance.min() < 10 and evident[distance.argmin()]
    inside = ((point + drift > low) & (point + drift < high)).all(axis=1)
    assert found == (in_frame, matched, (inside & evident).sum())
    np.testing.assert_array_equal(_box(position), (position.min(axis=0), position.max(axis=0)))


class Tracks:
    """Columns of a map of quiet hosts, at a distance of 20 px from each other, for `find_restless`."""

    def __init__(self, n=6):
        self.site, self.position = np.arange(n), np.stack([np.zeros(n), 20.0 * np.arange(n)], axis=1)
        self.sublattice, self.known = np.zeros(n, np.int16), np.zeros((n, N_ROWS, 4), np.float32)
        self.posterior = np.tile(np.array([0.9999, 0.0, 0.0, 1e-4], np.float32), (n, 1))
        self.counts = np.array([[8], [0], [8], [0]]).repeat(n, axis=1)
        self.announced, self.settled, self.held = np.full(n, -1, np.int32), np.zeros(n, int), np.full(n, 4)
        self.alike = np.eye(4, dtype=bool)

    def __call__(self):
        row, busy = find_restless(
            9,
            self.site,
            self.position,
            self.sublattice,
            self.posterior,
            self.known,
            np.array([0, 1, 2, -1], np.int16),
            np.array([1, 2]),
            np.array([3]),
            self.alike,
            tuple(self.counts),
            self.announced,
            self.settled,
            self.held,
            (0.995, 0.005, 0.95, 0.3),
            1e-6,
            24.0,
        )
        return row.tolist(), busy

    def defect(self, t, column, probability, announced=-1):
        self.posterior[t] = 0.0
        self.posterior[t, column], self.posterior[t, 0] = probability, 1 - probability
        self.announced[t] = announced


def test_quiet_tracks_are_settled_and_nothing_is_looked_for():
    tracks = Tracks()
    tracks.site[2] = -1
    tracks.defect(1, 1, 0.9, announced=1)
    tracks.defect(3, 1, 0.5)
    assert tracks() == ([1, 3], False)
    assert tracks.settled.tolist() == [9, 9, 0, 0, 9, 9]
    assert tracks.held.tolist() == [-1, -1, 4, -1, -1, -1]


@pytest.mark.parametrize(
    ("column", "probability", "announced", "busy"),
    [
        (1, 0.996, -1, True),
        (1, 0.994, -1, False),
        (1, 0.004, 1, True),
        (2, 0.96, 1, True),
        (2, 0.94, 1, False),
    ],
)
def test_a_track_that_may_have_changed_is_looked_at(column, probability, announced, busy):
    tracks = Tracks()
    tracks.defect(4, column, probability, announced)
    assert tracks() == ([4], busy)
    assert tracks.held[4] == (4 if busy else -1)


def test_a_defect_that_is_missed_is_looked_at_once_it_is_gone():
    tracks = Tracks()
    tracks.defect(4, 1, 0.99, announced=1)
    tracks.site[4] = -1
    assert tracks() == ([], False)
    tracks.counts[3, 4] = 9
    assert tracks() == ([4], False)
    tracks.counts[3, 4] = 10
    assert tracks() == ([4], True)
    tracks.sublattice[4], tracks.counts[3, 4] = -1, 5
    assert tracks() == ([4], True)


@pytest.mark.parametrize(("to", "busy"), [(3, True), (5, True), (2, False)])
def test_a_hop_is_looked_for_where_a_neighbour_may_have_become_the_defect(to, busy):
    tracks = Tracks()
    tracks.defect(4, 1, 0.9, announced=1)
    # of the class of the defect a site of another sublattice may be, or not: then it has no probability at all
    tracks.posterior[[3, 5], 1] = 1e-9
    tracks.counts[1, [4, to]] = 1
    tracks.known[4, 3, 0] = 2.0
    assert tracks() == (sorted([4, to]), busy)


def test_a_hop_to_another_sublattice_is_looked_for_where_the_defect_can_be_there():
    tracks = Tracks()
    tracks.defect(4, 1, 0.9, announced=1)
    tracks.sublattice[3] = 1
    tracks.counts[1, [3, 4]] = 1
    tracks.known[4, 3, 0] = 2.0
    assert tracks() == ([3, 4], False)
    tracks.posterior[3, 1] = 1e-9
    assert tracks() == ([3, 4], True)


def test_a_share_that_was_rounded_up_is_no_confidence_above_one():
    known = np.array([[1 + 2**-23, 0.0]], np.float32)
    track, class_id = np.zeros(1, np.int32), np.zeros(1, np.int16)
    role, confidence = np.zeros(1, np.uint8), np.zeros(1, np.float32)
    ids, roles = np.array([4, -1], np.int16), np.zeros(2, np.uint8)
    number = np.zeros(1, np.int32)
    _most_probable(np.zeros(1, np.int64), known, known, number, ids, roles, track, class_id, role, confidence)
    assert (class_id[0], confidence[0]) == (4, 1.0)
