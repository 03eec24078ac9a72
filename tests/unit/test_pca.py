"""Incremental PCA: exact on a stream, mergeable, forgetting."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import naive
from latticewatch.estimators._covariance import RunningCovariance
from latticewatch.estimators._pca import IncrementalPCA


@parametrize_with_checks([IncrementalPCA(), IncrementalPCA(2), IncrementalPCA("noise", forgetting=0.9)])
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def anisotropic(rng, n, n_features=12, offset=0.0):
    """Rows with well separated variances along directions at random, far from zero if wanted."""
    axes = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
    return rng.normal(size=(n, n_features)) * 2.0 ** -np.arange(n_features) @ axes + offset


def in_batches(rng, rows, n_batches):
    cuts = np.sort(rng.choice(np.arange(1, len(rows)), n_batches - 1, replace=False))
    return np.split(rows, cuts)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(20, 300),
    n_batches=st.integers(1, 15),
    kept=st.integers(1, 11),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
)
def test_a_stream_in_any_batches_gives_the_pca_of_the_whole(seed, n, n_batches, kept, offset):
    rng = np.random.default_rng(seed)
    rows = anisotropic(rng, n, offset=offset)
    ours = IncrementalPCA(kept)
    for batch in in_batches(rng, rows, n_batches):
        ours.partial_fit(batch)
    reference = sklearn.decomposition.PCA(kept, svd_solver="full").fit(rows)
    for name in ("mean_", "explained_variance_", "explained_variance_ratio_", "singular_values_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(reference, name), rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(ours.noise_variance_, reference.noise_variance_, rtol=1e-6)
    np.testing.assert_allclose(ours.components_, reference.components_, atol=1e-4)
    np.testing.assert_allclose(ours.transform(rows), reference.transform(rows), atol=1e-4)
    assert ours.n_samples_seen_ == n
    assert ours.n_components_ == reference.n_components_


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(np.float64, (7, 3), elements=st.floats(-1e3, 1e3)),
    weights=arrays(np.float64, 7, elements=st.floats(0.5, 10)),
    cut=st.integers(1, 6),
)
def test_weights_count_rows_as_often_as_they_say(rows, weights, cut):
    pca = IncrementalPCA().partial_fit(rows[:cut], sample_weight=weights[:cut])
    pca.partial_fit(rows[cut:], sample_weight=weights[cut:])
    mean, covariance = naive.weighted_covariance(rows, weights)
    np.testing.assert_allclose(pca.mean_, mean, atol=1e-9)
    np.testing.assert_allclose(pca.covariance_, covariance, atol=1e-7)


def test_merging_workers_gives_what_one_would_have_seen(rng):
    rows = anisotropic(rng, 400, offset=50.0)
    workers = [IncrementalPCA().fit(part) for part in np.array_split(rows, 3)]
    merged = IncrementalPCA()
    for worker in workers:
        merged.merge(worker)
    alone = IncrementalPCA().fit(rows)
    np.testing.assert_allclose(merged.covariance_, alone.covariance_, atol=1e-12)
    np.testing.assert_allclose(merged.components_, alone.components_, atol=1e-6)
    assert merged.n_samples_seen_ == 400
    assert workers[0].n_samples_seen_ == 134


def test_merging_other_features_is_refused(rng):
    with pytest.raises(ValueError, match="the other has 3 features, this one 4"):
        IncrementalPCA().fit(rng.normal(size=(9, 4))).merge(IncrementalPCA().fit(rng.normal(size=(9, 3))))


def test_forgetting_fades_each_call_by_the_factor(rng):
    batches = [rng.normal(loc=k, size=(50, 4)) for k in range(3)]
    pca = IncrementalPCA(forgetting=0.5)
    for batch in batches:
        pca.partial_fit(batch)
    weights = np.repeat([0.25, 0.5, 1.0], 50)
    rows = np.concatenate(batches)
    np.testing.assert_allclose(pca.mean_, np.average(rows, axis=0, weights=weights))
    np.testing.assert_allclose(pca.covariance_, np.cov(rows.T, aweights=weights))
    assert pca.n_samples_seen_ == 150


def test_forgetting_lets_an_old_offset_go(rng):
    pca = IncrementalPCA(forgetting=0.5).fit(rng.normal(loc=1e3, size=(100, 3)))
    for _ in range(60):
        pca.partial_fit(rng.normal(size=(100, 3)))
    assert np.abs(pca.mean_).max() < 0.5
    assert pca.explained_variance_.max() < 2


def test_the_state_does_not_grow(rng):
    pca = IncrementalPCA(3)

    def size():
        return sum(np.asarray(value).nbytes for value in vars(pca.statistics_).values())

    pca.partial_fit(rng.normal(size=(100, 8)))
    first = size()
    for _ in range(50):
        pca.partial_fit(rng.normal(size=(100, 8)))
    assert size() == first


def test_components_above_the_noise_are_found_and_only_those(rng):
    n, p = 3000, 66
    signal = np.linalg.qr(rng.normal(size=(p, 4)))[0].T
    rows = rng.normal(size=(n, p)) + rng.normal(size=(n, 4)) * [6, 4, 2, 1.2] @ signal
    pca = IncrementalPCA("noise").fit(rows)
    assert pca.n_components_ == 4
    assert pca.noise_variance_ == 1
    projection = pca.components_ @ signal.T
    np.testing.assert_allclose(np.linalg.svd(projection)[1], 1, atol=0.05)
    assert IncrementalPCA("noise", noise_variance=9.0).fit(3 * rows).n_components_ == 4


def test_pure_noise_keeps_at_most_a_chance_component(rng):
    for _ in range(5):
        pca = IncrementalPCA("noise").fit(rng.normal(size=(2000, 66)))
        assert pca.n_components_ <= 1
        assert pca.transform(np.zeros((2, 66))).shape == (2, pca.n_components_)


def test_a_single_row_has_no_variance():
    pca = IncrementalPCA("noise").fit([[1.0, 2.0, 3.0]])
    assert pca.n_components_ == 0
    assert not pca.covariance_.any()
    np.testing.assert_array_equal(pca.inverse_transform(pca.transform([[5.0, 5.0, 5.0]])), [[1.0, 2.0, 3.0]])
    assert not IncrementalPCA(1).fit([[1.0, 2.0, 3.0]]).explained_variance_ratio_.any()


def test_inverse_transform_undoes_transform(rng):
    rows = anisotropic(rng, 100).astype(np.float32)
    pca = IncrementalPCA().fit(rows)
    back = pca.inverse_transform(pca.transform(rows))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, rows, atol=1e-5)
    with pytest.raises(ValueError, match="got 3 columns"):
        pca.inverse_transform(rows[:, :3])


def test_the_eigendecomposition_is_done_once_for_each_update(rng, monkeypatch):
    calls = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda a: calls.append(1) or eigh(a))
    pca = IncrementalPCA(2)
    for _ in range(3):
        pca.partial_fit(rng.normal(size=(10, 4)))
    assert not calls
    pca.transform(rng.normal(size=(5, 4)))
    assert pca.components_.shape == (2, 4)
    assert pca.explained_variance_.shape == (2,)
    assert len(calls) == 1


def test_statistics_saved_as_arrays_bring_the_estimator_back(rng):
    pca = IncrementalPCA(2).fit(anisotropic(rng, 50))
    s = pca.statistics_
    saved = RunningCovariance(s.count, s.weight, s.weight_squared, s.mean.copy(), s.scatter.copy())
    again = IncrementalPCA.from_statistics(saved, n_components=2)
    np.testing.assert_array_equal(again.components_, pca.components_)
    batch = anisotropic(rng, 20)
    np.testing.assert_array_equal(again.partial_fit(batch).mean_, pca.partial_fit(batch).mean_)


def test_a_copy_is_a_snapshot(rng):
    pca = IncrementalPCA(2).fit(anisotropic(rng, 50))
    snapshot = copy.copy(pca)
    before = snapshot.components_.copy()
    pca.partial_fit(anisotropic(rng, 50))
    np.testing.assert_array_equal(snapshot.components_, before)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n_components": 0}, "n_components is 0"),
        ({"n_components": 5}, "from 1 to 4"),
        ({"n_components": "all"}, "'noise' or None"),
        ({"forgetting": 0.0}, "forgetting is 0.0"),
        ({"forgetting": 1.1}, "at most 1"),
        ({"noise_variance": 0.0}, "noise_variance is 0.0"),
    ],
)
def test_parameters_that_cannot_work_are_named(rng, parameters, said):
    with pytest.raises(ValueError, match=said):
        IncrementalPCA(**parameters).fit(rng.normal(size=(10, 4)))


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 1], [1, np.nan, 1], [0, 0, 0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="sample_weight"):
        IncrementalPCA().partial_fit(np.eye(3), sample_weight=weights)


def test_nothing_is_known_before_the_first_batch():
    with pytest.raises(NotFittedError):
        _ = IncrementalPCA().components_
