"""The disk is full, or the log is not what it was: nothing is lost or told twice, and the service says so."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from _fake_learner import HOST, FakeLearner, fake_analyse, grid_image
from _given import Given
from _running import running, settings_of, until
from latticewatch.errors import ConfigurationError
from latticewatch.execute import Engine, EngineBusyError
from latticewatch.execute._publisher import Publisher
from latticewatch.ingest import Frame, SeriesStarted
from latticewatch.messages import ROLES, ClassPatch, StreamEventData
from latticewatch.record import EventLog

SOURCE = "/latticewatch/test"


def open_log(folder: Path) -> EventLog:
    return EventLog(folder / "events.sqlite", SOURCE)


def fill_disk(log: EventLog) -> None:
    """SQLite may not grow the file any more: the same error as from a disk that is full."""
    log._writer.execute("CREATE TABLE IF NOT EXISTS ballast (x)")
    (pages,) = log._writer.execute("PRAGMA page_count").fetchone()
    log._writer.execute(f"PRAGMA max_page_count={pages}")
    # what is free inside the file goes too
    with contextlib.suppress(sqlite3.OperationalError):
        while True:
            log._writer.execute("INSERT INTO ballast VALUES (zeroblob(400))")


def free_disk(log: EventLog) -> None:
    log._writer.execute("PRAGMA max_page_count=1000000")


def frames(images) -> list[Frame]:
    return [Frame(image, "a", number=i, ordinal=i) for i, image in enumerate(images)]


def big_drafts(n: int, start: int = 0):
    return [("series.started", StreamEventData(series_id="s" * 40_000, frame=start + i)) for i in range(n)]


def test_events_of_a_full_disk_are_written_later_in_order_and_once(tmp_path):
    with open_log(tmp_path) as log:
        publisher = Publisher(log)
        assert publisher.publish(publisher.newest, big_drafts(2))
        fill_disk(log)
        shown = publisher.state
        for k in range(10):
            assert not publisher.publish(publisher.newest, big_drafts(2, 2 + 2 * k))
        assert "full" in (publisher.trouble or "")
        assert publisher.state is shown
        free_disk(log)
        assert publisher.flush(at_once=True)
        assert [event.data["frame"] for event in log.read().events] == list(range(22))
        assert (publisher.trouble, publisher.state.as_of_seq) == (None, 22)


def test_events_of_frames_in_a_hurry_are_written_together_with_the_newest_state(tmp_path, monkeypatch):
    monkeypatch.setattr("latticewatch.execute._publisher.HOLD_S", 1e6)
    with open_log(tmp_path) as log:
        publisher, kept = Publisher(log), []
        publisher.keep_with(lambda: {"tracks": b"%d" % len(kept)}, kept.append)
        assert publisher.publish(publisher.newest, big_drafts(1))
        shown = publisher.state
        for k in range(1, 4):
            assert not publisher.publish(publisher.newest, big_drafts(1, k), hurried=True)
        assert (publisher.state, log.last_seq, publisher.waiting) == (shown, 1, 3)
        assert publisher.publish(publisher.newest, big_drafts(1, 4))
        assert [event.data["frame"] for event in log.read().events] == list(range(5))
        assert (publisher.state.as_of_seq, publisher.waiting) == (5, 0)
        assert kept == [{"tracks": b"0"}, {"tracks": b"1"}]
        assert log.kept("tracks") == b"1"


def test_what_does_not_fit_the_bound_is_told_as_a_gap(tmp_path):
    with open_log(tmp_path) as log:
        publisher = Publisher(log, max_waiting=5)
        publisher.publish(publisher.newest, big_drafts(1))
        fill_disk(log)
        publisher.publish(publisher.newest, big_drafts(8, 1))
        free_disk(log)
        assert publisher.flush(at_once=True)
        told = [(event.type, event.data.get("frame"), event.data.get("n")) for event in log.read().events]
        assert told[0] == ("series.started", 0, None)
        assert told[1] == ("log.gap", None, 3)
        assert [frame for _, frame, _ in told[2:]] == [4, 5, 6, 7, 8]


def test_a_run_over_a_full_disk_ends_with_state_and_log_that_agree(tmp_path):
    # vacancies come and go; some of both while nothing can be written
    pictures = [grid_image(vacancies=[(3, k) for k in range(1 + n % 5)]) for n in range(40)]
    log = open_log(tmp_path)
    source = Given([SeriesStarted("a", "announced"), *frames(pictures[:10])])
    engine = Engine(
        settings_of(tmp_path), learner=FakeLearner(), analyse=fake_analyse, receiver=source, log=log
    )
    engine.start()
    until(engine, lambda: len(source.finished) == 10)
    fill_disk(log)
    source.items = [SeriesStarted("x" * 90_000, "announced"), *frames(pictures)[10:]]
    until(engine, lambda: len(source.finished) == 40)
    assert engine.trouble is not None
    assert engine.status().degraded is not None
    with pytest.raises(EngineBusyError, match="nothing was changed"):
        engine.edit(HOST, ClassPatch(name="renamed while the disk was full"))
    free_disk(log)
    until(engine, lambda: engine.trouble is None)
    until(engine, lambda: engine.state.result is not None and engine.state.result.number == 39)
    assert [reason for _, reason in source.finished] == ["done"] * 40
    alive: dict[int, tuple[float, float]] = {}
    for event in log.read().events:
        if event.type == "defect.appeared":
            assert event.data["track"] not in alive
            alive[event.data["track"]] = (event.data["px"]["row"], event.data["px"]["col"])
        elif event.type == "defect.disappeared":
            del alive[event.data["track"]]
    sites = engine.state.result.sites
    shown = sites.position[sites.role == ROLES.index("defect")]
    assert sorted(alive.values()) == sorted((float(row), float(col)) for row, col in shown)
    assert {entry.name for entry in engine.state.catalogue}.isdisjoint({"renamed while the disk was full"})
    engine.close()
    log.close()


def test_a_data_directory_that_is_deleted_is_noticed(tmp_path):
    folder = tmp_path / "data"
    with open_log(folder) as log:
        publisher = Publisher(log)
        shutil.rmtree(folder)
        assert not publisher.publish(publisher.newest, big_drafts(1))
        assert "deleted or replaced" in (publisher.trouble or "")


def test_a_service_whose_data_directory_is_deleted_is_not_ready(tmp_path):
    with running(tmp_path / "data") as live:
        live.sender.send(grid_image(), n=3)
        live.analysed(3)
        assert live.http.get("/readyz").status_code == 200
        shutil.rmtree(tmp_path / "data")
        live.sender.send(grid_image(vacancies=[(5, 5)]))
        live.until(lambda: live.engine.trouble is not None)
        assert live.http.get("/readyz").status_code == 503
        assert "deleted or replaced" in live.http.get("/v1/status").json()["degraded"]


def test_an_emptied_log_and_an_older_copy_are_refused(tmp_path):
    path = tmp_path / "events.sqlite"
    with open_log(tmp_path) as log:
        log.append(big_drafts(2))
    older = path.read_bytes()
    with open_log(tmp_path) as log:
        log.append(big_drafts(2))
    newer = path.read_bytes()
    path.write_bytes(older)
    with pytest.raises(ConfigurationError, match="ends at event 2, though events up to 4"):
        open_log(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="empty, though events up to 4"):
        open_log(tmp_path)
    path.write_bytes(newer)
    with open_log(tmp_path) as log:
        assert log.last_seq == 4


def test_a_log_without_its_identifier_is_refused_in_one_line(tmp_path):
    with open_log(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "events.sqlite") as database:
        database.execute("DELETE FROM stream")
    with pytest.raises(ConfigurationError, match="damaged"):
        open_log(tmp_path)


def test_a_log_of_the_first_version_is_read_and_grows(tmp_path):
    with open_log(tmp_path) as log:
        log.append(big_drafts(1))
    with sqlite3.connect(tmp_path / "events.sqlite") as database:
        database.execute("DROP TABLE kept")
        database.execute("PRAGMA user_version=1")
    with open_log(tmp_path) as log:
        log.append(big_drafts(1), {"tracks": b"x"})
        assert (log.last_seq, log.kept("tracks"), log.kept("nothing")) == (2, b"x", None)
        assert (log.keeps("tracks"), log.keeps("nothing")) == (True, False)


def test_what_a_restart_tells_is_told_once_though_time_goes_by_meanwhile(tmp_path):
    class SlowLog(EventLog):
        """While it writes, the thread that folds looks whether there is something to do."""

        def append(self, drafts, kept=None):
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
            return super().append(drafts, kept)

    with open_log(tmp_path) as log:
        log.append([], {"series": b'["a"]'})
        # the learner comes later, from a thread of its own
        engine = Engine(settings_of(tmp_path), receiver=Given([]), log=log, warm=True)
        log.__class__ = SlowLog
        log.meanwhile = lambda: engine._folding._fold_one(())
        engine._adopt(FakeLearner(), fake_analyse)
        told = [(event.type, event.data) for event in log.read().events]
        assert [(kind, data["reason"]) for kind, data in told] == [("series.ended", "service restarted")]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of two megabytes, where the machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "latticewatch-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip(
            "a file system cannot be mounted here; the tests above let SQLite say that the disk is full"
        )
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(0)
def test_a_live_run_over_a_disk_that_is_really_full(small_disk, request):
    """``--faults N``: for N seconds, instead of two."""
    seconds = request.config.getoption("--faults") or 2
    ready: list[int] = []
    with running(small_disk / "data") as live:

        def send(row: int) -> None:
            """A frame with another set of vacancies, so that there is always something to tell."""
            live.sender.send(grid_image(vacancies=[(row % 7, k) for k in range(1 + row % 5)]))

        for row in range(3):
            send(row)
        live.analysed(3)
        ready.append(live.http.get("/readyz").status_code)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        n, until_s = 3, time.monotonic() + seconds
        while time.monotonic() < until_s:
            send(n)
            n += 1
            live.analysed(n)
            # a second name for the same class cannot be stored either
            if n == 20:
                live.until(lambda: live.engine.trouble is not None)
                assert live.http.patch("/v1/classes/0", json={"name": "not kept"}).status_code == 503
        live.until(lambda: live.engine.trouble is not None)
        ready.append(live.http.get("/readyz").status_code)
        assert live.http.get("/v1/status").json()["degraded"]
        ballast.unlink()
        live.until(lambda: live.engine.trouble is None)
        live.until(lambda: live.engine.state.result.number == n - 1)
        ready.append(live.http.get("/readyz").status_code)
        listed = {place(one) for one in live.http.get("/v1/tracks").json()["tracks"]}
        names = [one["name"] for one in live.http.get("/v1/classes").json()]
        events = [event for after in range(0, live.engine.log.last_seq, 1000) for event in page(live, after)]
        counts = live.engine.receiver.counts()
    request.config.get_terminal_writer().line(
        f"\n{seconds} s full: {n} frames, {len(events)} events, ready {ready}"
    )
    assert ready == [200, 503, 200]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    appeared = [event["data"] for event in events if event["type"] == "defect.appeared"]
    assert len({one["track"] for one in appeared}) == len(appeared)
    # what is shown was told: the stand-in tells no disappearance
    assert listed
    assert listed <= {place(one) for one in appeared}
    assert "not kept" not in names
    assert not [event for event in events if event["type"] in ("log.gap", "class.renamed")]
    assert counts.analysed == counts.received == n


def page(live, after: int) -> list[dict]:
    return live.http.get("/v1/events", params={"after": after, "limit": 1000}).json()["events"]


def place(one: dict) -> tuple[float, float]:
    return one["px"]["row"], one["px"]["col"]
