"""The publisher for the acquisition computer, and a service's receiver at the other end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.config import IngestSettings
from latticewatch.ingest import Frame, Receiver, SeriesEnded, SeriesStarted
from latticewatch_client import Publisher, PublisherError
from latticewatch_client import publisher as module

TIMEOUT = 20
ALONE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"latticewatch", "pydantic", "httpx", "websockets", "rich", "typer"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
sys.path.insert(0, sys.argv[1])
import numpy as np
from publisher import Publisher
with Publisher(sys.argv[2], push=True, connect=True, detector="HAADF", series_id="alone") as publisher:
    for n in range(3):
        publisher.publish(np.full((4, 5), n, ">u2"), pixel_size_nm=np.float32(0.5), stage_nm=np.array([1.0, 2.0]))
"""


def receiver(**settings) -> Receiver:
    options = {
        "sources": ("tcp://127.0.0.1:0",),
        "socket": "pull",
        "bind": True,
        "mode": "lossless",
    } | settings
    return Receiver(IngestSettings(**options))


def items_until_end(source: Receiver) -> list:
    items: list = []
    while not items or not isinstance(items[-1], SeriesEnded):
        item = source.get(TIMEOUT)
        assert item is not None, f"nothing more after {items}"
        items.append(item)
    return items


def test_the_file_alone_with_numpy_and_pyzmq_sends_frames(tmp_path: Path) -> None:
    (tmp_path / "publisher.py").write_bytes(Path(str(module.__file__)).read_bytes())
    with receiver() as source:
        command = [sys.executable, "-c", ALONE, str(tmp_path), source.endpoints[0]]
        subprocess.run(command, check=True, timeout=60)
        start, *frames, end = items_until_end(source)
    assert (start, end) == (SeriesStarted("alone", "announced"), SeriesEnded("alone", 3, "ended"))
    for n, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert np.array_equal(frame.image, np.full((4, 5), n))
        assert (frame.number, frame.pixel_size_nm, frame.stage_nm) == (n, 0.5, (1.0, 2.0))
        assert frame.detector == "HAADF"
        assert frame.t_acquired is not None


@pytest.mark.parametrize("compress", [False, True])
def test_a_subscriber_gets_every_frame_sent_after_it_listens(rng, compress: bool) -> None:
    image = rng.poisson(9, (20, 30)).astype("u2")
    with Publisher("tcp://127.0.0.1:0", compress=compress) as publisher:
        settings = IngestSettings(sources=(publisher.address,), mode="lossless")
        with Receiver(settings) as source:
            assert publisher.wait_for_subscriber(TIMEOUT)
            publisher.publish(image, scalars={"temperature_K": 573.5, "gas": "O2"}, rotation_deg=90)
            publisher.publish(image, partial=True)
            publisher.publish(image.astype(float), rotation_deg=90)
            publisher.end()
            _, first, partial, second, end = items_until_end(source)
            assert (first.scalars, second.rotation_deg) == ({"temperature_K": 573.5, "gas": "O2"}, 90.0)
            assert np.array_equal(partial.image, image)
            assert end.reason == "ended"
            assert source.counts().lost_upstream == 0


def test_a_new_series_begins_where_it_is_said_or_after_an_end() -> None:
    image = np.zeros((4, 4), "u1")
    with receiver() as source:
        with Publisher(source.endpoints[0], push=True, connect=True, series_id="one") as publisher:
            publisher.publish(image)
            publisher.start("two", frames=1)
            publisher.publish(image)
        assert [item.series_id for item in items_until_end(source)] == ["one"] * 3
        assert [item.series_id for item in items_until_end(source)] == ["two"] * 3


@pytest.mark.parametrize(
    "image",
    [np.zeros(4), np.zeros((2, 2, 2)), np.zeros((0, 4)), np.zeros((2, 2), complex), [["a"]], np.eye(2) > 0],
)
def test_what_is_no_image_is_refused_at_once(image) -> None:
    with (
        Publisher("tcp://127.0.0.1:0") as publisher,
        pytest.raises(PublisherError, match="expected two axes"),
    ):
        publisher.publish(image)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: 2}, 1j])
def test_a_field_that_cannot_be_sent_is_named(value) -> None:
    with Publisher("tcp://127.0.0.1:0") as publisher, pytest.raises(PublisherError, match="dwell_us"):
        publisher.publish(np.zeros((2, 2)), dwell_us=value)


def test_an_address_in_use_and_a_service_that_is_not_there_are_said() -> None:
    with Publisher("tcp://127.0.0.1:0") as one, pytest.raises(PublisherError, match="port that is free"):
        Publisher(one.address)
    with (
        Publisher("tcp://127.0.0.1:0", push=True, timeout_s=0.05) as alone,
        pytest.raises(PublisherError, match="nobody has taken"),
    ):
        alone.publish(np.zeros((2, 2)))
