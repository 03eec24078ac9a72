"""Cursor semantics of ``/v1/events`` over real HTTP, against the obvious reading of a list."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from _running import running
from latticewatch.messages import EVENT_TYPES, CursorGone, Event, EventPage, StreamEventData
from latticewatch.record import EventLog, LoggedEvent

KEPT, WRITTEN = 40, 65
FIRST = WRITTEN - KEPT + 1
TYPES = ["series.started", "series.ended", "stream.stalled", "stream.resumed", "frames.lost"]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A service whose log has lost its oldest events."""
    folder = tmp_path_factory.mktemp("api")
    log = EventLog(folder / "events.sqlite", "/latticewatch/test", max_events=KEPT)
    for number in range(WRITTEN):
        data = StreamEventData(series_id=f"series {number}")
        log.append([(TYPES[number * number % len(TYPES)], data)])
    with running(folder, log=log) as service:
        yield service
    log.close()


def naive(after, types):
    """Sequence numbers after a cursor, of some types."""
    kept = range(FIRST, WRITTEN + 1)
    return [seq for seq in kept if seq > after and TYPES[(seq - 1) ** 2 % len(TYPES)] in (types or TYPES)]


cursors = st.integers(FIRST - 1, WRITTEN)
some_types = st.none() | st.lists(st.sampled_from(TYPES), min_size=1, unique=True)


@given(after=cursors, limit=st.integers(1, 50), types=some_types)
@example(after=FIRST - 1, limit=1000, types=None)
@settings(max_examples=40, deadline=None)
def test_a_page_holds_the_first_events_after_the_cursor(live, after, limit, types):
    params = {"after": after, "limit": limit} | ({"types": ",".join(types)} if types else {})
    page = EventPage.model_validate_json(live.http.get("/v1/events", params=params).content)
    expected = naive(after, types)
    assert [event.seq for event in page.events] == expected[:limit]
    # Nothing that was wanted lies between the last event and where the next call begins.
    assert [seq for seq in expected[:] if seq <= page.next] == expected[:limit]
    assert (page.first_seq, page.last_seq) == (FIRST, WRITTEN)


@given(limit=st.integers(1, 20), types=some_types)
@settings(max_examples=10, deadline=None)
def test_walking_the_pages_gives_every_event_once(live, limit, types):
    after, seen = FIRST - 1, []
    while after < WRITTEN:
        params = {"after": after, "limit": limit} | ({"types": types} if types else {})
        page = EventPage.model_validate_json(live.http.get("/v1/events", params=params).content)
        assert page.next > after
        seen += [event.seq for event in page.events]
        after = page.next
    assert seen == naive(0, types)


@given(after=st.integers(0, FIRST - 2) | st.integers(WRITTEN + 1, 2**63 - 1))
@settings(max_examples=15, deadline=None)
def test_a_cursor_outside_the_log_is_gone(live, after):
    answer = live.http.get("/v1/events", params={"after": after})
    gone = CursorGone.model_validate_json(answer.content)
    assert answer.status_code == 410
    assert (gone.stream, gone.first_seq, gone.last_seq) == (live.engine.log.stream, FIRST, WRITTEN)


@given(after=st.none() | st.just("now") | cursors, stream=st.text(st.characters(codec="utf-8"), max_size=64))
@settings(max_examples=15, deadline=None)
def test_a_cursor_of_another_log_is_gone(live, after, stream):
    params = {"stream": stream} | ({} if after is None else {"after": after})
    answer = live.http.get("/v1/events", params=params)
    assert answer.status_code == (200 if stream == live.engine.log.stream else 410)


def test_without_a_cursor_the_walk_begins_at_the_oldest_event_and_now_is_its_end(live):
    assert live.http.get("/v1/events?limit=1").json()["events"][0]["seq"] == FIRST
    page = live.http.get("/v1/events?after=now").json()
    assert (page["events"], page["next"]) == ([], WRITTEN)


def test_no_way_out_of_the_log_reads_what_it_passes_on(live, monkeypatch):
    unread = property(lambda _: pytest.fail("parsed again"))
    monkeypatch.setattr(LoggedEvent, "data", unread)
    page = live.http.get(f"/v1/events?after={WRITTEN - 2}").text
    with connect(f"{live.ws}/v1/events/ws") as socket:
        socket.send(json.dumps({"after": WRITTEN - 2}))
        pushed = [socket.recv(10) for _ in range(2)]
    with live.http.stream("GET", "/v1/events/stream", params={"after": WRITTEN - 2}) as answer:
        sent = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
        assert [next(sent), next(sent)] == pushed
    assert all(text in page for text in pushed)
    seqs = [Event.model_validate_json(text).seq for text in pushed]
    assert seqs == [WRITTEN - 1, WRITTEN]


def test_a_family_of_types_is_all_of_them(live):
    page = live.http.get("/v1/events?types=series.*&limit=1000").json()
    assert {event["type"] for event in page["events"]} == {"series.started", "series.ended"}


@pytest.mark.parametrize("types", ["defect", "*.x", "nothing.*", "defect.appeared;x", "series.started,bad"])
def test_a_type_that_does_not_exist_is_refused_with_those_that_do(live, types):
    answer = live.http.get("/v1/events", params={"types": types})
    assert answer.status_code == 422
    assert EVENT_TYPES[0] in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=1.5", "after=99999999999999999999", "after=1e3", "after=NOW", "limit=0",
     "limit=1001", "limit=", "wait=-1", "wait=nan", "wait=inf", "wait=x", f"stream={'x' * 65}", "after=٣"],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(live, query):
    answer = live.http.get(f"/v1/events?{query}")
    assert answer.status_code == 422
    assert "detail" in answer.json()
