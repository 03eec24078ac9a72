"""``/v1/tracks`` says where the stage has to go, whatever the rotation and the flips of the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latticewatch.execute import LiveState
from latticewatch.ingest import Frame
from latticewatch.messages import ROLES, Calibration, TargetRequest
from latticewatch.pipeline import FrameResult, SiteTable
from latticewatch.pipeline._events import defect_events
from latticewatch.serve._policies import candidates
from latticewatch.serve._tracks import tracks_of
from latticewatch.track import Transition

SHAPE = (101, 101)


def state_of(calibration):
    sites = SiteTable(
        position=np.array([[50.0, 60.0], [20.0, 50.0]], np.float32),
        sublattice=np.zeros(2, np.int16),
        class_id=np.array([1, 0], np.int16),
        role=np.array([ROLES.index("defect"), ROLES.index("host")], np.uint8),
        confidence=np.array([0.9, 0.8], np.float32),
        track=np.array([4, 5], np.int32),
    )
    result = FrameResult(
        series_id="a",
        number=3,
        ordinal=3,
        shape=SHAPE,
        t_received=0.0,
        t_acquired=None,
        pixel_size_nm=None if calibration is None else calibration.pixel_size_nm,
        stage_nm=None if calibration is None else calibration.stage_nm,
        picture=np.zeros(SHAPE, np.uint8),
        sites=sites,
        lattice_found=True,
        lattice_constant_px=10.0,
        drift_px=(0.0, 0.0),
        model_version=1,
        learning=(5, 5),
        calibration=calibration,
    )
    return LiveState().with_result(result)


@pytest.mark.parametrize(
    ("turned", "place"),
    [
        ({}, (101.0, 200.0)),
        ({"rotation_deg": 90}, (100.0, 201.0)),
        ({"rotation_deg": 30}, (100.0 + 3**0.5 / 2, 200.5)),
        ({"flip_x": True}, (99.0, 200.0)),
        ({"flip_y": True}, (101.0, 200.0)),
    ],
)
def test_the_place_to_drive_to_follows_rotation_and_flips(turned, place):
    calibration = Calibration(pixel_size_nm=0.1, stage_nm=(100.0, 200.0), **turned)
    (track,) = tracks_of(state_of(calibration), "defect", 10).tracks
    assert track.stage_nm is not None
    assert (track.stage_nm.x, track.stage_nm.y) == pytest.approx(place)
    assert track.edge_distance_nm == pytest.approx(4.0)


def test_a_place_on_the_specimen_is_without_the_drift_and_stays_when_the_stage_moves():
    calibration = Calibration(pixel_size_nm=0.1, stage_nm=(100.0, 200.0), rotation_deg=90)
    places = []
    # The specimen has drifted by 0.3 nm, and then the stage went 1 nm along its x, which is up in the frame.
    for stage, row, alone in (((100.0, 200.0), 50.0, (3.0, 0.0)), ((101.0, 200.0), 60.0, (3.0, 0.0))):
        state = state_of(calibration.model_copy(update={"stage_nm": stage}))
        result = replace(state.result, specimen_drift_px=alone, drift_px=(alone[0] + row - 50.0, 0.0))
        result.sites.position[0] = (row, 60.0)
        (target,) = candidates(replace(state, result=result), TargetRequest(holder="a"), "log")
        assert target.specimen_nm is not None
        places.append((target.specimen_nm.x, target.specimen_nm.y))
    assert places[0] == pytest.approx((100.3, 201.0))
    assert places[1] == pytest.approx(places[0])


@pytest.mark.parametrize(("turned", "place"), [(0.0, (101.0, 200.0)), (90.0, (100.0, 201.0))])
def test_an_event_says_the_same_place_as_a_track_on_a_turned_scan(turned, place):
    frame = Frame(np.zeros(SHAPE, np.uint16), pixel_size_nm=0.1, stage_nm=(100.0, 200.0), rotation_deg=turned)
    told = Transition("defect.appeared", 0, 4, 1, None, 0.9, {}, (50.0, 60.0), 0.2, 0)
    model = type("Nothing", (), {"classes": (), "sublattices": (), "version": 1})()
    (draft,) = defect_events([told], frame, model, (2.0, 1.0), state_of(None).result.sites)
    assert (draft.data.stage_nm.x, draft.data.stage_nm.y) == pytest.approx(place)
    assert (draft.data.drift_nm.x, draft.data.drift_nm.y) == pytest.approx((0.1, 0.2))
    assert draft.data.stage_sigma_nm == pytest.approx(0.02)


def test_a_place_comes_with_its_uncertainty():
    state = state_of(Calibration(pixel_size_nm=0.1, stage_nm=(100.0, 200.0)))
    state = replace(state, result=replace(state.result, sigma_px=0.3))
    assert [one.sigma_nm for one in tracks_of(state, "all", 10).tracks] == pytest.approx([0.03, 0.03])
    assert tracks_of(state_of(None), "defect", 10).tracks[0].sigma_nm is None


def test_without_a_calibration_there_is_no_place():
    (track,) = tracks_of(state_of(None), "defect", 10).tracks
    assert (track.stage_nm, track.nm, track.edge_distance_nm) == (None, None, None)


def test_all_roles_come_in_one_list_each_with_its_own():
    seen = tracks_of(state_of(None), "all", 10, "log")
    assert [(one.track, one.role) for one in seen.tracks] == [(4, "defect"), (5, "host")]
    assert (seen.n, seen.stream) == (2, "log")


def test_what_is_out_of_view_comes_only_when_asked_for_and_says_where_to_go():
    state = beside(state_of(Calibration(pixel_size_nm=0.1, stage_nm=(100.0, 200.0))), [(50.0, 160.0)], [0.6])
    assert [one.track for one in tracks_of(state, "defect", 10).tracks] == [4]
    found = tracks_of(state, "defect", 10, out_of_view=True)
    assert (found.n, [(one.track, one.in_view) for one in found.tracks]) == (2, [(4, True), (100, False)])
    there = found.tracks[1]
    assert there.stage_nm is not None
    assert (there.stage_nm.x, there.stage_nm.y) == pytest.approx((111.0, 200.0))
    assert there.edge_distance_nm is None
    assert [one.id for one in candidates(state, TargetRequest(holder="a"), "log")] == ["log/4"]
    asked = TargetRequest(holder="a", policy="farthest", out_of_view=True)
    assert {one.id for one in candidates(state, asked, "log")} == {"log/4", "log/100"}


def test_a_look_goes_where_it_is_expected_to_take_most_doubt():
    calibration = Calibration(pixel_size_nm=0.1, stage_nm=(100.0, 200.0))
    # As many frames of the first were averaged as count; two half sure ones lie in one frame, a third alone.
    places = [(50.0, 300.0), (50.0, 600.0), (80.0, 620.0), (50.0, 900.0)]
    state = beside(state_of(calibration), places, [0.4, 0.6, 0.7, 0.6], [1.0, 3.0, 3.0, 3.0])
    asked = TargetRequest(holder="a", policy="most-uncertain", out_of_view=True)
    ranked = [one.track.track for one in candidates(state, asked, "log")]
    assert sorted(ranked[:2]) == [101, 102]
    assert (ranked[2], ranked[-1]) == (103, 100)


def test_where_nobody_knows_what_a_look_brings_the_least_sure_comes_first():
    state = beside(state_of(None), [(50.0, 300.0), (50.0, 900.0)], [0.8, 0.5])
    asked = TargetRequest(holder="a", policy="most-uncertain", out_of_view=True)
    assert [one.track.track for one in candidates(state, asked, "log")] == [101, 100, 4]


def beside(state, places, confidence, prospect=None):
    """The state with defects out of view."""
    n = len(places)
    away = SiteTable(
        position=np.array(places, np.float32),
        sublattice=np.zeros(n, np.int16),
        class_id=np.ones(n, np.int16),
        role=np.full(n, ROLES.index("defect"), np.uint8),
        confidence=np.array(confidence, np.float32),
        track=np.arange(100, 100 + n, dtype=np.int32),
        prospect=None if prospect is None else np.array(prospect, np.float32),
    )
    return replace(state, result=replace(state.result, away=away))
