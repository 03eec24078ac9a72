"""The emergency stop of a loop: over HTTP and by a key; and what it is doing, for a person who looks."""

from __future__ import annotations

import contextlib
import hmac
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from latticewatch.errors import ConfigurationError, ControlError
from latticewatch_client.loop import Loop

TIMEOUT_S = 5.0


class StopServer:
    """Answers ``POST /stop`` with an emergency stop, and ``GET /`` with the report of the loop; a context manager.

    Parameters
    ----------
    loop : Loop
    address : str
        ``HOST:PORT``; port 0 takes a free one.
    key : str, optional
        Needed to listen beyond this machine, and then with each request: ``Authorization: Bearer KEY``.

    Attributes
    ----------
    address : str
        Where it listens.

    Raises
    ------
    ConfigurationError
        An address of others without a key, or one that cannot be listened on.
    """

    def __init__(self, loop: Loop, address: str = "127.0.0.1:0", key: str | None = None) -> None:
        host, _, port = address.rpartition(":")
        if host not in ("127.0.0.1", "localhost") and not key:
            raise ConfigurationError(
                f"{address}: others can reach it and there is no key; listen on 127.0.0.1"
            )
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ConfigurationError(f"{address}: expected HOST:PORT")
        try:
            self._server = ThreadingHTTPServer((host, int(port)), _handler(loop, key))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {address}: {error.strerror or error}") from error
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="stop", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(loop: Loop, key: str | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            if self._may():
                report = loop.report
                self._answer(
                    200,
                    {
                        "stopping": loop.stopping,
                        "done": report.done,
                        "failed": dict(report.failed),
                        "refused": dict(report.refused),
                        "waited": dict(report.waited),
                    },
                )

        def do_POST(self) -> None:
            # A page of another site may not stop it, nor look as if it had.
            if self.headers.get("Origin") is not None:
                self._answer(403, {"detail": "not for pages of a browser"})
            elif self.path != "/stop":
                self._answer(404, {"detail": "POST /stop stops the microscope"})
            elif self._may():
                try:
                    loop.emergency_stop()
                except ControlError as error:
                    self._answer(502, {"detail": str(error)})
                else:
                    self._answer(200, {"stopped": True})

        def _may(self) -> bool:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if key is None or hmac.compare_digest(given.encode(), key.encode()):
                return True
            self._answer(401, {"detail": "key missing or wrong"})
            return False

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    return Handler


@contextlib.contextmanager
def on_key(keys: str, pressed: Callable[[], None]) -> Iterator[bool]:
    """Call back when one of some keys is pressed, without Enter; nothing where there is no terminal.

    Yields
    ------
    bool
        Whether keys are listened to.
    """
    if not sys.stdin.isatty():
        yield False
        return
    import select
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            ready, _, _ = select.select([number], [], [], 0.1)
            if ready and sys.stdin.read(1) in keys:
                pressed()

    tty.setcbreak(number)
    thread = threading.Thread(target=listen, name="keys", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        termios.tcsetattr(number, termios.TCSADRAIN, before)
