"""Who may ask, what may be sent, and how much of it."""

from __future__ import annotations

import json
import socket as sockets
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from _fake_learner import VACANCY, grid_image
from _running import PATIENCE_S, running, settings_of
from latticewatch.errors import ConfigurationError
from latticewatch.serve import Service
from latticewatch_client import Client, UnauthorizedError

READ, CONTROL = "read-key", "control-key"


@pytest.fixture(scope="module")
def open_service(tmp_path_factory):
    with running(tmp_path_factory.mktemp("open")) as live:
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        yield live


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    keys = {"read_key": READ, "control_key": CONTROL}
    with running(tmp_path_factory.mktemp("locked"), serve=keys) as live:
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        yield live


@pytest.mark.parametrize("http", ["0.0.0.0:0", "[::]:0", "192.168.0.7:8765", "example.org:80"])
def test_an_address_that_others_reach_is_refused_without_a_key(tmp_path, http):
    with pytest.raises(ConfigurationError, match="LATTICEWATCH_SERVE__READ_KEY"):
        Service(settings_of(tmp_path / "data", serve={"http": http}))
    assert not (tmp_path / "data").exists()


def test_with_a_key_any_address_may_be_listened_on(tmp_path):
    with running(tmp_path, serve={"http": "0.0.0.0:0", "read_key": READ}) as live:
        port = live.url.rpartition(":")[2]
        with Client(f"http://127.0.0.1:{port}", READ) as client:
            assert client.status().phase == "waiting"


@pytest.mark.parametrize(
    "path",
    ["/v1/status", "/v1/events", "/v1/events/stream", "/v1/classes", "/v1/frames/latest.png", "/metrics"],
)
@pytest.mark.parametrize("key", [None, "wrong", "ключ", READ[:-1]])
def test_nothing_is_read_without_the_key(locked, path, key):
    headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
    answer = locked.http.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("key", "scopes"), [(READ, ["read"]), (CONTROL, ["read", "control"])])
def test_a_key_can_ask_what_it_may_do(locked, key, scopes):
    answer = locked.http.get("/v1/access", headers={"Authorization": f"Bearer {key}"})
    assert answer.json() == {"scopes": scopes}


def test_the_page_and_the_probes_need_no_key(locked):
    for path in ("/", "/healthz", "/readyz", "/docs"):
        assert locked.http.get(path).status_code == 200


def test_a_key_in_the_address_is_not_looked_at(locked):
    assert locked.http.get("/v1/status", params={"key": READ}).status_code == 401


def test_the_read_key_reads_and_only_the_control_key_changes(locked):
    with Client(locked.url, READ) as client:
        assert len(client.classes()) == 2
        with pytest.raises(UnauthorizedError, match="control key"):
            client.rename(VACANCY, "mine")
        with pytest.raises(UnauthorizedError):
            client.relearn()
        assert {one.name for one in client.classes()} == {"host A", "vacancy"}
    with Client(locked.url, CONTROL) as client:
        assert client.rename(VACANCY, "vacancy").name == "vacancy"


@pytest.mark.parametrize("path", ["/v1/live", "/v1/events/ws"])
@pytest.mark.parametrize("extra", [{}, {"key": "wrong"}, {"key": None}])
def test_a_socket_without_the_key_is_closed(locked, path, extra):
    with connect(f"{locked.ws}{path}") as socket:
        socket.send(json.dumps(extra))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == 4401


def test_a_socket_takes_the_key_in_its_first_message_or_before_it(locked):
    with connect(f"{locked.ws}/v1/live") as socket:
        socket.send(json.dumps({"type": "next", "key": READ}))
        assert socket.recv(timeout=PATIENCE_S)
    with connect(f"{locked.ws}/v1/events/ws") as socket:
        socket.send(json.dumps({"type": "auth", "key": READ}))
        socket.send(json.dumps({"type": "subscribe", "after": 0}))
        assert json.loads(socket.recv(timeout=PATIENCE_S))["seq"] == 1


def test_a_socket_that_says_nothing_is_closed(open_service, monkeypatch):
    monkeypatch.setattr("latticewatch.serve._socket.FIRST_MESSAGE_S", 0.1)
    with connect(f"{open_service.ws}/v1/live") as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == 1008


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[", "10.0.0.1"]
)
def test_a_name_that_was_made_to_point_here_is_refused(open_service, host):
    assert open_service.http.get("/v1/status", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8765", "[::1]:8765", "LOCALHOST"])
def test_the_names_of_loopback_are_answered(open_service, host):
    assert open_service.http.get("/v1/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_the_page_of_another_site_changes_nothing_and_opens_no_socket(open_service, origin):
    answer = open_service.http.patch(
        f"/v1/classes/{VACANCY}", json={"name": "owned"}, headers={"Origin": origin}
    )
    assert answer.status_code == 403
    assert open_service.http.post("/v1/model:relearn", headers={"Origin": origin}).status_code == 403
    assert "owned" not in open_service.http.get("/v1/classes").text
    with pytest.raises(InvalidStatus) as refused, connect(f"{open_service.ws}/v1/live", origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_our_own_page_and_an_allowed_one_may(tmp_path):
    with running(tmp_path, serve={"allowed_origins": ("https://lab.example",)}) as live:
        for origin in (live.url, "https://lab.example"):
            with connect(f"{live.ws}/v1/live", origin=origin) as socket:
                socket.send("{}")
                assert socket.recv(timeout=PATIENCE_S)
        proxied = live.http.get("/v1/status", headers={"Host": "lab.example"})
        assert proxied.status_code == 200
        answer = live.http.get("/v1/status", headers={"Origin": "https://lab.example"})
        assert answer.headers["access-control-allow-origin"] == "https://lab.example"


def test_a_body_that_is_too_large_is_not_read(open_service):
    body = b'{"name":"' + b"x" * 100_000 + b'"}'
    path = f"/v1/classes/{VACANCY}"
    assert open_service.http.patch(path, content=body).status_code == 413
    assert open_service.http.patch(path, content=iter([body[:50_000], body[50_000:]])).status_code == 413


def test_a_length_that_is_a_lie_or_a_flood_is_refused(open_service):
    host, port = open_service.url.removeprefix("http://").split(":")
    for length in (b"-1", b"9" * 5000, b"1e9"):
        with sockets.create_connection((host, int(port)), timeout=PATIENCE_S) as raw:
            head = b"PATCH /v1/classes/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length
            raw.sendall(head + b"\r\n\r\n{}")
            assert raw.recv(100).split(b" ")[1] in (b"400", b"413", b"431")


def test_browsers_are_told_to_stay_here(open_service):
    for path in ("/", "/v1/status", "/docs", "/nowhere"):
        headers = open_service.http.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert open_service.http.get("/v1/status").headers["cache-control"] == "no-store"


def test_sockets_are_not_compressed(open_service):
    with connect(f"{open_service.ws}/v1/live") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


def test_connections_beyond_the_limit_are_turned_away(tmp_path):
    with running(tmp_path, serve={"max_connections": 2}) as live, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(f"{live.ws}/v1/live")).send("{}")
        assert live.http.get("/v1/status").status_code == 503
        with connect(f"{live.ws}/v1/live") as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd.code == 1013
        stack.close()
        live.until(lambda: live.http.get("/v1/status").status_code == 200)


def test_a_socket_that_floods_is_closed(open_service):
    with connect(f"{open_service.ws}/v1/live") as socket:
        with suppress(ConnectionClosed):
            for _ in range(20_000):
                socket.send('{"after":0}')
            while True:
                socket.recv(timeout=PATIENCE_S)
        assert socket.close_code == 1008
