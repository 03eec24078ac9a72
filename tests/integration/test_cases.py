"""Inputs that were once read wrongly, and what is right of each; they are no part of this project: `shared_data`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rsciio", reason="the io extra is not installed")
from latticewatch.errors import FileError
from latticewatch.ingest import read_frames

# Frames, rows and columns, pixel size [nm], seconds a frame, and words of the notes.
READ = {
    "03-emd_units_n_m.emd": (1, (224, 224), 0.0125, None, ()),
    "05-emd_time_first.emd": (16, (96, 96), 0.0125, 0.4, ()),
    "07-velox_haadf_with_eds.emd": (1, (224, 224), 0.0125, None, ()),
    "09-velox_movie_0.4s.emd": (12, (96, 96), 0.0125, 0.4, ()),
    "11-imagej_two_detectors_CYX.tif": (1, (160, 160), 0.0125, None, ("channel 0", "--channel")),
    "11b-ome_two_detectors.ome.tif": (1, (160, 160), 0.0125, None, ("channel 0", "--channel")),
    "11c-imagej_TCYX.tif": (6, (96, 96), 0.0125, None, ("channel 0", "--channel")),
    "13-ome_physical_size.ome.tif": (1, (160, 160), 0.0125, None, ()),
    "15-thumbnail_first.tif": (1, (224, 224), None, None, ("56 x 56", "--image")),
    "19-nan_border_after_align.npy": (1, (240, 240), None, None, ("not taken for specimen",)),
    "23-lzw.tif": (1, (256, 256), None, None, ()),
}
# The folder of this one holds nothing but its label: it is refused, and says why.
HOLLOW = "17-folder_store.zspy"


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> Path:
    if not (shared_data / "cases").is_dir():
        pytest.skip(f"no cases in {shared_data}")
    return shared_data / "cases"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_it_was_meant(cases: Path, name: str) -> None:
    frames, shape, pixel_nm, frame_s, words = READ[name]
    series = read_frames(cases / name)
    assert (len(series), series.shape) == (frames, shape)
    assert series.frame(frames - 1).shape == shape
    assert series.pixel_size_nm == (None if pixel_nm is None else pytest.approx(pixel_nm))
    assert series.frame_s == (None if frame_s is None else pytest.approx(frame_s))
    said = " ".join(series.notes)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("name", "word"), [("01-velox_reciprocal.emd", "a diffraction pattern"), (HOLLOW, "without an array")]
)
def test_what_holds_no_image_is_refused_by_name(cases: Path, name: str, word: str) -> None:
    with pytest.raises(FileError, match=word) as refused:
        read_frames(cases / name)
    assert str(refused.value).startswith(str(cases / name))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_input_gives_what_is_right(cases: Path) -> None:
    """``tools/cases.py`` beside the data analyses each of them, and scores what has a known truth."""
    command = [sys.executable, str(cases.parents[1] / "tools" / "cases.py")]
    done = subprocess.run(
        [*command, "--command", f"{sys.executable} -m latticewatch"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    short = [line for line in done.stdout.splitlines() if line.startswith("SHORT")]
    assert done.stdout.count("\nok ") > 20, done.stderr
    assert all(HOLLOW in line for line in short), short
