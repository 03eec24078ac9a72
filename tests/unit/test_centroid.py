"""Nearest centroid: priors as in LDA, in sigma, with a verdict for what fits no class."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import naive
from latticewatch.estimators._centroid import NearestCentroid
from latticewatch.estimators._pca import IncrementalPCA
from latticewatch.estimators._whitening import NoiseWhitening


# Other classifiers of scikit-learn are not asked for a verdict of -1, so they take labels that are strings.
@parametrize_with_checks(
    [NearestCentroid(unknown_p=0), NearestCentroid()],
    expected_failed_checks=lambda estimator: (
        {"check_classifiers_classes": "labels of strings have no -1"} if estimator.unknown_p else {}
    ),
)
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


CENTRES = np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0], [0, 0, 30]])


def stream(rng, counts=(900, 40, 40, 20)):
    """Rows of unit scatter about the centres, in mixed order, with their classes."""
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return CENTRES[labels] + rng.normal(size=(len(labels), 3)), labels


def test_the_classes_are_told_apart(rng):
    rows, labels = stream(rng)
    assert (NearestCentroid().fit(rows, labels).predict(rows) == labels).mean() > 0.995


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, 199), max_size=12),
    half_life=st.sampled_from([None, 5.0, 100.0]),
)
def test_a_stream_in_any_batches_gives_the_model_of_one_batch(seed, cuts, half_life):
    rng = np.random.default_rng(seed)
    rows, labels = stream(rng, (150, 30, 15, 5))
    parameters = {"prior_half_life": half_life, "centroid_half_life": half_life}
    once = NearestCentroid(**parameters).fit(rows, labels)
    many = NearestCentroid(**parameters)
    for part in np.split(np.arange(200), sorted(cuts)):
        many.partial_fit(rows[part], labels[part])
    np.testing.assert_array_equal(many.classes_, once.classes_)
    np.testing.assert_allclose(many.centroids_, once.centroids_, atol=1e-9)
    np.testing.assert_allclose(many.centroid_weight_, once.centroid_weight_)
    np.testing.assert_allclose(many.class_count_, once.class_count_)


def test_rows_fade_one_after_the_other(rng):
    rows, labels = stream(rng, (150, 30, 15, 5))
    model = NearestCentroid(prior_half_life=40.0, centroid_half_life=7.0).fit(rows, labels)
    centroids, counts = naive.faded_model(rows, labels, 40.0, 7.0)
    for k, label in enumerate(model.classes_):
        np.testing.assert_allclose(model.centroids_[k], centroids[label])
        assert model.class_count_[k] == pytest.approx(counts[label])


def test_without_an_unknown_it_is_linear_discriminant_analysis(rng):
    rows, labels = stream(rng)
    rows /= 2
    covariance = np.diag([0.25, 0.25, 0.25])
    whitener = NoiseWhitening.from_covariance(covariance)
    ours = NearestCentroid(unknown_p=0, whitener=whitener).fit(rows, labels)
    reference = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Known(covariance))
    reference.fit(rows, labels)
    np.testing.assert_allclose(ours.predict_proba(rows), reference.predict_proba(rows), atol=1e-9)
    np.testing.assert_array_equal(ours.predict(rows), reference.predict(rows))


class Known:
    """A covariance estimator that knows."""

    def __init__(self, covariance):
        self.covariance_ = covariance

    def fit(self, X):
        return self


def test_members_are_called_unknown_as_often_as_asked(rng):
    model = NearestCentroid.from_centroids(np.zeros((1, 6)), [1000], unknown_p=0.01)
    share = np.mean(model.predict(rng.normal(size=(20_000, 6))) == -1)
    assert share == pytest.approx(0.01, abs=0.003)


def test_what_is_far_from_every_class_is_unknown(rng):
    rows, labels = stream(rng)
    model = NearestCentroid().fit(rows, labels)
    assert model.predict([[4.0, 4.0, 12.0], [0.0, 0.0, 0.0]]).tolist() == [-1, 0]
    assert model.limit_ == pytest.approx(25.90, abs=0.01)
    assert NearestCentroid(unknown_p=0).fit(rows, labels).predict([[4e3, 4.0, 12.0]]).tolist() == [1]


def test_a_class_beyond_its_limit_does_not_win_by_its_prior():
    model = NearestCentroid.from_centroids([[0.0], [8.7]], [10**6, 1])
    far_from_the_host, near_enough = model.squared_distances([[4.5]])[0]
    assert far_from_the_host > model.limit_ > near_enough
    assert model.decision_function([[4.5]])[0] < 0
    assert model.predict([[4.5]]).tolist() == [1]


def test_priors_move_the_boundary_towards_the_rare_class():
    even = NearestCentroid.from_centroids([[0.0], [4.0]], [100, 100])
    uneven = NearestCentroid.from_centroids([[0.0], [4.0]], [10_000, 10])
    assert even.predict([[2.1]]).tolist() == [1]
    assert uneven.predict([[2.1]]).tolist() == [0]
    np.testing.assert_allclose(uneven.priors_, [1000 / 1001, 1 / 1001])


@settings(max_examples=40, deadline=None)
@given(
    row=st.tuples(*[st.floats(-12, 12)] * 3),
    contamination=st.floats(1e-6, 0.5),
    spread=st.floats(2, 20),
)
def test_posteriors_are_those_of_the_contaminated_normal(row, contamination, spread):
    counts = np.array([900.0, 40, 20, 20])
    model = NearestCentroid.from_centroids(CENTRES, counts, contamination=contamination, spread=spread)
    expected = naive.nearest_centroid_posterior(row, CENTRES, counts / counts.sum(), contamination, spread)
    np.testing.assert_allclose(model.predict_proba([row])[0], expected, atol=1e-9)


def test_posteriors_are_calibrated(rng):
    labels = rng.choice(3, size=30_000, p=[0.9, 0.08, 0.02])
    centres = np.array([[0.0, 0], [3, 0], [0, 3]])
    stray = rng.random(30_000) < 0.05
    rows = centres[labels] + rng.normal(size=(30_000, 2)) * np.where(stray, 10, 1)[:, np.newaxis]
    truth = np.where(stray, 3, labels)
    model = NearestCentroid.from_centroids(centres, [900, 80, 20], contamination=0.05)
    posterior = model.predict_proba(rows)
    for k in range(4):
        for low in np.arange(0, 1, 0.2):
            chosen = (posterior[:, k] >= low) & (posterior[:, k] < low + 0.2)
            error = 4 * np.sqrt(0.25 / max(chosen.sum(), 1))
            assert abs((truth[chosen] == k).mean() - posterior[chosen, k].mean()) < error


def test_posteriors_far_from_everything_still_sum_to_one(rng):
    rows, labels = stream(rng)
    posterior = NearestCentroid(contamination=0.01).fit(rows, labels).predict_proba([[1e6, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    assert posterior[0, -1] == pytest.approx(1)
    assert posterior[1, -1] < 1e-3


def test_unknown_rows_are_not_learnt_from(rng):
    rows, labels = stream(rng)
    labels[::10] = -1
    model = NearestCentroid().fit(rows, labels)
    expected = NearestCentroid().fit(rows[labels >= 0], labels[labels >= 0])
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 3])
    np.testing.assert_allclose(model.centroids_, expected.centroids_)
    nothing = NearestCentroid().partial_fit(rows[:5], np.full(5, -1))
    with pytest.raises(ValueError, match="no class is known"):
        nothing.predict(rows)
    np.testing.assert_allclose(nothing.partial_fit(rows, labels).centroids_, expected.centroids_)


def test_a_class_may_appear_late(rng):
    rows, labels = stream(rng)
    model = NearestCentroid().fit(rows[labels != 1], labels[labels != 1])
    assert (model.predict(rows[labels == 1]) == -1).mean() > 0.95
    model.partial_fit(rows[labels == 1], labels[labels == 1])
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 3])
    assert (model.predict(rows[labels == 1]) == 1).mean() > 0.95


def test_merging_classes_gives_the_class_of_all_their_rows(rng):
    rows, labels = stream(rng)
    merged = NearestCentroid().fit(rows, labels).merge(2, 1)
    expected = NearestCentroid().fit(rows, np.where(labels == 1, 2, labels))
    np.testing.assert_array_equal(merged.classes_, [0, 2, 3])
    np.testing.assert_allclose(merged.centroids_, expected.centroids_)
    np.testing.assert_allclose(merged.priors_, expected.priors_)


@pytest.mark.parametrize(("a", "b"), [(0, 9), (9, 0), (1, 1)])
def test_merging_what_is_not_there_is_refused(rng, a, b):
    model = NearestCentroid().fit(*stream(rng))
    with pytest.raises(ValueError, match="give two of"):
        model.merge(a, b)


def test_priors_follow_the_stream(rng):
    model = NearestCentroid(prior_half_life=500.0)
    model.partial_fit(*stream(rng, (900, 100)))
    for _ in range(5):
        model.partial_fit(*stream(rng, (500, 500)))
    np.testing.assert_allclose(model.priors_, [0.5, 0.5], atol=0.03)


def test_a_class_that_was_away_can_come_back(rng):
    model = NearestCentroid(prior_half_life=10.0).fit(*stream(rng))
    model.partial_fit(rng.normal(size=(50_000, 3)), np.zeros(50_000, int))
    assert np.isfinite(np.log(model.priors_)).all()
    assert model.predict(CENTRES).tolist() == [0, 1, 2, 3]


def test_slow_change_is_followed_only_where_asked(rng):
    following, averaging = NearestCentroid(centroid_half_life=100.0), NearestCentroid()
    for step in range(40):
        rows = 0.25 * step + rng.normal(size=(100, 2))
        for model in (following, averaging):
            model.partial_fit(rows, np.zeros(100, int))
    np.testing.assert_allclose(following.centroids_[0], 0.25 * 39, atol=1)
    np.testing.assert_allclose(averaging.centroids_[0], 0.25 * 19.5, atol=0.2)


def test_centroids_outlive_a_new_whitening(rng):
    factor = np.diag([5.0, 1.0, 0.2])
    rows, labels = stream(rng)
    noisy = rows @ factor
    model = NearestCentroid(whitener=NoiseWhitening.from_covariance(np.eye(3))).fit(noisy, labels)
    whitened = NoiseWhitening.from_covariance(factor @ factor).transform(noisy)
    model.whitener = make_pipeline(
        NoiseWhitening.from_covariance(factor @ factor), IncrementalPCA(noise_variance=1.0).fit(whitened)
    )
    plain = NearestCentroid().fit(rows, labels)
    np.testing.assert_allclose(model.squared_distances(noisy), plain.squared_distances(rows), rtol=1e-6)
    np.testing.assert_array_equal(model.predict(noisy), plain.predict(rows))


def test_without_a_component_everything_is_the_commonest_class(rng):
    rows, labels = stream(rng)
    nothing_kept = IncrementalPCA("noise", noise_variance=1e9).fit(rows)
    model = NearestCentroid(whitener=nothing_kept).fit(rows, labels)
    assert model.limit_ == np.inf
    assert not model.predict(rows).any()


def test_a_copy_is_a_snapshot(rng):
    rows, labels = stream(rng)
    model = NearestCentroid(prior_half_life=10.0).fit(rows, labels)
    snapshot = copy.copy(model)
    centroids, counts = snapshot.centroids_.copy(), snapshot.class_count_.copy()
    model.partial_fit(rows + 5, labels).merge(0, 1)
    np.testing.assert_array_equal(snapshot.centroids_, centroids)
    np.testing.assert_array_equal(snapshot.class_count_, counts)
    assert len(snapshot.classes_) == 4


def test_labels_of_unsigned_type_can_be_unknown():
    model = NearestCentroid().fit(np.zeros((3, 2)), np.zeros(3, np.uint8))
    assert model.predict([[1e3, 0]]).tolist() == [-1]


def test_labels_given_in_any_order_are_sorted_with_their_centroids():
    model = NearestCentroid.from_centroids([[0.0], [10.0]], [5, 7], classes=[4, 2])
    assert model.classes_.tolist() == [2, 4]
    assert model.predict([[0.0], [10.0]]).tolist() == [4, 2]
    assert model.class_count_.tolist() == [7, 5]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"centroids": [[0.0], [np.nan]]}, "all finite"),
        ({"centroids": [0.0, 1.0]}, "expected"),
        ({"counts": [1.0]}, "counts of shape"),
        ({"counts": [1.0, -1.0]}, "cannot be negative"),
        ({"classes": [3, 3]}, "each label once"),
        ({"classes": [-1, 3]}, "means unknown"),
        ({"classes": ["a", "b"]}, "unknown_p=0"),
        ({"unknown_p": 1.0}, "unknown_p is 1.0"),
        ({"contamination": -0.1}, "contamination is -0.1"),
        ({"spread": 1.0}, "spread is 1.0"),
        ({"prior_half_life": 0.0}, "prior_half_life is 0.0"),
        ({"centroid_half_life": -1.0}, "centroid_half_life is -1.0"),
    ],
)
def test_a_model_that_cannot_work_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        NearestCentroid.from_centroids(**{"centroids": [[0.0], [1.0]], "counts": [1.0, 2.0]} | changed)


def test_nothing_is_known_before_the_first_batch():
    with pytest.raises(NotFittedError):
        NearestCentroid().predict([[0.0]])
