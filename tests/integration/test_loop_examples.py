"""The examples of loops over real sockets: simulator, service, client, control socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from _stand import example, standing
from latticewatch_client import ZmqMicroscope

EXAMPLES = sorted((Path(__file__).parents[2] / "docs/tutorial/loops").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_at_most_thirty_lines(path):
    assert len(EXAMPLES) == 4
    assert len(path.read_text().splitlines()) <= 30


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_example_runs_on_a_turned_scan_with_drift_and_overshoot(tmp_path):
    settings = {
        "defects": {"Fe": 0.02}, "scan_rotation_deg": 30.0, "overshoot": 0.1, "drift_nm_per_frame": (0.004, 0.003),
    }  # fmt: skip
    journal = tmp_path / "journal.jsonl"
    with standing(tmp_path / "data", "WS2", **settings) as stand:
        stand.wait_live(defects=2)
        looked = example("least_sure")(stand.url, stand.control, "most-uncertain", 2, 2)
        assert len(set(looked)) == len(looked) == 2
        sights = []
        assert example("follow")(stand.url, stand.control, 3, sights).failed == {}
        assert len(sights) == 3
        assert max(sight.offset_nm for sight in sights) <= 0.1
        report = example("visit")(stand.url, stand.control, str(journal), "", 1, 5.0)
        assert report.done > 0
        with ZmqMicroscope(stand.control) as microscope:
            assert microscope.state().blanked
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    targets = [entry["target"] for entry in entries if entry["what"] == "intent" and "found" in entry]
    assert len(set(targets)) == len(targets)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_beam_is_off_after_the_third_vacancy(tmp_path):
    settings = {
        "defects": {}, "dynamics": "beam", "creation_a2": 4e-8, "hop_a2": 0.0, "healing_a2": 0.0,
        "substitution_a2": 0.0, "shape": (256, 256), "fps": 8, "seed": 5,
    }  # fmt: skip
    with standing(tmp_path, **settings) as stand:
        stand.wait_live(defects=0)
        seen = example("expose_until")(stand.url, stand.control)
        with ZmqMicroscope(stand.control) as microscope:
            assert microscope.state().blanked
    assert len(seen) == 3
