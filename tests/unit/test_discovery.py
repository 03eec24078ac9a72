"""Classes found without a label on rendered crystals of known defects."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from _crystal import honeycomb, judged, learnt, nearest, render, square, surveyed
from latticewatch.discover import discover
from latticewatch.discover._equivalence import equivalent_sublattices
from latticewatch.discover._rounds import _measured
from latticewatch.features import ZernikeDisk
from latticewatch.model import gather_patches
from latticewatch.model._templates import sublattice_templates

CRYSTAL = honeycomb(12.0).turned(7)
DEFECTS = (("vacancy", 1, 0.02, 0.0), ("substitution", 0, 0.015, 0.6))
SHAPE = (288, 288)


def frames(seed, n, crystal=CRYSTAL, **options):
    rng = np.random.default_rng(seed)
    settings = {"shape": SHAPE, "counts": 150, "clear": 40, **options}
    return [render(crystal, rng, shift=rng.uniform(0, 12, 2), **settings) for _ in range(n)]


@pytest.fixture(scope="module")
def scenes():
    return frames(0, 3, defects=DEFECTS)


@pytest.fixture(scope="module")
def model(scenes):
    return learnt(scenes)


def test_each_kind_of_defect_is_one_class(model):
    defects = [e for e in model.classes if e.role == "defect"]
    assert sorted(e.sublattice for e in defects) == [0, 1]
    assert [e.name for e in model.classes if e.role == "host"] == ["A host", "B host"]
    for entry in defects:
        assert entry.separation is not None
        assert entry.separation > 5


def test_the_change_of_height_of_a_class_is_that_of_the_column(model):
    nothing = [[0.0]] * model.n_voids
    for known, changes in zip(model.sublattices, ([0.0, -0.4], [0.0, -1.0], *nothing), strict=True):
        found = (known.mixture.mean - known.mixture.mean[0]) * known.filter.height_of_sigma
        np.testing.assert_allclose(found / known.templates.height, changes, atol=0.05)
    names = {e.name for e in model.classes if e.role == "defect"}
    assert "B vacancy" in names


def test_every_defect_is_found_where_it_is_and_once(model, scenes):
    for scene in [*scenes, *frames(1, 2, defects=DEFECTS)]:
        j = judged(model, scene)
        position = j.survey.sites.position
        assert j.distance.max() < 0.1 * CRYSTAL.spacing
        np.testing.assert_array_equal(j.role == "defect", j.kind != "host")
        wanted = scene.position[scene.inside(model.patch_px)]
        kind = scene.kind[scene.inside(model.patch_px)]
        detected = position[j.role == "defect"]
        for place in wanted[kind != "host"]:
            assert (np.hypot(*(detected - place).T) < 2 * CRYSTAL.spacing).sum() == 1


def test_neighbours_of_a_defect_are_known_by_their_direction(model, scenes):
    arrows = {"→": (0, 1), "↗": (-1, 1), "↑": (-1, 0), "↖": (-1, -1), "←": (0, -1), "↙": (1, -1), "↓": (1, 0)}
    arrows["↘"] = (1, 1)
    checked = 0
    for scene in scenes:
        j = judged(model, scene)
        # a defect whose patch leaves the frame is no site, and nothing is beside it
        defects = j.survey.sites.position[j.kind != "host"]
        distance, which = nearest(defects, j.survey.sites.position)
        beside = (distance > 0) & (distance < 1.2 * CRYSTAL.spacing) & (j.kind == "host")
        assert (j.role[beside] == "neighbour").mean() > 0.97
        true, _ = nearest(scene.position[scene.kind != "host"], j.survey.sites.position)
        assert (j.role[true > 1.5 * CRYSTAL.spacing] == "host").all()
        for k in np.flatnonzero(beside & (j.role == "neighbour")):
            towards = defects[which[k]] - j.survey.sites.position[k]
            arrow = np.array(arrows[model.entry(int(j.best[k])).name[-1]], float)
            cosine = towards @ arrow / np.linalg.norm(towards) / np.linalg.norm(arrow)
            assert cosine > np.cos(np.radians(23 + 3))
            checked += 1
    assert checked > 100


def test_orientations_of_neighbours_are_one_class_where_rotation_does_not_matter(scenes):
    lattice_model = learnt(scenes[:2], invariant=True)
    neighbours = [e for e in lattice_model.classes if e.role == "neighbour"]
    assert len(neighbours) == 2
    assert not any(e.name[-1] in "→↗↑↖←↙↓↘" for e in neighbours)
    j = judged(lattice_model, scenes[0])
    np.testing.assert_array_equal(j.role == "defect", j.kind != "host")


def test_averages_show_what_the_class_is(model):
    host, vacancy = model.entry(1), next(e for e in model.classes if e.name == "B vacancy")
    centre = model.patch_px // 2
    assert host.average[centre, centre] == pytest.approx(model.sublattices[1].templates.height, abs=0.12)
    assert abs(vacancy.average[centre, centre]) < 0.12
    off = np.hypot(*(np.mgrid[: model.patch_px, : model.patch_px] - centre)) > 0.8 * CRYSTAL.spacing
    assert np.abs(host.average - vacancy.average)[off].max() < 0.2


def test_numbers_and_priors_are_those_of_the_sites(model, scenes):
    judgements = [judged(model, scene) for scene in scenes]
    for name, kind in (("B vacancy", "vacancy"), ("A host", None)):
        entry = next(e for e in model.classes if e.name == name)
        if kind:
            assert entry.total == sum((j.kind == kind).sum() for j in judgements)
        here = sum((j.survey.sites.sublattice == entry.sublattice).sum() for j in judgements)
        assert entry.prior == pytest.approx(entry.total / here, rel=0.01)
    total = sum(e.total for e in model.classes)
    assert total == pytest.approx(sum(len(j.role) for j in judgements), abs=5)


def test_a_kind_has_the_prior_that_its_posteriors_are_made_with(model):
    # frames are put together by what each of them says beyond it
    for s, known in enumerate(model.sublattices):
        for class_id, weight in zip(known.class_ids[1:], known.mixture.weight[1:], strict=True):
            entry = model.entry(int(class_id))
            assert entry.sublattice != s or entry.prior == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("counts", [25, 100, 1000])
def test_a_perfect_crystal_has_no_defects(counts):
    sites = wrong = 0
    for seed in range(2):
        scenes = frames(100 + seed, 3, counts=counts)
        model = learnt(scenes)
        for scene in scenes:
            role = judged(model, scene).role
            sites += len(role)
            wrong += (role != "host").sum()
    assert sites > 6000
    assert wrong <= sites / 2000


def test_defects_are_found_on_a_square_lattice():
    crystal = square(13.0).turned(20)
    scenes = frames(3, 2, crystal, defects=[("vacancy", 0, 0.02, 0.0)], counts=80)
    model = learnt(scenes)
    for scene in scenes:
        j = judged(model, scene)
        np.testing.assert_array_equal(j.role == "defect", j.kind == "vacancy")


def test_defects_side_by_side_are_two():
    """What one takes from the patch of the other is accounted for."""
    scenes = frames(4, 3, defects=[("vacancy", 1, 0.08, 0.0), ("substitution", 0, 0.05, 0.6)], clear=0)
    model = learnt(scenes)
    defect = [e for e in model.classes if e.role == "defect"]
    assert len(defect) == 2
    wrong = sites = 0
    for scene in scenes:
        j = judged(model, scene)
        wrong += ((j.role == "defect") != (j.kind != "host")).sum()
        sites += len(j.role)
    assert wrong < sites / 500


def test_more_heights_on_one_sublattice_are_more_classes():
    defects = [("empty", 1, 0.02, 0.0), ("half", 1, 0.02, 0.22), ("heavy", 1, 0.02, 0.9)]
    scenes = frames(5, 3, defects=defects, clear=24)
    model = learnt(scenes)
    assert [e.sublattice for e in model.classes if e.role == "defect"] == [1, 1, 1]
    by_kind = {}
    for scene in scenes:
        j = judged(model, scene)
        for kind in ("empty", "half", "heavy"):
            by_kind.setdefault(kind, set()).update(j.best[j.kind == kind].tolist())
    assert all(len(found) == 1 for found in by_kind.values())
    assert len(set.union(*by_kind.values())) == 3


def test_a_rare_class_that_noise_hides_is_not_invented():
    """Columns five per cent dimmer, at a dose where that is one sigma."""
    scenes = frames(6, 3, counts=30, defects=[("dim", 0, 0.01, 0.95)])
    assert [e.role for e in learnt(scenes).classes] == ["host", "host"]


def test_contamination_that_dims_the_frame_slowly_is_no_defect():
    scenes = []
    for scene in frames(7, 2, counts=None, defects=[("vacancy", 1, 0.02, 0.0)]):
        fade = 1 - 0.25 * np.linspace(0, 1, SHAPE[1])
        image = np.random.default_rng(8).poisson(150 * scene.clean * fade).astype(np.float32)
        scenes.append(replace(scene, image=image))
    model = learnt(scenes)
    for scene in scenes:
        j = judged(model, scene)
        assert ((j.role == "defect") != (j.kind == "vacancy")).sum() <= 2


def test_the_same_frames_and_seed_give_the_same_model(scenes):
    first, second = learnt(scenes[:1], seed=3), learnt(scenes[:1], seed=3)
    assert [(e.name, e.total, e.prior) for e in first.classes] == [
        (e.name, e.total, e.prior) for e in second.classes
    ]
    np.testing.assert_array_equal(first.embedding, second.embedding)
    np.testing.assert_array_equal(first.embedding_class, second.embedding_class)


def test_classes_do_not_depend_on_the_order_of_the_sites(scenes, rng):
    lattice, zernike, surveys = surveyed(scenes[:1])
    templates = sublattice_templates(lattice, surveys[0].flat.scale, surveys[0].flat.noise, zernike)
    sites, moments = surveys[0].sites, surveys[0].moments
    order = rng.permutation(len(moments))

    def classes(rows):
        patches = gather_patches(
            [(moments[rows], sites.position[rows], sites.sublattice[rows], sites.cell[rows])],
            templates,
            SHAPE,
        )
        return discover(patches, templates)

    first, second = classes(np.arange(len(moments))), classes(order)
    amplitude, other = first.amplitude, second.amplitude
    for a, b in zip(first.sublattices, second.sublattices, strict=True):
        np.testing.assert_allclose(a.mixture.mean, b.mixture.mean, atol=1e-6)
        np.testing.assert_allclose(a.mixture.weight, b.mixture.weight, atol=1e-9)
    np.testing.assert_allclose(amplitude[order], other, atol=1e-6)
    kind = scenes[0].kind[nearest(scenes[0].position, sites.position)[1]]
    # nothing is between the columns
    kind[sites.sublattice >= len(CRYSTAL.columns)] = "host"
    assert not amplitude[kind == "host"].any()
    np.testing.assert_allclose(amplitude[kind == "vacancy"], -templates[1].height, rtol=0.25)


def test_numbers_of_classes_go_on_from_where_they_are_told(scenes):
    model = learnt(scenes[:1], first_class=40, version=7)
    assert model.version == 7
    assert [e.class_id for e in model.classes] == list(range(40, 40 + len(model.classes)))
    assert (
        judged(model, scenes[0]).role.tolist().count("defect")
        == (judged(model, scenes[0]).kind != "host").sum()
    )


def test_of_sites_that_are_not_alike_nothing_is_learnt_and_it_is_said():
    host = np.zeros(40, bool)
    host[:3] = True
    nothing: Any = None
    with pytest.raises(FloatingPointError, match="only 3 of 40 sites of one sublattice look alike"):
        _measured(nothing, nothing, np.arange(40), nothing, nothing, host)


@pytest.mark.parametrize(("height", "together"), [(0.95, True), (0.8, False)])
def test_sublattices_of_other_heights_learn_apart_however_alike_their_patches(rng, height, together):
    zernike = ZernikeDisk(10, 23)
    mean = rng.standard_normal(len(zernike.n_))
    mean /= np.linalg.norm(mean)
    whitening = 200.0 * np.eye(len(mean))
    templates = [
        SimpleNamespace(height=one, grain=0, directions_deg=np.array([0.0])) for one in (1.0, height)
    ]
    group = equivalent_sublattices(
        [mean, 1.05 * mean],
        [whitening, whitening],
        np.stack([zernike.n_, zernike.m_]),
        templates,  # type: ignore[arg-type]
    )
    assert group == ([0, 0] if together else [0, 1])
