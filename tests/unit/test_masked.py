"""Beside borders, holes and bars columns are what they are: no step, nothing unknown, no false defect."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from latticewatch.pipeline import ROLES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import specimens

SIDE = specimens.SIZE
ROWS, COLS = np.mgrid[:SIDE, :SIDE]
MASKS = {
    "border of an aligned stack": (ROWS < 22) | (COLS >= SIDE - 17),
    "thin border": ROWS >= SIDE - 5,
    "hole": np.hypot(ROWS - 120, COLS - 190) < 38,
    "bar": (ROWS > 290) & (ROWS < 300) & (COLS > 30) & (COLS < 150),
}


@pytest.mark.parametrize(
    ("where", "material", "value"),
    [
        ("border of an aligned stack", "WS2", np.nan),
        pytest.param("border of an aligned stack", "MoSe2", 0, marks=pytest.mark.slow),
        ("thin border", "WSe2", np.nan),
        ("hole", "MoS2", np.nan),
        pytest.param("hole", "WS2", 0, marks=pytest.mark.slow),
        ("bar", "WSe2", 65535),
    ],
)
def test_no_defect_and_nothing_unknown_stands_beside_what_is_no_specimen(where, material, value):
    frame, truth = specimens.made("perfect", material, 7)
    frame = frame.astype(np.float32)
    frame[MASKS[where]] = value
    result = specimens.classified(frame, truth.pixel_nm)
    codes = {note.code for note in result.notes}
    assert "no-specimen" in codes
    assert not codes & {"step", "thickness-varies"}
    role, position = np.array(ROLES)[result.sites.role], result.sites.position
    assert np.count_nonzero(role == "unknown") <= 1
    vacancies = truth.site[truth.defects()]
    said = position[role == "defect"]
    assert len(said) >= 5
    assert (KDTree(vacancies).query(said)[0] < specimens.NEAR * truth.nearest_px).all()
