"""Zernike moments: the kernel against the slow definition, motif-learn, and the method authors' numbers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import SkipTestWarning
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from latticewatch.features import ZernikeMoments
from naive import zernike_moments_around

SIZES = (5, 6, 16, 29, 31, 32, 33, 36, 123, 128)


def relative(got, expected):
    """Error in the Frobenius norm."""
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def slices(image, positions, size):
    corners = np.asarray(positions) - size // 2
    return np.stack([image[r : r + size, c : c + size] for r, c in corners])


@pytest.fixture
def frame(rng):
    return (1 + rng.random((200, 230))).astype(np.float32)


@pytest.mark.filterwarnings("ignore:n_max:UserWarning")
@pytest.mark.parametrize("size", SIZES)
def test_moments_are_those_of_motif_learn(size, rng):
    zps = pytest.importorskip("mtflearn.features._zps", reason="motif-learn is not installed")
    patches = rng.random((20, size, size)).astype(np.float32)
    theirs = zps.ZPs(min(10, size), size).fit_transform(patches)
    ours = ZernikeMoments(min(10, size), size)
    assert relative(ours.transform(patches), np.asarray(theirs.data)) < 1e-5
    np.testing.assert_array_equal(ours.n_, theirs.n)
    np.testing.assert_array_equal(ours.m_, theirs.m)


def test_columns_correlate_with_the_method_authors_coefficients(shared_data):
    folder = shared_data / "real" / "WS2Te"
    image, points, theirs = (
        np.load(folder / f"WS2Te_Cut{name}.npy", allow_pickle=False) for name in ("", "_kp_xy", "_zernike65")
    )
    zm = ZernikeMoments(n_max=10, patch_size=29)
    positions = np.rint(points[:, ::-1])
    assert zm.complete(image.shape, positions).all()
    ours = zm.at(image, positions)[:, 1:]
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
    assert min(correlation) >= 0.999


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(5, 64),
    n_max=st.integers(0, 13),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    position=st.tuples(st.floats(-100, 200), st.floats(-100, 200)),
    whole=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_moments_at_any_position_are_those_of_the_definition(size, n_max, shape, position, whole, seed):
    image = np.random.default_rng(seed).random(shape, np.float32)
    positions = [[np.floor(p) if w else p for p, w in zip(position, whole, strict=True)]]
    expected = zernike_moments_around(image, positions, n_max, size)
    got = ZernikeMoments(n_max, size).at(image, positions)
    assert got.dtype == np.float32
    assert relative(got, expected) < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_whole_positions_give_the_moments_of_the_slices(size, frame, rng):
    positions = np.column_stack([rng.integers(64, 200 - 64, 30), rng.integers(64, 230 - 64, 30)])
    zm = ZernikeMoments(patch_size=size)
    np.testing.assert_allclose(
        zm.at(frame, positions), zm.transform(slices(frame, positions, size)), rtol=1e-5, atol=1e-7
    )


def test_patches_at_the_last_pixel_of_the_image_are_read_correctly(frame):
    size = 29
    zm = ZernikeMoments(patch_size=size)
    corner = [(200 - 15, 230 - 15), (14, 14), (200 - 15, 14), (14, 230 - 15)]
    assert zm.complete(frame.shape, corner).all()
    np.testing.assert_allclose(
        zm.at(frame, corner), zm.transform(slices(frame, corner, size)), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("size", [28, 29])
def test_complete_tells_which_patches_stick_out(size, frame):
    first, last = size // 2, 200 - (size - size // 2)
    rows = [first, first - 1, first - 0.01, first + 0.5, last, last + 0.01, last + 1, -1e300, 1e300]
    zm = ZernikeMoments(patch_size=size)
    complete = zm.complete(frame.shape, [(row, 100) for row in rows])
    np.testing.assert_array_equal(complete, [True, False, False, True, True, False, False, False, False])
    assert np.isfinite(zm.at(frame, [(row, 100) for row in rows])).all()


@pytest.mark.parametrize("n_max", [10, 12])
def test_a_dead_pixel_spoils_only_the_patches_that_hold_it(n_max, frame):
    zm = ZernikeMoments(n_max, 31)
    positions = [(100, 100), (100, 116), (86, 114), (100.5, 60.5)]
    before = zm.at(frame, positions)
    frame[100, 100] = np.nan
    after = zm.at(frame, positions)
    assert np.isnan(after[0]).all()
    np.testing.assert_array_equal(after[1:], before[1:])


def test_the_type_and_layout_of_the_image_do_not_matter(frame):
    counts = (1000 * frame).astype(np.uint16)
    zm = ZernikeMoments(patch_size=21)
    positions = [(50, 60), (70.25, 80.75)]
    expected = zm.at(counts.astype(np.float32), positions)
    readonly = counts.astype(np.float32)
    readonly.flags.writeable = False
    for image in (counts, counts.astype(">u2"), np.asfortranarray(counts, np.float64), readonly):
        np.testing.assert_array_equal(zm.at(image, positions), expected)


def test_the_callers_arrays_are_not_changed(frame):
    positions = np.array([[50.5, 60.5], [-10.0, 300.0]])
    copies = frame.copy(), positions.copy()
    ZernikeMoments(patch_size=21).at(frame, positions)
    np.testing.assert_array_equal(frame, copies[0])
    np.testing.assert_array_equal(positions, copies[1])


@pytest.mark.parametrize("size", [5, 29, 36])
def test_moments_do_not_depend_on_the_other_sites_or_their_order(size, frame, rng):
    positions = rng.uniform(-50, 280, (77, 2))
    zm = ZernikeMoments(patch_size=size)
    together = zm.at(frame, positions)
    order = rng.permutation(77)
    np.testing.assert_array_equal(zm.at(frame, positions[order]), together[order])
    for site in (0, 40, 76):
        np.testing.assert_array_equal(zm.at(frame, positions[site : site + 1]), together[site : site + 1])


def test_no_sites_give_no_rows(frame):
    zm = ZernikeMoments(patch_size=21)
    assert zm.at(frame, []).shape == (0, 66)
    assert zm.at(frame, np.zeros((0, 2))).shape == (0, 66)
    assert zm.complete(frame.shape, []).shape == (0,)


def test_reconstruction_is_the_least_squares_fit(rng):
    zm = ZernikeMoments(patch_size=33)
    patches = rng.random((4, 33, 33))
    got = zm.reconstruct(zm.transform(patches))
    inside = (zm.basis[0] != 0).ravel()
    design = zm.basis.reshape(66, -1)[:, inside].T
    fit = design @ np.linalg.lstsq(design, patches.reshape(4, -1)[:, inside].T, rcond=None)[0]
    np.testing.assert_allclose(got.reshape(4, -1)[:, inside], fit.T, atol=1e-4)
    assert not got.reshape(4, -1)[:, ~inside].any()
    np.testing.assert_allclose(zm.transform(got), zm.transform(patches), atol=1e-6)


def test_flattened_patches_in_a_pipeline_give_the_same(rng):
    patches = rng.random((30, 20, 20))
    zm = ZernikeMoments(n_max=6, patch_size=20)
    np.testing.assert_array_equal(zm.transform(patches.reshape(30, -1)), zm.fit_transform(patches))
    assert make_pipeline(clone(zm), PCA(3)).fit_transform(patches).shape == (30, 3)


def test_it_is_a_scikit_learn_estimator():
    zm = ZernikeMoments(n_max=4, patch_size=9, invariant=True)
    with pytest.warns(SkipTestWarning, match="three_d_array=True"):
        check_estimator(zm)
    assert clone(zm).get_params() == {"n_max": 4, "patch_size": 9, "invariant": True}
    patches = np.ones((2, 9, 9))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(zm)).transform(patches), zm.transform(patches))
    assert zm.set_params(invariant=False).transform(patches).shape == (2, 15)


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("n_max", [0, 1, 2, 10, 12])
def test_every_column_has_its_own_name(n_max, invariant):
    zm = ZernikeMoments(n_max, 15, invariant=invariant)
    names = zm.get_feature_names_out()
    assert len(set(names)) == len(names) == zm.transform(np.ones((1, 15, 15))).shape[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ZernikeMoments(n_max=-1).fit(), "n_max is -1; give a whole number from 0 to 30"),
        (lambda: ZernikeMoments(patch_size=12.5).fit(), "patch_size is 12.5"),
        (lambda: ZernikeMoments(patch_size=2).fit(), "from 3 to 1024"),
        (lambda: ZernikeMoments(patch_size=9).transform(np.ones((3, 8, 8))), "expected .n, 9, 9. or .n, 81."),
        (lambda: ZernikeMoments(patch_size=9).transform(np.full((3, 9, 9), np.nan)), "NaN"),
        (lambda: ZernikeMoments(patch_size=9).at(np.ones((9, 9, 3)), [(1, 1)]), "expected .height, width."),
        (lambda: ZernikeMoments(patch_size=9).at(np.ones((9, 9)), [(1, 1, 1)]), "expected .n_sites, 2."),
        (lambda: ZernikeMoments(patch_size=9).at(np.ones((9, 9)), [(1, np.nan)]), "all finite"),
        (lambda: ZernikeMoments(patch_size=9).reconstruct(np.ones(65)), "expected .*66"),
    ],
)
def test_errors_name_the_value_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
