"""The program of the loop tutorial: on paper against a service that is told events, really against a real one."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from _stand import FREE, standing
from latticewatch_client import FakeService, ZmqMicroscope
from latticewatch_simulator import Simulation, SimulatorSettings

PAGE = Path(__file__).parents[2] / "docs/tutorial/first-loop.md"


def example(containing, **changes):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if containing in block]
    for before, after in changes.items():
        before = {
            "service": "http://127.0.0.1:8765",
            "control": "tcp://127.0.0.1:5556",
            "dry": ", dry_run=True",
        }[before]
        assert before in code
        code = code.replace(before, after)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {})
    return said.getvalue()


def defect(track, confidence=0.97):
    data = {
        "series_id": "a", "frame": track, "t_received": 1.0, "t_emitted": 1.0, "model_version": 1, "track": track,
        "class_id": 3, "class_name": "V_S", "role": "defect", "kind": "vacancy", "confidence": confidence,
        "px": {"row": 500.0, "col": 100.0 * track}, "sigma_px": 0.1, "nm": {"x": 2.0 * track, "y": 10.0},
        "stage_nm": {"x": 2.0 * track - 10.23, "y": -0.23},
    }  # fmt: skip
    return {"type": "defect.appeared", "data": data}


def test_the_program_says_what_it_would_do_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(defect(n)) + "\n" for n in (1, 2, 3)))
    with (
        Simulation(SimulatorSettings.checked(shape=(128, 128)), bind=FREE, control=FREE) as simulation,
        FakeService("events.jsonl") as service,
    ):
        with ZmqMicroscope(simulation.control_endpoint) as microscope:
            before = microscope.state()
        said = example("dry_run", service=service.url, control=simulation.control_endpoint)
        with service.client() as client:
            assert not list(client.events(types=["target.leased"], follow=False))
        with ZmqMicroscope(simulation.control_endpoint) as microscope:
            after = microscope.state()
    assert said.count("would V_S centre") == 3
    assert said.endswith("would act: 3 done: 0\n")
    assert (after.x_nm, after.y_nm, after.blanked) == (before.x_nm, before.y_nm, before.blanked)
    assert Path("mine.jsonl").read_text() == ""
    assert example("FakeService") == "V_S\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_program_acts_when_it_is_let(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with standing(tmp_path / "data", "WS2", defects={"Fe": 0.02}) as stand:
        stand.wait_live(defects=3)
        said = example("dry_run", service=stand.url, control=stand.control, dry="")
    entries = [json.loads(line) for line in Path("mine.jsonl").read_text().splitlines()]
    targets = [one["target"] for one in entries if one["what"] == "intent"]
    assert re.search(r"done: [1-3]\n$", said), said
    assert 1 <= len(targets) == len(set(targets)) <= 3
