"""Small messages that cost much: frames made so that no lattice is found in them, however long it is looked for."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from _running import PATIENCE_S
from latticewatch.config import Settings
from latticewatch.errors import NoLatticeError
from latticewatch.execute._workers import Workers
from latticewatch.ingest import Frame
from latticewatch.lattice import _attempts, _lattice, find_lattice
from latticewatch.pipeline._analyse import analyse


@pytest.fixture
def counted(monkeypatch):
    """Bases that are followed over a frame."""
    followed = []
    follow = _attempts.phase_field

    def counting(image, basis):
        followed.append(basis)
        return follow(image, basis)

    monkeypatch.setattr(_attempts, "phase_field", counting)
    return followed


def dots(size, every):
    image = np.zeros((size, size), np.float32)
    image[::every, ::every] = 1000
    return image


def chequered(size, tiles, seed=0):
    """Another grating in each tile, none of which goes on in the next."""
    rng = np.random.default_rng(seed)
    side = size // tiles
    row, col = np.mgrid[:side, :side]
    image = np.zeros((size, size), np.float32)
    for i in range(tiles):
        for j in range(tiles):
            a, b = rng.uniform(0.08, 0.3, 2) * rng.choice([-1, 1], 2)
            wave = np.cos(2 * np.pi * (a * row + b * col)) + np.cos(2 * np.pi * (b * row - a * col * 1.3))
            image[i * side : (i + 1) * side, j * side : (j + 1) * side] = 500 + 200 * wave
    return image


@pytest.mark.parametrize("value", [0, 7])
def test_a_large_frame_of_one_value_which_is_a_small_message_costs_no_search(counted, value):
    with pytest.raises(NoLatticeError):
        find_lattice(np.full((2048, 2048), value, np.float32))
    assert counted == []


def test_a_basis_that_failed_is_not_followed_again_in_every_window(counted):
    with pytest.raises(NoLatticeError):
        find_lattice(dots(256, 3))
    assert 1 <= len(counted) <= 3


def test_a_search_ends_after_a_bounded_number_of_attempts_and_says_so(counted, monkeypatch):
    monkeypatch.setattr(_attempts, "MAX_PIXELS", 5 * 256 * 256)
    with pytest.raises(NoLatticeError, match="5 attempts"):
        find_lattice(chequered(256, 8))
    assert len(counted) == 5


def test_a_larger_frame_is_given_fewer_attempts_but_never_none():
    limits = [_attempts.Attempts((side, side), _lattice._same).limit for side in (512, 2048, 65536)]
    assert limits == [192, 12, _attempts.MIN_ATTEMPTS]


def test_an_analysis_that_is_given_up_leaves_its_thread(monkeypatch):
    begun, release, attempts = threading.Event(), threading.Event(), []
    follow = _attempts.phase_field

    def slow(image, basis):
        attempts.append(basis)
        begun.set()
        assert release.wait(PATIENCE_S)
        return follow(image, basis)

    monkeypatch.setattr(_attempts, "phase_field", slow)
    workers = Workers(1)
    frame = Frame(chequered(256, 8), "a", number=0, ordinal=0)
    job = workers.submit(analyse, frame, None, Settings().analysis)
    assert begun.wait(PATIENCE_S)
    (thread,) = workers._threads
    assert job.abandon()
    workers.replace(job)
    release.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert len(attempts) == 1
    workers.close()
