"""Lattices that something hides: bright atoms, noise, columns that are almost alike, a profile that is not round."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import add_columns, graphene, honeycomb, render, square
from latticewatch.lattice import find_lattice, follow_lattice
from latticewatch.lattice._phase import MIN_COVER


def noisy_graphene(rng, constant, degrees, bright):
    """Contrast of a hundredth of the background, eight times as much noise, and atoms that stand out."""
    scene = render(
        honeycomb(constant, (1.0, 1.0)).turned(degrees), rng, counts=None, background=0.0, width=0.3
    )
    image = 0.045 * scene.clean
    places = scene.position[scene.inside(80)]
    first = places[np.argmin(np.hypot(*(places - places.mean(0)).T))]
    chosen = places[np.argsort(np.hypot(*(places - first).T))[:bright]]
    add_columns(image, chosen, np.full(bright, 0.3), scene.width)
    return (image + 0.08 * rng.normal(size=image.shape)).astype(np.float32)


@pytest.mark.parametrize(("constant", "bright"), [(27.0, 3), (32.0, 1), (36.0, 3)])
def test_bright_atoms_do_not_hide_a_faint_lattice_in_any_frame(rng, constant, bright):
    degrees = rng.uniform(0, 60)
    frames = [noisy_graphene(rng, constant, degrees, bright) for _ in range(3)]
    for frame in frames:
        lattice = find_lattice(frame)
        assert lattice.constant_px == pytest.approx(constant, rel=0.02)
        assert len(lattice.cell.columns) == 2
        for other in frames:
            assert follow_lattice(other, lattice).lattice_constant == pytest.approx(constant, rel=0.02)


@pytest.mark.parametrize("second", [0.5, 0.8, 0.93])
def test_columns_that_are_almost_alike_are_two(rng, second):
    scene = render(square(20.0, (1.0, second)).turned(rng.uniform(0, 90)), rng, shape=(320, 320), counts=400)
    lattice = find_lattice(scene.image)
    assert lattice.constant_px == pytest.approx(20.0, rel=0.01)
    assert lattice.profile.height / lattice.profile.height[0] == pytest.approx([1, second], abs=0.02)


@pytest.mark.parametrize("share", [0.03, 0.15])
def test_defects_at_random_make_no_larger_cell(rng, share):
    crystal = honeycomb(15.0, (1.0, 0.6)).turned(rng.uniform(0, 60))
    vacant = (("vacant", 0, share, 0.0), ("half", 1, share, 0.3))
    lattice = find_lattice(render(crystal, rng, shape=(300, 300), counts=300, defects=vacant).image)
    assert lattice.constant_px == pytest.approx(15.0, rel=0.01)
    assert len(lattice.cell.columns) == 2


@pytest.mark.parametrize("stretch", [1.2, 1.4])
def test_columns_that_are_not_round_are_not_split(rng, stretch):
    # columns of a crystal that was squeezed, stretched back together with the picture
    squeezed = honeycomb(17.0, (1.0, 0.4)).turned(20).strained(np.diag([1 / stretch, 1.0]))
    wide = render(squeezed, rng, shape=(256, 320), counts=None, width=0.25)
    rows = np.linspace(0, 255, int(256 * stretch))
    low = np.minimum(rows.astype(int), 254)
    clean = wide.clean[low] + (rows - low)[:, None] * (wide.clean[low + 1] - wide.clean[low])
    image = rng.poisson(120 * clean).astype(np.float32)
    assert len(find_lattice(image).cell.columns) == 2


def test_heavy_atoms_in_the_hollows_do_not_hide_a_lattice_that_is_known(rng):
    crystal = graphene(24.0)
    before = render(crystal, rng, shape=(256, 256), counts=300)
    lattice = find_lattice(before.image)
    scene = render(crystal, rng, shape=(256, 256), counts=300)
    # past a column, as far again as its neighbour is, there is a hollow
    first, second = (scene.position[scene.sublattice == s] for s in (0, 1))
    step = second[np.hypot(*(second - first[0]).T).argmin()] - first[0]
    hollows = first + 2 * step
    middle = hollows[(np.abs(hollows - 128) < 50).all(1)][::5]
    image = scene.image.copy()
    add_columns(image, middle, 300 * np.full(len(middle), 5.0), scene.width)
    seen = follow_lattice(image, lattice)
    assert seen.amplitude_at(middle).min() > MIN_COVER
    alone = follow_lattice(scene.image, lattice)
    apart = seen.cell_coordinates(scene.position) - alone.cell_coordinates(scene.position)
    assert np.abs(apart).max() < 0.03


def test_a_hole_is_where_the_lattice_is_not(rng):
    scene = render(graphene(24.0), rng, shape=(256, 256), counts=300)
    lattice = find_lattice(scene.image)
    image = scene.image.copy()
    image[80:180, 80:180] = rng.poisson(30.0, (100, 100))
    seen = follow_lattice(image, lattice)
    assert seen.amplitude_at(np.array([[130.0, 130.0]]))[0] < MIN_COVER
