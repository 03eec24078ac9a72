"""The control loop: one target after another, nothing without an intent, nothing twice, blanked at the end."""

from __future__ import annotations

import json
import random
import threading
import uuid

import httpx
import pytest

from latticewatch.errors import (
    ConfigurationError,
    ControlError,
    ControlRefusedError,
    ControlTimeoutError,
)
from latticewatch.messages import (
    Acquired,
    AnnotationRequest,
    Capabilities,
    Exposed,
    Limits,
    MicroscopeState,
    TargetRequest,
)
from latticewatch_client import Client, Gate, Journal, Loop, Microscope, acts, tiles
from latticewatch_client._emergency import StopServer


class Stage:
    """A microscope in memory that keeps the protocol; ``fail`` is called before each action."""

    def __init__(self, limit_nm=100.0):
        self.limit_nm, self.at, self.shift = limit_nm, (0.0, 0.0), (0.0, 0.0)
        self.done, self.blanked, self.stopped, self.frame = {}, False, False, 10
        self.session = uuid.uuid4().hex
        self.fail = lambda name, id, args: None

    def limits(self):
        far = self.limit_nm
        return Limits(
            stage_nm=(-far, -far, far, far), shift_nm=5, fov_nm=(1, 100), rotation_deg=(-180, 180),
            dwell_s=(1e-7, 1), side_px=(64, 4096), frames=100, exposure_s=20,
        )  # fmt: skip

    def state(self):
        return MicroscopeState(
            x_nm=self.at[0], y_nm=self.at[1], shift_nm=self.shift, fov_nm=10, dwell_s=1e-6, shape=(512, 512),
            frame_s=0.3, blanked=self.blanked, stopped=self.stopped, current_pa=10, frame_dose_e_per_a2=100,
            session=self.session,
        )  # fmt: skip

    def capabilities(self):
        return Capabilities(name="in memory", actions=())

    def move_stage(self, x_nm, y_nm, id):
        return self._once("move_stage", id, x_nm, y_nm)

    def shift_image(self, dx_nm, dy_nm, id):
        return self._once("shift_image", id, dx_nm, dy_nm)

    def set_scan(self, fov_nm=None, rotation_deg=None, dwell_s=None, shape=None, *, id):
        return self._once("set_scan", id, fov_nm)

    def acquire(self, frames, id):
        return self._once("acquire", id, frames)

    def expose(self, x_nm, y_nm, duration_s, id):
        return self._once("expose", id, x_nm, y_nm, duration_s)

    def blank(self, on):
        self.blanked = on

    def stop(self):
        self.stopped = self.blanked = True

    def _once(self, name, id, *args):
        self.fail(name, id, args)
        if id not in self.done:
            self.done[id] = (name, args)
            if name == "move_stage":
                self.at = args
            elif name == "shift_image":
                self.shift = args
            elif name == "acquire":
                self.frame += args[0]
        if name == "acquire":
            return Acquired(series_id="a", first=self.frame, last=self.frame)
        return Exposed(dose_e_per_a2=5.0, duration_s=args[2]) if name == "expose" else self.state()

    @property
    def moves(self):
        return [args for name, args in self.done.values() if name == "move_stage"]


class Sees:
    """What a service says of defects that stay where they are, and what it is told; by way of its real messages."""

    def __init__(self, stage, places):
        self.stage, self.tracks = stage, {}
        for number, (x, y) in places.items():
            self.put(number, x, y)
        self.phase, self.age_s, self.leased, self.annotated, self.down = "live", 0.1, {}, [], 0
        self.latency_ms, self.model_version, self.in_view = {}, 1, lambda number: True
        self.drift, self.ahead, self.beside = None, 0, False

    def put(self, number, x, y, confidence=0.95, name="V_S", version=1):
        self.tracks[number] = {
            "track": number, "class_id": 1, "class_name": name, "role": "defect", "confidence": confidence,
            "px": {"row": 1, "col": 1}, "stage_nm": {"x": x, "y": y}, "version": version,
        }  # fmt: skip

    def target(self, number):
        track = dict(self.tracks[number])
        version = track.pop("version")
        return {
            "id": f"log/{number}", "track": track, "kind": "vacancy", "series_id": "a", "frame": self.stage.frame,
            "model_version": version, "score": 1.0,
        }  # fmt: skip

    def free(self, asked):
        settled = {one["target"] for one in self.annotated if one["outcome"] not in ("released", "note")}
        wanted = [n for n in self.tracks if f"log/{n}" not in self.leased and f"log/{n}" not in settled]
        return [n for n in wanted if self.tracks[n]["confidence"] >= asked]

    def __call__(self, request):
        path = request.url.path
        if self.down:
            self.down -= 1
            return httpx.Response(503, json={"detail": "down"})
        if path == "/v1/status":
            return httpx.Response(200, json={
                "version": "0", "stream": "log", "source": "s", "series_id": "a", "phase": self.phase,
                "frames": {}, "fps": 1.0, "latency_ms": self.latency_ms, "last_frame_age_s": self.age_s,
                "model_version": self.model_version,
            })  # fmt: skip
        if path == "/v1/tracks":
            self.beside = request.url.params.get("out_of_view") == "true"
            tracks = [self.target(number)["track"] for number in self.tracks if self.in_view(number)]
            return httpx.Response(200, json={
                "stream": "log", "as_of_seq": 0, "series_id": "a", "frame": self.stage.frame + self.ahead,
                "n": len(tracks),
                "tracks": tracks,
            })  # fmt: skip
        if path == "/v1/targets":
            free = [self.target(number) for number in self.free(0.0)]
            return httpx.Response(200, json={
                "policy": "nearest", "n": len(free), "targets": free, "leased": 0, "visited": 0, "phase": self.phase,
                "last_frame_age_s": self.age_s,
            })  # fmt: skip
        if path == "/v1/frames/latest":
            return httpx.Response(200, json={
                "as_of_seq": 0, "series_id": "a", "frame": self.stage.frame, "shape": [8, 8], "t_received": 0.0,
                "t_acquired": None, "pixel_size_nm": 0.1, "drift_px": {"row": 0, "col": 0},
                "stage_drift_nm": self.drift, "lattice_found": True, "lattice_constant_px": 3.0, "n_sites": 1,
                "model_version": 1, "timings_ms": {},
            })  # fmt: skip
        body = json.loads(request.content)
        if path == "/v1/targets:next":
            asked = TargetRequest.model_validate(body)
            free = self.free(asked.min_confidence)
            target = self.target(free[0]) if free else None
            if target:
                self.leased[target["id"]] = asked.holder
            return httpx.Response(200, json={"target": target, "holder": asked.holder, "left": len(free)})
        assert path == "/v1/annotations"
        asked = AnnotationRequest.model_validate(body)
        if self.leased.get(asked.target, asked.holder) != asked.holder:
            return httpx.Response(409, json={"detail": "somebody else has it"})
        self.leased.pop(asked.target, None)
        if asked.key not in [one["key"] for one in self.annotated]:
            self.annotated.append(asked.model_dump())
        return httpx.Response(200, json={"seq": 1, "target": asked.target, "outcome": asked.outcome})

    @property
    def outcomes(self):
        return {one["target"]: one["outcome"] for one in self.annotated}


def loop_of(places, stage=None, sees=None, **options):
    stage = stage or Stage()
    sees = sees or Sees(stage, places)
    client = Client("http://service", transport=httpx.MockTransport(sees), retries=0)
    return Loop(client, stage, **options), stage, sees


THREE = {1: (10.0, 20.0), 2: (-30.0, 5.0), 3: (40.0, -40.0)}


def test_each_target_is_brought_to_the_middle_once_and_the_beam_is_blanked_at_the_end():
    loop, stage, sees = loop_of(THREE)
    assert isinstance(stage, Microscope)
    report = loop.run(timeout=0)
    assert (report.done, dict(report.failed), dict(report.refused)) == (3, {}, {})
    assert stage.moves == list(THREE.values())
    assert set(sees.outcomes.values()) == {"done"}
    assert [one["offset_nm"] for one in sees.annotated] == [0, 0, 0]
    assert all(one["first"] <= one["last"] for one in sees.annotated)
    assert stage.blanked


def test_drift_since_the_lease_does_not_count():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})
    lease = loop._client.next_target
    loop._client.next_target = lambda *a, **k: (lease(*a, **k), sees.put(1, 10.4, 20.0))[0]
    loop.run(steps=1)
    assert stage.moves == [(10.4, 20.0)]


def test_a_target_that_is_not_where_it_should_be_is_gone_after_and_then_has_failed():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})

    looks = iter(range(1, 100))

    def runs_away(name, id, args):
        if name == "acquire":
            step = next(looks)
            sees.put(1, sees.tracks[1]["stage_nm"]["x"] + (-1) ** step * 0.5 * step, 20.0)

    stage.fail = runs_away
    report = loop.run(steps=1)
    assert report.failed == {"off centre": 1}
    assert sees.outcomes == {"log/1": "failed"}
    assert len(stage.done) > 6


def test_what_drifts_away_after_its_exposure_was_exposed_all_the_same():
    loop, stage, sees = loop_of({1: (10.0, 20.0)}, act=acts.expose(0.1))

    def drifts(name, id, args):
        # As over a restart of the service, from the exposure on.
        if name == "acquire" and exposures(stage):
            sees.put(1, sees.tracks[1]["stage_nm"]["x"] + 0.7, 20.0)

    stage.fail = drifts
    report = loop.run(steps=1)
    assert (report.done, report.failed) == (1, {})
    assert exposures(stage) == [(10.0, 20.0)]
    assert sees.annotated[0]["offset_nm"] == 0.0


def test_what_was_exposed_beside_the_middle_has_failed():
    def blindly(do, target):
        do.look()
        do.expose(10.0, 20.0, 0.1)

    loop, stage, _ = loop_of({1: (10.0, 20.0)}, act=blindly)
    report = loop.run(steps=1)
    assert len(exposures(stage)) == 1
    assert report.failed == {"off centre": 1}


def test_a_target_that_frames_do_not_show_has_failed():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})
    stage.fail = lambda name, id, args: sees.tracks.clear() if name == "acquire" else None
    report = loop.run(steps=1)
    assert report.failed == {"microscope": 1}
    assert "not seen" in sees.annotated[0]["detail"]


def test_what_waits_is_kept_and_then_acted_on():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})
    sees.age_s = 60.0
    assert loop.step().reason == "stale"
    assert loop.step().reason == "stale"
    assert (stage.done, loop.report.waited) == ({}, {"stale": 1})
    sees.age_s, sees.phase = 0.1, "learning"
    assert loop.step().reason == "not live"
    sees.phase = "live"
    assert loop.step().outcome == "done"
    assert list(sees.leased) == []


def test_what_is_refused_is_told_to_the_service_and_not_asked_about_again():
    loop, stage, sees = loop_of(THREE, gate=Gate(box_nm=(0.0, 0.0, 50.0, 50.0)))
    report = loop.run(timeout=0)
    assert (report.done, report.refused) == (1, {"out of the box": 2})
    assert stage.moves == [(10.0, 20.0)]
    assert list(sees.outcomes.values()).count("refused") == 2
    assert "out of the box" in sees.annotated[1]["detail"]


def test_a_lease_that_has_ended_is_not_acted_on():
    now = [0.0]
    loop, _, sees = loop_of({1: (10.0, 20.0)}, clock=lambda: now[0], ttl_s=10)
    sees.phase = "learning"
    loop.step()
    now[0] = 11.0
    sees.phase = "live"
    assert loop.step() is None  # the service still says that it is leased; to whom, it does not know
    assert sees.annotated == []


def test_a_dry_run_touches_nothing():
    loop, stage, sees = loop_of(THREE, dry_run=True)
    report = loop.run(timeout=0)
    assert report.would == 3
    assert (stage.done, stage.blanked, sees.leased, sees.annotated) == ({}, False, {}, [])


def test_a_service_that_is_away_is_waited_for():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})
    sees.down = 2
    steps = []
    loop._on_step = steps.append
    loop._pause = lambda seconds: None
    assert loop.run(steps=1).done == 1
    assert steps[0].reason == "service"
    assert len(stage.moves) == 1


def test_an_annotation_that_did_not_arrive_is_made_later():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})
    stage.fail = lambda name, id, args: setattr(sees, "down", 0)

    def down(what, act, **fields):
        write(what, act, **fields)
        if what == "done":
            sees.down = 1

    write = loop._journal.write
    loop._journal.write = down
    assert loop.step().outcome == "done"
    assert sees.annotated == []
    loop.step()
    assert sees.outcomes == {"log/1": "done"}


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", ["before", "after"])
@pytest.mark.parametrize("at", range(5))
def test_a_restart_goes_on_where_the_kill_was_and_does_nothing_twice(tmp_path, after, at):
    path, stage = tmp_path / "journal.jsonl", Stage()
    sees = Sees(stage, THREE)
    count = [0]
    once = stage._once

    def killed(name, id, *args):
        # An intent and the action itself are on disk before the action is done.
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        act, number = id.rsplit(".", 1)
        of_act = [line for line in lines if line["id"] == act]
        assert of_act[0]["what"] == "intent"
        assert sum(line["what"] == "action" for line in of_act) > int(number)
        count[0] += 1
        if count[0] - 1 == at and after == "before":
            raise Killed
        result = once(name, id, *args)
        if count[0] - 1 == at:
            raise Killed
        return result

    stage._once = killed
    with Journal(path) as journal, pytest.raises(Killed):
        loop_of(THREE, stage, sees, journal=journal)[0].run()
    assert stage.blanked
    with path.open("a") as file:
        file.write('{"what": "inte')  # killed while it wrote
    with Journal(path) as journal:
        assert len(journal.open) == 1
        report = loop_of(THREE, stage, sees, journal=journal)[0].run(timeout=0)
    assert report.failed == {}
    assert stage.moves == list(THREE.values())
    assert sorted(sees.outcomes.items()) == [(f"log/{n}", "done") for n in THREE]
    assert [json.loads(line)["what"] for line in path.read_text().splitlines()].count("intent") == 3


def interrupted(path, stage, sees, at, act):
    """A run that ends in front of an action, and what another one with the same journal then makes of it."""

    def killed(name, id, args):
        if name == at:
            raise Killed

    stage.fail = killed
    with Journal(path) as journal, pytest.raises(Killed):
        loop_of({}, stage, sees, journal=journal, act=act)[0].run()
    stage.fail = lambda *_: None

    def again():
        with Journal(path) as journal:
            return loop_of({}, stage, sees, journal=journal, act=act)[0].run(timeout=0)

    return again


def exposures(stage):
    return [args[:2] for name, args in stage.done.values() if name == "expose"]


@pytest.mark.parametrize("at", ["move_stage", "acquire"])
def test_an_act_that_was_interrupted_before_its_exposure_goes_to_where_the_defect_is_by_then(tmp_path, at):
    stage = Stage()
    sees = Sees(stage, {1: (10.0, 20.0)})
    again = interrupted(tmp_path / "journal.jsonl", stage, sees, at, acts.expose(0.1))
    sees.put(1, 10.6, 20.3)
    assert again().done == 1
    assert exposures(stage) == [(10.6, 20.3)]


@pytest.mark.parametrize(("moved", "failed", "done"), [(0.03, {}, [(10.0, 20.0)]), (0.2, {"refused": 1}, [])])
def test_an_exposure_that_may_have_been_made_is_asked_for_again_only_where_the_defect_still_is(
    tmp_path, moved, failed, done
):
    stage = Stage()
    sees = Sees(stage, {1: (10.0, 20.0)})
    again = interrupted(tmp_path / "journal.jsonl", stage, sees, "expose", acts.expose(0.1))
    sees.put(1, 10.0 + moved, 20.0)
    assert again().failed == failed
    assert exposures(stage) == done


def test_nothing_is_exposed_after_an_interruption_before_it_was_looked_at_again(tmp_path):
    def twice(do, target):
        acts.centre(do, target)
        do.expose(10.0, 20.0, 0.1)
        do.go_to(10.0, 20.0)
        do.set_scan(fov_nm=5.0)
        do.expose(10.0, 20.0, 0.1)

    stage = Stage()
    sees = Sees(stage, {1: (10.0, 20.0)})
    again = interrupted(tmp_path / "journal.jsonl", stage, sees, "set_scan", twice)
    assert again().failed == {"refused": 1}
    assert exposures(stage) == [(10.0, 20.0)]
    assert "not looked at since" in sees.annotated[0]["detail"]


def test_frames_that_are_seen_long_after_they_were_taken_are_taken_again():
    loop, stage, sees = loop_of({1: (10.0, 20.0)})
    ahead = iter([9, 0])

    def late(name, id, args):
        if name == "acquire":
            sees.ahead = next(ahead)

    stage.fail = late
    assert loop.run(steps=1).done == 1
    assert [name for name, _ in stage.done.values()].count("acquire") == 2


def test_an_act_is_not_gone_on_with_when_the_microscope_was_started_anew(tmp_path):
    path, stage = tmp_path / "journal.jsonl", Stage()
    sees = Sees(stage, {1: (10.0, 20.0)})

    def killed(name, id, args):
        raise Killed

    stage.fail = killed
    with Journal(path) as journal, pytest.raises(Killed):
        loop_of({}, stage, sees, journal=journal)[0].run()
    stage.fail, stage.session = lambda *_: None, "another"
    with Journal(path) as journal:
        report = loop_of({}, stage, sees, journal=journal)[0].run(timeout=0)
    assert report.failed == {"interrupted": 1}
    assert stage.done == {}
    assert sees.outcomes == {"log/1": "failed"}


def test_limits_of_number_rate_and_dose_hold_over_a_restart(tmp_path):
    path = tmp_path / "journal.jsonl"
    for done in (2, 0):
        with Journal(path) as journal:
            gate = Gate(max_acts=2, max_electrons=1e12)
            loop, _, _ = loop_of({n: (float(n), 0.0) for n in range(20 * done, 20 * done + 5)}, gate=gate)
            loop._journal = journal
            from latticewatch_client._hands import charge_past

            charge_past(gate, journal, loop._clock())
            before = gate.dose.electrons
            report = loop.run(timeout=0)
            assert report.done == done
            assert report.refused["budget"] > 0
        assert (before > 0) == (done == 0)


def test_a_journal_that_is_none_is_refused_by_name_and_line(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    with pytest.raises(ControlError, match=r"notes\.txt, line 1: no line of a journal"):
        Journal(path)


def test_nothing_is_done_when_the_journal_cannot_be_written(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    loop, stage, _ = loop_of(THREE, journal=journal)
    journal.close()
    with pytest.raises(ControlError, match="not written"):
        loop.run()
    assert stage.done == {}
    assert stage.blanked


@pytest.mark.parametrize("error", [ControlTimeoutError("late"), ControlRefusedError("no")])
def test_an_action_that_fails_ends_the_act_and_the_next_target_comes(error):
    loop, stage, sees = loop_of(THREE)

    def fail(name, id, args):
        if args == (10.0, 20.0):
            raise error

    stage.fail = fail
    report = loop.run(timeout=0)
    assert (report.done, report.failed.total()) == (2, 1)
    assert sees.outcomes["log/1"] == "failed"


def test_an_action_out_of_bounds_is_refused_before_the_microscope_hears_of_it():
    def far(do, target):
        do.move_stage(99.0, 0.0)
        do.move_stage(101.0, 0.0)

    loop, stage, _ = loop_of({1: (1.0, 0.0)}, act=far)
    assert loop.run(steps=1).failed == {"refused": 1}
    assert stage.moves == [(99.0, 0.0)]


@pytest.mark.parametrize("way", ["stop", "error", "emergency"])
def test_the_beam_is_blanked_on_every_way_out_and_what_was_leased_is_given_back(way):
    def act(do, target):
        if way == "error":
            raise ZeroDivisionError
        loop.stop() if way == "stop" else loop.emergency_stop()
        do.move_stage(1.0, 1.0)

    loop, stage, _ = loop_of(THREE, act=act)
    if way == "error":
        with pytest.raises(ZeroDivisionError):
            loop.run()
    else:
        loop.run()
    assert stage.blanked
    assert stage.stopped == (way == "emergency")
    assert stage.moves == []


def test_a_microscope_that_cannot_be_blanked_is_stopped():
    loop, stage, _ = loop_of({})
    loop._begin = lambda: None

    def blank(on):
        raise ControlTimeoutError("valve")

    stage.blank = blank
    loop.run(timeout=0)
    assert stage.stopped


def test_a_loop_does_not_begin_before_an_emergency_stop_is_released():
    loop, stage, _ = loop_of(THREE)
    stage.stop()
    with pytest.raises(ControlRefusedError, match="release"):
        loop.run()
    assert stage.done == {}


def test_an_emergency_stop_comes_over_http_and_ends_the_loop():
    loop, stage, _ = loop_of({})
    thread = threading.Thread(target=loop.run)
    with StopServer(loop) as server, httpx.Client(base_url=f"http://{server.address}") as http:
        thread.start()
        assert http.get("/").json()["stopping"] is False
        assert http.post("/stop", headers={"Origin": "https://example.org"}).status_code == 403
        assert http.post("/").status_code == 404
        assert not stage.stopped
        assert http.post("/stop").json() == {"stopped": True}
    thread.join(20)
    assert not thread.is_alive()
    assert stage.stopped


def test_the_stop_of_a_loop_needs_a_key_where_others_reach_it():
    loop, stage, _ = loop_of({})
    with pytest.raises(ConfigurationError, match="no key"):
        StopServer(loop, "0.0.0.0:0")
    with StopServer(loop, key="secret") as server:
        assert httpx.post(f"http://{server.address}/stop").status_code == 401
        assert not stage.stopped
        assert httpx.post(
            f"http://{server.address}/stop", headers={"Authorization": "Bearer secret"}
        ).is_success
    assert stage.stopped


def test_fields_are_gone_to_one_after_another_when_no_target_is_left(tmp_path):
    loop, stage, _ = loop_of({1: (10.0, 20.0)}, fields=list(tiles(3, 1, 20.0)))
    went = []
    stage.fail = lambda name, id, args: went.append(args) if name == "move_stage" else None
    loop.run(timeout=0)
    assert went == [(10.0, 20.0), (-20.0, 0.0), (0.0, 0.0), (20.0, 0.0)]
    assert loop.report.fields == 3


def test_fields_lie_on_the_specimen_and_go_along_with_its_drift():
    loop, stage, sees = loop_of({}, fields=[(-20.0, 0.0), (20.0, 5.0)])
    went = []

    def drifts(name, id, args):
        if name == "move_stage":
            went.append(args)
            sees.drift = {"x": 6.0, "y": -3.0}

    stage.fail = drifts
    loop.run(timeout=0)
    assert went == [(-20.0, 0.0), (26.0, 2.0)]


def test_a_survey_goes_to_all_fields_first_and_then_to_what_it_saw_there():
    stage = Stage()
    sees = Sees(stage, {1: (-20.0, 0.0), 2: (20.0, 1.0)})
    loop, *_ = loop_of({}, stage, sees, survey=3, fields=tiles(2, 1, 40.0))
    # What is beside the frame is told only when it is asked for.
    sees.in_view = lambda n: sees.beside or abs(sees.tracks[n]["stage_nm"]["x"] - stage.at[0]) < 5
    went = []
    stage.fail = lambda name, id, args: (
        went.append((name, args)) if name in ("move_stage", "acquire") else None
    )
    report = loop.run(timeout=0)
    assert (report.fields, report.done, dict(report.failed)) == (2, 2, {})
    assert went[:4] == [
        ("move_stage", (-20.0, 0.0)), ("acquire", (3,)), ("move_stage", (20.0, 0.0)), ("acquire", (3,)),
    ]  # fmt: skip
    assert [args for name, args in went[4:] if name == "move_stage"] == [(-20.0, 0.0), (20.0, 1.0)]


def test_tiles_go_there_and_back():
    assert list(tiles(2, 2, 10.0, (5.0, 0.0))) == [(0, -5), (10, -5), (10, 5), (0, 5)]


@pytest.mark.parametrize(("unseen", "failed"), [(3, {}), (30, {"microscope": 1})])
def test_what_is_followed_may_be_out_of_sight_for_a_few_frames(unseen, failed):
    loop, stage, sees = loop_of({1: (10.0, 20.0)}, act=acts.follow(8))
    looks = iter(range(1, 1000))

    def hops(name, id, args):
        if name == "acquire":
            number = next(looks)
            sees.in_view = lambda _: not 4 <= number < 4 + unseen
            sees.put(1, 10.0 + 0.3 * (number > 4), 20.0 + 0.01 * number)

    stage.fail = hops
    assert loop.run(steps=1).failed == failed
    if not failed:
        assert abs(stage.at[0] + stage.shift[0] - 10.3) < 0.05


def test_what_hops_in_the_last_frame_is_brought_back_before_the_act_ends():
    loop, stage, sees = loop_of({1: (10.0, 20.0)}, act=acts.follow(3))
    looks = iter(range(1, 1000))
    stage.fail = lambda name, id, args: (
        sees.put(1, 10.3, 20.0) if name == "acquire" and next(looks) == 4 else None
    )
    assert loop.run(steps=1).failed == {}
    assert stage.at[0] + stage.shift[0] == pytest.approx(10.3)


def test_an_exposure_is_made_once_and_its_dose_is_told():
    loop, stage, sees = loop_of({1: (10.0, 20.0)}, act=acts.expose(0.5))
    loop.run(steps=1)
    assert [args for name, args in stage.done.values() if name == "expose"] == [(10.0, 20.0, 0.5)]
    assert sees.annotated[0]["dose_e_per_a2"] == 5.0


@pytest.mark.parametrize(
    "n_steps", [300, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_no_act_without_an_intent_none_twice_and_none_outside_the_limits(n_steps):
    rng = random.Random(16)
    stage, journal = Stage(limit_nm=50.0), Journal()
    sees = Sees(stage, {})
    now, made = [0.0], []

    def watch(name, id, args):
        act, number = id.rsplit(".", 1)
        assert act in journal.open
        assert len(journal.actions[act]) == int(number) + 1
        assert sees.phase == "live"
        assert sees.age_s <= 5
        if name == "move_stage":
            assert max(map(abs, args)) <= 40
            made.append(journal.open[act]["target"])
        if rng.random() < 0.05:
            raise rng.choice([ControlTimeoutError, ControlRefusedError])("by chance")

    def act(do, target):
        # By stage alone, so that every act is one move; far away now and then.
        place = target.track.stage_nm
        far = 30.0 if rng.random() < 0.05 else 0.0
        do.move_stage(place.x + far, place.y)
        do.acquire(1)

    stage.fail = watch
    gate = Gate(box_nm=(-40.0, -40.0, 40.0, 40.0), acts_per_minute=1e9)
    loop, _, _ = loop_of(
        {}, stage, sees, gate=gate, journal=journal, act=act, verify_nm=None, clock=lambda: now[0]
    )
    for step in range(1, n_steps + 1):
        now[0] += rng.uniform(0, 5)
        # Duplicates, moved, of another model, gone, and back again.
        for _ in range(2):
            number = rng.randrange(max(0, step - 40), step + 5)
            sees.put(
                number,
                rng.uniform(-70, 70),
                rng.uniform(-70, 70),
                confidence=rng.uniform(0.7, 1.0),
                name=rng.choice(["V_S", "V_S", "Fe_W"]),
                version=rng.choice([0, 1, 1, 2]),
            )
        for number in [n for n in sees.tracks if n < step - 60 or rng.random() < 0.01]:
            del sees.tracks[number]
        sees.phase = rng.choice(["live", "live", "live", "stalled", "learning"])
        sees.age_s = rng.choice([0.1, 0.1, 9.0])
        sees.down = rng.choice([0, 0, 0, 0, 1])
        if rng.random() < 0.05:
            sees.leased.clear()
            sees.annotated = sees.annotated[-5:]  # the service forgets: the journal does not
        loop.step()
    assert len(made) > n_steps / 30
    assert len(set(made)) == len(made)


class Scene:
    """A loop with one target, of which a single thing is otherwise than it should be."""

    def __init__(self):
        self.now, self.hidden, self.answer, self.fault = 0.0, False, True, None
        self.gate = Gate(approve=lambda _: self.answer)
        self.loop, self.stage, self.sees = loop_of(
            {1: (10.0, 20.0)}, gate=self.gate, clock=lambda: self.now, verify_nm=None,
            act=lambda do, target: do.move_stage(target.track.stage_nm.x, target.track.stage_nm.y),
        )  # fmt: skip
        state = self.stage.state

        def faulty():
            if self.fault is not None:
                raise self.fault
            return state()

        self.stage.state = faulty

    def change(self, **fields):
        self.sees.tracks[1] |= fields

    def hide(self, on):
        # Only the list of what is in view: the target itself is leased already.
        self.sees.in_view = (lambda number: False) if on else (lambda number: True)


def set_of(thing, name, bad, good):
    return lambda scene, on: setattr(getattr(scene, thing) if thing else scene, name, bad if on else good)


def used_up(scene, on):
    if on:
        scene.gate.acts_per_minute = 1
        scene.gate.acted(scene.now)
    else:
        scene.now += 60


# Of each check that waits: what makes it wait, and what ends that.
WAITS = {
    "stale": set_of("sees", "phase", "stalled", "live"),
    "stale, by age": set_of("sees", "age_s", 60.0, 0.1),
    "not live": set_of("sees", "phase", "learning", "live"),
    "not live, paused": set_of("sees", "phase", "paused", "live"),
    "lag": set_of("sees", "latency_ms", {"p50": 9000.0}, {"p50": 20.0}),
    "rate": used_up,
    "approval": set_of("", "answer", None, True),
    "not in view": lambda scene, on: scene.hide(on),
    "stopped": set_of("stage", "stopped", True, False),
    "microscope": set_of("", "fault", ControlTimeoutError("late"), None),
    "service": set_of("sees", "down", 1, 0),
}


@pytest.mark.parametrize("reason", WAITS)
def test_what_waits_keeps_its_target_and_then_lets_it_through(reason):
    scene = Scene()
    scene.sees.phase = "learning"
    assert scene.loop.step().reason == "not live"
    leased, scene.sees.phase = dict(scene.sees.leased), "live"
    assert leased
    WAITS[reason](scene, True)
    for _ in range(3):
        step = scene.loop.step()
        assert (step.outcome, step.reason) == ("waits", reason.partition(",")[0])
        WAITS[reason](scene, True) if reason == "service" else None
    assert (scene.stage.done, scene.sees.leased, scene.sees.annotated) == ({}, leased, [])
    WAITS[reason](scene, False)
    step = scene.loop.step()
    assert (step.outcome, step.target.id) == ("done", "log/1")
    assert scene.stage.moves == [(10.0, 20.0)]


def out_of_sight(scene):
    scene.hide(True)
    scene.now += 31


REFUSES = {
    "too old": out_of_sight,
    "confidence": lambda scene: scene.change(confidence=0.51),
    "edge": lambda scene: scene.change(edge_distance_nm=0.1),
    "no position": lambda scene: scene.change(stage_nm=None),
    "out of reach": lambda scene: scene.change(stage_nm={"x": 500.0, "y": 0.0}),
    "out of the box": lambda scene: setattr(scene.gate, "box_nm", (-5.0, -5.0, 5.0, 5.0)),
    "model": lambda scene: scene.change(class_name="Fe_W"),
    "model, role": lambda scene: scene.change(role="host"),
    "model, learnt anew": lambda scene: setattr(scene.sees, "model_version", 0),
    "budget": lambda scene: setattr(scene.gate, "max_acts", 0),
    "approval": lambda scene: setattr(scene, "answer", False),
}


@pytest.mark.parametrize("reason", REFUSES)
def test_what_is_refused_is_not_done_and_the_service_hears_why(reason):
    scene = Scene()
    scene.sees.phase = "learning"
    assert scene.loop.step().reason == "not live"
    scene.sees.phase = "live"
    REFUSES[reason](scene)
    step = scene.loop.step()
    assert (step.outcome, step.reason) == ("refused", reason.partition(",")[0])
    assert scene.stage.done == {}
    assert scene.sees.annotated[0]["detail"].startswith(step.reason)
    if step.reason in ("too old", "model", "confidence", "edge"):
        # As it was when it was chosen it is not there any more: it may be chosen anew.
        assert (scene.sees.outcomes, scene.sees.leased) == ({"log/1": "released"}, {})
    else:
        assert scene.sees.outcomes == {"log/1": "refused"}
        assert scene.loop.step() is None
