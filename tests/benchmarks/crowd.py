"""What a crowd of strangers costs: the probes, events of another client and ingest, alone and beside them.

``python tests/benchmarks/crowd.py [--rounds 3] [--frames 300] [--insist]`` starts the service as a process of its own,
pushes frames as fast as they are taken, and lets another process hold 1,000 idle connections, 100 slow posts and 50
silent sockets, all from 127.0.0.1 and without a key; clients at 127.0.0.2 follow events and ask /healthz of the service
and of ``serve.probes``, on a new connection each time. ``--insist``: whoever is cut off connects again each second.
Rounds without and with the crowd take turns. Columns: /healthz of the service in the median and at most, of the probes
alike, the most of either while the crowd comes [ms], frames per second, events read. The goal: /healthz below 100 ms,
ingest 5 % less at most.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import zmq

from latticewatch.messages import Status, encode_frame
from latticewatch_client import Client
from latticewatch_simulator import SimulatorSettings
from latticewatch_simulator._microscope import Microscope

IDLE, POSTS, SOCKETS = 1000, 100, 50
PATIENCE_S = 120.0
SPECIMEN = {"material": "graphene", "shape": (192, 192), "pixel_size_nm": 0.025, "births_per_frame": 0.5}
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def crowd(port: int, insist: bool, here: Event, leave: Event) -> None:
    """Strangers, in a process of their own."""
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    greetings = [
        *[b""] * IDLE,
        *[f"POST /v1/model:relearn {head}Content-Length: 5000\r\n\r\n{{".encode()] * POSTS,
        *[f"GET /v1/live {head}{UPGRADE}\r\n".encode()] * SOCKETS,
    ]
    held: list[socket.socket | None] = [None] * len(greetings)
    while True:
        for k, greeting in enumerate(greetings):
            if held[k] is None:
                held[k] = stranger(port, greeting)
        here.set()
        if leave.wait(1.0):
            return
        for k, one in enumerate(held):
            if insist and one is not None and is_cut_off(one):
                one.close()
                held[k] = None


def stranger(port: int, greeting: bytes) -> socket.socket:
    """A connection that says no more than this."""
    one = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    one.setblocking(False)
    with contextlib.suppress(OSError):
        one.send(greeting)
    return one


def is_cut_off(one: socket.socket) -> bool:
    """Whether the other side has ended it."""
    try:
        return one.recv(65536, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def pictures(n: int) -> list[np.ndarray]:
    """Frames of a specimen in which defects come and go."""
    microscope = Microscope(SimulatorSettings.checked(**SPECIMEN, seed=0))
    return [microscope.acquire().image for _ in range(n)]


def health_ms(port: int, ended: threading.Event, took: list[float]) -> None:
    """Ask on a new connection each time, fifty times a second [ms]."""
    while not ended.wait(0.02):
        began = time.monotonic()
        fresh = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S, source_address=("127.0.0.2", 0))
        fresh.request("GET", "/healthz")
        assert fresh.getresponse().status == 200
        fresh.close()
        took.append(1e3 * (time.monotonic() - began))


def follow(url: str, seen: list[int]) -> None:
    """Read events as they come."""
    with Client(url, key="read-me") as client:
        seen.extend(event.seq for event in client.events(after="now"))


class Bench:
    """The service, and who sends to it."""

    def __init__(self, folder: Path, images: list[np.ndarray]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
            self.port, frames = a.getsockname()[1], b.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as c:
            self.probes = c.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "latticewatch",
            "serve",
            "--source",
            f"tcp://127.0.0.1:{frames}",
            "--pull",
        ]
        command += [
            "--bind-source",
            "--lossless",
            "--http",
            f"127.0.0.1:{self.port}",
            "--data-dir",
            str(folder),
        ]
        keys = {"LATTICEWATCH_SERVE__READ_KEY": "read-me", "LATTICEWATCH_SERVE__CONTROL_KEY": "control-me"}
        keys["LATTICEWATCH_SERVE__PROBES"] = f"127.0.0.1:{self.probes}"
        with (folder / "stderr.txt").open("wb") as errors:
            self.process = subprocess.Popen(
                command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=errors
            )
        self.images, self.sent = images, 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.connect(f"tcp://127.0.0.1:{frames}")
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url, key="read-me", timeout=PATIENCE_S, retries=0)

    def push(self, n: int) -> float:
        """Frames per second, from the first until the last is analysed."""
        began = time.monotonic()
        for _ in range(n):
            image = self.images[self.sent % len(self.images)]
            self._socket.send_multipart(
                encode_frame(
                    image, frame=self.sent, series_id="a", msg_number=self.sent + 1, pixel_size_nm=0.025
                )
            )
            self.sent += 1
        self.wait(lambda status: status.frames.analysed >= self.sent)
        return n / (time.monotonic() - began)

    def wait(self, so: Callable[[Status], bool]) -> None:
        """Until the status is so."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(Exception):
                if so(self.client.status()):
                    return
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.02)

    def close(self) -> None:
        self.client.close()
        self._socket.close(0)
        self._context.term()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def asking(bench: Bench) -> Iterator[tuple[list[float], list[float]]]:
    """Ask both addresses meanwhile; how long each answer took [ms]."""
    took: tuple[list[float], list[float]] = [], []
    ended = threading.Event()
    threads = [
        threading.Thread(target=health_ms, args=(port, ended, one))
        for port, one in zip((bench.port, bench.probes), took, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def main() -> None:
    """Measure, and print a row for each round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--insist", action="store_true")
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), pictures(60))
        try:
            bench.wait(lambda status: status.phase != "starting")
            bench.push(60)
            bench.wait(lambda status: status.phase == "live")
            bench.push(60)
            seen: list[int] = []
            threading.Thread(target=follow, args=(bench.url, seen), daemon=True).start()
            for beside in [False, True] * asked.rounds:
                here, leave = spawn.Event(), spawn.Event()
                strangers = spawn.Process(target=crowd, args=(bench.port, asked.insist, here, leave))
                coming: tuple[list[float], list[float]] = [0.0], [0.0]
                if beside:
                    with asking(bench) as coming:
                        strangers.start()
                        here.wait(PATIENCE_S)
                read = len(seen)
                with asking(bench) as took:
                    rates[beside].append(bench.push(asked.frames))
                if beside:
                    leave.set()
                    strangers.join()
                each = "  ".join(f"{np.median(one):.1f}  {max(one):.1f}" for one in took)
                most = "  ".join(f"{max(one):.1f}" for one in coming)
                say = f"{'crowd' if beside else 'alone'}  {each}  {most}  {rates[beside][-1]:.1f}  {len(seen) - read}"
                sys.stdout.write(f"{say}\n")
                sys.stdout.flush()
        finally:
            bench.close()
    change = np.median(rates[True]) / np.median(rates[False]) - 1
    sys.stdout.write(f"ingest beside the crowd: {change:+.1%}\n")


if __name__ == "__main__":
    main()
