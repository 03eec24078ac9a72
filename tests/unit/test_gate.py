"""The gate: for each check, what is refused, what waits, and what then goes through."""

from __future__ import annotations

import pytest

from latticewatch.messages import Limits, MicroscopeState, Status, Target, TrackState
from latticewatch_client import Dose, DoseBook, Gate, Ok, Refuse, Wait

LIMITS = Limits(
    stage_nm=(-100, -100, 100, 100), shift_nm=10, fov_nm=(1, 100), rotation_deg=(-180, 180), dwell_s=(1e-7, 1),
    side_px=(64, 4096), frames=100, exposure_s=20,
)  # fmt: skip
STATE = MicroscopeState(
    x_nm=0, y_nm=0, fov_nm=10, dwell_s=1e-6, shape=(512, 512), frame_s=0.3, current_pa=10,
    frame_dose_e_per_a2=100, spot_dose_e_per_a2_s=1e6,
)  # fmt: skip


def status(phase="live", age_s=0.1, **fields):
    base = {
        "version": "0", "stream": "log", "source": "s", "series_id": "a", "phase": phase, "frames": {}, "fps": 1.0,
        "latency_ms": {}, "last_frame_age_s": age_s, "model_version": 1,
    }  # fmt: skip
    return Status.model_validate(base | fields)


def track(x=10.0, y=20.0, confidence=0.95, name="V_S", role="defect", **fields):
    base = {
        "track": 7, "class_id": 1, "class_name": name, "role": role, "confidence": confidence,
        "px": {"row": 1, "col": 1}, "stage_nm": None if x is None else {"x": x, "y": y},
    }  # fmt: skip
    return TrackState.model_validate(base | fields)


def target(**fields):
    base = {
        "id": "log/7", "track": track(), "kind": "vacancy", "series_id": "a", "frame": 1, "model_version": 1,
        "score": 1.0,
    }  # fmt: skip
    return Target.model_validate(base | fields)


def check(gate=None, what=None, now="same", age_s=0.1, said=None, state=STATE, now_s=0.0):
    what = what or target()
    now = what.track if now == "same" else now
    return (gate or Gate()).check(what, now, age_s, said or status(), state, LIMITS, now_s)


def test_what_is_in_order_goes_through():
    assert check() == Ok()
    assert check(what=target(epoch=2), said=status(epoch=2)) == Ok()
    # A service that does not tell it.
    assert check(what=target(epoch=2)) == Ok()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"age_s": 31}, "too old"),
        ({"now": track(x=500.0)}, "out of reach"),
        ({"now": track(x=float("nan"))}, "no position"),
        ({"now": track(x=None)}, "no position"),
        ({"gate": Gate(box_nm=(0.0, 0.0, 9.0, 30.0))}, "out of the box"),
        (
            {"gate": Gate(sample_nm=(0.0, 0.0, 9.0, 30.0)), "what": target(specimen_nm={"x": 9.1, "y": 5})},
            "out of the sample",
        ),
        ({"gate": Gate(sample_nm=(0.0, 0.0, 9.0, 30.0))}, "no position"),
        ({"now": track(confidence=0.51)}, "confidence"),
        ({"now": track(confidence=float("nan"))}, "confidence"),
        ({"now": track(edge_distance_nm=0.1)}, "edge"),
        ({"now": track(name="Fe_W")}, "model"),
        ({"now": track(role="host")}, "model"),
        ({"what": target(model_version=2)}, "model"),
        ({"what": target(id="other/7")}, "model"),
        ({"what": target(epoch=1), "said": status(epoch=2)}, "model"),
        ({"what": target(epoch=1), "said": status(epoch=2), "now": None}, "model"),
        ({"gate": Gate(max_acts=0)}, "budget"),
        ({"gate": Gate(approve=lambda _: False)}, "approval"),
    ],
)
def test_what_does_not_pass_by_itself_is_refused(given, reason):
    answer = check(**given)
    assert isinstance(answer, Refuse)
    assert answer.reason == reason


def test_a_sample_goes_along_with_the_drift_of_the_specimen():
    drifted = target(track=track(x=12.0), specimen_nm={"x": 8.9, "y": 20.0})
    assert check(Gate(sample_nm=(0.0, 0.0, 9.0, 30.0)), drifted) == Ok()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"said": status("stalled")}, "stale"),
        ({"said": status(age_s=60.0)}, "stale"),
        ({"said": status("waiting", None)}, "stale"),
        ({"said": status("learning")}, "not live"),
        ({"said": status("paused")}, "not live"),
        ({"said": status(latency_ms={"p50": 9000.0})}, "lag"),
        ({"gate": Gate(acts_per_minute=0)}, "rate"),
        ({"gate": Gate(approve=lambda _: None)}, "approval"),
        ({"now": None}, "not in view"),
        ({"state": STATE.model_copy(update={"stopped": True})}, "stopped"),
    ],
)
def test_what_passes_by_itself_waits_and_then_goes_through(given, reason):
    answer = check(**given)
    assert isinstance(answer, Wait)
    assert answer.reason == reason
    assert check() == Ok()


def test_a_rate_that_was_used_up_is_free_again_after_a_minute():
    gate = Gate(acts_per_minute=1)
    gate.acted(0.0)
    assert isinstance(check(gate, now_s=59.9), Wait)
    assert check(gate, now_s=60.0) == Ok()


def action(gate, name, state=STATE, now_s=0.0, **args):
    answer, dose = gate.action(name, args, state, LIMITS, now_s)
    if isinstance(answer, Ok):
        gate.charge(name, dose, now_s)
    return answer.reason if isinstance(answer, Refuse) else "ok"


@pytest.mark.parametrize(
    ("gate", "name", "args", "reason"),
    [
        ({}, "move_stage", {"x_nm": 101.0, "y_nm": 0.0}, "out of reach"),
        ({"box_nm": (-5, -5, 5, 5)}, "move_stage", {"x_nm": 6.0, "y_nm": 0.0}, "out of the box"),
        ({"box_nm": (-5, -5, 5, 5)}, "shift_image", {"dx_nm": 6.0, "dy_nm": 0.0}, "out of the box"),
        (
            {"box_nm": (-5, -5, 5, 5)},
            "expose",
            {"x_nm": 6.0, "y_nm": 0.0, "duration_s": 1.0},
            "out of the box",
        ),
        ({}, "move_stage", {"x_nm": float("nan"), "y_nm": 0.0}, "no position"),
        ({}, "expose", {"x_nm": 0.0, "y_nm": 0.0, "duration_s": 11.0}, "exposure"),
        ({"max_exposure_s": 30}, "expose", {"x_nm": 0.0, "y_nm": 0.0, "duration_s": 21.0}, "exposure"),
        ({}, "acquire", {"frames": 101}, "frames"),
        ({"exposures_per_minute": 0}, "expose", {"x_nm": 0.0, "y_nm": 0.0, "duration_s": 1.0}, "rate"),
        ({"max_dose_e_per_a2": 99}, "acquire", {"frames": 1}, "dose"),
        ({"max_electrons": 1e5}, "acquire", {"frames": 1}, "dose"),
        ({"max_dose_e_per_a2": 1e5}, "expose", {"x_nm": 0.0, "y_nm": 0.0, "duration_s": 1.0}, "dose"),
    ],
)
def test_an_action_beyond_a_limit_is_refused(gate, name, args, reason):
    assert action(Gate(**gate), name, **args) == reason


def test_dose_adds_up_by_place_and_in_all():
    gate = Gate(max_dose_e_per_a2=250)
    assert [action(gate, "acquire", frames=1) for _ in range(3)] == ["ok", "ok", "dose"]
    # Another place has had none.
    elsewhere = STATE.model_copy(update={"x_nm": 50.0})
    assert action(gate, "acquire", elsewhere, frames=1) == "ok"
    # What the microscope knows that a place has had counts too.
    known = STATE.model_copy(update={"x_nm": -50.0, "dose_here_e_per_a2": 200})
    assert action(gate, "acquire", known, frames=1) == "dose"
    gate = Gate(max_electrons=2.5e6)
    assert [action(gate, "acquire", frames=1) for _ in range(3)] == ["ok", "ok", "dose"]


def test_a_limit_of_dose_is_kept_where_the_microscope_does_not_say_its_dose():
    blind = STATE.model_copy(update={"current_pa": None, "frame_dose_e_per_a2": None})
    assert action(Gate(max_dose_e_per_a2=1e9), "acquire", blind, frames=1) == "dose"
    assert action(Gate(), "acquire", blind, frames=1) == "ok"


def test_exposures_in_a_minute_are_counted():
    gate = Gate(exposures_per_minute=2)
    spot = {"x_nm": 0.0, "y_nm": 0.0, "duration_s": 0.1}
    assert [action(gate, "expose", now_s=s, **spot) for s in (0, 1, 2, 61)] == ["ok", "ok", "rate", "ok"]


def test_the_book_of_doses_says_when_it_is_full_and_never_forgets(monkeypatch):
    monkeypatch.setattr("latticewatch_client._dose_book.MAX_CELLS", 50)
    book = DoseBook()
    for x in range(60):
        assert book.full == (x > 50)
        book.add(Dose(x + 0.5, 0.5, side_nm=0.0, e_per_a2=1.0))
    assert book.highest(Dose(0.5, 0.5, side_nm=0.0, e_per_a2=0.0)) == 1.0
    gate = Gate(max_electrons=1e30)
    gate.dose = book
    assert action(gate, "acquire", frames=1) == "dose"
