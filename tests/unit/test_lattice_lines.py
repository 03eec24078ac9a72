"""Lines of the scan beside their places: measured, taken off, and only where that matters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import find_lattice, flatten, steadied
from latticewatch.lattice._lines import columns_in_view, find_lines, share_of_lines
from latticewatch.pipeline import ROLES, Learner, analyse

SHAPE = (320, 320)


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


def scene(rng, *, turn=9.0, constant=16.0, **options):
    crystal = honeycomb(constant).turned(turn)
    return render(crystal, rng, shape=SHAPE, counts=None, **({"width": 0.22, "clear": 20.0} | options))


def measured(image):
    """Lines of a frame, its lattice, the flat frame and the sites."""
    lattice = find_lattice(image)
    flat = flatten(image, lattice.field, lattice.cell, noise=False).image
    sites = columns_in_view(lattice.field, lattice, flat.shape)
    return find_lines(flat, sites, lattice), lattice, flat


def test_lines_are_found_where_they_are(rng):
    image, change = scanned(scene(rng).clean, rng, 0.15, 3000)
    lines, _, _ = measured(image)
    inner = slice(8, -8)
    for axis, rms in enumerate((0.075, 0.15)):
        error = lines.change[inner, axis] - change[inner, axis]
        assert error.std() < 0.35 * rms
        assert lines.power[axis] == pytest.approx(rms**2, rel=0.4)


def test_a_frame_is_what_it_would_be_with_its_lines_in_their_places(rng):
    made = scene(rng)
    image, _ = scanned(made.clean, rng, 0.15)
    _, lattice, flat = measured(image)
    still = measured(made.clean.astype(np.float32))[2]
    inner = slice(12, -12)
    before, after = (
        np.abs(one - still)[inner, inner].mean()
        for one in (flat, steadied(flat, columns_in_view(lattice.field, lattice, flat.shape), lattice))
    )
    assert after < 0.5 * before


def test_a_line_is_as_bright_as_the_others(rng):
    made = scene(rng, background=0.0)
    image, _ = scanned(made.clean, rng, 0.0, 3000, flicker=0.03)
    lines, lattice, _ = measured(image)
    assert lines.change[:, 2].std() == pytest.approx(0.03, rel=0.3)
    assert not lines.change[:, :2].any()
    assert lattice.unsteady


@pytest.mark.parametrize("counts", [30, 1000, 30_000])
def test_noise_moves_no_line(rng, counts):
    image = scanned(scene(rng).clean, rng, 0.0, counts)[0]
    lines, lattice, flat = measured(image)
    assert not lines.change.any()
    assert not lattice.unsteady
    assert steadied(flat, columns_in_view(lattice.field, lattice, flat.shape), lattice) == pytest.approx(
        flat, abs=1e-6
    )


@pytest.mark.parametrize("turn", [0.0, 9.0, 30.0])
@pytest.mark.parametrize("width", [0.12, 0.16, 0.2])
def test_what_the_profile_of_sharp_columns_does_not_show_moves_no_line(rng, turn, width):
    image = scanned(scene(rng, turn=turn, width=width, constant=18.0).clean, rng, 0.0, 10_000)[0]
    lines, lattice, _ = measured(image)
    assert lines.change[:, :2].std(0).max() < 0.01
    assert share_of_lines(lines, lattice) < 1.0


def test_vacancies_and_bright_atoms_move_no_line(rng):
    image = scene(rng, defects=[("none", 0, 0.04, 0.0), ("heavy", 0, 0.04, 3.0)]).clean
    lines, _, _ = measured(rng.poisson(3000 * image).astype(np.float32))
    assert np.abs(lines.change[:, :2]).max() < 0.02


def test_lines_are_left_where_noise_hides_that_they_are_displaced(rng):
    clean = scene(rng).clean
    few, many = (find_lattice(scanned(clean, rng, 0.15, counts)[0]) for counts in (10, 3000))
    assert not few.unsteady
    assert many.unsteady


def test_lines_far_beside_their_places_are_left_there(rng):
    image = scanned(scene(rng).clean, rng, 0.8, 3000)[0]
    lines, lattice, flat = measured(image)
    assert lines.power[1] > 0.5**2
    assert not lattice.unsteady
    assert steadied(flat, columns_in_view(lattice.field, lattice, flat.shape), lattice) is flat


def test_a_frame_too_small_for_a_column_has_no_lines(rng):
    image = scanned(scene(rng).clean, rng, 0.15, 3000)[0]
    lattice = find_lattice(image)
    small = np.ascontiguousarray(image[:6, :6])
    assert steadied(small, columns_in_view(lattice.field, lattice, small.shape), lattice) is small


def test_a_change_of_three_per_cent_is_found_in_spite_of_displaced_lines(rng):
    made = scene(rng, defects=[("weak", 0, 0.04, 0.97)])
    image = scanned(made.clean, rng, 0.15, 3000)[0]
    settings = AnalysisSettings(learning_frames=1)
    frame = Frame(image=image, series_id="s", number=0, pixel_size_nm=None)
    result = Learner(settings).fold(analyse(frame, None, settings))[-1]
    position, role = result.sites.position.astype(float), np.array(ROLES)[result.sites.role]
    said = position[role == "defect"]
    true = made.position[[k for k in made.inside(24) if made.kind[k] == "weak"]]
    every = made.position[made.kind == "weak"]

    def near(one, others):
        return (np.hypot(*(one[:, None] - others[None]).transpose(2, 0, 1)).min(1) < 4).mean()

    assert len(said)
    assert near(true, said) > 0.9
    assert near(said, every) > 0.9
