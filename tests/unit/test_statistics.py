"""Statistics over time: courses that coarsen, rates, distances, lifetimes, and the history made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latticewatch.messages import ROLES
from latticewatch.statistics import (
    BinnedSeries,
    FrameRecord,
    Happening,
    History,
    Lifetimes,
    event_rate,
    nearest_distances,
    pair_distances,
    poisson_interval,
    survival,
)
from latticewatch.statistics._history import MAX_CLASSES, MAX_SCALARS
from latticewatch.statistics._lifetimes import KEPT, MAX_OPEN
from latticewatch.statistics._series import CAPACITY, LEVELS

HOST, DEFECT = ROLES.index("host"), ROLES.index("defect")


def series_of(values):
    series = BinnedSeries(1, 1)
    for time, value in enumerate(values):
        series.push(float(time), np.array([value]), np.array([1.0]))
    return series


# Courses


@given(
    n=st.integers(0, 3 * CAPACITY),
    points=st.integers(1, 1000),
    since=st.none() | st.integers(-10, 3 * CAPACITY),
    seed=st.integers(0, 99),
)
def test_a_course_holds_every_frame_once_in_no_more_points_than_asked_for(n, points, since, seed):
    values = np.random.default_rng(seed).integers(0, 50, n)
    bins = series_of(values).view(points, since)
    assert len(bins) <= points
    assert bins.frames.sum() == bins.sums.sum()
    at = 0 if not len(bins) else int(bins.start[0])
    wanted = 0 if since is None else max(0, since + 1)
    assert at <= wanted or not len(bins)
    assert bins.frames.sum() == n - at or not len(bins)
    assert len(bins) or wanted >= n
    for row, frames in enumerate(bins.frames):
        part = values[at : at + frames]
        assert (bins.start[row], bins.end[row]) == (at, at + frames - 1)
        assert (bins.low[row, 0], bins.high[row, 0]) == (part.min(), part.max())
        assert bins.mean[row, 0] == pytest.approx(part.mean(), rel=1e-5)
        at += frames


def test_new_frames_are_kept_one_by_one_and_old_ones_coarser():
    n = 40 * CAPACITY
    series = series_of(np.arange(n) % 7)
    recent = series.view(1000, since=n - 500.5)
    assert len(recent) == 500
    assert set(recent.frames.tolist()) == {1}
    everything = series.view(1000)
    assert everything.start[0] == 0
    assert everything.frames.sum() == n
    assert 200 < len(everything) <= 1000
    assert len(series._rings) <= LEVELS


def test_what_is_beyond_the_coarsest_course_is_forgotten(monkeypatch):
    monkeypatch.setattr("latticewatch.statistics._series.LEVELS", 2)
    n = 6 * CAPACITY
    bins = series_of(np.zeros(n)).view(1000)
    assert n - 4 * CAPACITY <= bins.start[0] < n - 4 * CAPACITY + 4
    assert bins.end[-1] == n - 1


# Rates


def test_poisson_intervals_are_those_of_the_tables():
    # Garwood's table, 95 %
    for n, low, high in ((0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.63)):
        assert poisson_interval(n) == pytest.approx((low, high), rel=1e-3)


def test_a_rate_has_the_units_that_its_name_says():
    rate = event_rate(12, seconds=120.0, area_nm2=50.0, dose_e_per_a2=4e3)
    assert rate.per_minute == 6.0
    assert rate.per_nm2_per_minute == pytest.approx(0.12)
    assert rate.per_nm2_per_dose == pytest.approx(12 / 50 / 4e3)
    assert event_rate(3, seconds=0.0).per_minute is None
    assert event_rate(3, seconds=60.0).per_nm2_per_minute is None


# Distances


def grid(n=30):
    return np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2).astype(float)


def test_nearest_distances_are_those_of_the_slow_way(rng):
    points = rng.random((50, 2))
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(nearest_distances(points), distance.min(axis=1))
    assert nearest_distances(points[:1]).tolist() == [np.inf]
    assert nearest_distances(points[:0]).shape == (0,)


def test_defects_at_random_are_as_far_apart_as_chance_says(rng):
    position = grid()
    z = []
    for _ in range(20):
        chosen = np.zeros(len(position), bool)
        chosen[rng.choice(len(position), 40, replace=False)] = True
        found = pair_distances(position, np.zeros(len(position), int), chosen)
        assert found is not None
        assert found.observed.sum() == 40
        assert found.expected.sum() == pytest.approx(40, rel=0.02)
        z.append(found.z)
    assert abs(np.mean(z)) < 0.8
    assert 0.5 < np.std(z) < 1.6


def test_defects_that_keep_together_and_apart_are_told_from_chance():
    position = grid()
    together = (position < 6).all(axis=1)
    apart = (position % 6 == 0).all(axis=1)
    group = np.zeros(len(position), int)
    near, far = pair_distances(position, group, together), pair_distances(position, group, apart)
    assert near is not None
    assert far is not None
    assert near.ratio < 0.7
    assert near.z < -4
    assert (far.mean, far.ratio > 1.5, far.z > 4) == (6.0, True, True)


def test_defects_of_one_sublattice_are_compared_with_that_sublattice():
    position = grid()
    group = (position.sum(axis=1) % 2).astype(int)
    chosen = group == 1
    chosen[np.flatnonzero(chosen)[::2]] = False
    found = pair_distances(position, group, chosen)
    assert found is not None
    # on the whole grid a neighbour could be at distance 1
    assert found.edges[np.flatnonzero(found.expected)[0] + 1] > 1.4


def test_there_is_no_chance_with_fewer_than_two_or_all_the_sites():
    position, group = grid(4), np.zeros(16, int)
    for n in (0, 1, 16):
        assert pair_distances(position, group, np.arange(16) < n) is None


# Lifetimes


def test_the_survival_curve_of_kaplan_and_meier_is_that_of_the_textbook():
    age = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35])
    over = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0], bool)
    time, share = survival(age, over)
    assert time.tolist() == [6, 7, 10, 13, 16, 22, 23]
    np.testing.assert_allclose(share, [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=6e-4)


def test_lifetimes_of_a_constant_hazard_are_found_although_many_are_cut_short(rng):
    lifetimes, mean, watched = Lifetimes(), 20.0, 30.0
    for track, (life, born) in enumerate(
        zip(rng.exponential(mean, 800), rng.uniform(0, 30, 800), strict=True)
    ):
        lifetimes.begin(track, 3, born)
        lifetimes.expose(3, min(life, watched - born))
        if born + life < watched:
            lifetimes.end(track, 3, born + life)
        else:
            lifetimes.see([track], watched)
    found = lifetimes.survival()
    assert found.mean_s == pytest.approx(mean, rel=0.12)
    assert found.mean_low_s < mean < found.mean_high_s
    assert found.median_s == pytest.approx(mean * np.log(2), rel=0.15)
    assert found.n_followed == 800
    assert lifetimes.survival(4).n_followed == 0
    assert lifetimes.survival(4).mean_s is None


def test_a_defect_whose_beginning_was_not_seen_counts_into_the_mean_but_not_into_the_curve():
    lifetimes = Lifetimes()
    lifetimes.expose(1, 10.0)
    lifetimes.end(7, 1, 10.0)
    found = lifetimes.survival()
    assert (found.n_ended, found.mean_s, found.n_followed, len(found.time_s)) == (1, 10.0, 0, 0)


def test_lifetimes_are_bounded():
    lifetimes = Lifetimes()
    for track in range(MAX_OPEN + KEPT + 10):
        lifetimes.begin(track, track, float(track))
        lifetimes.expose(track, 1.0)
    assert len(lifetimes._open) == MAX_OPEN
    assert len(lifetimes._lives) == KEPT
    assert len(lifetimes._exposure_s) == 256


# History


def record(time, classes, happenings=(), series="a", tracks=None, **fields):
    """Sites of class 0 are hosts, others are defects."""
    classes = np.array(classes)
    role = np.where(classes > 0, DEFECT, HOST)
    tracks = np.arange(len(classes)) + 1 if tracks is None else np.array(tracks)
    return FrameRecord(series, time, classes, role, tracks, happenings, **fields)


def test_counts_events_and_rates_are_those_of_the_frames():
    history = History()
    fields = {"area_nm2": 100.0, "dose_e_per_a2": 1e3}
    history.add(record(0.0, [0, 0, 0, 1], [Happening("appeared", 4, 1)], **fields))
    for n in range(1, 11):
        happenings = [Happening("appeared", 2, 1)] if n == 5 else []
        history.add(record(6.0 * n, [0, int(n >= 5), 0, 1], happenings, **fields))
    view = history.view(100)
    assert view.frames.tolist() == [1] * 11
    assert view.roles["defect"][1].tolist() == [1.0] * 5 + [2.0] * 6
    assert view.classes[1][1].tolist() == view.roles["defect"][1].tolist()
    assert view.events["found"].tolist() == [1] + [0] * 10
    assert np.flatnonzero(view.events["appeared"]).tolist() == [5]
    rate = view.rates["appeared"]
    assert (rate.n, rate.per_minute) == (1, 1.0)
    assert rate.per_nm2_per_minute == pytest.approx(0.01)
    assert rate.per_nm2_per_dose == pytest.approx(1 / 100 / 1e4)
    assert (view.seconds, view.area_nm2, view.dose_e_per_a2) == (60.0, 100.0, 1e4)
    assert set(view.rates) == {"appeared", "moved", "reclassified", "disappeared"}
    one = history.view(100, class_id=0)
    assert set(one.classes) == {0}
    assert one.rates["appeared"].n == 0


def test_a_defect_that_is_confirmed_late_was_there_all_the_time():
    history = History()
    for n in range(10):
        # it spoke for itself from the second frame on, and was certain in the eighth
        late = [Happening("appeared", 2, 1, latency_frames=6)] if n == 7 else []
        history.add(record(float(n), [0, 1], late))
    assert history.view(10).rates["appeared"].n == 0
    assert history.view(10).events["found"].sum() == 1


def test_what_comes_into_view_is_found_and_not_born():
    history = History()
    for n in range(10):
        tracks = [1, 2] if n < 6 else [1, 2, 3]
        happenings = [Happening("appeared", 3, 1)] if n == 6 else []
        history.add(record(float(n), [0, 0, 1][: len(tracks)], happenings, tracks=tracks))
    assert history.view(10).rates["appeared"].n == 0


def test_a_life_is_from_the_change_to_the_change_not_from_report_to_report():
    history = History()
    for n in range(20):
        happenings = {
            6: [Happening("appeared", 2, 1, latency_frames=2)],
            15: [Happening("disappeared", 2, 1, latency_frames=1)],
        }
        history.add(record(2.0 * n, [0, int(4 <= n < 14)], happenings.get(n, [])))
    found = history.view(20).lifetimes
    assert found.time_s.tolist() == [20.0]
    assert (found.n_ended, found.exposure_s) == (1, 20.0)


def test_the_acquisition_clock_counts_where_there_is_one():
    history = History()
    for n in range(5):
        history.add(record(0.01 * n, [0], acquired=100.0 + 30 * n))
    assert history.view(5).seconds == 120.0
    assert history.view(5).end[-1] == pytest.approx(0.04)


def test_time_and_dose_between_series_are_not_watched():
    history = History()
    for series, start in (("a", 0.0), ("b", 1000.0)):
        for n in range(3):
            history.add(record(start + n, [0], series=series, dose_e_per_a2=10.0))
    view = history.view(10)
    assert (view.seconds, view.dose_e_per_a2, view.area_nm2) == (4.0, 40.0, None)
    assert view.rates["appeared"].per_nm2_per_dose is None


def test_after_learning_anew_tracks_start_again():
    history = History()
    history.add(record(0.0, [0] * 50))
    history.add(record(1.0, [0] * 50))
    history.interrupt()
    history.add(record(2.0, [0, 1], [Happening("appeared", 2, 1)]))
    assert history.view(10).events["found"].sum() == 1
    assert history.view(10).seconds == 1.0


def test_classes_without_end_take_no_memory_without_end():
    history = History()
    for n in range(3 * MAX_CLASSES):
        history.add(record(float(n), [0, n], [Happening("moved", 1, n)]))
    view = history.view(1000)
    assert len(view.classes) == MAX_CLASSES
    assert set(view.classes) == {0, *range(2 * MAX_CLASSES + 1, 3 * MAX_CLASSES)}
    newest = view.classes[3 * MAX_CLASSES - 1]
    assert newest[2].sum() == 1.0


def test_numbers_of_the_headers_have_a_course_in_which_frames_without_them_count_for_nothing(rng):
    n = 2 * CAPACITY + 5
    sent = np.where(rng.random(n) < 0.5, np.nan, 573.0 + rng.normal(0, 1, n)).astype(np.float32)
    sent[: n // 4] = np.nan
    history = History()
    for time, value in enumerate(sent):
        history.add(
            record(float(time), [0], scalars={} if np.isnan(value) else {"temperature_K": float(value)})
        )
    view = history.view(7)
    low, mean, high = view.scalars["temperature_K"]
    at = 0
    for point, frames in enumerate(view.frames):
        part = sent[at : at + frames]
        part, at = part[~np.isnan(part)], at + frames
        if not len(part):
            assert np.isnan([low[point], mean[point], high[point]]).all()
        else:
            assert (low[point], high[point]) == (part.min(), part.max())
            assert mean[point] == pytest.approx(part.mean(dtype=float), rel=1e-6)
    assert np.isnan(low[0])
    assert list(view.classes) == [0]


def test_numbers_of_the_headers_are_bounded_in_number_and_size():
    history = History()
    history.add(record(0.0, [0], scalars={f"s{k}": float(k) for k in range(3 * MAX_SCALARS)}))
    history.add(record(1.0, [0], scalars={"s0": 1e300, "s1": -3.0}))
    scalars = history.view(1).scalars
    assert list(scalars) == [f"s{k}" for k in range(MAX_SCALARS)]
    assert scalars["s0"].tolist() == [[0.0], [0.0], [0.0]]
    assert scalars["s1"].tolist() == [[-3.0], [-1.0], [1.0]]
    # where a name is not in the frames that are shown, it is not told
    for time in range(2, 2 * CAPACITY):
        history.add(record(float(time), [0], scalars={"s1": 0.0}))
    assert list(history.view(10, since=2 * CAPACITY - 100.0).scalars) == ["s1"]


def test_an_empty_history_is_a_view_of_nothing():
    view = History().view(10, since=5.0, class_id=3)
    assert (len(view.frames), view.seconds, view.rates["moved"].per_minute) == (0, 0.0, None)
    assert view.lifetimes.mean_s is None


def test_drift_and_dose_have_a_course_with_gaps_where_a_frame_does_not_tell_them():
    history = History()
    for time, drift, dose in ((0.0, (0.0, 0.0), 2.0), (1.0, (0.5, -1.0), 2.0), (2.0, None, 2.0)):
        history.add(record(time, [0, 1], dose_e_per_a2=dose, drift_nm=drift))
    view = history.view(10)
    np.testing.assert_allclose(view.drift_nm, [[0.0, 0.5, np.nan], [0.0, -1.0, np.nan]])
    # what the dose of the first frame does shows in the next one
    np.testing.assert_allclose(view.doses_e_per_a2, [0.0, 2.0, 2.0])
    assert view.dose_e_per_a2 == view.doses_e_per_a2.sum()
    # and it is watched since the frame before
    np.testing.assert_allclose(view.watched_s, [0.0, 1.0, 1.0])
    assert view.seconds == view.watched_s.sum()
    history.add(record(3.0, [0, 1], drift_nm=(1.0, 1.0)))
    assert np.isnan(history.view(10).doses_e_per_a2).all()
