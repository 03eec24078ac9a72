"""Files that hang or end a reader in C, or fill the memory: one line, and the program goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latticewatch.errors import FileError
from latticewatch.ingest import read_frames
from latticewatch.ingest.files import _trial

h5py = pytest.importorskip("h5py", reason="the io extra is not installed")
pytest.importorskip("rsciio", reason="the io extra is not installed")

IMAGE = np.random.default_rng(0).integers(0, 1000, (20, 24)).astype(np.uint16)


def layout_of_its_own(path: Path, **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        file["image"] = IMAGE
        file["image"].attrs.update(attributes)
    return path


def larger_than_memory(path: Path) -> Path:
    """A petabyte of zeros, none of which are in the file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("image", shape=(2**25, 2**25), chunks=(2**10, 2**10), dtype="u1")
    return path


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def test_a_file_larger_than_memory_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    good = [layout_of_its_own(tmp_path / f"{k}.h5") for k in range(2)]
    large = larger_than_memory(tmp_path / "large.h5")
    refused = _trial.refusals([good[0], large, good[1]])
    assert list(refused) == [large]
    assert refused[large].startswith(f"{large}: opening it takes more than")


def test_what_is_wrong_otherwise_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    assert _trial.refusals([tmp_path / "a.h5", tmp_path / "missing.h5"]) == {}


def test_a_child_that_dies_costs_one_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import json, os, signal, sys\n"
        "for path in json.load(sys.stdin)['paths']:\n"
        "    if 'bad' in path: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    print('opened', flush=True)"
    )
    monkeypatch.setattr(_trial, "COMMAND", child(code))
    names = ("a.h5", "bad-1.h5", "b.h5", "bad-2.h5")
    refused = _trial.refusals([layout_of_its_own(tmp_path / name) for name in names])
    assert [path.name for path in refused] == ["bad-1.h5", "bad-2.h5"]
    assert all("SIGSEGV" in said and "damaged" in said and "\n" not in said for said in refused.values())
    with pytest.raises(FileError, match=r"bad-1\.h5: opening it ends"):
        _trial.check([tmp_path / name for name in names])


def test_a_child_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen] = []

    class Kept(subprocess.Popen):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(_trial.subprocess, "Popen", Kept)
    monkeypatch.setattr(_trial, "COMMAND", child("import threading; threading.Event().wait()"))
    monkeypatch.setattr(_trial, "TRIAL_S", 0.05)
    path = layout_of_its_own(tmp_path / "a.h5")
    assert "not opened after" in _trial.refusals([path])[path]
    assert [one.poll() is not None for one in started] == [True]


def test_formats_that_are_safe_to_read_start_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trial, "COMMAND", child("raise SystemExit(1)"))
    np.save(tmp_path / "a.npy", IMAGE)
    assert _trial.refusals([tmp_path / "a.npy"]) == {}


def test_labels_of_axes_that_are_no_text_end_nothing(tmp_path: Path) -> None:
    """The library reads them as addresses of texts, whatever they are."""
    path = layout_of_its_own(tmp_path / "a.h5", DIMENSION_LABELS=np.array([1, 2]))
    assert np.array_equal(read_frames(path).frame(0), IMAGE)


@pytest.mark.parametrize("command", ["inspect", "analyse", "replay"])
def test_a_command_refuses_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from latticewatch.cli import main

    monkeypatch.setattr(_trial, "COMMAND", child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    path = layout_of_its_own(tmp_path / "a.h5")
    more = ["--out", str(tmp_path / "out")] if command == "analyse" else []
    with pytest.raises(SystemExit) as ended:
        main([command, str(path), *more])
    assert ended.value.code == 2
    said = "".join(capsys.readouterr())
    assert "SIGSEGV" in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
