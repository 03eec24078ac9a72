"""The whole state of an analysis of a file, to disk now and then; an analysis that was interrupted goes on from it.

What a service keeps is enough to go on well; this is all there is, to the last bit, so that what is written after an
interruption is what would have been written without one.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from latticewatch import __version__
from latticewatch.discover._gathered import HostLevel, SiteAverages
from latticewatch.errors import FileError
from latticewatch.ingest import FileSeries
from latticewatch.lattice import SpectrumSum
from latticewatch.messages import Calibration, Note, OddRegion
from latticewatch.model import Patches
from latticewatch.offline._counts import Counts
from latticewatch.offline._stack import Stack
from latticewatch.pipeline import FrameResult, NoteBook, SiteTable
from latticewatch.pipeline._in_force import InForce
from latticewatch.pipeline._judge import Condition, Judge
from latticewatch.pipeline._kept import LATER, MODEL_CLASSES, STATE_CLASSES
from latticewatch.pipeline._pack import Packer
from latticewatch.pipeline._sight import Sight
from latticewatch.statistics import BinnedSeries, Bins, History, Lifetimes
from latticewatch.statistics._lifetimes import _Open
from latticewatch.statistics._series import _Ring

CHECKPOINT = ".checkpoint"
FORMAT = 2
# Time from one checkpoint to the next, at least [s]; and a checkpoint takes this share of the time, at most.
EVERY_S = 10.0
SHARE = 0.01
# A larger file is not read: it is none of ours. Nor is one written [bytes].
MAX_BYTES = 2**31

OFFLINE_CLASSES = (
    BinnedSeries,
    Bins,
    Calibration,
    Condition,
    Counts,
    FrameResult,
    History,
    HostLevel,
    InForce,
    Judge,
    Lifetimes,
    Note,
    NoteBook,
    OddRegion,
    Patches,
    Sight,
    SiteAverages,
    SiteTable,
    SpectrumSum,
    Stack,
    _Open,
    _Ring,
)
# What is made anew changes nothing: room for more tracks, a lock, and what of the last frame is written already.
LEFT_OUT = {
    ("TrackMap", "_room"): dict,
    ("History", "_lock"): threading.Lock,
    ("FrameResult", "events"): tuple,
    ("FrameResult", "space"): lambda: None,
}

packer = Packer((*MODEL_CLASSES, *STATE_CLASSES, *OFFLINE_CLASSES), LEFT_OUT, LATER)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class RunState:
    """Where an analysis is, between two frames.

    Attributes
    ----------
    frames : int
        How many are done; it goes on with the next.
    learner, runner : dict
        See `latticewatch.pipeline.Learner.state` and `latticewatch.execute.Runner.state`.
    pending : list of FrameResult
        Those of a learning phase, which may come again with classes; the newest of them is that of the last frame done.
    """

    frames: int
    learner: dict[str, Any]
    runner: dict[str, Any]
    pending: list[FrameResult]


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What of the results was on disk by then.

    Attributes
    ----------
    stack : Stack
    events : int
        How many.
    tables : dict of str to (int, int)
        Length and checksum of each.
    seconds : float
        What the analysis had taken [s].
    """

    stack: Stack
    events: int
    tables: dict[str, tuple[int, int]]
    seconds: float


class Pace:
    """Tells when a checkpoint is due: rarely enough to cost nothing that is felt."""

    def __init__(self) -> None:
        self._wait_s = EVERY_S
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether enough time has passed."""
        return time.monotonic() - self._last >= self._wait_s

    def took(self, seconds: float) -> None:
        """A checkpoint was written, in so many seconds."""
        self._last = time.monotonic()
        self._wait_s = max(EVERY_S, seconds / SHARE)


def write_checkpoint(
    folder: Path, series: FileSeries, options: Mapping[str, Any], run: RunState, written: Written
) -> bool:
    """Write a checkpoint beside the one before, which it does not replace yet: see `settle`.

    Parameters
    ----------
    folder : Path
    series : FileSeries
    options : mapping
        How it is analysed.
    run : RunState
    written : Written

    Returns
    -------
    bool
        False where that cannot be.
    """
    draft = folder / f"{CHECKPOINT}.new"
    try:
        state = {
            "about": _about(series, options),
            "images": _images(series, run.frames),
            "frames": run.frames,
            "learner": run.learner,
            "runner": run.runner,
            "pending": run.pending,
            "stack": written.stack,
            "events": written.events,
            "tables": written.tables,
            "seconds": written.seconds,
            "notes": list(series.notes),
        }
        with draft.open("wb") as file:
            packer.write_fast(state, file)
        if draft.stat().st_size > MAX_BYTES:
            raise OSError(f"{draft.stat().st_size} bytes, expected at most {MAX_BYTES}")
    except (OSError, TypeError, FileError) as error:
        _refuse(draft, error)
        return False
    return True


def settle(folder: Path, tables: Iterable[str]) -> None:
    """Have tables and the checkpoint written last on disk, and only then the latter in the place of the one before.

    A disk may take seconds for it: no frame need wait.

    Parameters
    ----------
    folder : Path
    tables : iterable of str
    """
    draft = folder / f"{CHECKPOINT}.new"
    try:
        for name in (*tables, draft.name):
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(folder / CHECKPOINT)
    except OSError as error:
        _refuse(draft, error)


def _refuse(draft: Path, error: Exception) -> None:
    _log.warning("no checkpoint could be written; the analysis goes on", reason=str(error))
    draft.unlink(missing_ok=True)


def read_checkpoint(
    folder: Path, series: FileSeries, options: Mapping[str, Any]
) -> tuple[RunState, Written] | None:
    """The checkpoint in a folder.

    Parameters
    ----------
    folder : Path
    series : FileSeries
        Gets the notes that it had.
    options : mapping
        How it is to be analysed.

    Returns
    -------
    tuple or None
        None where there is none.

    Raises
    ------
    FileError
        It is damaged, of another version or file, or of other options; or a table has changed since.
    """
    path = folder / CHECKPOINT
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FileError(f"more than {MAX_BYTES} bytes")
        state = packer.unpack(path.read_bytes())
        about = state["about"]
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError) as error:
        raise FileError(f"damaged: {error}") from error
    for name, ours in _about(series, options).items():
        if about.get(name) != ours:
            raise FileError(f"another {name}")
    if state["images"] != _images(series, state["frames"]):
        raise FileError("other images")
    for name, (length, checksum) in state["tables"].items():
        if checksum_of(folder / name, length) != checksum:
            raise FileError(f"another {name}")
    series.notes[:] = state["notes"]
    return (
        RunState(state["frames"], state["learner"], state["runner"], state["pending"]),
        Written(state["stack"], state["events"], state["tables"], state["seconds"]),
    )


def checksum_of(path: Path, length: int) -> int | None:
    """Of the first bytes of a file; None where it is shorter, or not there."""
    checksum = 0
    try:
        with path.open("rb") as file:
            while length:
                part = file.read(min(length, 2**20))
                if not part:
                    return None
                checksum, length = zlib.crc32(part, checksum), length - len(part)
    except OSError:
        return None
    return checksum


def _about(series: FileSeries, options: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same for an analysis to go on, by what it is called."""
    files = [series.path]
    if series.path.is_dir():
        files = sorted(part for part in series.path.rglob("*") if part.is_file())
    return {
        "version of latticewatch": [FORMAT, __version__],
        "file": [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in files],
        "number of frames": [len(series), list(series.shape), series.dtype.str],
        "set of options": dict(options),
    }


def _images(series: FileSeries, frames: int) -> list[int]:
    """Checksums of the first image and of the last that is done: a file may be another one under the same name."""
    return [zlib.crc32(series.frame(number).data) for number in (0, frames - 1)]
