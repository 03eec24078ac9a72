"""What the loops of the tutorial have to reach, by the truth of the simulated microscope (docs/reference/loops.md)."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from _loops import LOOKS, expose_until, follow, learnt_before, least_sure, visit
from latticewatch_client import Client, FakeService

# A machine that is busy is late, and nothing more may be asked of it than that it is not later than this [s].
GRACE_S = 0.1


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", [11, 21, 31])
def test_every_fe_of_nine_fields_is_exposed_once_though_service_and_loop_are_killed(tmp_path, seed):
    done = visit(tmp_path, seed)
    assert done.there > 15
    assert (done.visited, done.twice, done.outside) == (done.there, 0, 0)
    assert max(done.offset_nm) <= 0.05
    assert max(done.missed_nm) <= 0.05
    assert done.dose_e_per_a2 <= 2e8
    assert done.electrons <= 1e12


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [3])
def test_a_vacancy_is_in_the_middle_of_two_hundred_frames_but_for_those_that_show_it_hop(tmp_path, seed):
    kept = follow(tmp_path, seed, looks=220)
    assert (kept.failed, kept.tracks) == ({}, 1)
    assert len(kept.offset_nm) >= 200
    assert max(kept.offset_nm) <= 0.1
    assert kept.hops > 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [5])
def test_the_beam_is_off_within_a_frame_of_the_third_vacancy(tmp_path, seed):
    ended = expose_until(tmp_path, seed)
    assert ended.seen == 3
    # From the frame that shows it having been sent; those in which the evidence adds up come on top.
    assert ended.after_s <= (1 + ended.late_frames) * ended.frame_s + GRACE_S


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_looking_where_the_classifier_is_least_sure_makes_it_surer_than_looking_anywhere(tmp_path):
    model, gained = learnt_before(tmp_path), []
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        least, anywhere = least_sure(folder, seed, model, ("most-uncertain", "random"))
        for looked in (least, anywhere):
            assert len(set(looked.looked)) == len(looked.looked) == LOOKS
        gained.append(least.after - anywhere.after)
        sys.stdout.write(f"{seed}: {least.defects} defects, {least.before:.4f} -> {least.after:.4f}, ")
        sys.stdout.write(f"by chance {anywhere.after:.4f}\n")
    assert np.mean(gained) > 0


def test_a_slow_policy_neither_delays_nor_loses_events():
    going, quick, slow = threading.Event(), [], []
    first, all_, n = threading.Event(), threading.Event(), 30

    def think():
        with Client(service.url) as client:
            for event in client.events(after=1):
                slow.append(event.seq)
                first.set()
                # Still thinks about its first event when the last one has long been told.
                assert going.wait(60)
                if event.seq == n + 1:
                    return

    def act():
        with Client(service.url) as client:
            for event in client.events(after=1):
                quick.append(event.seq)
                if event.seq == n + 1:
                    all_.set()
                    return

    with FakeService([defect(1)]) as service:
        threads = [threading.Thread(target=one, daemon=True) for one in (think, act)]
        for thread in threads:
            thread.start()
        service.tell(defect(2))
        assert first.wait(60)
        for k in range(3, n + 2):
            service.tell(defect(k))
        assert all_.wait(60)
        assert (slow, quick) == ([2], list(range(2, n + 2)))
        going.set()
        for thread in threads:
            thread.join(60)
    assert slow == quick


def defect(n):
    data = {
        "series_id": "a", "frame": n, "t_received": 1.0, "t_emitted": 1.0, "model_version": 1, "track": n,
        "class_id": 3, "class_name": "V_S", "role": "defect", "confidence": 0.9, "px": {"row": 5.0, "col": 1.0 + n},
        "sigma_px": 0.1,
    }  # fmt: skip
    return {"type": "defect.appeared", "data": data}
