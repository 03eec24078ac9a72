"""Colours and shapes of classes: what they belong to, and how they are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latticewatch.messages import ROLES, sign_of, signs_of

KINDS = [
    "A −73 %",
    "B −39 %",
    "B vacancy",
    "A vacancy",
    "B +273 %",
    "A displaced ↗ 35 pm",
    "off lattice, A +33 %",
    "off lattice A–B, A +33 %",
]
# No two of these begin with the same sign.
APART = KINDS[:-1]
SHAPES = ["down", "down", "circle", "circle", "up", "diamond", "square", "square"]


@pytest.mark.parametrize(("name", "shape"), [*zip(KINDS, SHAPES, strict=True)])
def test_the_shape_says_the_kind_of_change(name, shape):
    assert sign_of(name, "defect").shape == shape


@given(
    st.permutations(APART),
    st.lists(st.integers(0, 500), min_size=len(APART), max_size=len(APART), unique=True),
)
def test_the_sign_belongs_to_what_a_class_is_and_not_to_its_number(names, numbers):
    signs = signs_of((number, name, "defect") for number, name in zip(numbers, names, strict=True))
    assert {name: signs[number] for number, name in zip(numbers, names, strict=True)} == {
        name: sign_of(name, "defect") for name in APART
    }


@pytest.mark.parametrize("change", range(-46, -35))
def test_a_change_that_is_measured_a_little_differently_keeps_its_sign(change):
    assert sign_of(f"B −{-change} %", "defect") == sign_of("B −41 %", "defect")


def test_a_class_born_later_takes_no_sign_that_is_there():
    before = [(3, "A −60 %", "defect"), (4, "A −70 %", "defect")]
    signs = signs_of(before)
    assert len({*signs.values()}) == 2
    after = signs_of([*before, (9, "A −58 %", "defect")])
    assert {number: after[number] for number in (3, 4)} == signs
    assert after[9] not in signs.values()


def test_a_neighbour_has_the_hue_of_its_defect():
    signs = signs_of([(0, "A −73 %", "defect"), (1, "B beside A −73 % ↗", "neighbour")])

    def hue(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float)
        return channels - channels.mean()

    first, second = hue(signs[0].colour), hue(signs[1].colour)
    assert first @ second / np.linalg.norm(first) / np.linalg.norm(second) > 0.98
    assert signs[1].shape == "dot"


@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from(ROLES)), max_size=40))
def test_any_names_have_signs(classes):
    signs = signs_of((number, name, role) for number, (name, role) in enumerate(classes))
    assert set(signs) == set(range(len(classes)))
    assert all(len(sign.colour) == 7 for sign in signs.values())


def test_up_to_twenty_named_classes_all_look_different():
    signs = signs_of((number, f"named {number}", "defect") for number in range(20))
    assert len({*signs.values()}) >= 18
