"""The service for tests of one's own: the real application, told events."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from latticewatch.errors import ConfigurationError, CursorGoneError
from latticewatch_client import Client, FakeService


def defect(track, row=500.0, col=400.0, kind="defect.appeared", name="V_S", **fields):
    data = {
        "series_id": "a", "frame": track, "t_received": 1.0, "t_emitted": 1.0, "model_version": 1, "track": track,
        "class_id": 3, "class_name": name, "role": "defect", "kind": "vacancy", "confidence": 0.97,
        "px": {"row": row, "col": col}, "sigma_px": 0.1, "nm": {"x": col * 0.02, "y": row * 0.02},
        "stage_nm": {"x": 100 + (row - 511.5) * 0.02, "y": -50 - (col - 511.5) * 0.02},
    }  # fmt: skip
    return {"type": kind, "data": data | fields}


# Positions on the stage as above: columns count up against y, rows along x.
TURNED = {"rotation_deg": -90.0}


def test_recorded_events_are_in_the_log_and_what_they_leave_is_in_view(tmp_path):
    events = [
        {"type": "series.started", "data": {"series_id": "a"}},
        defect(1),
        defect(2, row=100.0),
        defect(2, row=110.0, kind="defect.moved"),
        defect(1, kind="defect.disappeared"),
    ]
    recorded = tmp_path / "events.jsonl"
    recorded.write_text("".join(json.dumps({"seq": 40 + n, **one}) + "\n" for n, one in enumerate(events)))
    with FakeService(recorded, **TURNED) as service, service.client() as client:
        seen = list(client.events(follow=False))
        assert [(one.seq, one.type) for one in seen] == [(n, e["type"]) for n, e in enumerate(events, 1)]
        assert client.status().phase == "live"
        (track,) = client.tracks().tracks
        assert (track.track, track.px.row, track.class_name) == (2, 110.0, "V_S")
        # Tracks and events say the same place.
        told = seen[3].data["stage_nm"]
        assert (track.stage_nm.x, track.stage_nm.y) == pytest.approx((told["x"], told["y"]), abs=1e-4)
        assert [one.name for one in client.classes()] == ["V_S"]
        # The file can be written by one service and read by the next.
        recorded.write_text("".join(one.model_dump_json() + "\n" for one in seen))
    with FakeService(recorded) as again, again.client() as client:
        assert [one.type for one in client.events(follow=False)] == [one["type"] for one in events]


def test_targets_are_leased_once_and_annotated_as_in_a_running_service():
    with FakeService([defect(1), defect(2, row=100.0)]) as service, service.client() as client:
        first, second = client.next_target("loop"), client.next_target("loop")
        assert {first.target.track.track, second.target.track.track} == {1, 2}
        assert client.next_target("loop").target is None
        client.annotate(first.target.id, "loop", "done")
        types = [one.type for one in client.events(follow=False)]
        assert types[-3:] == ["target.leased", "target.leased", "target.annotated"]


def test_who_waits_is_told_at_once_and_new_types_pass():
    with FakeService([defect(1)]) as service:
        heard, ready = [], threading.Event()

        def listen():
            with Client(service.url) as client:
                watch = client.watch()
                assert watch.tracks.n == 1
                ready.set()
                for event in watch.events:
                    heard.append(event.type)
                    if len(heard) == 2:
                        return

        thread = threading.Thread(target=listen)
        thread.start()
        assert ready.wait(20)
        service.tell({"type": "weather.changed", "data": {"rain": True}}, defect(2))
        thread.join(20)
        assert heard == ["weather.changed", "defect.appeared"]


def test_a_stalled_stream_and_a_foreign_cursor_are_what_they_are_in_a_running_service():
    with FakeService([defect(1)]) as service, service.client() as client:
        service.tell({"type": "stream.stalled", "data": {"series_id": "a", "last_frame_age_s": 9.0}})
        status = client.status()
        assert (status.phase, status.last_frame_age_s) == ("stalled", 9.0)
        service.tell({"type": "stream.resumed", "data": {"series_id": "a"}})
        assert client.status().phase == "live"
        with pytest.raises(CursorGoneError):
            next(client.events("another:1"))
        assert client.rename(3, "Fe_W").name == "Fe_W"
        assert client.tracks().tracks[0].class_name == "Fe_W"


def test_the_example_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    guide = (Path(__file__).parents[2] / "docs/how-to/follow-events.md").read_text(encoding="utf-8")
    (example,) = [one for one in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "FakeService" in one]
    (tmp_path / "events.jsonl").write_text(json.dumps(defect(1)) + "\n")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out == "1 defects in view at the end\nstalled\n"


def test_a_line_that_is_no_event_is_named(tmp_path):
    recorded = tmp_path / "events.jsonl"
    recorded.write_text('{"type": "series.started", "data": {"series_id": "a"}}\nhello\n')
    with pytest.raises(ConfigurationError, match=r"events\.jsonl, line 2: no event"):
        FakeService(recorded)
    with pytest.raises(ConfigurationError, match=r"event 1, defect\.moved: .*series_id"):
        FakeService([{"type": "defect.moved", "data": {"track": 1}}]).__enter__()
