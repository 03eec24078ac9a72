"""The same sites in several frames: known again after any drift, and averaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from _crystal import honeycomb, judged, learnt, nearest, render, surveyed
from latticewatch.discover._averages import average_sites
from latticewatch.model import gather_patches
from latticewatch.model._mixture import Mixture, rescaled
from latticewatch.model._templates import sublattice_templates

SHAPE = (320, 320)
CRYSTAL = honeycomb(16.0).turned(9)
DEFECTS = (("vacancy", 1, 0.03, 0.03), ("bright", 1, 0.02, 1.0))


def frames(shifts, *, counts=150.0, defects=DEFECTS, seed=3):
    """Frames of one specimen that lies elsewhere in each, with noise of their own."""
    out = []
    for number, shift in enumerate(shifts):
        rng = np.random.default_rng(seed)
        # the same columns are defects whatever part of the specimen is in view
        whole = render(
            CRYSTAL, rng, shape=(480, 480), counts=None, defects=defects, clear=1.5 * CRYSTAL.spacing
        )
        low = np.array([80, 80]) - np.rint(shift).astype(int)
        window = tuple(slice(a, a + n) for a, n in zip(low, SHAPE, strict=True))
        noise = np.random.default_rng([seed, number])
        image = noise.poisson(counts * whole.clean[window]).astype(np.float32)
        out.append(replace(whole, image=image, clean=whole.clean[window], position=whole.position - low))
    return out


def gathered(scenes):
    lattice, zernike, surveys = surveyed(scenes)
    templates = sublattice_templates(lattice, surveys[0].flat.scale, surveys[0].flat.noise, zernike)
    columns = [s.sites.sublattice < len(CRYSTAL.columns) for s in surveys]
    parts = [
        (s.moments[on], s.sites.position[on], s.sites.sublattice[on], s.sites.cell[on])
        for s, on in zip(surveys, columns, strict=True)
    ]
    return gather_patches(parts, templates, SHAPE), templates


@pytest.mark.parametrize("drift", [(0.0, 0.0), (5.0, -3.0), (9.0, 8.0), (-41.0, 33.0)])
def test_a_site_is_known_again_after_any_drift(drift):
    scenes = frames([np.multiply(drift, k) for k in range(2)])
    patches, templates = gathered(scenes)
    averages = average_sites(patches, templates)
    assert averages is not None
    assert averages.n_frames == 2
    columns = []
    for number, scene in enumerate(scenes):
        rows = np.flatnonzero((patches.frame == number) & (averages.site >= 0))
        order = np.argsort(averages.site[rows])
        distance, column = nearest(scene.position, patches.position[rows[order]])
        assert distance.max() < 0.2 * CRYSTAL.spacing
        columns.append(column)
    np.testing.assert_array_equal(columns[0], columns[1])
    shared = np.prod(1 - np.abs(drift) / np.array(SHAPE))
    assert len(averages.patches.moments) > 0.8 * shared * (patches.frame == 0).sum()


def test_the_average_is_that_of_the_moments_and_its_neighbours_are_the_same():
    patches, templates = gathered(frames([(0, 0), (4, 6), (-7, 2)]))
    averages = average_sites(patches, templates)
    assert averages is not None
    for site in range(0, len(averages.patches.moments), 17):
        rows = np.flatnonzero(averages.site == site)
        assert sorted(patches.frame[rows].tolist()) == [0, 1, 2]
        np.testing.assert_allclose(
            averages.patches.moments[site], patches.moments[rows].mean(0), rtol=1e-4, atol=1e-6
        )
        first = rows[patches.frame[rows] == 0][0]
        around = patches.index[first]
        expected = np.where(around >= 0, averages.site[np.maximum(around, 0)], around)
        np.testing.assert_array_equal(averages.patches.index[site], expected)


def test_frames_in_which_nothing_tells_one_cell_from_another_are_not_averaged():
    patches, templates = gathered(frames([(0, 0), (3, 4)], defects=()))
    assert average_sites(patches, templates) is None


def test_frames_of_another_place_are_not_averaged():
    patches, templates = gathered([*frames([(0, 0)], seed=3), *frames([(0, 0)], seed=11)])
    assert average_sites(patches, templates) is None


def test_one_frame_is_not_averaged():
    patches, templates = gathered(frames([(0, 0)]))
    assert average_sites(patches, templates) is None


FAINT = (("faint", 1, 0.04, 0.25), ("bright", 1, 0.02, 1.4))


def test_a_class_that_no_single_frame_shows_is_found_in_several():
    scenes = frames([(k, -2 * k) for k in range(6)], counts=5.0, defects=FAINT)
    alone, several = learnt(scenes[:1]), learnt(scenes)
    number = [sum(entry.role == "defect" for entry in model.classes) for model in (alone, several)]
    assert number == [1, 2]
    faint = min((e for e in several.classes if e.role == "defect"), key=lambda e: e.separation)
    # in a single frame, which is what the model classifies
    assert 1.0 < faint.separation < 3.0
    there = sum((judged(several, scene).kind == "faint").sum() for scene in scenes)
    assert faint.total == pytest.approx(there, rel=0.2)


def test_probabilities_of_single_frames_are_calibrated_beside_a_faint_class():
    scenes = frames([(k, -2 * k) for k in range(6)], counts=5.0, defects=FAINT)
    model = learnt(scenes)
    chance, true = [], []
    for scene in scenes:
        found = judged(model, scene)
        column = next(
            k
            for k, e in enumerate(model.classes)
            if e.role == "defect" and e.separation < 3.0 and e.sublattice == 1
        )
        mine = found.survey.sites.sublattice == 1
        chance.append(found.verdict.posterior[mine, column])
        true.append(found.kind[mine] == "faint")
    chance, true = np.concatenate(chance), np.concatenate(true)
    assert chance.sum() == pytest.approx(true.sum(), rel=0.35)
    likely = chance > 0.3
    assert true[likely].mean() == pytest.approx(chance[likely].mean(), abs=0.2)


def test_rescaled_classes_keep_their_heights_and_their_own_spread():
    noise, own = 1.0, np.array([0.0, 0.4, 1.2])
    mixture = Mixture(
        np.array([0.1, -6.1, 12.1]), np.hypot(noise, own), np.array([0.9, 0.06, 0.03]), 0.01, 20.0
    )
    there = rescaled(mixture, 0.5, np.array([-4.0, 7.0]))
    np.testing.assert_allclose(there.mean - there.mean[0], 0.5 * (mixture.mean - mixture.mean[0]))
    np.testing.assert_allclose(there.deviation**2, noise**2 + (0.5 * own) ** 2)
    np.testing.assert_array_equal(there.weight, mixture.weight)
    assert there.span == pytest.approx(11.0 + 6 * noise)
