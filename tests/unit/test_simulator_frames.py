"""Frames: counting statistics, drift, change, and the truth about them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numba
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.stats import poisson

from latticewatch.errors import ControlError, FileError
from latticewatch_simulator import (
    FrameTruth,
    Microscope,
    SimulatorSettings,
    Stage,
    TruthWriter,
    read_truth,
)
from latticewatch_simulator._detector import (
    TABLE_MEAN,
    few_electrons,
    many_electrons,
    poisson_tables,
    scan,
)
from latticewatch_simulator._drift import Drift

STILL = {"drift_nm_per_frame": (0.0, 0.0), "line_jitter_px": 0.0, "flicker": 0.0, "births_per_frame": 0.0}


def microscope(**values) -> Microscope:
    return Microscope(SimulatorSettings.checked(**{"shape": (192, 160), "settle_s": 0.0, **values}))


def brightness(image: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Mean of the frame around each position."""
    around = [
        map_coordinates(image.astype(float), (positions + np.array([r, c])).T, order=1)
        for r, c in itertools.product((-1, 0, 1), repeat=2)
    ]
    return np.mean(around, axis=0)


@numba.njit
def draw(mean, uniform, normal, cdf, guide):
    drawn = np.empty(len(uniform))
    for k in range(len(uniform)):
        if mean < TABLE_MEAN:
            drawn[k] = few_electrons(mean, uniform[k], cdf, guide)
        else:
            drawn[k] = many_electrons(mean, normal[k])
    return drawn


@pytest.mark.parametrize("mean", [0.0, 0.003, 0.125, 0.7, 3.1, 11.99, 33.33, 47.999, 48.0, 61.5, 900.0])
def test_electrons_are_poisson_numbers(mean, rng):
    n = 400_000
    drawn = draw(mean, rng.random(n), rng.standard_normal(n), *poisson_tables())
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / n))
    assert drawn.var() == pytest.approx(mean, abs=5 * np.sqrt((mean + 2 * mean**2) / n) + 0.002 * mean)
    counts = np.bincount(drawn.astype(int))
    expected = n * poisson.pmf(np.arange(len(counts)), mean)
    common = expected > 20
    excess = ((counts - expected)[common] ** 2 / expected[common]).sum()
    assert excess < common.sum() + 6 * np.sqrt(2 * common.sum()) + 8


def test_counts_have_the_mean_and_variance_of_the_detector(rng):
    electrons, gain, spread, read, offset = 6.0, 40.0, 0.35, 12.0, 600.0
    lines = np.column_stack([np.arange(400.0), np.zeros(400), np.full(400, electrons)])
    frame = np.empty((400, 400), np.uint16)
    analogue = np.array([gain, gain * spread, read, offset])
    scan(np.ones((402, 402), np.float32), lines, 1, analogue, rng, *poisson_tables(), frame)
    assert frame.mean() == pytest.approx(offset + gain * electrons, rel=2e-3)
    expected = gain**2 * electrons * (1 + spread**2) + read**2 + 1 / 12
    assert frame.var() == pytest.approx(expected, rel=0.015)


def test_counts_are_clipped_to_sixteen_bits():
    image = microscope(**STILL, dose_e_per_a2=1e8).acquire().image
    assert image.dtype == np.uint16
    assert image.max() == 65535
    dark = microscope(**STILL, dose_e_per_a2=1e-3, offset=0.0).acquire().image
    assert dark.min() == 0
    assert dark.max() < 100


def test_the_same_settings_give_the_same_frames_and_another_seed_gives_others():
    first, again = (list(itertools.islice(microscope(births_per_frame=2.0), 4)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.truth.changes == b.truth.changes
    other = microscope(seed=1, births_per_frame=2.0).acquire()
    assert (other.image != first[0].image).mean() > 0.9
    assert (first[1].image != first[0].image).mean() > 0.9


def test_dose_and_dwell_and_gain_make_the_counts():
    low, high = (
        microscope(**STILL, dose_e_per_a2=dose, offset=100.0).acquire().image.mean() - 100
        for dose in (2e4, 1e5)
    )
    assert high / low == pytest.approx(5, rel=0.03)


def test_flicker_changes_the_current_from_frame_to_frame_and_line_to_line():
    frames = [frame.image for frame in itertools.islice(microscope(**{**STILL, "flicker": 0.3}), 12)]
    means = np.array([frame.mean() - 600 for frame in frames])
    assert 0.03 < means.std() / means.mean() < 0.4
    steady = [frame.image.mean() for frame in itertools.islice(microscope(**STILL), 12)]
    assert np.std(steady) < 0.1 * means.std()


def test_line_jitter_displaces_lines_by_its_rms():
    shaken = microscope(shape=(4096, 64), line_jitter_px=0.8)
    jitter = shaken._detector._jitter(4096)
    assert jitter[:, 1].std() == pytest.approx(0.8, rel=0.06)
    assert jitter[:, 0].std() == pytest.approx(0.4, rel=0.06)
    assert np.corrcoef(jitter[:-1, 1], jitter[1:, 1])[0, 1] == pytest.approx(0.3, abs=0.06)


def centroids(image: np.ndarray, positions: np.ndarray, radius: int = 6) -> np.ndarray:
    rows, cols = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    found = []
    for row, col in positions:
        r, c = round(row), round(col)
        patch = image[r - radius : r + radius + 1, c - radius : c + radius + 1].astype(float) - 600
        found.append([r + (rows * patch).sum() / patch.sum(), c + (cols * patch).sum() / patch.sum()])
    return np.array(found)


@pytest.mark.parametrize("drift", [(0.0, 0.0), (0.05, -0.1), (0.3, 0.2)])
def test_columns_are_in_the_frame_where_the_truth_says(drift):
    settings = {**STILL, "drift_nm_per_frame": drift, "dose_e_per_a2": 1e6, "defects": {}}
    for frame in itertools.islice(microscope(**settings), 4):
        truth = frame.truth
        chosen = truth.inside(12) & (truth.species == truth.names.index("W"))
        positions = truth.positions_px()[chosen]
        error = centroids(frame.image, positions) - positions
        assert chosen.sum() > 20
        assert np.abs(error.mean(axis=0)).max() < 0.1


def test_features_move_to_smaller_rows_and_columns_as_the_specimen_drifts():
    scope = microscope(**{**STILL, "drift_nm_per_frame": (0.012, 0.024)})
    first, second = scope.acquire().truth, scope.acquire().truth
    np.testing.assert_allclose(np.subtract(second.shift_px, first.shift_px), [1, 2])
    assert first.shift_px == pytest.approx((0.5, 1.0))
    moved = second.positions_px() - first.positions_px()
    np.testing.assert_allclose(moved, [[-1, -2]] * len(moved), atol=0.02)


def test_a_long_drift_renders_new_scenes_and_columns_keep_their_identity():
    scope = microscope(**{**STILL, "drift_nm_per_frame": (0.3, 0.0)})
    truths = [scope.acquire().truth for _ in range(8)]
    assert truths[0].renewed
    assert 1 < sum(truth.renewed for truth in truths) < 8
    for before, after in itertools.pairwise(truths):
        _, a, b = np.intersect1d(before.id, after.id, return_indices=True)
        assert len(a) > 50
        np.testing.assert_allclose(before.undrifted_px[a], after.undrifted_px[b], atol=1e-6)
        np.testing.assert_array_equal(before.species[a], after.species[b])
    assert np.ptp(truths[-1].positions_px()[truths[-1].inside()], axis=0).min() > 130


def test_a_stage_move_brings_a_column_to_the_centre():
    scope = microscope(**STILL)
    truth = scope.acquire().truth
    chosen = int(np.flatnonzero(truth.is_defect() & truth.inside())[0])
    row, col = truth.positions_px()[chosen] - (np.array(truth.shape) - 1) / 2
    pixel = scope.settings.pixel_size_nm
    scope.stage.move(col * pixel, row * pixel, relative=True)
    after = scope.acquire().truth
    assert after.renewed
    assert after.stage_nm == pytest.approx((col * pixel, row * pixel))
    again = int(np.flatnonzero(after.id == truth.id[chosen])[0])
    np.testing.assert_allclose(after.positions_px()[again], [95.5, 79.5], atol=1e-6)
    assert after.names[after.species[again]] == truth.names[truth.species[chosen]]


def test_a_newborn_vacancy_darkens_its_column_and_heals():
    scope = microscope(**{**STILL, "births_per_frame": 0.5}, lifetime_frames=4, dose_e_per_a2=1e6, defects={})
    frames = list(itertools.islice(scope, 40))
    images = np.array([frame.image for frame in frames])
    changes = [(k, change) for k, frame in enumerate(frames) for change in frame.truth.changes]
    assert {(change.before, change.after) for _, change in changes} == {("S2", "S1"), ("S1", "S2")}
    drops = []
    for k, change in changes:
        if change.after != "S1" or k == 0:
            continue
        where = frames[k].truth.id == change.id
        position = frames[k].truth.positions_px()[where]
        if frames[k].truth.inside(4)[where].all():
            drops.append(brightness(images[k - 1], position)[0] - brightness(images[k], position)[0])
    assert len(drops) > 5
    assert np.mean(drops) > 500
    alive = [int(frame.truth.is_defect().sum()) for frame in frames]
    assert max(alive) < 10


def test_a_newborn_defect_is_still_there_after_the_stage_has_been_away():
    scope = microscope(**STILL | {"births_per_frame": 3.0}, lifetime_frames=1e9)
    here = [scope.acquire().truth for _ in range(4)][-1]
    scope.stage.move(50, 50)
    assert not np.intersect1d(scope.acquire().truth.id, here.id).size
    scope.stage.move(0, 0)
    back = scope.acquire().truth
    born = {change.id for change in back.changes}
    _, a, b = np.intersect1d(here.id, back.id, return_indices=True)
    differ = set(here.id[a][here.species[a] != back.species[b]].tolist())
    assert len(a) == len(here.id)
    assert differ == born & set(here.id.tolist())


def test_births_are_as_frequent_as_the_rate_says():
    scope = microscope(births_per_frame=0.5, lifetime_frames=20)
    born = sum(
        change.after == "S1" for frame in itertools.islice(scope, 300) for change in frame.truth.changes
    )
    assert born == pytest.approx(150, abs=5 * np.sqrt(150))
    still = microscope(shape=(64, 64), births_per_frame=0.0)
    assert not any(frame.truth.changes for frame in itertools.islice(still, 30))


def test_what_is_written_is_what_is_read(tmp_path: Path):
    scope = microscope(births_per_frame=2.0, drift_nm_per_frame=(0.4, 0.1))
    truths: list[FrameTruth] = []
    with TruthWriter(tmp_path / "truth.jsonl", scope.description()) as writer:
        for number in range(8):
            if number == 5:
                scope.stage.move(7.5, -2.5)
            truths.append(scope.acquire().truth)
            writer.write(truths[-1])
    read = list(read_truth(tmp_path / "truth.jsonl"))
    assert len(read) == 8
    for got, expected in zip(read, truths, strict=True):
        assert (got.number, got.series_id, got.stage_nm) == (
            expected.number,
            expected.series_id,
            expected.stage_nm,
        )
        assert got.changes == expected.changes
        assert got.renewed == expected.renewed
        np.testing.assert_array_equal(got.id, expected.id)
        np.testing.assert_array_equal(got.species, expected.species)
        np.testing.assert_array_equal(got.sublattice, expected.sublattice)
        np.testing.assert_allclose(got.positions_px(), expected.positions_px(), atol=2e-3)


def test_every_field_of_the_truth_file_is_documented(project: Path, tmp_path: Path):
    page = (project / "docs/reference/simulator-truth.md").read_text(encoding="utf-8")
    scope = microscope(births_per_frame=5.0)
    with TruthWriter(tmp_path / "truth.jsonl", scope.description()) as writer:
        writer.write(scope.acquire().truth)
    series, frame = map(json.loads, (tmp_path / "truth.jsonl").read_text().splitlines())
    table = scope.acquire().truth.table()
    for field in {
        *series,
        *frame,
        *frame["columns"],
        *frame["changes"][0],
        *frame["events"][0],
        *table,
        *table["columns"],
    }:
        assert f"`{field}`" in page, field


def test_a_file_that_is_no_truth_is_refused(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    for content in ("", "{}\n", "hello\n", '{"kind":"series"}\n{}\n'):
        path.write_text(content)
        with pytest.raises(FileError, match=r"x\.jsonl"):
            list(read_truth(path))
    with pytest.raises(FileError, match="missing"):
        list(read_truth(tmp_path / "missing"))
    with pytest.raises(FileError, match="folder"):
        TruthWriter(tmp_path / "missing" / "x", {})


def test_the_position_under_drift_is_the_inverse_of_the_scan():
    drift, rows = Drift((3.0, -1.0), (0.8, 0.4)), 100
    scanned = np.array([[0.0, 5.0], [50.0, 7.0], [99.0, 9.0]])
    through = scanned[:, :1] / (rows - 1)
    place = scanned + [3.0, -1.0] + through * [0.8, 0.4]
    np.testing.assert_allclose(drift.seen_at(place, rows), scanned)


def test_the_stage_arrives_when_it_has_settled():
    now = [10.0]
    stage = Stage(SimulatorSettings(settle_s=2.0), clock=lambda: now[0])
    assert stage.move(5, -3) == (5, -3)
    now[0] = 11.9
    assert stage.position() == (0, 0)
    assert stage.state().moving
    assert stage.move(1, 1, relative=True) == (6, -2)
    now[0] = 13.8
    assert stage.position() == (0, 0)
    now[0] = 13.9
    assert stage.position() == (6, -2)
    assert not stage.state().moving


@pytest.mark.parametrize(("x", "y", "relative"), [(501, 0, False), (0, -501, False), (480, 0, True)])
def test_a_move_beyond_the_limit_is_refused_and_the_stage_stays(x, y, relative):
    stage = Stage(SimulatorSettings(stage_nm=(30, 0), settle_s=0))
    with pytest.raises(ControlError, match=r"limit is plus and minus 500 nm.*stays at \(30, 0\)"):
        stage.move(x, y, relative=relative)
    assert stage.position() == (30, 0)
