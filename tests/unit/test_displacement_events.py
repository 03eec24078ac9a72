"""What an event, a track and a table say of a column that is displaced, and of what kind a defect is."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.execute import LiveState
from latticewatch.ingest import Frame
from latticewatch.messages import DefectEventData
from latticewatch.offline._write import COLUMNS, _rows_of_sites
from latticewatch.pipeline import Learner, analyse
from latticewatch.serve._classes import summaries_of
from latticewatch.serve._tracks import tracks_of

PIXEL_NM = 0.02
BY = 0.2


@pytest.fixture(scope="module")
def stream():
    """A crystal with displaced columns and vacancies; its results and the model."""
    rng = np.random.default_rng(0)
    crystal = honeycomb(14.0).turned(11)
    defects = (("vacancy", 1, 0.05, 0.0), ("heavy", 1, 0.03, 0.7))
    learner = Learner(AnalysisSettings(learning_frames=2))
    results = {}
    for number in range(4):
        scene = render(
            crystal,
            np.random.default_rng(1) if number else rng,
            shape=(320, 320),
            counts=200,
            clear=30,
            displaced=10,
            by=BY,
            defects=defects,
            shift=(5.0, 5.0),
        )
        noisy = rng.poisson(200 * np.maximum(scene.clean, 0)).astype(np.float32)
        frame = Frame(
            noisy,
            series_id="a",
            number=number,
            ordinal=number,
            t_acquired=float(number),
            t_received=float(number),
            pixel_size_nm=PIXEL_NM,
        )
        for result in learner.fold(analyse(frame, learner.model, learner.settings)):
            results.setdefault(result.number, []).append(result)
    return crystal, [one for number in sorted(results) for one in results[number]], learner.model


def events_of(results):
    return [e for r in results for e in r.events if isinstance(e.data, DefectEventData)]


def test_an_event_says_how_far_and_which_way_a_column_is_displaced(stream):
    crystal, results, _ = stream
    told = [e.data for e in events_of(results) if e.data.kind == "displaced" and e.data.displacement_nm]
    assert len(told) >= 8
    right = BY * crystal.spacing * PIXEL_NM
    for data in told:
        assert data.class_name.startswith("A displaced")
        # towards higher columns: x
        assert data.displacement_nm.x == pytest.approx(right, rel=0.25)
        assert abs(data.displacement_nm.y) < 0.25 * right
        assert 0 < data.displacement_nm.sigma < 0.2 * right
        assert data.model_dump(mode="json")["displacement_nm"].keys() == {"x", "y", "sigma"}


def test_the_standard_error_is_the_scatter_of_what_is_told(stream):
    crystal, results, _ = stream
    sites = results[-1].sites
    moved = np.flatnonzero(np.isfinite(sites.displacement[:, 0]))
    by, sigma = sites.displacement[moved, :2], sites.displacement[moved, 2]
    mine = np.hypot(*(by - [0.0, BY * crystal.spacing]).T) < 0.15 * crystal.spacing
    assert mine.sum() >= 8
    assert 0.3 < (by[mine].std(0) / sigma[mine].mean()).mean() < 2.0


def test_only_displaced_columns_have_a_displacement(stream):
    _, results, _ = stream
    others = [e.data for e in events_of(results) if e.data.kind != "displaced"]
    assert {"vacancy", "higher"} <= {data.kind for data in others}
    assert all(data.displacement_nm is None for data in others)


def test_a_renamed_class_keeps_its_kind(stream):
    _, results, model = stream
    state = LiveState().with_result(results[-1])
    (entry,) = [e for e in model.classes if "displaced" in e.name]
    renamed = state.with_entry(type(entry)(**{f: getattr(entry, f) for f in entry.__slots__} | {"name": "x"}))
    assert {s.kind for s in summaries_of(renamed) if s.name == "x"} == {"displaced"}
    assert {s.kind for s in summaries_of(renamed) if s.role != "defect"} == {None}


def test_tracks_and_tables_say_the_same(stream):
    _, results, _ = stream
    last = results[-1]
    tracks = tracks_of(LiveState().with_result(last), "defect", 1000).tracks
    moved = {t.track: t.displacement_nm for t in tracks if t.kind == "displaced"}
    assert len(moved) >= 8
    rows = list(csv.DictReader(",".join(map(str, row)) for row in [COLUMNS, *_rows_of_sites(last)]))
    table = {int(row["track"]): row for row in rows if row["kind"] == "displaced"}
    assert table.keys() == moved.keys()
    for track, told in moved.items():
        if told is not None:
            assert float(table[track]["displaced_col_px"]) * PIXEL_NM == pytest.approx(told.x, abs=2e-5)
            assert float(table[track]["displaced_sigma_px"]) * PIXEL_NM == pytest.approx(told.sigma, abs=2e-5)
    assert all(row["displaced_row_px"] == "" for row in rows if row["role"] == "host")
