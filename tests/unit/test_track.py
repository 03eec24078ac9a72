"""The tracker: identity, evidence, transitions and places on synthetic observations."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from _track_scene import (
    CLASS_IDS,
    HOSTS,
    PAIR,
    PRIOR,
    ROLES,
    SPACING,
    UNKNOWN,
    VACANCY,
    VECTORS,
    Scene,
    softmax,
    without,
)

from latticewatch.errors import ConfigurationError
from latticewatch.track import ROLES as ROLE_NAMES
from latticewatch.track import Observation, Tracker

APPEARED, RECLASSIFIED, MOVED, DISAPPEARED = (
    f"defect.{word}" for word in ("appeared", "reclassified", "moved", "disappeared")
)


class Follower:
    """A tracker, what it said by site of the crystal, and the tracks that each site has had."""

    def __init__(self, scene, **parameters):
        self.scene, self.tracker = scene, Tracker(**parameters)
        self.events, self.tracks, self.jumps = [], {}, 0
        self.last = self.seen = None

    def __call__(self, **given):
        observation, self.seen = self.scene.frame(**given)
        return self.take(observation)

    def take(self, observation):
        self.last = self.tracker.update(observation)
        self.jumps += self.last.jump
        for event in self.last.transitions:
            self.events.append((self.scene.number, event.type, self.scene.site_of(event.position), event))
        for site, track in zip(self.seen, self.last.track, strict=True):
            self.tracks.setdefault(int(site), set()).add(int(track))
        return self.last

    def kinds(self):
        return Counter(kind for _, kind, _, _ in self.events)

    def sites(self, kind):
        return [site for _, what, site, _ in self.events if what == kind]

    def switches(self):
        return sum(len(tracks) > 1 for tracks in self.tracks.values())


def empty_host(scene, near_centre=True):
    """A host site of sublattice 1 near the centre of the frame, its neighbours hosts as well."""
    at = scene.specimen + scene.drift - np.array(scene.shape) / 2
    for site in np.argsort(np.hypot(*at.T)):
        around = np.hypot(*(scene.specimen - scene.specimen[site]).T) < 2.5 * SPACING
        if scene.sublattice[site] == 1 and np.isin(scene.state[around], HOSTS).all():
            return int(site)
    raise AssertionError("no place left")


def neighbours(scene, site):
    """Sites of the same sublattice one lattice constant away."""
    distance = np.hypot(*(scene.specimen - scene.specimen[site]).T)
    return np.flatnonzero(
        (distance < 1.1 * SPACING) & (distance > 0) & (scene.sublattice == scene.sublattice[site])
    )


def test_every_defect_of_a_still_specimen_appears_once_in_200_noisy_frames(rng):
    scene = Scene(rng, separation=3.0, n_defects=30)
    follow = Follower(scene)
    for _ in range(200):
        follow()
    truth = set(scene.defects().tolist())
    assert truth <= set(follow.sites(APPEARED))
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert len(set(follow.sites(APPEARED)) - truth) <= 1
    assert set(follow.sites(DISAPPEARED)) <= set(follow.sites(APPEARED)) - truth
    assert follow.jumps == 0
    assert follow.switches() == 0


def test_evidence_makes_the_verdict_better_than_one_frame(rng):
    scene = Scene(rng, separation=3.0, n_defects=30)
    follow = Follower(scene)
    wrong = []
    for _ in range(12):
        result = follow()
        wrong.append(int((result.class_id != CLASS_IDS[scene.state[follow.seen]]).sum()))
    assert wrong[0] >= 3
    assert wrong[-1] == 0
    assert result.confidence.min() > 0.8


@pytest.mark.parametrize(("separation", "frames"), [(3.0, 10), (6.0, 3), (9.0, 1)])
def test_a_real_change_is_reported_within_a_few_frames(rng, separation, frames):
    scene = Scene(rng, separation=separation, n_defects=15)
    follow = Follower(scene)
    for _ in range(30):
        follow()
    site, before = empty_host(scene), len(follow.events)
    scene.state[site] = VACANCY
    for _ in range(frames):
        follow()
    (event,) = follow.events[before:]
    assert event[1:3] == (APPEARED, site)
    assert event[3].class_id == CLASS_IDS[VACANCY]
    assert event[3].latency_frames < frames
    assert np.hypot(*(np.array(event[3].position) - scene.specimen[site])) < 2
    before = len(follow.events)
    scene.state[site] = PAIR
    for _ in range(frames):
        follow()
    (event,) = follow.events[before:]
    assert event[1:3] == (RECLASSIFIED, site)
    assert (event[3].previous_class_id, event[3].class_id) == (CLASS_IDS[VACANCY], CLASS_IDS[PAIR])
    before = len(follow.events)
    scene.state[site] = HOSTS[1]
    for _ in range(frames):
        follow()
    (event,) = follow.events[before:]
    assert event[1:3] == (DISAPPEARED, site)
    assert event[3].class_id == CLASS_IDS[PAIR]
    assert event[3].confidence > 0.95


def test_a_change_seen_in_its_first_frame_has_no_latency(rng):
    scene = Scene(rng, separation=9.0, n_defects=15)
    follow = Follower(scene)
    assert {event.latency_frames for event in follow().transitions} == {0}
    follow()
    scene.state[empty_host(scene)] = VACANCY
    (event,) = follow().transitions
    assert event.latency_frames == 0


def test_drift_of_a_third_of_a_cell_a_frame_is_followed_without_identity_switch(rng):
    scene = Scene(rng, separation=4.0, n_defects=15)
    follow = Follower(scene)
    step = 0.3 * SPACING * np.array([np.sin(0.4), np.cos(0.4)])
    for _ in range(80):
        result = follow()
        scene.drift = scene.drift + step
    scene.drift = scene.drift - step
    assert follow.jumps == 0
    assert follow.switches() == 0
    np.testing.assert_allclose(result.drift_px, scene.drift, atol=0.3)
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert len(follow.sites(DISAPPEARED)) <= 1


@pytest.mark.parametrize("turned", [0.0, 0.5])
def test_the_drift_of_the_specimen_is_told_apart_from_the_moves_of_the_stage(rng, turned):
    scene = Scene(rng, shape=(1024, 1024), separation=5.0, n_defects=60)
    cos, sin = np.cos(turned), np.sin(turned)
    scene.axes = 40.0 * np.array([[-sin, cos], [cos, sin]])
    follow, stage = Follower(scene), np.array([300.0, -20.0])
    for number in range(12):
        if number in (4, 8):
            stage = stage + np.array([2.0, -1.0])
        alone = number * np.array([3.0, -2.0])
        scene.stage = tuple(scene.axes @ stage)
        scene.drift = alone - scene.axes @ (stage - [300.0, -20.0])
        result = follow()
        np.testing.assert_allclose(result.specimen_drift_px, alone, atol=0.3)
        np.testing.assert_allclose(result.drift_px, scene.drift, atol=0.3)
    assert follow.jumps == 0


def test_another_scan_takes_the_drift_along_in_its_own_pixels(rng):
    scene = Scene(rng, separation=5.0, n_defects=60)
    follow, stage = Follower(scene), np.array([300.0, -20.0])
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    for axes, alone in ((np.eye(2), [0, 0]), (np.eye(2), [6.0, -4.0]), (2.0 * quarter, [8.0, 12.0])):
        scene.axes, scene.stage = 40.0 * axes, tuple(40.0 * axes @ stage)
        scene.drift = np.array(alone)
        if alone[1] > 0:
            # Nothing is where it was seen before.
            scene.specimen = 2.0 * scene.specimen @ quarter.T
        result = follow()
        np.testing.assert_allclose(result.specimen_drift_px, alone, atol=0.3)
    assert follow.jumps == 1


def test_drift_of_a_third_of_a_cell_is_followed_in_a_perfect_crystal(rng):
    scene = Scene(rng, n_defects=0)
    follow = Follower(scene)
    for _ in range(20):
        follow()
        scene.drift = scene.drift + np.array([5.0, -5.0])
    assert follow.jumps == follow.switches() == 0


@pytest.mark.parametrize("stage", [False, True])
def test_a_jump_of_20_cells_there_and_back_keeps_every_track(rng, stage):
    scene = Scene(rng, shape=(1024, 1024), separation=5.0, n_defects=60)
    jump = 20 * VECTORS[0] + [3.0, 5.0]
    follow = Follower(scene)
    for place in (np.zeros(2), jump, np.zeros(2)):
        scene.drift = place
        # The stage says where it is to within a few pixels.
        scene.stage = tuple(-place + rng.normal(size=2) * 3) if stage else None
        for _ in range(8):
            result = follow()
        np.testing.assert_allclose(result.drift_px, place, atol=0.2)
    assert follow.jumps == 0
    assert follow.switches() == 0
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert not follow.sites(DISAPPEARED)


def test_a_jump_out_of_view_is_said_and_the_place_is_recognised_on_return(rng):
    scene = Scene(rng, separation=5.0, n_defects=25)
    follow = Follower(scene)
    away = np.array([700.0, 650.0])
    jumps = []
    for place in (np.zeros(2), away, np.zeros(2), away):
        scene.drift = place
        jumps += [follow().jump for _ in range(8)]
    assert np.flatnonzero(jumps).tolist() == [8]
    assert follow.switches() == 0
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert not follow.sites(DISAPPEARED)


def test_a_move_of_the_stage_to_a_new_area_is_followed_by_the_stage_alone(rng):
    scene = Scene(rng, separation=5.0, n_defects=25)
    follow = Follower(scene)
    for place in (np.zeros(2), np.array([700.0, 650.0]), np.zeros(2)):
        scene.drift = place
        scene.stage = (100.0 - place[0], 7.0 - place[1])
        for _ in range(6):
            result = follow()
    assert follow.jumps == follow.switches() == 0
    np.testing.assert_allclose(result.drift_px, (0, 0), atol=0.2)
    assert max(Counter(follow.sites(APPEARED)).values()) == 1


def test_a_spoilt_frame_neither_reports_nor_loses_anything(rng):
    scene = Scene(rng, separation=6.0, n_defects=25)
    follow = Follower(scene)
    for _ in range(10):
        follow()
    before = len(follow.events)
    # Another specimen for one frame: as many defects, elsewhere.
    state = scene.state
    scene.state = np.where(scene.sublattice == 0, 0, 1)
    scene.state[rng.choice(np.flatnonzero(scene.sublattice == 1), np.isin(state, (2, 3)).sum(), False)] = (
        VACANCY
    )
    assert follow().jump
    follow.tracks = {site: tracks - set(follow.last.track.tolist()) for site, tracks in follow.tracks.items()}
    scene.state = state
    for _ in range(5):
        assert not follow().jump
    assert len(follow.events) == before
    assert follow.switches() == 0


def test_frames_without_sites_or_without_lattice_are_survived(rng):
    scene = Scene(rng, separation=6.0, n_defects=15)
    follow = Follower(scene)
    for _ in range(5):
        follow()
    before = len(follow.events)
    nothing, _ = scene.frame(order=np.zeros(0, int))
    assert len(follow.tracker.update(nothing).track) == 0
    blind, _ = scene.frame()
    result = follow.tracker.update(dataclasses.replace(blind, vectors=None))
    assert set(result.track) == {-1}
    assert (result.jump, result.transitions) == (False, ())
    for _ in range(3):
        follow()
    assert follow.switches() == 0
    assert len(follow.events) == before


def test_a_hop_to_the_neighbouring_site_is_one_move_and_the_track_goes_along(rng):
    for separation in (5.0, 9.0):
        scene = Scene(rng, separation=separation, n_defects=8)
        site = empty_host(scene)
        scene.state[site] = VACANCY
        follow = Follower(scene)
        for _ in range(10):
            follow()
        track = next(
            event.track for _, kind, where, event in follow.events if (kind, where) == (APPEARED, site)
        )
        before = len(follow.events)
        target = int(neighbours(scene, site)[0])
        scene.state[[site, target]] = HOSTS[1], VACANCY
        for _ in range(8):
            result = follow()
        (event,) = follow.events[before:]
        assert event[1:3] == (MOVED, target)
        assert event[3].track == track
        assert result.track[follow.seen == target] == track


def test_hops_at_low_dose_are_mostly_one_move(rng):
    moved = 0
    for _ in range(20):
        scene = Scene(rng, shape=(300, 300), separation=3.5, n_defects=0)
        site = empty_host(scene)
        scene.state[site] = VACANCY
        follow = Follower(scene)
        for _ in range(12):
            follow()
        before = len(follow.events)
        target = int(neighbours(scene, site)[0])
        scene.state[[site, target]] = HOSTS[1], VACANCY
        for _ in range(15):
            follow()
        moved += [event[1:3] for event in follow.events[before:]] == [(MOVED, target)]
    assert moved >= 16


def test_false_events_are_no_more_frequent_than_set(rng):
    per_frame = 2e-3
    scene = Scene(rng, separation=2.5, n_defects=20)
    follow = Follower(scene, false_events_per_hour=per_frame * 3600 * 25)
    settled = 0
    for frame in range(260):
        observation, follow.seen = scene.frame()
        follow.take(dataclasses.replace(observation, time_s=frame / 25))
        settled = len(follow.events) if frame == 60 else settled
    false = len(follow.events) - settled
    assert false <= 200 * per_frame + 3 * np.sqrt(200 * per_frame)


def test_another_defect_on_the_same_site_is_another_track(rng):
    scene = Scene(rng, separation=9.0, n_defects=8)
    site, follow = empty_host(scene), Follower(scene)
    for state in (VACANCY, HOSTS[1], VACANCY):
        scene.state[site] = state
        for _ in range(6):
            follow()
    mine = [(kind, event.track) for _, kind, where, event in follow.events if where == site]
    assert [kind for kind, _ in mine] == [APPEARED, DISAPPEARED, APPEARED]
    assert mine[0][1] == mine[1][1] != mine[2][1]
    assert follow.last.track[follow.seen == site] == mine[2][1]


def test_a_disappearance_far_from_an_appearance_is_no_move(rng):
    scene = Scene(rng, separation=9.0, n_defects=8)
    follow = Follower(scene)
    for _ in range(4):
        follow()
    before = len(follow.events)
    scene.state[scene.defects(60)[0]] = HOSTS[1]
    scene.state[empty_host(scene)] = VACANCY
    for _ in range(4):
        follow()
    assert Counter(event[1] for event in follow.events[before:]) == {APPEARED: 1, DISAPPEARED: 1}


def test_defects_at_the_border_come_and_go_in_silence(rng):
    scene = Scene(rng, separation=6.0, n_defects=40)
    follow = Follower(scene)
    for frame in range(120):
        scene.drift = 0.3 * SPACING * np.array([np.sin(frame / 8), np.cos(frame / 5)]) * 3
        scene.margin = 20.0 + 3.0 * rng.random()
        follow()
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert not follow.sites(DISAPPEARED)
    assert follow.switches() == 0


def test_a_new_series_closes_tracks_in_silence_and_defects_appear_again(rng):
    scene = Scene(rng, separation=8.0, n_defects=15)
    follow = Follower(scene)
    for _ in range(4):
        follow()
    first, numbers = follow.kinds(), set(follow.last.track.tolist())
    scene.series_id = "another"
    for _ in range(4):
        follow()
    assert follow.kinds() == {APPEARED: 2 * first[APPEARED]}
    assert not numbers & set(follow.last.track.tolist())


def test_a_frame_sent_again_is_no_new_evidence(rng):
    scene = Scene(rng, separation=2.0, n_defects=30)
    follow = Follower(scene)
    observation, follow.seen = scene.frame()
    first = follow.take(observation)
    for number in range(2, 60):
        result = follow.take(dataclasses.replace(observation, number=number, ordinal=number))
    np.testing.assert_allclose(result.confidence, first.confidence, atol=0.02)
    np.testing.assert_array_equal(result.class_id, first.class_id)
    assert len(follow.events) == len(first.transitions)


def test_deviations_that_repeat_neither_flicker_nor_hide_a_change(rng):
    scene = Scene(rng, separation=6.0, n_defects=20, repeated=0.5)
    follow = Follower(scene)
    for _ in range(100):
        follow()
    truth = set(scene.defects().tolist())
    assert truth <= set(follow.sites(APPEARED))
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert len(follow.events) <= len(truth) + 2
    before = len(follow.events)
    site = empty_host(scene)
    scene.state[site] = VACANCY
    for _ in range(12):
        follow()
    assert [event[1:3] for event in follow.events[before:]] == [(APPEARED, site)]


@pytest.mark.parametrize("repeated", [0.1, 0.3])
def test_what_averages_say_more_surely_than_frames_is_no_change_afterwards(rng, repeated):
    scene = Scene(rng, separation=4.0, n_defects=30, repeated=repeated)
    follow = Follower(scene)
    for _ in range(20):
        result = follow()
    before = len(follow.events)
    # what an average of far more frames says: without a doubt, far surer than any frame
    certain = np.full((len(follow.seen), len(ROLES)), -1e3)
    certain[np.arange(len(follow.seen)), scene.state[follow.seen]] = 0.0
    follow.tracker.inform(result.track, softmax(certain), CLASS_IDS, ROLES, np.log(PRIOR))
    for _ in range(40):
        result = follow()
    assert follow.events[before:] == []
    assert (result.class_id == CLASS_IDS[scene.state[follow.seen]]).all()


def test_what_averages_say_holds_when_frames_turn_out_to_repeat(rng):
    scene = Scene(rng, separation=8.0, n_defects=30)
    follow = Follower(scene)
    for _ in range(12):
        result = follow()
    # of what cannot be, frames and averages both say no more than that; the frames have said it twelve times
    certain = np.full((len(follow.seen), len(ROLES)), -1e3)
    certain[np.arange(len(follow.seen)), scene.state[follow.seen]] = 0.0
    follow.tracker.inform(result.track, softmax(certain), CLASS_IDS, ROLES, np.log(PRIOR))
    before = len(follow.events)
    for repeated in (0.5, 0.0, 0.9, 0.2):
        follow.tracker._evidence._moments[:] = moments_of(repeated)
        result = follow()
        assert (result.class_id == CLASS_IDS[scene.state[follow.seen]]).all()
    assert follow.events[before:] == []


def test_averages_make_nothing_likelier_that_they_do_not_hold_for_likely(rng):
    scene = Scene(rng, separation=8.0, n_defects=30)
    follow = Follower(scene)

    def seen_as(others):
        seen = scene.rng.permutation(scene.visible())
        noise = scene.rng.normal(0.0, 2.0, (len(seen), len(ROLES)))
        value = np.where(np.arange(len(ROLES)) == scene.state[seen][:, None], 0.0, others + noise)
        return follow(likelihood=value, order=seen)

    for _ in range(35):
        result = seen_as(-19.0)
    # surely not, say frames and their average, but the average by a little less
    average = np.where(np.arange(len(ROLES)) == scene.state[follow.seen][:, None], 0.0, -15.0)
    follow.tracker.inform(result.track, softmax(average), CLASS_IDS, ROLES, np.log(PRIOR))
    before = len(follow.events)
    for _ in range(40):
        result = seen_as(-14.0)
    assert (result.class_id == CLASS_IDS[scene.state[follow.seen]]).all()
    assert follow.events[before:] == []


def moments_of(repeated):
    """Sums over many sites of two frames in a row whose deviations correlate so far."""
    n = 1e6
    return np.array([n, 0.0, 0.0, n, n, repeated * n])


def test_unknown_and_neighbour_make_no_events_and_do_not_end_a_defect(rng):
    scene = Scene(rng, separation=8.0, n_defects=10)
    follow = Follower(scene)
    for _ in range(5):
        follow()
    before, state = len(follow.events), scene.state.copy()
    scene.state[empty_host(scene)] = UNKNOWN
    scene.state[scene.defects(40)] = UNKNOWN
    for _ in range(10):
        seen = scene.rng.permutation(scene.visible())
        value = np.where(np.arange(6) == scene.state[seen][:, None], 0.0, -60.0)
        result = follow(likelihood=value, order=seen)
    assert (result.role == ROLE_NAMES.index("unknown")).sum() > 1
    scene.state = state
    for _ in range(10):
        follow()
    assert len(follow.events) == before


def test_merged_classes_stay_announced(rng):
    scene = Scene(rng, separation=8.0, n_defects=20)
    follow = Follower(scene)
    for _ in range(3):
        follow()
    before = len(follow.events)
    follow.tracker.relabel({int(CLASS_IDS[PAIR]): int(CLASS_IDS[VACANCY])})
    keep = [0, 1, 2, 4, 5]
    for _ in range(3):
        observation, follow.seen = scene.frame()
        merged = observation.posterior.copy()
        merged[:, VACANCY] += merged[:, PAIR]
        observation = without(dataclasses.replace(observation, posterior=merged), keep)
        result = follow.take(dataclasses.replace(observation, log_prior=None))
    assert len(follow.events) == before
    assert (result.class_id == CLASS_IDS[VACANCY]).sum() == len(scene.defects())


def test_a_class_discovered_later_is_taken_up_by_sites_long_unknown(rng):
    scene = Scene(rng, separation=8.0, n_defects=20)
    follow = Follower(scene)
    keep = [0, 1, 2, 4, 5]
    for _ in range(50):
        observation, follow.seen = scene.frame()
        follow.take(without(observation, keep))
    for _ in range(3):
        result = follow()
    np.testing.assert_array_equal(result.class_id, CLASS_IDS[scene.state[follow.seen]])


def test_without_given_priors_the_frequency_of_the_classes_serves(rng):
    scene = Scene(rng, separation=4.0, n_defects=30)
    follow = Follower(scene)
    for _ in range(20):
        observation, follow.seen = scene.frame()
        result = follow.take(dataclasses.replace(observation, log_prior=None))
    truth = set(scene.defects().tolist())
    assert truth <= set(follow.sites(APPEARED))
    assert max(Counter(follow.sites(APPEARED)).values()) == 1
    assert set(follow.sites(DISAPPEARED)) == set(follow.sites(APPEARED)) - truth
    np.testing.assert_array_equal(result.class_id, CLASS_IDS[scene.state[follow.seen]])


def test_peaks_without_a_lattice_are_followed_by_the_image(rng):
    shape, n = (256, 256), 120
    peaks = rng.random((n, 2)) * 600 - 150
    rows, cols = np.mgrid[:256, :256]
    tracker, tracks, drift = Tracker(), {}, np.zeros(2)
    scene = Scene(rng, n_defects=0)
    for number in range(12):
        at = peaks + drift
        seen = np.flatnonzero(((at > 5) & (at < 250)).all(axis=1))
        image = rng.normal(size=shape) * 0.05
        for row, col in at[seen]:
            image += np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 8)
        observation = dataclasses.replace(
            scene.frame(order=np.arange(len(seen)))[0],
            shape=shape,
            image=image.astype(np.float32),
            vectors=None,
            position=at[seen],
            sublattice=np.full(len(seen), -1, np.int16),
            posterior=np.tile((CLASS_IDS == -1).astype(np.float32), (len(seen), 1)),
        )
        result = tracker.update(observation)
        assert not result.jump
        for peak, track in zip(seen, result.track, strict=True):
            tracks.setdefault(peak, set()).add(int(track))
        np.testing.assert_allclose(result.drift_px, drift, atol=0.5)
        drift = drift + np.array([9.0, -17.0] if number % 3 == 2 else [1.0, 0.5])
    assert max(map(len, tracks.values())) == 1


def test_state_is_bounded_on_an_endless_walk(rng):
    scene = Scene(rng, shape=(300, 300), n_defects=4)
    follow = Follower(scene, memory_frames=10, max_tracks=400)
    for _ in range(60):
        follow()
        scene.drift = scene.drift + np.array([9.0, 0.0])
    n = len(follow.last.track)
    assert all(len(tracks) <= max(400, 2 * n) + n for tracks in follow.tracker._places)


def test_the_same_frames_give_the_same_result(rng):
    scene = Scene(rng, separation=3.0)
    frames = [scene.frame()[0] for _ in range(5)]
    copies = [observation.posterior.copy() for observation in frames]
    one, other = Tracker(), Tracker()
    for observation, copy in zip(frames, copies, strict=True):
        first, second = one.update(observation), other.update(observation)
        np.testing.assert_array_equal(first.track, second.track)
        np.testing.assert_array_equal(first.confidence, second.confidence)
        assert first.transitions == second.transitions
        np.testing.assert_array_equal(observation.posterior, copy)


def test_sites_that_nothing_is_said_about_are_unknown(rng):
    scene = Scene(rng, n_defects=4)
    observation, _ = scene.frame()
    posterior = observation.posterior.copy()
    posterior[3], posterior[4] = 0.0, np.nan
    alone = dataclasses.replace(observation, posterior=np.zeros_like(posterior))
    result = Tracker().update(alone)
    assert set(result.class_id) == {-1}
    result = Tracker().update(dataclasses.replace(observation, posterior=posterior))
    assert np.isfinite(result.confidence).all()


@pytest.mark.parametrize(
    "wrong",
    [{"appear_above": 1.0}, {"disappear_below": 0.6}, {"false_events_per_hour": 0.0}, {"memory_frames": 0}],
)
def test_parameters_outside_their_limits_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Tracker(**wrong)


def honeycomb_stream(rng, separation, n_frames, hop_at, heights=None):
    """Observations of a hexagonal crystal of two like sublattices, on which one defect hops to the other one.

    With heights, of host, defect on the first sublattice, and defect on the second one, it is of two classes.
    """
    cells = np.stack(np.meshgrid(np.arange(-20, 20), np.arange(-20, 20), indexing="ij"), -1).reshape(-1, 2)
    position = np.concatenate([(cells + c) @ VECTORS for c in (1 / 3, 2 / 3)]) + 150.0
    sublattice = np.repeat([0, 1], len(cells)).astype(np.int16)
    near = ((position > 5) & (position < 295)).all(axis=1)
    position, sublattice = position[near], sublattice[near]
    first = int(np.hypot(*(position - 150.0).T).argmin())
    others = np.flatnonzero(sublattice != sublattice[first])
    second = int(others[np.hypot(*(position[others] - position[first]).T).argmin()])
    log_prior = np.log([0.99, 0.01, 1e-3])
    for number in range(n_frames):
        value = rng.normal(size=len(position))
        value[first if number < hop_at else second] += separation
        likelihood = np.stack(
            [-(value**2) / 2, -((value - separation) ** 2) / 2, np.full(len(value), -12.0)], 1
        )
        posterior = np.exp(likelihood + log_prior)
        class_ids, roles, prior = np.array([0, 1, -1], np.int16), ("host", "defect", "unknown"), log_prior
        if heights is not None:
            there = (sublattice == 1).astype(float)
            defect = posterior[:, 1]
            posterior = np.stack([posterior[:, 0], defect * (1 - there), defect * there, posterior[:, 2]], 1)
            class_ids, roles = np.array([0, 1, 2, -1], np.int16), ("host", "defect", "defect", "unknown")
            prior = log_prior[[0, 1, 1, 2]]
        yield (
            Observation(
                series_id="g",
                number=number,
                ordinal=number,
                shape=(300, 300),
                image=np.zeros((300, 300), np.float32),
                vectors=VECTORS,
                position=position + rng.normal(0, 0.2, position.shape),
                sublattice=sublattice,
                posterior=(posterior / posterior.sum(1, keepdims=True)).astype(np.float32),
                class_ids=class_ids,
                roles=roles,
                log_prior=prior,
                height=None if heights is None else np.array([*heights, 0.0]),
            ),
            second,
        )


@pytest.mark.parametrize(("heights", "moves"), [((1.0, 4.8, 5.3), 20), ((1.0, 4.8, 0.0), 0)])
def test_a_hop_between_classes_of_like_height_is_one_move(rng, heights, moves):
    """A dopant is of another class on the other sublattice; a vacancy is no dopant that has hopped."""
    moved = 0
    for _ in range(20):
        tracker, heard, target = Tracker(), [], None
        for observation, there in honeycomb_stream(rng, 8.0, 16, 10, heights):
            result, target = tracker.update(observation), there
            heard += [event for event in result.transitions if observation.number >= 10]
        moved += [event.type for event in heard] == ["defect.moved"]
        if moves:
            assert [(e.site, e.class_id, e.previous_class_id) for e in heard] == [
                (target, *((2, 1) if heard[0].class_id == 2 else (1, 2)))
            ]
    assert moved == moves


def test_a_hop_to_the_other_sublattice_is_one_move_where_both_can_have_the_defect(rng):
    moved = 0
    for _ in range(20):
        tracker, heard, target = Tracker(), [], None
        for observation, there in honeycomb_stream(rng, 3.5, 26, 12):
            result, target = tracker.update(observation), there
            if observation.number >= 12:
                heard += [(event.type, event.site) for event in result.transitions]
        moved += heard == [("defect.moved", target)]
    assert moved >= 16


def test_classes_that_come_next_are_those_of_the_posterior_in_falling_order(rng):
    observation, _ = Scene(rng, separation=1.0).frame()
    # nothing was seen before: what is known is what one frame says, as far as it can be believed
    found = Tracker().update(observation)
    sure = found.confidence > 0.99
    assert sure.any()
    assert not found.other_share[sure].any()
    unsure = np.flatnonzero(~sure)
    assert len(unsure) > 5
    total = found.confidence + found.other_share.sum(axis=1)
    assert total.max() <= 1 + 1e-5
    # of five classes none is left out that is worth a mention
    assert total[unsure].min() > 1 - 5 * 0.01
    assert (np.diff(found.other_share, axis=1) <= 0).all()
    assert (found.other_share[unsure, 0] <= found.confidence[unsure]).all()
    named = found.other_share > 0
    assert not (found.other_class == found.class_id[:, None])[named].any()
