"""Idle cores help with one frame, and only idle ones."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from latticewatch import parallel
from latticewatch.features import ZernikeMoments
from latticewatch.lattice._demodulator import demodulator

TIMEOUT_S = 10.0


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    parallel._helpers.cache_clear()
    yield
    parallel._helpers().shutdown()
    parallel._helpers.cache_clear()


def test_calls_are_made_at_once_and_their_results_come_in_order(four_cores):
    together = threading.Barrier(3, timeout=TIMEOUT_S)

    def call(k):
        together.wait()  # passed only when all three are under way
        return k

    assert parallel.run(*(lambda k=k: call(k) for k in range(3))) == [0, 1, 2]


def test_whoever_is_free_takes_the_next_call(four_cores):
    others_done = threading.Event()
    done = []

    def first():
        assert others_done.wait(TIMEOUT_S)

    def other():
        done.append(1)
        if len(done) == 20:
            others_done.set()

    # the one that has taken the first call is busy till the rest is done
    parallel.run(first, *20 * [other])
    assert len(done) == 20


def test_what_no_helper_has_begun_is_done_by_the_caller(four_cores):
    busy, go_on = threading.Semaphore(0), threading.Event()

    def occupy():
        busy.release()
        go_on.wait(TIMEOUT_S)

    occupied = [parallel._helpers().submit(occupy) for _ in range(3)]
    for _ in occupied:
        assert busy.acquire(timeout=TIMEOUT_S)
    names = parallel.run(*2 * [lambda: threading.current_thread().name])
    go_on.set()
    assert names == 2 * [threading.current_thread().name]


def test_an_error_of_a_part_reaches_the_caller(four_cores):
    with pytest.raises(ZeroDivisionError):
        parallel.run(*3 * [lambda: 1 // 0])


def test_cores_that_a_frame_keeps_busy_are_not_idle(four_cores):
    assert parallel.idle() == 3
    with parallel.working():
        assert parallel.idle() == 3
        with parallel.working(2):
            assert parallel.idle() == 1
            with parallel.working(5):
                assert parallel.idle() == 0
    assert parallel.idle() == 3


def test_how_many_cores_help_does_not_change_a_bit(rng, four_cores):
    image = rng.poisson(9, (203, 181)).astype(np.float32)
    positions = rng.uniform(-3, 210, (901, 2))
    zernike = ZernikeMoments(patch_size=21)
    demodulate = demodulator((203, 181), np.array([[0.1, 0.01], [0.02, 0.09]]), 3)
    moments, (waves, means) = zernike.at(image, positions), demodulate(image)
    with parallel.working(4):
        assert not parallel.idle()
        np.testing.assert_array_equal(zernike.at(image, positions), moments)
        alone, means_alone = demodulate(image)
    np.testing.assert_array_equal(waves, alone)
    np.testing.assert_array_equal(means, means_alone)


@pytest.mark.parametrize(("n", "fewest"), [(0, 5), (1, 5), (23, 5), (1000, 300), (1000, 1)])
def test_every_row_is_in_one_part_and_no_part_is_small(four_cores, n, fewest):
    parts = []
    with parallel.working():
        parallel.by_parts(lambda first, last: parts.append((first, last)), n, fewest)
    rows = [k for first, last in sorted(parts) for k in range(first, last)]
    assert rows == list(range(n))
    assert len(parts) <= 4
    assert len(parts) == 1 or min(last - first for first, last in parts) >= fewest


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or parallel.cores() < 2,
    reason="one core only, or a system that does not tell where a thread runs",
)
def test_helpers_keep_off_the_core_of_the_one_that_asks(monkeypatch):
    at_work = threading.Barrier(2, timeout=TIMEOUT_S)

    def cores_of():
        # so that both take one
        at_work.wait()
        return threading.get_native_id(), os.sched_getaffinity(threading.get_native_id())

    parallel._helpers.cache_clear()
    try:
        with parallel.working():
            # a thread is known once it has begun
            parallel.run(cores_of, cores_of)
            monkeypatch.setattr(parallel, "_this_core", lambda: 0)
            allowed = dict(parallel.run(cores_of, cores_of))
        assert allowed.pop(threading.get_native_id()) == os.sched_getaffinity(0)
        assert all(0 not in others for others in allowed.values())
    finally:
        parallel._helpers().shutdown()
        parallel._helpers.cache_clear()
