"""The classes of a sublattice as places in one space: where each posterior of a frame is made."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba")

from latticewatch.estimators import NearestCentroid
from latticewatch.model import DisplacementFilter, Mixture, Oddities, ShiftKinds
from latticewatch.model._classes import site_classes
from latticewatch.model._judged import likely_of_height, of_height
from latticewatch.model._templates import ORDER
from naive import weighted_densities

MIXTURE = Mixture(
    np.array([0.0, 80.0, 180.0]), np.array([1.0, 2.0, 4.0]), np.array([0.9, 0.05, 0.04]), 0.01, 400.0
)
HOST, FIRST, SECOND, ODD, DISPLACED, LOOSE, NONE = range(7)
SIGMA_OF_PX = 10.0


def displacement() -> DisplacementFilter:
    """A filter whose output is the displacement along the axes, ten standard deviations a pixel."""
    says = np.zeros((1, (ORDER + 1) * (ORDER + 2) // 2 - 1, 2))
    says[0, 0, 0] = says[0, 1, 1] = 4 * SIGMA_OF_PX
    return DisplacementFilter(
        np.zeros((1, 2)), np.eye(2) / SIGMA_OF_PX, says, np.zeros(says.shape[:2]), farthest_px=4.0
    )


@pytest.fixture(scope="module")
def classes():
    """Three heights, one kind of odd patches at 12 along its axis, one of columns displaced by (0, 2) px."""
    kind = NearestCentroid.from_centroids([[0.0], [12.0]], [99, 1], contamination=1e-6)
    known = SimpleNamespace(
        mixture=MIXTURE,
        oddities=Oddities(np.zeros(3), np.eye(3), 0.0, 1.0, np.eye(3)[:, :1], kind),
        shifts=ShiftKinds(
            np.array([[0.0, 2.0]]), np.array([0.05]), np.array([1e-4]), np.array([5], np.int16), 6
        ),
        displacement=displacement(),
        templates=SimpleNamespace(void=False),
        filter=SimpleNamespace(height_of_sigma=0.02),
    )
    return site_classes.__wrapped__(known)


def sites(classes, height, left_over=(0.0, 0.0), shift=(0.0, 0.0), moved=False, unsure=1.0):
    n = len(height)
    return classes.of_sites(
        np.asarray(height, float),
        np.full(n, unsure),
        np.tile(np.asarray(left_over, float), (n, 1)),
        np.tile(np.asarray(shift, float), (n, 1)),
        np.ones(2),
        np.full(n, moved),
    )


def test_where_classes_differ_in_height_alone_the_posteriors_are_those_of_the_mixture(classes):
    height = np.linspace(-40, 230, 541)
    expected = MIXTURE.posteriors(height)
    np.testing.assert_allclose(of_height(height, np.ones(len(height)), classes.heights), expected, atol=1e-12)
    for left_over in ((0.0, 0.0), (1.5, 0.7), (14.0, 9.0)):
        found = sites(classes, height, left_over)
        np.testing.assert_allclose(found[:, [FIRST, SECOND]], expected[:, 1:3], atol=1e-12)
        # what has the height of the host is shared among it and what is odd
        rest = found[:, [HOST, ODD, DISPLACED, LOOSE, NONE]].sum(1)
        np.testing.assert_allclose(rest, expected[:, [0, 3]].sum(1), atol=1e-12)


@pytest.mark.parametrize("apart", [2.5, 3.5, 5.0, 80.0])
@pytest.mark.parametrize("weight", [0.001, 0.05, 0.45])
def test_what_is_surely_host_is_told_at_once_and_all_else_as_before(classes, apart, weight):
    mixture = Mixture(
        np.array([0.3, 0.3 - apart, 0.3 + 2 * apart]),
        np.array([1.0, 1.1, 1.6]),
        np.array([0.99 - 2 * weight, weight, weight]),
        0.01,
        400.0,
    )
    near = site_classes.__wrapped__(SimpleNamespace(**{**vars(classes.known), "mixture": mixture}))
    height = np.linspace(-20, 200, 44_001)
    expected = of_height(height, np.ones(len(height)), near.heights)
    found = likely_of_height(height, near.heights)
    quick = (found[:, 0] == 1.0) & (expected[:, 0] < 1.0)
    assert quick.any() == (expected[:, 0] > 0.6).any()
    assert (expected[quick, 0] > 0.5).all()
    np.testing.assert_array_equal(found[~quick], expected[~quick])


def test_what_is_less_certain_is_compared_with_wider_classes(classes):
    height, unsure = np.array([4.0, 78.0, 120.0, 176.0]), np.array([1.5, 2.2, 9.0, 1.0])
    for value, by, row in zip(height, unsure, of_height(height, unsure, classes.heights), strict=True):
        wide = np.sqrt(MIXTURE.deviation**2 + by**2 - 1)
        density = weighted_densities([value], MIXTURE.mean, wide, MIXTURE.weight, 0.01, 400.0)[0]
        np.testing.assert_allclose(row, density / density.sum(), rtol=1e-9, atol=1e-20)


def test_an_odd_patch_is_of_its_kind_or_of_none(classes):
    assert sites(classes, [0.0], (12.0, 8.0))[0, ODD] > 0.99
    assert sites(classes, [0.0], (0.0, 9.0))[0, NONE] > 0.99
    assert sites(classes, [0.0], (0.5, 1.0))[0, HOST] > 0.99
    # a column of another height may look as it likes
    assert sites(classes, [80.0], (12.0, 8.0))[0, FIRST] > 0.99


def test_only_a_column_that_may_be_displaced_is_of_a_displaced_class(classes):
    there = (0.0, 2.0 * SIGMA_OF_PX)
    assert sites(classes, [0.0], shift=there, moved=True)[0, DISPLACED] > 0.99
    assert sites(classes, [0.0], shift=(20.0, 0.0), moved=True)[0, LOOSE] > 0.99
    assert sites(classes, [0.0], shift=there)[0, DISPLACED] == 0.0
    # a change of height leaves a little in the filters of the displacement
    assert sites(classes, [80.0], shift=(6.0, 6.0), moved=True)[0, FIRST] > 0.99


def test_rows_sum_to_one_wherever_a_site_is(classes, rng):
    height, left_over = 200 * rng.normal(size=300), 9 * rng.normal(size=(300, 2))
    moved = rng.random(300) < 0.3
    found = classes.of_sites(
        height,
        1 + rng.random(300),
        left_over,
        20 * rng.normal(size=(300, 2)),
        np.array([0.8, 1.3]),
        moved,
    )
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found[~moved][:, [DISPLACED, LOOSE]] == 0).all()
