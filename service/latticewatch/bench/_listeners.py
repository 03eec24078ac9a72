"""Clients of the live path that note how old what they read is."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from latticewatch.messages import unpack_live

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

OPEN_TIMEOUT_S = 30.0


class Ages:
    """Ages of what is read [ms], collected between `start` and `taken`."""

    def __init__(self) -> None:
        self._ms: list[float] = []
        self._counting = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Count from now on."""
        with self._lock:
            self._ms, self._counting = [], True

    def note(self, t_received: float) -> None:
        """Something of a frame received then [s since 1970] can be read now."""
        age_ms = 1e3 * (time.time() - t_received)
        with self._lock:
            if self._counting:
                self._ms.append(age_ms)

    def taken(self) -> list[float]:
        """What was counted; count no more."""
        with self._lock:
            self._counting = False
            return self._ms


@contextlib.contextmanager
def event_reader(url: str) -> Iterator[Ages]:
    """A client to which events about defects are pushed."""

    def read(socket: ClientConnection, ages: Ages) -> None:
        socket.send(json.dumps({"type": "subscribe", "after": "now", "types": ["defect.*"]}))
        for message in socket:
            received = json.loads(message).get("data", {}).get("t_received")
            if received is not None:
                ages.note(received)

    with _reading(f"{url}/v1/events/ws", read) as ages:
        yield ages


@contextlib.contextmanager
def dashboard(url: str) -> Iterator[Ages]:
    """A client that asks for the next picture as soon as it has read one, and draws nothing."""

    def read(socket: ClientConnection, ages: Ages) -> None:
        request: dict[str, Any] = {"type": "next"}
        while True:
            socket.send(json.dumps(request))
            header, _ = unpack_live(socket.recv(decode=False))
            if header.t_received is not None:
                ages.note(header.t_received)
            request |= {"after": header.ordinal, "model_version": header.status.model_version}

    with _reading(f"{url}/v1/live", read) as ages:
        yield ages


@contextlib.contextmanager
def _reading(url: str, read: Any) -> Iterator[Ages]:
    """Ages of what is read from a websocket in a thread, until the block ends."""
    ages = Ages()
    socket = connect(
        url.replace("http", "ws", 1), max_size=None, compression=None, open_timeout=OPEN_TIMEOUT_S
    )

    def run() -> None:
        with contextlib.suppress(ConnectionClosed):
            read(socket, ages)

    thread = threading.Thread(target=run, name=f"reader of {url}", daemon=True)
    thread.start()
    try:
        yield ages
    finally:
        socket.close()
        thread.join()
