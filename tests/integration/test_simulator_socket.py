"""The simulated microscope over real sockets: frames, controls, and the command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from latticewatch.cli import main
from latticewatch.errors import ConfigurationError
from latticewatch.messages import ControlReply, FrameHeader, SeriesEnd, SeriesStart
from latticewatch_simulator import (
    ControlServer,
    Publisher,
    Simulation,
    SimulatorSettings,
    is_local,
    read_truth,
    run,
)

FREE = "tcp://127.0.0.1:0"
LONG_MS = 20_000
SMALL = SimulatorSettings(shape=(128, 96), fps=200, settle_s=0.0)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as context:
        yield context


def receiver(context: zmq.Context[Any], endpoint: str, kind: int = zmq.SUB) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.set(zmq.RCVTIMEO, LONG_MS)
    socket.set(zmq.RCVHWM, 1000)
    socket.set(zmq.LINGER, 0)
    if kind == zmq.SUB:
        socket.subscribe(b"")
    socket.connect(endpoint)
    return socket


def receive(socket: zmq.Socket[bytes]) -> tuple[dict[str, Any], np.ndarray | None]:
    header, *buffers = socket.recv_multipart()
    fields = json.loads(header)
    if not buffers:
        return fields, None
    return fields, np.frombuffer(buffers[0], fields["type"]).reshape(fields["shape"])


def ask(context: zmq.Context[Any], endpoint: str, request: bytes | dict[str, Any]) -> ControlReply:
    with context.socket(zmq.REQ) as socket:
        socket.set(zmq.RCVTIMEO, LONG_MS)
        socket.set(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(request if isinstance(request, bytes) else json.dumps(request).encode())
        return ControlReply.model_validate_json(socket.recv())


def test_a_subscriber_gets_the_whole_series_in_the_wire_format(context, tmp_path: Path):
    truth = tmp_path / "truth.jsonl"
    with (
        Simulation(
            SMALL, bind=FREE, control=None, frames=5, wait_for_subscriber=True, truth=truth, context=context
        ) as simulation,
        receiver(context, simulation.endpoint) as socket,
    ):
        simulation.start()
        messages = [receive(socket) for _ in range(7)]
        assert simulation.join(20)
    start, *frames, end = messages
    assert SeriesStart.model_validate(start[0]).frames == 5
    assert SeriesEnd.model_validate(end[0]).frames == 5
    assert [fields["msg_number"] for fields, _ in messages] == list(range(7))
    assert len({fields["series_id"] for fields, _ in messages}) == 1
    for number, ((fields, image), expected) in enumerate(zip(frames, read_truth(truth), strict=True)):
        header = FrameHeader.model_validate(fields)
        assert header.frame == expected.number == number
        assert (header.pixel_size_nm, header.detector, header.stage_nm) == (0.012, "HAADF", (0.0, 0.0))
        assert header.fov_nm == pytest.approx(96 * 0.012)
        assert header.dwell_us == pytest.approx(1e6 / (200 * 128 * 96))
        assert header.timestamp == pytest.approx(time.time(), abs=60)
        assert image is not None
        assert image.shape == (128, 96)
        assert image.dtype == np.uint16
        assert image.std() > 100


def test_frames_come_at_the_pace_that_was_set():
    stamps: list[float] = []
    with Simulation(SMALL.model_copy(update={"fps": 50.0}), bind=FREE, control=None, frames=16) as simulation:
        assert simulation.run(lambda _: stamps.append(time.monotonic())) == 16
    assert stamps[-1] - stamps[0] > 14.5 / 50


def test_a_puller_gets_every_frame_however_slow_it_is(context):
    settings = SMALL.model_copy(update={"fps": 1000.0})
    with (
        Simulation(settings, bind=FREE, control=None, frames=60, push=True, context=context) as simulation,
        receiver(context, simulation.endpoint, zmq.PULL) as socket,
    ):
        simulation.start()
        messages = [receive(socket)[0] for _ in range(62)]
        assert simulation.join(20)
    assert [fields["frame"] for fields in messages[1:-1]] == list(range(60))


def test_the_truth_of_the_newest_frame_is_told_on_request(context):
    with (
        Simulation(SMALL, bind=FREE, control=FREE, frames=3, context=context) as simulation,
    ):
        endpoint = simulation.control_endpoint
        assert endpoint is not None
        early = ask(context, endpoint, {"action": "get_truth"})
        assert not early.ok
        assert "no frame" in str(early.error)
        simulation.run()
        reply = ask(context, endpoint, {"action": "get_truth"})
        status = ask(context, endpoint, {"action": "status"}).result
        newest = simulation.newest
    assert newest is not None
    assert reply.result is not None
    columns, inside = reply.result["columns"], newest.truth.inside()
    assert reply.result["frame"] == 2
    assert columns["id"] == newest.truth.id[inside].tolist()
    np.testing.assert_allclose(
        np.transpose([columns["row"], columns["col"]]), newest.truth.positions_px()[inside], atol=1e-3
    )
    assert columns["species"] == [newest.truth.names[k] for k in newest.truth.species[inside]]
    assert status is not None
    assert (status["frame"], status["frames_sent"], status["material"]) == (2, 3, "WS2")


def test_a_stage_move_changes_what_the_next_frames_show(context):
    with (
        Simulation(SMALL, bind=FREE, control=FREE, wait_for_subscriber=True, context=context) as simulation,
        receiver(context, simulation.endpoint) as socket,
    ):
        simulation.start()
        endpoint = str(simulation.control_endpoint)
        receive(socket)
        before = receive(socket)[0]["stage_nm"]
        moved = ask(context, endpoint, {"action": "move_stage", "x_nm": 12.5, "y_nm": -4, "relative": True})
        assert moved.ok
        assert moved.result == {"target_nm": [12.5, -4.0]}
        positions = iter(lambda: tuple(receive(socket)[0]["stage_nm"]), (12.5, -4.0))
        assert all(position == (0.0, 0.0) for position in positions)
        stage = ask(context, endpoint, {"action": "get_stage"}).stage
        truth = ask(context, endpoint, {"action": "get_truth"}).result
        simulation.stop()
    assert before == [0.0, 0.0]
    assert stage is not None
    assert (stage.x_nm, stage.y_nm, stage.moving, stage.limit_nm) == (12.5, -4.0, False, 500.0)
    assert truth is not None
    assert truth["stage_nm"] == [12.5, -4.0]


def test_a_move_that_is_asked_for_twice_is_done_once(context):
    with Simulation(SMALL, bind=FREE, control=FREE, context=context) as simulation:
        request = {"action": "move_stage", "x_nm": 5, "y_nm": 0, "relative": True, "request_id": "a"}
        replies = [ask(context, str(simulation.control_endpoint), request) for _ in range(3)]
        assert simulation.microscope.stage.position() == (5, 0)
    assert replies[0] == replies[1] == replies[2]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"", "JSON"),
        (b"\xff\x00", "JSON"),
        (b"[]", "as a whole"),
        (b'{"action":"explode"}', "get_stage"),
        (b'{"action":"move_stage"}', "give x_nm and y_nm"),
        (b'{"action":"move_stage","x_nm":1e999,"y_nm":0}', "finite"),
        (b'{"action":"move_stage","x_nm":501,"y_nm":0}', "the limit is plus and minus 500 nm"),
        (b'{"action":"get_stage","colour":"red"}', "Extra"),
        (b'{"action":"get_stage","request_id":"' + b"x" * 200 + b'"}', "128"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_the_reason(context, request_, reason):
    with Simulation(SMALL, bind=FREE, control=FREE, context=context) as simulation:
        endpoint = str(simulation.control_endpoint)
        refused = ask(context, endpoint, request_)
        assert ask(context, endpoint, {"action": "get_stage"}).ok
    assert not refused.ok
    assert reason in str(refused.error)


def test_a_request_in_parts_or_too_large_does_not_end_the_controls(context):
    with Simulation(SMALL, bind=FREE, control=FREE, context=context) as simulation:
        endpoint = str(simulation.control_endpoint)
        with context.socket(zmq.REQ) as parts, context.socket(zmq.REQ) as large:
            for socket in (parts, large):
                socket.set(zmq.LINGER, 0)
                socket.set(zmq.RCVTIMEO, LONG_MS)
                socket.connect(endpoint)
            parts.send_multipart([b"a", b"b"])
            assert "2 parts" in str(ControlReply.model_validate_json(parts.recv()).error)
            large.send(b" " * 100_000)
            assert ask(context, endpoint, {"action": "get_stage"}).ok
            assert not large.poll(0)


def test_a_peer_that_never_reads_its_replies_does_not_hold_up_the_others(context):
    with Simulation(SMALL, bind=FREE, control=FREE, context=context) as simulation:
        endpoint = str(simulation.control_endpoint)
        with context.socket(zmq.DEALER) as flood:
            flood.set(zmq.LINGER, 0)
            flood.set(zmq.SNDHWM, 0)
            flood.connect(endpoint)
            for _ in range(5000):
                flood.send_multipart([b"", b'{"action":"status"}'])
            flood.send(b"no envelope")
            assert ask(context, endpoint, {"action": "get_stage"}).ok


def test_an_address_that_is_taken_is_refused_and_nothing_stays_open(context):
    with Publisher(FREE, context=context) as first:
        for option in ("bind", "control"):
            addresses = {"bind": FREE, "control": FREE, option: first.endpoint}
            with pytest.raises(ConfigurationError, match=r"cannot bind.*in use"):
                Simulation(SMALL, context=context, **addresses)
    with pytest.raises(ConfigurationError, match="cannot bind nonsense"):
        Publisher("nonsense")


def test_waiting_for_a_subscriber_ends_with_one_or_with_time_or_a_stop(context):
    stop = threading.Event()
    with Publisher(FREE, context=context) as publisher:
        assert not publisher.wait_for_subscriber(stop, timeout_s=0.01)
        with receiver(context, publisher.endpoint):
            assert publisher.wait_for_subscriber(stop, timeout_s=20)
        while publisher.wait_for_subscriber(stop, timeout_s=0.05):
            pass
        stop.set()
        assert not publisher.wait_for_subscriber(stop)
    with Publisher(FREE, push=True, context=context) as pusher:
        assert not pusher.wait_for_subscriber(threading.Event(), timeout_s=0.01)
        with receiver(context, pusher.endpoint, zmq.PULL):
            assert pusher.wait_for_subscriber(threading.Event(), timeout_s=20)


@pytest.mark.parametrize("push", [False, True])
def test_a_simulation_without_receivers_stops_when_asked(push):
    for wait in (False, True):
        with Simulation(SMALL, bind=FREE, control=FREE, push=push, wait_for_subscriber=wait) as simulation:
            simulation.start()
            assert not simulation.join(0.05)
            simulation.stop()


def test_the_callers_context_stays_open(context):
    assert run(SMALL, bind=FREE, control=FREE, frames=2, context=context) == 2
    assert not context.closed


def test_an_error_in_a_thread_is_raised_again(monkeypatch):
    with Simulation(SMALL, bind=FREE, control=None) as simulation:
        monkeypatch.setattr(simulation.microscope, "acquire", lambda: 1 / 0)
        simulation.start()
        with pytest.raises(ZeroDivisionError):
            simulation.join(20)


def test_an_error_in_the_controls_ends_the_series_and_is_raised_again(context):
    def fail() -> dict[str, Any]:
        raise ZeroDivisionError

    simulation = Simulation(SMALL, bind=FREE, control=FREE, context=context)
    server = simulation._control
    assert isinstance(server, ControlServer)
    server._actions.results["status"] = fail
    with context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(str(simulation.control_endpoint))
        socket.send(b'{"action":"status"}')
        with pytest.raises(ZeroDivisionError):
            simulation.run()
        with pytest.raises(ZeroDivisionError):
            simulation.close()


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://localhost:5555", True),
        ("tcp://[::1]:5555", True),
        ("ipc:///tmp/x", True),
        ("inproc://x", True),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://192.168.0.2:5555", False),
        ("tcp://*:5555", False),
    ],
)
def test_only_loopback_is_local(endpoint, local):
    assert is_local(endpoint) is local


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from latticewatch.cli import main; main()", "simulate", *arguments]


def test_the_command_sends_frames_until_interrupted(tmp_path: Path, context):
    truth = tmp_path / "truth.jsonl"
    process = subprocess.Popen(
        command(
            "--bind", FREE, "--control", FREE, "--size", "128", "--fps", "50", "--truth", str(truth), "--wait"
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("simulating WS2 on tcp://127.0.0.1:")
        with receiver(context, first.split()[3]) as socket:
            headers = [receive(socket)[0] for _ in range(4)]
            process.send_signal(signal.SIGINT)
            while headers[-1]["htype"] != "series_end":
                headers.append(receive(socket)[0])
        rest, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert errors == ""
    assert rest.endswith(f"sent {headers[-1]['frames']} frames\n")
    assert len(list(read_truth(truth))) >= headers[-1]["frames"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--material", "WO3"), "material"),
        (("--defects", "Fe"), "NAME=FRACTION"),
        (("--structure", "missing.cif"), "missing.cif"),
        (("--bind", "tcp://127.0.0.1:99999999"), "cannot bind"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(arguments, error, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    written = capsys.readouterr()
    assert ended.value.code == 2
    assert error in written.err
    assert written.err.count("\n") == 1
    assert written.out == ""


def test_the_command_warns_of_an_address_that_others_can_reach(capsys):
    options = ("--control", "none", "--size", "64", "--frames", "1", "--defects", "none")
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--bind", "tcp://0.0.0.0:0", *options])
    written = capsys.readouterr()
    assert ended.value.code == 0
    assert "open to everyone" in written.err
    assert "defects   none" in written.out
