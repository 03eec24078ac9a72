"""The control loop and the microscope's socket: which defect is visited, and when it is refused."""

from __future__ import annotations

import json
import random
import threading
from datetime import UTC, datetime

import httpx
import pytest
import zmq

from latticewatch.errors import ControlError
from latticewatch.messages import (
    ControlReply,
    ControlRequest,
    Event,
    EventPage,
    StageState,
    Status,
    encode_json,
)
from latticewatch_client import Client, ControlLoop, Gate, Journal, Ok, Refuse, Wait, ZmqMicroscope

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


def in_view(*tracks, as_of_seq=0):
    return {
        "stream": "log", "as_of_seq": as_of_seq, "series_id": "a", "frame": 1, "n": len(tracks), "tracks": tracks,
    }  # fmt: skip


def track(number, x=10.0, y=20.0, confidence=0.95):
    return {
        "track": number, "class_id": 1, "class_name": "V_S", "role": "defect", "confidence": confidence,
        "px": {"row": 1, "col": 1}, "stage_nm": {"x": x, "y": y},
    }  # fmt: skip


def loop_of(server, state=None, seen=None, **options):
    answers = {"/v1/status": state or status(), "/v1/tracks": seen or in_view()}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    client = Client("http://service", transport=transport, retries=0)
    microscope = ZmqMicroscope(server.endpoint, timeout=0.5)
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
        loop = loop_of(server, policy="most-confident", gate=Gate(min_confidence=0.0))
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
    ("event", "options", "reason"),
    [
        (defect(1, age_s=31), {}, "too old"),
        (defect(1, x=5000.0), {}, "out of reach"),
        (defect(1, x=float("nan")), {}, "no position"),
        (defect(1, stage_nm=None), {}, "no position"),
        (defect(1, x=10.0), {"box_nm": (0.0, 0.0, 9.0, 30.0)}, "out of the box"),
        (defect(1, confidence=0.51), {}, "confidence"),
        (defect(1, edge_distance_nm=0.1), {}, "edge"),
        (defect(1, model_version=2), {}, "model"),
        (defect(1), {"max_acts": 0}, "budget"),
        (defect(1), {"approve": lambda _: False}, "approval"),
    ],
)
def test_what_does_not_pass_by_itself_is_refused_counted_and_not_visited(event, options, reason):
    with StageServer() as server:
        loop = loop_of(server, gate=Gate(**options))
        assert decide(loop, event) == [(1, reason)]
        assert (loop.report.moved, loop.report.refused) == (0, {reason: 1})
        assert server.moves == []


@pytest.mark.parametrize(
    ("state", "options", "reason"),
    [
        (status("stalled"), {}, "stale"),
        (status(age_s=60.0), {}, "stale"),
        (status("waiting", None), {}, "stale"),
        (status("learning"), {}, "not live"),
        (status() | {"latency_ms": {"p50": 9000.0}}, {}, "lag"),
        (status(), {"acts_per_minute": 0}, "rate"),
        (status(), {"approve": lambda _: None}, "approval"),
        ({"not": "a status"}, {}, "service"),
    ],
)
def test_what_passes_by_itself_keeps_the_target_and_then_lets_it_through(state, options, reason):
    states = [state, status()]
    with StageServer() as server:
        loop = loop_of(server, gate=Gate(**options))
        loop._client = Client("http://service", retries=0, transport=httpx.MockTransport(
            lambda request: httpx.Response(
                200, json=states[0] if request.url.path == "/v1/status" else in_view()
            )
        ))  # fmt: skip
        loop.take(EventPage.model_validate(page(defect(1))))
        assert loop.act() is None
        assert server.moves == []
        assert loop.report.waited == {reason: 1}
        states.pop(0)
        loop._gate.acts_per_minute, loop._gate.approve = 60.0, lambda _: True
        assert loop.act().refused is None
        loop._microscope.close()
        assert server.moves == [(10.0, 20.0)]


def test_a_rate_that_was_used_up_is_free_again_after_a_minute():
    gate, stage = Gate(acts_per_minute=1), StageState(x_nm=0, y_nm=0, limit_nm=100)
    now, event = Status.model_validate(status()), Event.model_validate(defect(1))
    gate.acted(0.0)
    assert isinstance(gate.check(event, 0.0, now, stage, 59.9), Wait)
    assert isinstance(gate.check(event, 0.0, now, stage, 60.0), Ok)
    assert isinstance(Gate(max_age_s=1.0).check(event, 1.1, now, stage, 0.0), Refuse)


def test_a_defect_that_moved_is_visited_where_it_is_now():
    with StageServer() as server:
        events = [defect(1, track=7, x=1.0), defect(2, track=7, x=1.3, kind="defect.moved")]
        assert decide(loop_of(server), *events) == [(2, None)]
        assert server.moves == [(1.3, 20.0)]


def test_drift_since_the_event_does_not_count():
    with StageServer() as server:
        assert decide(loop_of(server, seen=in_view(track(7, x=10.4))), defect(1, track=7)) == [(1, None)]
        assert server.moves == [(10.4, 20.0)]


def test_a_track_that_drifts_is_visited_once():
    with StageServer() as server:
        loop = loop_of(server)
        loop.take(EventPage.model_validate(page(defect(1, track=7, x=10.0))))
        assert loop.act().refused is None
        assert decide(loop, defect(2, track=7, x=15.0, kind="defect.moved")) == []
        assert len(server.moves) == 1


def test_what_is_in_view_at_the_start_is_not_forgotten():
    def answer(request):
        if request.url.path == "/v1/events":
            assert request.url.params["after"] == "4"
            return httpx.Response(200, json=page(last=4) | {"next": 4})
        return httpx.Response(
            200,
            json=status() if request.url.path == "/v1/status" else in_view(track(3), track(-1), as_of_seq=4),
        )

    with StageServer() as server, ZmqMicroscope(server.endpoint) as microscope:
        client = Client("http://service", transport=httpx.MockTransport(answer))
        assert ControlLoop(client, microscope).run(moves=1).moved == 1
        assert server.moves == [(10.0, 20.0)]


def test_an_intent_is_on_disk_before_the_stage_moves_and_a_restart_does_nothing_twice(tmp_path):
    path = tmp_path / "journal.jsonl"
    with StageServer() as server:
        with Journal(path) as journal:
            loop = loop_of(server, journal=journal)
            move_to = loop._microscope.move_to

            def moved(*args, request_id):
                (line,) = path.read_text().splitlines()
                assert (json.loads(line)["what"], json.loads(line)["id"]) == ("intent", request_id)
                move_to(*args, request_id=request_id)
                raise KeyboardInterrupt

            loop._microscope.move_to = moved
            loop.take(EventPage.model_validate(page(defect(1, track=7))))
            with pytest.raises(KeyboardInterrupt):
                loop.act()
            loop._microscope.close()
        with path.open("a") as file:
            file.write('{"what": "inte')  # killed while it wrote
        with Journal(path) as journal:
            assert len(journal.open) == 1
            assert decide(loop_of(server, journal=journal), defect(1, track=7), defect(2, x=50.0)) == [
                (2, None)
            ]
        assert server.moves == [(10.0, 20.0), (50.0, 20.0)]
    assert [json.loads(line)["what"] for line in path.read_text().splitlines()] == [
        "intent",
        "intent",
        "done",
    ]


def test_a_journal_that_is_none_is_refused_by_name_and_line(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    with pytest.raises(ControlError, match=r"notes\.txt, line 1: no line of a journal"):
        Journal(path)


def test_nothing_is_begun_after_a_stop():
    with StageServer() as server:
        loop = loop_of(server)
        loop.stop()
        assert decide(loop, defect(1)) == []
        assert server.moves == []


@pytest.mark.parametrize(
    "n_steps", [300, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_no_move_without_an_intent_none_twice_and_none_outside_the_limits(n_steps, tmp_path):
    rng = random.Random(16)
    made, state, seen = [], [status()], [in_view()]

    class Stage:
        def stage(self):
            return StageState(x_nm=0, y_nm=0, limit_nm=50)

        def move_to(self, x_nm, y_nm, request_id):
            assert request_id in journal.open
            assert max(abs(x_nm), abs(y_nm)) <= 40
            assert state[0]["phase"] == "live"
            made.append((request_id, journal.open[request_id]["target"]))

        def wait_until_still(self):
            if rng.random() < 0.1:
                raise ControlError("it does not settle")

    def answer(request):
        return httpx.Response(200, json=state[0] if request.url.path == "/v1/status" else seen[0])

    client = Client("http://service", retries=0, transport=httpx.MockTransport(answer))
    with Journal() as journal:
        gate = Gate(box_nm=(-40.0, -40.0, 40.0, 40.0), acts_per_minute=1e9)
        loop = ControlLoop(client, Stage(), gate=gate, journal=journal, visited_radius_nm=0.0)
        old = []
        for step in range(1, n_steps + 1):
            kind = rng.choice(["appeared", "appeared", "moved", "reclassified", "disappeared"])
            fresh = defect(
                step, x=rng.uniform(-70, 70), y=rng.uniform(-70, 70), confidence=rng.uniform(0.7, 1.0),
                age_s=rng.uniform(0, 40), kind=f"defect.{kind}", track=rng.randrange(step // 2 + 5),
                model_version=rng.choice([0, 1, 1, 2]), series_id=rng.choice("ab"),
            )  # fmt: skip
            old = [*old[-20:], fresh]
            state[0] = status(
                rng.choice(["live", "live", "live", "stalled", "learning"]), rng.choice([0.1, 9.0])
            )
            seen[0] = in_view(track(rng.randrange(step // 2 + 5), rng.uniform(-70, 70), rng.uniform(-70, 70)))
            events = [fresh, *rng.sample(old, min(2, len(old)))]
            loop.take(EventPage.model_validate(page(*events)))
            while loop.act() is not None:
                pass
    targets = [target for _, target in made]
    assert len(made) > n_steps / 100
    assert len(set(targets)) == len(targets)


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
        loop = loop_of(server, dry_run=True)
        assert decide(loop, defect(1)) == [(1, None)]
        assert server.moves == []
        assert (loop.report.moved, loop.report.would) == (0, 1)


def test_a_move_whose_answer_was_lost_is_made_once():
    with StageServer(deaf=1) as server, ZmqMicroscope(server.endpoint, timeout=0.2, retries=2) as microscope:
        assert microscope.move_to(3.0, 4.0).x_nm == 3.0
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]
    assert server.moves == [(3.0, 4.0)]


def test_a_microscope_that_does_not_answer_is_an_error_that_says_where():
    with ZmqMicroscope("tcp://127.0.0.1:1", timeout=0.05, retries=1) as microscope:
        with pytest.raises(ControlError, match=r"tcp://127\.0\.0\.1:1: no answer to get_stage"):
            microscope.stage()
        with pytest.raises(ControlError):
            microscope.stage()


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1", "http://x"])
def test_an_endpoint_that_makes_no_sense_is_an_error(endpoint):
    with (
        ZmqMicroscope(endpoint, timeout=0.05) as microscope,
        pytest.raises(ControlError, match="tcp://HOST:PORT"),
    ):
        microscope.stage()


def test_a_loop_without_a_microscope_counts_and_goes_on():
    with StageServer() as server:
        loop = loop_of(server)
        loop._microscope.close()
        loop._microscope = ZmqMicroscope("tcp://127.0.0.1:1", timeout=0.02, retries=0)
        assert decide(loop, defect(1), defect(2, x=50.0)) == [(2, "microscope"), (1, "microscope")]


def test_the_loop_ends_after_its_moves_and_asks_again_after_each():
    asked = []

    def answer(request):
        if request.url.path != "/v1/events":
            return httpx.Response(200, json=status() if request.url.path == "/v1/status" else in_view())
        asked.append(dict(request.url.params))
        after = asked[-1]["after"]
        body = page(defect(1, x=1.0), defect(2, x=2.0), defect(3, x=3.0)) if after == "now" else page(last=3)
        return httpx.Response(200, content=json.dumps(body | {"next": 3}))

    with StageServer() as server, ZmqMicroscope(server.endpoint) as microscope:
        client = Client("http://service", transport=httpx.MockTransport(answer))
        report = ControlLoop(client, microscope).run(moves=2, after="now")
    assert report.moved == 2
    assert server.moves == [(3.0, 20.0), (2.0, 20.0)]
    # One defect still waits, so the second question must not wait for another.
    assert [params["wait"] for params in asked] == ["0.0", "0.0"]
