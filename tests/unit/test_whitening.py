"""Noise whitening: unit noise in every direction that has any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from latticewatch.estimators._whitening import NoiseWhitening


@parametrize_with_checks([NoiseWhitening()])
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def noise_factor(rng, n_features, rank):
    """Matrix A so that ``rng.normal(size=(n, rank)) @ A`` is correlated noise."""
    return rng.normal(size=(rank, n_features)) * np.geomspace(1, 20, n_features)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_features=st.integers(1, 20), data=st.data())
def test_whitened_noise_has_unit_covariance_in_every_direction_kept(seed, n_features, data):
    rng = np.random.default_rng(seed)
    factor = noise_factor(rng, n_features, data.draw(st.integers(1, n_features)))
    covariance = factor.T @ factor
    whitening = NoiseWhitening.from_covariance(covariance)
    variances = np.linalg.eigvalsh(covariance)
    assert whitening.matrix_.shape == (n_features, (variances > 1e-4 * variances[-1]).sum())
    np.testing.assert_allclose(
        whitening.matrix_.T @ covariance @ whitening.matrix_, np.eye(whitening.matrix_.shape[1]), atol=1e-6
    )


def test_transform_is_the_matrix_and_distances_are_in_sigma(rng):
    rows = rng.normal(size=(200, 3))
    whitening = NoiseWhitening().fit(rows, noise_covariance=np.diag([4.0, 1.0, 0.25]))
    whitened = whitening.transform(rows)
    np.testing.assert_allclose(whitened, (rows - rows.mean(axis=0)) @ whitening.matrix_)
    a, b = whitening.transform([[0.0, 0, 0], [2.0, 0, 1.0]])
    assert np.sum((a - b) ** 2) == pytest.approx(1 + 4)


def test_directions_without_noise_are_dropped_and_come_back_as_the_mean(rng):
    rows = rng.normal(size=(50, 4))
    whitening = NoiseWhitening().fit(rows, noise_covariance=np.diag([1.0, 1.0, 1e-3, 1e-5]))
    assert whitening.transform(rows).shape == (50, 3)
    back = whitening.inverse_transform(whitening.transform(rows))
    np.testing.assert_allclose(back[:, :3], rows[:, :3], atol=1e-12)
    np.testing.assert_allclose(back[:, 3], rows[:, 3].mean())
    with pytest.raises(ValueError, match="expected the 3"):
        whitening.inverse_transform(rows)


def test_differences_between_frames_give_the_noise_and_not_the_signal(rng):
    factor = noise_factor(rng, 6, 6)
    sites = 100 * rng.normal(size=(4000, 6))
    frames = [sites + rng.normal(size=(4000, 6)) @ factor for _ in range(4)]
    whitening = NoiseWhitening()
    for before, after in zip(frames[::2], frames[1::2], strict=True):
        whitening.partial_fit_differences(after - before)
    fresh = rng.normal(size=(4000, 6)) @ factor
    np.testing.assert_allclose(np.cov(whitening.transform(fresh).T), np.eye(6), atol=0.12)


def test_differences_in_any_batches_give_the_same(rng):
    differences = rng.normal(size=(300, 5)) @ noise_factor(rng, 5, 5)
    once = NoiseWhitening().partial_fit_differences(differences)
    many = NoiseWhitening()
    for batch in np.split(differences, [1, 2, 50, 51, 200]):
        many.partial_fit_differences(batch)
    np.testing.assert_allclose(many.noise_covariance_, once.noise_covariance_, atol=1e-9)
    np.testing.assert_allclose(many.matrix_, once.matrix_, rtol=1e-6, atol=1e-9)


def test_too_few_differences_are_said_to_be_too_few(rng):
    whitening = NoiseWhitening().partial_fit_differences(rng.normal(size=(5, 5)))
    with pytest.raises(NotFittedError, match=r"5 differences of 5 features.*at least 6"):
        whitening.transform(np.zeros((1, 5)))
    whitening.partial_fit_differences(rng.normal(size=(1, 5)))
    assert whitening.transform(np.zeros((1, 5))).shape == (1, 5)


def test_a_noise_given_before_stays_until_differences_suffice(rng):
    whitening = NoiseWhitening.from_covariance(np.eye(3))
    whitening.partial_fit_differences(2 * rng.normal(size=(3, 3)))
    np.testing.assert_array_equal(whitening.noise_covariance_, np.eye(3))
    whitening.partial_fit_differences(2 * rng.normal(size=(3000, 3)))
    np.testing.assert_allclose(whitening.noise_covariance_, 2 * np.eye(3), atol=0.3)


def test_fit_forgets_the_differences(rng):
    whitening = NoiseWhitening().partial_fit_differences(rng.normal(size=(50, 3)))
    whitening.fit(rng.normal(size=(20, 3)), noise_covariance=np.eye(3))
    assert not hasattr(whitening, "differences_")


@pytest.mark.parametrize(
    ("covariance", "said"),
    [
        (np.eye(3)[:2], "expected"),
        (np.zeros((3, 3)), "zero"),
        (np.diag([1.0, 1.0, -1.0]), "negative variance, -1"),
        (np.triu(np.ones((3, 3))), "not symmetric"),
        (np.full((3, 3), np.nan), "all finite"),
        (np.ones(3), "expected"),
    ],
)
def test_a_covariance_that_is_none_is_refused(covariance, said):
    with pytest.raises(ValueError, match=said):
        NoiseWhitening.from_covariance(covariance)


def test_a_tolerance_that_drops_everything_is_refused():
    with pytest.raises(ValueError, match=r"rank_tolerance is 1\.0"):
        NoiseWhitening.from_covariance(np.eye(2), rank_tolerance=1.0)
