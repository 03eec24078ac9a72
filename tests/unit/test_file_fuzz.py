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
from latticewatch.ingest.files import refusals  # noqa: E402

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
    except Exception as error:  # noqa: BLE001 - the fault that is looked for: told with all others
        return f"{type(error).__name__}: {error}"
    return series


def check(folder: Path, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = folder / "whole"
    whole.mkdir()
    names = list(FORMATS)
    for k, name in enumerate(names):
        (whole / str(k)).mkdir()
        FORMATS[name].write(whole / str(k) / f"a{FORMATS[name].ending}", STACK)
    cases: list[tuple[str, str, Path]] = []
    for trial in range(n):
        k = int(rng.integers(len(names)))
        how = DAMAGES[int(rng.integers(len(DAMAGES)))]
        case = folder / f"case-{trial}"
        shutil.copytree(whole / str(k), case)
        path = case / f"a{FORMATS[names[k]].ending}"
        damage(path, how, rng)
        cases.append((names[k], how, path))
    # as the commands do: what ends a process, or hangs it, is found in a child
    refused = refusals([path for _, _, path in cases])
    faults = []
    for trial, (name, how, path) in enumerate(cases):
        said = refused.get(path) or outcome(path)
        if fault := fault_of(said, name, how, path):
            text = said if isinstance(said, str) else said.notes
            faults.append(f"trial {trial}, seed {seed}: {name} {how}: {fault}: {text}")
    assert not faults, "\n".join(faults)


def fault_of(said: FileSeries | str, name: str, how: str, path: Path) -> str:
    """What is wrong with what came of a damaged file; empty where all is right."""
    if isinstance(said, str):
        return (
            ""
            if "\n" not in said and said.startswith(str(path))
            else "not one line that begins with the file"
        )
    if min(said.shape) < 16:
        return f"an image of {said.shape}"
    if FORMATS[name].calibration and said.pixel_size_nm is None and not said.notes:
        return "no pixel size, and no word of it"
    if how == "truncated" and len(said) < len(STACK) and not said.notes:
        return f"{len(said)} frames of {len(STACK)}, and no word of it"
    return ""


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
