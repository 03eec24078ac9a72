"""Several microscopes on one service: each has a model, tracks, events and an account of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from _fake_learner import FakeLearner, fake_analyse, grid_image
from _running import PATIENCE_S, Sender, settings_of, until
from latticewatch.errors import ServiceError
from latticewatch.execute import Engine
from latticewatch.microscopes import microscopes_of
from latticewatch.serve import Service
from latticewatch_client import Client

SOURCES = ("titan=tcp://127.0.0.1:0", "nion=tcp://127.0.0.1:0")


@dataclass
class Lab:
    service: Service
    senders: dict[str, Sender]
    http: httpx.Client

    def analysed(self, name: str, n: int) -> None:
        engine = self.service.engines[name]
        until(engine, lambda: engine.receiver.counts().analysed >= n)

    def get(self, path: str):
        return self.http.get(path).raise_for_status().json()


@contextmanager
def lab(data_dir: Path, **sections) -> Iterator[Lab]:
    settings = settings_of(data_dir, **{"ingest": {"sources": SOURCES}, **sections})
    engines = {
        name: Engine(one, learner=FakeLearner(), analyse=fake_analyse)
        for name, one in microscopes_of(settings).items()
    }
    with ExitStack() as stack:
        service = stack.enter_context(Service(settings, engines))
        senders = {name: Sender(engine.sources[0]) for name, engine in engines.items()}
        for sender in senders.values():
            stack.callback(sender.close)
        http = stack.enter_context(httpx.Client(base_url=service.url, timeout=PATIENCE_S))
        yield Lab(service, senders, http)


def test_each_microscope_has_model_tracks_events_and_account_of_its_own(tmp_path):
    with lab(tmp_path) as both:
        # frames of both by turns, of the same series and numbers, with other defects and another lattice size
        for _ in range(6):
            both.senders["titan"].send(grid_image(vacancies=((2, 3),)), detector="HAADF")
            both.senders["nion"].send(grid_image(size=96, vacancies=((1, 1), (4, 2))), detector="MAADF")
        both.senders["nion"].send(grid_image(size=96, vacancies=((1, 1), (4, 2))), skip=2)
        both.analysed("titan", 6)
        both.analysed("nion", 7)
        status = {name: both.get(f"/{name}/v1/status") for name in both.senders}
        assert {name: one["frames"]["received"] for name, one in status.items()} == {"titan": 6, "nion": 7}
        assert {name: one["frames"]["lost_upstream"] for name, one in status.items()} == {
            "titan": 0,
            "nion": 2,
        }
        assert {name: one["n_sites"] for name, one in status.items()} == {"titan": 64, "nion": 36}
        assert {one["source"] for one in status.values()} == {"/latticewatch/titan", "/latticewatch/nion"}
        assert [one["name"] for one in both.get("/v1/microscopes")] == ["titan", "nion"]
        for one in both.get("/v1/microscopes"):
            assert one["path"] == f"/{one['name']}/"
            assert one["status"]["frames"] == status[one["name"]]["frames"]

        # a name that a person gives goes into one model
        both.http.patch("/titan/v1/classes/1", json={"name": "V_W"}).raise_for_status()
        names = {name: {one["name"] for one in both.get(f"/{name}/v1/classes")} for name in both.senders}
        assert "V_W" in names["titan"]
        assert "V_W" not in names["nion"]

        for name, detector, defects in (("titan", "HAADF", 1), ("nion", "MAADF", 2)):
            events = both.get(f"/{name}/v1/events?limit=1000")["events"]
            appeared = [one for one in events if one["type"] == "defect.appeared"]
            assert len(appeared) == defects
            assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
            address = both.service.engines[name].sources[0]
            for one in events:
                assert one["source"] == f"/latticewatch/{name}"
                assert (one["data"]["address"], one["data"]["series_id"]) == (address, "series A")
                assert one["data"].get("detector", detector) == detector
            tracks = both.get(f"/{name}/v1/tracks")["tracks"]
            places = [(one["data"]["px"]["row"], one["data"]["px"]["col"]) for one in appeared]
            assert sorted((one["px"]["row"], one["px"]["col"]) for one in tracks) == sorted(places)


def test_one_microscope_that_falls_silent_or_sends_rubbish_holds_up_no_other(tmp_path):
    with lab(tmp_path, ingest={"sources": SOURCES, "stall_after_s": 0.2}) as both:
        both.senders["titan"].send(grid_image(), n=3)
        both.analysed("titan", 3)
        both.senders["titan"].message([b"{}", b"", b""])
        titan = both.service.engines["titan"]
        until(titan, lambda: titan.state.stalled)
        both.senders["nion"].send(grid_image(), n=5)
        both.analysed("nion", 5)
        assert both.get("/titan/v1/status")["phase"] == "stalled"
        assert both.get("/titan/v1/status")["frames"]["rejected"] == {"parts": 1}
        assert both.get("/nion/v1/status")["frames"]["rejected"] == {}
        assert both.http.get("/healthz").status_code == 200
        ready = both.http.get("/readyz")
        assert ready.status_code == 503
        assert "titan: the stream is stalled" in ready.json()["detail"]
        assert both.http.get("/titan/readyz").status_code == 503


def test_page_socket_client_and_metrics_of_one_are_below_its_name(tmp_path):
    with lab(tmp_path) as both:
        both.senders["nion"].send(grid_image(), n=4)
        both.analysed("nion", 4)
        assert "<title>Latticewatch" in both.http.get("/nion/").text
        assert both.http.get("/nion/favicon.svg").status_code == 200
        moved = both.http.get("/nion")
        assert (moved.status_code, moved.headers["location"]) == (307, "nion/")
        listed = both.http.get("/").text
        assert '<a href="titan/">titan</a>' in listed
        assert '<a href="nion/">nion</a>' in listed
        with connect(both.service.url.replace("http", "ws") + "/nion/v1/events/ws") as socket:
            socket.send('{"after": 0}')
            assert "/latticewatch/nion" in str(socket.recv(PATIENCE_S))
        with Client(both.service.urls["nion"]) as client:
            assert client.status().frames.analysed == 4
            assert all(event.source == "/latticewatch/nion" for event in client.events(after=0, follow=False))
        text = both.http.get("/metrics").text
        (analysed,) = (
            family
            for family in text_string_to_metric_families(text)
            if family.name == "latticewatch_frames_analysed"
        )
        assert {one.labels["microscope"]: one.value for one in analysed.samples} == {"titan": 0, "nion": 4}
        assert "latticewatch_frames_analysed_total 4.0" in both.http.get("/nion/metrics").text


def test_who_names_no_microscope_is_told_which_there_are(tmp_path):
    with lab(tmp_path) as both:
        with Client(both.service.url) as client, pytest.raises(ServiceError, match="titan, nion"):
            client.status()
        for path in ("/v1/status", "/other/v1/status", "/titanic", "/v1/events?after=0"):
            answer = both.http.get(path)
            assert answer.status_code == 404
            assert "/titan/v1/status" in answer.json()["detail"]


def test_keys_are_asked_for_whatever_the_name(tmp_path):
    with lab(tmp_path, serve={"read_key": "r" * 20, "control_key": "c" * 20}) as both:
        paths = ("/v1/microscopes", "/metrics", "/titan/v1/status", "/nion/v1/classes", "/nion/metrics")
        for path in paths:
            assert both.http.get(path).status_code == 401
            assert both.http.get(path, headers={"Authorization": f"Bearer {'r' * 20}"}).status_code == 200
        # the list of links says nothing of what is seen
        assert "waiting" not in both.http.get("/").text
        asked = both.http.post("/titan/v1/model:relearn", headers={"Authorization": f"Bearer {'r' * 20}"})
        assert asked.status_code == 403
        assert both.http.get("/v1/microscopes", headers={"Host": "evil.example"}).status_code == 421
        assert both.http.get("/titan/v1/status", headers={"Host": "evil.example"}).status_code == 421


def test_each_goes_on_with_its_own_tracks_after_a_restart(tmp_path):
    with lab(tmp_path) as both:
        for name in both.senders:
            both.senders[name].send(grid_image(), n=4)
            both.analysed(name, 4)
        streams = {name: both.get(f"/{name}/v1/status")["stream"] for name in both.senders}
        assert len(set(streams.values())) == 2
    with lab(tmp_path) as again:
        assert {name: again.get(f"/{name}/v1/status")["stream"] for name in again.senders} == streams


def test_the_list_says_each_thing_once(tmp_path):
    with lab(tmp_path) as both:
        both.senders["titan"].message([b"no frame"])
        titan = both.service.engines["titan"]
        until(titan, lambda: titan.receiver.counts().rejected)
        row = both.http.get("/").text.partition(">titan</a>")[2].partition("<tr>")[0]
        lines = row.removeprefix("<td>").split("<br>")
        assert both.get("/titan/v1/status")["detail"] in [unescape(line) for line in lines]
        assert len(lines) == len(set(lines))
