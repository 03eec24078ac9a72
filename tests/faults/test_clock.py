"""Somebody sets the clock of the computer while the service runs: durations stay what they are."""

from __future__ import annotations

import time

import pytest
from websockets.sync.client import connect

from _fake_learner import fake_analyse, grid_image
from _running import PATIENCE_S, running
from latticewatch.messages import LiveRequest, unpack_live

HOUR_S = 3600.0


@pytest.mark.parametrize(
    "steps", [(HOUR_S, 0.0), (-HOUR_S, HOUR_S)], ids=["ahead and back", "back and ahead"]
)
def test_no_duration_jumps_with_the_clock(tmp_path, monkeypatch, steps):
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    with running(tmp_path, ingest={"stall_after_s": 60.0}) as live:
        n = 0
        for step, row in zip((0.0, *steps), (1, 3, 5), strict=True):
            offset[0] = step
            live.sender.send(grid_image(vacancies=[(row, 2), (row, 5)]), n=6)
            n += 6
            live.analysed(n)
            offset[0] = step + HOUR_S if step <= 0 else 0.0
            # the clock was set between the last frame and the question
            status = live.http.get("/v1/status").json()
            assert status["phase"] == "live"
            assert status["latency_ms"]["p99"] < 1e3 * PATIENCE_S
            assert 0 <= status["last_frame_age_s"] < PATIENCE_S
            assert status["fps"] > 0
            assert 0 <= live.engine.operation.stored_age_s < PATIENCE_S
            with connect(f"{live.ws}/v1/live") as page:
                page.send(LiveRequest().model_dump_json())
                shown, _ = unpack_live(page.recv(PATIENCE_S))
            assert shown.age_s is not None
            assert 0 <= shown.age_s < PATIENCE_S
            assert live.http.get("/readyz").status_code == 200
            assert live.http.get("/v1/history").status_code == 200
        events = live.http.get("/v1/events", params={"limit": 1000}).json()["events"]
    kinds = [event["type"] for event in events]
    assert "defect.appeared" in kinds
    assert not {"stream.stalled", "series.ended", "log.gap", "frames.lost"} & set(kinds)
    for event in events:
        if event["type"].startswith("defect."):
            assert event["data"]["t_emitted"] >= event["data"]["t_received"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("step", [HOUR_S, -HOUR_S], ids=["ahead", "back"])
def test_a_frame_takes_as_long_as_it_takes_though_the_clock_is_set_meanwhile(tmp_path, monkeypatch, step):
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    def analyse(frame, model, settings):
        # it was received before
        offset[0] = step
        return fake_analyse(frame, model, settings)

    with running(tmp_path, analyse=analyse, ingest={"stall_after_s": 60.0}) as live:
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        assert 0 <= live.http.get("/v1/status").json()["latency_ms"]["p99"] < 1e3 * PATIENCE_S
        events = live.http.get("/v1/events", params={"types": "defect.*"}).json()["events"]
    assert events
    for event in events:
        assert event["data"]["t_emitted"] >= event["data"]["t_received"]
