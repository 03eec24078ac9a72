"""What is no specimen: faults of the detector are mended, borders, bars and dirt are masked, and all of it is told."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import mend, touched
from latticewatch.pipeline import ROLES, Learner, analyse

SETTINGS = AnalysisSettings(learning_frames=1)


@pytest.fixture
def scene(rng):
    crystal = honeycomb(16.0, (1.0, 0.5)).turned(rng.uniform(0, 60))
    return render(crystal, rng, shape=(256, 256), counts=300, defects=(("vacant", 1, 0.02, 0.0),))


def counts(image):
    return np.clip(np.rint(20 * image + 400), 0, 65535).astype(np.uint16)


def folded(image):
    learner = Learner(SETTINGS)
    return learner.fold(analyse(Frame(image), None, SETTINGS))[-1]


def defects_of(result):
    return result.sites.position[result.sites.role == ROLES.index("defect")]


def codes(result):
    return {note.code for note in result.notes}


@pytest.mark.parametrize("value", [0, 65535])
def test_faulty_pixels_are_mended_and_counted(rng, scene, value):
    image = counts(scene.image).astype(np.float32) + (0 if value else 20_000)
    before = image.copy()
    places = rng.permutation(254 * 254)[:30]
    rows, cols = places // 254 + 1, places % 254 + 1
    image[rows, cols] = value
    specimen = mend(image)
    assert specimen.mask is None
    assert [n.code for n in specimen.notes] == ["pixels-mended"]
    assert "30 pixels" in specimen.notes[0].text
    assert np.abs(specimen.image - before)[rows, cols].max() < 0.5 * np.ptp(before)


def test_a_clean_frame_is_left_as_it_is(scene):
    for image in (counts(scene.image).astype(np.float32), scene.image):
        specimen = mend(image.copy())
        np.testing.assert_array_equal(specimen.image, image)
        assert (specimen.mask, specimen.notes) == (None, ())


@pytest.mark.parametrize("electrons", [0.02, 0.1, 0.5, 5.0])
def test_few_counts_are_no_faults(rng, electrons):
    image = rng.poisson(electrons, (300, 280)).astype(np.float32)
    specimen = mend(image.copy())
    np.testing.assert_array_equal(specimen.image, image)
    assert specimen.mask is None


@pytest.mark.parametrize("axis", [0, 1])
def test_a_line_that_does_not_belong_is_mended(scene, axis):
    image = counts(scene.image).astype(np.float32)
    np.moveaxis(image, axis, 0)[101] = 9000
    specimen = mend(image)
    assert "1 line " in specimen.notes[0].text
    assert specimen.image.max() < 9000


@pytest.mark.parametrize("kind", ["zero", "constant", "NaN"])
def test_a_border_is_no_specimen(scene, kind):
    image = counts(scene.image).astype(np.float32)
    image[:17] = image[:, 240:] = {"zero": 0, "constant": 517, "NaN": np.nan}[kind]
    result = folded(image)
    assert "no-specimen" in codes(result)
    assert list(result.regions) == ["no-specimen"]
    assert result.regions["no-specimen"][:17].all()
    assert result.regions["no-specimen"].mean() < 0.2
    assert result.sites.position[:, 0].min() > 17
    assert result.sites.position[:, 1].max() < 240
    for place in defects_of(result):
        at = np.hypot(*(scene.position - place).T).argmin()
        assert scene.kind[at] == "vacant"


def test_a_scale_bar_is_no_specimen(scene):
    image = counts(scene.image)
    image[225:233, 20:90] = 65535
    result = folded(image)
    assert "no-specimen" in codes(result)
    inside = (np.abs(result.sites.position - [229, 55]) < [6, 37]).all(1)
    assert not inside.any()


def test_contamination_is_a_region_not_defects(scene):
    rows, cols = np.mgrid[:256, :256]
    blob = 8.0 * np.exp(-0.5 * ((rows - 190) ** 2 + (cols - 60) ** 2) / 20**2)
    rng = np.random.default_rng(4)
    result = folded(counts(rng.poisson(300 * (scene.clean + blob))))
    assert "contamination" in codes(result)
    assert list(result.regions) == ["dirt"]
    assert result.regions["dirt"][190, 60]
    assert result.regions["dirt"].mean() < 0.3
    near = np.hypot(*(defects_of(result) - [190, 60]).T) < 60
    assert near.sum() <= 1
    assert len(defects_of(result)) > 1


def test_single_pixels_without_a_value_cost_no_site(rng, scene):
    image = scene.image.copy()
    image[rng.random(image.shape) < 0.02] = np.nan
    assert len(folded(image).sites) == pytest.approx(len(folded(scene.image).sites), abs=3)


def test_places_are_touched_by_what_is_within_their_square():
    mask = np.zeros((40, 50), bool)
    mask[20, 30] = True
    positions = np.array([[20.0, 30.0], [25.0, 35.0], [26.2, 30.0], [20.0, 23.0], [0.0, 0.0]])
    np.testing.assert_array_equal(touched(positions, mask, 5.0), [True, True, False, False, False])
