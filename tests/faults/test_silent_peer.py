"""The other computer loses its power: no FIN, no RST, and frames again when it is back."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from _running import PATIENCE_S
from latticewatch.config import IngestSettings
from latticewatch.ingest import Frame, Receiver, _inlets
from latticewatch.messages import encode_frame

IMAGE = np.ones((16, 16), np.uint16)


class Cable:
    """A way to an address that can be cut: what is open then says nothing any more, to either side."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._cut = threading.Event()
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Connections that are open carry nothing from now on, and none of them is closed; new ones work."""
        self._cut.set()
        self._cut = threading.Event()

    def _accept(self) -> None:
        self._server.settimeout(0.05)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                one = threading.Thread(target=self._carry, args=(near, far, self._cut), daemon=True)
                self._threads.append(one)
                one.start()

    def _carry(self, near: socket.socket, far: socket.socket, cut: threading.Event) -> None:
        other = {near: far, far: near}
        while not (cut.is_set() or self._stop.is_set()):
            for ready in select.select([near, far], [], [], 0.02)[0]:
                data = ready.recv(65536)
                if not data or cut.is_set():
                    return
                other[ready].sendall(data)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for one in (self._server, *self._open):
            one.close()


@contextlib.contextmanager
def sending(kind: int) -> Iterator[int]:
    """A microscope that sends a frame every few milliseconds; gives its port."""
    stop = threading.Event()
    with zmq.Context() as context:
        one = context.socket(kind)
        one.linger, one.sndtimeo = 0, 20
        # so that what was sent into the dead connection does not hold up the next one
        one.heartbeat_ivl, one.heartbeat_timeout = 100, 300
        port = one.bind_to_random_port("tcp://127.0.0.1")

        def send() -> None:
            n = 0
            while not stop.wait(0.005):
                with contextlib.suppress(zmq.Again):
                    one.send_multipart(encode_frame(IMAGE, frame=n, series_id="a", msg_number=n))
                    n += 1
            one.close()

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield port
        finally:
            stop.set()
            thread.join()


def frames(receiver: Receiver, n: int) -> None:
    while n:
        item = receiver.get(PATIENCE_S)
        assert item is not None, "no frame comes any more"
        if isinstance(item, Frame):
            receiver.done(item)
            n -= 1


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.PUSH])
def test_frames_come_again_after_a_connection_that_died_without_a_word(kind, monkeypatch):
    monkeypatch.setattr(_inlets, "SILENT_S", 0.3)
    with sending(kind) as port:
        cable = Cable(port)
        settings = IngestSettings(sources=(cable.endpoint,), socket="sub" if kind == zmq.PUB else "pull")
        with Receiver(settings) as receiver:
            frames(receiver, 3)
            cable.cut()
            while receiver.get(0.2) is not None:
                pass  # what was under way
            frames(receiver, 3)
        cable.close()


def test_a_dead_connection_is_given_up_within_a_minute():
    assert _inlets.SILENT_S <= 60
    assert _inlets.KEEPALIVE_S + _inlets.KEEPALIVE_TIMES * _inlets.KEEPALIVE_AGAIN_S <= 60


def test_a_microscope_that_pauses_is_connected_anew_ever_more_seldom(monkeypatch):
    now, made = [100.0], []
    monkeypatch.setattr(_inlets.time, "monotonic", lambda: now[0])
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        settings = IngestSettings(sources=(f"tcp://127.0.0.1:{port}",), socket="pull")
        inlet = _inlets.open_inlet(settings, context, settings.sources[0])
        # Nothing was heard yet: to come to a connection is the business of ZeroMQ.
        assert inlet.tick() is None
        inlet._heard_at = now[0]
        for _ in range(4000):
            now[0] += 1.0
            before = inlet._in_vain
            inlet.tick()
            if inlet._in_vain > before:
                made.append(now[0] - 100.0)
        inlet.close()
    assert made[0] == _inlets.SILENT_S
    assert max(b - a for a, b in itertools.pairwise(made)) == _inlets.SILENT_MOST_S
    assert len(made) < 15


RECEIVES_LATE = """
import sys, time
from latticewatch.config import IngestSettings
from latticewatch.ingest import Frame, Receiver, _inlets

_inlets.HEARTBEAT_MS, _inlets.SILENT_MS = 50, 100_000
settings = IngestSettings(sources=(sys.argv[1],), socket="pull", mode="lossless", queue_frames=1)
with Receiver(settings) as receiver:
    first = receiver.get(60)
    print("reads", file=sys.stderr, flush=True)
    sys.stdin.readline()
    # The sender has gone while our queue was full; heartbeats would be sent now.
    time.sleep(1.0)
    n = 0
    while (item := receiver.get(5.0)) is not None:
        if isinstance(item, Frame):
            receiver.done(item)
            n += 1
print(n, file=sys.stderr, flush=True)
"""


def test_a_sender_that_goes_away_while_nothing_is_read_does_not_end_the_process():
    image = np.zeros((1500, 1500), np.uint16)
    context = zmq.Context()
    sender = context.socket(zmq.PUSH)
    sender.sndhwm, sender.linger, sender.sndtimeo = 100, 0, 60_000
    port = sender.bind_to_random_port("tcp://127.0.0.1")
    command = [sys.executable, "-c", RECEIVES_LATE, f"tcp://127.0.0.1:{port}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as receiver:
        for n in range(20):
            sender.send_multipart(encode_frame(image, frame=n, series_id="a", msg_number=n))
        assert receiver.stderr is not None
        assert receiver.stderr.readline() == "reads\n"
        sender.close()
        context.term()
        _, said = receiver.communicate("\n", timeout=PATIENCE_S)
    assert receiver.returncode == 0
    assert int(said) >= 1
