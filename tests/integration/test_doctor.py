"""What does not fit together is said: by the doctor, and by a service that hears nothing."""

from __future__ import annotations

import contextlib
import json
import socket as net
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import zmq
from karabo_bridge.server import ServerInThread
from typer.testing import CliRunner

from latticewatch.cli import build
from latticewatch.config import IngestSettings
from latticewatch.ingest import Receiver, _receiver, examine
from latticewatch.ingest._probe import probe
from latticewatch.messages import encode_frame

IMAGE = np.random.default_rng(1).poisson(9, (48, 64)).astype("u2")


@contextlib.contextmanager
def sender(kind: int, make) -> Iterator[str]:
    """A socket that sends messages over and over."""
    with zmq.Context() as context:
        one = context.socket(kind)
        one.sndtimeo = 20
        port = one.bind_to_random_port("tcp://127.0.0.1")
        stop = threading.Event()

        def send() -> None:
            n = 0
            while not stop.wait(0.005):
                with contextlib.suppress(zmq.Again):
                    one.send_multipart(make(n))
                    n += 1
            one.close(linger=0)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            stop.set()
            sending.join()


def native(n: int) -> list:
    fields = {"pixel_size_nm": 0.02, "detector": "HAADF", "stage_nm": [5.0, 6.0], "dwell_us": "fast"}
    return encode_frame(IMAGE, frame=n, series_id="a", msg_number=n, **fields)


@pytest.mark.parametrize(("kind", "option"), [(zmq.PUB, ""), (zmq.PUSH, " --pull")])
def test_the_doctor_says_what_comes_and_how_to_attach_it(kind: int, option: str) -> None:
    with sender(kind, native) as endpoint:
        result = CliRunner().invoke(build(), ["doctor", endpoint, "--seconds", "1"])
    assert result.exit_code == 0, result.output
    for said in (
        "JSON header and raw buffer",
        "48 × 64 px, uint16",
        "0.02 nm, field of view 1.28 × 0.96 nm",
        "HAADF",
        "5, 6 nm",
        "ignored      dwell_us",
        f"attach with  latticewatch serve --source {endpoint}{option}\n",
    ):
        assert said in result.output


def test_the_doctor_names_what_cannot_be_read() -> None:
    with sender(
        zmq.PUB, lambda n: [json.dumps({"shape": [4, 4], "frame": n}).encode(), b"x" * 16]
    ) as endpoint:
        result = CliRunner().invoke(build(), ["doctor", endpoint, "--seconds", "0.5"])
    assert result.exit_code == 1
    assert "refused      dtype" in result.output
    assert "attach with" not in result.output


def test_the_doctor_recognises_a_karabo_bridge_that_waits_to_be_asked() -> None:
    with ServerInThread("tcp://127.0.0.1:*") as server:
        server.feed({"A": {"image": IMAGE}})
        diagnosis = examine(server.endpoint, 1.0, IngestSettings())
    assert diagnosis.heard is not None
    assert (diagnosis.heard.format, diagnosis.heard.counts.received) == ("karabo bridge", 1)
    assert str(diagnosis.command).endswith(" --req")


@pytest.mark.parametrize(
    ("kind", "name"), [(zmq.PUB, "PUB"), (zmq.PUSH, "PUSH"), (zmq.REP, "REP"), (zmq.XPUB, "XPUB")]
)
def test_the_kind_of_a_socket_is_read_from_its_handshake(kind: int, name: str) -> None:
    with zmq.Context() as context, context.socket(kind) as one:
        port = one.bind_to_random_port("tcp://127.0.0.1")
        peer = probe(f"tcp://127.0.0.1:{port}")
        assert peer is not None
        assert (peer.listens, peer.kind) == (True, name)


def test_what_is_no_zeromq_and_what_is_not_there_are_told_apart() -> None:
    with net.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n" + b" " * 100)

        answering = threading.Thread(target=answer)
        answering.start()
        peer = probe(f"tcp://127.0.0.1:{port}")
        answering.join()
        assert peer is not None
        assert (peer.listens, peer.kind) == (True, None)
    nobody = examine(f"tcp://127.0.0.1:{port}", 0.2, IngestSettings())
    assert nobody.heard is None
    assert "Connection refused" in nobody.notes[0].text


def test_a_service_that_subscribes_to_a_pushing_sender_says_so(monkeypatch) -> None:
    monkeypatch.setattr(_receiver, "SILENT_AFTER_S", 0.1)
    with sender(zmq.PUSH, native) as endpoint:
        settings = IngestSettings(sources=(endpoint,), socket="sub")
        with Receiver(settings) as source:
            for _ in range(200):
                source.get(0.02)
                if source.notes():
                    break
            (note,) = source.notes()
    assert note.code == "no-messages"
    assert "PUSH socket" in note.text
    assert "--pull" in note.remedy
