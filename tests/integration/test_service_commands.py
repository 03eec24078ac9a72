"""The commands against a running service: events, classes, loop and serve itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from _fake_learner import VACANCY, grid_image
from _running import running
from latticewatch.cli import main
from latticewatch.messages import Event
from latticewatch_client import Client, Loop, ZmqMicroscope
from latticewatch_simulator import Actions, ControlServer, SimulatorSettings
from latticewatch_simulator import Microscope as Simulated


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with running(tmp_path_factory.mktemp("commands")) as service:
        service.sender.send(grid_image(vacancies=[(3, 4), (5, 1)]), n=4)
        service.analysed(4)
        yield service


@pytest.fixture
def command(live, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--service", live.url])
        return ended.value.code or 0, capsys.readouterr()

    return run


def test_events_are_lines_with_units(command):
    status, printed = command("events", "--types", "defect.appeared")
    first, second = printed.out.splitlines()
    assert status == 0
    assert "vacancy" in first
    assert "row 56.0 col 72.0 px" in first
    assert "x 1.440 y 1.120 nm" in first
    assert "stage 100.17, -50.15 nm" in first
    assert "97%" in second


def test_events_as_json_are_what_the_service_keeps(command, live):
    _, printed = command("events", "--json", "--after", "1")
    events = [Event.model_validate_json(line) for line in printed.out.splitlines()]
    assert [event.seq for event in events] == list(range(2, live.engine.log.last_seq + 1))


def test_a_cursor_that_is_gone_is_said_and_the_oldest_events_follow(command, live):
    status, printed = command("events", "--after", "99999")
    assert status == 0
    assert "events were missed" in printed.err
    assert len(printed.out.splitlines()) == live.engine.log.last_seq


@pytest.mark.parametrize("arguments", [("events", "--types", "bad"), ("events", "--after", "x")])
def test_bad_input_is_one_line_and_status_2(command, arguments):
    status, printed = command(*arguments)
    assert status == 2
    assert printed.err.startswith("latticewatch: ")
    assert printed.err.count("\n") == 1


def test_classes_are_a_table_with_roles(command):
    status, printed = command("classes")
    assert status == 0
    (row,) = [line for line in printed.out.splitlines() if "vacancy" in line]
    assert row.split()[:4] == [str(VACANCY), "2", "1", "9.5"]
    assert "defect" in row
    _, printed = command("classes", "--json")
    assert {one["name"] for one in json.loads(printed.out)} == {"host A", "vacancy"}


def test_a_service_that_is_not_there_is_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["classes", "--service", "http://127.0.0.1:1"])
    assert ended.value.code == 2
    assert "latticewatch serve" in capsys.readouterr().err


@pytest.fixture
def control():
    settings = SimulatorSettings(settle_s=0.0, shape=(64, 64), dose_e_per_a2=1e3)
    actions = Actions(Simulated(settings), status=dict, truth=dict)
    with ControlServer("tcp://127.0.0.1:0", actions=actions) as server:
        yield server


def test_the_loop_moves_the_stage_to_a_new_defect_and_tells_the_log(tmp_path, control):
    def go(do, target):
        do.move_stage(target.track.stage_nm.x, target.track.stage_nm.y)

    with running(tmp_path) as live, Client(live.url) as client, ZmqMicroscope(control.endpoint) as microscope:
        live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
        live.analysed(3)
        (defect,) = client.events(types=["defect.appeared"], follow=False)
        report = Loop(client, microscope, act=go, verify_nm=None).run(steps=1)
        at = microscope.state()
        leased, annotated = client.events(types=["target.*"], follow=False)
    assert (report.done, dict(report.refused)) == (1, {})
    assert (at.x_nm, at.y_nm) == pytest.approx((defect.data["stage_nm"]["x"], defect.data["stage_nm"]["y"]))
    assert at.blanked
    assert leased.data["target"] == annotated.data["target"]
    assert leased.data["target"].startswith(f"{defect.stream}/")
    assert annotated.data["outcome"] == "done"


def test_the_loop_waits_while_the_stream_is_stalled(tmp_path, control):
    with (
        running(tmp_path, ingest={"stall_after_s": 0.1}) as live,
        Client(live.url) as client,
        ZmqMicroscope(control.endpoint) as microscope,
    ):
        live.sender.send(grid_image(vacancies=[(3, 4)]), n=3)
        assert next(client.events(types=["stream.stalled"]))
        loop = Loop(client, microscope)
        # the target is kept, nothing moves, and why is told
        assert loop.step().reason == "stale"
        assert loop.step().reason == "stale"
        assert dict(loop.report.waited) == {"stale": 1}
        assert microscope.state().x_nm == 0.0


def test_serve_answers_while_it_warms_up_and_ends_with_the_accounting(tmp_path):
    arguments = ["--http", "127.0.0.1:0", "--pull", "--bind-source", "--source", "tcp://127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "latticewatch", "serve", *arguments, "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break
        assert said[0].startswith("frames from  tcp://127.0.0.1:")
        assert said[0].endswith("(PULL, bound, latest)")
        with Client(said[1].split()[1]) as client:
            # The analysis is imported and compiled while the service answers.
            phases = [client.status().phase]
            while client.status().phase == "starting":
                assert process.poll() is None
                phases.append(client.status().phase)
            assert phases[0] == "starting"
            assert client.status().phase == "waiting"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "analysis ready" in err
    assert out.strip() == "received 0 frames = analysed 0 + dropped 0; lost before they arrived: 0"


def test_serve_refuses_a_setting_that_cannot_work(capsys, tmp_path):
    for arguments in (
        ["--http", "0.0.0.0:1"],
        ["--patch-size", "big"],
        ["--config", str(tmp_path / "none.toml")],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--data-dir", str(tmp_path / "data"), *arguments])
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "data").exists()
