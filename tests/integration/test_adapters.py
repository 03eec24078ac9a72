"""Other people's frameworks, without hardware: each against the real application, told events."""

from __future__ import annotations

import asyncio
import threading

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
