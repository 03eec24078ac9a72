"""Rotations, reflections, invariants and noise of Zernike moments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticewatch.features import ZernikeMoments, invariants, mirror_moments, rotate_moments
from naive import bilinear_patch


def star(size, angle_deg, mirrored=False):
    """A smooth motif without symmetry, drawn at an angle, counter-clockwise as displayed."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, size)])
    turn = np.deg2rad(angle_deg)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    y = -y if mirrored else y
    spots = [(0, 0, 1.0), (0.5, 0.1, 0.6), (-0.2, 0.45, 0.4), (-0.1, -0.5, 0.9)]
    return sum(w * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.08) for a, b, w in spots)


@pytest.mark.parametrize("size", [16, 29, 36])
@pytest.mark.parametrize("quarter", [-1, 0, 1, 2, 3])
def test_rotated_moments_are_those_of_the_rotated_patch(size, quarter, rng):
    zm = ZernikeMoments(patch_size=size)
    patches = rng.random((5, size, size))
    rotated = zm.transform(np.rot90(patches, quarter, axes=(1, 2)))
    got = rotate_moments(zm.transform(patches), zm.n_, zm.m_, 90 * quarter)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, rotated, atol=2e-6)


@pytest.mark.parametrize(("axis_deg", "flip"), [(0, np.flipud), (90, np.fliplr), (-45, np.transpose)])
def test_mirrored_moments_are_those_of_the_mirrored_patch(axis_deg, flip, rng):
    zm = ZernikeMoments(patch_size=31)
    patch = rng.random((31, 31))
    moments = zm.transform([patch])
    got = mirror_moments(moments, zm.n_, zm.m_, axis_deg)
    np.testing.assert_allclose(got, zm.transform([flip(patch)]), atol=2e-6)
    np.testing.assert_allclose(mirror_moments(got, zm.n_, zm.m_, axis_deg), moments, atol=1e-6)


def test_a_motif_drawn_at_an_angle_has_the_rotated_moments():
    zm = ZernikeMoments(patch_size=101)
    angles = np.array([0.0, 17.0, 60.0, 133.3, 240.0])
    drawn = zm.transform(np.stack([star(101, angle) for angle in angles]))
    turned = rotate_moments(np.broadcast_to(drawn[0], drawn.shape), zm.n_, zm.m_, angles)
    np.testing.assert_allclose(turned, drawn, atol=2e-3 * np.abs(drawn).max())


def test_invariants_do_not_see_orientation_or_handedness():
    zm = ZernikeMoments(patch_size=101, invariant=True)
    patches = [star(101, angle, mirrored) for angle in (0, 40, 199) for mirrored in (False, True)]
    features = zm.transform(np.stack(patches))
    assert features.shape == (6, 81)
    np.testing.assert_allclose(features, np.broadcast_to(features[0], features.shape), atol=2e-3)


@settings(deadline=None, max_examples=30)
@given(n_max=st.integers(0, 14), angle=st.floats(-720, 720), axis=st.floats(0, 180), seed=st.integers(0, 999))
def test_invariants_of_any_moments_are_invariant(n_max, angle, axis, seed):
    zm = ZernikeMoments(n_max, 15)
    moments = np.random.default_rng(seed).normal(size=(3, len(zm.n_)))
    moved = mirror_moments(rotate_moments(moments, zm.n_, zm.m_, angle), zm.n_, zm.m_, axis)
    np.testing.assert_allclose(invariants(moved, zm.n_, zm.m_), invariants(moments, zm.n_, zm.m_), atol=1e-9)


@pytest.mark.parametrize("change", [(6, 4), (3, 3)])
def test_invariants_see_one_order_turned_against_the_others(change):
    zm = ZernikeMoments(patch_size=15)
    moments = np.random.default_rng(3).normal(size=66)
    n, m = change
    part = (np.abs(zm.m_) == m) & (zm.n_ == n)
    turned = np.where(part, rotate_moments(moments, zm.n_, zm.m_, 25.0), moments)
    plain = slice(0, 36)
    before, after = invariants(moments, zm.n_, zm.m_), invariants(turned, zm.n_, zm.m_)
    np.testing.assert_allclose(after[plain], before[plain])
    assert np.abs(after - before).max() > 0.02


def test_invariants_are_in_units_of_the_moments_and_nothing_gives_zero():
    zm = ZernikeMoments(patch_size=15)
    moments = np.random.default_rng(4).normal(size=66)
    np.testing.assert_allclose(invariants(7 * moments, zm.n_, zm.m_), 7 * invariants(moments, zm.n_, zm.m_))
    assert not invariants(np.zeros(66), zm.n_, zm.m_).any()


def test_orders_that_do_not_belong_to_the_moments_are_refused():
    zm = ZernikeMoments(patch_size=15)
    with pytest.raises(ValueError, match="give n_ and m_"):
        rotate_moments(np.zeros(65), zm.n_, zm.m_, 10)
    with pytest.raises(ValueError, match="sorted by"):
        mirror_moments(np.zeros(66), zm.n_, zm.m_[::-1])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, 0.5), (0.2, 0.9), "uniform"])
def test_noise_covariance_is_that_of_noisy_frames(shift, rng):
    zm = ZernikeMoments(n_max=4, patch_size=11)
    variance = 1 + rng.random((12, 12))
    n = 20_000
    noise = rng.normal(size=(n, 12, 12)) * np.sqrt(variance)
    shifts = rng.random((n, 2)) if shift == "uniform" else np.full((n, 2), shift)
    # The frames side by side are one image; the patches do not overlap.
    image = noise.transpose(1, 0, 2).reshape(12, -1)
    positions = np.column_stack([np.full(n, 5), 12 * np.arange(n) + 5]) + shifts
    moments = zm.at(image, positions).astype(np.float64)
    expected = zm.noise_covariance(variance, shift)
    spread = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        moments.T @ moments / n / np.outer(spread, spread), expected / np.outer(spread, spread), atol=0.05
    )


def test_noise_covariance_at_a_shift_is_that_of_the_interpolation(rng):
    zm = ZernikeMoments(n_max=3, patch_size=7)
    variance = rng.random((8, 8))
    unit = np.eye(64).reshape(64, 8, 8)
    responses = np.stack([zm.basis.reshape(10, -1) @ bilinear_patch(e, 3.25, 3.5, 7).ravel() for e in unit])
    responses /= np.pi * 49 / 4
    expected = (responses.T * variance.ravel()) @ responses
    np.testing.assert_allclose(zm.noise_covariance(variance, (0.25, 0.5)), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("variance", "shift", "message"),
    [
        (np.ones((5, 5)), (0, 0), "expected a number, .11, 11. or .12, 12."),
        (-1.0, (0, 0), "negative or not finite"),
        (1.0, (0, 1.5), "not a fraction"),
    ],
)
def test_a_noise_that_cannot_be_is_refused(variance, shift, message):
    with pytest.raises(ValueError, match=message):
        ZernikeMoments(n_max=3, patch_size=11).noise_covariance(variance, shift)
