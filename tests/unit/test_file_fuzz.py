"""Damaged files: a right result or one clear line; never a traceback, never a calibration lost in silence.

``python -m pytest -m slow tests/unit/test_file_fuzz.py`` damages 5,000 files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from latticewatch.errors import FileError

formats = pytest.importorskip("test_file_formats", reason="the io extra is not installed")
from latticewatch.ingest import FileSeries, read_frames  # noqa: E402

STACK, FORMATS = formats.STACK, formats.FORMATS
DAMAGES = ("truncated", "flipped", "zeroed", "doubled", "renamed units")
# Units of the same length, so that the file stays whole: what is put in their place, and what must come of it.
SWAPS = ((b"nm", b"eV"), (b"nm", b"zz"), (b"nm", b"um"), (b"nanometer", b"nanofurlo"))


def damage(path: Path, how: str, rng: np.random.Generator) -> None:
    """Damage one file, or one file of a folder."""
    parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    part = parts[int(rng.integers(len(parts)))]
    if how == "renamed units":
        old, new = SWAPS[int(rng.integers(len(SWAPS)))]
        for each in parts:
            each.write_bytes(each.read_bytes().replace(old, new))
        return
    content = bytearray(part.read_bytes())
    if how == "truncated":
        content = content[: int(rng.integers(len(content) + 1))]
    elif how == "flipped":
        # most of what is fragile lies at the beginning
        reach = len(content) if rng.random() < 0.5 else min(len(content), 2048)
        for _ in range(int(rng.integers(1, 20))):
            content[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
    elif how == "zeroed":
        start = int(rng.integers(len(content)))
        length = int(rng.integers(1, 64))
        content[start : start + length] = bytes(len(content[start : start + length]))
    else:
        start = int(rng.integers(len(content)))
        content[start:start] = content[start : start + int(rng.integers(1, 512))]
    part.write_bytes(content)


def outcome(path: Path) -> FileSeries | str:
    try:
        series = read_frames(path)
        for number in range(len(series)):
            series.frame(number)
    except FileError as error:
        return str(error)
    return series


def check(folder: Path, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = folder / "whole"
    whole.mkdir()
    names = list(FORMATS)
    for k, name in enumerate(names):
        (whole / str(k)).mkdir()
        FORMATS[name].write(whole / str(k) / f"a{FORMATS[name].ending}", STACK)
    for trial in range(n):
        k = int(rng.integers(len(names)))
        how = DAMAGES[int(rng.integers(len(DAMAGES)))]
        case = folder / "case"
        shutil.copytree(whole / str(k), case)
        path = case / f"a{FORMATS[names[k]].ending}"
        damage(path, how, rng)
        said = outcome(path)
        where = (
            f"trial {trial}, seed {seed}: {names[k]} {how}: {said if isinstance(said, str) else said.notes}"
        )
        if isinstance(said, str):
            assert "\n" not in said, where
            assert said.startswith(str(path)), where
        else:
            assert min(said.shape) >= 16, where
            lost = FORMATS[names[k]].calibration and said.pixel_size_nm is None
            assert not lost or said.notes, f"{where}: no pixel size, and no word of it"
            if how == "truncated" and len(said) < len(STACK):
                assert said.notes, f"{where}: {len(said)} frames of {len(STACK)}, and no word of it"
        shutil.rmtree(case)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_a_right_result_or_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    check(tmp_path, 150, seed=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(10, 20))
def test_five_thousand_damaged_files_give_a_right_result_or_one_line(tmp_path: Path, seed: int) -> None:
    check(tmp_path, 500, seed)
