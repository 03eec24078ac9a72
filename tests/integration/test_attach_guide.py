"""The guide to attaching, followed word for word with the real service; only host, ports and the scan are others.

``LATTICEWATCH_GUIDE_PYTHON`` names the Python of another environment to follow it in, such as one with the wheel
just installed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PYTHON = os.environ.get("LATTICEWATCH_GUIDE_PYTHON", sys.executable)
# At the first start in an environment the kernels are compiled.
PATIENCE_S = 240.0
SCAN = """
import time

import numpy as np

def acquire():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    turns = (0, np.pi / 3, 2 * np.pi / 3)
    waves = sum(np.cos(2 * np.pi * (x * np.cos(t) + y * np.sin(t)) / 17.3) for t in turns)
    while True:
        yield rng.poisson(np.clip(30 * (waves + 1.6), 0, None)).astype(np.uint16)
        time.sleep(0.1)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Desk:
    """An empty folder, the guide, and a lab in which every computer is this one."""

    def __init__(self, folder: Path, guide: str) -> None:
        self.folder = folder
        self._blocks = re.findall(r"^```(\w+)\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
        self.http = f"127.0.0.1:{free_port()}"
        # the computer at the microscope is one, whatever it is called
        own = free_port()
        self._ports = dict.fromkeys(("microscope-pc", "127.0.0.1", "0.0.0.0", "*"), own)
        self._ports |= {"titan-pc": free_port(), "nion-pc": free_port()}
        self._environment = os.environ | {
            "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
            "LATTICEWATCH_SERVE__HTTP": self.http,
        }

    def here(self, text: str) -> str:
        for host, port in self._ports.items():
            text = text.replace(f"{host}:5555", f"127.0.0.1:{port}")
        return text

    def block(self, kind: str, containing: str) -> str:
        """The example of the guide that holds this."""
        return self.here(next(text for one, text in self._blocks if one == kind and containing in text))

    @contextmanager
    def doing(self, command: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=self.folder,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    @contextmanager
    def publishing(self, containing: str, *changes: tuple[str, str]) -> Iterator[None]:
        code = self.block("python", containing)
        for before, after in changes:
            assert before in code
            code = code.replace(before, after)
        (self.folder / "publisher.py").write_text(SCAN + code, encoding="utf-8")
        with self.doing(f"exec {PYTHON} publisher.py"):
            yield

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def until(self, happened: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := happened()):
            assert time.monotonic() < deadline, self.get("/v1/status")
            time.sleep(0.2)
        return found

    def live(self, at: str = "") -> dict[str, Any]:
        """The status, once classes are known and some frames are analysed with them."""

        def status() -> dict[str, Any] | None:
            found = self.get(f"{at}/v1/status")
            return found if found and found["phase"] == "live" and found["frames"]["analysed"] > 8 else None

        return self.until(status)


@pytest.fixture
def desk(tmp_path: Path, project: Path) -> Desk:
    return Desk(tmp_path, (project / "docs/how-to/attach-a-microscope.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("containing", ["zmq.PUB", "scalars="])
def test_frames_of_the_publisher_that_is_shown_are_diagnosed_and_analysed(
    desk: Desk, containing: str
) -> None:
    with desk.publishing(containing):
        with desk.doing(desk.block("bash", "latticewatch doctor")) as doctor:
            said, _ = doctor.communicate(timeout=60)
        assert "256" in said
        assert "latticewatch serve" in said
        with desk.doing(desk.block("bash", "serve --source tcp://microscope-pc:5555\n")):
            status = desk.live()
    assert status["pixel_size_nm"] == pytest.approx(0.0106)
    assert status["lattice_constant_nm"] == pytest.approx(20 * 0.0106, rel=0.01)
    frames = status["frames"]
    assert frames["received"] == frames["analysed"] + sum(frames["dropped"].values()) + frames["in_flight"]


def test_a_pixel_size_in_the_configuration_is_that_of_frames_without_one(desk: Desk) -> None:
    (desk.folder / "latticewatch.toml").write_text(desk.block("toml", "pixel_size_nm"), encoding="utf-8")
    unsized = ', "pixel_size_nm": 0.0106'
    with desk.publishing("zmq.PUB", (unsized, "")), desk.doing(desk.block("bash", "--config")):
        assert desk.live()["pixel_size_nm"] == pytest.approx(0.0106)


def test_pushed_frames_are_all_analysed(desk: Desk) -> None:
    push = ('detector="HAADF"', 'detector="HAADF", push=True')
    with desk.publishing("scalars=", push), desk.doing(desk.block("bash", "--lossless")):
        frames = desk.live()["frames"]
    assert (frames["dropped"], frames["lost_upstream"]) == ({}, 0)


def test_two_microscopes_are_watched_by_one_service(desk: Desk) -> None:
    simulate = "exec latticewatch simulate --bind tcp://{} --control none --size 256 --fps 4 --specimen {}"
    titan, nion = (desk.here(f"{name}-pc:5555") for name in ("titan", "nion"))
    with (
        desk.doing(simulate.format(titan, "crystal")),
        desk.doing(simulate.format(nion, "alloy")),
        desk.doing(desk.block("bash", "titan=tcp")) as service,
    ):
        status = {name: desk.live(f"/{name}") for name in ("titan", "nion")}
        listed = desk.get("/v1/microscopes")
        with desk.doing(f"latticewatch events --service http://{desk.http}/titan --json") as events:
            told = [json.loads(line) for line in events.communicate(timeout=60)[0].splitlines()]
        os.killpg(service.pid, signal.SIGINT)
        assert service.stdout is not None
        ended = service.stdout.read()
    assert [one["name"] for one in listed] == ["titan", "nion"]
    for name, one in status.items():
        assert one["source"] == f"/latticewatch/{name}"
        assert f"{name}: received" in ended
        assert (desk.folder / "latticewatch-data" / name / "events.sqlite").is_file()
    assert told
    assert {one["source"] for one in told} == {"/latticewatch/titan"}
    assert {one["data"]["address"] for one in told} == {f"tcp://{titan}"}
