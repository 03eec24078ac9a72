"""Scores of events and tracks, on cases that can be counted by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from _events import Happening, match_events, score_tracks

A, D, M = "defect.appeared", "defect.disappeared", "defect.moved"


def test_a_report_matches_the_same_kind_on_the_same_site_within_the_delay():
    true = [Happening(A, 10, 1), Happening(A, 10, 2), Happening(D, 10, 3), Happening(M, 10, 4)]
    reported = [Happening(A, 13, 1), Happening(A, 21, 2), Happening(A, 12, 3), Happening(M, 10, 4)]
    score = match_events(true, reported, max_delay=10)
    assert score.found == [true[3], true[0]]
    assert score.delays == [0, 3]
    assert set(score.missed) == {true[1], true[2]}
    assert set(score.false) == {reported[1], reported[2]}
    assert score.recall == score.precision == 0.5


def test_a_report_before_the_event_is_false():
    score = match_events([Happening(A, 10, 1)], [Happening(A, 9, 1)], max_delay=10)
    assert (len(score.missed), len(score.false)) == (1, 1)


def test_one_report_does_not_serve_twice():
    true = [Happening(A, 10, 1), Happening(A, 14, 1)]
    score = match_events(true, [Happening(A, 15, 1)], max_delay=10)
    assert (len(score.found), len(score.missed), score.delays) == (1, 1, [5])
    score = match_events(true[:1], [Happening(A, 11, 1), Happening(A, 12, 1)], max_delay=10)
    assert (len(score.found), len(score.false)) == (1, 1)


def test_what_need_not_be_reported_may_be_at_any_later_time():
    true = [Happening(A, 10, 1, counted=False)]
    assert match_events(true, [], 5).missed == []
    late = match_events(true, [Happening(A, 900, 1)], 5)
    assert (late.found, late.missed, late.false) == ([], [], [])
    assert len(match_events(true, [Happening(A, 900, 1), Happening(A, 901, 1)], 5).false) == 1


def test_scores_of_kinds_and_sums():
    true = [Happening(A, 1, 1), Happening(D, 1, 2)]
    score = match_events(true, [Happening(A, 3, 1), Happening(D, 0, 9)], 5)
    assert score.of(A).recall == score.of(A).precision == 1
    assert score.of(A).delays == [2]
    assert score.of(D).recall == score.of(D).precision == 0
    assert score.of(M).recall == score.of(M).precision == 1
    both = score.of(A) + score.of(D)
    assert (both.recall, both.precision) == (score.recall, score.precision)


def frames(*each):
    return [{site: (trajectory, True) for site, trajectory in frame.items()} for frame in each]


def test_perfect_tracks_score_one_moves_included():
    true = frames({1: 0, 5: 1}, {2: 0, 5: 1}, {2: 0, 5: 1})
    found = [{1: 70, 5: 80}, {2: 70, 5: 80}, {2: 70, 5: 80}]
    score = score_tracks(true, found)
    assert (score.mota, score.idf1, score.switches, score.breaks) == (1, 1, 0, 0)


def test_a_switch_in_the_middle_costs_one_in_mota_and_half_in_idf1():
    true = frames(*[{1: 0}] * 10)
    found = [{1: 7}] * 5 + [{1: 8}] * 5
    score = score_tracks(true, found)
    assert score.switches == 1
    assert score.mota == pytest.approx(0.9)
    # 5 of 10 frames under one identity: 2 · 5 / (10 + 10)
    assert score.idf1 == pytest.approx(0.5)


def test_misses_and_false_defects_are_counted_frame_by_frame():
    true = frames({1: 0}, {1: 0}, {1: 0}, {1: 0})
    found = [{1: 7}, {}, {1: 7, 3: 9}, {1: 7}]
    score = score_tracks(true, found)
    assert (score.truths, score.missed, score.false, score.switches, score.breaks) == (4, 1, 1, 0, 1)
    assert score.mota == pytest.approx(1 - 2 / 4)
    assert score.idf1 == pytest.approx(2 * 3 / (4 + 4))


def test_two_trajectories_that_swap_tracks_are_two_switches():
    true = frames(*[{1: 0, 2: 1}] * 4)
    found = [{1: 7, 2: 8}] * 2 + [{1: 8, 2: 7}] * 2
    score = score_tracks(true, found)
    assert score.switches == 2
    assert score.idf1 == pytest.approx(0.5)


def test_a_defect_that_is_not_counted_may_be_found_or_not():
    true = [{1: (0, False)}, {1: (0, False)}, {1: (0, True)}]
    score = score_tracks(true, [{1: 7}, {}, {1: 7}])
    assert (score.truths, score.missed, score.false, score.mota, score.idf1) == (1, 0, 0, 1, 1)


def test_nothing_true_and_nothing_found_is_perfect():
    score = score_tracks([{}], [{}])
    assert (score.mota, score.idf1) == (1, 1)
    assert match_events([], [], 3).recall == 1
