"""The control loop and the microscope's socket: which defect is visited, and when it is refused."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import httpx
import pytest
import zmq

from latticewatch.errors import ControlError
from latticewatch.messages import ControlReply, ControlRequest, EventPage, StageState, encode_json
from latticewatch_client import Client, ControlLoop, Microscope

NOW = datetime(2025, 6, 1, tzinfo=UTC)


class StageServer(threading.Thread):
    """A stage behind a REP socket; ``deaf`` requests are heard, done and not answered."""

    def __init__(self, limit_nm=1000.0, deaf=0):
        super().__init__(daemon=True)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.limit_nm, self.deaf = limit_nm, deaf
        self.at, self.requests, self.done = (0.0, 0.0), [], {}
        self.halt = threading.Event()

    def run(self):
        while not self.halt.is_set():
            if not self.socket.poll(20):
                continue
            peer, empty, message = self.socket.recv_multipart()
            request = ControlRequest.model_validate_json(message)
            self.requests.append(request)
            if request.action == "move_stage" and request.request_id not in self.done:
                self.done[request.request_id] = self.at = (request.x_nm, request.y_nm)
            if self.deaf:
                self.deaf -= 1
                continue
            stage = StageState(x_nm=self.at[0], y_nm=self.at[1], limit_nm=self.limit_nm)
            self.socket.send_multipart([peer, empty, encode_json(ControlReply(ok=True, stage=stage))])

    @property
    def moves(self):
        return list(self.done.values())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.join()
        self.socket.close()
        self.context.term()


def defect(
    seq, name="V_S", x=10.0, y=20.0, age_s=0.0, confidence=0.9, kind="defect.appeared", track=None, **data
):
    return {
        "type": kind,
        "source": "/latticewatch/test",
        "id": f"log:{seq}",
        "stream": "log",
        "seq": seq,
        "time": NOW.isoformat(),
        "data": {
            "series_id": "a",
            "track": seq if track is None else track,
            "class_name": name,
            "role": "defect",
            "confidence": confidence,
            "t_received": NOW.timestamp() - age_s,
            "stage_nm": {"x": x, "y": y},
        }
        | data,
    }


def page(*events, last=None):
    return {
        "stream": "log",
        "events": events,
        "next": events[-1]["seq"] if events else 0,
        "first_seq": 1,
        "last_seq": last or (events[-1]["seq"] if events else 0),
        "server_time": NOW.isoformat(),
        "last_frame_age_s": 0.1,
    }


def status(phase="live", age_s=0.1):
    return {
        "version": "0", "stream": "log", "source": "s", "series_id": "a", "phase": phase, "frames": {}, "fps": 1.0,
        "latency_ms": {}, "last_frame_age_s": age_s, "model_version": 1,
    }  # fmt: skip


def loop_of(server, state=None, **options):
    answers = {"/v1/status": state or status()}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    client = Client("http://service", transport=transport)
    microscope = Microscope(server.endpoint, timeout=0.5)
    return ControlLoop(client, microscope, **options)


def decide(loop, *events):
    loop.take(EventPage.model_validate(page(*events)))
    decisions = []
    while (decision := loop.act()) is not None:
        decisions.append((decision.event.seq, decision.refused))
    loop._microscope.close()
    return decisions


def test_the_newest_defect_is_visited_first_and_is_then_at_the_centre():
    with StageServer() as server:
        assert decide(loop_of(server), defect(1, x=1.0), defect(2, x=2.0), defect(3, x=3.0)) == [
            (3, None), (2, None), (1, None),
        ]  # fmt: skip
        assert server.moves == [(3.0, 20.0), (2.0, 20.0), (1.0, 20.0)]


def test_the_most_confident_is_visited_first_if_that_is_the_policy():
    with StageServer() as server:
        loop = loop_of(server, policy="most-confident")
        events = [defect(1, x=1.0, confidence=0.5), defect(2, x=2.0, confidence=0.99), defect(3, x=3.0)]
        assert [seq for seq, _ in decide(loop, *events)] == [2, 3, 1]


def test_only_chosen_classes_are_visited():
    with StageServer() as server:
        loop = loop_of(server, classes=["Fe_W"])
        assert decide(loop, defect(1), defect(2, name="Fe_W"), defect(3, role="neighbour")) == [(2, None)]


def test_a_defect_that_has_gone_is_not_visited():
    with StageServer() as server:
        events = [defect(1, track=7), defect(2, track=7, kind="defect.disappeared")]
        assert decide(loop_of(server), *events) == []


def test_a_place_is_visited_once():
    with StageServer() as server:
        loop = loop_of(server, visited_radius_nm=0.5)
        assert decide(loop, defect(1, x=10.0), defect(2, x=10.3)) == [(2, None), (1, "visited")]
        assert len(server.moves) == 1


@pytest.mark.parametrize(
    ("event", "state", "reason"),
    [
        (defect(1, age_s=31), None, "too old"),
        (defect(1, x=5000.0), None, "out of reach"),
        (defect(1, stage_nm=None), None, "no position"),
        (defect(1), status("stalled"), "stale"),
        (defect(1), status(age_s=60.0), "stale"),
        (defect(1), status("waiting", None), "stale"),
        (defect(1), {"not": "a status"}, "service"),
    ],
)
def test_what_cannot_be_trusted_is_refused_counted_and_not_visited(event, state, reason):
    with StageServer() as server:
        loop = loop_of(server, state)
        assert decide(loop, event) == [(1, reason)]
        assert (loop.report.moved, loop.report.refused) == (0, {reason: 1})
        assert server.moves == []


def test_the_age_of_a_defect_grows_while_it_waits():
    now = [50.0]
    with StageServer() as server:
        loop = loop_of(server, clock=lambda: now[0])
        loop.take(EventPage.model_validate(page(defect(1, age_s=20))))
        now[0] += 11.0
        assert loop.act().refused == "too old"
        loop._microscope.close()


def test_a_dry_run_moves_nothing():
    with StageServer() as server:
        assert decide(loop_of(server, dry_run=True), defect(1)) == [(1, None)]
        assert server.moves == []


def test_a_move_whose_answer_was_lost_is_made_once():
    with StageServer(deaf=1) as server, Microscope(server.endpoint, timeout=0.2, retries=2) as microscope:
        assert microscope.move_to(3.0, 4.0).x_nm == 3.0
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]
    assert server.moves == [(3.0, 4.0)]


def test_a_microscope_that_does_not_answer_is_an_error_that_says_where():
    with Microscope("tcp://127.0.0.1:1", timeout=0.05, retries=1) as microscope:
        with pytest.raises(ControlError, match=r"tcp://127\.0\.0\.1:1: no answer to get_stage"):
            microscope.stage()
        with pytest.raises(ControlError):
            microscope.stage()


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1", "http://x"])
def test_an_endpoint_that_makes_no_sense_is_an_error(endpoint):
    with (
        Microscope(endpoint, timeout=0.05) as microscope,
        pytest.raises(ControlError, match="tcp://HOST:PORT"),
    ):
        microscope.stage()


def test_a_loop_without_a_microscope_counts_and_goes_on():
    with StageServer() as server:
        loop = loop_of(server)
        loop._microscope.close()
        loop._microscope = Microscope("tcp://127.0.0.1:1", timeout=0.02, retries=0)
        assert decide(loop, defect(1), defect(2, x=50.0)) == [(2, "microscope"), (1, "microscope")]


def test_the_loop_ends_after_its_moves_and_asks_again_after_each():
    asked = []

    def answer(request):
        if request.url.path == "/v1/status":
            return httpx.Response(200, json=status())
        asked.append(dict(request.url.params))
        after = asked[-1]["after"]
        body = page(defect(1, x=1.0), defect(2, x=2.0), defect(3, x=3.0)) if after == "now" else page(last=3)
        return httpx.Response(200, content=json.dumps(body | {"next": 3}))

    with StageServer() as server, Microscope(server.endpoint) as microscope:
        client = Client("http://service", transport=httpx.MockTransport(answer))
        report = ControlLoop(client, microscope).run(moves=2)
    assert report.moved == 2
    assert server.moves == [(3.0, 20.0), (2.0, 20.0)]
    # One defect still waits, so the second question must not wait for another.
    assert [params["wait"] for params in asked] == ["0.0", "0.0"]
