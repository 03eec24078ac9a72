"""Frames of several grains: all of them found, each place given to one, their classes shared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from _crystal import HOST, Crystal, honeycomb, nearest, render, shows_a_lattice
from latticewatch.config import AnalysisSettings
from latticewatch.errors import NoLatticeError
from latticewatch.ingest import Frame
from latticewatch.lattice import find_lattice, follow_lattice, grain_sites
from latticewatch.pipeline import ROLES, Learner, analyse

SHAPE = (448, 448)
CONSTANT = 16.0
DEFECTS = (("vacancy", 1, 0.03, 0.03), ("bright", 1, 0.02, 1.0))
COUNTS = 400.0
DEFECT = ROLES.index("defect")


@dataclass
class Bicrystal:
    """A frame whose first grain is where a mask says so, and its columns."""

    image: np.ndarray
    position: np.ndarray
    kind: np.ndarray
    grain: np.ndarray
    sublattice: np.ndarray

    def inside(self, mask, margin):
        """Columns so far from the edge of the frame, and from the boundary."""
        low, high = margin, np.array(SHAPE) - 1 - margin
        at = np.clip(np.rint(self.position).astype(int), 0, np.array(SHAPE) - 1)
        rows, cols = np.nonzero(np.diff(mask.astype(int), axis=1, prepend=mask[:, :1].astype(int)))
        far = np.ones(len(at), bool)
        if len(rows):
            far = nearest(np.stack([rows, cols], 1), self.position)[0] > margin
        return ((self.position >= low) & (self.position <= high)).all(1) & far


def bicrystal(rng, first, second, mask, *, shift=(0.0, 0.0), defects=DEFECTS, counts=COUNTS):
    """Two grains in one frame, `first` where the mask is true."""
    scenes = [
        render(c, rng, shape=SHAPE, shift=shift, defects=defects, counts=None, clear=1.5 * c.spacing)
        for c in (first, second)
    ]
    clean = np.where(mask, scenes[0].clean, scenes[1].clean)
    parts = []
    for number, scene in enumerate(scenes):
        at = np.clip(np.rint(scene.position).astype(int), 0, np.array(SHAPE) - 1)
        mine = mask[at[:, 0], at[:, 1]] == (number == 0)
        parts.append(
            (scene.position[mine], scene.kind[mine], np.full(mine.sum(), number), scene.sublattice[mine])
        )
    image = rng.poisson(counts * clean).astype(np.float32)
    return Bicrystal(image, *(np.concatenate(p) for p in zip(*parts, strict=True)))


rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
MASKS = {
    "half": cols + 0.4 * rows < 300,
    "quarter": cols + 0.4 * rows < 190,
    "island": (rows - 220) ** 2 + (cols - 240) ** 2 < 120**2,
}


@pytest.fixture(params=MASKS)
def mask(request):
    return MASKS[request.param]


@pytest.mark.parametrize("degrees", [14, 30])
def test_every_site_of_both_grains_is_found(rng, mask, degrees):
    crystal = honeycomb(CONSTANT)
    scene = bicrystal(rng, crystal.turned(5), crystal.turned(5 + degrees), mask)
    lattice = find_lattice(scene.image)
    assert len(lattice.grains) == 2
    columns = [grain.cell.columns for grain in lattice.grains]
    sites = grain_sites(lattice.field, columns, SHAPE, 12.0)
    inner = scene.inside(mask, CONSTANT)
    missed, _ = nearest(sites.position, scene.position[inner])
    assert np.mean(missed < 0.15 * crystal.spacing) > 0.99
    assert np.median(missed) < 0.03 * crystal.spacing
    # none twice, on the boundary neither
    apart, _ = nearest(sites.position, sites.position)
    assert len(np.unique(sites.position, axis=0)) == len(sites)
    assert apart.max() == 0
    pairs = np.linalg.norm(sites.position[:, None] - sites.position[None], axis=2) + 99.0 * np.eye(len(sites))
    assert pairs.min() > 0.5 * crystal.spacing


def test_each_place_belongs_to_the_grain_that_is_there(rng, mask):
    crystal = honeycomb(CONSTANT)
    scene = bicrystal(rng, crystal.turned(5), crystal.turned(27), mask)
    lattice = find_lattice(scene.image)
    sites = grain_sites(lattice.field, [g.cell.columns for g in lattice.grains], SHAPE, 12.0)
    distance, truth = nearest(scene.position, sites.position)
    clear = scene.inside(mask, 2 * CONSTANT)[truth] & (distance < 0.2 * crystal.spacing)
    grain = sites.sublattice >= len(lattice.cell.columns)
    for number in (0, 1):
        mine = grain[clear & (scene.grain[truth] == number)]
        assert len(mine)
        assert len(set(mine.tolist())) == 1


def test_sublattices_are_numbered_grain_after_grain(rng):
    crystal = honeycomb(CONSTANT)
    lattice = find_lattice(bicrystal(rng, crystal, crystal.turned(17), MASKS["half"]).image)
    assert [lattice.grain_of(s) for s in range(4)] == [
        (lattice, 0),
        (lattice, 0),
        (lattice.others[0], 2),
        (lattice.others[0], 2),
    ]
    with pytest.raises(IndexError, match="has 4"):
        lattice.grain_of(4)


def test_a_single_crystal_with_a_hole_has_one_grain(rng):
    crystal = honeycomb(CONSTANT).turned(8)
    scene = render(crystal, rng, shape=SHAPE, counts=None)
    clean = np.where(MASKS["island"], 0.1, scene.clean)
    image = rng.poisson(COUNTS * clean).astype(np.float32)
    assert find_lattice(image).others == ()
    assert shows_a_lattice(image)


def test_a_second_crystal_of_another_kind_is_a_grain_of_its_own(rng):
    other = Crystal(21.0 * np.eye(2), np.array([[0.3, 0.4]]), np.array([0.9]))
    scene = bicrystal(rng, honeycomb(CONSTANT), other.turned(4), MASKS["half"], defects=())
    lattice = find_lattice(scene.image)
    assert sorted(len(grain.cell.columns) for grain in lattice.grains) == [1, 2]


def test_a_grain_is_followed_and_one_that_leaves_the_view_is_missing(rng):
    crystal = honeycomb(CONSTANT)
    first, second = crystal.turned(5), crystal.turned(27)
    known = find_lattice(bicrystal(rng, first, second, MASKS["half"]).image)
    later = bicrystal(rng, first, second, MASKS["half"], shift=(1.3, -2.1), defects=())
    where = follow_lattice(later.image, known)
    assert [field is not None for field in where.grains] == [True, True]
    sites = grain_sites(where, [g.cell.columns for g in known.grains], SHAPE, 12.0)
    missed, _ = nearest(sites.position, later.position[later.inside(MASKS["half"], CONSTANT)])
    assert np.mean(missed < 0.15 * crystal.spacing) > 0.99
    alone = render(first, rng, shape=SHAPE, counts=COUNTS)
    other = render(second, rng, shape=SHAPE, counts=COUNTS)
    present = alone if follows_main(alone.image, known) else other
    assert follow_lattice(present.image, known).others == (None,)


def follows_main(image, known):
    """Whether the grain found first is in an image."""
    try:
        follow_lattice(image, known)
    except NoLatticeError:
        return False
    return True


@pytest.fixture(scope="module")
def learnt():
    rng = np.random.default_rng(5)
    crystal = honeycomb(CONSTANT)
    mask = MASKS["half"]
    scene = bicrystal(rng, crystal.turned(5), crystal.turned(27), mask)
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    result = learner.fold(analyse(Frame(scene.image), None, settings))[-1]
    return scene, mask, learner, result


def test_grains_of_one_crystal_share_their_hosts_and_their_defects(learnt):
    scene, mask, learner, result = learnt
    roles = [entry.role for entry in learner.model.classes]
    assert roles.count("host") == 2
    # a column that the boundary cuts is a class of its own
    inner = scene.position[scene.inside(mask, CONSTANT)]
    _, site = nearest(result.sites.position, inner)
    found = {
        int(c)
        for c, r in zip(result.sites.class_id[site], result.sites.role[site], strict=True)
        if r == DEFECT
    }
    assert len(found) == len(DEFECTS)


def test_defects_of_both_grains_are_found_and_named_alike(learnt):
    scene, mask, _, result = learnt
    inner = np.flatnonzero(scene.inside(mask, 2 * CONSTANT))
    distance, site = nearest(result.sites.position, scene.position[inner])
    assert distance.max() < 0.2 * CONSTANT
    role, kind = result.sites.role[site], scene.kind[inner]
    assert ((role == DEFECT) == (kind != HOST)).mean() > 0.995
    for name, *_ in DEFECTS:
        classes = [
            set(result.sites.class_id[site[(kind == name) & (scene.grain[inner] == g)]].tolist())
            for g in (0, 1)
        ]
        assert classes[0] == classes[1]
        assert len(classes[0]) == 1


def test_the_average_patch_of_a_shared_class_is_not_smeared_over_orientations(learnt):
    _, _, learner, _ = learnt
    for entry in learner.model.classes:
        if entry.role == "host":
            assert entry.score is not None
            assert entry.score > 0.95
