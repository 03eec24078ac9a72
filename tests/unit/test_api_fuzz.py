"""Whatever is sent, the answer is a refusal that can be read, never a fault of the service."""

from __future__ import annotations

import json
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from _fake_learner import grid_image
from _running import running

PATHS = [
    "/v1/events",
    "/v1/status",
    "/v1/counts",
    "/v1/tracks",
    "/v1/history",
    "/v1/frames/latest",
    "/v1/frames/latest.png",
    "/v1/classes",
    "/v1/classes/1",
    "/v1/classes/1/average.png",
    "/v1/classes/1/template.png",
    "/v1/classes/1/difference.png",
]
NAMES = [
    "after",
    "limit",
    "stream",
    "types",
    "role",
    "overlay",
    "max_size",
    "size",
    "points",
    "since",
    "class_id",
]
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
text = st.text(st.characters(codec="utf-8"), max_size=80)
value = text | st.integers().map(str) | st.floats().map(str)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
patches = st.dictionaries(st.sampled_from(["name", "role", "merge", "x"]), anything, max_size=3) | anything


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with running(tmp_path_factory.mktemp("fuzz")) as service:
        service.sender.send(grid_image(), n=3)
        service.analysed(3)
        yield service


@given(path=st.sampled_from(PATHS), params=st.dictionaries(st.sampled_from(NAMES), value, max_size=4))
@quick
def test_any_question_is_answered_or_refused(live, path, params):
    answer = live.http.get(path, params=params)
    assert answer.status_code in (200, 404, 410, 422)
    if answer.status_code != 200:
        assert "detail" in answer.json()


@given(rest=text, prefix=st.sampled_from(["/", "/v1/", "/v1/classes/"]))
@quick
def test_any_path_is_answered_or_refused(live, rest, prefix):
    assert live.http.get(prefix + quote(rest, safe="")).status_code < 500


@given(class_id=st.integers().map(str) | text, body=patches)
@quick
def test_any_edit_is_done_or_refused(live, class_id, body):
    path = "/v1/classes/" + quote(class_id, safe="")
    answer = live.http.patch(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code < 500


@given(body=st.binary(max_size=300))
@quick
def test_any_bytes_as_an_edit_are_refused(live, body):
    answer = live.http.patch("/v1/classes/99", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500


@given(
    path=st.sampled_from(["live", "events/ws"]),
    message=patches.map(json.dumps) | text | st.binary(max_size=99),
)
@settings(quick, max_examples=20)
def test_any_message_on_a_socket_is_answered_or_closes_it_with_a_reason(live, path, message):
    with connect(f"{live.ws}/v1/{path}") as socket:
        socket.send(message)
        with suppress(ConnectionClosed):
            assert socket.recv(timeout=20)
            socket.close()
        assert socket.close_code in (1000, 1007, 1008)
    assert live.http.get("/healthz").status_code == 200
