"""Frames over real sockets: every one of them accounted for, whatever peers do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq

from latticewatch.config import IngestSettings
from latticewatch.errors import ConfigurationError
from latticewatch.ingest import Frame, Gap, Item, Receiver, SeriesEnded, SeriesStarted, _formats, _receiver
from latticewatch.messages import SeriesEnd, SeriesStart, encode_frame, encode_json

TIMEOUT = 20
IMAGE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as context:
        yield context
        context.destroy(linger=0)


def receiver(source: str = "tcp://127.0.0.1:0", **settings) -> Receiver:
    options = {"sources": (source,), "socket": "pull", "bind": True, "mode": "lossless"} | settings
    return Receiver(IngestSettings(**options))


def push(context: zmq.Context, endpoint: str, hwm: int = 1000) -> zmq.Socket:
    socket = context.socket(zmq.PUSH)
    socket.sndhwm = hwm
    socket.sndtimeo = TIMEOUT * 1000
    socket.connect(endpoint)
    return socket


def parts(number: int, series: str = "a", **fields) -> list:
    fields = {"msg_number": number + 1} | fields
    return encode_frame(fields.pop("image", IMAGE), frame=number, series_id=series, **fields)


def take(source: Receiver) -> Item:
    item = source.get(TIMEOUT)
    assert item is not None, "nothing arrived in time"
    return item


def take_until(source: Receiver, wanted: Callable[[Item], bool]) -> list[Item]:
    items = [take(source)]
    while not wanted(items[-1]):
        items.append(take(source))
    return items


def take_series(source: Receiver) -> list[Item]:
    return take_until(source, lambda item: isinstance(item, SeriesEnded))


def assert_adds_up(source: Receiver) -> None:
    counts = source.counts()
    assert counts.received == counts.analysed + sum(counts.dropped.values()) + counts.in_flight


def wait_for(source: Receiver, condition: Callable[[], bool]) -> None:
    """Wait on the receiver's own condition, which it notifies with every item."""
    with source._changed:
        assert source._changed.wait_for(condition, TIMEOUT)


def test_a_series_arrives_with_its_start_its_frames_and_its_end(context: zmq.Context) -> None:
    with receiver() as source:
        socket = push(context, source.endpoints[0])
        socket.send(encode_json(SeriesStart(series_id="a", msg_number=0)))
        for n in range(3):
            fields = {"stage_nm": [n, 2.5], "fov_nm": 6.4, "timeStamp": 10.0 + n, "detector": "HAADF"}
            socket.send_multipart(parts(n, **fields))
        socket.send(encode_json(SeriesEnd(series_id="a", msg_number=4, frames=3)))
        start, *frames, end = take_series(source)
        assert (start, end) == (SeriesStarted("a", "announced"), SeriesEnded("a", 3, "ended"))
        for n, frame in enumerate(frames):
            assert isinstance(frame, Frame)
            assert np.array_equal(frame.image, IMAGE)
            assert (frame.number, frame.ordinal, frame.t_acquired, frame.detector) == (
                n,
                n,
                10.0 + n,
                "HAADF",
            )
            assert frame.stage_nm == (n, 2.5)
            assert frame.pixel_size_nm == pytest.approx(0.1)
            assert abs(frame.t_received - time.time()) < 60
            source.done(frame)
        assert source.counts().analysed == source.counts().received == 3
        assert source.last_frame_age_s is not None
        assert 0 <= source.last_frame_age_s < 60


def test_a_slow_reader_loses_nothing_when_lossless(context: zmq.Context) -> None:
    with receiver(queue_frames=2) as source:
        socket = push(context, source.endpoints[0], hwm=2)

        def send() -> None:
            for n in range(200):
                socket.send_multipart(parts(n), copy=False)
            socket.send(encode_json(SeriesEnd(series_id="a", frames=200)))

        sender = threading.Thread(target=send)
        sender.start()
        # Full: two wait in the queue, and reception has stopped.
        wait_for(source, lambda: source._frames_waiting == 2)
        frames = []
        for item in take_series(source):
            assert source._frames_waiting <= 2
            if isinstance(item, Frame):
                frames.append(item)
                source.done(item)
            assert_adds_up(source)
        sender.join(TIMEOUT)
        assert [frame.number for frame in frames] == list(range(200))
        assert [frame.ordinal for frame in frames] == list(range(200))
        counts = source.counts()
        assert (counts.analysed, counts.dropped, counts.lost_upstream) == (200, {}, 0)


def test_latest_keeps_the_newest_frames_and_counts_what_it_drops(context: zmq.Context) -> None:
    with receiver(mode="latest", queue_frames=3) as source:
        socket = push(context, source.endpoints[0])
        for n in range(50):
            socket.send_multipart(parts(n))
        socket.send(encode_json(SeriesEnd(series_id="a")))
        wait_for(source, lambda: any(isinstance(item, SeriesEnded) for item in source._queue))
        frames = [item for item in take_series(source) if isinstance(item, Frame)]
        assert [frame.number for frame in frames] == [47, 48, 49]
        assert [frame.ordinal for frame in frames] == [0, 1, 2]
        source.done(frames[0])
        source.dropped(frames[1], "too small")
        counts = source.counts()
        assert (counts.received, counts.analysed, counts.in_flight) == (50, 1, 1)
        assert counts.dropped == {"queue full": 47, "too small": 1}


def test_frames_wait_while_none_can_be_taken_and_are_worked_off_afterwards(context: zmq.Context) -> None:
    with receiver(mode="latest", queue_frames=3) as source:
        source.hold(True)
        socket = push(context, source.endpoints[0])
        for n in range(50):
            socket.send_multipart(parts(n))
        wait_for(source, lambda: source._frames_waiting == 50)
        source.hold(False)
        # those that come before the first is taken find room as well
        for n in range(50, 53):
            socket.send_multipart(parts(n))
        wait_for(source, lambda: source._frames_waiting == 53)
        # a third as many come as are taken
        numbers = []
        for n in range(53, 77):
            for _ in range(3):
                item = take(source)
                if isinstance(item, Frame):
                    numbers.append(item.number)
                    source.done(item)
            waiting = source._frames_waiting
            socket.send_multipart(parts(n))
            wait_for(source, lambda waiting=waiting: source._frames_waiting == waiting + 1)
            assert_adds_up(source)
        assert numbers == list(range(len(numbers)))
        assert source.counts().dropped == {}
        assert source._room < 10


def test_a_backlog_that_cannot_be_worked_off_gives_way(context: zmq.Context) -> None:
    with receiver(mode="latest", queue_frames=3) as source:
        source.hold(True)
        socket = push(context, source.endpoints[0])
        for n in range(20):
            socket.send_multipart(parts(n))
        wait_for(source, lambda: source._frames_waiting == 20)
        source.hold(False)
        for n in range(20, 80):
            received = source.counts().received
            while not isinstance(item := take(source), Frame):
                pass
            source.done(item)
            socket.send_multipart(parts(n))
            wait_for(source, lambda received=received: source.counts().received > received)
        assert (source._room, source._frames_waiting) == (3, 3)
        assert_adds_up(source)


def test_the_backlog_is_bounded_in_memory(context: zmq.Context) -> None:
    image = np.zeros((512, 512), np.uint16)  # half a MiB
    with receiver(mode="latest", queue_frames=3, backlog_mib=4) as source:
        source.hold(True)
        socket = push(context, source.endpoints[0])
        for n in range(30):
            socket.send_multipart(parts(n, image=image))
        socket.send(encode_json(SeriesEnd(series_id="a")))
        wait_for(source, lambda: any(isinstance(item, SeriesEnded) for item in source._queue))
        frames = [item for item in take_series(source) if isinstance(item, Frame)]
        assert [frame.number for frame in frames] == list(range(22, 30))


def test_what_a_publisher_drops_is_counted_as_lost_upstream(context: zmq.Context) -> None:
    socket = context.socket(zmq.XPUB)
    socket.sndhwm = 4
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    with receiver(
        f"tcp://127.0.0.1:{port}", socket="sub", bind=False, mode="latest", queue_frames=4
    ) as source:
        assert socket.poll(TIMEOUT * 1000), "no subscription arrived"
        socket.recv()
        image = np.zeros((512, 512), np.uint16)
        for n in range(200):
            socket.send_multipart(parts(n, image=image), copy=False)
        seen = []
        deadline = time.monotonic() + TIMEOUT
        # The end may be dropped as well: it is sent again until it arrives.
        while not seen or not isinstance(seen[-1], SeriesEnded):
            assert time.monotonic() < deadline
            socket.send(encode_json(SeriesEnd(series_id="a", msg_number=201, frames=200)))
            while (item := source.get(0.05)) is not None:
                seen.append(item)
                if isinstance(item, Frame):
                    source.done(item)
                assert_adds_up(source)
        counts = source.counts()
        first = next(item.number for item in seen if isinstance(item, Frame))
        assert counts.received + counts.lost_upstream <= 200
        assert counts.received + counts.lost_upstream >= 200 - first
        assert counts.lost_upstream == sum(item.n for item in seen if isinstance(item, Gap))
        assert counts.analysed == sum(isinstance(item, Frame) for item in seen)


def test_a_bad_message_is_counted_and_the_next_one_is_read(context: zmq.Context) -> None:
    with receiver(max_frame_mib=1) as source:
        socket = push(context, source.endpoints[0])
        header = {"htype": "array-1.0", "type": "uint16", "shape": [64, 64], "frame": 0}
        for wrong in (
            [b"not json", b""],
            [b"a", b"b", b"c"],
            [json.dumps(header | {"type": "object"}).encode(), IMAGE.tobytes()],
            [json.dumps(header).encode(), b"short"],
            [json.dumps(header | {"encoding": "bslz4"}).encode(), b"\xff" * 100],
            parts(0, image=np.zeros((1024, 600), np.uint16)),
        ):
            socket.send_multipart(wrong)
        socket.send_multipart(parts(0))
        take_until(source, lambda item: isinstance(item, Frame))
        counts = source.counts()
        assert counts.rejected == {"header": 1, "parts": 1, "dtype": 1, "size": 2, "compressed": 1}
        assert counts.received == 1


def test_a_fault_of_our_own_is_counted_and_the_next_message_is_read(context, monkeypatch) -> None:
    real = _formats.decode

    def faulty(message, **limits):
        if b"poison" in bytes(message[0]):
            raise ZeroDivisionError
        return real(message, **limits)

    monkeypatch.setattr(_formats, "decode", faulty)
    with receiver() as source:
        socket = push(context, source.endpoints[0])
        socket.send_multipart(parts(0, "poison"))
        socket.send_multipart(parts(0))
        take_until(source, lambda item: isinstance(item, Frame))
        assert source.counts().rejected == {"internal": 1}


def test_each_source_has_an_account_of_its_own(context: zmq.Context) -> None:
    with receiver(sources=("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"), queue_frames=64) as source:
        for endpoint in source.endpoints:
            socket = push(context, endpoint)
            for n in (0, 1, 2, 7):
                socket.send_multipart(parts(n))
            socket.send_multipart([b"{}", b"", b""])
            socket.send_multipart(parts(0, series="another"))
        while source.counts().received < 10 or source.counts().in_flight:
            if isinstance(item := source.get(0.05), Frame):
                source.done(item)
        counts = source.counts()
        assert counts.received == counts.analysed + sum(counts.dropped.values())
        # together they are the whole
        alike = {
            "received": 5,
            "in_flight": 0,
            "lost_upstream": 4,
            "rejected": {"parts": 1},
            "analysed": 5,
            "dropped": {},
        }
        assert {source: one.model_dump() for source, one in counts.by_source.items()} == dict.fromkeys(
            source.endpoints, alike
        )
        assert (counts.lost_upstream, counts.rejected) == (8, {"parts": 2})


def test_frames_of_several_sources_of_one_microscope_come_through_one_queue(context: zmq.Context) -> None:
    sources = ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    with receiver(sources=sources, queue_frames=64) as source:
        assert len(set(source.endpoints)) == 2
        for endpoint in source.endpoints:
            socket = push(context, endpoint)
            for n in range(5):
                socket.send_multipart(parts(n))
        items: list[Item] = []
        while sum(isinstance(item, Frame) for item in items) < 10:
            items.append(take(source))
        frames = [item for item in items if isinstance(item, Frame)]
        assert [frame.ordinal for frame in frames] == list(range(10))
        for name in ("a", "a~2"):
            assert [frame.number for frame in frames if frame.series_id == name] == [0, 1, 2, 3, 4]
        # which one it came from is told with each
        assert {frame.address for frame in frames} == set(source.endpoints)
        assert {item.address for item in items if isinstance(item, SeriesStarted)} == set(source.endpoints)
        assert source.notes() == ()
        assert source.counts().lost_upstream == 0


def test_a_flood_of_announcements_fills_no_memory(context: zmq.Context) -> None:
    with receiver(mode="latest", queue_frames=1) as source:
        socket = push(context, source.endpoints[0], hwm=10_000)
        for n in range(2000):
            socket.send(encode_json(SeriesStart(series_id=f"s{n}")))
        socket.send_multipart(parts(0, "last"))
        wait_for(source, lambda: len(source._queue) >= _receiver.MAX_MARKERS)
        longest = 0
        while not isinstance(take(source), Frame):
            longest = max(longest, len(source._queue))
        assert longest <= _receiver.MAX_MARKERS + 4


def test_an_endpoint_in_use_stops_the_start_and_leaves_nothing_open(context: zmq.Context) -> None:
    taken = context.socket(zmq.PULL)
    port = taken.bind_to_random_port("tcp://127.0.0.1")
    source = receiver(f"tcp://127.0.0.1:{port}")
    with pytest.raises(ConfigurationError, match="cannot bind"):
        source.start()
    assert all(socket.closed for socket in source._sockets)
    with pytest.raises(ConfigurationError, match="cannot connect"):
        receiver("nonsense", bind=False).start()


def test_closing_wakes_the_reader_and_accounts_for_what_waits(context: zmq.Context) -> None:
    source = receiver().start()
    socket = push(context, source.endpoints[0])
    socket.send_multipart(parts(0))
    socket.send_multipart(parts(1))
    wait_for(source, lambda: source._frames_waiting == 2)
    source.close()
    source.close()
    assert source.get(TIMEOUT) is None
    assert source.counts().dropped == {"shutdown": 2}
    assert_adds_up(source)
    assert all(socket.closed for socket in source._sockets)

    idle = receiver().start()
    woken: list[Item | None] = []
    reader = threading.Thread(target=lambda: woken.append(idle.get()))
    reader.start()
    idle.close()
    reader.join(TIMEOUT)
    assert woken == [None]


def test_a_lossless_receiver_that_is_full_can_be_closed(context: zmq.Context) -> None:
    source = receiver(queue_frames=1).start()
    socket = push(context, source.endpoints[0])
    for n in range(5):
        socket.send_multipart(parts(n))
    wait_for(source, lambda: source._frames_waiting == 1)
    source.close()
    assert_adds_up(source)


def test_a_context_of_the_caller_stays_open_and_its_end_ends_the_receiver() -> None:
    settings = IngestSettings(sources=("tcp://127.0.0.1:0",), socket="pull", bind=True)
    context = zmq.Context()
    with Receiver(settings, context):
        pass
    assert not context.closed
    source = Receiver(settings, context).start()
    context.term()
    assert source.get(TIMEOUT) is None
    source.close()


@pytest.mark.parametrize("sends", [zmq.PUSH, zmq.XPUB])
def test_either_side_may_come_first_and_either_may_be_restarted(context: zmq.Context, sends: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    kind = "pull" if sends == zmq.PUSH else "sub"

    def sender() -> zmq.Socket:
        one = context.socket(sends)
        one.sndtimeo = TIMEOUT * 1000
        if sends == zmq.XPUB:
            one.xpub_verbose = True  # tells of each subscriber, also where the one before has not yet left
        for _ in range(100 * TIMEOUT):
            try:
                one.bind(address)
            except zmq.ZMQError:  # ZeroMQ lets go of an address some time after it was closed
                threading.Event().wait(0.01)
            else:
                return one
        raise AssertionError(f"{address} is not given back")

    def send_and_take(one: zmq.Socket, source: Receiver, series: str) -> None:
        if sends == zmq.XPUB:
            subscribed = False
            while not subscribed:
                assert one.poll(TIMEOUT * 1000), "nobody subscribed"
                subscribed = one.recv()[:1] == b"\x01"  # an old one's farewell begins with 0
        for n in range(2):
            one.send_multipart(parts(n, series))
        items = take_until(source, lambda item: isinstance(item, Frame) and item.number == 1)
        assert [item.series_id for item in items if isinstance(item, Frame)] == [series, series]

    settings = {"socket": kind, "bind": False, "sources": (address,)}
    # the receiver first
    with receiver(**settings) as source:
        one = sender()
        send_and_take(one, source, "a")
        # the sender is restarted, as after a power cut
        one.close(linger=0)
        one = sender()
        send_and_take(one, source, "b")
    # the receiver is restarted, and now comes second
    if sends == zmq.PUSH:  # what is sent before ZeroMQ sees that the old one has gone goes with it
        gone_by = time.monotonic() + TIMEOUT
        while one.poll(0, zmq.POLLOUT):
            assert time.monotonic() < gone_by, "the old receiver is still there"
            threading.Event().wait(0.01)
    with receiver(**settings) as source:
        send_and_take(one, source, "c")
        assert_adds_up(source)
        assert source.counts().lost_upstream == 0
    one.close(linger=0)


def test_what_ends_the_receiving_thread_is_raised_to_the_reader(monkeypatch) -> None:
    def fail(_: Receiver) -> None:
        raise OSError("the network card is gone")

    monkeypatch.setattr(Receiver, "_receive", fail)
    with receiver() as source, pytest.raises(OSError, match="network card"):
        source.get(TIMEOUT)
