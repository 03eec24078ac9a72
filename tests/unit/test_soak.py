"""A long stream leaves the classes as they are, whether focus, dose and dirt drift slowly or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import soak

# More than what caches and kernels take once the stream runs [MiB].
MEMORY_MB = 30.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "drift",
    [
        "none",
        "dose",
        pytest.param(
            "focus",
            marks=pytest.mark.xfail(reason="a model learnt once does not follow the focus", strict=False),
        ),
    ],
)
def test_classes_hold_and_memory_stays_over_thousands_of_frames(drift):
    arguments = soak.parsed(["--frames", "3000", "--drifts", drift, "--renew", "150"])
    rows = list(soak.rows(arguments, drift))
    first, last = rows[1], rows[-1]
    assert [row["classes"] for row in rows] == [first["classes"]] * len(rows)
    assert first["F1"] > 0.9
    assert last["F1"] >= first["F1"] - 0.02
    assert min(row["F1"] for row in rows) > 0.85
    assert last["false"] <= first["false"] + 0.1
    assert last["memory_mb"] <= first["memory_mb"] + MEMORY_MB
