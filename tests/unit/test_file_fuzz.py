"""Damaged files: a right result or one clear line; never a traceback, never a calibration lost in silence.

``python -m pytest -m slow tests/unit/test_file_fuzz.py`` damages 5,000 files.
"""

from __future__ import annotations

import importlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from latticewatch.errors import FileError

formats = pytest.importorskip("test_file_formats", reason="the io extra is not installed")
from latticewatch.ingest import FileSeries, read_frames  # noqa: E402
from latticewatch.ingest.files import refusals  # noqa: E402

STACK, FORMATS = formats.STACK, formats.FORMATS
h5py, zarr = formats.h5py, formats.zarr
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


# Axes in any order


def rearranged(order: str) -> np.ndarray:
    return np.ascontiguousarray(STACK.transpose(["TYX".index(name) for name in order]))


def described(name: str, size: int) -> tuple[str, str, float, int]:
    """Name, units, step and size of an axis."""
    step, units = (formats.FRAME_S, "s") if name == "T" else (formats.PIXEL_NM, "nm")
    return {"T": "time", "Y": "y", "X": "x"}[name], units, step, size


def by_rosetta(module: str):
    def write(path: Path, order: str) -> None:
        data = rearranged(order)
        taken = formats.signal(data)
        taken["axes"] = [
            formats.axis(size, k, name, step, units, name == "time")
            for k, (name, units, step, size) in enumerate(map(described, order, data.shape))
        ]
        importlib.import_module(f"rsciio.{module}").file_writer(str(path), taken)

    return write


def by_berkeley(path: Path, order: str) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(version_major=0, version_minor=2)
        group = file.create_group("data/HAADF")
        group.attrs["emd_group_type"] = 1
        group["data"] = data = rearranged(order)
        for k, (name, units, step, size) in enumerate(map(described, order, data.shape)):
            group[f"dim{k + 1}"] = np.arange(size) * step
            group[f"dim{k + 1}"].attrs.update(name=name, units=f"[{'n_m' if units == 'nm' else units}]")


def by_hdf5(path: Path, order: str) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/frames", data=rearranged(order))
        for k, (name, units, step, size) in enumerate(map(described, order, data.shape)):
            scale = file.create_dataset(f"entry/{name}", data=np.arange(size) * step)
            scale.attrs["units"] = units
            scale.make_scale(name)
            data.dims[k].label = name
            data.dims[k].attach_scale(scale)


def by_ome_zarr(path: Path, order: str) -> None:
    root = zarr.open_group(path, mode="w", zarr_format=2)
    data = rearranged(order)
    root.create_array("0", data=data)
    axes = [
        {
            "name": name.lower(),
            "type": "time" if name == "T" else "space",
            "unit": "second" if name == "T" else "nanometer",
        }
        for name in order
    ]
    scale = [step for _, _, step, _ in map(described, order, data.shape)]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    root.attrs["multiscales"] = [{"version": "0.4", "name": "HAADF", "axes": axes, "datasets": datasets}]


PERMUTED = {
    "a.hspy": by_rosetta("hspy"),
    "a.nxs": by_rosetta("nexus"),
    "a.emd": by_berkeley,
    "a.h5": by_hdf5,
    "a.zarr": by_ome_zarr,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("TYX")])
@pytest.mark.parametrize("name", PERMUTED)
def test_axes_are_found_by_their_names_in_any_order(tmp_path: Path, name: str, order: str) -> None:
    path = tmp_path / name
    PERMUTED[name](path, order)
    said = outcome(path)
    assert isinstance(said, FileSeries), said
    assert (len(said), said.shape) == (len(STACK), STACK.shape[1:])
    assert all(np.array_equal(said.frame(k), STACK[k]) for k in range(len(STACK)))
    assert said.pixel_size_nm == pytest.approx(formats.PIXEL_NM)
    assert said.frame_s == pytest.approx(formats.FRAME_S)
