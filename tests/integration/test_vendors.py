"""Detectors and control systems as they are: their own encoders where there are some, over real sockets."""

from __future__ import annotations

import contextlib
import queue
import socket as net
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import zmq
from dectris.compression import decompress
from karabo_bridge.server import ServerInThread

import _vendors as vendors
from latticewatch.config import IngestSettings, VirtualDetector
from latticewatch.ingest import Frame, Item, Receiver, SeriesEnded, SeriesStarted

TIMEOUT = 20
ROWS, COLS = 6, 5
SCAN = VirtualDetector(scan=(ROWS, COLS), inner_px=5, outer_px=9)
# A picture whose every pixel is another one.
WANTED = np.arange(1, ROWS * COLS + 1).reshape(ROWS, COLS)


@pytest.fixture
def pushing() -> Iterator[tuple[zmq.Socket, str]]:
    """A detector's PUSH socket."""
    with zmq.Context() as context:
        one = context.socket(zmq.PUSH)
        port = one.bind_to_random_port("tcp://127.0.0.1")
        yield one, f"tcp://127.0.0.1:{port}"
        one.close(linger=0)


def receiver(source: str, **settings) -> Receiver:
    options = {"sources": (source,), "socket": "pull", "mode": "lossless", "queue_frames": 64} | settings
    return Receiver(IngestSettings(**options))


def take(source: Receiver, until) -> list[Item]:
    items: list[Item] = []
    while not items or not until(items):
        item = source.get(TIMEOUT)
        assert item is not None, f"nothing more after {items}; {source.counts()}; {source.notes()}"
        items.append(item)
        if isinstance(item, Frame):
            source.done(item)
    return items


def ended(items: list[Item]) -> bool:
    return isinstance(items[-1], SeriesEnded)


def frames_of(items: list[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


@pytest.mark.parametrize("encoding", ["<", "lz4<", "bs16-lz4<"])
def test_a_scan_of_diffraction_frames_of_dectris_stream_1_becomes_a_picture(pushing, encoding: str) -> None:
    one, endpoint = pushing
    with receiver(endpoint, virtual_detector=SCAN) as source:
        one.send_multipart(vendors.dectris1_start(17, ROWS * COLS))
        for n, value in enumerate(WANTED.ravel()):
            one.send_multipart(vendors.dectris1_image(17, n, vendors.diffraction(value), encoding))
        one.send_multipart(vendors.dectris1_end(17))
        items = take(source, ended)
        assert items[0] == SeriesStarted("17", "announced")
        (frame,) = frames_of(items)
        assert np.array_equal(frame.image, WANTED * vendors.ring_pixels())
        assert (frame.series_id, frame.number, frame.detector) == ("17", 0, "DECTRIS")
        assert items[-1] == SeriesEnded("17", 1, "ended")
        assert source.counts().rejected == {}


@pytest.mark.parametrize("compression", [None, "bslz4", "lz4"])
def test_two_thresholds_of_dectris_stream_2_are_two_detectors(pushing, compression: str | None) -> None:
    one, endpoint = pushing
    with receiver(endpoint, virtual_detector=SCAN) as source:
        one.send_multipart(vendors.stream2_start(3, 2 * ROWS * COLS, ["threshold_1", "threshold_2"]))
        for n in range(2 * ROWS * COLS):
            value = WANTED.ravel()[n % WANTED.size]
            data = {
                "threshold_1": vendors.diffraction(value),
                "threshold_2": vendors.diffraction(2 * value),
            }
            one.send_multipart(vendors.stream2_image(3, n, data, compression))
        one.send_multipart(vendors.stream2_end(3))
        series: list[Item] = []
        items = take(source, lambda items: sum(isinstance(item, SeriesEnded) for item in items) == 2)
        series = [item for item in items if isinstance(item, SeriesStarted)]
        assert [item.series_id for item in series] == ["3", "3:DECTRIS threshold_2"]
        frames = frames_of(items)
        assert [(frame.detector, frame.number) for frame in frames] == [
            ("DECTRIS threshold_1", 0),
            ("DECTRIS threshold_1", 1),
        ]
        for frame in frames:
            assert np.array_equal(frame.image, WANTED * vendors.ring_pixels())
        assert source.counts().dropped == {"other detector": 2}
        assert frames[0].t_acquired == pytest.approx(vendors.DATE.timestamp())


@pytest.mark.parametrize("algorithm", ["bslz4", "lz4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_what_the_tests_send_is_what_dectris_own_library_unpacks(rng, algorithm: str, dtype: str) -> None:
    image = rng.poisson(9, (61, 83)).astype(dtype)
    packed = vendors.hdf5_blocks(image, algorithm)
    size = {"elem_size": image.dtype.itemsize} if algorithm == "bslz4" else {}
    assert decompress(packed, algorithm, **size) == image.tobytes()


def test_an_image_that_is_lost_costs_its_pixel_and_not_the_scan(pushing) -> None:
    one, endpoint = pushing
    with receiver(endpoint, virtual_detector=SCAN) as source:
        one.send_multipart(vendors.stream2_start(3, ROWS * COLS, ["threshold_1"]))
        for n, value in enumerate(WANTED.ravel()):
            if n != 12:
                one.send_multipart(vendors.stream2_image(3, n, {"threshold_1": vendors.diffraction(value)}))
        one.send_multipart(vendors.stream2_end(3))
        (frame,) = frames_of(take(source, ended))
        # the mean of its neighbours is here its own value
        assert np.allclose(frame.image, WANTED * vendors.ring_pixels())
        assert [note.code for note in frame.notes] == ["pixels-lost"]
        assert source.counts().pixels_lost == 1
        assert source.counts().lost_upstream == 0


def test_a_scan_of_which_too_much_is_lost_is_refused_and_the_next_one_is_read(pushing) -> None:
    one, endpoint = pushing
    with receiver(endpoint, virtual_detector=SCAN) as source:
        for series, first in ((3, ROWS * COLS // 2), (4, 0)):
            one.send_multipart(vendors.stream2_start(series, ROWS * COLS, ["threshold_1"]))
            for n in range(first, ROWS * COLS - 1):
                one.send_multipart(vendors.stream2_image(series, n, {"threshold_1": vendors.diffraction(7)}))
            one.send_multipart(vendors.stream2_end(series))
        items = take(source, lambda items: ended(items) and items[-1].series_id == "4")
        assert len(frames_of(items)) == 1
        assert source.counts().rejected == {"scan": 1}


def test_diffraction_frames_are_not_taken_for_frames_of_a_lattice(pushing) -> None:
    one, endpoint = pushing
    with receiver(endpoint) as source:
        one.send_multipart(vendors.stream2_start(3, 2, ["threshold_1"]))
        one.send_multipart(vendors.stream2_image(3, 0, {"threshold_1": vendors.diffraction(7)}))
        one.send_multipart(vendors.stream2_end(3))
        assert frames_of(take(source, ended)) == []
        assert source.counts().rejected == {"diffraction": 1}
        (note,) = source.notes()
        assert "virtual_detector" in note.text + note.remedy


def test_images_that_are_no_diffraction_are_frames_where_that_is_said(pushing) -> None:
    one, endpoint = pushing
    image = vendors.diffraction(7)
    with receiver(endpoint, images_are_frames=True) as source:
        one.send_multipart(vendors.dectris1_start(5, 2, "none"))
        for n in range(2):
            one.send_multipart(vendors.dectris1_image(5, n, image))
        one.send_multipart(vendors.dectris1_end(5))
        frames = frames_of(take(source, ended))
        assert [frame.number for frame in frames] == [0, 1]
        assert np.array_equal(frames[1].image, image)


@pytest.mark.parametrize("kind", ["REP", "PUB", "PUSH"])
def test_a_karabo_bridge_gives_its_trains(rng, kind: str) -> None:
    images = rng.poisson(9, (4, 20, 30)).astype(np.float32)
    with ServerInThread("tcp://127.0.0.1:*", sock=kind) as server:
        options = {"REP": "req", "PUB": "sub", "PUSH": "pull"}
        with receiver(
            server.endpoint, socket=options[kind], karabo_path="STEM/HAADF:output[image]"
        ) as source:
            stop = threading.Event()

            def feed() -> None:
                n = 0
                while not stop.wait(0.001):
                    data = {
                        "STEM/HAADF:output": {"image": images[n % 4], "temperature_K": 300.5, "name": "x"},
                        "MASK": {"image": images[0]},
                    }
                    meta = {"source": "x", "timestamp": 1.8e9 + n, "timestamp.tid": 1000 + n}
                    with contextlib.suppress(queue.Full):
                        server.feed(data, dict.fromkeys(data, meta), block=False)
                        n += 1

            feeding = threading.Thread(target=feed, daemon=True)
            feeding.start()
            try:
                frames = frames_of(take(source, lambda items: len(frames_of(items)) == 3))
            finally:
                stop.set()
                feeding.join()
        for frame in frames:
            assert np.array_equal(frame.image, images[(frame.number - 1000) % 4])
            assert frame.series_id == "STEM/HAADF:output"
            assert frame.scalars == {"temperature_K": 300.5}
            assert frame.t_acquired == 1.8e9 + frame.number - 1000


def test_a_karabo_train_with_two_images_asks_which_one(rng) -> None:
    with ServerInThread("tcp://127.0.0.1:*", sock="PUSH") as server, receiver(server.endpoint) as source:
        image = rng.poisson(9, (20, 30)).astype(np.float32)
        server.feed({"A": {"image": image}, "B": {"image": image}})
        wait_for(source, lambda: source.counts().rejected)
        (note,) = source.notes()
        assert "karabo_path" in note.text
        assert "A[image]" in note.text


def test_a_merlin_is_read_over_tcp_and_found_again_after_a_restart() -> None:
    with net.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with receiver(f"merlin://127.0.0.1:{port}", virtual_detector=SCAN) as source:
            for _ in range(2):
                server.settimeout(TIMEOUT)
                connection, _ = server.accept()
                with connection:
                    data = merlin_scan()
                    # in pieces that respect no boundary
                    for start in range(0, len(data), 1000):
                        connection.sendall(data[start : start + 1000])
                    (frame,) = frames_of(take(source, ended))
                assert np.array_equal(frame.image, WANTED * vendors.ring_pixels())
                assert frame.detector == "Merlin"
            assert source.counts().rejected == {}


def test_what_is_no_merlin_stream_ends_the_connection_and_is_said() -> None:
    with net.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(TIMEOUT)
        with receiver(f"merlin://127.0.0.1:{port}", virtual_detector=SCAN) as source:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                wait_for(source, lambda: source.counts().rejected == {"header": 1})
                connection.settimeout(TIMEOUT)
                assert connection.recv(1) == b""
            connection, _ = server.accept()
            with connection:
                connection.sendall(merlin_scan())
                assert len(frames_of(take(source, ended))) == 1


def merlin_scan() -> bytes:
    images = (vendors.merlin_image(n + 1, vendors.diffraction(v)) for n, v in enumerate(WANTED.ravel()))
    return vendors.merlin_start(ROWS * COLS) + b"".join(images)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([b"\x80\x04\x95pickled"], "pickle"),
        ([b"\x89PNG\r\n\x1a\n"], "PNG"),
        ([b"II*\x00\x08\0\0\0"], "TIFF"),
        ([b"\x89HDF\r\n\x1a\n"], "HDF5"),
        ([b"\x93NUMPY\x01\0"], ".npy"),
    ],
)
def test_what_is_sent_in_another_format_is_named(pushing, parts: list[bytes], said: str) -> None:
    one, endpoint = pushing
    with receiver(endpoint) as source:
        one.send_multipart(parts)
        wait_for(source, lambda: source.counts().rejected == {"format": 1})
        (note,) = source.notes()
        assert said in note.text


def wait_for(source: Receiver, condition) -> None:
    """Wait until something is true of a receiver that gives no item meanwhile."""
    done = threading.Event()
    for _ in range(TIMEOUT * 100):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError(f"{source.counts()}; {source.notes()}")
