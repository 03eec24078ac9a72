"""A running service over real sockets, with the stand-in learner, and a sender of frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import structlog
import zmq

from _fake_learner import FakeLearner, fake_analyse
from latticewatch.config import Settings, load_settings
from latticewatch.execute import Engine
from latticewatch.messages import SeriesEnd, encode_frame, encode_json
from latticewatch.serve import Service

PATIENCE_S = 20.0

# The traces of errors that are made on purpose, drawn by rich, take half a second each.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("CRITICAL"))


class Sender:
    """PUSHes frames to a receiver, which loses none of them."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.linger = 0
        self._socket.connect(endpoint)
        self._next = 0

    def send(
        self, image: np.ndarray, n: int = 1, series_id: str = "series A", skip: int = 0, **fields
    ) -> None:
        """The same image as the next ``n`` frames, after ``skip`` numbers that are left out."""
        fields = {"pixel_size_nm": 0.02, "stage_nm": [100.0, -50.0]} | fields
        self._next += skip
        for _ in range(n):
            parts = encode_frame(
                image, frame=self._next, series_id=series_id, msg_number=self._next + 1, **fields
            )
            self._socket.send_multipart(parts)
            self._next += 1

    def message(self, parts: list) -> None:
        """Anything else."""
        self._socket.send_multipart(parts)

    def end(self, series_id: str = "series A") -> None:
        self._socket.send(encode_json(SeriesEnd(series_id=series_id, frames=self._next)))

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@dataclass
class Running:
    service: Service
    engine: Engine
    sender: Sender
    http: httpx.Client

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def ws(self) -> str:
        return self.service.url.replace("http", "ws", 1)

    def until(self, happened: Callable[[], object]) -> None:
        """Wait until something is true of the engine, looking whenever it has news."""
        until(self.engine, happened)

    def analysed(self, n: int) -> None:
        self.until(lambda: self.engine.receiver.counts().analysed >= n)


def until(engine: Engine, happened: Callable[[], object]) -> None:
    news = threading.Condition()

    def notify() -> None:
        with news:
            news.notify_all()

    unsubscribe = engine.subscribe(notify)
    deadline = time.monotonic() + PATIENCE_S
    try:
        with news:
            while not happened():
                assert time.monotonic() < deadline, f"not so after {PATIENCE_S} s: {engine.status()}"
                news.wait(0.05)
    finally:
        unsubscribe()


def settings_of(data_dir: Path, **sections) -> Settings:
    ingest = {"sources": ("tcp://127.0.0.1:0",), "socket": "pull", "bind": True, "mode": "lossless"}
    return load_settings(
        None,
        ingest=ingest | sections.get("ingest", {}),
        analysis=sections.get("analysis", {}),
        serve={"http": "127.0.0.1:0"} | sections.get("serve", {}),
        record={"data_dir": data_dir} | sections.get("record", {}),
    )


@contextmanager
def running(data_dir: Path, *, learner=None, analyse=fake_analyse, log=None, **sections) -> Iterator[Running]:
    """A service with the stand-in learner that listens on free ports, until the block ends."""
    settings = settings_of(data_dir, **sections)
    engine = Engine(settings, learner=learner or FakeLearner(), analyse=analyse, log=log)
    with Service(settings, engine) as service:
        sender = Sender(engine.sources[0])
        try:
            with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
                yield Running(service, engine, sender, http)
        finally:
            sender.close()
