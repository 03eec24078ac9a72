"""The demo as a person starts it: one command, real sockets, processes that end; and its comparison with the truth."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from latticewatch.cli import main
from latticewatch.cli._demo_summary import not_found, percent
from latticewatch.cli._demo_truth import compare, matched
from latticewatch.pipeline import ROLES, CatalogueEntry, FrameResult, SiteTable
from latticewatch_simulator import FrameTruth, Microscope, SimulatorSettings

PATIENCE_S = 120
SMALL = ("--size", "384", "--control", "tcp://127.0.0.1:0")
# A line of the summary: kind, number in the frame, found, recall, what they are called.
ROW = re.compile(r"^(\S+)\s+(\d+)\s+(\d+)\s+(?:[\d.]+ %|–)\s+(.*\S)\s*$", flags=re.MULTILINE)

ENDING_S = 5.0


@dataclass
class Demo:
    """A demo that runs in a session of its own, so that whatever it leaves behind can be seen."""

    process: subprocess.Popen[str]

    def finish(self) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err

    def read_until(self, text: str) -> str:
        """Standard output up to the line that contains a text."""
        assert self.process.stdout is not None
        read = ""
        for line in self.process.stdout:
            read += line
            if text in line:
                return read
        raise AssertionError(f"{text!r} was never said:\n{read}")

    def left_behind(self) -> list[int]:
        """Processes of its session that stay alive.

        Python's own resource tracker ends a moment after the process that it belongs to.
        """
        return [pid for pid in self._alive() if not ended(pid, ENDING_S)]

    def _alive(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            state, session = fields[0], int(fields[3])
            if session == self.process.pid and state != "Z":
                found.append(int(entry.name))
        return found


def ended(pid: int, within_s: float) -> bool:
    """Whether a process, which need not be a child, ends within some time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


@contextmanager
def demo(*options: str, http: str = "127.0.0.1:0") -> Iterator[Demo]:
    command = [sys.executable, "-u", "-m", "latticewatch", "demo", *SMALL, "--http", http, *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    alarm = threading.Timer(PATIENCE_S, process.kill)
    alarm.start()
    try:
        yield Demo(process)
    finally:
        alarm.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def numbers(pattern: str, text: str) -> list[int]:
    """The numbers that a pattern finds, exactly once."""
    (found,) = re.findall(pattern, text)
    return [int(one) for one in found]


def test_the_demo_ends_by_itself_having_found_every_kind_of_defect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        with demo("--frames", "12", "--size", "512", "--fps", "5", http=http) as running:
            status, out, err = running.finish()
            assert running.left_behind() == []
    assert status == 0, out + err
    assert err == ""
    assert f"{http} is in use" in out
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+\n", out)
    assert re.search(r"steer the stage: latticewatch loop --service http://\S+ --control tcp://127\S+\n", out)

    kinds = {name: (int(n), int(found)) for name, n, found, _ in ROW.findall(out)}
    assert set(kinds) == {"Fe", "Te+S", "S1", "V_S2"}
    assert all(0 < found <= n for n, found in kinds.values()), out
    found, n, reported, right = numbers(
        r"defects: found (\d+) of (\d+) .*; reported (\d+), of which right (\d+) ", out
    )
    assert (n, found) == tuple(map(sum, zip(*kinds.values(), strict=True)))
    assert found >= 0.9 * n
    assert right >= 0.9 * reported
    found, n, reported, right = numbers(
        r"sites: found (\d+) of (\d+) .*; reported (\d+), of which right (\d+) ", out
    )
    assert min(found / n, right / reported) > 0.99

    received, analysed, dropped = numbers(
        r"received (\d+) frames = analysed (\d+) \+ dropped (\d+).*; lost before they arrived: \d+\n", out
    )
    assert analysed >= 12
    assert received == analysed + dropped


def test_the_frames_stop_with_ctrl_c_and_the_summary_is_still_given(tmp_path: Path) -> None:
    with demo("--fps", "20", "--data-dir", str(tmp_path)) as running:
        running.read_until("live; frames: received")
        # To the whole group, as a terminal sends it.
        os.killpg(running.process.pid, signal.SIGINT)
        status, out, err = running.finish()
        assert running.left_behind() == []
    assert "Traceback" not in err
    assert "beside the simulator's truth" in out
    assert "received " in out
    assert status in (0, 1), "1 where a rare kind was not found in so small a frame"
    assert (tmp_path / "events.sqlite").is_file()


def test_the_simulator_ends_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    with demo("--data-dir", str(tmp_path)) as running:
        running.read_until("waiting; frames: received")
        simulator = [pid for pid in running.left_behind() if pid != running.process.pid]
        assert simulator
        watched = [os.pidfd_open(pid) for pid in simulator]
        running.process.kill()
        for pidfd in watched:
            assert select.select([pidfd], [], [], 20)[0], "the simulator goes on without its demo"
            os.close(pidfd)


@pytest.mark.parametrize(
    ("option", "value"), [("--material", "cheese"), ("--size", "10"), ("--http", "here"), ("--dose", "-1")]
)
def test_an_option_that_cannot_work_gives_one_line_before_anything_starts(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", option, value])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("latticewatch: ")
    assert value in line


# The comparison


@pytest.fixture(scope="module")
def truth() -> FrameTruth:
    microscope = Microscope(SimulatorSettings.checked(shape=(384, 384), drift_nm_per_frame=(0.05, -0.03)))
    return [microscope.acquire() for _ in range(4)][-1].truth


def entry(class_id: int, name: str, role: str) -> CatalogueEntry:
    average = np.zeros((21, 21), np.float32)
    return CatalogueEntry(class_id, name, role, 0, None, 1, 0.5, None, average)  # type: ignore[arg-type]


CLASSES = (entry(0, "host", "host"), entry(1, "odd", "defect"), entry(2, "strange", "defect"))


def told(truth: FrameTruth, class_id: np.ndarray) -> FrameResult:
    """A result with a site at every column of the frame, of the classes given."""
    inside = truth.inside()
    class_id = class_id[inside].astype(np.int16)
    role = np.where(class_id == 0, ROLES.index("host"), ROLES.index("defect")).astype(np.uint8)
    n = len(class_id)
    sites = SiteTable(
        (truth.positions_px()[inside] + 0.4).astype(np.float32),
        truth.sublattice[inside],
        class_id,
        role,
        np.ones(n, np.float32),
        np.arange(n, dtype=np.int32),
    )
    return FrameResult(
        truth.series_id,
        truth.number,
        truth.number,
        truth.shape,
        0.0,
        None,
        0.012,
        None,
        np.zeros((1, 1), np.uint8),
        sites,
        True,
        26.3,
        (0.0, 0.0),
        1,
        (5, 5),
        CLASSES,
    )


def test_what_is_found_is_counted_where_the_drift_has_taken_it(truth: FrameTruth) -> None:
    assert max(map(abs, truth.shift_px)) > 10, (
        "more than half a spacing: without the drift nothing would match"
    )
    result = told(truth, truth.is_defect().astype(int))
    comparison = compare(result, CLASSES, truth)
    compared = truth.inside(21)
    assert (comparison.columns, comparison.columns_found) == (compared.sum(),) * 2
    assert comparison.reported == comparison.reported_right == (compared & truth.is_defect()).sum()
    assert {kind.species: kind.n for kind in comparison.kinds} == {
        name: (compared & (truth.species == truth.names.index(name))).sum()
        for name in ("Fe", "Te+S", "S1", "V_S2")
    }
    for kind in comparison.kinds:
        assert kind.found == kind.n
        assert kind.classes == ({"odd": kind.n} if kind.n else {})
    assert not_found(comparison) is None


def test_a_kind_that_is_missed_altogether_is_named_with_what_it_was_taken_for(truth: FrameTruth) -> None:
    iron = truth.species == truth.names.index("Fe")
    class_id = np.where(iron, 0, np.where(truth.is_defect(), 2, 0))
    comparison = compare(told(truth, class_id), CLASSES, truth)
    (missed,) = comparison.missed
    assert (missed.species, missed.found, missed.taken_for) == ("Fe", 0, {"host": missed.n})
    assert not_found(comparison) == f"not found at all: Fe ({missed.n} in the frame, taken for host (100 %))"


def test_a_defect_where_there_is_none_costs_precision_and_no_recall(truth: FrameTruth) -> None:
    class_id = truth.is_defect().astype(int)
    host = np.flatnonzero(truth.inside(30) & ~truth.is_defect())[0]
    class_id[host] = 1
    comparison = compare(told(truth, class_id), CLASSES, truth)
    assert comparison.reported == comparison.reported_right + 1
    assert comparison.missed == ()


def test_sites_that_are_missing_or_too_many_are_counted(truth: FrameTruth) -> None:
    result = told(truth, truth.is_defect().astype(int))
    kept = result.sites.position[1:]
    centre = int(np.argmin(np.linalg.norm(kept - 192, axis=1)))
    position = np.concatenate([np.delete(kept, centre, axis=0), kept[centre : centre + 1] + 9.0])
    sites = replace(
        result.sites,
        position=position,
        class_id=result.sites.class_id[1:],
        role=result.sites.role[1:],
    )
    comparison = compare(replace(result, sites=sites), CLASSES, truth)
    assert comparison.columns_found == comparison.columns - 1
    assert comparison.sites_right == comparison.sites - 1


def test_each_site_belongs_to_one_column_at_most() -> None:
    columns = np.array([[0.0, 0.0], [0.0, 10.0], [0.0, 20.0]])
    sites = np.array([[0.0, 4.9], [0.0, 20.5], [0.0, 24.0], [0.0, 90.0]])
    assert matched(columns, sites).tolist() == [0, -1, 1]
    assert matched(columns, np.zeros((0, 2))).tolist() == [-1, -1, -1]


def test_a_hundred_percent_means_all() -> None:
    assert percent(9999, 10000) == "99.9 %"
    assert percent(5, 5) == "100 %"
    assert percent(0, 0) == "–"
