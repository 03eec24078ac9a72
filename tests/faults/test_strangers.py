"""Whoever comes without a key, or with nonsense, costs the service little and others nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from _fake_learner import grid_image
from _running import PATIENCE_S, running
from latticewatch.config import Settings
from latticewatch.errors import ConfigurationError
from latticewatch.serve import _connections
from latticewatch.serve._access import Access

KEYS = {"read_key": "read-me", "control_key": "control-me"}


@pytest.mark.parametrize(
    "body",
    [b'{"name": NaN}', b'{"name": 1e999}', b'{"name": "\\ud800"}', b'{"role": "\\udfff"}', b'{"\\ud800": 1}'],
)
def test_numbers_and_letters_that_are_no_json_are_refused_and_never_an_error_of_ours(tmp_path, body):
    with running(tmp_path) as live:
        reply = httpx.patch(
            f"{live.url}/v1/classes/0", content=body, headers={"Content-Type": "application/json"}
        )
        assert reply.status_code in (404, 422)
        assert reply.json()["detail"]


def test_health_is_answered_though_strangers_hold_all_connections_of_their_address(tmp_path):
    with running(tmp_path, serve={**KEYS, "max_connections": 8}) as live:
        address = urlsplit(live.url)
        silent = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
            assert other.get(f"{live.url}/healthz", timeout=PATIENCE_S).status_code == 200
            reply = other.get(f"{live.url}/v1/status", headers={"Authorization": "Bearer read-me"})
            assert reply.status_code == 200
        for one in silent:
            one.close()


def test_who_connects_and_asks_nothing_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(_connections, "REQUEST_TIMEOUT_S", 0.1)
    with running(tmp_path, serve=KEYS) as live:
        address = urlsplit(live.url)
        for said in (b"", b"GET /healthz HTTP/1.1\r\nHost: "):
            with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as silent:
                silent.sendall(said)
                with contextlib.suppress(ConnectionResetError):
                    assert silent.recv(1) == b""


def test_a_crowd_of_strangers_holds_up_nobody_else(tmp_path, request):
    idle, posts, sockets = 1000, 100, 50
    with running(tmp_path, serve=KEYS) as live, contextlib.ExitStack() as stack:
        address = urlsplit(live.url)
        other = stack.enter_context(
            httpx.Client(
                base_url=live.url,
                transport=httpx.HTTPTransport(local_address="127.0.0.2"),
                headers={"Authorization": "Bearer read-me"},
                timeout=PATIENCE_S,
            )
        )

        def rate(row: int) -> float:
            """Frames per second, from the first to the last event readable."""
            start, done = time.monotonic(), live.engine.receiver.counts().analysed
            for n in range(150):
                # vacancies that come and go, so that there are events
                live.sender.send(grid_image(vacancies=[(row, n // 50)]))
            live.analysed(done + 150)
            return 150 / (time.monotonic() - start)

        alone = rate(2)
        before = other.get("/v1/status").json()["last_seq"]
        head = f"HTTP/1.1\r\nHost: {address.netloc}\r\n"
        upgrade = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        )
        greetings = [
            *[b""] * idle,
            *[f"POST /v1/model:relearn {head}Content-Length: 5000\r\n\r\n{{".encode()] * posts,
            *[f"GET /v1/live {head}{upgrade}dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()] * sockets,
        ]
        for greeting in greetings:
            one = stack.enter_context(socket.create_connection((address.hostname, address.port)))
            with contextlib.suppress(OSError):  # it may have been cut off already
                one.sendall(greeting)
        took = []
        for _ in range(20):
            start = time.monotonic()
            fresh = HTTPConnection(
                str(address.hostname), address.port, timeout=PATIENCE_S, source_address=("127.0.0.2", 0)
            )
            fresh.request("GET", "/healthz")
            assert fresh.getresponse().status == 200
            fresh.close()
            took.append(time.monotonic() - start)
        crowded = rate(5)
        assert other.get("/v1/events", params={"after": before}).json()["events"]
        median, most = 1e3 * sorted(took)[10], 1e3 * max(took)
        request.config.get_terminal_writer().line(
            f"\n{idle} idle connections, {posts} slow posts, {sockets} silent sockets: /healthz {median:.0f} ms in the "
            f"median, {most:.0f} ms at most; {alone:.0f} frames/s alone, {crowded:.0f} beside them"
        )
        assert median < 100
        counts = live.engine.receiver.counts()
        assert counts.analysed == counts.received == 300


def asked(address: tuple[str, int], path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(*address, timeout=PATIENCE_S)
    connection.request("GET", path)
    reply = connection.getresponse()
    with contextlib.closing(connection):
        return reply.status, reply.read()


def test_probes_have_an_address_of_their_own_where_nothing_else_is(tmp_path):
    with running(tmp_path, serve={**KEYS, "probes": "127.0.0.1:0"}) as live:
        probes = live.service.probes
        assert probes is not None
        assert asked(probes, "/healthz") == (200, b'{"status":"ok","detail":null}')
        assert asked(probes, "/readyz")[0] == 503
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        assert asked(probes, "/readyz")[0] == 200
        for path in ("/v1/status", "/", "/healthz/../v1/status"):
            assert asked(probes, path)[0] == 404
        # nobody who says nothing, or nonsense, keeps others from their answer
        silent = [socket.create_connection(probes) for _ in range(30)]
        for nonsense in (b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000, b"GET /healthz\r\n"):
            silent.append(socket.create_connection(probes))
            silent[-1].sendall(nonsense)
        assert asked(probes, "/healthz")[0] == 200
        for one in silent:
            one.close()
    with pytest.raises(OSError):
        socket.create_connection(probes, timeout=PATIENCE_S)


def test_probes_are_answered_while_the_web_server_is_held_up(tmp_path):
    with running(tmp_path, serve={"probes": "127.0.0.1:0"}) as live:
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            go.wait(PATIENCE_S)

        live.service._news[0]._loop.call_soon_threadsafe(hold)
        assert held.wait(PATIENCE_S)
        try:
            assert live.service.probes is not None
            assert asked(live.service.probes, "/healthz")[0] == 200
        finally:
            go.set()


def test_a_body_is_not_waited_for_without_a_key(tmp_path):
    with running(tmp_path, serve={**KEYS, "max_connections": 4}) as live:
        address = urlsplit(live.url)
        for _ in range(10):
            with socket.create_connection((address.hostname, address.port)) as slow:
                slow.settimeout(PATIENCE_S)
                head = f"POST /v1/model:relearn HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 5000\r\n\r\n"
                slow.sendall(head.encode())
                assert b" 401 " in slow.recv(200)


def test_every_origin_is_allowed_on_loopback_only():
    Access(Settings(serve={"allowed_origins": ["*"]}).serve)
    with pytest.raises(ConfigurationError, match="any page"):
        Access(Settings(serve={"http": "0.0.0.0:0", "allowed_origins": ["*"], **KEYS}).serve)
