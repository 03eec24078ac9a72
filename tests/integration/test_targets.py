"""Targets: leased to one at a time, never after a visit, in the log, and kept over restarts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fake_learner import grid_image
from _running import running
from latticewatch.errors import LatticewatchError, ServiceError, ServiceUnreachableError
from latticewatch.messages import KINDS, POLICIES, TargetRequest
from latticewatch.serve._target_book import TargetBook
from latticewatch_client import Client

VACANCIES = [(1, 1), (1, 5), (3, 4), (6, 2), (6, 6)]


def show(live, vacancies=VACANCIES, n=3):
    before = live.engine.receiver.counts().analysed
    live.sender.send(grid_image(vacancies=vacancies), n=n)
    live.analysed(before + n)
    live.until(lambda: live.engine.state.role_counts.get("defect") == len(vacancies))


@pytest.fixture
def live(tmp_path):
    with running(tmp_path) as service:
        show(service)
        yield service


@pytest.fixture
def client(live):
    with Client(live.url, retries=0) as client:
        yield client


def test_many_holders_at_once_never_get_the_same_target(live):
    def ask(k):
        with Client(live.url) as client:
            return client.next_target(f"loop {k}").target

    with ThreadPoolExecutor(12) as pool:
        targets = list(pool.map(ask, range(12)))
    got = [target.id for target in targets if target is not None]
    assert len(got) == len(set(got)) == len(VACANCIES)


def test_without_a_target_it_is_said_why(live, client):
    assert client.next_target("a", classes=["no such class"]).reason == "no such defect in view"
    for _ in VACANCIES:
        client.next_target("a")
    lease = client.next_target("b")
    assert lease.target is None
    assert "leased or were visited" in lease.reason


def test_a_lease_ends_with_its_time(live, client):
    now = [0.0]
    book = TargetBook(live.engine.log, clock=lambda: now[0])
    offer = [client.targets().targets[0]]
    assert book.lease(TargetRequest(holder="a", ttl_s=10), lambda: offer).target
    now[0] = 9.9
    assert book.lease(TargetRequest(holder="b"), lambda: offer).target is None
    now[0] = 10.0
    assert book.lease(TargetRequest(holder="b"), lambda: offer).target


@pytest.mark.parametrize("outcome", ["done", "failed", "refused"])
def test_a_target_that_was_annotated_is_not_given_out_again(live, client, outcome):
    first = client.next_target("a").target
    client.annotate(first.id, "a", outcome)
    others = {client.next_target("a").target.id for _ in VACANCIES[1:]}
    assert first.id not in others
    assert client.next_target("a").target is None


def test_a_target_that_was_given_back_is_given_out_again(live, client):
    first = client.next_target("a").target
    client.annotate(first.id, "a", "note", "looks odd")
    assert client.targets().leased == 1
    client.annotate(first.id, "a", "released")
    assert client.next_target("b").target.id == first.id


def test_a_place_that_was_visited_is_visited_whatever_its_track_is_called(live, client):
    first = client.next_target("a").target
    client.annotate(first.id, "a", "done")
    book = live.service._server.config.app.state.hub.targets
    again = first.model_copy(update={"id": f"{first.id}99"})
    assert book.sort([again], 0.2) == ([], 0, 1)
    moved = again.specimen_nm.model_copy(update={"x": again.specimen_nm.x + 0.3})
    assert book.sort([again.model_copy(update={"specimen_nm": moved})], 0.2)[0]
    assert not book.sort([again.model_copy(update={"specimen_nm": moved})], 1000.0)[0]


def test_what_somebody_else_has_cannot_be_annotated(live, client):
    first = client.next_target("a").target
    with pytest.raises(ServiceError, match="a has it"):
        client.annotate(first.id, "b", "done")
    assert client.annotate(first.id, "b", "note", "seen from here").seq > 0


def test_the_same_request_with_the_same_key_is_done_once(live, client):
    before = live.engine.log.last_seq
    first, again = (client.next_target("a", key="k") for _ in range(2))
    assert again.target == first.target
    assert client.annotate(first.target.id, "a", "done", key="k").seq == before + 2
    assert client.annotate(first.target.id, "a", "done", key="k").seq == before + 2
    assert live.engine.log.last_seq == before + 2
    for request in (
        lambda: client.next_target("b", key="k"),
        lambda: client.annotate(first.target.id, "a", "failed", key="k"),
    ):
        with pytest.raises(ServiceError, match="another request"):
            request()


def test_leases_visits_and_keys_outlive_a_restart(tmp_path):
    with running(tmp_path) as live, Client(live.url) as client:
        show(live)
        leased = client.next_target("a", key="one", ttl_s=3600)
        visited = client.next_target("a", key="two").target
        client.annotate(visited.id, "a", "done", key="three")
        end = live.engine.log.last_seq
    with running(tmp_path) as live, Client(live.url) as client:
        show(live)
        assert client.next_target("a", key="one", ttl_s=3600).target == leased.target
        assert client.annotate(visited.id, "a", "done", key="three").seq == end
        with pytest.raises(ServiceError, match="a has it"):
            client.annotate(leased.target.id, "b", "done")
        got = {client.next_target("b").target.id for _ in VACANCIES[2:]}
        assert not got & {leased.target.id, visited.id}


def test_both_are_events_that_a_follower_hears_of_at_once(live):
    heard, ready = [], threading.Event()

    def follow():
        with Client(live.url) as follower:
            for event in follower.events(live.engine.log.last_seq, types=["target.*"]):
                heard.append(event)
                if len(heard) == 2:
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    with Client(live.url) as client:
        target = client.next_target("a", policy="newest").target
        client.annotate(target.id, "a", "done", series_id="s", first=1, last=2, offset_nm=0.01)
    thread.join(20)
    assert not ready.is_set()
    leased, annotated = heard
    assert (leased.type, leased.data["found"]["id"]) == ("target.leased", target.id)
    assert (annotated.data["target"], annotated.data["offset_nm"]) == (target.id, 0.01)


def test_nothing_is_given_out_that_cannot_be_written(live, client, monkeypatch):
    def full(*_):
        raise LatticewatchError("disk full")

    append = live.engine.log.append
    monkeypatch.setattr(live.engine.log, "append", full)
    with pytest.raises(ServiceUnreachableError, match="disk full"):
        client.next_target("a")
    monkeypatch.setattr(live.engine.log, "append", append)
    assert client.targets().leased == 0


def test_each_policy_ranks_by_what_it_is_called(live, client):
    def ranked(policy, **wanted):
        return [
            (one.track.stage_nm.x, one.track.stage_nm.y) for one in client.targets(policy, **wanted).targets
        ]

    def distance(a, b):
        return ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5

    middle = (100.0, -50.0)
    near = [distance(place, middle) for place in ranked("nearest")]
    assert near == sorted(near)
    tracks = [one.track.track for one in client.targets("newest").targets]
    assert tracks == sorted(tracks, reverse=True)
    confident = [one.track.confidence for one in client.targets("most-confident").targets]
    assert confident == sorted(confident, reverse=True)
    uncertain = [one.track.confidence for one in client.targets("most-uncertain").targets]
    assert uncertain == sorted(uncertain)
    everyone = ranked("farthest")
    apart = [min(distance(a, b) for b in everyone if b != a) for a in everyone]
    assert apart == sorted(apart, reverse=True)
    assert len({tuple(ranked("random")) for _ in range(20)}) > 1
    place = everyone[3]
    lease = client.next_target("a", policy="nearest", x_nm=place[0], y_nm=place[1])
    assert (lease.target.track.stage_nm.x, lease.target.track.stage_nm.y) == place


def test_a_filter_leaves_out_what_it_says(live, client):
    name, kind = client.targets().targets[0].track.class_name, client.targets().targets[0].kind
    assert client.targets(classes=[name]).n == len(VACANCIES)
    assert client.targets(classes=["x"]).n == 0
    assert client.targets(kinds=[kind]).n == len(VACANCIES)
    assert client.targets(kinds=[k for k in KINDS if k != kind]).n == 0
    assert client.targets(min_confidence=1.0).n == 0
    assert client.next_target("a", min_edge_nm=1e3).target is None


def test_the_key_for_reading_takes_no_target(tmp_path):
    keys = {"read_key": "r" * 16, "control_key": "c" * 16}
    with running(tmp_path, serve=keys) as live:
        live.sender.send(grid_image(vacancies=VACANCIES), n=3)
        live.analysed(3)
        with Client(live.url, key="r" * 16) as reader, Client(live.url, key="c" * 16) as holder:
            assert reader.targets().n == len(VACANCIES)
            for request in (lambda: reader.next_target("a"), lambda: reader.annotate("x", "a", "done")):
                with pytest.raises(ServiceError, match="control"):
                    request()
            assert holder.next_target("a").target


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
NAMES = [
    "policy",
    "holder",
    "ttl_s",
    "key",
    "classes",
    "kinds",
    "x_nm",
    "apart_nm",
    "target",
    "outcome",
    "first",
]
words = st.sampled_from([*POLICIES, "done", "released", "k"])


@given(
    path=st.sampled_from(["/v1/targets:next", "/v1/annotations"]),
    body=st.dictionaries(st.sampled_from(NAMES), anything | words | st.lists(words, max_size=3), max_size=6),
)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_body_is_done_or_refused(live, path, body):
    assert live.http.post(path, json=body).status_code in (200, 409, 422)
