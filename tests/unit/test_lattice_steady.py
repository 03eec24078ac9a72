"""Lines of the scan beside their places: measured, taken out, and only where that matters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import find_lattice, flatten
from latticewatch.lattice._steady import MIN_SHARE, steadied
from latticewatch.pipeline import ROLES, Learner, analyse

NEAREST = 12.0


def scanned(clean, rng, jitter, counts=None, flicker=0.0):
    """A frame with lines displaced at random: by so many pixels along the line, by half of it across."""
    change = rng.normal(size=(len(clean), 2)) * jitter * [0.5, 1.0]
    rows, cols = np.indices(clean.shape, float)
    moved = ndimage.map_coordinates(
        clean, [rows + change[:, :1], cols + change[:, 1:]], order=3, mode="nearest"
    )
    moved = moved * (1 + flicker * rng.normal(size=(len(clean), 1)))
    image = moved if counts is None else rng.poisson(counts * np.maximum(moved, 0))
    return image.astype(np.float32), change


@pytest.mark.parametrize("jitter", [0.1, 0.6])
def test_lines_are_taken_to_their_places(rng, jitter):
    clean = render(honeycomb(NEAREST * np.sqrt(3)).turned(9), rng, counts=None, background=0.0).clean
    image, change = scanned(clean, rng, jitter)
    steady, lines = steadied(image, clean.astype(np.float32), NEAREST)
    inner = slice(3, -3)
    assert lines.change[inner, :2] == pytest.approx(change[inner], abs=0.15 * jitter)
    before, after = (np.abs(one[inner, 8:-8] - clean[inner, 8:-8]).mean() for one in (image, steady))
    assert after < 0.15 * before
    assert lines.share > 0.8


def test_a_line_is_as_bright_as_the_others(rng):
    clean = render(honeycomb(NEAREST * np.sqrt(3)).turned(9), rng, counts=None).clean
    image, _ = scanned(clean, rng, 0.0, flicker=0.02)
    steady, _ = steadied(image, clean.astype(np.float32), NEAREST)
    assert np.abs(steady - clean).mean() < 0.3 * np.abs(image - clean).mean()


def test_noise_moves_no_line(rng):
    scene = render(honeycomb(NEAREST * np.sqrt(3)).turned(9), rng, counts=30)
    steady, lines = steadied(scene.image, (30 * scene.clean).astype(np.float32), NEAREST)
    assert lines.share < 0.2 * MIN_SHARE
    assert np.abs(lines.change[:, :2]).max() < 0.1
    assert steady == pytest.approx(scene.image, abs=3.0)


def test_vacancies_and_bright_atoms_move_no_line(rng):
    perfect = render(honeycomb(NEAREST * np.sqrt(3)), rng, counts=None)
    clean = perfect.clean.astype(np.float32)
    odd = clean.copy()
    for (row, col), height in zip(perfect.position[perfect.inside(20)][::40], (-1.0, 3.0) * 20, strict=False):
        r2 = (np.arange(len(odd))[:, None] - row) ** 2 + (np.arange(odd.shape[1]) - col) ** 2
        odd += np.float32(height) * np.exp(-r2 / (2 * perfect.width**2)).astype(np.float32)
    steady, lines = steadied(odd, clean, NEAREST)
    assert np.abs(lines.change[:, :2]).max() < 0.05
    assert np.abs(steady - odd).max() < 0.05


def test_lines_are_left_where_noise_hides_that_they_are_displaced(rng):
    clean = render(honeycomb(16.0).turned(9), rng, counts=None).clean
    few, many = (find_lattice(scanned(clean, rng, 0.15, counts)[0]) for counts in (10, 3000))
    assert not few.unsteady
    assert many.unsteady


def test_a_frame_is_flattened_as_before_unless_its_lines_are_wanted_steady(rng):
    image, _ = scanned(render(honeycomb(16.0).turned(9), rng, counts=None).clean, rng, 0.15, 1000)
    lattice = find_lattice(image)
    plain = flatten(image, lattice.field, lattice.cell)
    steady = flatten(image, lattice.field, lattice.cell, steady=True)
    assert plain.lines is None
    assert steady.lines is not None
    assert steady.noise.shot < 0.8 * plain.noise.shot


def weak(rng, jitter, counts):
    """A frame in which 4 % of the brighter columns are lower by 3 %; where these are, and where all columns are."""
    scene = render(
        honeycomb(16.0).turned(9),
        rng,
        shape=(384, 384),
        counts=None,
        defects=[("weak", 0, 0.04, 0.97)],
        clear=20.0,
        width=0.22,
    )
    return scanned(scene.clean, rng, jitter, counts)[0], scene


def test_a_change_of_three_per_cent_is_found_in_spite_of_displaced_lines(rng):
    image, scene = weak(rng, 0.15, 3000)
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    frame = Frame(image=image, series_id="s", number=0, pixel_size_nm=None)
    result = learner.fold(analyse(frame, None, settings))[-1]
    position, role = result.sites.position.astype(float), np.array(ROLES)[result.sites.role]
    said = position[role == "defect"]
    true = scene.position[[k for k in scene.inside(24) if scene.kind[k] == "weak"]]
    every = scene.position[scene.kind == "weak"]

    def near(one, others):
        return (np.hypot(*(one[:, None] - others[None]).transpose(2, 0, 1)).min(1) < 4).mean()

    assert len(said)
    assert near(true, said) > 0.9
    assert near(said, every) > 0.9
