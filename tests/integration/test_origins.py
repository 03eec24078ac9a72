"""Every event says which series, source and detector it belongs to."""

from __future__ import annotations

import pytest

from _fake_learner import grid_image
from _running import Running, running
from latticewatch.messages import EVENT_TYPES
from latticewatch.record import EventLog

ORIGIN = ("series_id", "address", "detector")
# What the stand-in learner does not tell, or only a full disk brings: it goes the same way.
ELSEWHERE = {
    "defect.reclassified",
    "defect.moved",
    "defect.disappeared",
    "class.discovered",
    "class.merged",
    "class.split",
    "stream.paused",
    "log.gap",
}


def life(live: Running) -> None:
    """A bit of everything: frames, gaps, a late one, a stall, a name, a target, two series."""

    def told(kind: str) -> bool:
        return any(event.type == kind for event in live.engine.log.read().events)

    def send(n: int, vacancies=((2, 3),), **fields) -> None:
        live.sender.send(grid_image(vacancies=vacancies), n=n, detector="HAADF", **fields)

    send(4)
    live.analysed(4)
    send(2, skip=1)
    live.sender._next -= 3
    send(1)
    live.sender._next += 2
    live.until(lambda: told("frames.found"))
    live.until(lambda: told("stream.stalled"))
    send(3, vacancies=())
    live.until(lambda: told("stream.resumed"))
    catalogue = live.http.get("/v1/classes").json()
    entry = next(one for one in catalogue if one["role"] == "defect")
    live.http.patch(f"/v1/classes/{entry['class_id']}", json={"name": "V"}).raise_for_status()
    send(3)
    live.until(lambda: live.engine.receiver.counts().analysed >= 12)
    live.http.post("/v1/targets:next", json={"holder": "me", "policy": "nearest"}).raise_for_status()
    note = {"target": f"{live.engine.log.stream}/1", "holder": "me", "outcome": "note"}
    live.http.post("/v1/annotations", json=note).raise_for_status()
    send(2, series_id="series B")
    live.until(lambda: live.engine.receiver.counts().analysed >= 14)
    live.sender.end("series B")


def test_every_event_says_series_source_and_detector(tmp_path):
    with running(tmp_path, ingest={"stall_after_s": 1.0}) as live:
        life(live)
        address = live.engine.sources[0]
        stream = live.engine.log.stream
    with running(tmp_path) as later:
        assert later.engine.log.stream == stream
        events = later.engine.log.read(limit=1000).events
    assert {event.type for event in events} >= set(EVENT_TYPES) - ELSEWHERE
    for event in events:
        lacking = [name for name in ORIGIN if not event.data.get(name)]
        # a series is announced by its first message, which need not say who made its frames
        assert not set(lacking) - {"detector"}, event
        assert not lacking or event.type == "series.started", event
        assert event.data["address"] == address
        assert event.data.get("detector", "HAADF") == "HAADF"
    named = [event.data["series_id"] for event in events if event.type == "class.renamed"]
    assert set(named) == {"series A"}


@pytest.mark.parametrize("kept", [b'["a"]', b'[["a", "tcp://one:5555", "HAADF"]]'], ids=["before", "now"])
def test_series_that_a_kill_left_open_end_with_their_origin(tmp_path, kept):
    with EventLog(tmp_path / "events.sqlite", "/latticewatch/stem") as log:
        log.append([], {"series": kept})
    with running(tmp_path) as live:
        (event,) = live.engine.log.read(types=["series.ended"]).events
    assert event.data["series_id"] == "a"
    assert event.data["reason"] == "service restarted"
    assert (event.data.get("address"), event.data.get("detector")) in {
        (None, None),
        ("tcp://one:5555", "HAADF"),
    }
