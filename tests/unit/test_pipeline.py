"""The pipeline on simulated frames of known truth: analysis without memory, and the learner that has it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch

import numpy as np
import pytest
from scipy.spatial import KDTree

import naive
from latticewatch.config import AnalysisSettings
from latticewatch.discover import OddPool, OddTrack
from latticewatch.discover._pool import FRAMES_NEEDED, MAX_TRACKS
from latticewatch.errors import FileError, UnknownClassError
from latticewatch.ingest import Frame
from latticewatch.model import Mixture, Model
from latticewatch.pipeline import (
    ROLES,
    Analysis,
    Classified,
    EventDraft,
    FrameResult,
    Learner,
    Surveyed,
    analyse,
    read_model,
    write_model,
)
from latticewatch.pipeline._follow import (
    FELT_SIGMA,
    FRAMES_TOGETHER,
    ClassStatistics,
    Sums,
    _followed,
    _growth,
    add_up,
)
from latticewatch.pipeline._picture import counts_and_picture, picture_of
from latticewatch.pipeline._sight import LOST_FRAMES, OTHER_FRAMES
from latticewatch_simulator import FrameTruth, Microscope, SimulatedFrame, SimulatorSettings

PIXEL_NM = 0.02
SETTINGS = AnalysisSettings(learning_frames=2)
# Patches of these frames are 21 px wide: nearer to the edge there are no sites.
MARGIN_PX = 14
TOLERANCE_PX = 2.0
# Intensities that the simulator gives them differ from the host's by many standard deviations at this dose.
DOSE = 2e5
# Of a corner, where that is enough.
SIDE = 240


def microscope(**changed) -> Microscope:
    settings: dict = {
        "shape": (400, 400),
        "pixel_size_nm": PIXEL_NM,
        "births_per_frame": 0.0,
        "dose_e_per_a2": DOSE,
        "seed": 3,
    }
    return Microscope(SimulatorSettings.checked(**(settings | changed)), "specimen A")


def frame_of(image: np.ndarray, number: int, series_id: str = "specimen A") -> Frame:
    image = image.copy()
    image.flags.writeable = False
    return Frame(
        image,
        series_id=series_id,
        number=number,
        ordinal=number,
        t_received=1.7e9 + number,
        pixel_size_nm=PIXEL_NM,
        stage_nm=(100.0, -50.0),
    )


def fold(learner: Learner, images: Iterable[np.ndarray], first: int = 0, **fields) -> list[list[FrameResult]]:
    """Fold images as frames that follow one another; what each fold returned."""
    return [
        learner.fold(analyse(frame_of(image, first + n, **fields), learner.model, learner.settings))
        for n, image in enumerate(images)
    ]


def events_of(folded: Sequence[Sequence[FrameResult]], kind: str) -> list[EventDraft]:
    """Events of a type, or of a family such as ``defect.*``."""
    every = [event for results in folded for result in results for event in result.events]
    return [event for event in every if fnmatch(event.type, kind)]


def true_defects(truth: FrameTruth, margin: float = MARGIN_PX) -> np.ndarray:
    return truth.positions_px()[truth.inside(margin) & truth.is_defect()]


def reported(result: FrameResult, margin: float = 0.0) -> np.ndarray:
    """Positions of the sites of role defect, at least so far from the edges."""
    position = result.sites.position[result.sites.role == ROLES.index("defect")].astype(float)
    last = np.array(result.shape) - 1 - margin
    return position[((position >= margin) & (position <= last)).all(1)]


def inner(events: Sequence[EventDraft]) -> list[EventDraft]:
    """Events of defects that drift did not bring into view just now."""
    return [event for event in events if event.data.edge_distance_nm > (MARGIN_PX + 2) * PIXEL_NM]  # type: ignore[union-attr]


def missed(wanted: np.ndarray, among: np.ndarray) -> int:
    """How many positions have no other within the tolerance."""
    if not len(among):
        return len(wanted)
    return int((KDTree(among).query(wanted)[0] > TOLERANCE_PX).sum())


def places(events: Sequence[EventDraft]) -> np.ndarray:
    return np.array([(e.data.px.row, e.data.px.col) for e in events]).reshape(-1, 2)  # type: ignore[union-attr]


def same(one: Analysis, other: Analysis) -> bool:
    equal = np.array_equal(one.sites.position, other.sites.position) and one.notes == other.notes
    equal &= np.array_equal(one.picture, other.picture)
    if isinstance(one, Classified) and isinstance(other, Classified):
        equal &= np.array_equal(one.survey.moments, other.survey.moments)
        equal &= np.array_equal(one.verdict.posterior, other.verdict.posterior)
    return equal and type(one) is type(other)


@pytest.fixture(scope="module")
def frames() -> list[SimulatedFrame]:
    """A drifting specimen with four kinds of defect, none of which changes."""
    source = microscope()
    return [source.acquire() for _ in range(8)]


@pytest.fixture(scope="module")
def images(frames: list[SimulatedFrame]) -> list[np.ndarray]:
    return [frame.image for frame in frames]


@pytest.fixture(scope="module")
def after_learning(images: list[np.ndarray]) -> tuple[Learner, list[list[FrameResult]]]:
    """A learner that has just learnt, and what it returned; use a copy."""
    learner = Learner(SETTINGS)
    return learner, fold(learner, images[:2])


@pytest.fixture
def learner(after_learning: tuple[Learner, list[list[FrameResult]]]) -> Learner:
    return copy.deepcopy(after_learning[0])


@pytest.fixture
def model(learner: Learner):
    assert learner.model is not None
    return learner.model


@pytest.fixture(scope="module")
def folded(after_learning: tuple[Learner, list[list[FrameResult]]], images: list[np.ndarray]):
    """What each frame gave, from the first to the sixth."""
    learner, first = after_learning
    return first + fold(copy.deepcopy(learner), images[2:6], 2)


# analyse


@pytest.mark.parametrize("learnt", [False, True])
def test_the_same_frame_gives_the_same_analysis_in_any_thread(images, model, learnt):
    frame, known = frame_of(images[3], 3), model if learnt else None
    before = frame.image.copy()
    first = analyse(frame, known, SETTINGS)
    analyse(frame_of(images[4], 4), known, SETTINGS)
    with ThreadPoolExecutor(2) as pool:
        others = list(pool.map(lambda _: analyse(frame, known, SETTINGS), range(2)))
    assert isinstance(first, Classified) == learnt
    assert all(same(first, other) for other in others)
    assert np.array_equal(frame.image, before)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", ">i4", "float32", "float64", ">f8"])
def test_the_type_of_the_pixels_changes_nothing(images, model, dtype):
    expected = analyse(frame_of(images[3], 3), model, SETTINGS)
    assert same(expected, analyse(frame_of(images[3].astype(dtype), 3), model, SETTINGS))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int32", "float32", "float64"])
def test_the_picture_is_stretched_between_percentiles(rng, dtype):
    image = rng.poisson(50, (90, 70)).astype(dtype)
    image.flags.writeable = False
    known = image.astype(np.float32)
    low, high = (np.percentile(known, p, method="nearest") for p in (0.5, 99.8))
    expected = np.clip((known - low) * np.float32(255 / (high - low)), 0, 255).astype(np.uint8)
    counts, picture = counts_and_picture(image)
    np.testing.assert_array_equal(picture_of(image), picture)
    np.testing.assert_array_equal(counts, image)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(picture, expected)


def test_a_frame_of_one_value_is_a_dark_picture():
    assert not counts_and_picture(np.full((8, 8), 3, np.uint16))[1].any()


def test_gaps_are_filled_with_the_median(rng):
    image = rng.normal(7, 1, (31, 40))
    holes = rng.random(image.shape) < 0.1
    gapped = np.where(holes, rng.choice([np.nan, np.inf, -np.inf, 1e300], image.shape), image)
    counts, picture = counts_and_picture(gapped)
    filled = np.where(holes, np.median(image[~holes].astype(np.float32)), image.astype(np.float32))
    np.testing.assert_array_equal(counts, filled)
    np.testing.assert_array_equal(picture, counts_and_picture(filled)[1])
    assert not counts_and_picture(np.full((4, 5), np.nan))[0].any()


def test_eight_bits_are_enough(frames, model):
    image = counts_and_picture(frames[3].image)[1]
    found = analyse(frame_of(image, 3), None, SETTINGS)
    expected = analyse(frame_of(frames[3].image, 3), None, SETTINGS)
    assert found.lattice is not None
    assert expected.lattice is not None
    assert found.lattice.nearest_neighbour_px == pytest.approx(
        expected.lattice.nearest_neighbour_px, rel=1e-3
    )
    distance, _ = KDTree(found.sites.position).query(expected.sites.position)
    assert np.mean(distance < 0.5) > 0.99


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf])
def test_gaps_in_a_frame_leave_the_sites_elsewhere_alone(frames, model, rng, gap):
    image = frames[3].image.astype(np.float32)
    rows, cols = rng.integers(0, 400, (2, 40))
    image[rows, cols] = gap
    found = analyse(frame_of(image, 3), model, SETTINGS)
    expected = analyse(frame_of(frames[3].image, 3), model, SETTINGS)
    assert isinstance(found, Classified)
    assert isinstance(expected, Classified)
    assert np.isfinite(found.verdict.posterior).all()
    assert len(found.sites) == len(expected.sites)
    assert np.abs(found.sites.position - expected.sites.position).max() < 0.2
    agree = found.verdict.posterior.argmax(1) == expected.verdict.posterior.argmax(1)
    assert agree.mean() > 0.95


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize(
    "image",
    [np.full((400, 400), np.nan), np.zeros((400, 400), np.uint16), np.full((16, 16), 7, np.uint8)],
    ids=["all missing", "dark", "small"],
)
def test_a_frame_without_a_lattice_says_so(model, image, learnt):
    analysis = analyse(frame_of(image, 0), model if learnt else None, SETTINGS)
    assert [note.code for note in analysis.notes] == ["no-lattice"]
    assert "no lattice" in analysis.notes[0].text
    assert isinstance(analysis, Surveyed)
    assert analysis.lattice is analysis.phase_field is None
    assert len(analysis.sites) == 0
    assert analysis.picture.shape == image.shape


def test_noise_is_not_a_lattice(rng):
    analysis = analyse(frame_of(rng.poisson(100, (400, 400)).astype(np.uint16), 0), None, SETTINGS)
    assert [note.code for note in analysis.notes] == ["no-lattice"]
    assert isinstance(analysis, Surveyed)
    assert analysis.lattice is None


def test_patches_have_the_size_that_was_asked_for(images):
    learner = Learner(AnalysisSettings(learning_frames=1, patch_size=35))
    ((result,),) = fold(learner, images[:1])
    assert {entry.average.shape for entry in result.classes} == {(35, 35)}
    low, high = result.sites.position.min(), (np.array(result.shape) - result.sites.position).min()
    assert min(low, high) >= 35 / 2 - 1


@pytest.mark.parametrize("learnt", [False, True])
def test_a_frame_into_which_no_patch_fits_says_so(images, model, learnt):
    # a model that was learnt from larger frames, or a size that was asked for
    settings = AnalysisSettings(patch_size=239)
    known = replace(model, patch_px=239) if learnt else None
    analysis = analyse(frame_of(images[3][:SIDE, :SIDE], 0), known, settings)
    (note,) = analysis.notes
    assert "no patch of 239 px lies within 240 x 240 px" in note.text.lower()
    assert isinstance(analysis, Surveyed)
    assert analysis.lattice is None


# Learning


def test_frames_gathered_come_again_with_classes_and_events(folded):
    assert [len(results) for results in folded] == [1, 2, 1, 1, 1, 1]
    (alone,), (first, second) = folded[:2]
    assert (alone.number, first.number, second.number) == (0, 0, 1)
    assert (alone.learning, first.learning) == ((1, 2), (2, 2))
    assert not alone.classes
    assert not alone.events
    assert set(alone.sites.class_id) == {-1}
    assert (alone.model_version, first.model_version) == (0, 1)
    assert [event.type for event in first.events[: 1 + len(first.classes)]] == [
        "model.updated",
        *["class.discovered"] * len(first.classes),
    ]


def test_every_kind_of_defect_and_no_host_is_reported_in_every_frame(frames, folded):
    kinds = Counter()
    for frame, result in zip(frames, [folded[1][0], folded[1][1], *(r[0] for r in folded[2:])], strict=False):
        truth = frame.truth
        wanted = true_defects(truth)
        assert len(wanted) > 30
        assert missed(wanted, reported(result)) == 0
        assert missed(reported(result, MARGIN_PX), true_defects(truth, 0)) == 0
        kinds.update(truth.names[s] for s in truth.species[truth.inside(MARGIN_PX) & truth.is_defect()])
    assert set(kinds) == {"Fe", "Te+S", "S1", "V_S2"}


def test_a_defect_appears_once_where_it_is(frames, folded):
    appeared = events_of(folded, "defect.appeared")
    # drift carries some defects across the edge of the part in which there are sites
    drift = np.abs(frames[5].truth.shift_px).max() + MARGIN_PX
    assert missed(true_defects(frames[0].truth, drift), places(appeared)) == 0
    assert len({event.data.track for event in appeared}) == len(appeared)
    assert not events_of(folded, "defect.disappeared")
    assert not events_of(folded, "defect.moved")
    assert not events_of(folded, "defect.reclassified")


def test_an_event_says_where_the_defect_is_in_every_coordinate(folded):
    for event in events_of(folded, "defect.appeared"):
        data = event.data
        assert data.nm.x == pytest.approx(data.px.col * PIXEL_NM)
        assert data.nm.y == pytest.approx(data.px.row * PIXEL_NM)
        # the stage position is that of the frame's centre
        assert data.stage_nm.x - 100.0 == pytest.approx((data.px.col - 199.5) * PIXEL_NM)
        assert data.stage_nm.y + 50.0 == pytest.approx((data.px.row - 199.5) * PIXEL_NM)
        nearest = min(data.px.row, data.px.col, 399 - data.px.row, 399 - data.px.col)
        assert data.edge_distance_nm == pytest.approx(nearest * PIXEL_NM)
        assert (data.role, data.model_version) == ("defect", 1)
        assert 0.9 < data.confidence <= 1


def test_drift_is_followed(frames, folded):
    result, truth = folded[5][0], frames[5].truth
    moved = np.array(truth.shift_px) - np.array(frames[0].truth.shift_px)
    assert np.array(result.drift_px) == pytest.approx(-moved, abs=0.1)
    # The stage stood still.
    assert result.specimen_drift_px == pytest.approx(result.drift_px)
    assert 0 < result.sigma_px < 1


def test_a_site_keeps_its_track(frames, folded):
    first, last = folded[1][0].sites, folded[5][0].sites
    shift = np.array(frames[5].truth.shift_px) - np.array(frames[0].truth.shift_px)
    distance, partner = KDTree(last.position).query(first.position - shift)
    near = distance < 1.0
    assert near.sum() > 900
    assert np.mean(first.track[near] == last.track[partner[near]]) > 0.999


def test_a_class_that_no_site_was_given_is_not_believed_in_everywhere():
    # found in what a service told that was killed again and again: 239 of 389 columns "B −30 %" after six frames
    specimen = {"material": "graphene", "shape": (192, 192), "pixel_size_nm": 0.025, "births_per_frame": 0.2}
    one = Microscope(
        SimulatorSettings.checked(**specimen, fps=8, lifetime_frames=40, settle_s=0.1, seed=0), "a"
    )
    learner = Learner(AnalysisSettings(learning_frames=5))
    results = fold(learner, [one.acquire().image for _ in range(6)])
    empty = [entry.class_id for entry in learner.model.classes if entry.role == "defect" and not entry.total]
    assert empty
    assert not np.isin(results[-1][-1].sites.class_id, empty).any()


def test_a_frame_without_a_lattice_does_not_count_as_learnt_from(images):
    learner = Learner(SETTINGS)
    dark = np.zeros((SIDE, SIDE), np.uint16)
    small = [image[:SIDE, :SIDE] for image in images[:2]]
    results = fold(learner, [dark, small[0], dark, small[1]])
    assert [len(r) for r in results] == [1, 1, 1, 2]
    assert [r[-1].learning[0] for r in results] == [0, 1, 1, 2]
    assert [r.number for r in results[-1]] == [1, 3]


def test_learning_can_end_early(images):
    learner = Learner(AnalysisSettings(learning_frames=5))
    assert learner.finish_learning() == []
    fold(learner, [images[0][:SIDE, :SIDE]])
    (result,) = learner.finish_learning()
    assert result.classes
    assert events_of([[result]], "defect.appeared")
    assert learner.finish_learning() == []


def test_learning_starts_over_with_frames_of_another_shape(images):
    learner = Learner(SETTINGS)
    results = fold(learner, [images[0], images[1][:220], images[2][:220]])
    assert [r[-1].learning[0] for r in results] == [1, 1, 2]
    assert [r.shape for r in results[-1]] == [(220, 400)] * 2
    assert learner.model is not None


def test_orientations_are_one_class_where_that_is_asked_for(images, model):
    invariant = Learner(SETTINGS.model_copy(update={"invariant": True}))
    fold(invariant, images[:2])
    assert invariant.model is not None

    def named(classes, role):
        return [entry.name for entry in classes if entry.role == role]

    arrows = named(model.classes, "neighbour")
    assert all(name[-1] in "→↗↑↖←↙↓↘" for name in arrows)
    motifs = {name[:-2] for name in arrows}
    assert set(named(invariant.model.classes, "neighbour")) == motifs
    # each motif has three mirror images or turned ones
    assert len(arrows) == 3 * len(motifs)
    assert named(invariant.model.classes, "defect") == named(model.classes, "defect")


def test_the_same_seed_learns_the_same_model(images, model):
    again = Learner(SETTINGS)
    fold(again, images[:2])
    assert again.model is not None
    assert np.array_equal(again.model.embedding, model.embedding)
    for one, other in zip(again.model.classes, model.classes, strict=True):
        assert (one.name, one.total, one.prior) == (other.name, other.total, other.prior)
        assert np.array_equal(one.average, other.average)


# Frames that do not fit


def test_a_frame_without_a_lattice_between_others_is_survived(learner, images):
    before = learner.model
    fold(learner, images[2:4], 2)
    results = fold(learner, [np.zeros_like(images[0]), *images[4:6]], 4)
    dark, *after = [r[0] for r in results]
    assert not dark.lattice_found
    assert [(note.code, note.since_frame) for note in dark.notes] == [("no-lattice", 4)]
    assert len(dark.sites) == 0
    assert learner.model is before
    for result in after:
        assert result.lattice_found
        assert not result.events


def test_an_analysis_with_an_older_model_is_brought_up_to_date(images):
    learner = Learner(SETTINGS)
    small = [image[:SIDE, :SIDE] for image in images[:4]]
    early = [analyse(frame_of(image, n), None, SETTINGS) for n, image in enumerate(small)]
    results = [learner.fold(analysis) for analysis in early]
    assert [len(r) for r in results] == [1, 2, 1, 1]
    assert all(r[-1].classes for r in results[1:])
    assert (results[3][0].sites.class_id >= 0).mean() > 0.9


def test_a_frame_that_comes_again_while_learning_is_learnt_from_once(images):
    once, again = Learner(AnalysisSettings(learning_frames=1)), Learner(AnalysisSettings(learning_frames=3))
    fold(once, images[:1])
    results = fold(again, [images[0]] * 3)
    assert [len(r) for r in results] == [1, 1, 3]
    assert [e.name for e in again.model.classes] == [e.name for e in once.model.classes]
    assert [e.total for e in again.model.classes] == [e.total for e in once.model.classes]


def test_another_lattice_is_learnt_after_a_while(learner, model):
    other = microscope(material="MoSe2", rotation_deg=17.0, pixel_size_nm=0.018, seed=5)
    images = [other.acquire().image for _ in range(3)]
    n = LOST_FRAMES + OTHER_FRAMES - 1
    results = fold(learner, [images[0]] * n, 2)
    assert all(not r[0].lattice_found and r[0].notes for r in results[:-1])
    assert learner.model is None
    paused, resumed, forgotten = learner.take_events()
    assert (paused.type, resumed.type) == ("stream.paused", "stream.resumed")
    assert forgotten.type == "model.updated"
    assert forgotten.data.n_classes == 0
    assert forgotten.data.model_version > model.version
    results = fold(learner, images[1:], 2 + n)
    assert learner.model is not None
    assert learner.model.version > forgotten.data.model_version
    assert results[-1][-1].classes
    assert {e.class_id for e in learner.model.classes}.isdisjoint(e.class_id for e in model.classes)


@pytest.mark.parametrize("n", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_a_blanked_beam_is_a_pause_and_nothing_is_forgotten(learner, images, n):
    fold(learner, images[2:4], 2)
    (before,) = fold(learner, images[4:5], 4)[-1]
    learner.take_events()
    dark = fold(learner, [np.zeros_like(images[0])] * n, 5)
    paused = learner.take_events()
    assert [event.type for event in paused] == ["stream.paused"]
    assert not [event for r in dark for event in r[0].events]
    (after,) = fold(learner, images[5:6], 5 + n)[-1]
    resumed = [*learner.take_events(), *after.events]
    assert [event.type for event in resumed] == ["stream.resumed"]
    assert [(e.class_id, e.name) for e in after.classes] == [(e.class_id, e.name) for e in before.classes]
    defects = [set(r.sites.track[r.sites.role == 1].tolist()) for r in (before, after)]
    assert len(defects[0] & defects[1]) >= 0.8 * len(defects[0])


def test_a_lattice_seen_before_brings_back_its_classes_and_names(learner, images):
    named = learner.model.classes[-1].class_id
    learner.rename(named, "what I call it")
    before = [(e.class_id, e.name) for e in learner.model.classes]
    other = microscope(material="MoSe2", rotation_deg=17.0, pixel_size_nm=0.018, seed=5)
    n = LOST_FRAMES + OTHER_FRAMES + 2
    fold(learner, [other.acquire().image for _ in range(n)], 2)
    assert learner.model is not None
    assert {e.class_id for e in learner.model.classes}.isdisjoint(i for i, _ in before)
    fold(learner, [images[2 + k % 3] for k in range(LOST_FRAMES)], 2 + n)
    assert [(e.class_id, e.name) for e in learner.model.classes] == before


def test_a_restart_goes_on_with_the_same_classes_names_and_tracks(learner, images):
    fold(learner, images[2:4], 2)
    learner.rename(learner.model.classes[-1].class_id, "what I call it")
    (before,) = fold(learner, images[4:5], 4)[-1]
    again = Learner(SETTINGS)
    again.restore(learner.kept())
    ((after,),) = fold(again, images[5:6], 5)
    ((same,),) = fold(learner, images[5:6], 5)
    for name in ("class_id", "role", "confidence", "track"):
        assert np.array_equal(getattr(after.sites, name), getattr(same.sites, name))
    assert [(e.class_id, e.name, e.total) for e in after.classes] == [
        (e.class_id, e.name, e.total) for e in same.classes
    ]
    assert after.model_version >= before.model_version
    told = [event for event in after.events if event.type == "defect.appeared"]
    known = set(before.sites.track.tolist())
    assert not [event for event in told if event.data.track in known]


def test_what_follows_the_classes_and_what_is_odd_outlive_a_restart(learner, images):
    fold(learner, images[2:5], 2)
    again = Learner(SETTINGS)
    again.restore(learner.kept())
    one, other = vars(learner._following.statistics), vars(again._following.statistics)
    assert other["_frames"] == one["_frames"] > 0
    assert other["_totals"] == one["_totals"] != {}
    for mine, theirs in zip(one["_sums"], other["_sums"], strict=True):
        assert np.array_equal(mine.square, theirs.square)
    mine, theirs = one["_pool"]._tracks, other["_pool"]._tracks
    assert {k: (t.frames, t.score) for k, t in mine.items()} == {
        k: (t.frames, t.score) for k, t in theirs.items()
    }


def test_a_model_with_odd_classes_is_kept(learner, model):
    from latticewatch.estimators import NearestCentroid

    known = model.sublattices[0]
    classifier = NearestCentroid.from_centroids([[0.0], [9.0]], [9, 1], contamination=0.01)
    odd = replace(
        known.oddities, axes=np.ones((known.oddities.projection.shape[1], 1)), classifier=classifier
    )
    learner._force.model = replace(model, sublattices=(replace(known, oddities=odd), *model.sublattices[1:]))
    again = Learner(SETTINGS)
    again.restore(learner.kept())
    came_back = again.model.sublattices[0].oddities.classifier
    rows = np.array([[-1.0], [4.0], [8.0]])
    assert np.array_equal(came_back.predict(rows), classifier.predict(rows))


def test_numbers_are_not_given_again_though_what_was_kept_cannot_be_read(learner, images):
    fold(learner, images[2:4], 2)
    given = {entry.class_id for entry in learner.model.classes}
    tracks = learner._tracker.next_track
    again = Learner(SETTINGS)
    kept = learner.kept() | {"model": b"damaged"}
    with pytest.raises(FileError):
        again.restore(kept)
    again.number_on(kept)
    results = fold(again, images[:2], 0)
    assert given.isdisjoint(entry.class_id for entry in again.model.classes)
    told = [int(t) for t in results[-1][-1].sites.track if t >= 0]
    assert min(told) >= tracks
    assert results[-1][-1].epoch == learner._tracker.epoch + 1


def test_an_epoch_ends_when_tracks_begin_anew_and_not_at_a_restart(learner, images):
    (first,) = learner.fold(analyse(frame_of(images[2], 2), learner.model, SETTINGS))
    again = Learner(SETTINGS)
    again.restore(learner.kept())
    (same,) = again.fold(analyse(frame_of(images[3], 3), again.model, SETTINGS))
    assert same.epoch == first.epoch
    assert set(first.sites.track) & set(same.sites.track) - {-1}
    (other,) = again.fold(analyse(frame_of(images[3], 0, "specimen B"), again.model, SETTINGS))
    assert other.epoch == first.epoch + 1
    assert not set(same.sites.track) & set(other.sites.track) - {-1}
    told = [event.data.epoch for event in other.events if event.type.startswith("defect.")]
    assert set(told) == {other.epoch}
    again.relearn()
    relearnt = fold(again, images[:2], 4)[-1][-1]
    # No track was numbered between the two reasons to begin anew.
    assert relearnt.epoch == other.epoch + 1


def test_tracks_that_were_kept_before_there_were_epochs_are_of_the_first(learner, images):
    for name in ("_epoch", "_epoch_begins_with"):
        learner._tracker.__dict__.pop(name, None)
    again = Learner(SETTINGS)
    again.restore(learner.kept())
    (result,) = again.fold(analyse(frame_of(images[2], 2), again.model, SETTINGS))
    assert result.epoch == 1


def test_a_model_of_another_day_goes_on_with_its_classes_and_names(learner, images):
    fold(learner, images[2:4], 2)
    learner.rename(learner.model.classes[-1].class_id, "what I call it")
    saved = read_model(write_model(learner.model, "stream-a", 0.02))
    assert (saved.stream, saved.pixel_size_nm) == ("stream-a", 0.02)
    fresh = Learner(SETTINGS)
    fresh.start_from(saved.model)
    assert [(e.class_id, e.name) for e in fresh.model.classes] == [
        (e.class_id, e.name) for e in learner.model.classes
    ]
    ((now,),) = fold(fresh, images[4:5], 0)
    ((known,),) = fold(learner, images[4:5], 4)
    assert now.learning[0] == now.learning[1]
    assert np.mean(now.sites.class_id == known.sites.class_id) > 0.98


def test_classes_of_another_stream_get_numbers_that_nobody_has(learner, images):
    fold(learner, images[2:4], 2)
    other = learner.model
    learner.start_from(other)
    taken = {entry.class_id for entry in other.classes}
    assert taken.isdisjoint(entry.class_id for entry in learner.model.classes)
    assert [e.name for e in learner.model.classes] == [e.name for e in other.classes]
    # every number that the model names is that of one of its classes
    ((result,),) = fold(learner, images[4:5], 4)
    assert set(np.unique(result.sites.class_id)) <= {-1, *(e.class_id for e in learner.model.classes)}
    known = {e.class_id: e for e in learner.model.classes}
    for entry in learner.model.classes:
        if entry.host_class is not None:
            host = known[entry.host_class]
            assert host.role == "host"
            # between the columns there is no host: that of the grain stands for it
            assert host.sublattice == entry.sublattice or entry.sublattice >= learner.model.n_columns


def test_the_model_of_this_stream_keeps_its_numbers(learner, model):
    learner.start_from(model, own=True)
    assert [e.class_id for e in learner.model.classes] == [e.class_id for e in model.classes]
    assert learner.model.version > model.version
    assert learner._sight.remembered == []


def test_lost_frames_that_are_not_in_a_row_change_nothing(learner, model, images):
    dark = np.zeros_like(images[0])
    fold(learner, [*[dark] * (LOST_FRAMES - 1), images[2], *[dark] * (LOST_FRAMES - 1), images[3]], 2)
    assert learner.model is not None
    assert learner.model.lattice is model.lattice


def test_frames_of_another_shape_are_classified_by_the_same_model(learner, frames):
    image = frames[3].image[:320, 30:370]
    ((result,),) = fold(learner, [image], 0, series_id="smaller")
    assert result.shape == image.shape
    wanted = true_defects(frames[3].truth, 0) - [0, 30]
    last = np.array(image.shape) - 1 - MARGIN_PX
    wanted = wanted[((wanted >= MARGIN_PX) & (wanted <= last)).all(1)]
    assert missed(wanted, reported(result)) == 0
    assert missed(wanted, places(events_of([[result]], "defect.appeared"))) == 0


def test_the_defects_of_a_new_series_appear_again(learner, frames, images):
    before = fold(learner, images[2:4], 2)
    ((first,), (second,)) = fold(learner, images[4:6], 0, series_id="specimen B")
    # what one frame leaves in doubt, the second one settles
    appeared = events_of([[first], [second]], "defect.appeared")
    assert missed(true_defects(frames[4].truth), places(appeared)) == 0
    assert {event.data.series_id for event in appeared} == {"specimen B"}
    assert len({event.data.track for event in appeared}) == len(appeared)
    old = {int(t) for r in before for t in r[0].sites.track}
    assert old.isdisjoint({int(t) for t in first.sites.track if t >= 0})


# Edits


def defects_of(learner: Learner) -> list[int]:
    assert learner.model is not None
    return [entry.class_id for entry in learner.model.classes if entry.role == "defect"]


def test_a_renamed_class_keeps_its_name(learner, model, images):
    number = defects_of(learner)[0]
    old = model.entry(number).name
    entry = learner.rename(number, "Fe on W")
    assert entry.name == "Fe on W"
    (event,) = learner.take_events()
    assert event.type == "class.renamed"
    assert (event.data.class_name, event.data.previous_name) == ("Fe on W", old)
    assert event.data.model_version == learner.model.version == model.version + 1
    assert model.entry(number).name == old, "a model is never changed"
    # the stream gives new models: the name lives on
    before = learner.model
    fold(learner, [images[2][:SIDE, :SIDE]] * FRAMES_TOGETHER, 2)
    assert learner.model is not before
    assert learner.model.entry(number).name == "Fe on W"


def test_a_role_that_was_overruled_holds_in_the_next_frame(learner, model, images):
    number = defects_of(learner)[0]
    (before,) = fold(learner, images[2:3], 2)[0]
    learner.set_role(number, "host")
    (event,) = learner.take_events()
    assert event.type == "model.updated"
    assert model.entry(number).name in event.data.reason
    (after,) = fold(learner, images[3:4], 3)[0]
    assert ROLES.index("defect") in set(before.sites.role[before.sites.class_id == number])
    assert set(after.sites.role[after.sites.class_id == number]) == {ROLES.index("host")}


def test_merged_classes_are_one(learner, model, images):
    keep, *others = defects_of(learner)
    (before,) = fold(learner, images[2:3], 2)[0]
    n_before = np.isin(before.sites.class_id, [keep, *others]).sum()
    entry = learner.merge(keep, [keep, *others])
    (event,) = learner.take_events()
    assert event.type == "class.merged"
    assert set(event.data.merged) == set(others)
    assert entry.total == sum(model.entry(number).total for number in (keep, *others))
    assert defects_of(learner) == [keep]
    (after,) = fold(learner, images[3:4], 3)[0]
    assert set(others).isdisjoint(after.sites.class_id.tolist())
    assert (after.sites.class_id == keep).sum() == pytest.approx(n_before, abs=3)
    # one that was not certain before may be told now; none has become another, or gone
    told = inner(events_of([[before], [after]], "defect.*"))
    assert {event.type for event in told} <= {"defect.appeared"}
    with pytest.raises(UnknownClassError):
        learner.rename(others[0], "gone")


def test_a_frame_that_was_being_analysed_during_a_merge_has_the_merged_class(learner, model, images):
    # neighbour classes have the highest numbers
    numbers = [entry.class_id for entry in model.classes]
    analysis = analyse(frame_of(images[2], 2), model, SETTINGS)
    host = next(e.class_id for e in model.classes if e.role == "host")
    learner.merge(host, numbers[-3:])
    (result,) = learner.fold(analysis)
    left = {entry.class_id for entry in result.classes}
    assert set(result.sites.class_id.tolist()) <= left | {-1}
    role = {entry.class_id: ROLES.index(entry.role) for entry in result.classes}
    for class_id in left:
        assert set(result.sites.role[result.sites.class_id == class_id].tolist()) <= {role[class_id]}


@pytest.mark.parametrize("edit", ["rename", "set_role", "merge"])
def test_a_class_that_is_not_in_the_catalogue_is_refused(learner, model, edit):
    arguments = {"rename": (999, "x"), "set_role": (999, "host"), "merge": (0, [1, 999])}[edit]
    with pytest.raises(UnknownClassError, match="999"):
        getattr(learner, edit)(*arguments)
    assert learner.model is model
    assert learner.take_events() == ()
    with pytest.raises(UnknownClassError, match="nothing is learnt yet"):
        getattr(Learner(SETTINGS), edit)(*arguments)


def test_learning_anew_uses_no_number_twice(learner, model, images):
    learner.relearn()
    assert learner.model is None
    (event,) = learner.take_events()
    assert (event.type, event.data.n_classes, event.data.reason) == (
        "model.updated",
        0,
        "asked to learn anew",
    )
    results = fold(learner, [image[:SIDE, :SIDE] for image in images[2:4]], 2)
    assert learner.model is not None
    assert results[-1][0].model_version == learner.model.version > event.data.model_version > model.version
    assert min(e.class_id for e in learner.model.classes) > max(e.class_id for e in model.classes)
    assert events_of(results, "defect.appeared")


# Following


def within(positions: np.ndarray, margin: float) -> np.ndarray:
    """Those in the corner that is looked at."""
    return positions[((positions >= margin) & (positions <= SIDE - 1 - margin)).all(1)]


def test_a_slow_loss_of_intensity_changes_nothing_that_is_reported(learner, model, frames, images):
    offset = SimulatorSettings().offset
    fading = [(images[2 + n % 6][:SIDE, :SIDE] - offset) * (1 - 0.05 * n / 59) + offset for n in range(60)]
    results = [r[0] for r in fold(learner, fading, 2, series_id="corner")]
    n_missed = []
    for result in results:
        truth = frames[2 + (result.number - 2) % 6].truth
        n_missed.append(missed(within(true_defects(truth, 0), MARGIN_PX), reported(result)))
        assert missed(within(reported(result), MARGIN_PX), true_defects(truth, 0)) == 0
    assert sum(n_missed[10:]) == 0
    # what the first frames leave in doubt, the next ones settle; after that there is no news
    assert not inner(events_of([[result] for result in results[10:]], "defect.*"))
    assert learner.model.version < model.version + 60 // FRAMES_TOGETHER
    assert {e.class_id for e in learner.model.classes} == {e.class_id for e in model.classes}


@pytest.fixture(scope="module")
def seen(after_learning: tuple[Learner, list[list[FrameResult]]], images: list[np.ndarray]) -> Classified:
    """A frame without odd sites: one that comes again in every frame would rightly become a class."""
    analysis = analyse(frame_of(images[2], 2), after_learning[0].model, SETTINGS)
    assert isinstance(analysis, Classified)
    strange = analysis.verdict.component < 0
    verdict = replace(
        analysis.verdict,
        component=np.where(strange, 0, analysis.verdict.component).astype(np.int16),
        score=np.where(strange, 0.0, analysis.verdict.score),
    )
    return replace(analysis, verdict=verdict)


def numbers(analysis: Classified) -> np.ndarray:
    """A track for each site of a frame that stands still."""
    return np.arange(len(analysis.sites), dtype=np.int32)


def followed(analyses: Iterable[Classified]) -> Model:
    """The model after so many frames, none of which brought a new class."""
    statistics, model = ClassStatistics(), None
    for analysis in analyses:
        model = analysis.model if model is None else model
        assert model is not None
        model, found = statistics.update(model, analysis, numbers(analysis), 1000)
        assert not found
    assert model is not None
    return model


def test_each_site_counts_for_a_component_by_its_probability(rng):
    posterior = rng.dirichlet(np.full(6, 0.3), 40).astype(np.float32)
    sublattice, score = rng.integers(-1, 2, 40).astype(np.int16), rng.normal(size=40)
    component = rng.integers(-1, 4, 40).astype(np.int16)
    columns, merged = (
        np.array([[0, 3, 3, 1], [4, 2, -1, -1]]),
        np.array([[False, True, True, False], [False] * 4]),
    )
    sums, counts = add_up(posterior, score, component, sublattice, columns, merged)
    for s, many in enumerate((4, 2)):
        rows = np.flatnonzero(sublattice == s)
        expected = naive.shared_sums(
            posterior.astype(float), rows, score[rows], component[rows], columns[s, :many], merged[s, :many]
        )
        np.testing.assert_allclose(sums[s, :, :many], expected, atol=1e-5)
        assert not sums[s, :, many:].any()
    np.testing.assert_array_equal(counts, np.bincount(posterior.argmax(axis=1), minlength=6))


def drifted(seen: Classified, component: int, by: float) -> Classified:
    """The same frame, one component of the first sublattice displaced by so many sigma."""
    rows = (seen.sites.sublattice == 0) & (seen.verdict.component == component)
    score = seen.verdict.score + np.where(rows, by, 0.0)
    return replace(seen, verdict=replace(seen.verdict, score=score))


def test_a_class_that_changes_slowly_is_followed_and_the_others_stay(seen):
    n, steps = 600, 3.0
    far = steps * float(seen.model.sublattices[0].mixture.deviation[1])
    still, moving = (
        followed(drifted(seen, 1, distance * min(1.0, k / 200)) for k in range(n)) for distance in (0.0, far)
    )
    moved = [
        m.mixture.mean - s.mixture.mean for s, m in zip(still.sublattices, moving.sublattices, strict=True)
    ]
    assert moved[0][1] == pytest.approx(far, abs=0.2)
    assert np.delete(moved[0], 1) == pytest.approx(0.0, abs=1e-6)
    assert moved[1] == pytest.approx(0.0, abs=1e-6)
    for known in moving.sublattices:
        total = known.mixture.weight.sum() + known.mixture.background
        assert total == pytest.approx(1.0)
        assert (known.mixture.weight > 0).all()
        # that of a class out of view stays, the host's is measured anew: equal ones differ by rounding
        assert (known.mixture.deviation >= (1 - 1e-9) * known.mixture.deviation[0]).all()
    # it is another version when a decision can change: seldom where nothing moves
    assert still.version < seen.model.version + 5
    # versions are counted in standard deviations of the class as it is followed
    felt = FELT_SIGMA * float(still.sublattices[0].mixture.deviation[1])
    assert still.version + far / felt / 2 < moving.version < seen.model.version + n // FRAMES_TOGETHER


def test_each_version_of_the_model_is_told(learner, seen):
    told = {learner.model.version}
    versions = {learner.model.version}
    for k in range(60):
        analysis = replace(
            drifted(seen, 1, 3.0 * k / 60), model=learner.model, frame=replace(seen.frame, number=10 + k)
        )
        (result,) = learner.fold(analysis)
        versions.add(result.model_version)
        told |= {event.data.model_version for event in result.events if event.type == "model.updated"}
    assert len(versions) > 2
    assert versions == told


def test_a_class_that_is_out_of_view_is_not_forgotten(seen):
    host_of = np.array([known.class_ids[0] for known in seen.model.sublattices])[seen.sites.sublattice]
    surely_host = (seen.model.class_ids == host_of[:, None]).astype(np.float32)
    hosts = replace(seen.verdict, posterior=surely_host, component=np.zeros_like(seen.verdict.component))
    model = followed(replace(seen, verdict=hosts) for _ in range(900))
    for known, before in zip(model.sublattices[:2], seen.model.sublattices[:2], strict=True):
        assert (known.mixture.weight[1:] > 0).all()
        assert known.mixture.weight[1:].max() < 0.01
        # as far from the host, whose own level is measured anew
        assert known.mixture.mean[1:] == pytest.approx(before.mixture.mean[1:], rel=1e-2)
    assert model.classes[0].total > seen.model.classes[0].total


def sums_of(mean: Sequence[float], n: Sequence[float]) -> Sums:
    count, at = np.array(n, float), np.array(mean, float)
    return Sums(count, at * count, (at**2 + 1) * count)


def test_a_class_near_its_host_moves_with_those_that_can_be_followed():
    before = Mixture(
        np.array([0.0, -2.5, -6.0, 9.0]), np.ones(4), np.array([0.9, 0.04, 0.03, 0.02]), 0.01, 60.0
    )
    # fewer electrons: all that is seen of it comes a fifth nearer, and the near one is lost in the host's tail
    sums = sums_of((0.1, -3.6, -4.7, 7.3), (900.0, 9.0, 40.0, 20.0))
    growth = _growth([(before, sums)])
    assert growth == pytest.approx(0.8)
    after = _followed(before, sums, growth)
    assert after.mean == pytest.approx([0.1, 0.1 - 2.0, -4.7, 7.3])
    # by nothing of its own, with those of the other sublattices, or not at all
    alone = Mixture(before.mean[:2], before.deviation[:2], np.array([0.95, 0.04]), 0.01, 60.0)
    own = sums_of((0.1, -3.6), (900.0, 9.0))
    assert _growth([(alone, own)], growth) == growth
    assert _growth([(alone, own)]) == 1.0


def with_odd_sites(seen: Classified, scores: Sequence[float]) -> Classified:
    """The same frame, some hosts of the first sublattice made sites that fit no class."""
    rows = np.flatnonzero((seen.sites.sublattice == 0) & (seen.verdict.component == 0))[: len(scores)]
    score, component = seen.verdict.score.copy(), seen.verdict.component.copy()
    score[rows], component[rows] = scores, -1
    return replace(seen, verdict=replace(seen.verdict, score=score, component=component))


def test_odd_sites_that_are_alike_become_a_class(seen, rng):
    statistics, model, found = ClassStatistics(), seen.model, []
    for _ in range(FRAMES_NEEDED):
        assert not found
        odd = with_odd_sites(seen, rng.normal(60.0, 0.3, 10).tolist())
        model, found = statistics.update(model, odd, numbers(odd), 1000)
    assert found == [1000]
    entry = model.entry(1000)
    assert (entry.role, entry.sublattice) == ("defect", 0)
    assert entry.average.shape == (model.patch_px, model.patch_px)
    assert model.sublattices[0].class_ids[-1] == 1000
    # frames that were classified by the version before are still welcome, and the class is found but once
    for _ in range(2 * FRAMES_TOGETHER):
        model, found = statistics.update(model, seen, numbers(seen), 1001)
        assert not found


def test_one_odd_site_that_stays_is_a_class_and_one_that_flashes_is_none(seen):
    statistics, model = ClassStatistics(), seen.model
    odd = with_odd_sites(seen, [60.0])
    for analysis in (odd, seen, odd, seen):
        model, found = statistics.update(model, analysis, numbers(analysis), 1000)
        assert not found
    for _ in range(FRAMES_NEEDED):
        model, found = statistics.update(model, odd, numbers(odd), 1000)
    assert found == [1000]


def test_the_longer_a_stream_the_more_one_odd_site_must_say(seen):
    host, width = (
        float(getattr(seen.model.sublattices[0].mixture, name)[0]) for name in ("mean", "deviation")
    )
    odd = with_odd_sites(seen, [host + 4.3 * width])
    for before, born in ((0, True), (20_000, False)):
        statistics, model = ClassStatistics(), seen.model
        statistics._pool._now = before
        for _ in range(FRAMES_NEEDED):
            model, found = statistics.update(model, odd, numbers(odd), 1000)
        assert bool(found) == born


def test_light_that_is_not_known_is_no_better_known_after_many_frames(seen):
    odd = with_odd_sites(seen, [60.0])
    unsure = np.full_like(odd.verdict.unsure, 15.0)
    odd = replace(odd, verdict=replace(odd.verdict, unsure=unsure))
    statistics, model = ClassStatistics(), seen.model
    for _ in range(20):
        model, found = statistics.update(model, odd, numbers(odd), 1000)
        assert not found


def test_noise_beside_a_place_between_the_columns_is_less_in_many_frames():
    track = OddTrack(2, False, 16, 160.0, np.zeros(2), 0, 16, square=16 * 4.0)
    assert track.precision(void=True) == pytest.approx(4.0)
    assert track.precision(void=False) == pytest.approx(1 / (1 / 16 + 3))


@pytest.mark.parametrize("between", [False, True])
def test_what_comes_and_goes_between_the_columns_is_no_atom(between):
    pool, n_columns = OddPool(), 2
    # a column that is out of view for a while may still be odd; an atom between the columns that is not there is none
    s = np.array([n_columns if between else 0, 1], np.int16)
    for there in (True, False, True):
        rows = slice(0, 2) if there else slice(1, 2)
        pool.update(
            np.array([7, 8], np.int32)[rows],
            s[rows],
            np.array([50.0, 0.0])[rows],
            np.zeros((2, 2))[rows],
            np.array([-1, 0], np.int16)[rows],
            np.array([1.0, 0.0])[rows],
            np.ones(2)[rows],
            n_columns,
        )
    assert len(pool.candidates(int(s[0]), displaced=False)) == (not between)
    pool.update(
        np.array([7, 8], np.int32),
        s,
        np.array([50.0, 0.0]),
        np.zeros((2, 2)),
        np.array([-1, 0], np.int16),
        np.array([1.0, 0.0]),
        np.ones(2),
        n_columns,
    )
    assert len(pool.candidates(int(s[0]), displaced=False)) == 1


def test_a_frame_in_which_much_is_odd_teaches_nothing(seen):
    n_hosts = int((seen.sites.sublattice == 0).sum())
    crowd = with_odd_sites(seen, [60.0] * (n_hosts // 2))
    followed([crowd] * (2 * FRAMES_NEEDED))


def test_no_more_is_remembered_of_a_long_stream_than_of_a_short_one(seen):
    pool = OddPool()
    n = MAX_TRACKS // 10
    for k in range(20):
        track = np.arange(k * n, (k + 1) * n, dtype=np.int32)
        crowd = np.arange(20 * n) >= 19 * n
        pool.update(
            np.concatenate([-2 - np.arange(19 * n), track]).astype(np.int32),
            np.zeros(20 * n, np.int16),
            np.full(20 * n, 50.0),
            np.zeros((20 * n, 2)),
            np.where(crowd, -1, 0).astype(np.int16),
            crowd.astype(float),
            np.ones(20 * n),
            1,
        )
    assert len(pool._tracks) <= MAX_TRACKS
