"""A lattice constant that no known crystal has is not reported without a word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latticewatch.pipeline._plausible import KNOWN, lattice_notes, lattices_like


def cell(a: float, b: float | None = None, angle: float = 60.0, turn: float = 0.0) -> np.ndarray:
    """Vectors as rows (row, col) of a cell."""
    first, second = np.deg2rad(turn), np.deg2rad(turn + angle)
    b = a if b is None else b
    return np.array([[a * np.sin(first), a * np.cos(first)], [b * np.sin(second), b * np.cos(second)]])


def test_the_pixel_size_of_the_example_in_doubt_is_said_to_be_fifteen_per_cent_too_large() -> None:
    (note,) = lattice_notes(cell(0.378 / 0.0399), 0.0399, "WSe2")
    assert note.code == "pixel-size-doubtful"
    assert note.text == "0.378 nm fits no lattice of WSe2 (0.328) at 0.0399 nm/px: pixel size 15 % too large?"
    assert "0.03464 nm/px" in note.remedy


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.2, "20 % too large"),
        (10, "10 times too large"),
        (0.8, "20 % too small"),
        (0.1, "10 times too small"),
    ],
)
@pytest.mark.parametrize("material", ["WS2", "S2,W", "W,S2"])
def test_a_wrong_pixel_size_is_said_with_its_factor(factor: float, words: str, material: str) -> None:
    assert lattice_notes(cell(31.53), 0.01, material) == ()
    (note,) = lattice_notes(cell(31.53), 0.01 * factor, material)
    assert words in note.text


@pytest.mark.parametrize("factor", [10, 0.1])
def test_ten_times_too_much_or_too_little_is_said_without_a_material_as_well(factor: float) -> None:
    assert lattice_notes(cell(31.53), 0.01) == ()
    (note,) = lattice_notes(cell(31.53), 0.01 * factor)
    assert note.code == "pixel-size-doubtful"


def test_a_square_lattice_is_none_of_a_hexagonal_material() -> None:
    (note,) = lattice_notes(cell(31.5, angle=90), 0.01, "WS2")
    assert note.code == "lattice-is-not-of-material"
    (note,) = lattice_notes(cell(31.5, 36.0), 0.01, "WS2")
    assert note.code == "lattice-is-not-of-material"


def test_nothing_is_said_where_nothing_can_be_compared() -> None:
    assert lattice_notes(cell(999.0), None, "WS2") == ()
    assert lattice_notes(cell(31.5), 0.01, "Fe3") == ()  # not in the table
    assert lattice_notes(cell(31.5, 50.0, 77.0), 0.01) == ()


@given(st.sampled_from(KNOWN), st.floats(0, 360), st.floats(0.97, 1.03), st.integers(-3, 3), st.booleans())
def test_every_known_lattice_fits_itself_however_it_lies_and_its_vectors_are_chosen(
    known, turn: float, wrong: float, shear: int, swapped: bool
) -> None:
    vectors = cell(known.a_nm, known.b_nm, known.angle_deg, turn) * wrong / 0.01
    vectors = vectors + shear * np.array([[0, 0], vectors[0]])
    vectors = vectors[::-1] if swapped else vectors
    assert lattice_notes(vectors, 0.01, known.formula) == ()
    assert lattice_notes(vectors, 0.01) == ()


def test_lattices_that_a_measured_one_may_be_are_named_nearest_first():
    pixel_nm = 0.0125
    hexagonal = np.array([[1.0, 0.0], [0.5, 3**0.5 / 2]]) * 0.3153 / pixel_nm
    like = lattices_like(hexagonal, pixel_nm)
    assert like[0] == "WS2 0.315 nm"
    assert "MoS2 0.316 nm" in like
    assert not any("SrTiO3" in one for one in like)
    assert lattices_like(hexagonal * 3.1, pixel_nm) == ()
    assert lattices_like(hexagonal, None) == ()
