"""Adapters of microscope software: the vendor's call is stood in for, all behind it is real, the socket too.

None of the three runs outside its vendor's software, so the objects here have the calls that are used, and no more.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from latticewatch.config import IngestSettings
from latticewatch.ingest import Frame, Receiver, SeriesEnded
from latticewatch_client import Publisher, PublisherError
from latticewatch_client.sources import AutoScript, DigitalMicrograph, Grabbed, PyJEM, relay

TIMEOUT = 20


class DmImage:
    """An image that is scanned row after row in the same memory."""

    def __init__(self, unit="nm", scale=0.02) -> None:
        self.memory = np.zeros((6, 8), np.int32)
        self.calibration = (0.0, scale, unit)

    def GetNumArray(self):  # noqa: N802 - as DigitalMicrograph calls it
        return self.memory

    def GetDimensionCalibration(self, axis, _format):  # noqa: N802
        return self.calibration

    def scan(self, value: int, rows: int = 6) -> None:
        self.memory[:rows] = value


def dm(image) -> SimpleNamespace:
    return SimpleNamespace(GetFrontImage=lambda: image)


def frames_through_a_socket(grab, n: int) -> list[Frame]:
    settings = IngestSettings(sources=("tcp://127.0.0.1:0",), socket="pull", bind=True, mode="lossless")
    with Receiver(settings) as source:
        with Publisher(source.endpoints[0], push=True, connect=True) as publisher:
            assert relay(grab, publisher, frames=n) == n
        frames: list[Frame] = []
        ended = 0
        while not ended or len(frames) < n:
            item = source.get(TIMEOUT)
            assert item is not None
            ended += isinstance(item, SeriesEnded)
            if isinstance(item, Frame):
                frames.append(item)
    return frames


def test_a_scan_in_digital_micrograph_is_sent_when_its_last_row_has_come() -> None:
    image = DmImage()
    image.scan(5)
    source = DigitalMicrograph(dm(image), stage_nm=lambda: (10.0, 20.0))
    first = source()
    assert first is not None
    assert source() is None
    image.scan(7, rows=4)
    assert source() is None
    assert (first.image == 5).all(), "what was sent changes with the scan"
    image.scan(7)
    second = source()
    assert second is not None
    image.scan(9)
    (frame,) = frames_through_a_socket(source, 1)
    assert (frame.image == 9).all()
    assert (frame.pixel_size_nm, frame.stage_nm) == (pytest.approx(0.02), (10.0, 20.0))


@pytest.mark.parametrize(
    ("unit", "scale", "pixel_size_nm"),
    [
        ("nm", 0.02, 0.02),
        (b"\xb5m", 2e-5, 0.02),
        ("µm", -2e-5, 0.02),
        ("pm", 20, 0.02),
        ("Å", 0.2, 0.02),
        ("", 1, None),
    ],
)
def test_the_units_of_digital_micrograph_become_nanometres(unit, scale, pixel_size_nm) -> None:
    grabbed = DigitalMicrograph(dm(DmImage(unit, scale)))()
    assert grabbed is not None
    size = grabbed.fields["pixel_size_nm"]
    assert size is None if pixel_size_nm is None else size == pytest.approx(pixel_size_nm)


def test_a_diffraction_pattern_and_no_image_at_all_are_refused() -> None:
    with pytest.raises(PublisherError, match="1/nm"):
        DigitalMicrograph(dm(DmImage("1/nm", 0.1)))()
    with pytest.raises(PublisherError, match="start the scan"):
        DigitalMicrograph(dm(None))


def test_an_image_of_autoscript_comes_with_its_size_and_place() -> None:
    asked = []

    def acquire(detector, size, dwell_s):
        asked.append((detector, size, dwell_s))
        pixel = SimpleNamespace(pixel_size=SimpleNamespace(x=2e-11, y=2e-11))
        return SimpleNamespace(
            data=np.full((size, size), 3, "u2"), metadata=SimpleNamespace(binary_result=pixel)
        )

    microscope = SimpleNamespace(
        acquisition=SimpleNamespace(acquire_stem_image=acquire),
        specimen=SimpleNamespace(stage=SimpleNamespace(position=SimpleNamespace(x=1e-6, y=-2e-6))),
    )
    frames = frames_through_a_socket(AutoScript(microscope, "HAADF", 8, 2.0), 2)
    assert asked[0] == ("HAADF", 8, pytest.approx(2e-6))
    assert [frame.number for frame in frames] == [0, 1]
    assert (frames[0].pixel_size_nm, frames[0].detector) == (pytest.approx(0.02), "HAADF")
    assert frames[0].stage_nm == (pytest.approx(1000.0), pytest.approx(-2000.0))


def test_a_snapshot_of_pyjem_has_the_size_that_was_set() -> None:
    detector = SimpleNamespace(snapshot_rawdata=lambda: np.arange(64, dtype=np.uint16).tobytes())
    stage = SimpleNamespace(GetPos=lambda: [100.0, 200.0, 0.0, 0.0, 0.0])
    (frame,) = frames_through_a_socket(PyJEM(detector, 8, 0.02, stage, "HAADF"), 1)
    assert np.array_equal(frame.image, np.arange(64).reshape(8, 8))
    assert (frame.stage_nm, frame.pixel_size_nm, frame.detector) == ((100.0, 200.0), 0.02, "HAADF")
    with pytest.raises(PublisherError, match="64 pixels, expected 9 × 9"):
        PyJEM(detector, 9)()


def test_another_field_of_view_begins_another_series_and_a_stop_ends_it() -> None:
    stop = threading.Event()
    sizes = iter([0.1, 0.1, 0.2])

    def grab():
        size = next(sizes, None)
        if size is None:
            stop.set()
            return None
        return Grabbed(np.zeros((4, 4), "u1"), {"pixel_size_nm": size})

    started: list[int] = []
    with Publisher("tcp://127.0.0.1:0") as publisher:
        publisher.start = lambda *a, begin=publisher.start: (started.append(1), begin(*a))[0]  # type: ignore[method-assign]
        assert relay(grab, publisher, stop=stop) == 3
    assert len(started) == 2
