"""`analyse --resume` after any end: what is there then is what would have been there without an interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import read_frames
from latticewatch.offline import ResultWriter, run_file
from latticewatch.offline._checkpoint import CHECKPOINT

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _specimen import Detector, crystal, frames

N_FRAMES, LEARNT = 66, 5
BLANK, GONE = (30,), range(52, 62)
BORN = 24
TIMEOUT = 300
# The command, with a checkpoint after each frame or, as it is, now and then; it gets a signal when a frame is written,
# or, where that is negative, when a checkpoint of so many frames is.
CHILD = """
import os, signal, sys
from latticewatch.offline import ResultWriter, _checkpoint
name, frame, every_s = sys.argv.pop(1), int(sys.argv.pop(1)), float(sys.argv.pop(1))
_checkpoint.EVERY_S, _checkpoint.SHARE = every_s, 1e9
add = ResultWriter.add
def added(self, result):
    add(self, result)
    if result.number == frame:
        os.kill(os.getpid(), getattr(signal, name))
ResultWriter.add = added
keep = ResultWriter.keep
def kept(self, run):
    keep(self, run)
    self._settled()
    if run.frames == -frame:
        os.kill(os.getpid(), getattr(signal, name))
ResultWriter.keep = kept
from latticewatch.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def movie(tmp_path_factory) -> Path:
    """Vacancies that come one after another, a kind that is born, a blanked frame, and a while without the lattice."""
    rng = np.random.default_rng(5)
    crystal = honeycomb(15.0)
    frames = []
    for t in range(N_FRAMES):
        view = np.random.default_rng(7)
        heavy = 0.0 if t < BORN else 0.03
        scene = render(
            crystal,
            view,
            shape=(150, 160),
            shift=(0.03 * t, 0.3 * np.sin(t / 7)),
            counts=None,
            defects=(("vacancy", 1, 0.02 + 0.001 * t, 0.22), ("heavy", 0, heavy, 1.6)),
        )
        frames.append(rng.poisson(60 * scene.clean))
        if t in BLANK or t in GONE:
            frames[-1] = rng.poisson(9, scene.clean.shape)
    path = tmp_path_factory.mktemp("movie") / "movie.npz"
    np.savez(path, frames=np.array(frames, np.uint16), frame_s=0.2, pixel_size_nm=0.02)
    return path


def analyse(
    *arguments: object, sent: str = "SIGKILL", at: int = 999, every_s: float = 0.0, learnt: int = LEARNT
):
    """The command in a process of its own, which gets a signal at a frame."""
    given = ["analyse", *map(str, arguments)]
    command = [sys.executable, "-c", CHILD, sent, str(at), str(every_s), *given]
    environment = os.environ | {"COLUMNS": "200", "LATTICEWATCH_ANALYSIS__LEARNING_FRAMES": str(learnt)}
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)


def content(out: Path) -> dict[str, object]:
    """What is in a folder of results, but for times."""
    found: dict[str, object] = {}
    for path in sorted(out.iterdir()):
        found[path.name] = path.read_bytes()
        if path.name == "events.jsonl":
            found[path.name] = re.sub(r'"t_(received|emitted)": [0-9.]+', "", path.read_text())
        if path.name == "summary.json":
            found[path.name] = json.loads(path.read_text()) | {"seconds": None}
    return found


def without_figures(found: dict[str, object]) -> dict[str, object]:
    """The same as it is without figures."""
    tables: dict[str, object] = {name: part for name, part in found.items() if not name.endswith(".png")}
    numbers: Any = tables["summary.json"]
    tables["summary.json"] = numbers | {"options": numbers["options"] | {"figures": False}}
    return tables


@pytest.fixture(scope="module")
def whole(movie, tmp_path_factory) -> dict[str, object]:
    """Without an interruption, and with figures."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = analyse(movie, "--out", out, every_s=1e9)
    assert done.returncode == 0, done.stderr
    found = content(out)
    assert "overlay.png" in found
    # what is interrupted below has to be there
    told = str(found["events.jsonl"])
    for kind in ("defect.appeared", "class.discovered", "stream.paused", "stream.resumed"):
        assert kind in told
    return found


@pytest.mark.parametrize(
    ("sent", "at"),
    [("SIGKILL", 12), ("SIGKILL", BORN + 9), ("SIGKILL", GONE[3]), ("SIGINT", 20), ("SIGINT", GONE[0] - 3)],
)
def test_an_analysis_that_was_interrupted_goes_on_as_if_it_had_not_been(movie, whole, tmp_path, sent, at):
    out = tmp_path / "out"
    ended = analyse(movie, "--out", out, "--no-figures", sent=sent, at=at)
    assert ended.returncode == (-signal.SIGKILL if sent == "SIGKILL" else 130)
    assert (out / "sites.csv").exists() == (sent == "SIGINT")
    again = analyse(movie, "--out", out, "--no-figures", "--resume")
    assert again.returncode == 0, again.stderr
    done = re.search(r"movie.npz: goes on after (\d+) of 66 frames", again.stdout)
    assert done, again.stdout
    assert LEARNT <= int(done[1]) < N_FRAMES
    assert content(out) == without_figures(whole)


# killed and interrupted in the middle of learning, and killed while the results that the end of it brings are written
@pytest.mark.parametrize(("sent", "at"), [("SIGKILL", -3), ("SIGINT", -1), ("SIGKILL", 1)])
def test_one_that_was_interrupted_while_it_learnt_goes_on_too(movie, whole, tmp_path, sent, at):
    out = tmp_path / "out"
    ended = analyse(movie, "--out", out, "--no-figures", sent=sent, at=at)
    assert ended.returncode == (-signal.SIGKILL if sent == "SIGKILL" else 130)
    again = analyse(movie, "--out", out, "--no-figures", "--resume")
    assert again.returncode == 0, again.stderr
    done = re.search(r"movie.npz: goes on after (\d+) of 66 frames", again.stdout)
    assert done, again.stdout
    assert max(-at, 1) <= int(done[1]) < LEARNT
    assert content(out) == without_figures(whole)


def test_it_may_be_interrupted_again_and_again(movie, whole, tmp_path):
    out = tmp_path / "out"
    for at, sent in ((15, "SIGKILL"), (20, "SIGINT"), (57, "SIGKILL")):
        analyse(movie, "--out", out, "--resume", sent=sent, at=at)
    assert "goes on after" in analyse(movie, "--out", out, "--resume").stdout
    assert content(out) == whole
    assert "done before" in analyse(movie, "--out", out, "--resume").stdout
    assert not list(out.glob(".*"))


# At any frame, in this process


class Interrupted(ResultWriter):
    """Keeps where the analysis is after each frame, and a copy of all that is on disk then."""

    copies: Path

    @property
    def due(self) -> bool:
        return True

    def keep(self, run) -> None:
        super().keep(run)
        self._settled()
        # as after a kill: some lines more than the checkpoint knows
        left = self.copies / f"{run.frames:03d}" / self._draft.name
        shutil.copytree(self._draft, left)
        with (left / "sites.csv").open("a") as table:
            table.write("99,half a li")


def run(
    path: Path, out: Path, kind: type[ResultWriter] = ResultWriter, *, learnt: int = LEARNT, **options
) -> ResultWriter:
    series = read_frames(path)
    settings = AnalysisSettings(threads=2, learning_frames=learnt)
    with kind(series, out, {"how": 1}, **options) as writer:
        image = run_file(series, settings, writer.add, writer.event, keeper=writer, start=writer.start)
        writer.finish(image, 1.0, figures=False)
    return writer


@pytest.fixture(scope="module")
def left(movie, tmp_path_factory) -> Path:
    """What each frame of an analysis left behind; and, in ``whole``, its end."""
    folder = tmp_path_factory.mktemp("left")
    Interrupted.copies = folder / "at"
    run(movie, folder / "whole", Interrupted)
    return folder


@pytest.fixture
def killed(left, tmp_path) -> Path:
    """As one of them was left."""
    return shutil.copytree(left / "at" / "020", tmp_path / "out")


def test_every_frame_can_be_gone_on_from(left, movie, tmp_path):
    numbers = sorted(int(path.name) for path in (left / "at").iterdir())
    assert numbers == list(range(1, N_FRAMES))
    for number in [1, LEARNT - 1, LEARNT, *numbers[:: len(numbers) // 8][1:]]:
        out = shutil.copytree(left / "at" / f"{number:03d}", tmp_path / str(number))
        writer = run(movie, out, resume=True)
        assert writer.start is not None
        assert writer.start.frames == number
        assert content(out) == content(left / "whole")


def without_lattice() -> np.ndarray:
    """Noise: the learning phase never ends."""
    return np.random.default_rng(3).poisson(20, (24, 96, 90))


def weak() -> np.ndarray:
    """Frames that show their lattice together only."""
    rng = np.random.default_rng([1, 9])
    perfect = crystal("WSe2", 0.02, 200, rng)
    shots = frames(iter([(perfect.image(), 0.04 * 110)] * 10), 200, Detector(), rng, (5.3, -7.7))
    return np.stack([image for image, _ in shots])


def two_lattices() -> np.ndarray:
    """One lattice, and another one after a while."""
    rng = np.random.default_rng(8)
    shown = [
        render(honeycomb(constant), rng, shape=(130, 140), counts=60.0, defects=(("vacancy", 1, 0.03, 0.22),))
        for constant in [15.0] * 10 + [19.0] * 22
    ]
    return np.stack([scene.image for scene in shown])


@pytest.mark.parametrize(
    ("make", "learnt", "fewest", "most", "told"),
    [
        (without_lattice, 5, 0, 0, ""),
        (weak, 4, 4, 9, "model.updated"),
        (two_lattices, 4, 20, 31, "another lattice is in view"),
    ],
)
def test_every_frame_of_a_learning_phase_can_be_gone_on_from(
    make, learnt, fewest, most, told, tmp_path, monkeypatch
):
    # results are written during a learning phase, too
    monkeypatch.setattr("latticewatch.offline._run.MAX_PENDING", 7)
    images, path = make(), tmp_path / "some.npz"
    np.savez(path, frames=images)
    Interrupted.copies = tmp_path / "at"
    whole = run(path, tmp_path / "whole", Interrupted, learnt=learnt)
    assert fewest <= whole.stack.with_lattice <= most
    assert told in (tmp_path / "whole" / "events.jsonl").read_text()
    for number in range(1, len(images)):
        out = tmp_path / "at" / f"{number:03d}"
        writer = run(path, out, learnt=learnt, resume=True)
        assert writer.start is not None
        assert writer.start.frames == number
        assert content(out) == content(tmp_path / "whole")


def refused(movie, out, left) -> str:
    writer = run(movie, out, resume=True)
    assert writer.start is None
    assert content(out) == content(left / "whole")
    return str(writer.refused)


def the_draft(out: Path) -> Path:
    (draft,) = out.glob(".writing-*")
    return draft


def test_a_damaged_checkpoint_is_refused(killed, movie, left):
    path = the_draft(killed) / CHECKPOINT
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksum" in refused(movie, killed, left)


def test_a_table_that_was_changed_is_refused(killed, movie, left):
    path = the_draft(killed) / "sites.csv"
    text = path.read_text().replace("host", "Host", 1)
    path.write_text(text)
    assert "sites.csv" in refused(movie, killed, left)


def test_another_version_is_refused(killed, movie, left, monkeypatch):
    monkeypatch.setattr("latticewatch.offline._checkpoint.FORMAT", 0)
    assert "version" in refused(movie, killed, left)


def test_other_options_are_refused(killed, movie):
    with ResultWriter(read_frames(movie), killed, {"how": 2}, resume=True) as writer:
        assert writer.start is None
        assert "options" in str(writer.refused)


def test_another_file_is_refused(killed, movie, tmp_path):
    with np.load(movie) as held:
        np.savez(tmp_path / "movie.npz", **held)
    with ResultWriter(read_frames(tmp_path / "movie.npz"), killed, {"how": 1}, resume=True) as writer:
        assert writer.start is None
        assert "file" in str(writer.refused)


def test_without_being_asked_it_begins_anew_and_clears_away_what_was_left(killed, movie, left):
    assert run(movie, killed).start is None
    assert content(killed) == content(left / "whole")


def test_what_another_process_is_at_is_left_alone(killed, movie):
    with ResultWriter(read_frames(movie), killed, {"how": 1}, resume=True) as first:
        assert first.start is not None
        with ResultWriter(read_frames(movie), killed, {"how": 1}, resume=True) as second:
            assert second.start is None
        run(movie, killed)
        assert the_draft(killed) == first._draft


def test_a_disk_that_is_full_for_a_checkpoint_costs_the_checkpoint_only(movie, left, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    Interrupted.copies = tmp_path / "at"
    monkeypatch.setattr(Interrupted, "keep", ResultWriter.keep)
    assert run(movie, tmp_path / "out", Interrupted).start is None
    assert content(tmp_path / "out") == content(left / "whole")
