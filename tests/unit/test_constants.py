"""The list of the constants that decide, the page made of it, and the source say the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))

import make_constants
import sensitivity
from _constants import CONSTANTS, Constant


def test_the_page_of_constants_has_each_with_its_value():
    text = make_constants.PAGE.read_text()
    missing = [
        one.name
        for one in CONSTANTS
        if f"| `{one.file}` `{one.name}` | {one.value():g} | {one.unit} |" not in text
    ]
    assert not missing, "run python docs/make_constants.py"


@pytest.mark.parametrize("one", CONSTANTS, ids=lambda one: one.name)
def test_each_constant_that_decides_says_why_and_what_goes_wrong_on_either_side(one):
    assert one.value() > 0
    assert len(one.why()) > 20, f"{one.file}: give {one.name} a comment that says why"
    assert one.unit
    assert one.below
    assert one.above
    assert one.below != one.above
    assert one.value() <= one.most


def test_a_constant_that_is_gone_says_what_to_do():
    gone = Constant("model/_mixture.py", "NO_SUCH", "", "", "")
    with pytest.raises(LookupError, match=r"_constants\.py.*make_constants\.py"):
        gone.value()


def test_another_value_reaches_the_copy_and_only_the_copy(tmp_path):
    one = next(c for c in CONSTANTS if c.name == "MIN_SEPARATION")
    before = one.path.read_text()
    root = sensitivity.copied(tmp_path, one, 1.5)
    assert "\nMIN_SEPARATION = 1.5\n" in (root / "latticewatch" / one.file).read_text()
    assert one.path.read_text() == before


def test_kernels_that_hold_a_constant_are_compiled_anew(tmp_path):
    held = next(c for c in CONSTANTS if c.in_kernel())
    root = sensitivity.copied(tmp_path, held, 2 * held.value())
    assert not list(root.rglob("*.nbi"))


def test_only_what_moves_is_told():
    before = {"ws2": 0.9, "perfect": 0.0}
    assert sensitivity.moves(before, {"ws2": 0.905, "perfect": 0.5}) == "–"
    assert sensitivity.moves(before, {"ws2": 0.5, "perfect": 4.0}) == "ws2 0.90 → 0.50, perfect 0.00 → 4.00"
    assert sensitivity.moves(before, "ValueError: no") == "stops: ValueError: no"
