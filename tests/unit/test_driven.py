"""A vendor's interface as a microscope: bounded, once for each id, settled or an error, stopped from any thread."""

from __future__ import annotations

import ast
import re
import threading
from pathlib import Path

import pytest

from latticewatch.messages import Limits
from latticewatch_client import ControlRefusedError, ControlTimeoutError, Microscope
from latticewatch_client.driven import Controls, DrivenMicroscope, Scan

LIMITS = Limits(
    stage_nm=(-100, -100, 100, 100), shift_nm=10, fov_nm=(1, 100), rotation_deg=(-180, 180), dwell_s=(1e-7, 1),
    side_px=(64, 4096), frames=100, exposure_s=2,
)  # fmt: skip
PAGE = Path(__file__).parents[2] / "docs/how-to/drive-a-microscope.md"


class Instrument:
    """In memory: whoever asks where the stage is lets it go a step, and whoever asks for frames lets one come."""

    def __init__(self):
        self.at, self.way, self.shift, self.frame, self.off, self.beam = (
            (0.0, 0.0),
            [],
            (0.0, 0.0),
            7,
            False,
            None,
        )
        self.calls, self.series, self.parked = [], "a", []
        self.now = Scan(10.0, 30.0, 1e-6, (512, 512), 0.3)

    def stage(self):
        if self.way:
            self.at = self.way.pop(0)
        return (*self.at, bool(self.way))

    def move(self, x_nm, y_nm):
        self.calls.append(("move", x_nm, y_nm))
        self.way = [(x_nm + 0.4, y_nm), (x_nm - 0.2, y_nm), (x_nm + 0.01, y_nm)]

    def halt(self):
        self.way = []

    def image_shift(self):
        return self.shift

    def set_image_shift(self, dx_nm, dy_nm):
        self.calls.append(("shift", dx_nm, dy_nm))
        self.shift = (dx_nm, dy_nm)

    def scan(self):
        return self.now

    def set_scan(self, fov_nm, rotation_deg, dwell_s, shape):
        before = self.now
        self.now = Scan(
            fov_nm or before.fov_nm, before.rotation_deg if rotation_deg is None else rotation_deg,
            dwell_s or before.dwell_s, shape or before.shape, before.frame_s,
        )  # fmt: skip

    def newest(self):
        self.frame += 1
        return self.series, self.frame

    def blanked(self):
        return self.off

    def blank(self, on):
        self.off = on

    def park(self, place_nm):
        self.parked.append(place_nm)

    def current_pa(self):
        return 10.0


@pytest.fixture
def instrument():
    return Instrument()


def driven(instrument, **options):
    return DrivenMicroscope(instrument, LIMITS, "ours", settled_s=0.0, timeout_s=1.0, spot_a2=2.0, **options)


def test_it_keeps_the_protocol(instrument):
    assert isinstance(driven(instrument), Microscope)


def test_a_move_ends_when_the_stage_has_settled_and_not_while_it_swings(instrument):
    state = driven(instrument).move_stage(5.0, -3.0, "one")
    assert (state.x_nm, state.y_nm, state.moving) == (5.01, -3.0, False)


def test_a_stage_that_does_not_arrive_is_a_timeout_and_is_not_sent_again_by_the_same_id(instrument):
    microscope = driven(instrument, tolerance_nm=0.001)
    for _ in range(2):
        with pytest.raises(ControlTimeoutError, match="not settled at"):
            microscope.move_stage(5.0, -3.0, "one")
    assert instrument.calls == [("move", 5.0, -3.0)]


def test_the_same_id_is_done_once_and_another_action_with_it_is_refused(instrument):
    microscope = driven(instrument)
    first = microscope.move_stage(5.0, 0.0, "one")
    assert microscope.move_stage(5.0, 0.0, "one") == first
    assert len(instrument.calls) == 1
    with pytest.raises(ControlRefusedError, match="was used for another action"):
        microscope.move_stage(6.0, 0.0, "one")


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.move_stage(101.0, 0.0, "one"),
        lambda m: m.move_stage(float("nan"), 0.0, "one"),
        lambda m: m.shift_image(0.0, -11.0, "one"),
        lambda m: m.set_scan(fov_nm=0.5, id="one"),
        lambda m: m.set_scan(shape=(512, 32), id="one"),
        lambda m: m.acquire(101, "one"),
        lambda m: m.expose(0.0, 0.0, 2.1, "one"),
        lambda m: m.expose(6.0, 0.0, 1.0, "one"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_before_the_vendor_hears_of_it(instrument, act):
    before = instrument.now
    with pytest.raises(ControlRefusedError):
        act(driven(instrument))
    assert (instrument.calls, instrument.parked, instrument.now) == ([], [], before)


def test_frames_of_an_acquisition_began_after_it_was_asked_for(instrument):
    acquired = driven(instrument).acquire(3, "one")
    # The eighth was there when it was asked for, and the ninth had begun.
    assert (acquired.series_id, acquired.first, acquired.last) == ("a", 10, 12)


def test_frames_can_be_asked_for_before_the_first_of_a_series(instrument):
    newest = iter([("", -1), ("", -1), ("b", 0), ("b", 1), ("b", 2), ("b", 3)])
    instrument.newest = lambda: next(newest)
    acquired = driven(instrument).acquire(2, "one")
    # The first that came may have begun before it was asked for.
    assert (acquired.series_id, acquired.first, acquired.last) == ("b", 1, 2)


def test_a_series_that_never_begins_is_told(instrument):
    instrument.newest = lambda: ("", -1)
    instrument.now = Scan(10.0, 30.0, 1e-6, (512, 512), 0.01)
    microscope = DrivenMicroscope(instrument, LIMITS, "ours", settled_s=0.0, timeout_s=0.05)
    with pytest.raises(ControlTimeoutError, match="no series has begun"):
        microscope.acquire(2, "one")


def test_a_series_that_ends_meanwhile_is_an_error(instrument):
    microscope = driven(instrument)
    names = iter(["a", "b"])
    instrument.newest = lambda: (next(names, "b"), 1)
    with pytest.raises(ControlTimeoutError, match="another series"):
        microscope.acquire(3, "one")


def test_an_exposure_tells_its_dose_and_scans_on_afterwards(instrument):
    microscope = driven(instrument)
    microscope.shift_image(1.0, 0.0, "shift")
    exposed = microscope.expose(2.0, 0.5, 0.02, "one")
    assert instrument.parked == [(1.0, 0.5), None]
    assert exposed.duration_s >= 0.02
    assert exposed.dose_e_per_a2 == pytest.approx(10e-12 / 1.602176634e-19 / 2.0 * exposed.duration_s)


def test_doses_follow_from_current_and_scan(instrument):
    state = driven(instrument).state()
    electrons = 10e-12 / 1.602176634e-19
    assert state.frame_dose_e_per_a2 == pytest.approx(electrons * 1e-6 * 512**2 / 100.0**2)
    assert state.spot_dose_e_per_a2_s == pytest.approx(electrons / 2.0)


def test_a_blanked_beam_takes_no_frames_and_exposes_nothing(instrument):
    microscope = driven(instrument)
    microscope.blank(True)
    for act in (lambda: microscope.acquire(1, "one"), lambda: microscope.expose(0.0, 0.0, 0.1, "two")):
        with pytest.raises(ControlRefusedError, match="blanked"):
            act()


def test_an_emergency_stop_ends_an_exposure_and_holds_until_it_is_released(instrument):
    microscope, parked = driven(instrument), threading.Event()
    instrument.park = lambda place: (instrument.parked.append(place), parked.set())
    got = []
    thread = threading.Thread(target=lambda: got.append(microscope.expose(0.0, 0.0, 2.0, "one")))
    thread.start()
    assert parked.wait(20)
    microscope.stop()
    thread.join(20)
    assert got[0].duration_s < 2.0
    assert instrument.off
    assert microscope.state().stopped
    for act in (lambda: microscope.move_stage(1.0, 0.0, "two"), lambda: microscope.blank(False)):
        with pytest.raises(ControlRefusedError, match="emergency stop"):
            act()
    microscope.release()
    assert microscope.move_stage(1.0, 0.0, "two").x_nm == pytest.approx(1.01)


def test_every_skeleton_has_every_call_with_its_parameters():
    needed = {
        node.name: [one.arg for one in node.args.args]
        for body in ast.parse(Path(_file_of(Controls)).read_text()).body
        if isinstance(body, ast.ClassDef) and body.name == "Controls"
        for node in body.body
        if isinstance(node, ast.FunctionDef)
    }
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    classes = [node for block in blocks for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    assert [one.name for one in classes] == ["AutoScript", "PyJEM", "DigitalMicrograph", "Nion", "Tango"]
    for one in classes:
        given = {node.name: [arg.arg for arg in node.args.args] for node in one.body if hasattr(node, "args")}
        assert needed.items() <= given.items(), one.name


def _file_of(protocol):
    import inspect

    return inspect.getfile(protocol)
