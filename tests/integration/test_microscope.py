"""The protocol of a microscope, kept by the simulator behind its control socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from latticewatch.errors import (
    ConfigurationError,
    ControlRefusedError,
    ControlTimeoutError,
    ControlUnreachableError,
)
from latticewatch.messages import ControlRequest
from latticewatch_client import Microscope, ZmqMicroscope
from latticewatch_simulator import Simulation, SimulatorSettings

FREE = "tcp://127.0.0.1:0"
SMALL = {
    "shape": (128, 128),
    "fps": 100,
    "settle_s": 0.0,
    "drift_nm_per_frame": (0.0, 0.0),
    "line_jitter_px": 0.0,
}
BEAM = SMALL | {"dynamics": "beam", "defects": {}, "creation_a2": 0.0, "hop_a2": 0.0, "healing_a2": 0.0}


@contextmanager
def microscope_of(**settings) -> Iterator[tuple[ZmqMicroscope, Simulation]]:
    with (
        Simulation(SimulatorSettings.checked(**(SMALL | settings)), bind=FREE, control=FREE) as simulation,
        ZmqMicroscope(str(simulation.control_endpoint), settle_timeout=20) as microscope,
    ):
        simulation.start()
        yield microscope, simulation


def fail(microscope, failure, of, times=1):
    microscope.ask(ControlRequest(action="fail", failure=failure, of=of, times=times))


def species_at_the_middle(frame):
    truth = frame.truth
    middle = (np.array(truth.shape) - 1) / 2
    return truth.names[truth.species[((truth.positions_px() - middle) ** 2).sum(axis=1).argmin()]]


def test_the_client_of_the_simulator_keeps_the_protocol():
    with microscope_of() as (microscope, _):
        assert isinstance(microscope, Microscope)
        assert {"move_stage", "expose", "stop"} <= set(microscope.capabilities().actions)
        assert microscope.limits().stage_nm == (-500, -500, 500, 500)


def test_a_move_returns_when_the_stage_has_settled_after_its_overshoot():
    with microscope_of(settle_s=0.05, overshoot=0.2, overshoot_s=0.05) as (microscope, simulation):
        state = microscope.move_stage(10.0, -4.0, id="a")
        assert (state.x_nm, state.y_nm, state.moving) == (10.0, -4.0, False)
        frames = microscope.acquire(1, id="b")
        assert frames.first == frames.last
        assert simulation.newest.truth.stage_nm == (10.0, -4.0)


def test_a_stage_overshoots_and_comes_to_rest():
    from latticewatch_simulator import Stage

    now = [0.0]
    stage = Stage(
        SimulatorSettings(settle_s=1.0, overshoot=0.1, overshoot_s=0.5, stage_limit_nm=100),
        clock=lambda: now[0],
    )
    stage.move(10.0, 0.0)
    seen = []
    for k in range(600):
        now[0] = k * 0.01
        seen.append(stage.position()[0])
    assert seen[99] == 0.0
    assert max(seen) == pytest.approx(11.0, abs=0.05)
    assert min(seen[100:]) < 10.0
    assert seen[-1] == 10.0
    assert not stage.moving


def test_a_stage_that_does_not_arrive_is_a_timeout():
    with microscope_of() as (microscope, _):
        microscope._settle_timeout = 0.2
        fail(microscope, "stuck", "move_stage")
        with pytest.raises(ControlTimeoutError, match="still moves"):
            microscope.move_stage(5.0, 0.0, id="a")
        assert microscope.move_stage(5.0, 0.0, id="b").x_nm == 5.0


def test_image_shift_and_stage_together_are_the_middle_of_the_field():
    with microscope_of() as (microscope, simulation):
        microscope.move_stage(10.0, 0.0, id="a")
        assert microscope.shift_image(0.25, -0.5, id="b").shift_nm == (0.25, -0.5)
        microscope.acquire(1, id="c")
        assert simulation.newest.truth.stage_nm == (10.25, -0.5)
        with pytest.raises(ControlRefusedError, match="limit"):
            microscope.shift_image(1e3, 0.0, id="d")


def test_another_scan_is_another_series_with_its_own_field_rotation_and_dwell():
    with microscope_of() as (microscope, simulation):
        before = microscope.acquire(1, id="a")
        dose = microscope.state().frame_dose_e_per_a2
        state = microscope.set_scan(fov_nm=3.0, rotation_deg=30.0, dwell_s=1e-6, shape=(96, 64), id="b")
        assert (state.fov_nm, state.rotation_deg, state.shape) == (3.0, 30.0, (96, 64))
        after = microscope.acquire(2, id="c")
        assert after.series_id != before.series_id
        assert after.last == after.first + 1
        frame = simulation.newest
        assert frame.image.shape == (96, 64)
        header = simulation.microscope.header(frame)
        assert (header["rotation_deg"], header["pixel_size_nm"]) == (30.0, pytest.approx(3.0 / 64))
        # The beam is the same: a dose goes with the dwell over the pixel's area.
        factor = (1e-6 / (0.01 / 128**2)) * (0.012 / (3.0 / 64)) ** 2
        assert state.frame_dose_e_per_a2 == pytest.approx(dose * factor)


@pytest.mark.parametrize("rotation", [30.0, 90.0, 215.0])
def test_a_turned_scan_shows_each_column_where_its_rotation_says(rotation):
    from latticewatch.messages import Calibration
    from latticewatch_simulator import Microscope as Simulated

    plain = Simulated(SimulatorSettings.checked(**SMALL))
    settings = SimulatorSettings.checked(**SMALL, scan_rotation_deg=rotation)
    turned = Simulated(settings)
    truth, other = turned.acquire().truth, plain.acquire().truth
    calibration = Calibration(pixel_size_nm=0.012, rotation_deg=rotation, stage_nm=(0.0, 0.0))
    straight = Calibration(pixel_size_nm=0.012, stage_nm=(0.0, 0.0))
    places = {
        int(i): straight.to_stage(*p, (128, 128)) for i, p in zip(other.id, other.positions_px(), strict=True)
    }
    found = 0
    for column, (row, col) in zip(truth.id, truth.positions_px(), strict=True):
        if int(column) in places:
            assert calibration.to_stage(row, col, (128, 128)) == pytest.approx(places[int(column)], abs=1e-6)
            found += 1
    assert found > 20
    # The picture agrees with the truth: heavy columns are bright.
    image = turned.acquire().image.astype(float)
    inside = truth.inside(6) & (truth.species == 0)
    at = truth.positions_px()[inside].round().astype(int)
    assert image[at[:, 0], at[:, 1]].mean() > 2 * np.median(image)


def test_drift_goes_along_the_stage_however_the_scan_is_turned():
    from latticewatch_simulator import Microscope as Simulated

    settings = SimulatorSettings.checked(**SMALL | {"drift_nm_per_frame": (0.1, 0.0)}, scan_rotation_deg=90.0)
    microscope = Simulated(settings)
    first, *_, last = [microscope.acquire().truth for _ in range(5)]
    row, col = np.subtract(last.drift.start_px, first.drift.start_px)
    # y of the stage is x of a scan that is turned by 90 degrees
    assert (row, col) == (pytest.approx(0.0, abs=1e-9), pytest.approx(0.4 / 0.012))


def test_a_blanked_beam_shows_the_dark_gives_no_dose_and_takes_no_frames():
    with microscope_of() as (microscope, simulation):
        microscope.acquire(1, id="a")
        microscope.blank(True)
        with pytest.raises(ControlRefusedError, match="blanked"):
            microscope.acquire(1, id="b")
        with pytest.raises(ControlRefusedError, match="blanked"):
            microscope.expose(0.0, 0.0, 0.1, id="c")
        seen = threading.Event()
        total = []

        def dark(frame):
            total.append(simulation.microscope.beam.dose.total)
            if len(total) > 3:
                seen.set()

        publish = simulation._publish
        simulation._publish = lambda frame: (publish(frame), dark(frame))
        assert seen.wait(20)
        assert total[-1] == total[1]
        assert simulation.newest.image.mean() == pytest.approx(600, abs=5)
        microscope.blank(False)
        assert microscope.acquire(1, id="d")
        assert simulation.newest.image.mean() > 700


@pytest.mark.parametrize(
    ("rates", "start", "after"),
    [
        ({"creation_a2": 1.0}, {}, "S1"),
        ({"healing_a2": 1.0}, {"S1": 1.0}, "S2"),
        ({}, {}, "S2"),
        ({"hop_a2": 1.0}, {"S1": 0.3}, None),
    ],
)
def test_an_exposure_creates_heals_and_moves_defects_as_its_rates_say(rates, start, after):
    # Frames hardly have a dose here, so that only the standing beam acts.
    settings = BEAM | rates | {"defects": start, "dose_e_per_a2": 1e-9, "counts_per_electron": 1.0}
    with microscope_of(**settings) as (microscope, simulation):
        microscope.acquire(1, id="a")
        truth = simulation.newest.truth
        wanted = next(iter(start), "S2")
        inside = truth.inside(30) & (truth.species == truth.names.index(wanted))
        place = truth.positions_px()[inside][0]
        column = truth.id[inside][0]
        x, y = (place[::-1] - 63.5) * 0.012
        rate = microscope.state().spot_dose_e_per_a2_s
        # The current is far too weak for a dose that acts in this test's time: it is raised.
        simulation.microscope.beam.electrons_per_s *= 1e6 / rate
        exposed = microscope.expose(x, y, 0.05, id="b")
        assert exposed.dose_e_per_a2 == pytest.approx(5e4, rel=0.2)
        microscope.acquire(1, id="c")
        truth = simulation.newest.truth
        now = truth.names[truth.species[list(truth.id).index(column)]]
        assert (now == after) if after else (now != wanted)


def test_the_dose_map_says_what_each_place_has_had():
    with microscope_of(**BEAM) as (microscope, _):
        microscope.acquire(3, id="a")
        dose = microscope.state()
        assert dose.dose_here_e_per_a2 >= 3 * dose.frame_dose_e_per_a2
        microscope.move_stage(100.0, 100.0, id="b")
        microscope.acquire(1, id="c")
        microscope.blank(True)
        fewer = microscope.state().dose_here_e_per_a2
        assert fewer > 0
        table = microscope.ask(ControlRequest(action="dose_map")).result
        assert np.max(table["dose_e_per_a2"]) == pytest.approx(fewer, rel=0.5)
        assert table["total_e"] > 0


def test_an_action_with_the_same_id_is_done_once_and_another_action_with_it_is_refused():
    with microscope_of(**BEAM) as (microscope, simulation):
        stood = []
        stand = simulation.microscope.beam.stand
        simulation.microscope.beam.stand = lambda *a: stood.append(a) or stand(*a)
        first = microscope.expose(0.0, 0.0, 0.05, id="a")
        assert microscope.expose(0.0, 0.0, 0.05, id="a") == first
        assert microscope.acquire(2, id="b") == microscope.acquire(2, id="b")
        with pytest.raises(ControlRefusedError, match="another request"):
            microscope.expose(0.0, 0.0, 0.06, id="a")
        with pytest.raises(ControlRefusedError, match="another request"):
            microscope.move_stage(0.0, 0.0, id="a")
        assert len(stood) == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [("refuse", ControlRefusedError), ("timeout", ControlTimeoutError), ("silent", ControlUnreachableError)],
)
def test_failures_come_on_request_and_mean_what_they_say(failure, error):
    with microscope_of() as (microscope, simulation):
        microscope._timeout_ms = 100
        fail(microscope, failure, "move_stage", times=3)
        with pytest.raises(error):
            microscope.move_stage(1.0, 0.0, id="a")
        assert simulation.microscope.stage.position() == (0.0, 0.0)


def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_is_done_twice():
    with microscope_of() as (microscope, simulation):
        microscope._timeout_ms = 200
        moves = []
        move = simulation.microscope.stage.move
        simulation.microscope.stage.move = lambda *a, **k: moves.append(a) or move(*a, **k)
        fail(microscope, "lost", "move_stage", times=2)
        assert microscope.move_stage(1.0, 2.0, id="a").y_nm == 2.0
        assert moves == [(1.0, 2.0)]


def test_an_emergency_stop_ends_what_is_being_done_and_holds_until_it_is_released():
    with microscope_of(settle_s=30.0) as (microscope, simulation):
        ended = []

        def move():
            try:
                microscope.expose(0.0, 0.0, 30.0, id="a")
            except ControlTimeoutError as error:
                ended.append(str(error))

        thread = threading.Thread(target=move)
        thread.start()
        while not simulation.microscope.operations.busy:
            assert thread.is_alive()
        microscope.stop()
        thread.join(20)
        assert ended
        state = microscope.state()
        assert (state.blanked, state.stopped) == (True, True)
        for action in (
            lambda: microscope.move_stage(1.0, 0.0, id="b"),
            lambda: microscope.blank(False),
            lambda: microscope.acquire(1, id="c"),
        ):
            with pytest.raises(ControlRefusedError, match="emergency stop"):
                action()
        microscope.release()
        assert microscope.state().blanked
        microscope.blank(False)
        assert microscope.acquire(1, id="d")


@pytest.mark.parametrize(
    "action",
    [
        lambda m: m.move_stage(501.0, 0.0, id="a"),
        lambda m: m.expose(400.0, 0.0, 0.1, id="a"),
        lambda m: m.expose(0.0, 0.0, 61.0, id="a"),
        lambda m: m.acquire(20_000, id="a"),
        lambda m: m.set_scan(shape=(32, 32), id="a"),
        lambda m: m.set_scan(fov_nm=1e6, id="a"),
        lambda m: m.set_scan(dwell_s=1e-12, id="a"),
    ],
)
def test_what_is_out_of_bounds_is_refused_and_changes_nothing(action):
    with microscope_of() as (microscope, _):
        before = microscope.state()
        with pytest.raises(ControlRefusedError):
            action(microscope)
        with pytest.raises(ControlRefusedError):
            action(microscope)
        after = microscope.state()
        assert (after.x_nm, after.fov_nm, after.shape) == (before.x_nm, before.fov_nm, before.shape)


def test_a_control_socket_of_another_machine_has_to_be_meant():
    with pytest.raises(ConfigurationError, match="no password"):
        ZmqMicroscope("tcp://microscope-pc:5556")
    ZmqMicroscope("tcp://192.0.2.1:5556", remote=True).close()


def test_no_microscope_is_an_error_that_says_so():
    with (
        ZmqMicroscope("tcp://127.0.0.1:1", timeout=0.05, retries=1) as microscope,
        pytest.raises(ControlUnreachableError, match="running"),
    ):
        microscope.state()
