"""The websockets: the live view with credit, and the pushed log."""

from __future__ import annotations

import json

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from _fake_learner import HOST, VACANCY, grid_image
from _running import PATIENCE_S, running
from latticewatch.messages import Event, unpack_live
from latticewatch_client import Client


@pytest.fixture
def live(tmp_path):
    with running(tmp_path) as service:
        yield service


def ask(socket, **request):
    socket.send(json.dumps({"type": "next"} | request))


def receive(socket):
    return unpack_live(socket.recv(timeout=PATIENCE_S))


def test_before_the_first_frame_the_page_is_told_so(live):
    with connect(f"{live.ws}/v1/live") as socket:
        ask(socket)
        header, arrays = receive(socket)
        assert (header.status.phase, header.frame, arrays) == ("waiting", None, {})
        # Nothing new: the same request is not answered again at once.
        ask(socket)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.3)


def test_a_page_that_is_closed_while_it_is_sent_to_is_no_error(live, caplog):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    for number in range(5):
        with connect(f"{live.ws}/v1/live") as socket:
            ask(socket)
            # gone at once, without the closing handshake
            socket.socket.shutdown(2)
        live.sender.send(grid_image(), n=1)
        live.analysed(4 + number)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_message_holds_the_picture_and_every_site(live):
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
    live.analysed(3)
    with connect(f"{live.ws}/v1/live") as socket:
        ask(socket, max_size=64)
        header, arrays = receive(socket)
    assert (header.shape, header.image_scale, arrays["image"].shape) == ((128, 128), 2.0, (64, 64))
    image = grid_image(vacancies=[(3, 4)])
    expected = (image * (255 / image.max())).astype(np.uint8).reshape(64, 2, 64, 2).mean((1, 3))
    assert np.abs(arrays["image"] - expected).max() <= 1
    assert len(arrays["positions"]) == len(arrays["track"]) == len(arrays["confidence"]) == 64
    (defect,) = np.flatnonzero(arrays["role"] == 1)
    assert arrays["positions"][defect].tolist() == [56.0, 72.0]
    assert arrays["class_id"][defect] == VACANCY
    assert {one.class_id for one in header.classes} == {HOST, VACANCY}
    assert arrays["embedding"].shape == (4, 2)
    assert header.counts.by_role["defect"] == 1


def test_each_page_is_told_of_the_site_that_it_asks_about(live):
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
    live.analysed(3)
    # at the same moment: pages that show the same get the same message
    with connect(f"{live.ws}/v1/live") as one, connect(f"{live.ws}/v1/live") as other:
        ask(one, track=28)
        ask(other, track=5)
        told = [receive(socket)[0].site for socket in (one, other)]
    assert [site.track for site in told] == [28, 5]
    assert [[(each.class_id, each.probability) for each in site.classes] for site in told] == [
        [(VACANCY, pytest.approx(0.97, abs=1e-4))],
        [(HOST, pytest.approx(0.97, abs=1e-4))],
    ]
    with connect(f"{live.ws}/v1/live") as socket:
        ask(socket, track=10_000)
        assert receive(socket)[0].site is None


def test_the_page_gets_one_frame_for_each_one_it_asks_for_and_always_the_newest(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    with connect(f"{live.ws}/v1/live") as socket:
        ask(socket)
        first, _ = receive(socket)
        live.sender.send(grid_image(), n=7)
        live.analysed(10)
        ask(socket, after=first.ordinal)
        second, _ = receive(socket)
        assert second.frame == 9
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.2)
        ask(socket, after=second.ordinal)
        live.sender.send(grid_image())
        third, _ = receive(socket)
        assert third.frame == 10


def test_a_page_gets_the_part_that_it_shows_no_finer_than_it_can_show_it(live):
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
    live.analysed(3)
    with connect(f"{live.ws}/v1/live") as socket:
        small = {"top": 31.6, "left": 15.2, "rows": 60.0, "columns": 90.0, "width": 30, "height": 30}
        ask(socket, view=small)
        header, arrays = receive(socket)
        coarse = arrays["image"]
        assert header.image_origin == (31, 15)
        assert header.image_scale == pytest.approx(91 / 30)
        assert arrays["image"].shape == (20, 30)
        assert max(arrays["overview"].shape) <= 128
        # the view moves: the same frame again, at once
        ask(socket, after=header.ordinal, again=True, view={"width": 400, "height": 300})
        again, arrays = receive(socket)
        assert (again.frame, again.image_scale, arrays["image"].shape) == (header.frame, 1.0, (128, 128))
        assert "overview" not in arrays
        # grey levels are those of the whole frame at the same places
        there = arrays["image"][31:92, 15:106]
        assert abs(float(coarse.mean()) - float(there.mean())) < 3
        ask(socket, after=header.ordinal, again=True, view=small | {"width": 91, "height": 61})
        _, arrays = receive(socket)
        assert np.array_equal(arrays["image"], there)


@pytest.mark.parametrize("side", [128, 256, 400])
def test_a_message_keeps_to_its_bytes_and_says_what_it_left_out(live, side):
    live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
    live.analysed(3)
    with connect(f"{live.ws}/v1/live") as socket:
        ask(socket, view={"width": side, "height": side, "max_bytes": max(16_384, int(1.2 * side**2))})
        message = socket.recv(timeout=PATIENCE_S)
    assert len(message) <= max(16_384, 1.2 * side**2)
    header, arrays = unpack_live(message)
    assert header.hosts_left_out + len(arrays["role"]) == 64
    assert np.count_nonzero(arrays["role"] == 1) == 1


def test_model_parts_are_sent_only_to_a_page_whose_model_is_older(live):
    live.sender.send(grid_image(), n=3)
    live.analysed(3)
    with connect(f"{live.ws}/v1/live") as socket:
        ask(socket)
        header, arrays = receive(socket)
        version = header.status.model_version
        live.sender.send(grid_image())
        ask(socket, after=header.ordinal, model_version=version)
        header, arrays = receive(socket)
        assert header.classes is None
        assert "embedding" not in arrays
        with Client(live.url) as client:
            client.rename(VACANCY, "V_S")
        ask(socket, after=header.ordinal, model_version=version)
        header, _ = receive(socket)
        assert {one.name for one in header.classes} == {"host A", "V_S"}


def test_the_log_is_pushed_event_by_event_from_the_cursor_on(live):
    live.sender.send(grid_image(vacancies=[(1, 1), (2, 2)]), n=3)
    live.analysed(3)
    with connect(f"{live.ws}/v1/events/ws") as socket:
        socket.send(json.dumps({"type": "subscribe", "after": 1}))
        seen = [Event.model_validate_json(socket.recv(timeout=PATIENCE_S)).seq for _ in range(3)]
        assert seen == [2, 3, 4]
        live.sender.send(grid_image(vacancies=[(1, 1), (2, 2), (3, 3)]))
        event = Event.model_validate_json(socket.recv(timeout=PATIENCE_S))
        assert (event.seq, event.type) == (5, "defect.appeared")


def test_a_subscription_to_types_gets_only_those_and_a_heartbeat_says_that_it_stands(live):
    with connect(f"{live.ws}/v1/events/ws") as socket:
        socket.send(json.dumps({"type": "subscribe", "after": "now", "types": ["defect.*"]}))
        heartbeat = json.loads(socket.recv(timeout=PATIENCE_S))
        assert heartbeat["events"] == []
        live.sender.send(grid_image(), n=3)
        assert Event.model_validate_json(socket.recv(timeout=PATIENCE_S)).type == "defect.appeared"


@pytest.mark.parametrize("cursor", [{"after": 999}, {"after": 0, "stream": "another"}])
def test_a_cursor_that_cannot_be_followed_closes_the_socket_with_the_ends_of_the_log(live, cursor):
    with connect(f"{live.ws}/v1/events/ws") as socket:
        socket.send(json.dumps({"type": "subscribe"} | cursor))
        gone = json.loads(socket.recv(timeout=PATIENCE_S))
        assert (gone["first_seq"], gone["last_seq"]) == (1, 0)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == 4410


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        '{"type":"other"}',
        '{"max_size":1e99}',
        '{"after":-1}',
        '{"view":{}}',
        '{"view":{"width":99999,"height":64}}',
        "x" * 20_000,
    ],
)
def test_a_message_that_makes_no_sense_closes_the_socket_with_a_reason(live, message):
    with connect(f"{live.ws}/v1/live") as socket:
        socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == 1007
    assert closed.value.rcvd.reason


def test_stopping_closes_the_sockets(tmp_path):
    with running(tmp_path) as live, connect(f"{live.ws}/v1/live") as socket:
        ask(socket)
        receive(socket)
        live.service.stop()
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=PATIENCE_S)
