"""Other people's frameworks, without hardware: each against the real application, told events."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import contextmanager

import pytest

from latticewatch.errors import StaleStreamError
from latticewatch_client import FakeService


def defect(n):
    data = {
        "series_id": "a", "frame": n, "t_received": 1.0, "t_emitted": 1.0, "model_version": 1, "track": n,
        "class_id": 3, "class_name": f"class {n}", "role": "defect", "confidence": n / 1000,
        "px": {"row": 500.0, "col": 100.0 + n}, "sigma_px": 0.1, "nm": {"x": 2.0 + n / 50, "y": 10.0},
        "stage_nm": {"x": float(n), "y": -float(n)},
    }  # fmt: skip
    return {"type": "defect.appeared", "data": data}


@pytest.fixture
def service():
    with FakeService([defect(1)]) as told:
        yield told


def test_a_target_is_an_acquisition_in_micrometres(service):
    useq = pytest.importorskip("useq")
    from latticewatch_client.adapters.useq import mda_event

    with service.client() as client:
        target = client.targets().targets[0]
    event = mda_event(target, exposure_ms=20.0, p=4)
    assert isinstance(event, useq.MDAEvent)
    assert (event.x_pos, event.y_pos) == pytest.approx((0.001, -0.001), abs=1e-6)
    assert (dict(event.index), event.exposure) == ({"p": 4}, 20.0)
    assert event.metadata["latticewatch"]["target"] == target.id
    nowhere = target.model_copy(update={"track": target.track.model_copy(update={"stage_nm": None})})
    with pytest.raises(ValueError, match="no place on the stage"):
        mda_event(nowhere)


def test_the_protocol_of_language_models_reads_and_only_reads(service):
    mcp = pytest.importorskip("mcp")
    from latticewatch_client.adapters.mcp import server_of

    async def ask():
        with service.client() as client:
            async with mcp.Client(server_of(client)) as asking:
                tools = (await asking.list_tools()).tools
                answers = {}
                for name, given in (
                    ("status", {}), ("counts", {}), ("classes", {}), ("next_target", {"policy": "nearest"}),
                    ("events", {"limit": 2}),
                ):  # fmt: skip
                    answers[name] = (await asking.call_tool(name, given)).structured_content
                cursor = answers["events"]["cursor"]
                answers["rest"] = (
                    await asking.call_tool("events", {"after": cursor, "types": ["defect.*"]})
                ).structured_content
                return tools, answers

    service.tell(defect(2), defect(3))
    tools, answers = asyncio.run(ask())
    assert {one.name for one in tools} == {"status", "counts", "classes", "events", "next_target"}
    assert all(one.annotations.read_only_hint for one in tools)
    assert answers["status"]["phase"] == "live"
    assert answers["next_target"]["free"] == 3
    assert [one["seq"] for one in answers["events"]["events"]] == [1, 2]
    assert [one["seq"] for one in answers["rest"]["events"]] == [3]
    with service.client() as client:
        assert client.status().last_seq == 3, "advice leases nothing"


def test_a_hundred_events_are_a_hundred_whole_rows_and_a_stale_stream_raises(service):
    bluesky = pytest.importorskip("bluesky")
    pytest.importorskip("ophyd_async")
    from bluesky.utils import FailedStatus

    from latticewatch_client.adapters.bluesky import DefectFeed, watch_defects

    engine = bluesky.RunEngine(context_managers=[])
    rows = []
    engine.subscribe(lambda name, doc: rows.append(doc["data"]) if name == "event" else None)
    feed = DefectFeed(service.url, after=1, timeout_s=30)
    # While the plan runs: in bursts, so that some wait for it and it waits for others.
    telling = threading.Thread(target=lambda: [service.tell(defect(n)) for n in range(2, 102)])
    telling.start()
    engine(watch_defects(feed, 100))
    telling.join(20)
    assert [row["defects-seq"] for row in rows] == list(range(2, 102))
    for row in rows:
        n = row["defects-seq"]
        assert (row["defects-track"], row["defects-frame"], row["defects-class_name"]) == (n, n, f"class {n}")
        assert (row["defects-stage_x"], row["defects-stage_y"]) == (n, -n)
        assert row["defects-confidence"] == n / 1000
    service.tell(defect(200), {"type": "stream.stalled", "data": {"series_id": "a", "last_frame_age_s": 9.0}})
    with pytest.raises(FailedStatus) as failed:
        engine(watch_defects(feed, 1))
    assert isinstance(failed.value.__cause__, StaleStreamError)
    assert len(rows) == 100


@contextmanager
def tiled_server(folder):
    """A Tiled server on a free port, in a thread, and a client of it."""
    import uvicorn
    from tiled.catalog import in_memory
    from tiled.client import from_uri
    from tiled.config import Authentication
    from tiled.server.app import build_app

    app = build_app(
        in_memory(writable_storage=[str(folder)]), authentication=Authentication(single_user_api_key="secret")
    )

    async def typed(scope, receive, send):
        # Its client does not say that it sends JSON, which today's FastAPI wants to hear.
        names = [name for name, _ in scope.get("headers", ())]
        if scope["type"] == "http" and b"content-type" not in names:
            scope["headers"] = [*scope["headers"], (b"content-type", b"application/json")]
        await app(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(typed, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield from_uri(f"http://127.0.0.1:{bound.getsockname()[1]}", api_key="secret")
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.mark.slow
def test_a_finished_series_is_in_a_tiled_server_with_its_frames_and_events(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    pytest.importorskip("tiled.server.app")
    pytest.importorskip("tiled.client")
    pytest.importorskip("pandas")
    from _fake_learner import grid_image
    from _running import running
    from latticewatch_client.adapters.tiled import SPEC, register_series

    # Tiled 0.2.1, the last that goes with our pydantic-settings, asks FastAPI for what that had before 0.120.
    monkeypatch.setattr(
        "tiled.server.authentication.StrictAPIKeyHeader.check_api_key", lambda self, key, must: key
    )
    recording = tmp_path / "recording"
    record = {"recording": recording, "recording_reserve_gib": 0.0}
    with running(tmp_path / "data", record=record) as live:
        for k in range(6):
            vacancies = [(1, 1)] if k < 3 else [(1, 1), (3, 2)]
            live.sender.send(grid_image(vacancies=vacancies), scalars={"temperature_K": 300.0 + k})
        live.analysed(6)
        live.until(lambda: live.engine.status().recording.recorded == 6)
        with tiled_server(tmp_path / "tiled") as there:
            with pytest.raises(ValueError, match="has not ended"):
                register_series(there, recording, "series A")
            live.sender.end()
            live.until(lambda: live.engine.state.series_id is None)
            told = [one for one in live.engine.log.read(0, 1000, None).events if "series_id" in one.data]
            (written,) = recording.glob("*/latticewatch/events.jsonl")
            live.until(lambda: "series.ended" in written.read_text())
            series = register_series(there, recording, "series A", {"operator": "A. Person"})
            assert [one.name for one in series.specs] == [SPEC]
            frames, events = series["frames"].read(), series["events"].read()
            assert frames["frame"].tolist() == list(range(6))
            assert frames["scalars.temperature_K"].tolist() == [300.0 + k for k in range(6)]
            assert (frames["stage_nm.x"] == 100.0).all()
            assert events["seq"].tolist() == [one.seq for one in told]
            appeared = events[events["type"] == "defect.appeared"]
            assert len(appeared) == 2
            assert appeared["class_name"].notna().all()
            assert json.loads(appeared["data"].iloc[0])["track"] == appeared["track"].iloc[0]
            assert series.metadata["operator"] == "A. Person"
            assert series.metadata["latticewatch"]["n_events"] == len(told)
            # Twice is once, and what is something else is not written over.
            again = register_series(there, recording, "series A")
            assert again.metadata["latticewatch"] == series.metadata["latticewatch"]
            assert list(there) == ["series_A"]
            with pytest.raises(ValueError, match="no frame of series 'series B'"):
                register_series(there, recording, "series B")
