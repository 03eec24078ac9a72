"""``latticewatch analyse``: the files it reads, the tables it leaves, what it finds, and how it refuses."""

from __future__ import annotations

import csv
import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile
from scipy.spatial import KDTree

from _alike import alike
from latticewatch.cli import main
from latticewatch.messages import DefectEventData
from latticewatch_simulator import Microscope, SimulatedFrame, SimulatorSettings

PIXEL_NM = 0.02
WS2_LATTICE_CONSTANT_NM = 0.3153
COLUMNS = (
    "frame,track,row_px,col_px,sublattice,class_id,class_name,role,confidence,"
    "kind,displaced_row_px,displaced_col_px,displaced_sigma_px,region"
)
TABLES = {"sites.csv", "classes.json", "summary.json", "events.jsonl"}
TIMEOUT = 120


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "sites.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def classes_of(out: Path) -> list[dict]:
    return json.loads((out / "classes.json").read_text(encoding="utf-8"))


def events_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def positions(rows: list[dict[str, str]], role: str | None = None) -> np.ndarray:
    chosen = [(float(r["row_px"]), float(r["col_px"])) for r in rows if role in (None, r["role"])]
    return np.array(chosen).reshape(-1, 2)


@pytest.fixture
def analyse(capsys: pytest.CaptureFixture[str]):
    """Runs the command in this process; exit status, standard output and standard error."""

    def run(*arguments: object, figures: bool = False) -> tuple[int, str, str]:
        options = [] if figures else ["--no-figures"]
        with pytest.raises(SystemExit) as ended:
            main(["analyse", *map(str, arguments), *options])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def frames() -> list[SimulatedFrame]:
    settings = SimulatorSettings.checked(
        shape=(320, 300),
        pixel_size_nm=PIXEL_NM,
        births_per_frame=0,
        dose_e_per_a2=2e5,
        drift_nm_per_frame=(0.02, -0.01),
        seed=3,
    )
    microscope = Microscope(settings)
    return [microscope.acquire() for _ in range(4)]


@pytest.fixture(scope="module")
def image(frames: list[SimulatedFrame]) -> np.ndarray:
    return frames[0].image


def subprocess_of(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "latticewatch", "analyse", *map(str, arguments)]
    # widths of the terminal must not matter, nor who runs this
    environment = os.environ | {"COLUMNS": "60"}
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)


# What it leaves behind


@pytest.fixture(scope="module")
def whole(
    image: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess]:
    """The command as a person starts it, with figures."""
    folder = tmp_path_factory.mktemp("whole")
    np.savez(folder / "one.npz", image=image, pixel_size_nm=PIXEL_NM)
    return folder / "out", subprocess_of(folder / "one.npz", "--out", folder / "out")


def test_a_file_becomes_tables_and_figures(whole):
    out, done = whole
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("one.npz: 1 x 320 x 300 px, ")
    assert "lattice constant 0.3" in done.stdout
    assert f"files in {out}" in done.stdout
    figures = {"overlay.png", "classes.png", "embedding.png"}
    assert {path.name for path in out.iterdir()} == TABLES | figures
    for name in figures:
        assert (out / name).read_bytes().startswith(b"\x89PNG\r\n")


def test_the_table_has_the_columns_that_are_documented(whole):
    out, _ = whole
    lines = (out / "sites.csv").read_bytes().split(b"\r\n")
    assert lines[0].decode() == COLUMNS
    assert lines[-1] == b""
    rows = rows_of(out)
    assert len(rows) == len(lines) - 2 == summary_of(out)["sites"]
    known = {str(entry["class_id"]): entry for entry in classes_of(out)}
    for row in rows:
        assert row["frame"] == "0"
        assert row["role"] in ("host", "defect", "neighbour", "unknown")
        assert 0 <= float(row["confidence"]) <= 1
        assert 0 <= float(row["row_px"]) < 320
        assert 0 <= float(row["col_px"]) < 300
        if row["class_id"] != "-1":
            assert row["class_name"] == known[row["class_id"]]["name"]
            assert row["role"] == known[row["class_id"]]["role"]
            assert row["sublattice"] == str(known[row["class_id"]]["sublattice"])
    tracks = [row["track"] for row in rows if row["track"] != "-1"]
    assert len(set(tracks)) == len(tracks) > 0.95 * len(rows)


def test_every_defect_of_the_specimen_is_in_the_table_and_nothing_else(whole, frames):
    out, _ = whole
    truth, margin = frames[0].truth, 14
    every = truth.positions_px()
    found = positions(rows_of(out), "defect")
    wanted = every[truth.inside(margin) & truth.is_defect()]
    assert len(wanted) > 20
    missed = KDTree(found).query(wanted)[0] > 2.0
    assert missed.mean() < 0.05
    inner = found[((found >= margin) & (found <= np.array(truth.shape) - 1 - margin)).all(1)]
    assert KDTree(every[truth.is_defect()]).query(inner)[0].max() < 2.0
    # one of a kind is no class of its own, but it is no host either
    unknown = positions(rows_of(out), "unknown")
    if missed.any():
        assert KDTree(unknown).query(wanted[missed])[0].max() < 2.0
    # vacancies have no peak, but a site
    sites = positions(rows_of(out))
    assert KDTree(sites).query(every[truth.inside(margin)])[0].max() < 2.0


def test_the_classes_have_what_a_person_needs_to_name_them(whole):
    out, _ = whole
    entries = classes_of(out)
    counted = Counter(int(row["class_id"]) for row in rows_of(out))
    size = summary_of(out)["patch_size_px"]
    assert {"host", "defect", "neighbour"} == {entry["role"] for entry in entries}
    hosts = {entry["class_id"] for entry in entries if entry["role"] == "host"}
    for entry in entries:
        assert np.array(entry["average"]).shape == (size, size)
        assert entry["total"] == pytest.approx(counted[entry["class_id"]], abs=2)
        if entry["role"] == "defect":
            assert entry["host_class"] in hosts
            assert entry["separation_sigma"] > 3


def test_the_summary_agrees_with_the_table(whole):
    out, _ = whole
    told, rows = summary_of(out), rows_of(out)
    by_role = Counter(row["role"] for row in rows)
    assert told["sites_by_role"] == {
        role: by_role[role] for role in ("host", "defect", "neighbour", "unknown")
    }
    assert (told["file"], told["frames"], told["shape_px"]) == ("one.npz", 1, [320, 300])
    assert told["lattice_found"] is True
    assert told["frames_with_lattice"] == 1
    assert told["pixel_size_nm"] == PIXEL_NM
    assert told["lattice_constant_nm"] == pytest.approx(WS2_LATTICE_CONSTANT_NM, rel=0.01)
    assert told["lattice_constant_px"] * PIXEL_NM == pytest.approx(told["lattice_constant_nm"])
    assert told["defects_per_nm2"] == pytest.approx(by_role["defect"] / (320 * 300 * PIXEL_NM**2))
    assert told["classes"] == len(classes_of(out))
    assert told["events"] == len(events_of(out))


def test_the_events_are_those_of_the_live_service(whole):
    out, _ = whole
    events = events_of(out)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    appeared = [DefectEventData.model_validate(e["data"]) for e in events if e["type"] == "defect.appeared"]
    table = {row["track"]: row for row in rows_of(out)}
    assert len({data.track for data in appeared}) == len(appeared) > 20
    for data in appeared:
        row = table[str(data.track)]
        assert (row["role"], row["class_name"]) == ("defect", data.class_name)
        assert (data.px.row, data.px.col) == pytest.approx(
            (float(row["row_px"]), float(row["col_px"])), abs=0.5
        )


def test_the_same_seed_gives_the_same(whole, analyse, tmp_path):
    out, _ = whole
    assert analyse(out.parent / "one.npz", "--out", tmp_path / "again", "--seed", 0)[0] == 0
    # kernels round otherwise in the process that compiled them than in those that found them in the cache
    assert alike(classes_of(tmp_path / "again"), classes_of(out), rel_tol=1e-4, abs_tol=2e-5)
    exact = ("frame", "track", "sublattice", "class_id", "class_name", "role")
    rows, again = rows_of(out), rows_of(tmp_path / "again")
    assert [[row[key] for key in exact] for row in rows] == [[row[key] for key in exact] for row in again]
    np.testing.assert_allclose(positions(rows), positions(again), atol=2e-3)


# What it reads


def test_a_stack_with_drift_is_one_series(analyse, frames, tmp_path):
    np.save(tmp_path / "stack.npy", np.stack([frame.image for frame in frames]))
    status, said, err = analyse(tmp_path / "stack.npy", "--out", tmp_path / "out", "--pixel-size", PIXEL_NM)
    assert (status, err) == (0, "")
    assert said.startswith("stack.npy: 4 x 320 x 300 px")
    rows = rows_of(tmp_path / "out")
    by_frame = [[row for row in rows if row["frame"] == str(n)] for n in range(4)]
    assert all(by_frame)
    shift = [np.array(frame.truth.shift_px) for frame in frames]
    assert np.abs(shift[3] - shift[0]).max() > 2
    first, last = ({row["track"]: row for row in part if row["role"] == "defect"} for part in by_frame[::3])
    shared = set(first) & set(last) - {"-1"}
    assert len(shared) > 20
    for track in shared:
        (before,), (after,) = positions([first[track]]), positions([last[track]])
        assert before - after == pytest.approx(shift[3] - shift[0], abs=0.5)
    told = summary_of(tmp_path / "out")
    assert (told["frames"], told["frames_with_lattice"]) == (4, 4)
    appeared = [e for e in events_of(tmp_path / "out") if e["type"] == "defect.appeared"]
    assert len({e["data"]["track"] for e in appeared}) == len(appeared)
    # a defect that is not certain in the first frame is told a frame or two later
    assert sum(e["frame"] <= 2 for e in appeared) > 20
    assert not [e for e in events_of(tmp_path / "out") if e["type"] == "defect.reclassified"]


def test_the_classes_of_a_stack_whose_lattice_is_lost_are_kept(analyse, image, tmp_path):
    images = np.zeros((14, 240, 240), np.uint16)
    images[:5] = image[:240, :240]
    np.save(tmp_path / "stack.npy", images)
    # with fewer frames to learn from than there are, which the configuration says
    assert analyse(tmp_path / "stack.npy", "--out", tmp_path / "out")[0] == 0
    named = {row["class_id"] for row in rows_of(tmp_path / "out")} - {"-1"}
    assert len(named) > 3
    assert named <= {str(entry["class_id"]) for entry in classes_of(tmp_path / "out")}


def test_one_dark_frame_of_a_stack_is_told_and_survived(analyse, frames, tmp_path):
    images = np.stack([frame.image for frame in frames])
    images[1] = 0
    np.save(tmp_path / "stack.npy", images)
    assert analyse(tmp_path / "stack.npy", "--out", tmp_path / "out")[0] == 0
    told = summary_of(tmp_path / "out")
    assert (told["frames"], told["frames_with_lattice"], told["lattice_found"]) == (4, 3, True)
    assert {row["frame"] for row in rows_of(tmp_path / "out")} == {"0", "2", "3"}


def test_several_files_have_a_folder_each(analyse, image, tmp_path):
    (tmp_path / "b").mkdir()
    tifffile.imwrite(tmp_path / "a.tif", image)
    np.save(tmp_path / "b" / "a.npy", image[:240, :240])
    status, said, _ = analyse(tmp_path / "a.tif", tmp_path / "b" / "a.npy", "--out", tmp_path / "out")
    assert status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "a-2"}
    assert [summary_of(tmp_path / "out" / name)["file"] for name in ("a", "a-2")] == ["a.tif", "a.npy"]
    assert [summary_of(tmp_path / "out" / name)["shape_px"] for name in ("a", "a-2")] == [
        [320, 300],
        [240, 240],
    ]
    assert said.count("lattice constant") == 2
    # nobody said how large a pixel is
    told = summary_of(tmp_path / "out" / "a-2")
    assert told["lattice_constant_nm"] is told["pixel_size_nm"] is told["defects_per_nm2"] is None


def test_a_file_damaged_in_the_middle_costs_neither_its_first_frames_nor_the_other_files(
    analyse, image, tmp_path
):
    small = image[:160, :160].astype(np.float32)
    broken = np.stack([small, small, np.full_like(small, np.nan), small])
    np.save(tmp_path / "one.npy", broken)
    np.save(tmp_path / "two.npy", small)
    files = [tmp_path / "one.npy", tmp_path / "two.npy"]
    out = tmp_path / "out"
    status, _, err = analyse(*files, "--out", out)
    assert status == 2
    assert "one.npy: frame 2: no pixel has a finite value" in err.splitlines()[-1]
    ended = summary_of(out / "one")["ended_early"]
    assert (ended["frames"], ended["of"]) == (2, 4)
    assert "frame 2" in ended["reason"]
    assert {row["frame"] for row in rows_of(out / "one")} == {"0", "1"}
    assert summary_of(out / "two")["frames"] == 1
    # what is complete is left alone, what is not is done again
    np.save(files[0], np.stack([small, small]))
    before = (out / "two" / "summary.json").stat().st_mtime_ns
    status, said, _ = analyse(*files, "--out", out, "--resume")
    assert status == 0
    assert "two.npy: done before" in said
    assert (out / "two" / "summary.json").stat().st_mtime_ns == before
    assert "ended_early" not in summary_of(out / "one")
    # with other options, nothing is
    status, said, _ = analyse(*files, "--out", out, "--resume", "--pixel-size", 0.01)
    assert "done before" not in said


def test_the_pixel_size_can_be_said(analyse, image, tmp_path):
    np.savez(tmp_path / "a.npz", image=image[:240, :240], pixel_size_nm=0.5)
    assert analyse(tmp_path / "a.npz", "--out", tmp_path, "--pixel-size", PIXEL_NM)[0] == 0
    assert summary_of(tmp_path)["lattice_constant_nm"] == pytest.approx(WS2_LATTICE_CONSTANT_NM, rel=0.01)


def test_the_size_of_the_patches_can_be_said(analyse, image, tmp_path):
    np.save(tmp_path / "a.npy", image[:240, :240])
    assert analyse(tmp_path / "a.npy", "--out", tmp_path, "--patch-size", 35)[0] == 0
    assert summary_of(tmp_path)["patch_size_px"] == 35
    assert np.array(classes_of(tmp_path)[0]["average"]).shape == (35, 35)


def test_orientations_can_be_one_class(analyse, whole, tmp_path):
    out, _ = whole
    assert analyse(out.parent / "one.npz", "--out", tmp_path, "--invariant")[0] == 0
    apart = [entry["name"] for entry in classes_of(out) if entry["role"] == "neighbour"]
    together = [entry["name"] for entry in classes_of(tmp_path) if entry["role"] == "neighbour"]
    assert {name[:-2] for name in apart} == set(together)
    assert len(apart) > len(together) == len(set(together))


def test_results_of_before_are_replaced_and_other_files_stay(analyse, image, tmp_path):
    np.save(tmp_path / "a.npy", image[:240, :240])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sites.csv").write_text("old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert analyse(tmp_path / "a.npy", "--out", tmp_path / "out")[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES | {"notes.txt"}
    assert len(rows_of(tmp_path / "out")) > 100
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_missing_pixels_are_no_specimen_and_said(analyse, image, rng, tmp_path):
    gaps = image[:240, :240].astype(np.float32)
    gaps.ravel()[rng.choice(gaps.size, 100, replace=False)] = np.nan
    np.save(tmp_path / "a.npy", gaps)
    status, _, err = analyse(tmp_path / "a.npy", "--out", tmp_path)
    assert status == 0
    assert err.splitlines() == [
        f"warning: {tmp_path / 'a.npy'}: frame 0: 100 of 57600 pixels have no finite value; not taken for specimen"
    ]
    assert summary_of(tmp_path)["file_notes"]
    assert summary_of(tmp_path)["lattice_found"]


def test_patches_that_do_not_fit_into_the_image_are_said(analyse, image, tmp_path):
    np.save(tmp_path / "a.npy", image)
    status, said, err = analyse(tmp_path / "a.npy", "--out", tmp_path / "out", "--patch-size", 319)
    assert (status, err) == (0, "")
    assert "No patch of 319 px lies within 320 x 300 px" in said
    assert summary_of(tmp_path / "out")["lattice_found"] is False


# Where there is no lattice


@pytest.mark.parametrize("kind", ["constant", "noise", "gradient"])
def test_an_image_without_a_lattice_is_a_result_that_says_so(analyse, rng, tmp_path, kind):
    made = {
        "constant": lambda: np.full((200, 220), 7, np.uint16),
        "noise": lambda: rng.poisson(100, (200, 220)).astype(np.uint16),
        "gradient": lambda: np.add.outer(np.arange(200.0), np.arange(220.0)),
    }[kind]()
    np.save(tmp_path / "a.npy", made)
    status, said, err = analyse(tmp_path / "a.npy", "--out", tmp_path / "out", figures=True)
    assert (status, err) == (0, "")
    assert "no lattice found" in said
    told = summary_of(tmp_path / "out")
    assert (told["lattice_found"], told["classes"], told["lattice_constant_px"]) == (False, 0, None)
    (note,) = told["notes"]
    assert (note["code"], note["since_frame"], note["frames"]) == ("no-lattice", 0, 1)
    assert "no lattice found" in note["text"]
    assert note["remedy"] in said
    assert classes_of(tmp_path / "out") == []
    assert events_of(tmp_path / "out") == []
    assert len(rows_of(tmp_path / "out")) == told["sites"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES | {"overlay.png"}


# What it refuses


def text_as_dm4(folder: Path) -> Path:
    (folder / "a.dm4").write_text("These are the notes of the experiment, not its frames.\n" * 50)
    return folder / "a.dm4"


def colour_tiff(folder: Path) -> Path:
    colours = np.arange(6 * 40 * 50 * 3, dtype=np.uint8).reshape(6, 40, 50, 3)
    tifffile.imwrite(folder / "a.tif", colours, photometric="rgb")
    return folder / "a.tif"


def missing(folder: Path) -> Path:
    return folder / "a.npy"


def empty(folder: Path) -> Path:
    (folder / "a.npy").touch()
    return folder / "a.npy"


def a_folder(folder: Path) -> Path:
    (folder / "a").mkdir()
    return folder / "a"


def nothing_finite(folder: Path) -> Path:
    np.save(folder / "a.npy", np.full((64, 64), np.nan))
    return folder / "a.npy"


def tiny(folder: Path) -> Path:
    np.save(folder / "a.npy", np.ones((10, 10)))
    return folder / "a.npy"


def pickled(folder: Path) -> Path:
    np.save(folder / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    return folder / "a.npy"


def one_line_about(path: Path, result: tuple[int, str, str]) -> None:
    status, out, err = result
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("latticewatch: ")
    assert str(path) in line
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "bad", [text_as_dm4, colour_tiff, missing, empty, a_folder, nothing_finite, tiny, pickled]
)
def test_a_file_that_is_no_image_is_one_line_and_status_2(analyse, tmp_path, bad):
    path = bad(tmp_path)
    one_line_about(path, analyse(path, "--out", tmp_path / "out", figures=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_microscope_file_is_one_line_and_status_2(analyse, shared_data, tmp_path, share):
    whole = (shared_data / "real" / "TiWSe2_1028_2" / "1028_ADF1_2.dm4").read_bytes()
    path = tmp_path / "a.dm4"
    path.write_bytes(whole[: int(share * len(whole))])
    # the image of a dm4 file comes before the end: the last part may be nothing that is needed
    result = analyse(path, "--out", tmp_path / "out")
    one_line_about(path, result)
    assert not (tmp_path / "out").exists()


def test_a_bad_file_among_good_ones_costs_no_time(analyse, image, tmp_path):
    np.save(tmp_path / "good.npy", image)
    path = text_as_dm4(tmp_path)
    one_line_about(path, analyse(tmp_path / "good.npy", path, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_bad_frame_late_in_a_stack_keeps_those_before_it_and_says_why(analyse, image, tmp_path):
    images = np.stack([image[:240, :240]] * 3).astype(np.float32)
    images[2] = np.nan
    np.save(tmp_path / "a.npy", images)
    (tmp_path / "out").mkdir()
    status, _, err = analyse(tmp_path / "a.npy", "--out", tmp_path / "out")
    assert status == 2
    assert "a.npy: frame 2: no pixel has a finite value" in err.splitlines()[-1]
    assert summary_of(tmp_path / "out")["ended_early"]["frames"] == 2


def test_a_folder_that_cannot_be_made_is_one_line(analyse, image, tmp_path):
    np.save(tmp_path / "a.npy", image[:240, :240])
    (tmp_path / "out").write_text("a file")
    one_line_about(tmp_path / "out", analyse(tmp_path / "a.npy", "--out", tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--pixel-size", "-1"),
        ("--pixel-size", "nan"),
        ("--patch-size", "x"),
        ("--patch-size", "2"),
        ("--patch-size", "1025"),
    ],
)
def test_an_option_that_cannot_work_is_refused(analyse, image, tmp_path, option, value):
    np.save(tmp_path / "a.npy", image)
    status, out, err = analyse(tmp_path / "a.npy", "--out", tmp_path / "out", option, value)
    assert (status, out) == (2, "")
    assert value in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_the_process_itself_ends_with_status_2(tmp_path):
    path = text_as_dm4(tmp_path)
    done = subprocess_of(path, "--out", tmp_path / "out")
    one_line_about(path, (done.returncode, done.stdout, done.stderr))


# Experimental frames


CLEAN_FROM_PX = 110


@pytest.mark.parametrize("detector", [1, 2])
def test_vacancies_of_an_experimental_frame_agree_with_its_labels(analyse, shared_data, tmp_path, detector):
    folder = shared_data / "real" / "TiWSe2_1028_2"
    status, said, err = analyse(folder / f"1028_ADF{detector}_2.dm4", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "nm (" in said
    told = summary_of(tmp_path)
    assert 0.31 < told["lattice_constant_nm"] < 0.35
    assert told["seconds"] < 30

    points = np.load(folder / "1028_Ti2_pts_new.npy", allow_pickle=False)[:, ::-1].astype(float)
    labels = np.load(folder / "1028_Ti2_lbs_new.npy", allow_pickle=False)
    half = float(np.median(KDTree(points).query(points, k=2)[0][:, 1])) / 2
    sites, defects = positions(rows_of(tmp_path)), positions(rows_of(tmp_path), "defect")
    assert np.mean(KDTree(sites).query(points)[0] < half) > 0.95

    # contamination makes the left edge bright; beyond the outermost labels nobody looked
    vacancies = points[(labels == 1) & (points[:, 1] >= CLEAN_FROM_PX)]
    low, high = points.min(0) - half, points.max(0) + half
    low[1] = CLEAN_FROM_PX
    defects = defects[((defects >= low) & (defects <= high)).all(1)]
    recall = np.mean(KDTree(defects).query(vacancies)[0] <= half)
    precision = np.mean(KDTree(vacancies).query(defects)[0] <= half)
    assert recall >= 0.8
    assert precision >= 0.6


def test_a_denoised_frame_agrees_with_its_labels(analyse, shared_data, tmp_path):
    folder = shared_data / "real" / "MoSe2_80K"
    assert analyse(folder / "MoSe2_80K_small.npy", "--out", tmp_path)[0] == 0
    points = np.load(folder / "MoSe2_80K_small_pos_xy.npy", allow_pickle=False)[:, ::-1].astype(float)
    labels = np.load(folder / "MoSe2_80K_small_lbs.npy", allow_pickle=False)
    rows = rows_of(tmp_path)
    half = float(np.median(KDTree(points).query(points, k=2)[0][:, 1])) / 2
    distance, site = KDTree(positions(rows)).query(points)
    near = distance < half
    assert near.mean() > 0.85
    role = np.array([row["role"] for row in rows], object)[site]
    expected = np.array(["host", "host", "neighbour", "defect"], object)[labels]
    assert np.mean((role == expected)[near]) > 0.95
    assert (role == expected)[near & (labels == 3)].all()


def test_a_frame_with_two_stackings_is_analysed(analyse, shared_data, tmp_path):
    folder = shared_data / "real" / "WS2Te"
    assert analyse(folder / "WS2Te_Cut.npy", "--out", tmp_path)[0] == 0
    told = summary_of(tmp_path)
    assert told["lattice_found"]
    points = np.load(folder / "WS2Te_Cut_kp_xy.npy", allow_pickle=False)[:, ::-1].astype(float)
    spacing = float(np.median(KDTree(points).query(points, k=2)[0][:, 1]))
    assert told["lattice_constant_px"] == pytest.approx(np.sqrt(3) * spacing, rel=0.05)


# Simulated by multislice, where every column is known


def tool(shared_data: Path, name: str) -> ModuleType:
    path = shared_data.parent / "tools" / f"{name}.py"
    if not path.is_file():
        pytest.skip(f"no {path}: the tools that come with the simulated scenes")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("scene", ["ws2_1024_r0", "mose2_1024_r0"])
def test_defects_of_a_multislice_scene_are_found_without_a_label(analyse, shared_data, tmp_path, scene):
    degrade, score = tool(shared_data, "degrade"), tool(shared_data, "score")
    with np.load(shared_data / "truth" / f"{scene}.npz", allow_pickle=False) as file:
        truth = {name: file[name] for name in file.files}
    pixel = float(truth["pixel_size_nm"])
    electrons = truth["image"].astype(np.float32) * np.float32(truth["electrons_fraction"])
    ((frame, _),) = degrade.frames(electrons, pixel, 1e5)
    np.savez(tmp_path / "frame.npz", frames=frame[None], pixel_size_nm=pixel)
    assert analyse(tmp_path / "frame.npz", "--out", tmp_path / "out")[0] == 0
    got = score.score(rows_of(tmp_path / "out"), truth)
    assert got["sites"]["recall"] >= 0.99
    assert got["sites"]["precision"] >= 0.99
    assert got["defects"]["f1"] >= 0.9


# Long stacks


@pytest.fixture
def long_stack(image, tmp_path) -> Path:
    np.save(tmp_path / "long.npy", np.stack([np.roll(image[:200, :200], k % 3, axis=0) for k in range(400)]))
    return tmp_path / "long.npy"


def test_ctrl_c_keeps_the_frames_that_are_done(long_stack, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from latticewatch.cli import main; main()", "analyse", str(long_stack)]
    with subprocess.Popen(
        [*command, "--out", str(out), "--no-figures"], stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + TIMEOUT
        # results of the first frames are on disk: it is at work
        while not any(part.stat().st_size > 10_000 for part in out.glob(".writing-*/sites.csv")):
            assert run.poll() is None, run.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=TIMEOUT)
    assert run.returncode == 130
    numbers = summary_of(out)
    assert 0 < numbers["frames"] < 400
    assert numbers["ended_early"] == {"frames": numbers["frames"], "of": 400, "reason": "interrupted"}
    assert f"{numbers['frames']} of 400 frames" in said
    assert {int(row["frame"]) for row in rows_of(out)} == set(range(numbers["frames"]))
    assert not list(out.glob(".writing-*"))


def test_what_is_kept_of_a_frame_does_not_grow_with_it(image, tmp_path):
    from latticewatch.config import AnalysisSettings
    from latticewatch.ingest import read_frames
    from latticewatch.offline._run import run_file
    from latticewatch.offline._stack import Stack

    stack = Stack()
    seen = []

    def take(result):
        stack.add(result)
        seen.append((result.number, result.picture.size, weakref.ref(result.sites.position)))

    path = tmp_path / "a.npy"
    np.save(path, np.stack([image[:160, :160]] * 12))
    run_file(read_frames(path), AnalysisSettings(), take, lambda *_: None)
    assert [number for number, _, _ in seen] == list(range(12))
    assert not any(size for _, size, _ in seen)
    gc.collect()
    # the last result alone is still held
    assert [k for k, (_, _, held) in enumerate(seen) if held() is not None] == [11]
