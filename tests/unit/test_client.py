"""The client against answers that are written here: errors, cursors, and what it does when the service is away."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import textwrap

import httpx
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import latticewatch_client
from latticewatch.messages import ClassPatch, ControlRequest
from latticewatch_client import (
    AsyncClient,
    Client,
    Cursor,
    CursorGoneError,
    ServiceError,
    ServiceUnreachableError,
    UnauthorizedError,
    UnknownClassError,
)
from latticewatch_client._follow import Backoff

STREAM = "11111111-2222-3333-4444-555555555555"


STATUS = {
    "version": "0", "stream": STREAM, "source": "s", "series_id": "a", "phase": "live", "frames": {}, "fps": 1.0,
    "latency_ms": {}, "last_frame_age_s": 0.1, "model_version": 1,
}  # fmt: skip


def event(seq, stream=STREAM):
    return {
        "type": "series.started",
        "source": "/latticewatch/test",
        "id": f"{stream}:{seq}",
        "stream": stream,
        "seq": seq,
        "time": "2025-01-01T00:00:00Z",
        "data": {"series_id": "a"},
    }


class FakeLog:
    """A service that answers ``/v1/events`` as the real one, over a log of a given length."""

    def __init__(self, last, first=1, stream=STREAM, page=3):
        self.last, self.first, self.stream, self.page = last, first, stream, page
        self.requests = []
        self.failures = []

    def __call__(self, request):
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        params = request.url.params
        after = {None: self.first - 1, "now": self.last}.get(params.get("after"), params.get("after"))
        after = int(after)
        if params.get("stream", self.stream) != self.stream or not self.first - 1 <= after <= self.last:
            body = {"detail": "gone", "stream": self.stream, "first_seq": self.first, "last_seq": self.last}
            return httpx.Response(410, json=body)
        end = min(after + self.page, self.last)
        return httpx.Response(
            200,
            json={
                "stream": self.stream,
                "events": [event(seq, self.stream) for seq in range(after + 1, end + 1)],
                "next": end,
                "first_seq": self.first,
                "last_seq": self.last,
                "server_time": "2025-01-01T00:00:00Z",
                "last_frame_age_s": None,
            },
        )


@pytest.fixture
def paused(monkeypatch):
    """Pauses that were asked for; none is made."""
    pauses = []
    monkeypatch.setattr("latticewatch_client._client.time.sleep", pauses.append)
    return pauses


def client_of(log):
    return Client("http://service", transport=httpx.MockTransport(log))


@given(last=st.integers(0, 12), after=st.none() | st.integers(0, 12), page=st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_every_event_after_the_cursor_comes_once_and_in_order(last, after, page):
    after = after if after is None else min(after, last)
    with client_of(FakeLog(last, page=page)) as client:
        seen = [one.seq for one in client.events(after, follow=False)]
        assert seen == list(range((after or 0) + 1, last + 1))
        assert client.cursor == Cursor(STREAM, last)


def test_the_cursor_stands_on_the_event_that_was_given_out():
    with client_of(FakeLog(5)) as client:
        for one in client.events(follow=False):
            assert str(client.cursor) == one.id
            if one.seq == 2:
                break
        kept = str(client.cursor)
        assert [one.seq for one in client.events(kept, follow=False)] == [3, 4, 5]


def test_a_lost_connection_is_taken_up_where_it_broke(paused):
    log = FakeLog(6)
    with client_of(log) as client:
        events = client.events()
        seen = [next(events).seq for _ in range(3)]
        log.failures = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(503)]
        seen += [next(events).seq for _ in range(3)]
    assert seen == [1, 2, 3, 4, 5, 6]
    assert len(paused) == 3


def test_a_service_that_is_away_is_an_error_for_who_does_not_follow():
    log = FakeLog(6)
    log.failures = [httpx.ConnectError("refused")]
    with client_of(log) as client, pytest.raises(ServiceUnreachableError, match="latticewatch serve"):
        list(client.events(follow=False))


def test_pauses_grow_to_a_limit_and_differ_between_clients():
    pauses = [Backoff(0.25, 15.0, seed=1)]
    drawn = [pauses[0].next() for _ in range(12)]
    assert all(pause <= 15.0 for pause in drawn)
    assert min(drawn[-4:]) >= 7.5
    assert drawn != [Backoff(0.25, 15.0, seed=2).next() for _ in range(12)]
    pauses[0].reset()
    assert pauses[0].next() <= 0.25


def test_a_cursor_that_is_gone_is_an_error_unless_someone_is_told():
    log = FakeLog(9, first=5)
    with client_of(log) as client:
        with pytest.raises(CursorGoneError) as gone:
            list(client.events(2, follow=False))
        assert (gone.value.first_seq, gone.value.last_seq) == (5, 9)
        told = []
        seen = [one.seq for one in client.events(2, follow=False, on_gap=told.append)]
    assert seen == [5, 6, 7, 8, 9]
    assert [one.first_seq for one in told] == [5]


def test_a_new_log_under_the_same_address_is_noticed():
    old, new = FakeLog(5), FakeLog(5, stream="another")
    with client_of(old) as client:
        list(client.events(follow=False))
        kept = client.cursor
    with client_of(new) as client, pytest.raises(CursorGoneError) as gone:
        list(client.events(kept, follow=False))
    assert gone.value.stream == "another"


def test_a_log_that_is_gone_again_at_once_is_given_up():
    log = FakeLog(9, first=5)
    gone = {"detail": "gone", "stream": STREAM, "first_seq": 5, "last_seq": 9}
    log.failures = [httpx.Response(410, json=gone)] * 5
    with client_of(log) as client, pytest.raises(CursorGoneError):
        list(client.events(2, on_gap=lambda _: None))
    assert len(log.requests) == 2


def test_every_request_has_a_time_limit_and_a_long_poll_its_wait_on_top():
    log = FakeLog(3, page=3)
    with Client("http://service", timeout=7.0, transport=httpx.MockTransport(log)) as client:
        events = client.event_pages()
        next(events)
        next(events)
    first, second = (request.extensions["timeout"] for request in log.requests)
    assert first["read"] == first["connect"] == 7.0
    assert second["read"] == 27.0
    assert second["connect"] == 7.0


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": "key missing"}, UnauthorizedError),
        (403, {"detail": "no"}, UnauthorizedError),
        (404, {"detail": "class 9"}, UnknownClassError),
        (409, {"detail": "no"}, ServiceError),
        (422, {"detail": [{"msg": "bad"}]}, ServiceError),
        (500, "oops", ServiceError),
        (503, {"detail": "full"}, ServiceUnreachableError),
        (410, "gone", ServiceError),
        (200, {"unexpected": 1}, ServiceError),
        (200, "not json", ServiceError),
        (302, {}, ServiceError),
    ],
)
def test_an_answer_that_is_no_class_is_an_error_of_ours(status, body, error):
    def answer(request):
        return httpx.Response(status, text=body if isinstance(body, str) else json.dumps(body))

    with client_of(answer) as client, pytest.raises(error):
        client.class_(9)


def test_the_key_is_a_header_and_never_in_the_address():
    log = FakeLog(1)
    with Client("http://service", key="secret", transport=httpx.MockTransport(log)) as client:
        list(client.events(follow=False))
    (request,) = log.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert "secret" not in str(request.url)
    assert "secret" not in repr(client)


@pytest.mark.parametrize("text", ["", "5", ":5", "a:", "a:b", "a:-1", "a:٣"])
def test_text_that_is_no_cursor_is_refused(text):
    with pytest.raises(ValueError, match="stream:seq"):
        Cursor.parse(text)


@given(st.text(min_size=1), st.integers(0, 2**63))
def test_a_cursor_is_read_back_from_its_text(stream, seq):
    assert Cursor.parse(str(Cursor(stream, seq))) == Cursor(stream, seq)


def test_both_clients_have_the_same_methods_with_the_same_parameters():
    def public(cls):
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    sync, twin = public(Client), public(AsyncClient)
    assert sync.pop("close") == twin.pop("aclose")
    assert sync == twin


def test_the_asynchronous_client_follows_as_the_other_does(monkeypatch):
    log = FakeLog(9, first=3)
    log.failures = [httpx.ConnectError("refused")]
    pauses, told, seen = [], [], []

    async def no_pause(seconds):
        pauses.append(seconds)

    async def follow():
        monkeypatch.setattr("latticewatch_client._async.asyncio.sleep", no_pause)
        async with AsyncClient("http://service", transport=httpx.MockTransport(log)) as client:
            async for one in client.events(1, on_gap=told.append):
                seen.append(one.seq)
                assert client.cursor == Cursor(STREAM, one.seq)
                if one.seq == 9:
                    break

    asyncio.run(follow())
    assert seen == [3, 4, 5, 6, 7, 8, 9]
    assert len(pauses) == len(told) == 1


def test_the_public_names_are_pinned():
    assert sorted(latticewatch_client.__all__) == [
        "AsyncClient", "Client", "ControlError", "ControlRefusedError", "ControlTimeoutError",
        "ControlUnreachableError", "Cursor", "CursorGoneError", "Dose", "DoseBook", "FakeService", "Gate", "Hands",
        "Journal", "Loop", "LoopReport", "Microscope", "Ok", "Publisher", "PublisherError", "Refuse",
        "ServiceError", "ServiceUnreachableError", "Sight", "StaleStreamError", "Step",
        "UnauthorizedError", "UnknownClassError", "Wait", "ZmqMicroscope", "acts", "tiles",
    ]  # fmt: skip


def test_the_client_imports_without_what_the_service_needs():
    program = """
        import sys
        blocked = ("numba", "sklearn", "zmq", "fastapi", "starlette", "uvicorn", "scipy", "structlog",
                   "pydantic_settings", "threadpoolctl", "PIL", "orjson", "lz4", "bitshuffle", "ase",
                   "latticewatch.config", "latticewatch.pipeline", "latticewatch.serve")
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name in blocked or name.split(".")[0] in blocked:
                    raise ModuleNotFoundError(f"blocked: {name}", name=name)
        sys.meta_path.insert(0, Blocker())
        import latticewatch_client
        with latticewatch_client.Client() as client:
            pass
        import latticewatch.cli._events, latticewatch.cli._classes, latticewatch.cli._loop
        print("good")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.strip() == "good", result.stderr


def test_a_client_goes_on_when_the_service_is_newer_than_itself():
    newer = event(1) | {"type": "defect.split", "specversion": "1.1", "traceparent": "00-1", "data": {"a": 1}}

    def answer(_request):
        body = FakeLog(1)(httpx.Request("GET", "http://service/v1/events")).json()
        return httpx.Response(200, json=body | {"events": [newer], "epoch": 4})

    with client_of(answer) as client:
        (page,) = client.event_pages(follow=False)
    (one,) = page.events
    assert (one.type, one.specversion, (one.model_extra or {})["traceparent"], one.data) == (
        "defect.split",
        "1.1",
        "00-1",
        {"a": 1},
    )
    assert (page.model_extra or {})["epoch"] == 4


def test_a_newer_410_still_says_where_the_log_is():
    gone = {"detail": "gone", "stream": STREAM, "first_seq": 5, "last_seq": 9, "hint": "new"}
    with (
        client_of(lambda _: httpx.Response(410, json=gone)) as client,
        pytest.raises(CursorGoneError) as error,
    ):
        next(client.events(2))
    assert error.value.lost == (3, 4)
    assert "events 3 to 4 are lost" in str(error.value)


def test_what_a_service_is_asked_stays_strict():
    for model, body in ((ClassPatch, {"nmae": "V_S"}), (ControlRequest, {"action": "get_stage", "x": 1})):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            model.model_validate(body)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_events_go_on_over_a_service_that_says_to_come_again(status, paused):
    log = FakeLog(6)
    with client_of(log) as client:
        events = client.events()
        seen = [next(events).seq for _ in range(3)]
        log.failures = [httpx.Response(status, headers={"Retry-After": "7"})]
        seen += [next(events).seq for _ in range(3)]
    assert seen == [1, 2, 3, 4, 5, 6]
    assert paused == [7.0]


def test_a_call_that_may_be_made_twice_is_made_again_and_another_one_is_not():
    asked = []

    def answer(request):
        asked.append(request.method)
        return httpx.Response(200, json=[]) if len(asked) == 3 else httpx.Response(500)

    with client_of(answer) as client, stamina.set_testing(True, attempts=4):
        assert client.classes() == []
        assert asked == ["GET"] * 3
        asked.clear()
        with pytest.raises(ServiceUnreachableError):
            client.relearn()
        assert asked == ["POST"]


def test_a_cursor_file_goes_on_where_the_last_program_ended(tmp_path):
    kept, log = tmp_path / "cursor", FakeLog(5, page=5)
    with client_of(log) as client:
        events = client.events(follow=False, cursor_file=kept)
        assert [next(events).seq for _ in range(3)] == [1, 2, 3]
        # The third is still in hand: it comes again after a kill, and nothing is left out.
        assert Cursor.parse(kept.read_text()) == Cursor(STREAM, 2)
        assert [one.seq for one in client.events(follow=False, cursor_file=kept)] == [3, 4, 5]
        assert [one.seq for one in client.events(follow=False, cursor_file=kept)] == []
    assert [file.name for file in tmp_path.iterdir()] == ["cursor"]


@pytest.mark.parametrize("text", ["", "1111-22", "a:b", "\x00\xff"])
def test_a_cursor_file_that_was_half_written_loses_nothing(text, tmp_path):
    kept = tmp_path / "cursor"
    kept.write_text(text)
    with client_of(FakeLog(3)) as client:
        assert [one.seq for one in client.events(follow=False, cursor_file=kept)] == [1, 2, 3]


@pytest.mark.parametrize(("on_gap", "seen"), [("oldest", [5, 6, 7, 8, 9]), ("latest", [])])
def test_a_gap_is_named_in_the_log_and_the_walk_goes_on_as_asked(on_gap, seen, caplog):
    with client_of(FakeLog(9, first=5)) as client:
        assert [one.seq for one in client.events(2, follow=False, on_gap=on_gap)] == seen
    assert "events 3 to 4 are lost" in caplog.text


def test_watching_begins_with_what_is_there_and_misses_nothing():
    log = FakeLog(6)
    place = {"px": {"row": 1.0, "col": 2.0}, "stage_nm": {"x": 5.0, "y": 6.0}}
    track = {"track": 4, "class_id": 1, "class_name": "V", "role": "defect", "confidence": 0.9} | place
    tracks = {"stream": STREAM, "as_of_seq": 4, "series_id": "a", "frame": 3, "n": 1, "tracks": [track]}

    def answer(request):
        if request.url.path == "/v1/tracks":
            return httpx.Response(200, json=tracks)
        if request.url.path == "/v1/status":
            return httpx.Response(200, json=STATUS)
        return log(request)

    with client_of(answer) as client:
        seen = client.watch()
        assert (seen.as_of_seq, seen.tracks.tracks[0].track) == (4, 4)
        assert [next(seen.events).seq for _ in range(2)] == [5, 6]
        table = client.sites()
    assert {name: column[0] for name, column in table.items()} == {
        "frame": 3, "track": 4, "class_id": 1, "class_name": "V", "role": "defect", "confidence": 0.9, "row_px": 1.0,
        "col_px": 2.0, "x_nm": None, "y_nm": None, "stage_x_nm": 5.0, "stage_y_nm": 6.0, "sigma_nm": None,
    }  # fmt: skip
