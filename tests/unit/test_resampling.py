"""What interpolation between pixels does to the moments of coarse frames, and that it is taken off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from _crystal import honeycomb, judged, learnt, render, surveyed
from latticewatch.discover._resampling import resampling_slopes
from latticewatch.model._local import standardise
from latticewatch.model._resampling import without_blur


@given(seed=st.integers(0, 1000), n=st.integers(0, 40), p=st.integers(1, 7))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_blur_of_each_site_is_taken_off(seed, n, p):
    rng = np.random.default_rng(seed)
    moments = rng.normal(size=(n, p)).astype(np.float32)
    position = rng.uniform(-50, 50, (n, 2))
    sublattice = rng.integers(-1, 3, n).astype(np.int16)
    slopes = rng.normal(size=(3, 2, p)).astype(np.float32)
    found = without_blur(moments, position, sublattice, slopes)
    np.testing.assert_allclose(found, naive.without_blur(moments, position, sublattice, slopes), atol=1e-5)


def test_the_slopes_are_those_that_the_hosts_were_made_with(rng):
    n, true = 1200, np.array([[0.0, 8.0, -3.0], [0.0, -5.0, 0.0]])
    position = rng.uniform(0, 300, (n, 2))
    fraction = position % 1
    moments = 2.0 + (fraction * (1 - fraction)) @ true + 0.2 * rng.normal(size=(n, 3))
    moments[: n // 20] += 4.0  # defects
    found = resampling_slopes(moments.astype(np.float32), position)
    np.testing.assert_allclose(found, true, atol=0.6)
    assert (found[true == 0] == 0).sum() >= 2


@pytest.mark.parametrize("place", ["noise", "one fraction", "few"])
def test_where_nothing_can_be_learnt_nothing_is_taken_off(rng, place):
    n = 20 if place == "few" else 900
    position = rng.uniform(0, 300, (n, 2))
    if place == "one fraction":
        position = np.floor(position) + 0.25
    slopes = resampling_slopes(rng.normal(size=(n, 4)).astype(np.float32), position)
    # a slope in some hundred is taken for one by chance
    assert np.count_nonzero(slopes) <= (1 if place == "noise" else 0)


def test_hosts_of_a_coarse_frame_differ_by_their_noise_alone(rng):
    crystal = honeycomb(5.5).turned(11)
    scene = render(crystal, rng, shape=(320, 320), width=0.27, counts=3000.0)
    _, _, (survey,) = surveyed([scene])
    sites, moments = survey.sites, survey.moments
    rows = sites.sublattice == 0
    slopes = np.stack(
        [
            resampling_slopes(moments[sites.sublattice == s], sites.position[sites.sublattice == s])
            for s in (0, 1)
        ]
    )
    clean = without_blur(moments, sites.position, sites.sublattice, slopes.astype(np.float32))
    # the first moment is the mean of the patch, the fifth its curvature
    assert clean[rows, 4].std() < 0.6 * moments[rows, 4].std()


def test_the_spread_of_scores_does_not_depend_on_the_place_between_pixels(rng):
    n = 4000
    position = rng.uniform(5, 500, (n, 2))
    fraction = position % 1
    noise = np.sqrt(np.prod(1 - 2 * fraction * (1 - fraction), axis=1))
    score = standardise(
        noise * rng.normal(size=n), position, np.zeros(n, np.int32), np.ones(n, bool), (505, 505)
    )
    between = np.prod(fraction * (1 - fraction), axis=1)
    order = np.argsort(between)
    sharp, blurred = score[order[: n // 4]].std(), score[order[-n // 4 :]].std()
    assert sharp == pytest.approx(blurred, rel=0.12)
    assert noise[order[: n // 4]].mean() > 1.2 * noise[order[-n // 4 :]].mean()


def test_a_coarse_frame_of_high_dose_has_no_false_defects(rng):
    crystal = honeycomb(5.5).turned(11)
    defects = (("vacancy", 1, 0.02, 0.0),)
    scene = render(crystal, rng, shape=(320, 320), width=0.27, counts=3000.0, defects=defects)
    found = judged(learnt([scene]), scene)
    wrong = (found.role == "defect") != (found.kind != "host")
    assert wrong.mean() < 0.003
