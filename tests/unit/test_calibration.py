"""From pixels to the stage and back: every rotation, flip and drift, both ways."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latticewatch.ingest import Frame
from latticewatch.messages import Calibration, DefectEventData
from latticewatch.pipeline import SiteTable
from latticewatch.pipeline._events import defect_events
from latticewatch.track import Transition

SHAPE = (48, 64)
calibrations = st.builds(
    Calibration,
    pixel_size_nm=st.floats(1e-3, 10),
    rotation_deg=st.floats(-720, 720),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
    stage_nm=st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)),
    origin=st.sampled_from(["centre", "first pixel"]),
)
places = st.tuples(st.floats(0, 4096), st.floats(0, 4096))


@given(calibrations, places, places)
def test_the_way_to_the_stage_leads_back(calibration: Calibration, place, drift) -> None:
    there = calibration.to_stage(*place, SHAPE, drift)
    assert there is not None
    assert calibration.from_stage(*there, SHAPE, drift) == pytest.approx(place, abs=1e-3)
    assert calibration.from_nm(*calibration.to_nm(*place)) == pytest.approx(place)
    assert calibration.turn_back(*calibration.turn(*place)) == pytest.approx(place, abs=1e-6)


@given(calibrations, places, places)
def test_neither_rotation_nor_flip_changes_a_distance(calibration: Calibration, one, other) -> None:
    a, b = calibration.to_stage(*one, SHAPE), calibration.to_stage(*other, SHAPE)
    assert a is not None
    assert b is not None
    assert math.dist(a, b) == pytest.approx(math.dist(one, other) * calibration.pixel_size_nm, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # ten columns to the right and five rows down of the centre, 0.1 nm each
        ({}, (1.0, 0.5)),
        ({"flip_x": True}, (-1.0, 0.5)),
        ({"flip_y": True}, (1.0, -0.5)),
        ({"rotation_deg": 90}, (-0.5, 1.0)),
        ({"rotation_deg": -90}, (0.5, -1.0)),
        ({"rotation_deg": 180}, (-1.0, -0.5)),
        ({"rotation_deg": 90, "flip_x": True}, (-0.5, -1.0)),
    ],
)
def test_the_scan_lies_on_the_stage_as_the_header_says(fields: dict, expected) -> None:
    calibration = Calibration(pixel_size_nm=0.1, stage_nm=(100.0, -50.0), **fields)
    place = calibration.to_stage(23.5 + 5, 31.5 + 10, SHAPE)
    assert place == pytest.approx((100.0 + expected[0], -50.0 + expected[1]))


def test_what_drifts_with_the_specimen_keeps_its_coordinates() -> None:
    calibration = Calibration(pixel_size_nm=0.1, rotation_deg=30, stage_nm=(0.0, 0.0))
    before = calibration.to_stage(10, 20, SHAPE)
    assert calibration.to_stage(13, 18, SHAPE, drift_px=(3, -2)) == pytest.approx(before)


def test_a_move_of_the_stage_is_the_opposite_move_of_the_picture() -> None:
    here = Calibration(pixel_size_nm=0.1, rotation_deg=70, flip_y=True, stage_nm=(5.0, 6.0))
    there = here.model_copy(update={"stage_nm": (7.0, 5.0)})
    place = here.to_stage(20, 20, SHAPE)
    assert place is not None
    a, b = here.stage_px(), there.stage_px()
    assert a is not None
    assert b is not None
    moved = there.from_stage(*place, SHAPE)
    assert moved == pytest.approx((20 - (b[0] - a[0]), 20 - (b[1] - a[1])))


def test_without_a_stage_or_a_pixel_size_nothing_is_invented() -> None:
    assert Calibration(pixel_size_nm=1).to_stage(0, 0, SHAPE) is None
    assert Calibration(pixel_size_nm=1).from_stage(0, 0, SHAPE) is None
    image = np.zeros(SHAPE)
    assert Frame(image, stage_nm=(1.0, 2.0)).calibration is None
    calibration = Frame(
        image, pixel_size_nm=0.1, rotation_deg=15.0, flip_x=True, calibration_id="c"
    ).calibration
    assert calibration == Calibration(pixel_size_nm=0.1, rotation_deg=15, flip_x=True, id="c")


class NoClasses:
    """What stands for a model."""

    version = 1
    classes = sublattices = ()


def test_an_event_gives_the_place_on_the_stage_of_a_turned_and_mirrored_scan() -> None:
    frame = Frame(
        np.zeros(SHAPE),
        pixel_size_nm=0.1,
        rotation_deg=90.0,
        flip_x=True,
        stage_nm=(100.0, -50.0),
        number=3,
        scalars={"temperature_K": 573.0},
    )
    model = cast("Any", NoClasses())
    transition = Transition("defect.appeared", 0, 7, 1, None, 0.9, {}, (28.5, 41.5), 0.1, 0)
    none = np.zeros(0)
    sites = SiteTable(none.reshape(0, 2), none, none, none, none, none)
    (draft,) = defect_events([transition], frame, model, (0.0, 0.0), sites)
    assert isinstance(draft.data, DefectEventData)
    assert draft.data.stage_nm is not None
    assert (draft.data.stage_nm.x, draft.data.stage_nm.y) == pytest.approx((99.5, -51.0))
    assert draft.data.scalars == {"temperature_K": 573.0}
    assert draft.data.nm is not None
    assert (draft.data.nm.x, draft.data.nm.y) == pytest.approx((4.15, 2.85))
