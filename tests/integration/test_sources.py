"""Adapters of microscope software: the vendor's call is stood in for, all behind it is real, the socket too.

Most of them do not run outside their vendor's software, so the objects here have the calls that are used, and no more.
Nion Swift's simulator is used, too, in an environment of its own, where ``LATTICEWATCH_NION_PYTHON`` names its python.
"""

from __future__ import annotations

import functools
import os
import re
import runpy
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from latticewatch.config import IngestSettings
from latticewatch.ingest import Frame, Receiver, SeriesEnded
from latticewatch_client import Publisher, PublisherError
from latticewatch_client.sources import (
    AutoScript,
    DigitalMicrograph,
    Grabbed,
    NionSwift,
    PyJEM,
    gms_plugin,
    relay,
)

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


def test_the_plugin_publishes_from_inside_digital_micrograph() -> None:
    image, said = DmImage(), []
    image.scan(5)
    module = dm(image)
    module.Result, module.OkDialog = said.append, said.append
    settings = IngestSettings(sources=("tcp://127.0.0.1:0",), socket="pull", bind=True, mode="lossless")
    with Receiver(settings) as source, pytest.MonkeyPatch.context() as patch:
        connected = functools.partial(Publisher, connect=True)
        patch.setattr(gms_plugin, "Publisher", connected)
        patch.setattr(gms_plugin, "PUSH", True)
        assert gms_plugin.run(module, source.endpoints[0], frames=1) == 1
        while not isinstance(item := source.get(TIMEOUT), Frame):
            assert item is not None
        source.done(item)
    assert (item.image == 5).all()
    assert source.endpoints[0] in said[0]


def test_the_plugin_is_run_as_a_file(monkeypatch) -> None:
    said: list[str] = []
    module = dm(None)
    module.OkDialog = said.append
    monkeypatch.setitem(sys.modules, "DigitalMicrograph", module)
    runpy.run_path(gms_plugin.__file__, run_name="__main__")
    assert "start the scan first" in said[0]
    monkeypatch.delitem(sys.modules, "DigitalMicrograph")
    with pytest.raises(SystemExit, match="inside DigitalMicrograph"):
        runpy.run_path(gms_plugin.__file__, run_name="__main__")


def test_what_is_wrong_in_digital_micrograph_is_said_in_a_dialog() -> None:
    said: list[str] = []
    module = dm(None)
    module.OkDialog = said.append
    assert gms_plugin.run(module) == 0
    assert "start the scan first" in said[0]


def test_the_plugin_does_not_hold_up_the_windows_of_digital_micrograph() -> None:
    said: list[str] = []
    module = dm(DmImage())
    module.OkDialog = said.append
    module.IsScriptOnMainThread = lambda: True
    assert gms_plugin.run(module, "tcp://127.0.0.1:0", frames=1) == 0
    assert "background thread" in said[0]


def nion(images: list, units="nm", scale=0.02, **source) -> SimpleNamespace:
    calibration = SimpleNamespace(units=units, scale=scale)
    frames = iter(
        [
            SimpleNamespace(
                data=image, dimensional_calibrations=[calibration] * 2, metadata={"hardware_source": source}
            )
            for image in images
        ]
    )
    return SimpleNamespace(get_next_xdatas_to_finish=lambda timeout: [next(frames)])


def test_a_scan_of_nion_swift_comes_with_its_size_channel_and_dwell() -> None:
    images = [np.full((6, 8), n, np.float32) for n in range(3)]
    scan = nion(images, channel_name="HAADF", pixel_time_us=2)
    frames = frames_through_a_socket(NionSwift(scan), 3)
    assert [float(frame.image[0, 0]) for frame in frames] == [0, 1, 2]
    assert {(f.pixel_size_nm, f.detector, f.dwell_us) for f in frames} == {(0.02, "HAADF", 2.0)}
    assert NionSwift(nion([images[0]], units=""))().fields == {"pixel_size_nm": None}


NION_SCAN = """
import os, sys
from nion.swift import Application
from nion.ui import TestUI
app = Application.Application(TestUI.UserInterface(), set_global=False)
from nion.instrumentation.test import AcquisitionTestContext
from nion.usim_device import DeviceConfiguration
from latticewatch_client import Publisher
from latticewatch_client.sources import NionSwift, relay

configuration = DeviceConfiguration.AcquisitionContextConfiguration(set_configuration_location=True)
context = AcquisitionTestContext.test_context(configuration)
scan = context.scan_hardware_source
scan.start_playing()
with Publisher(sys.argv[1], push=True, connect=True) as publisher:
    relay(NionSwift(scan), publisher, frames=3)
scan.stop_playing()
# its threads end with its application, which there is none of
os._exit(0)
"""


def test_the_simulator_of_nion_swift_is_read_from_its_own_environment(tmp_path) -> None:
    python = os.environ.get("LATTICEWATCH_NION_PYTHON")
    if not python:
        pytest.skip(
            "LATTICEWATCH_NION_PYTHON names no python with nionswift, nionswift-usim, latticewatch and pyzmq"
        )
    settings = IngestSettings(sources=("tcp://127.0.0.1:0",), socket="pull", bind=True, mode="lossless")
    with Receiver(settings) as source:
        command = [python, "-c", NION_SCAN, source.endpoints[0]]
        bridge = subprocess.Popen(command, cwd=tmp_path)
        frames: list[Frame] = []
        try:
            while len(frames) < 3:
                item = source.get(3 * TIMEOUT)
                assert item is not None
                if isinstance(item, Frame):
                    source.done(item)
                    frames.append(item)
            assert bridge.wait(TIMEOUT) == 0
        finally:
            bridge.kill()
        assert source.counts().rejected == source.counts().ignored == {}
    assert [frame.number for frame in frames] == [0, 1, 2]
    for frame in frames:
        assert (frame.image.shape, frame.image.dtype, frame.detector) == ((256, 256), np.float32, "HAADF")
        assert frame.pixel_size_nm == pytest.approx(100 / 256)
        assert frame.dwell_us == 1.0
        assert np.ptp(frame.image) > 0


def test_nothing_of_ours_imports_what_is_under_the_gpl(project) -> None:
    files = [
        *project.glob("service/**/*.py"),
        *project.glob("clients/**/*.py"),
        *project.glob("simulator/**/*.py"),
    ]
    assert len(files) > 100
    for file in files:
        assert not re.search(r"^\s*(from|import) nion", file.read_text(encoding="utf-8"), re.MULTILINE), file


def test_what_is_no_image_of_nion_swift_is_refused() -> None:
    with pytest.raises(PublisherError, match="channel 1 of 1"):
        NionSwift(nion([np.zeros((4, 4))]), channel=1)()
    with pytest.raises(PublisherError, match="1 axes"):
        NionSwift(nion([np.zeros(4)]))()
    with pytest.raises(PublisherError, match="'eV'"):
        NionSwift(nion([np.zeros((4, 4))], units="eV"))()


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


class EnoughError(Exception):
    """The microscope has shown what it had."""


def program(project, containing: str, endpoint: str) -> str:
    """An example of the guide, sending to this address instead of listening at its own."""
    guide = (project / "docs/how-to/attach-a-microscope.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if containing in block)
    code, n = re.subn(r'Publisher\("[^"]+"[^)]*\)', f'Publisher("{endpoint}", push=True, connect=True)', code)
    assert n == 1
    return code


def vendors(monkeypatch) -> dict[str, object]:
    """Modules and names of each vendor's Python, which show two images each."""
    images = [np.full((1024, 1024), n, np.uint16) for n in (1, 2)]

    def shown(turn):
        if not turn:
            raise EnoughError
        return turn.pop(0)

    def module(name: str, **names) -> None:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**names))

    class Live(DmImage):
        scans = [5, 6]  # noqa: RUF012

        def GetNumArray(self):  # noqa: N802
            self.scan(shown(self.scans))
            return self.memory

    module("DigitalMicrograph", GetFrontImage=Live)
    pixel = SimpleNamespace(binary_result=SimpleNamespace(pixel_size=SimpleNamespace(x=2e-11, y=2e-11)))
    autoscript = list(images)
    client = SimpleNamespace(
        connect=lambda host: None,
        acquisition=SimpleNamespace(
            acquire_stem_image=lambda *_: SimpleNamespace(data=shown(autoscript), metadata=pixel)
        ),
        specimen=SimpleNamespace(stage=SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0))),
    )
    module("autoscript_tem_microscope_client", TemMicroscopeClient=lambda: client)
    module("autoscript_tem_microscope_client.enumerations", DetectorType=SimpleNamespace(HAADF="HAADF"))
    pyjem = list(images)
    stage = SimpleNamespace(GetPos=lambda: [0.0] * 5)
    module(
        "PyJEM",
        TEM3=SimpleNamespace(Stage3=lambda: stage),
        detector=SimpleNamespace(
            Detector=lambda name: SimpleNamespace(snapshot_rawdata=lambda: shown(pyjem).tobytes())
        ),
    )
    swift = nion(images)
    once = swift.get_next_xdatas_to_finish

    def next_or_enough(timeout):
        try:
            return once(timeout)
        except StopIteration:
            raise EnoughError from None

    swift.get_next_xdatas_to_finish = next_or_enough
    return {"api": SimpleNamespace(get_hardware_source_by_id=lambda *_: swift)}


@pytest.mark.parametrize(
    "containing",
    ["DigitalMicrograph(DM)", "NionSwift(scan)", "AutoScript(", "PyJEM("],
)
def test_the_program_that_the_guide_shows_for_each_vendor_sends_frames(project, monkeypatch, containing):
    settings = IngestSettings(sources=("tcp://127.0.0.1:0",), socket="pull", bind=True, mode="lossless")
    with Receiver(settings) as source:
        code = program(project, containing, source.endpoints[0])
        with pytest.raises(EnoughError):
            exec(code, vendors(monkeypatch))
        frames = []
        while not isinstance(item := source.get(TIMEOUT), SeriesEnded):
            assert item is not None
            frames += [item] if isinstance(item, Frame) else []
    assert len(frames) == 2
    assert frames[0].pixel_size_nm == pytest.approx(0.0106 if containing == "PyJEM(" else 0.02)
