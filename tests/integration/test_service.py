"""The service over real sockets: frames in by ZeroMQ, states and events out by HTTP."""

from __future__ import annotations

import io
import re
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from _fake_learner import HOST, VACANCY, FakeLearner, fake_analyse, grid_image
from _running import PATIENCE_S, running, settings_of
from latticewatch.errors import ConfigurationError
from latticewatch.execute import Engine
from latticewatch.messages import Counts, EventPage, FrameInfo, Status, Tracks, encode_frame
from latticewatch.serve import Service, run_service
from latticewatch_client import Client


@pytest.fixture
def live(tmp_path):
    with running(tmp_path) as service:
        yield service


def test_a_defect_in_a_frame_becomes_an_event_with_its_place_on_the_specimen(live):
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=5)
    page = live.http.get("/v1/events", params={"after": 0, "wait": PATIENCE_S, "types": "defect.appeared"})
    (event,) = EventPage.model_validate_json(page.content).events
    data = event.data
    assert (data["px"]["row"], data["px"]["col"]) == (56.0, 72.0)
    assert data["stage_nm"]["x"] == pytest.approx(100.0 + (72 - 63.5) * 0.02)
    assert data["t_received"] <= data["t_emitted"]


def test_each_defect_is_reported_once_however_many_frames_show_it(live):
    live.sender.send(grid_image(vacancies=[(1, 1)]), n=6)
    live.sender.send(grid_image(vacancies=[(1, 1), (5, 2)]), n=6)
    live.analysed(12)
    with Client(live.url) as client:
        appeared = [event.data["px"] for event in client.events(types=["defect.appeared"], follow=False)]
    assert appeared == [{"row": 24.0, "col": 24.0}, {"row": 88.0, "col": 40.0}]


def test_sequence_numbers_are_dense_and_in_the_order_of_frames(live):
    for number in range(10):
        live.sender.send(grid_image(vacancies=[(number % 8, number // 8)]))
    live.analysed(10)
    events = EventPage.model_validate_json(live.http.get("/v1/events").content).events
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    frames = [event.data["frame"] for event in events if event.type == "defect.appeared"]
    assert frames == sorted(frames)
    assert len(frames) == 10


def test_every_frame_is_accounted_for_when_some_cannot_be_analysed(live):
    live.sender.send(grid_image(), n=4)
    live.sender.send(np.full((128, 128), 7, np.uint16), n=3)
    live.sender.send(grid_image(), n=4, skip=2)
    live.analysed(8)
    frames = Status.model_validate_json(live.http.get("/v1/status").content).frames
    assert (frames.received, frames.analysed, frames.dropped) == (11, 8, {"error": 3})
    assert (frames.in_flight, frames.lost_upstream) == (0, 2)
    lost = live.http.get("/v1/events", params={"types": "frames.lost"}).json()["events"]
    assert [(one["data"]["first_frame"], one["data"]["last_frame"]) for one in lost] == [(7, 8)]


def test_status_counts_tracks_and_frame_tell_of_the_same_frame(live):
    live.sender.send(grid_image(vacancies=[(0, 0), (2, 5)]), n=5)
    live.analysed(5)
    counts = Counts.model_validate_json(live.http.get("/v1/counts").content)
    tracks = Tracks.model_validate_json(live.http.get("/v1/tracks").content)
    frame = FrameInfo.model_validate_json(live.http.get("/v1/frames/latest").content)
    status = Status.model_validate_json(live.http.get("/v1/status").content)
    assert counts.frame == tracks.frame == frame.frame == status.last_frame == 4
    assert counts.as_of_seq == tracks.as_of_seq == frame.as_of_seq == status.last_seq
    assert counts.by_role["defect"] == tracks.n == len(tracks.tracks) == 2
    assert sum(counts.by_role.values()) == status.n_sites == frame.n_sites == 64
    assert {one.class_id: one.n for one in counts.by_class} == {HOST: 62, VACANCY: 2}
    assert tracks.tracks[0].nm.x == pytest.approx(tracks.tracks[0].px.col * 0.02)
    assert status.phase == "live"
    assert live.http.get("/readyz").status_code == 200


def test_the_history_tells_of_the_same_frames_as_the_counts(live):
    live.sender.send(grid_image(vacancies=[(3, 4), (5, 1)]), n=5)
    live.analysed(5)
    with Client(live.url) as client:
        history, counts, tracks = client.history(), client.counts(), client.tracks()
        newest = client.history(points=1)
        host = client.history(class_id=HOST)
        assert not client.history(since=history.end[-1]).frames
        assert client.history(since=history.end[-2]).frames == [1]
    assert history.as_of_seq == counts.as_of_seq
    assert sum(history.frames) == sum(newest.frames) == live.engine.receiver.counts().analysed
    assert len(newest.frames) == 1
    assert history.start == sorted(history.start)
    for role, course in history.by_role.items():
        assert course.mean[-1] == counts.by_role[role]
    for course in history.by_class:
        (now,) = [one for one in counts.by_class if one.class_id == course.class_id]
        assert (course.name, course.role, course.mean[-1]) == (now.name, now.role, now.n)
    assert [course.class_id for course in host.by_class] == [HOST]
    assert history.area_nm2 == pytest.approx((128 * 0.02) ** 2)
    # the defects were there from the first
    assert sum(history.events["found"]) == tracks.n == 2
    assert history.rates["appeared"].n == 0
    assert history.lifetimes.n_ended == 0
    assert (history.distances.unit, history.distances.n) == ("nm", 2)


def test_a_history_without_frames_is_empty(tmp_path):
    with running(tmp_path) as live, Client(live.url) as client:
        history = client.history()
    assert (history.frames, history.by_class, history.distances, history.seconds) == ([], [], None, 0.0)


def test_rates_per_dose_use_the_dose_of_the_header(tmp_path):
    with running(tmp_path) as live, Client(live.url) as client:
        live.sender.send(grid_image(), n=4, dose_e_per_a2=1e4)
        live.sender.send(grid_image(vacancies=[(3, 4), (5, 1)]), dose_e_per_a2=1e4)
        live.analysed(5)
        history = client.history()
    assert history.dose_e_per_a2 == pytest.approx(4e4)
    rate = history.rates["appeared"]
    assert rate.per_nm2_per_dose == pytest.approx(rate.n / (history.area_nm2 * 4e4))


def test_the_limit_of_tracks_keeps_the_number_that_matched(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    tracks = Tracks.model_validate_json(live.http.get("/v1/tracks?role=host&limit=5").content)
    assert (len(tracks.tracks), tracks.n) == (5, 63)


def test_a_rename_changes_the_catalogue_and_is_an_event(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    with Client(live.url) as client:
        assert client.rename(VACANCY, "V_S").name == "V_S"
        assert client.class_(VACANCY).name == "V_S"
        (renamed,) = client.events(types=["class.renamed"], follow=False)
    assert (renamed.data["previous_name"], renamed.data["class_name"]) == ("vacancy", "V_S")


def test_a_new_role_changes_the_counts_of_the_frame_that_is_shown(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    with Client(live.url) as client:
        client.set_role(VACANCY, "neighbour")
        counts = client.counts()
    assert (counts.by_role["defect"], counts.by_role["neighbour"]) == (0, 1)


def test_a_merge_moves_the_sites_to_the_class_that_stays(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    with Client(live.url) as client:
        client.merge(HOST, [VACANCY])
        assert [(one.class_id, one.count) for one in client.classes()] == [(HOST, 64)]


@pytest.mark.parametrize(
    ("class_id", "body", "status"),
    [
        (99, {"name": "x"}, 404),
        (HOST, {"merge": [99]}, 404),
        (HOST, {"merge": [HOST]}, 409),
        (HOST, {"name": ""}, 422),
        (HOST, {"name": "a\nb"}, 422),
        (HOST, {"role": "king"}, 422),
        (HOST, {"colour": "red"}, 422),
        ("x", {"name": "x"}, 422),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_and_changes_nothing(live, class_id, body, status):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    before = live.http.get("/v1/classes").json()
    answer = live.http.patch(f"/v1/classes/{class_id}", json=body)
    assert answer.status_code == status
    assert "detail" in answer.json()
    assert live.http.get("/v1/classes").json() == before


def test_relearning_starts_a_new_learning_phase(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    with Client(live.url) as client:
        assert client.relearn().phase == "learning"
        assert client.classes() == []
        live.sender.send(grid_image(), n=3)
        live.analysed(6)
        assert client.status().phase == "live"
        assert client.status().model_version == 2


def test_a_stream_that_falls_silent_is_stalled_until_a_frame_comes(tmp_path):
    with running(tmp_path, ingest={"stall_after_s": 0.2}) as live, Client(live.url) as client:
        live.sender.send(grid_image(), n=3)
        events = client.events(types=["stream.*"])
        assert next(events).type == "stream.stalled"
        assert client.status().phase == "stalled"
        assert live.http.get("/readyz").status_code == 503
        live.sender.send(grid_image())
        assert next(events).type == "stream.resumed"


def test_a_series_after_a_stall_resumes_the_stream(tmp_path):
    with running(tmp_path, ingest={"stall_after_s": 0.2}) as live, Client(live.url) as client:
        live.sender.send(grid_image(), n=3)
        events = client.events(types=["stream.*"])
        assert next(events).type == "stream.stalled"
        live.sender.end()
        live.sender.send(grid_image(), series_id="series B")
        resumed = next(events)
        assert (resumed.type, resumed.data["series_id"]) == ("stream.resumed", "series B")


def test_a_frame_that_is_still_being_scanned_is_shown_and_not_counted(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    before = live.http.get("/v1/frames/latest.png").content
    half = grid_image()
    half[64:] = 0
    parts = encode_frame(half, frame=3, series_id="series A", msg_number=4, partial=True)
    live.sender.message(parts)
    live.until(lambda: live.engine.state.partials == 1)
    assert live.http.get("/v1/frames/latest.png").content != before
    live.sender.send(grid_image())
    live.analysed(4)
    assert live.http.get("/v1/frames/latest.png").content == before
    counts = live.engine.receiver.counts()
    assert (counts.received, counts.analysed, counts.lost_upstream, counts.dropped) == (4, 4, 0, {})


def test_a_frame_that_comes_late_is_taken_back_from_the_lost_ones(live):
    live.sender.send(grid_image(), n=3)
    live.sender.send(grid_image(), skip=2)
    live.analysed(4)
    late = encode_frame(grid_image(), frame=4, series_id="series A", msg_number=5, pixel_size_nm=0.02)
    live.sender.message(late)
    live.until(lambda: live.engine.receiver.counts().dropped)
    live.until(lambda: live.engine.receiver.counts().lost_upstream == 1)
    with Client(live.url) as client:
        told = client.events(types=["frames.*"])
        events = [next(told), next(told)]
    assert [(event.type, event.data["n"]) for event in events] == [("frames.lost", 2), ("frames.found", 1)]
    assert events[1].data["first_frame"] == 4


def test_a_series_that_has_ended_does_not_stall(tmp_path):
    with running(tmp_path, ingest={"stall_after_s": 0.1}) as live, Client(live.url) as client:
        live.sender.send(grid_image(), n=3)
        live.sender.end()
        ended = next(client.events(types=["series.ended"]))
        assert ended.data["frames"] == 3
        threading.Event().wait(0.3)  # three times as long as would be a stall
        live.sender.send(grid_image(), n=2, series_id="series B")
        # on a busy machine frames of a series may come apart: after its end nothing is late
        assert next(client.events(str(client.cursor))).type == "series.started"


def test_a_client_goes_on_where_it_stopped_after_the_service_was_restarted(tmp_path):
    with running(tmp_path) as live, Client(live.url) as client:
        live.sender.send(grid_image(vacancies=[(1, 1)]), n=4)
        live.analysed(4)
        list(client.events(follow=False))
        kept = str(client.cursor)
    with running(tmp_path) as live, Client(live.url) as client:
        live.sender.send(grid_image(vacancies=[(2, 2)]), n=4)
        live.analysed(4)
        events = list(client.events(kept, follow=False))
    assert events[0].seq == int(kept.rpartition(":")[2]) + 1
    assert [event.type for event in events] == [
        "series.ended",
        "series.started",
        "defect.appeared",
        "model.updated",
    ]


def test_a_long_poll_without_events_is_answered_after_its_wait(live):
    before = time.monotonic()
    page = EventPage.model_validate_json(live.http.get("/v1/events?after=now&wait=0.3").content)
    assert time.monotonic() - before >= 0.3
    assert page.events == []
    assert page.next == page.last_seq


def test_a_wait_is_cut_to_what_the_service_allows(tmp_path):
    with running(tmp_path, serve={"max_wait_s": 0.2}) as live:
        assert live.http.get("/v1/events?after=now&wait=3600").elapsed.total_seconds() < 5


def test_stopping_lets_waiting_clients_go_at_once(tmp_path):
    answers = []
    with running(tmp_path) as live:

        def wait():
            answers.append(httpx.get(f"{live.url}/v1/events?after=now&wait=25", timeout=40).status_code)

        waiting = threading.Thread(target=wait)
        waiting.start()
        live.until(lambda: live.service._news[0]._listening)
        before = time.monotonic()
        live.service.stop()
        assert time.monotonic() - before < 10
        waiting.join(5)
    assert answers == [200]


def test_frames_that_wait_when_the_service_stops_are_counted(tmp_path):
    entered, release = threading.Event(), threading.Event()

    def slow(frame, model, settings):
        entered.set()
        release.wait(PATIENCE_S)
        raise RuntimeError("never mind")

    with running(tmp_path, analyse=slow, ingest={"queue_frames": 4}) as live:
        live.sender.send(grid_image(), n=4)
        assert entered.wait(PATIENCE_S)
        live.until(lambda: live.engine.receiver.counts().received == 4)
        release.set()
        counts = live.service.stop()[""]
    assert counts.in_flight == 0
    assert counts.received == 4 == sum(counts.dropped.values())


def test_server_sent_events_resume_after_the_last_id(live):
    live.sender.send(grid_image(vacancies=[(1, 1), (2, 2)]), n=4)
    live.analysed(4)
    first = live.http.get("/v1/events?limit=1").json()["events"][0]
    with live.http.stream("GET", "/v1/events/stream", headers={"Last-Event-ID": first["id"]}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        ids = (line[4:] for line in answer.iter_lines() if line.startswith("id: "))
        assert next(ids) == f"{first['stream']}:{first['seq'] + 1}"
    gone = live.http.get("/v1/events/stream", headers={"Last-Event-ID": "another-log:1"})
    assert gone.status_code == 410


def test_metrics_count_frames_by_reason_and_latency(live):
    live.sender.send(grid_image(), n=4)
    live.sender.send(np.full((128, 128), 7, np.uint16), n=1)
    live.sender.send(grid_image(), n=1)
    live.analysed(5)
    lines = live.http.get("/metrics").text.splitlines()
    assert "latticewatch_frames_received_total 6.0" in lines
    assert 'latticewatch_frames_dropped_total{reason="error"} 1.0' in lines
    assert 'latticewatch_latency_seconds_bucket{le="+Inf"} 5.0' in lines
    assert 'latticewatch_events_told_total{type="series.started"} 1.0' in lines
    assert "latticewatch_writes_failed_total 0.0" in lines


def test_the_reference_lists_every_metric_and_rules_and_panels_use_no_other(live, project):
    live.sender.send(grid_image(), n=2)
    live.analysed(2)
    text = live.http.get("/metrics").text
    emitted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
    }
    page = (project / "docs/reference/metrics.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(latticewatch_\w+)`", page, flags=re.MULTILINE))
    of_recordings = {"latticewatch_frames_recorded_total", "latticewatch_frames_not_recorded_total"}
    assert {name for name in emitted if name.startswith("latticewatch_")} == listed - of_recordings
    named = set(re.findall(r"`(process_\w+)`", page))
    for file in ("alerts.yaml", "grafana.json"):
        used = re.findall(
            r"\b(?:latticewatch|process)_\w+", (project / "docker/monitoring" / file).read_text()
        )
        for name in {re.sub(r"_(bucket|sum|count)$", "", one) for one in used}:
            assert name in listed | named, f"{file} uses {name}"


def test_pictures_are_png_of_the_size_asked_for(live):
    assert live.http.get("/v1/frames/latest.png").status_code == 404
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
    live.analysed(3)
    plain = Image.open(io.BytesIO(live.http.get("/v1/frames/latest.png?max_size=64").content))
    ringed = Image.open(io.BytesIO(live.http.get("/v1/frames/latest.png?overlay=1").content))
    assert (plain.size, plain.mode) == ((64, 64), "L")
    assert (ringed.size, ringed.mode) == ((128, 128), "RGB")
    pixels = np.asarray(ringed, int)
    assert np.abs(pixels[..., 0] - pixels[..., 2]).max() > 50
    average = Image.open(io.BytesIO(live.http.get(f"/v1/classes/{VACANCY}/average.png?size=160").content))
    assert average.size == (160, 160)


def test_a_class_comes_with_what_it_looks_like(live):
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
    live.analysed(3)
    detail = live.http.get(f"/v1/classes/{VACANCY}").json()
    assert (detail["template"], detail["score"]) == ("A vacancy", 0.97)
    assert detail["runner_up"] == ["A −75 %", 0.91]
    left = np.array(detail["average"]) - np.array(detail["template_patch"])
    np.testing.assert_allclose(left, detail["difference"], atol=1e-6)
    np.testing.assert_allclose(left, 0.01, atol=1e-6)
    pictures = {
        name: Image.open(io.BytesIO(live.http.get(f"/v1/classes/{VACANCY}/{name}.png?size=32").content))
        for name in ("average", "template", "difference")
    }
    assert {name: (picture.size, picture.mode) for name, picture in pictures.items()} == {
        "average": ((32, 32), "L"),
        "template": ((32, 32), "L"),
        "difference": ((32, 32), "RGB"),
    }
    red, _, blue = np.asarray(pictures["difference"], int)[0, 0]
    assert red > blue


def test_a_class_that_was_not_compared_has_no_template(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    detail = live.http.get(f"/v1/classes/{HOST}").json()
    assert [detail[key] for key in ("template", "score", "runner_up", "template_patch", "difference")] == [
        None
    ] * 5
    for name in ("template", "difference"):
        answer = live.http.get(f"/v1/classes/{HOST}/{name}.png")
        assert answer.status_code == 404
        assert "compared with no simulated class" in answer.json()["detail"]


def test_the_page_and_the_reference_need_nothing_from_elsewhere(live):
    for path in ("/", "/docs"):
        answer = live.http.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://www.w3.org", "").replace("http://127.0.0.1", "")
        assert "https://" not in answer.text
    described = live.http.get("/docs").text
    for path in live.http.get("/openapi.json").json()["paths"]:
        assert path in described


def test_a_service_runs_in_a_thread_until_it_is_told_to_stop(tmp_path):
    settings = settings_of(tmp_path)
    engine = Engine(settings, learner=FakeLearner(), analyse=fake_analyse)
    ready, stop, counts, urls = threading.Event(), threading.Event(), [], []

    def say(service):
        urls.append(service.url)
        ready.set()

    thread = threading.Thread(target=lambda: counts.append(run_service(settings, say, stop, engine)))
    thread.start()
    assert ready.wait(PATIENCE_S)
    assert httpx.get(f"{urls[0]}/healthz", timeout=PATIENCE_S).json()["status"] == "ok"
    stop.set()
    thread.join(PATIENCE_S)
    assert counts[0][""].in_flight == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{urls[0]}/healthz", timeout=5)


def test_an_address_in_use_is_a_configuration_error(tmp_path):
    with running(tmp_path / "a") as live:
        taken = live.url.removeprefix("http://")
        with pytest.raises(ConfigurationError, match="cannot listen"):
            Service(settings_of(tmp_path / "b", serve={"http": taken}))
    assert not (tmp_path / "b").exists()
