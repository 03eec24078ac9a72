"""Recordings: written beside the live path, read back, replayed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", reason="the io extra is not installed")
from _fake_learner import grid_image
from _running import PATIENCE_S, Running, running
from latticewatch.cli import main
from latticewatch.config import RecordSettings
from latticewatch.errors import FileError
from latticewatch.ingest import Frame, Recording, Replayer, read_frames
from latticewatch.ingest.files import recording as layout
from latticewatch.messages import SeriesStart, encode_json
from latticewatch.offline import export_recording
from latticewatch.record import Recorder
from latticewatch.record._recorder import MAX_OPEN

RECORDED = {"recording_reserve_gib": 0.0}


def record_of(folder: Path, **changes) -> dict:
    return {"recording": folder} | RECORDED | changes


def scene(live: Running, n: int = 6) -> None:
    """Frames with numbers of their own, one series after another, the last with a vacancy more."""
    live.sender.message([encode_json(SeriesStart(series_id="series A", msg_number=0))])
    for k in range(n):
        vacancies = [(1, 1)] if k < n // 2 else [(1, 1), (3, 2)]
        live.sender.send(
            grid_image(vacancies=vacancies),
            timestamp=1.7e9 + 2.0 * k,
            detector="HAADF",
            scalars={"temperature_K": 300.0 + k},
        )
    live.analysed(n)
    live.sender.end()


def told(live: Running) -> list[tuple[str, dict]]:
    """Events without what a clock or an address says."""
    clock = {"t_received", "t_emitted", "address"}
    return [
        (event.type, {k: v for k, v in event.data.items() if k not in clock})
        for event in live.engine.log.read(0, 1000, None)[0]
    ]


def recorded_n(live: Running, n: int) -> bool:
    recording = live.engine.status().recording
    return recording is not None and recording.recorded >= n


def test_a_recording_holds_what_came_and_opens_with_its_calibration(tmp_path: Path) -> None:
    with running(tmp_path / "data", record=record_of(tmp_path / "rec")) as live:
        scene(live)
        live.until(lambda: recorded_n(live, 6))
        assert live.http.get("/v1/status").json()["recording"]["skipped"] == {}
        course = live.http.get("/v1/history?points=1").json()["scalars"]["temperature_K"]
        assert course["max"] == [305.0]
        assert course["min"][0] < course["mean"][0] < 305.0
        assert "latticewatch_frames_recorded_total 6.0" in live.http.get("/metrics").text
    recording = Recording(tmp_path / "rec")
    assert [one.header["frame"] for one in recording.frames] == list(range(6))
    assert recording.frames[4].header["scalars"] == {"temperature_K": 304.0}
    (part,) = recording.parts
    assert np.array_equal(part.image(5), grid_image(vacancies=[(1, 1), (3, 2)]))
    assert len(part.sites(5)) == part.results[5]["n_sites"] > 0
    assert next(event["type"] for event in part.events) == "series.started"
    assert part.about["ended"] == "service stopped"
    series = read_frames(part.path)
    assert (series.pixel_size_nm, series.frame_s, len(series)) == (0.02, 2.0, 6)


def test_hyperspys_own_reader_takes_shape_names_and_scales_from_it(tmp_path: Path) -> None:
    zspy = pytest.importorskip("rsciio.zspy")
    with running(tmp_path / "data", record=record_of(tmp_path / "rec")) as live:
        scene(live)
        live.until(lambda: recorded_n(live, 6))
    (part,) = Recording(tmp_path / "rec").parts
    (found,) = zspy.file_reader(str(part.path))
    assert found["data"].shape == (6, *grid_image().shape)
    axes = [(axis["name"], axis["scale"], axis["units"], axis["size"]) for axis in found["axes"]]
    rows, columns = grid_image().shape
    assert axes == [("time", 2.0, "s", 6), ("y", 0.02, "nm", rows), ("x", 0.02, "nm", columns)]


def test_a_recording_replayed_gives_the_same_events(tmp_path: Path) -> None:
    with running(tmp_path / "one", record=record_of(tmp_path / "rec")) as live:
        scene(live)
        live.until(lambda: any(kind == "series.ended" for kind, _ in told(live)))
        first = told(live)
    recording = Recording(tmp_path / "rec")
    with running(tmp_path / "two") as live:
        endpoint = live.engine.sources[0]
        replayer = Replayer([recording], bind="tcp://127.0.0.1:0", fps=1000, lossless=True)
        replayer._socket.connect(endpoint)
        with replayer:
            assert replayer.total == 6
            assert replayer.run() == 6
        live.until(lambda: any(kind == "series.ended" for kind, _ in told(live)))
        assert told(live) == first
    assert any(kind == "defect.appeared" for kind, _ in first)


def test_results_alone_are_recorded_where_that_is_asked_for(tmp_path: Path) -> None:
    with running(tmp_path / "d", record=record_of(tmp_path / "rec", recording_frames=False)) as live:
        scene(live)
        live.until(lambda: recorded_n(live, 6))
    (part,) = Recording(tmp_path / "rec").parts
    assert not part.has_frames
    assert len(part.sites(3)) == part.results[3]["n_sites"] > 0


def test_a_full_disk_is_told_and_stops_nothing(tmp_path: Path) -> None:
    full = record_of(tmp_path / "rec", recording_reserve_gib=1e9)
    with running(tmp_path / "data", record=full) as live:
        scene(live)
        live.until(lambda: sum(live.engine.status().recording.skipped.values()) == 6)
        status = live.http.get("/v1/status").json()
        assert status["frames"]["analysed"] == 6
        assert status["recording"]["skipped"] == {"disk": 6}
        assert "stay free" in status["recording"]["trouble"]
        assert "recording-paused" in [note["code"] for note in status["notes"]]


def frame(ordinal: int, shape: tuple[int, int] = (64, 64)) -> Frame:
    image = np.full(shape, ordinal, np.uint16)
    return Frame(image, series_id="s", number=ordinal, ordinal=ordinal, pixel_size_nm=0.01)


def recorded(recorder: Recorder, n: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while recorder.status.recorded + sum(recorder.status.skipped.values()) < n:
        assert time.monotonic() < deadline, recorder.status
        time.sleep(0.01)


def test_a_disk_that_fails_half_way_costs_the_frames_of_that_time_alone(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    recorder = Recorder(RecordSettings(recording=tmp_path, **RECORDED), {})
    recorder.add(frame(0), [])
    recorded(recorder, 1)
    (part,) = recorder._parts.values()
    good = part._frames_file._file
    with Path("/dev/full").open("wb", buffering=0) as bad:
        part._frames_file._file = bad
        recorder.add(frame(1), [])
        recorded(recorder, 2)
        assert recorder.status.trouble is not None
        part._frames_file._file = good
    recorder._try_at = 0.0
    recorder.add(frame(2), [])
    recorded(recorder, 3)
    recorder.close(PATIENCE_S)
    assert recorder.status.skipped == {"disk": 1}
    recording = Recording(tmp_path)
    assert [one.header["frame"] for one in recording.frames] == [0, 2]
    assert [int(recording.series(one.part).frame(one.row)[0, 0]) for one in recording.frames] == [0, 2]


def test_parts_are_rotated_and_the_oldest_deleted(tmp_path: Path) -> None:
    settings = RecordSettings(
        recording=tmp_path, recording_part_mib=1, recording_max_gib=3 / 1024, **RECORDED
    )
    recorder = Recorder(settings, {})
    rng = np.random.default_rng(0)
    for k in range(12):
        image = rng.integers(0, 65535, (512, 1024), np.uint16)
        recorder.add(Frame(image, number=k, ordinal=k), [])
        recorded(recorder, k + 1)
    recorder.close(PATIENCE_S)
    recording = Recording(tmp_path)
    numbers = [one.header["frame"] for one in recording.frames]
    assert numbers == list(range(12))[-len(numbers) :]
    assert 2 <= len(numbers) <= 5
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 5 * 2**20


def test_parts_that_ended_long_ago_are_deleted(tmp_path: Path) -> None:
    def run(number: int, **settings) -> None:
        recorder = Recorder(RecordSettings(recording=tmp_path, **RECORDED, **settings), {})
        recorder.add(frame(number, (64, 64)), [])
        recorder.close(PATIENCE_S)

    run(0)
    (old,) = Recording(tmp_path).parts
    long_ago = time.time() - 3 * 86400
    os.utime(old.path / layout.OURS / layout.ABOUT, (long_ago, long_ago))
    run(1, recording_max_days=4.0)
    assert [one.header["frame"] for one in Recording(tmp_path).frames] == [0, 1]
    run(2, recording_max_days=2.0)
    assert [one.header["frame"] for one in Recording(tmp_path).frames] == [1, 2]


def test_frames_of_kinds_that_take_turns_come_back_in_their_order(tmp_path: Path) -> None:
    recorder = Recorder(RecordSettings(recording=tmp_path, **RECORDED), {})
    for k in range(8):
        recorder.add(frame(k, (64, 64) if k % 2 else (48, 80)), [])
    recorder.close(PATIENCE_S)
    recording = Recording(tmp_path)
    assert len(recording.parts) == 2
    assert [one.header["frame"] for one in recording.frames] == list(range(8))


def test_what_is_recorded_can_be_asked_for_while_parts_begin_and_end(tmp_path: Path) -> None:
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    recorder = Recorder(RecordSettings(recording=tmp_path, **RECORDED), {})
    n = 3 * MAX_OPEN
    try:
        # of as many kinds, again and again, so that each frame begins a part or is the newest of another
        for k in range(n):
            size = 16 + 8 * (k % (MAX_OPEN + 1))
            recorder.add(
                Frame(np.full((size, size), k, np.uint16), number=k, ordinal=k, pixel_size_nm=0.01), []
            )
        while recorder.status.recorded < n:
            assert recorder.status.trouble is None
    finally:
        sys.setswitchinterval(switch)
        recorder.close(PATIENCE_S)
    assert recorder.status.recorded == len(Recording(tmp_path)) == n


CHILD = """
import sys
from pathlib import Path
import numpy as np
from latticewatch.config import RecordSettings
from latticewatch.ingest import Frame
from latticewatch.record import Recorder

recorder = Recorder(RecordSettings(recording=Path(sys.argv[1]), recording_reserve_gib=0), {})
k = 0
while True:
    if recorder.status.recorded == k:
        recorder.add(Frame(np.full((64, 64), k, np.uint16), number=k, ordinal=k, pixel_size_nm=0.01), [])
        k += 1
        if k == 20:
            print("ready", flush=True)
"""


def test_a_process_that_is_killed_leaves_a_recording_that_can_be_read(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        watchdog = threading.Timer(60, child.kill)
        watchdog.start()
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(PATIENCE_S)
        watchdog.cancel()
    recording = Recording(tmp_path)
    assert len(recording) >= 19
    for one in recording.frames:
        assert int(recording.series(one.part).frame(one.row)[0, 0]) == one.header["frame"]
    # the next run ends what was cut off, and writes into a part of its own
    recorder = Recorder(RecordSettings(recording=tmp_path, **RECORDED), {})
    recorder.add(frame(0), [])
    recorder.close(PATIENCE_S)
    assert [part.about["ended"] for part in Recording(tmp_path).parts] == ["cut off", "service stopped"]


def test_a_recording_is_exported_as_tables_that_agree_with_it(tmp_path: Path, capsys) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with running(tmp_path / "data", record=record_of(tmp_path / "rec")) as live:
        scene(live)
        live.until(lambda: recorded_n(live, 6))
    for kind in ("parquet", "csv"):
        with pytest.raises(SystemExit) as ended:
            main(["export", str(tmp_path / "rec"), "--out", str(tmp_path / "out"), "--format", kind])
        assert ended.value.code in (0, None)
    assert len(capsys.readouterr().out.splitlines()) == 6
    (part,) = Recording(tmp_path / "rec").parts
    sites = parquet.read_table(tmp_path / "out" / "sites.parquet").to_pydict()
    assert len(sites["frame"]) == sum(len(part.sites(row)) for row in range(6))
    assert np.allclose(sites["x_nm"], 0.02 * np.array(sites["col_px"]), rtol=1e-6)
    with (tmp_path / "out" / "sites.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == sites["frame"]
    events = parquet.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "defect.appeared" in {event["type"] for event in events}
    tracks = parquet.read_table(tmp_path / "out" / "tracks.parquet").to_pylist()
    followed = {track for track in sites["track"] if track >= 0}
    assert {track["track"] for track in tracks} == followed
    for track in tracks:
        assert track["n_frames"] == sites["track"].count(track["track"])


def test_a_series_exported_to_nexus_keeps_its_pixels_scale_and_times(tmp_path: Path) -> None:
    with running(tmp_path / "data", record=record_of(tmp_path / "rec")) as live:
        scene(live)
        live.until(lambda: recorded_n(live, 6))
    (path,) = export_recording(tmp_path / "rec", tmp_path / "out", "nexus")
    series = read_frames(path)
    assert (len(series), series.frame_s) == (6, pytest.approx(2.0))
    assert series.pixel_size_nm == pytest.approx(0.02)
    assert np.array_equal(series.frame(5), grid_image(vacancies=[(1, 1), (3, 2)]))


def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no recording; give the folder that --record named"):
        export_recording(tmp_path, tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists()
