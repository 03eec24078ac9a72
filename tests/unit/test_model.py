"""The learnt model: what it says of a frame, how sure it is, and how it changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from _crystal import honeycomb, judged, learnt, render
from latticewatch.discover import new_class
from latticewatch.errors import UnknownClassError
from latticewatch.model._neighbours import without_neighbours
from latticewatch.model._projection import doubt, doubts, project, scores_alone
from naive import doubt as naive_doubt

CRYSTAL = honeycomb(12.0).turned(7)
SHAPE = (288, 288)
DEFECTS = (("vacancy", 1, 0.02, 0.0), ("substitution", 0, 0.015, 0.6))


def frames(seed, n, **options):
    rng = np.random.default_rng(seed)
    settings = {"shape": SHAPE, "counts": 150, "clear": 40, "defects": DEFECTS, **options}
    return [render(CRYSTAL, rng, shift=rng.uniform(0, 12, 2), **settings) for _ in range(n)]


@pytest.fixture(scope="module")
def scene():
    return frames(0, 1)[0]


@pytest.fixture(scope="module")
def model():
    return learnt(frames(1, 2))


@pytest.fixture(scope="module")
def noisy():
    """Columns a quarter dimmer at a dose that hardly shows them: every frame judged, and the column of the class."""
    scenes = frames(2, 3, counts=25, shape=(320, 320), defects=[("dim", 0, 0.04, 0.75)], clear=30)
    model = learnt(scenes)
    (column,) = [k for k, e in enumerate(model.classes) if e.role == "defect"]
    return [judged(model, scene) for scene in scenes], column, model


def test_probabilities_of_a_site_sum_to_one(model, scene, noisy):
    for j in (judged(model, scene), *noisy[0]):
        posterior = j.verdict.posterior
        assert posterior.min() >= 0
        np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
        assert posterior.shape == (len(j.survey.sites), posterior.shape[1])


def test_every_class_of_the_catalogue_has_a_column(model, scene):
    posterior = judged(model, scene).verdict.posterior
    assert posterior.shape[1] == len(model.classes) + 1
    assert model.class_ids.tolist() == [e.class_id for e in model.classes] + [-1]


def test_a_site_is_never_of_a_class_of_another_sublattice(model, scene):
    j = judged(model, scene)
    for k, entry in enumerate(model.classes):
        other = j.survey.sites.sublattice != entry.sublattice
        assert j.verdict.posterior[other, k].max() == 0


def test_a_defect_called_with_confidence_is_one(noisy):
    judgements, column, _ = noisy
    chance = np.concatenate([j.verdict.posterior[:, column] for j in judgements])
    truth = np.concatenate([j.kind == "dim" for j in judgements])
    sure = chance >= 0.9
    assert sure.sum() > 40
    assert truth[sure].mean() >= 0.9
    # not by calling only the obvious ones
    assert sure.sum() > 0.5 * truth.sum()


def test_a_host_called_with_confidence_is_one(noisy):
    judgements, _, _ = noisy
    chance = np.concatenate([j.verdict.posterior[:, 0] for j in judgements])
    truth = np.concatenate([(j.kind == "host") & (j.survey.sites.sublattice == 0) for j in judgements])
    assert truth[chance >= 0.9].mean() > 0.99


def test_probabilities_add_up_to_the_number_of_defects(noisy):
    judgements, column, _ = noisy
    chance = np.concatenate([j.verdict.posterior[:, column] for j in judgements])
    truth = np.concatenate([j.kind == "dim" for j in judgements])
    assert chance.sum() == pytest.approx(truth.sum(), rel=0.15)
    middle = (chance > 0.1) & (chance < 0.9)
    assert middle.sum() > 20
    assert truth[middle].mean() == pytest.approx(chance[middle].mean(), abs=0.15)


def test_the_score_is_the_change_of_height_in_deviations_of_the_host(model, scene):
    j = judged(model, scene)
    for s, known in enumerate(model.sublattices[:2]):
        mine = j.survey.sites.sublattice == s
        height = j.verdict.score * known.filter.height_of_sigma / known.templates.height
        host = mine & (j.kind == "host")
        assert j.verdict.score[host].std() == pytest.approx(1, abs=0.1)
        assert height[host].mean() == pytest.approx(0, abs=0.01)
    # the local spread of the host is known to some six per cent
    assert height[mine & (j.kind == "vacancy")].mean() == pytest.approx(-1, abs=0.15)


def test_scores_are_rid_of_the_defects_next_door(model, scene):
    j = judged(model, scene)
    known = model.sublattices[0]
    mine = j.survey.sites.sublattice == 0
    beside = mine & (j.role == "neighbour")
    assert beside.sum() > 10
    # what they add is spread over both signs
    assert known.filter(j.survey.moments)[beside].std() > 1.4
    assert j.verdict.score[beside].std() == pytest.approx(1, abs=0.25)


def test_projections_are_those_of_the_moments(model, scene, rng):
    j = judged(model, scene)
    moments, index = j.patches.moments, j.patches.index
    amplitude = rng.normal(size=len(moments)) * (rng.random(len(moments)) < 0.1)
    for s, known in enumerate(model.sublattices):
        rows = np.flatnonzero(j.patches.sublattice == s)
        moved = replace(known, oddities=replace(known.oddities, mean=known.oddities.mean + 0.01))
        found = project(moments[rows], rows, moved)
        alone = without_neighbours(moments, amplitude, rows, index, known.templates.moments)
        # no change of occupancy shows in what is left
        np.testing.assert_allclose(found.residual, moved.oddities.residual(alone), atol=0.02)
        seen = (index[rows, : len(known.templates.neighbour)] >= 0).all(1)
        scores = scores_alone(found.height, amplitude, rows, index, found.response, found.gram)
        np.testing.assert_allclose(scores[seen], known.filter(alone)[seen], atol=0.01)
        each = doubts(known.templates, known.whitening)
        np.testing.assert_allclose(found.doubt, each)
        slow = naive_doubt(amplitude, rows, index, each)
        np.testing.assert_allclose(doubt(amplitude, rows, index, each), slow)


def test_classifying_changes_neither_model_nor_moments(model, scene):
    before = judged(model, scene)
    moments = before.patches.moments.copy()
    again = model.classify(before.patches)
    np.testing.assert_array_equal(before.patches.moments, moments)
    np.testing.assert_array_equal(before.verdict.posterior, again.posterior)


def test_a_frame_of_another_gain_and_background_is_classified_alike(model, scene):
    other = replace(scene, image=(scene.image * 2.5 + 1000).astype(np.float32))
    np.testing.assert_array_equal(judged(model, other).best, judged(model, scene).best)


def test_a_drifted_frame_is_classified_alike(model):
    for shift in ((3.3, -1.2), (31.0, 17.7)):
        rng = np.random.default_rng(9)
        j = judged(
            model, render(CRYSTAL, rng, shape=SHAPE, shift=shift, counts=150, defects=DEFECTS, clear=40)
        )
        np.testing.assert_array_equal(j.role == "defect", j.kind != "host")


def merged(model, kept, gone):
    classes = tuple(e for e in model.classes if e.class_id != gone)
    return replace(model, version=model.version + 1, classes=classes, alias={gone: kept})


def test_sites_of_a_merged_class_are_of_the_one_that_stayed(model, scene):
    first, second = (e.class_id for e in model.classes if e.role == "defect")
    before, after = judged(model, scene), judged(merged(model, first, second), scene)
    expected = np.where(before.best == second, first, before.best)
    host = before.role != "neighbour"
    np.testing.assert_array_equal(after.best[host], expected[host])
    np.testing.assert_allclose(after.verdict.posterior.sum(1), 1, atol=1e-5)


def test_neighbours_of_a_class_that_was_merged_away_are_still_neighbours(model, scene):
    """Two neighbour classes of one direction and defect become one."""
    first, second = [e.class_id for e in model.classes if e.role == "neighbour"][:2]
    before, after = judged(model, scene), judged(merged(model, first, second), scene)
    np.testing.assert_array_equal(after.best, np.where(before.best == second, first, before.best))


def test_a_class_that_is_not_there_is_named_with_those_that_are(model):
    with pytest.raises(UnknownClassError, match=r"class 999: .* there are 0, 1, 2"):
        model.entry(999)


def test_a_changed_entry_is_the_next_version(model):
    entry = replace(model.entry(2), name="sulphur vacancy")
    changed = model.with_entry(entry)
    assert changed.version == model.version + 1
    assert changed.entry(2).name == "sulphur vacancy"
    assert model.entry(2).name != "sulphur vacancy"
    assert [e.class_id for e in changed.classes] == [e.class_id for e in model.classes]


def test_the_layout_shows_every_class_that_was_seen(model):
    seen = {e.class_id for e in model.classes if e.total > 0}
    assert seen <= set(model.embedding_class.tolist())
    assert model.embedding.shape == (len(model.embedding_class), 2)
    assert np.isfinite(model.embedding).all()


# --- Classes that odd sites make ------------------------------------------------------------------------------


def blank_patch(size):
    return np.zeros((size, size), np.float32)


@pytest.mark.parametrize("height", [0.0, 0.3])
def test_odd_sites_that_are_alike_become_a_class(height):
    known = learnt(frames(1, 2, defects=()))
    later = frames(5, 3, defects=[("changed", 1, 0.02, height)])
    odd = []
    for scene in later:
        j = judged(known, scene)
        mine = (j.verdict.component == -1) & (j.survey.sites.sublattice == 1)
        assert (j.role[j.kind == "changed"] == "unknown").mean() > 0.8
        odd.append(j.verdict.score[mine])
    grown = new_class(known, 1, np.concatenate(odd), 17, blank_patch)
    assert grown is not None
    assert grown.version == known.version + 1
    entry = grown.entry(17)
    assert (entry.role, entry.sublattice) == ("defect", 1)
    of_sigma = known.sublattices[1].filter.height_of_sigma / known.sublattices[1].templates.height
    assert -entry.separation * of_sigma == pytest.approx((height - 0.45) / 0.45, abs=0.15)
    assert (entry.name == "B vacancy") == (height == 0)
    assert entry.average.shape == (known.patch_px, known.patch_px)
    found = missed = 0
    for scene in later:
        j = judged(grown, scene)
        assert not (j.best[j.kind == "host"] == 17).any()
        found += (j.best[j.kind == "changed"] == 17).sum()
        missed += (j.best[j.kind == "changed"] != 17).sum()
        np.testing.assert_allclose(j.verdict.posterior.sum(1), 1, atol=1e-5)
    assert found > 25
    assert missed <= 3


def test_odd_sites_that_are_like_the_host_or_a_class_are_no_class(model, rng):
    for odd in (
        rng.normal(size=50),
        # those of a class that there is
        model.sublattices[1].mixture.mean[1] + rng.normal(size=50),
    ):
        assert new_class(model, 1, odd, 99, blank_patch) is None


def test_a_new_class_leaves_the_old_ones_as_they_were(model, scene, rng):
    grown = new_class(model, 1, 40 + rng.normal(size=20), 99, blank_patch)
    assert grown is not None
    assert len(grown.classes) == len(model.classes) + 1
    np.testing.assert_array_equal(judged(grown, scene).best, judged(model, scene).best)
    assert len(model.sublattices[1].class_ids) == 2
    mixture = grown.sublattices[1].mixture
    assert mixture.weight.sum() + mixture.background == pytest.approx(1, abs=1e-6)


def test_a_new_class_is_named_after_its_change_of_height(model, rng):
    known = model.sublattices[1]
    height = known.filter.height_of_sigma / known.templates.height
    grown = new_class(model, 1, 40 + 0.1 * rng.normal(size=20), 98, blank_patch)
    assert grown is not None
    assert grown.entry(98).name == f"B {100 * 40 * height:+.0f} %"
    taken = model.with_entry(replace(model.entry(2), name=grown.entry(98).name))
    again = new_class(taken, 1, 40 + 0.1 * rng.normal(size=20), 98, blank_patch)
    assert again is not None
    assert again.entry(98).name == f"{grown.entry(98).name} (2)"
