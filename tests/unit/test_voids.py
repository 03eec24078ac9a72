"""Places between the columns: which there are in a cell, and what stands around each."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests._crystal import graphene, honeycomb, oblique, perovskite

import naive
from latticewatch.lattice import columns_around, void_places
from latticewatch.lattice._light import light_at


class Cell:
    """As much of a lattice as its places need; hashable, as the lattice itself is."""

    def __init__(self, crystal, rng):
        self.field = SimpleNamespace(vectors=crystal.vectors)
        # as they are measured: no two distances are the same to the last digit
        columns = crystal.columns + 1e-4 * rng.normal(size=crystal.columns.shape)
        self.cell = SimpleNamespace(columns=columns % 1.0)


def places(crystal, rng):
    """What surrounds each place of a crystal, hollows first."""
    lattice = Cell(crystal, rng)
    found = void_places(lattice)
    return found, [columns_around(place, lattice.cell.columns, crystal.vectors) for place in found]


@pytest.mark.parametrize("crystal", [graphene(20.0), honeycomb(20.0, (1.0, 0.4))])
def test_a_honeycomb_has_a_hollow_and_three_bonds(crystal, rng):
    _, around = places(crystal, rng)
    assert around == [(0, 0, 0, 1, 1, 1), (0, 1), (0, 1), (0, 1)]


def test_the_middle_of_a_bond_is_half_way(rng):
    crystal = graphene(20.0)
    found, _ = places(crystal, rng)
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    for place in found[1:]:
        away = (crystal.columns[:, None] + shifts - place) @ crystal.vectors
        nearest = np.sort(np.hypot(*away.reshape(-1, 2).T))[:3]
        np.testing.assert_allclose(nearest[:2], crystal.spacing / 2, rtol=1e-2)
        assert nearest[2] > 1.2 * nearest[1]


def test_a_perovskite_has_a_hollow_in_each_quarter_and_eight_bonds(rng):
    _, around = places(perovskite(40.0), rng)
    assert [len(columns) for columns in around] == [4] * 4 + [2] * 8


@pytest.mark.parametrize("crystal", [oblique(20.0), graphene(20.0), perovskite(40.0)])
def test_no_atom_is_far_from_every_column_and_every_place(crystal, rng):
    found, _ = places(crystal, rng)
    known = np.concatenate([crystal.columns, found])
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    anywhere = rng.uniform(size=(500, 2))
    away = np.hypot(*((known[:, None, None] + shifts[:, None] - anywhere) @ crystal.vectors).T)
    assert away.min((1, 2)).max() < 0.6 * crystal.spacing


@pytest.mark.parametrize("width", [1.2, 3.0, 4.9, 9.3])
def test_light_is_the_weighted_mean_around_a_place_up_to_the_last_pixel(rng, width):
    image = rng.normal(size=(61, 47)).astype(np.float32)
    corners = [(0.0, 0.0), (60.0, 46.0), (0.3, 46.0), (59.6, 0.2), (60.0, 20.5)]
    at = np.concatenate([corners, rng.uniform(0, 1, (40, 2)) * (60, 46)])
    np.testing.assert_allclose(
        light_at(image, at, width), naive.light_at(image.astype(float), at, width), atol=2e-6
    )
