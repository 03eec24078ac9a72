"""Atoms that stand in the same place of a few cells are no column of the lattice; columns missing in many cells are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests._crystal import add_columns, graphene, honeycomb, perovskite, render

from latticewatch.lattice import find_lattice
from latticewatch.lattice._cell import unit_cell, without_slow
from latticewatch.lattice._profile import fit_columns
from latticewatch.lattice._rare import without_rare

CONSTANT = 22.0
WIDTH = 0.2


def with_atoms(crystal, share, height, rng, place=(0.0, 0.0), counts=200.0, width=WIDTH):
    """A frame in which a share of the cells has an atom at a place, counted."""
    blank = render(crystal, rng, counts=counts, width=width)
    image = blank.clean.copy()
    cells = np.array([(i, j) for i in range(-30, 30) for j in range(-30, 30)], float) + place
    at = cells @ crystal.vectors
    at = at[((at > 12) & (at < 256 - 12)).all(1)]
    chosen = rng.choice(len(at), round(share * len(at)), replace=False)
    add_columns(image, at[chosen], np.full(len(chosen), height), blank.width)
    return rng.poisson(counts * image).astype(np.float32), at[chosen]


@pytest.mark.parametrize("share", [0.02, 0.05])
@pytest.mark.parametrize(
    ("crystal", "height"), [(graphene(CONSTANT), 5.0), (honeycomb(CONSTANT), 0.7), (perovskite(26.0), 1.2)]
)
def test_atoms_in_few_hollows_are_no_column(crystal, height, share, rng):
    place = (0.5, 0.25) if len(crystal.columns) == 4 else (0.0, 0.0)
    image, _ = with_atoms(crystal, share, height, rng, place)
    assert len(find_lattice(image).cell.columns) == len(crystal.columns)


@pytest.mark.parametrize("seed", range(8))
def test_few_bright_atoms_do_not_make_the_cell_too_small(seed):
    """Their spectrum hides the weak waves that tell the hollows of a honeycomb from its columns."""
    image, _ = with_atoms(graphene(CONSTANT), 0.05, 5.0, np.random.default_rng(seed))
    found = find_lattice(image)
    assert found.constant_px == pytest.approx(CONSTANT, rel=0.01)
    assert len(found.cell.columns) == 2


def test_without_the_mend_they_are_one(rng):
    image, _ = with_atoms(graphene(CONSTANT), 0.05, 5.0, rng)
    field = find_lattice(image).field
    # as it was
    cell, _ = fit_columns(unit_cell(image, field), field)
    assert len(cell.columns) == 3


def test_where_they_stood_is_what_other_cells_have_there(rng):
    crystal = graphene(CONSTANT)
    image, at = with_atoms(crystal, 0.05, 5.0, rng)
    clean = 200.0 * render(crystal, rng, counts=200.0, width=WIDTH).clean
    field = find_lattice(image).field
    cell, profile = fit_columns(unit_cell(image, field), field)
    alone = without_rare(image, without_slow(image, field.vectors), field, cell, profile)
    row, col = np.rint(at).astype(int).T
    assert alone is not None
    # a fifth of a pixel of rounding, and noise
    assert (
        np.abs(alone[row, col] - clean[row, col]).mean()
        < 0.05 * np.abs(image[row, col] - clean[row, col]).mean()
    )
    far = alone == image
    assert far.mean() > 0.5


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("counts", [2.0, 200.0])
def test_a_column_that_is_missing_in_many_cells_stays_one(missing, counts, rng):
    """The other column is that of each cell."""
    one = replace(honeycomb(CONSTANT), columns=np.array([[1 / 3, 1 / 3]]), heights=np.array([1.0]))
    image, _ = with_atoms(one, 1 - missing, 0.8, rng, (2 / 3, 2 / 3), counts, width=0.115)
    assert len(find_lattice(image).cell.columns) == 2


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_few_bright_columns_are_columns(share, rng):
    """What stands on a column of the lattice, however bright, is its changed height."""
    crystal = graphene(CONSTANT)
    image, _ = with_atoms(crystal, share, 4.0, rng, (1 / 3, 1 / 3))
    assert len(find_lattice(image).cell.columns) == 2
