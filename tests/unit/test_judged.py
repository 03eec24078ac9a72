"""What the sites of a sublattice are by their height: the kernels beside the same written out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from latticewatch.model._classes import _height_places, _heights
from latticewatch.model._judged import NEAR_GATE, SURE, Around, displaced, judged
from latticewatch.model._local import WINDOWS
from latticewatch.model._mixture import Mixture

SHAPE = (220, 260)
MIXTURE = Mixture(
    np.array([0.2, 9.0, -14.0]), np.array([1.0, 1.2, 1.5]), np.array([0.95, 0.03, 0.01]), 0.01, 60.0
)


def classes_of(*, void):
    known = SimpleNamespace(
        mixture=MIXTURE, templates=SimpleNamespace(void=void), filter=SimpleNamespace(height_of_sigma=0.03)
    )
    return _heights(known, _height_places(MIXTURE, 3))


def scene(seed, *, few=False):
    """Sites with two neighbours each, some of them changed, and what their filters say."""
    rng = np.random.default_rng(seed)
    n = 200
    position = rng.uniform(0, SHAPE, (n, 2))
    index = np.stack([np.arange(n) - 1, (np.arange(n) + 1) % n], 1).astype(np.int32)
    index[0, 0] = 5
    amplitude = np.where(rng.random(n) < 0.05, rng.normal(0, 0.5, n), 0.0)
    rows = np.arange(0, n, 2)
    height = rng.normal(0.2, 1.0, (len(rows), 5)).astype(np.float32)
    height[::17, 0] += 12
    around = Around(
        rows, position[rows], np.zeros(len(rows), np.int32), index, *map(float, SHAPE), *WINDOWS, few=few
    )
    echo = np.where(rng.random(len(rows)) < 0.1, rng.uniform(0.2, 2.0, len(rows)), 0.0)
    host = rng.random(len(rows)) < 0.97
    return SimpleNamespace(
        rng=rng,
        around=around,
        amplitude=amplitude,
        height=height,
        echo=echo,
        host=host,
        response=np.array([30.0, 4.0, -3.0]),
        gram=np.eye(3) * 900,
        doubts=np.array([0.0, 3.0, 2.0]),
    )


def unsure_of(s):
    return np.hypot(naive.doubt(s.amplitude, s.around.rows, s.around.neighbours, s.doubts), s.echo)


def telling_of(s, unsure):
    telling = s.host & (unsure <= SURE)
    return telling if telling.sum() >= max(30, 0.25 * s.host.sum()) else s.host


@given(seed=st.integers(0, 2**32 - 1), few=st.booleans(), void=st.booleans())
@settings(max_examples=20, deadline=None)
def test_sites_are_judged_as_written_out(seed, few, void):
    s, classes = scene(seed, few=few), classes_of(void=void)
    score, posterior, amplitude, host, wider = judged(
        s.height, s.response, s.gram, s.doubts, s.amplitude, s.echo, s.host, s.around, classes
    )

    unsure = unsure_of(s)
    alone = s.height[:, 0] - s.amplitude[s.around.neighbours[s.around.rows]] @ s.response[1:]
    expected = alone / unsure
    if not few:
        expected = naive.standardised(expected, s.around.position, telling_of(s, unsure), SHAPE)
    doubtful = (unsure > SURE) & (posterior[:, 0] < 0.5)
    expected = np.where(doubtful, expected * unsure, expected)
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(wider, np.where(doubtful, unsure, 1.0))
    np.testing.assert_allclose(posterior.sum(1), 1.0)
    np.testing.assert_array_equal(host, posterior[:, 0] > 0.5)

    for value, by, row, change in zip(score, wider, posterior, amplitude, strict=True):
        at = max(value, MIXTURE.mean[0]) if void else value
        wide = np.sqrt(MIXTURE.deviation**2 + by**2 - 1)
        density = naive.weighted_densities([at], MIXTURE.mean, wide, MIXTURE.weight, 0.01, 60.0)[0]
        if row[0] == 1.0:
            assert density[0] > 0.5 * density.sum()
            assert change == 0.0
        else:
            np.testing.assert_allclose(row, density / density.sum(), rtol=1e-6, atol=1e-12)
        if row[0] <= 0.5:
            each = np.append((MIXTURE.mean - MIXTURE.mean[0])[1:], value) * 0.03
            np.testing.assert_allclose(change, row[1:] @ each)


@given(seed=st.integers(0, 2**32 - 1), far=st.booleans())
@settings(max_examples=20, deadline=None)
def test_displacements_are_measured_as_written_out_where_one_is_near_the_gate(seed, far):
    s = scene(seed)
    shift = s.rng.normal(0.3, 1.2, (len(s.around.rows), 2)).astype(np.float32)
    unsure = unsure_of(s)
    raw = shift / unsure[:, None]
    most = (raw**2).sum(1).max()
    gate = most / NEAR_GATE * (0.9 if far else 1.1)
    z, scale, said = displaced(shift, s.doubts, s.amplitude, s.echo, s.host, gate, s.around)
    np.testing.assert_allclose(said, unsure)
    if not far:
        assert not z.any()
        return
    for k in range(2):
        standard = naive.standardised(raw[:, k], s.around.position, telling_of(s, unsure), SHAPE)
        slope = np.polyfit(standard[s.host], raw[s.host, k], 1)[0]
        assert scale[k] == pytest.approx(slope, rel=1e-3)
        np.testing.assert_allclose(z[:, k], standard * slope, rtol=2e-3, atol=2e-3)


def test_of_no_sites_nothing_is_said():
    s, classes = scene(1), classes_of(void=False)
    none = s.around._replace(rows=s.around.rows[:0], position=s.around.position[:0], frame=s.around.frame[:0])
    nothing = np.zeros(0)
    found = judged(
        s.height[:0], s.response, s.gram, s.doubts, s.amplitude, nothing, s.host[:0], none, classes
    )
    assert [len(part) for part in found] == [0] * 5
    assert found[1].shape == (0, 4)
