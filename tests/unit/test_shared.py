"""What all hosts of a frame share is no oddity; what a few sites have stays one."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import honeycomb, judged, learnt, render
from latticewatch.model import _members
from latticewatch.model._oddities import Oddities
from latticewatch.model._shared import _middle, shared_change

N_AXES = 40
KNOWN = Oddities(np.zeros(66), np.zeros((66, N_AXES)), 0.0, 1.0, np.zeros((N_AXES, 0)), None)


def residuals(seed, m=400):
    return np.random.default_rng(seed).standard_normal((m, N_AXES)).astype(np.float32)


@pytest.mark.parametrize("m", [20, 60, 400, 5000])
def test_noise_alone_is_nothing_shared(m):
    assert sum(shared_change(residuals(seed, m), KNOWN) is not None for seed in range(40)) <= 1


def test_what_a_tenth_of_the_sites_have_is_not_shared():
    rows = residuals(1)
    rows[:40, 3] += 12.0
    change = shared_change(rows, KNOWN)
    assert change is None or (abs(change.offset[3]) < 0.4 and change.scale < 1.1)


def test_a_change_of_all_sites_is_found_beside_the_odd_ones():
    rows, shared = residuals(2), np.zeros(N_AXES, np.float32)
    shared[:2] = 3.0, -1.5
    rows = 1.5 * rows + shared
    rows[:40, 7] += 20.0
    change = shared_change(rows, KNOWN)
    assert change is not None
    np.testing.assert_allclose(change.offset, shared, atol=0.4)
    assert change.scale == pytest.approx(1.5, rel=0.1)
    left = change.taken_off(rows)
    assert np.linalg.norm(left[:40], axis=1).min() > np.linalg.norm(left[40:], axis=1).mean() + 3


@pytest.mark.parametrize("m", [20, 21, 501])
def test_the_fast_median_is_the_median_to_the_last_digit(m):
    rows = residuals(6, m)
    np.testing.assert_array_equal(_middle(rows.T), np.median(rows, axis=0))
    assert _middle(rows[:, 0].astype(float)) == np.median(rows[:, 0].astype(float))


def test_too_few_sites_share_nothing():
    assert shared_change(residuals(3, 10) + 5, KNOWN) is None


def test_another_specimen_is_not_taken_for_another_focus():
    change = shared_change(10 * residuals(4), KNOWN)
    assert change is not None
    assert np.linalg.norm(change.taken_off(10 * residuals(5)), axis=1).min() > 2 * np.sqrt(N_AXES)


def test_another_focus_leaves_hosts_hosts_and_vacancies_vacancies(monkeypatch):
    crystal = honeycomb(14.0).turned(11)
    options = {"shape": (320, 320), "counts": 400, "defects": (("vacancy", 1, 0.04, 0.0),), "clear": 20}
    model = learnt([render(crystal, np.random.default_rng(n), **options) for n in range(2)])
    scene = render(crystal, np.random.default_rng(9), **options, width=0.22)

    def shares():
        j = judged(model, scene)
        hosts, gone = j.kind == "host", j.kind == "vacancy"
        return np.isin(j.role[hosts], ["host", "neighbour"]).mean(), (j.role[gone] == "defect").mean()

    hosts, gone = shares()
    assert hosts > 0.98
    assert gone == 1.0
    monkeypatch.setattr(_members, "shared_change", lambda residual, known: None)
    assert shares()[0] < 0.8
