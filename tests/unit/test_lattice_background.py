"""Background, scale and pixel noise of a frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from _crystal import add_columns, honeycomb, render
from latticewatch.lattice import find_lattice, flatten, unit_cell
from latticewatch.lattice._background import _clean, _dirt, _smooth_offset
from latticewatch.lattice._smooth import gaussian_window


def flattened(scene):
    lattice = find_lattice(scene.image)
    return flatten(scene.image, lattice.field, lattice.cell)


def line(scene, flat, background):
    """Slope and offset of the flattened frame over the true columns."""
    truth = (scene.clean - background).ravel()
    return np.polyfit(truth, flat.image.ravel().astype(float), 1)


@pytest.mark.parametrize("counts", [20, 200, 2000])
def test_the_scale_is_the_counts_of_the_brightest_host(rng, counts):
    scene = render(honeycomb(16.0).turned(9), rng, counts=counts)
    flat = flattened(scene)
    # the top of the average cell is a little below that of the column: it is a mean over pixels
    assert flat.scale == pytest.approx(counts, rel=0.12)
    slope, offset = line(scene, flat, 0.1)
    assert slope * flat.scale == pytest.approx(counts, rel=0.02)
    assert offset == pytest.approx(0, abs=0.03)


def test_a_slow_background_is_taken_off(rng):
    scene = render(honeycomb(12.0).turned(9), rng, shape=(320, 320), counts=None)
    rows, cols = np.mgrid[:320, :320]
    dirt = 0.6 * np.exp(-((rows - 150) ** 2 + (cols - 170) ** 2) / (2 * 110**2))
    image = rng.poisson(300 * (scene.clean + dirt)).astype(np.float32)
    lattice = find_lattice(image)
    flat = flatten(image, lattice.field, lattice.cell)
    rest = flat.image - (scene.clean - 0.1) * 300 / flat.scale
    blocks = rest.reshape(5, 64, 5, 64).mean((1, 3))
    assert np.ptp(blocks[1:-1, 1:-1]) < 0.06
    assert np.ptp(blocks) < 0.2


def test_a_defect_does_not_pull_the_background_down(rng):
    crystal = honeycomb(16.0)
    scene = render(crystal, rng, counts=300)
    perfect = flattened(scene)
    image = scene.image.copy()
    add_columns(image, np.array([[128.0, 128.0]]), [3000.0], 4.0)
    lattice = find_lattice(scene.image)
    dirty = flatten(image, lattice.field, lattice.cell)
    ring = np.hypot(*(np.mgrid[:256, :256] - 128)) > 24
    assert np.abs(dirty.image - perfect.image)[ring].max() < 0.1


def test_the_gain_between_frames_is_measured(rng):
    crystal = honeycomb(16.0).turned(9)
    first = render(crystal, rng, counts=200)
    lattice = find_lattice(first.image)
    for gain, offset in ((0.5, 30.0), (3.0, -500.0)):
        later = first.image * np.float32(gain) + np.float32(offset)
        flat = flatten(later, lattice.field, lattice.cell)
        before = flatten(first.image, lattice.field, lattice.cell)
        assert flat.scale == pytest.approx(gain * before.scale, rel=0.01)
        np.testing.assert_allclose(flat.image, before.image, atol=0.01)


@pytest.mark.parametrize(("counts", "read"), [(8, 0.0), (100, 0.0), (100, 8.0), (1000, 40.0), (1000, 0.0)])
def test_the_noise_of_pixels_is_recovered(rng, counts, read):
    scene = render(honeycomb(16.0).turned(9), rng, shape=(320, 320), counts=counts, read=read, background=0.3)
    flat = flattened(scene)
    perfect = (scene.clean - scene.clean.min()) * counts / flat.scale
    true = (counts * scene.clean + read**2) / flat.scale**2
    found = flat.noise.variance(perfect)
    for low, high in ((0.0, 0.1), (0.3, 0.6), (0.8, 1.1)):
        there = (perfect >= low) & (perfect < high)
        assert found[there].mean() == pytest.approx(true[there].mean(), rel=0.15)
    assert flat.noise.shot * flat.scale == pytest.approx(1, rel=0.15 if read**2 < counts else 0.5)


def test_a_smooth_frame_has_next_to_no_noise(rng):
    flat = flattened(render(honeycomb(16.0), rng, counts=None))
    assert 0 < flat.noise.read < 1e-3


def test_noise_is_not_measured_where_it_is_not_wanted(rng):
    scene = render(honeycomb(16.0), rng, counts=100)
    lattice = find_lattice(scene.image)
    flat = flatten(scene.image, lattice.field, lattice.cell, noise=False)
    assert (flat.noise.read, flat.noise.shot) == (0.0, 0.0)
    np.testing.assert_array_equal(flat.image, flattened(scene).image)


def test_the_average_cell_is_that_of_the_crystal(rng):
    scene = render(honeycomb(16.0).turned(9), rng, shape=(320, 320), counts=100)
    lattice = find_lattice(scene.image)
    noiseless = unit_cell((100 * scene.clean).astype(np.float32), lattice.field)
    miss = (lattice.cell.mean - noiseless.mean) / lattice.cell.error
    # the error includes how the intensity varies within a node, so it is an upper bound
    assert np.sqrt((miss**2).mean()) < 1.3
    assert np.abs(lattice.cell.mean - noiseless.mean).max() < 6


def test_the_caller_keeps_the_image(rng):
    scene = render(honeycomb(16.0), rng, counts=100)
    image = scene.image.copy()
    image.flags.writeable = False
    lattice = find_lattice(image)
    flatten(image, lattice.field, lattice.cell)
    np.testing.assert_array_equal(image, scene.image)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.25, 0.5])
def test_noise_does_not_join_dirt_to_the_rest_of_the_frame(rng, noise):
    level, offset = noise * rng.standard_normal((80, 90)), np.zeros((80, 90))
    level[30:36, 40:47] += 6.0
    dirt = _dirt(level, offset, 1.0)
    assert dirt is not None
    assert dirt[30:36, 40:47].all()
    assert dirt.sum() < 150


def test_at_a_low_dose_noise_is_no_dirt(rng):
    assert _dirt(0.6 * rng.standard_normal((80, 90)), np.zeros((80, 90)), 1.0) is None


def test_heavy_atoms_whose_surroundings_touch_are_no_dirt():
    # each fills a block or four, and what the smooth background misses around them joins them all
    level, offset = np.zeros((24, 24)), np.zeros((24, 24))
    level[4:20, 4:20] = 0.2
    for row in range(4, 20, 4):
        for col in range(4, 20, 4):
            level[row : row + 2, col : col + 2] = 1.4
    assert _dirt(level, offset, 1.0) is None
    level[8:12, 8:12] = 1.4
    dirt = _dirt(level, offset, 1.0)
    assert dirt is not None
    assert dirt[8:12, 8:12].all()


def sums_of(level):
    """What `_clean` is told of a frame without columns."""
    sums = np.zeros((5, *level.shape))
    sums[0], sums[1] = 100.0, 100.0 * level
    return sums


@pytest.mark.parametrize("seed", [2073, 2195, 2737])
def test_dirt_that_was_seen_is_not_lost_with_the_background_of_what_is_clean(seed):
    # spots whose clean surroundings leave so much that all of it could be noise
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((11, 11)), 1.5)
    level = 5 * np.maximum(field / field.std(), 0.0) ** 3
    sums, window = sums_of(level), gaussian_window(3.125)
    seen = _dirt(level, _smooth_offset(sums, 1.0, window), 1.0)
    assert seen is not None
    _, dirt = _clean(sums, level, 1.0, window, 1.0)
    assert dirt is not None
    assert (dirt & seen).any()


def test_a_frame_with_dirt_beside_every_block_keeps_its_background(monkeypatch):
    monkeypatch.setattr("latticewatch.lattice._background._dirt", lambda *_: np.ones((3, 3), bool))
    offset, dirt = _clean(sums_of(np.ones((3, 3))), np.ones((3, 3)), 1.0, gaussian_window(3.125), 1.0)
    assert np.isfinite(offset).all()
    assert dirt is not None


def test_where_the_lattice_covers_no_block_there_is_no_background_to_take_off():
    offset = _smooth_offset(np.zeros((5, 4, 5)), 1.0, gaussian_window(3.125))
    np.testing.assert_array_equal(offset, np.zeros((4, 5)))
