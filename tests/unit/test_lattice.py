"""The lattice of a frame: found, refused where there is none, and followed from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from _crystal import add_columns, honeycomb, nearest, oblique, perovskite, render, shows_a_lattice, square
from latticewatch.errors import NoLatticeError
from latticewatch.lattice import (
    _profile,
    find_lattice,
    find_peaks,
    fit_columns,
    follow_lattice,
    predict_sites,
)

# Share of a nearest-neighbour distance within which a site is found.
CLOSE = 0.1
VACANCIES = (("vacancy", 0, 0.03, 0.0),)
makes = pytest.mark.parametrize("make", [honeycomb, square, oblique])


def assert_every_site_is_found(scene, crystal, close=CLOSE):
    """Every column of the truth has a site, vacant or not, and every site is a column."""
    lattice = find_lattice(scene.image)
    assert len(lattice.cell.columns) == len(crystal.columns)
    sites = predict_sites(lattice.field, lattice.cell.columns, scene.image.shape, crystal.spacing)
    position = scene.position[scene.inside(crystal.spacing + 1)]
    missed, _ = nearest(sites.position, position)
    invented, _ = nearest(scene.position, sites.position)
    assert missed.max() < close * crystal.spacing
    assert invented.max() < close * crystal.spacing
    return lattice, sites


@makes
@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 60.0])
def test_every_site_is_found_at_any_rotation(rng, make, degrees):
    crystal = make(14.0).turned(degrees)
    scene = render(crystal, rng, shift=rng.uniform(0, 14, 2), counts=100, defects=VACANCIES)
    assert_every_site_is_found(scene, crystal)


@makes
@pytest.mark.parametrize("constant", [5.0, 8.0, 20.0, 40.0])
def test_every_site_is_found_at_any_sampling(rng, make, constant):
    crystal = make(constant).turned(7.3)
    side = 256 if constant < 30 else 400
    scene = render(crystal, rng, shape=(side, side), width=0.22, counts=100, defects=VACANCIES)
    assert_every_site_is_found(scene, crystal)


@given(
    seed=st.integers(0, 2**32 - 1),
    make=st.sampled_from([honeycomb, square, oblique]),
    constant=st.floats(9, 24),
    degrees=st.floats(0, 60),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_every_site_is_found_in_any_crystal(seed, make, constant, degrees):
    rng = np.random.default_rng(seed)
    crystal = make(constant).turned(degrees)
    scene = render(
        crystal, rng, shape=(224, 288), shift=rng.uniform(0, constant, 2), counts=60, defects=VACANCIES
    )
    assert_every_site_is_found(scene, crystal)


@makes
@pytest.mark.parametrize(
    "matrix",
    [[[1, 0.02], [0, 1]], [[1.02, 0], [0, 1]], [[0.98, -0.02], [0, 1]]],
    ids=["shear", "long", "both"],
)
def test_drift_that_shears_and_stretches_the_slow_axis_is_followed(rng, make, matrix):
    crystal = make(14.0).turned(11)
    assert_every_site_is_found(render(crystal, rng, matrix=matrix, counts=100, defects=VACANCIES), crystal)


def test_a_scan_that_wavers_is_followed(rng):
    crystal = honeycomb(14.0)
    scene = render(crystal, rng, counts=200)
    rows, cols = np.mgrid[:256, :256].astype(float)
    waver = 3.0 * np.sin(2 * np.pi * rows / 256)
    image = ndimage.map_coordinates(scene.image, [rows, cols + waver], order=3, mode="mirror")
    sites = predict_sites(find_lattice(image).field, find_lattice(image).cell.columns, image.shape, 20.0)
    moved = scene.position - np.stack(
        [np.zeros(len(scene.position)), 3.0 * np.sin(2 * np.pi * scene.position[:, 0] / 256)], 1
    )
    assert nearest(moved, sites.position)[0].max() < 0.2 * crystal.spacing


def test_the_dim_columns_are_sites_of_their_own(rng):
    crystal = honeycomb(16.0, heights=(1.0, 0.12))
    lattice, sites = assert_every_site_is_found(render(crystal, rng, counts=60, background=0.3), crystal)
    assert lattice.cell.height[1] / lattice.cell.height[0] == pytest.approx(0.12, abs=0.05)
    assert (np.bincount(sites.sublattice) > 100).all()


def test_dirt_hides_no_dim_column(rng):
    crystal = honeycomb(15.8, heights=(1.0, 0.16)).turned(17)
    scene = render(crystal, rng, shape=(340, 340), counts=60, background=0.3)
    away = np.hypot(*(np.indices(scene.image.shape) - 130.0))
    # ten times as bright as a column, with an edge of two cells
    dirt = 600.0 / (1 + np.exp((away - 60) / 8))
    lattice = find_lattice((scene.image + rng.poisson(dirt)).astype(np.float32))
    assert len(lattice.cell.columns) == 2
    assert lattice.profile.height[1] / lattice.profile.height[0] == pytest.approx(0.16, abs=0.05)


def test_sublattices_are_numbered_by_brightness(rng):
    scene = render(honeycomb(16.0), rng, counts=200)
    lattice = find_lattice(scene.image)
    sites = predict_sites(lattice.field, lattice.cell.columns, scene.image.shape, 8.0)
    _, truth = nearest(scene.position, sites.position)
    np.testing.assert_array_equal(sites.sublattice, scene.sublattice[truth])


def test_a_site_keeps_its_margin_and_names_its_cell(rng):
    scene = render(honeycomb(16.0).turned(20), rng, counts=200)
    lattice = find_lattice(scene.image)
    sites = predict_sites(lattice.field, lattice.cell.columns, scene.image.shape, 12.5)
    assert sites.position.min() >= 12.5
    assert sites.position.max() <= 255 - 12.5
    named = np.column_stack([sites.cell, sites.sublattice])
    assert len(np.unique(named, axis=0)) == len(named)
    at = lattice.field.cell_coordinates(sites.position)
    np.testing.assert_allclose(at, sites.cell + lattice.cell.columns[sites.sublattice], atol=1e-3)


def test_no_site_lies_where_the_crystal_ends(rng):
    scene = render(honeycomb(12.0), rng, shape=(320, 320), counts=None)
    image = scene.image.copy()
    image[:, 190:] = 0.1
    image = rng.poisson(150 * image).astype(np.float32)
    lattice = find_lattice(image)
    sites = predict_sites(lattice.field, lattice.cell.columns, image.shape, 6.0)
    assert (sites.position[:, 1] < 190 + 2 * 12).all()
    position = scene.position[scene.inside(7)]
    inner = position[position[:, 1] < 190 - 2 * 12]
    assert nearest(sites.position, inner)[0].max() < CLOSE * 12 / np.sqrt(3)


@pytest.mark.parametrize("width", [0.16, 0.22, 0.28])
def test_the_width_of_the_columns_is_recovered(rng, width):
    crystal = honeycomb(20.0).turned(4)
    scene = render(crystal, rng, shape=(320, 320), width=width, counts=300)
    profile = find_lattice(scene.image).profile
    squared = np.linspace(0, (2 * scene.width) ** 2, 50)
    np.testing.assert_allclose(profile.at(squared), np.exp(-0.5 * squared / scene.width**2), atol=0.04)
    np.testing.assert_allclose(profile.height / profile.height[0], crystal.heights, atol=0.03)
    assert profile.base == pytest.approx(300 * 0.1, rel=0.25)
    assert profile.residual < 0.03


def test_the_profile_is_that_of_the_cell_it_is_fitted_to(rng):
    crystal = square(18.0)
    lattice = find_lattice(render(crystal, rng, counts=None).image)
    _, again = fit_columns(lattice.cell, lattice.field)
    assert again.narrow == pytest.approx(lattice.profile.narrow, rel=1e-3)
    assert lattice.nearest_neighbour_px == pytest.approx(crystal.spacing, rel=0.01)
    assert lattice.constant_px == pytest.approx(18.0, rel=0.01)


@pytest.mark.parametrize("width", [0.42, 0.46])
def test_a_dim_column_that_is_a_shoulder_of_a_bright_one_is_found(rng, width):
    crystal = honeycomb(24.0, (1.0, 0.25))
    scene = render(crystal.turned(11), rng, shape=(384, 384), width=width, counts=2000)
    lattice = find_lattice(scene.image)
    assert len(lattice.cell.columns) == 2
    sites = predict_sites(lattice.field, lattice.cell.columns, scene.image.shape, 24.0)
    assert nearest(sites.position, scene.position[scene.inside(30)])[0].max() < 0.08 * crystal.spacing


# --- No lattice ------------------------------------------------------------------------------------------------

rows, cols = np.mgrid[:256, :256].astype(float)
SMOOTH = {
    "constant": np.ones((256, 256)),
    "gradient": 0.5 * rows + 0.3 * cols,
    "parabola": (rows - 100) ** 2,
    "blob": np.exp(-((rows - 128) ** 2 + (cols - 90) ** 2) / 800),
    "step": (rows > cols) * 1.0,
    "stripes": np.cos(2 * np.pi * (0.07 * rows + 0.03 * cols)),
    "sharp stripes": np.cos(2 * np.pi * 0.1 * cols) ** 8,
}


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("name", SMOOTH)
def test_there_is_no_lattice_in_a_smooth_image_or_in_stripes(rng, name, noise):
    image = SMOOTH[name] + noise * rng.normal(size=(256, 256))
    with pytest.raises(NoLatticeError, match="no lattice found"):
        find_lattice(image.astype(np.float32))


@pytest.mark.parametrize("blur", [0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0])
def test_there_is_no_lattice_in_noise_however_smooth(blur):
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(size=(192, 256))
        image = ndimage.gaussian_filter(noise, blur) if blur else noise
        assert not shows_a_lattice(image.astype(np.float32)), f"seed {seed}"


def test_there_is_no_lattice_among_columns_at_random_but_there_are_peaks(rng):
    image, place = np.zeros((256, 256)), np.zeros((0, 2))
    while len(place) < 60:
        candidate = rng.uniform(12, 243, (1, 2))
        if not len(place) or nearest(place, candidate)[0][0] > 16:
            place = np.concatenate([place, candidate])
    add_columns(image, place, np.ones(60), 2.5)
    image = rng.poisson(100 * image + 20).astype(np.float32)
    with pytest.raises(NoLatticeError):
        find_lattice(image)
    peaks = find_peaks(image)
    assert len(peaks) == 60
    assert (peaks.sublattice == -1).all()
    assert nearest(place, peaks.position)[0].max() < 1.5


def test_there_are_no_peaks_in_noise(rng):
    assert len(find_peaks(rng.normal(size=(256, 256)).astype(np.float32))) == 0


@pytest.mark.parametrize("shape", [(10, 10), (15, 300), (300, 4)])
def test_a_tiny_image_has_no_lattice(rng, shape):
    with pytest.raises(NoLatticeError, match="16 px"):
        find_lattice(rng.normal(size=shape).astype(np.float32))


def test_a_few_unit_cells_are_not_enough(rng):
    with pytest.raises(NoLatticeError):
        find_lattice(render(honeycomb(40.0), rng, shape=(128, 128), counts=500).image)


# --- From frame to frame ---------------------------------------------------------------------------------------


def distance_to_columns(scene, crystal, field, lattice):
    """How far every column of a frame is from where the known cell has it, in nearest-neighbour distances."""
    at = field.cell_coordinates(scene.position[scene.inside(crystal.spacing)])
    miss = (at[:, None] - lattice.cell.columns + 0.5) % 1 - 0.5
    return np.linalg.norm(miss @ field.vectors, axis=-1).min(1) / crystal.spacing


@pytest.mark.parametrize("shift", [(0.5, 0.2), (2.5, -1.3), (6.0, 3.0), (40.3, -17.1)])
@makes
def test_columns_keep_their_cell_coordinates_through_drift(rng, make, shift):
    crystal = make(14.0).turned(5)
    known = find_lattice(render(crystal, rng, counts=100).image)
    later = render(crystal, rng, counts=100, shift=shift)
    field = follow_lattice(later.image, known)
    assert distance_to_columns(later, crystal, field, known).max() < 0.05
    sites = predict_sites(field, known.cell.columns, later.image.shape, crystal.spacing)
    _, truth = nearest(later.position, sites.position)
    np.testing.assert_array_equal(sites.sublattice, later.sublattice[truth])


def test_columns_keep_their_cell_coordinates_through_distortion(rng):
    crystal = honeycomb(14.0).turned(5)
    known = find_lattice(render(crystal, rng, counts=100).image)
    later = render(crystal, rng, counts=100, matrix=[[1.01, 0.01], [0, 1]], shift=(3.3, 1.2))
    assert distance_to_columns(later, crystal, follow_lattice(later.image, known), known).max() < 0.08


@pytest.mark.parametrize(
    ("known", "other"),
    [
        (honeycomb(14.0), honeycomb(14.0).turned(30)),
        (honeycomb(14.0), honeycomb(14.0).turned(15)),
        (honeycomb(14.0), honeycomb(18.0)),
        (honeycomb(14.0), square(14.0)),
        (square(14.0), square(14.0).turned(30)),
        (square(14.0), square(14.0).turned(45)),
        (square(14.0), honeycomb(14.0)),
        (oblique(14.0), oblique(14.0).turned(90)),
    ],
)
def test_another_lattice_is_refused(rng, known, other):
    lattice = find_lattice(render(known, rng, counts=100).image)
    with pytest.raises(NoLatticeError, match="learnt"):
        follow_lattice(render(other, rng, counts=100).image, lattice)


@pytest.mark.parametrize(("make", "degrees"), [(honeycomb, 60), (square, 90), (oblique, 180)])
def test_a_rotation_onto_itself_is_the_same_lattice(rng, make, degrees):
    crystal, turned = make(14.0).turned(5), make(14.0).turned(5 + degrees)
    known = find_lattice(render(crystal, rng, counts=100).image)
    later = render(turned, rng, counts=100)
    np.testing.assert_allclose(
        np.linalg.norm(follow_lattice(later.image, known).vectors, axis=1),
        np.linalg.norm(known.field.vectors, axis=1),
    )


@pytest.mark.parametrize("kind", ["noise", "constant", "smooth"])
def test_nothing_is_followed_where_there_is_no_lattice(rng, kind):
    known = find_lattice(render(honeycomb(14.0), rng, counts=100).image)
    image = {
        "noise": rng.poisson(20, (256, 256)),
        "constant": np.full((256, 256), 7.0),
        "smooth": ndimage.gaussian_filter(rng.normal(size=(256, 256)), 3),
    }[kind]
    with pytest.raises(NoLatticeError):
        follow_lattice(image.astype(np.float32), known)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_columns_a_few_hundredths_as_high_as_the_highest_are_columns(seed):
    # PbTiO3: two alike, neither of which explains what both leave over
    rng = np.random.default_rng(seed)
    heights = (1.0, 0.18, 0.027, 0.027)
    crystal = perovskite(20.0, heights).turned(7 + 11 * seed)
    scene = render(crystal, rng, shape=(320, 320), counts=3000, width=0.23, background=0.02)
    lattice = find_lattice(scene.image)
    assert len(lattice.cell.columns) == 4
    assert lattice.profile.height / lattice.profile.height[0] == pytest.approx(heights, abs=0.006)


@pytest.mark.parametrize("places", [False, True])
def test_the_slopes_of_the_misfit_are_those_of_its_square(rng, places):
    lattice = find_lattice(render(perovskite(18.0), rng, shape=(160, 170), counts=150.0).image)
    fit = _profile._CellFit(lattice.cell, lattice.field)
    columns = lattice.cell.columns + rng.normal(0, 0.01, lattice.cell.columns.shape)
    at = np.concatenate([np.log([1.1 * lattice.profile.narrow, 1.9]), [0.2], columns.ravel()])

    def square(p):
        return 0.5 * (fit._misfit(p[:3], p[3:].reshape(-1, 2)) ** 2).sum()

    slopes = fit._slopes(at[:3], columns, places=places)
    gradient = slopes.T @ fit._misfit(at[:3], columns)
    step = 1e-5 * np.eye(len(at))[: len(gradient)]
    expected = [(square(at + one) - square(at - one)) / 2e-5 for one in step]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)


def test_what_a_wrong_profile_leaves_over_is_no_column(rng):
    # columns longer than wide, as near each other as in a frame with much drift
    scene = render(honeycomb(8.5, (1.0, 0.85)).turned(20), rng, shape=(256, 256), counts=None, width=0.24)
    blurred = ndimage.gaussian_filter1d(scene.clean, 0.9, axis=0)
    assert len(find_lattice(rng.poisson(400 * blurred).astype(np.float32)).cell.columns) == 2
