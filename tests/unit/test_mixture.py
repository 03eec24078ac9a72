"""The mixture that finds rare classes beside a host."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from latticewatch.discover import _grow, grow_mixture
from latticewatch.discover._grow import _with_lone, above_host
from latticewatch.model import Mixture
from latticewatch.model._mixture import MIN_SEPARATION


def values_of(rng, n, *classes):
    """Host at 0 with deviation 1; classes as (mean, number)."""
    parts = [mean + rng.normal(size=number) for mean, number in classes]
    return np.concatenate([rng.normal(size=n), *parts])


@pytest.mark.parametrize("n", [200, 3000, 20_000])
def test_a_host_alone_is_one_class(n):
    for seed in range(20):
        mixture = grow_mixture(values_of(np.random.default_rng(seed), n))
        assert len(mixture.mean) == 1, f"seed {seed}"
        assert mixture.mean[0] == pytest.approx(0, abs=4 / np.sqrt(n))
        assert mixture.deviation[0] == pytest.approx(1, abs=4 / np.sqrt(n))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_rare_class_that_can_be_told_apart_is_found(sign):
    for seed in range(10):
        mixture = grow_mixture(values_of(np.random.default_rng(seed), 5970, (sign * 5.0, 30)))
        assert len(mixture.mean) == 2, f"seed {seed}"
        assert mixture.mean[1] == pytest.approx(sign * 5.0, abs=0.6)
        assert mixture.weight[1] * 6000 == pytest.approx(30, abs=8)


def test_a_rare_class_that_cannot_be_told_apart_is_not_invented():
    for seed in range(20):
        mixture = grow_mixture(values_of(np.random.default_rng(seed), 5970, (2.0, 30)))
        assert len(mixture.mean) == 1, f"seed {seed}"


@pytest.mark.parametrize("mean", [8.0, 15.0, 60.0])
def test_three_sites_alike_far_out_are_a_class(rng, mean):
    mixture = grow_mixture(values_of(rng, 3000, (mean, 4)))
    assert len(mixture.mean) == 2
    assert mixture.mean[1] == pytest.approx(mean, abs=1.5)


def test_several_classes_are_found_nearest_to_the_host_first(rng):
    mixture = grow_mixture(values_of(rng, 3000, (-14.0, 40), (6.0, 30), (-7.0, 60), (25.0, 10)))
    np.testing.assert_allclose(mixture.mean, [0, 6, -7, -14, 25], atol=0.8)
    np.testing.assert_allclose(mixture.weight * 3140, [3000, 30, 60, 40, 10], atol=6)


def test_two_classes_on_top_of_each_other_are_one(rng):
    mixture = grow_mixture(values_of(rng, 3000, (9.0, 40), (9.8, 40)))
    assert len(mixture.mean) == 2
    assert mixture.mean[1] == pytest.approx(9.4, abs=0.5)


def test_one_that_chance_does_not_bring_is_a_class_of_its_own(rng):
    values = values_of(rng, 3000, (6.0, 30))
    mixture = grow_mixture(np.append(values, 40.0))
    assert len(mixture.mean) == 3
    posterior = mixture.posteriors(np.array([0.0, 6.0, 40.0, -30.0]))
    np.testing.assert_array_equal(posterior.argmax(1), [0, 1, 2, 3])
    assert (posterior.max(1) > 0.99).all()


@pytest.mark.parametrize(("places", "classes"), [([-40.0, -39.0], 2), ([-40.0, 25.0], 3), ([4.6], 1)])
def test_alike_ones_join_and_what_chance_may_bring_is_none(rng, places, classes):
    assert len(grow_mixture(np.append(values_of(rng, 3000), places)).mean) == classes


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_two_populations_of_like_size_are_told_apart(rng, share):
    n = round(3000 * share)
    mixture = grow_mixture(np.concatenate([rng.normal(0, 1, 3000 - n), rng.normal(25, 1, n)]))
    assert len(mixture.mean) == 2
    assert abs(mixture.mean[1] - mixture.mean[0]) == pytest.approx(25, abs=0.2)


def test_a_member_four_deviations_out_still_belongs(rng):
    mixture = grow_mixture(values_of(rng, 3000))
    assert mixture.posteriors(np.array([-4.0, 4.0]))[:, 0].min() > 0.9


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_order_of_the_sites_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    classes = [(rng.uniform(-20, 20), int(rng.integers(0, 40))) for _ in range(3)]
    values = values_of(rng, 800, *classes)
    first, second = grow_mixture(values), grow_mixture(rng.permutation(values))
    for name in ("mean", "deviation", "weight"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-8)


@given(seed=st.integers(0, 2**32 - 1), gain=st.floats(0.01, 100), offset=st.floats(-1e3, 1e3))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_unit_and_zero_of_the_values_do_not_matter(seed, gain, offset):
    values = values_of(np.random.default_rng(seed), 1000, (8.0, 20))
    first, second = grow_mixture(values), grow_mixture(gain * values + offset)
    np.testing.assert_allclose(second.mean, gain * first.mean + offset, atol=0.1 * gain)
    np.testing.assert_allclose(second.weight, first.weight, atol=1e-3)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_no_class_is_nearer_to_the_host_than_can_be_told_apart(seed):
    rng = np.random.default_rng(seed)
    classes = [(rng.uniform(1, 5), int(rng.integers(5, 200))) for _ in range(2)]
    mixture = grow_mixture(values_of(rng, 2000, *classes))
    apart = np.abs(mixture.mean[1:] - mixture.mean[0]) / mixture.deviation[0]
    assert (apart > 0.98 * MIN_SEPARATION).all()
    assert mixture.weight.sum() + mixture.background == pytest.approx(1)


def test_the_fit_is_a_fixed_point_of_expectation_maximisation_over_the_values(rng):
    values = values_of(rng, 2000, (7.0, 100))
    mixture = grow_mixture(values)
    shared = mixture.posteriors(values)[:, :-1]
    np.testing.assert_allclose(shared.mean(0), mixture.weight, atol=2e-3)
    np.testing.assert_allclose(values @ shared / shared.sum(0), mixture.mean, atol=0.02)
    spread = np.sqrt((shared[:, 0] * (values - mixture.mean[0]) ** 2).sum() / shared[:, 0].sum())
    assert spread == pytest.approx(mixture.deviation[0], abs=0.01)


def test_posteriors_are_densities_written_out():
    mixture = Mixture(np.array([0.0, 5.0]), np.array([1.0, 1.5]), np.array([0.9, 0.09]), 0.01, 40.0)
    x = np.linspace(-10, 15, 7)
    host = 0.9 * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    near, far = (0.09 * np.exp(-0.5 * ((x - 5) / d) ** 2) / (d * np.sqrt(2 * np.pi)) for d in (1.5, 3.0))
    other = 0.95 * near + 0.05 * far
    density = np.stack([host, other, np.full(7, 0.01 / 40)], 1)
    np.testing.assert_allclose(mixture.densities(x), density, atol=1e-40)
    np.testing.assert_allclose(mixture.posteriors(x), density / density.sum(1, keepdims=True), atol=1e-40)
    np.testing.assert_allclose(mixture.posteriors(x).sum(1), 1)


def test_confidence_is_calibrated(rng):
    values = values_of(rng, 20_000, (4.0, 400))
    truth = np.repeat([0, 1], [20_000, 400])
    posterior = grow_mixture(values).posteriors(values)
    for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 0.95)):
        said = (posterior[:, 1] >= low) & (posterior[:, 1] < high)
        assert truth[said].mean() == pytest.approx(posterior[said, 1].mean(), abs=0.17)
    sure = posterior[:, 1] >= 0.9
    assert sure.sum() > 150
    assert truth[sure].mean() >= 0.9


@pytest.mark.parametrize("values", [np.full(3, 2.5), np.array([1.0]), np.arange(4.0)])
def test_a_few_values_are_a_host(values):
    mixture = grow_mixture(values)
    assert len(mixture.mean) == 1
    assert np.isfinite(mixture.posteriors(values)).all()


def test_between_columns_what_is_fainter_than_what_is_looked_at_is_no_class():
    """What is left of the light of the columns around comes out between 2 and 4 standard deviations."""
    mean, weight = np.array([0.0, -5.0, 2.9, 9.0]), np.array([0.95, 0.01, 0.02, 0.01])
    mixture = above_host(Mixture(mean, np.ones(4), weight, 0.01, 40.0), 4.0)
    assert mixture.mean.tolist() == [0.0, 9.0]
    assert mixture.weight.tolist() == pytest.approx([0.98, 0.01])


def test_without_a_host_in_view_no_value_is_lone():
    mixture = Mixture(np.array([0.0]), np.array([1.0]), np.array([0.99]), 0.01, 500.0)
    assert _with_lone(np.array([80.0, 81.0, 240.0]), mixture, MIN_SEPARATION) is mixture


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_likelihood_is_raised_as_by_the_slow_way(seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-30, 30, rng.integers(0, 6))
    sample = _grow._binned(values_of(rng, 600, *[(at, int(rng.integers(3, 60))) for at in places]), 0.05)
    mean = np.append(0.1, places + rng.normal(size=len(places)))
    start = Mixture(mean, rng.uniform(0.7, 3, len(mean)), rng.dirichlet(np.ones(len(mean))), 1e-5, 70.0)
    least, steps = rng.uniform(3, 5), int(rng.integers(1, 60))
    found = _grow._fit(sample, start, least, steps)
    slow = naive.maximised(
        sample.value,
        sample.count,
        start,
        least,
        _grow.BIN_SIGMA * start.deviation[0],
        steps,
        _grow.RELATIVE_SPREAD,
        _grow.MAX_RELATIVE_SPREAD,
        _grow.PRIOR_STRENGTH,
    )
    for mine, other in zip((found.mean, found.deviation, found.weight), slow, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("hosts", "each", "classes"), [(3000, 40, 11), (1000, 100, 6)])
def test_many_classes_are_found_beside_a_host_that_is_the_bulk(rng, hosts, each, classes):
    places = [(at, each) for at in np.linspace(-70, 70, 11) if abs(at) > 1]
    mixture = grow_mixture(values_of(rng, hosts, *places))
    # where there is none they are so many at most
    assert len(mixture.mean) == classes
