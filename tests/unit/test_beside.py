"""Classes that come with a much clearer defect are neighbours of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from latticewatch.discover._beside import with_neighbours
from latticewatch.model import CatalogueEntry

BOND = 10.0
HOST, STRONG, WEAK = 0, 1, 2


def entry(class_id, name, role):
    return CatalogueEntry(class_id, name, role, 0, 0, 0, 0.01, None, np.zeros((0, 0), np.float32))


def model_of(strong, weak, *, odd=False):
    """A host, a defect and what is looked at, which is a change of height or odd."""
    heights = [0.0, -strong] + ([] if odd else [-weak])
    known = SimpleNamespace(
        mixture=SimpleNamespace(mean=np.array(heights)),
        class_ids=np.array([0, 1] + ([] if odd else [2]), np.int16),
        oddities=SimpleNamespace(
            classifier=SimpleNamespace(centroids_=np.array([[0.0], [weak]])) if odd else None
        ),
        odd_ids=np.array([2] if odd else [], np.int16),
        displacement=SimpleNamespace(of=lambda shift: shift),
        shifts=SimpleNamespace(centroid=np.zeros((0, 2)), class_ids=np.zeros(0, np.int16)),
    )
    return SimpleNamespace(
        sublattices=(known,),
        classes=(entry(0, "A host", "host"), entry(1, "A −80 %", "defect"), entry(2, "A −4 %", "defect")),
        lattice=SimpleNamespace(nearest_neighbour_px=BOND),
    )


def scene(offsets, *, n=12, frames=2, far=0):
    """Strong defects with one weak one at one of the offsets each, and some far away from all, among hosts."""
    grid = BOND * np.stack(np.meshgrid(np.arange(60), np.arange(60), indexing="ij"), -1).reshape(-1, 2)
    best = np.full(len(grid), HOST)
    where = {tuple(at): i for i, at in enumerate(grid.tolist())}
    for k in range(n):
        centre = BOND * (5 + 12 * np.array([k // 4, k % 4]))
        best[where[tuple(centre)]] = STRONG
        if k >= far:
            best[where[tuple(centre + BOND * np.array(offsets[k % len(offsets)]))]] = WEAK
        else:
            best[where[tuple(centre + BOND * np.array([6, 6]))]] = WEAK
    patches = SimpleNamespace(
        position=np.tile(grid, (frames, 1)),
        frame=np.repeat(np.arange(frames), len(grid)),
        sublattice=np.zeros(frames * len(grid), np.int16),
        shape=(600, 600),
    )
    return np.tile(best, frames), patches


@pytest.mark.parametrize(("odd", "weak"), [(False, 2.0), (True, 9.0)])
def test_what_always_comes_with_a_much_clearer_defect_is_its_neighbour(odd, weak):
    best, patches = scene([(0, 2)])
    weaker = with_neighbours(model_of(50.0, weak, odd=odd), best, patches)[WEAK]
    assert (weaker.role, weaker.name) == ("neighbour", "A beside A −80 % ←")


def test_in_several_directions_it_has_no_arrow():
    best, patches = scene([(0, 1), (1, 0), (-1, 0)])
    weaker = with_neighbours(model_of(50.0, 2.0), best, patches)[WEAK]
    assert (weaker.role, weaker.name) == ("neighbour", "A beside A −80 %")


@pytest.mark.parametrize(
    ("strong", "weak", "scenery"),
    [
        # a complex of two defects: both are clear
        (60.0, 14.0, {}),
        # half of them stand alone
        (50.0, 2.0, {"far": 6}),
        # so few tell nothing
        (50.0, 2.0, {"n": 2, "frames": 1}),
    ],
)
def test_what_may_stand_by_itself_stays_a_defect(strong, weak, scenery):
    best, patches = scene([(0, 1)], **scenery)
    model = model_of(strong, weak)
    assert with_neighbours(model, best, patches) == model.classes


def test_where_everything_is_beside_a_defect_nothing_is_said():
    best, patches = scene([(0, 1)])
    near = (np.abs(patches.position - 200.0) < 400).all(1)
    best[near & (np.arange(len(best)) % 7 == 0)] = STRONG
    model = model_of(50.0, 2.0)
    assert with_neighbours(model, best, patches) == model.classes


def test_only_those_asked_for_are_looked_at():
    best, patches = scene([(0, 1)])
    model = model_of(50.0, 2.0)
    assert with_neighbours(model, best, patches, frozenset()) == model.classes
    assert with_neighbours(model, best, patches, frozenset({2}))[WEAK].role == "neighbour"
