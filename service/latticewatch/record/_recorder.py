"""Analysed frames, results and events in; a recording on disk, beside the live path and never in its way, out."""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray

from latticewatch.config import RecordSettings
from latticewatch.errors import ConfigurationError
from latticewatch.ingest.files import recording as layout
from latticewatch.messages import RecordingStatus
from latticewatch.record._logged import LoggedEvent
from latticewatch.record._part import Kind, Part, kind_of, write_json

if TYPE_CHECKING:
    from latticewatch.ingest import Frame
    from latticewatch.pipeline import FrameResult

# What may wait to be written [bytes]; a frame that finds no room is not recorded, and counted.
MAX_WAITING = 256 * 2**20
# After an error of the disk it is tried again after this long [s].
RETRY_S = 2.0
# Parts that are open side by side, where frames of several kinds come in turn.
MAX_OPEN = 4
# Frames whose results may come again, when a learning phase ends.
MAX_ROWS = 512
# Events that wait for the first frame of a part.
MAX_EARLY = 1000
MIB, GIB = 2**20, 2**30
DAY_S = 86400.0

log = structlog.get_logger("latticewatch.record")


@dataclass(slots=True)
class _Waiting:
    """What one frame leaves to be written."""

    frame: Frame | None
    results: list[tuple[int, NDArray[np.void], dict[str, Any]]]
    classes: dict[int, dict[str, Any]]
    events: list[LoggedEvent]
    bytes: int


class Recorder:
    """Writes a recording, in a thread of its own.

    What is handed over waits in a queue of at most `MAX_WAITING` bytes. Where the disk is too slow, frames are not
    recorded, and counted (``too slow``); where it is full or fails, they are counted (``disk``) until it can be
    written to again. Nothing here holds the caller up or raises.

    Parameters
    ----------
    settings : RecordSettings
        `recording` names the folder.
    about : dict
        What is to be known of the recording: settings, instrument.

    Raises
    ------
    ConfigurationError
        The folder cannot be made, or Zarr is not installed.
    """

    def __init__(self, settings: RecordSettings, about: Mapping[str, Any]) -> None:
        assert settings.recording is not None
        self._settings = settings
        self._folder = settings.recording
        self._run = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._about = {**about, "run": self._run}
        self._queue: deque[_Waiting] = deque()
        self._news = threading.Condition()
        self._waiting_bytes = 0
        self._stopping = False
        self._parts: dict[Kind, Part] = {}
        self._rows: dict[int, tuple[Part, int]] = {}
        self._n_parts = 0
        self._kept: list[tuple[Path, int]] = []
        self._recorded = 0
        self._skipped: dict[str, int] = {}
        self._early: list[LoggedEvent] = []
        self._trouble: str | None = None
        self._try_at = 0.0
        try:
            import zarr  # noqa: F401

            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / ".latticewatch-writable"
            probe.write_bytes(b"")
            probe.unlink()
        except ImportError as error:
            raise ConfigurationError(
                "--record needs the package zarr; pip install 'latticewatch[io]'"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise ConfigurationError(
                    f"--record {self._folder}: {error.strerror or error}; give a folder that can be written to"
                ) from error
            self._trouble = str(error.strerror)
        self._thread = threading.Thread(target=self._write_all, name="record", daemon=True)
        self._thread.start()

    # Called by the thread that folds

    def add(self, frame: Frame | None, results: Sequence[FrameResult]) -> None:
        """Hand over an analysed frame, and what was found; earlier frames may come again with it.

        Parameters
        ----------
        frame : Frame or None
            None where there are results alone.
        results : sequence of FrameResult
            Of this frame, and of earlier ones whose results are better known now.
        """
        found = [(result.ordinal, _rows_of(result), _said_of(result)) for result in results]
        classes = {entry.class_id: _class(entry) for result in results[-1:] for entry in result.classes}
        size = sum(sites.nbytes for _, sites, _ in found)
        if frame is not None and self._settings.recording_frames:
            size += frame.image.nbytes
        with self._news:
            if frame is not None and self._waiting_bytes + size > MAX_WAITING:
                self._skip("too slow")
                return
            self._put(_Waiting(frame, found, classes, [], size))

    def tell(self, events: Sequence[LoggedEvent]) -> None:
        """Hand over events that are in the log.

        Parameters
        ----------
        events : sequence of LoggedEvent
        """
        if events:
            with self._news:
                self._put(_Waiting(None, [], {}, list(events), 1024 * len(events)))

    @property
    def status(self) -> RecordingStatus:
        """What was recorded and what was not."""
        with self._news:
            return RecordingStatus(
                directory=str(self._folder),
                recorded=self._recorded,
                skipped=dict(self._skipped),
                bytes=sum(size for _, size in self._kept) + sum(part.bytes for part in self._parts.values()),
                trouble=self._trouble,
            )

    def close(self, patience_s: float | None = None) -> None:
        """Write what waits, and end the parts that are open.

        Parameters
        ----------
        patience_s : float, optional
            Longest wait for the disk [s]; endless where none is given.
        """
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(patience_s)

    def _put(self, item: _Waiting) -> None:
        self._queue.append(item)
        self._waiting_bytes += item.bytes
        self._news.notify()

    def _skip(self, why: str) -> None:
        self._skipped[why] = self._skipped.get(why, 0) + 1

    # The thread that writes

    def _write_all(self) -> None:
        with contextlib.suppress(OSError):
            self._look_around()
        while True:
            with self._news:
                while not self._queue and not self._stopping:
                    self._news.wait()
                if not self._queue:
                    break
                item = self._queue.popleft()
            try:
                self._write(item)
            except Exception as error:  # noqa: BLE001 - whatever the disk does, the live path goes on
                self._fail(error)
                with self._news:
                    if item.frame is not None and item.frame.ordinal not in self._rows:
                        self._skip("disk")
            finally:
                with self._news:
                    self._waiting_bytes -= item.bytes
        for part in list(self._parts.values()):
            part.close("service stopped")

    def _write(self, item: _Waiting) -> None:
        if self._trouble is not None and time.monotonic() < self._try_at:
            with self._news:
                if item.frame is not None:
                    self._skip("disk")
            return
        self._require_room()
        if item.frame is not None:
            part = self._part_of(kind_of(item.frame))
            self._rows[item.frame.ordinal] = (part, part.add(item.frame))
            while len(self._rows) > MAX_ROWS:
                del self._rows[next(iter(self._rows))]
            with self._news:
                self._recorded += 1
        for ordinal, sites, said in item.results:
            if ordinal in self._rows:
                part, row = self._rows[ordinal]
                part.add_sites(row, sites, said)
        newest = next(reversed(self._parts.values()), None)
        self._early = [*self._early, *item.events][-MAX_EARLY:]
        if newest is not None:
            newest.add_classes(item.classes)
            if self._early:
                newest.add_events(self._early)
                self._early = []
        if self._trouble is not None:
            log.warning("recording goes on", skipped=dict(self._skipped))
            self._trouble = None
        if newest is not None and newest.bytes > self._settings.recording_part_mib * MIB:
            self._end(newest, "full")

    def _part_of(self, kind: Kind) -> Part:
        part = self._parts.get(kind)
        if part is None:
            while len(self._parts) >= MAX_OPEN:
                self._end(next(iter(self._parts.values())), "frames of another kind")
            self._n_parts += 1
            path = self._folder / f"{self._run}-{self._n_parts:05d}"
            part = Part(path, kind, self._about, self._settings.recording_frames)
        # the one that was written last comes last; a new dict, as others may be looking at the old one
        self._parts = {**{k: other for k, other in self._parts.items() if k != kind}, kind: part}
        return part

    def _end(self, part: Part, why: str) -> None:
        self._rows = {ordinal: place for ordinal, place in self._rows.items() if place[0] is not part}
        part.close(why)
        with self._news:
            self._parts = {kind: other for kind, other in self._parts.items() if other is not part}
            self._kept.append((part.path, part.bytes))

    def _require_room(self) -> None:
        """Delete the oldest parts beyond the limits, and leave room on the disk: the event log comes first."""
        limit = self._settings.recording_max_gib * GIB
        written = sum(part.bytes for part in self._parts.values())
        while self._kept:
            path, _ = self._kept[0]
            if written + sum(size for _, size in self._kept) <= limit and not self._outlived(path):
                break
            shutil.rmtree(path)
            log.info("oldest part of the recording deleted", part=path.name)
            with self._news:
                self._kept.pop(0)
        free = shutil.disk_usage(self._folder).free
        if free < self._settings.recording_reserve_gib * GIB:
            raise OSError(
                errno.ENOSPC,
                f"only {free / GIB:.2f} GiB are free; {self._settings.recording_reserve_gib:g} GiB stay free for "
                "the event log",
            )

    def _outlived(self, part: Path) -> bool:
        """Whether a part ended so long ago that it is not kept any longer."""
        days = self._settings.recording_max_days
        if days is None:
            return False
        ended_at = (part / layout.OURS / layout.ABOUT).stat().st_mtime
        return time.time() - ended_at > days * DAY_S

    def _fail(self, error: Exception) -> None:
        said = error.strerror if isinstance(error, OSError) and error.strerror else f"{error}"
        if self._trouble is None:
            log.error("recording paused", error=said or repr(error))
        self._trouble = said or repr(error)
        self._try_at = time.monotonic() + RETRY_S

    def _look_around(self) -> None:
        """Parts of earlier runs: how large they are; those that were not ended were cut off."""
        kept = []
        for path in layout.parts_of(self._folder):
            about = layout.RecordedPart(path)
            if about.about.get("run") == self._run:
                continue
            if "ended" not in about.about:
                write_json(
                    path / layout.OURS / layout.ABOUT,
                    {**about.about, "frames": len(about.frames), "ended": "cut off"},
                )
            kept.append((path, sum(each.stat().st_size for each in path.rglob("*") if each.is_file())))
        with self._news:
            self._kept = kept + self._kept


def recorder_of(settings: RecordSettings, about: Callable[[], Mapping[str, Any]]) -> Recorder | None:
    """The recorder, where one is wanted.

    Parameters
    ----------
    settings : RecordSettings
    about : callable
        Gives what is to be known of the recording; called only where one is made.

    Returns
    -------
    Recorder or None

    Raises
    ------
    ConfigurationError
        As for `Recorder`.
    """
    return None if settings.recording is None else Recorder(settings, about())


def _rows_of(result: FrameResult) -> NDArray[np.void]:
    sites = result.sites
    rows = np.zeros(len(sites), layout.SITE_ROW)
    rows["valid"] = 1
    rows["row_px"], rows["col_px"] = sites.position[:, 0], sites.position[:, 1]
    for name in ("sublattice", "class_id", "role", "confidence", "track"):
        rows[name] = getattr(sites, name)
    return rows


def _said_of(result: FrameResult) -> dict[str, Any]:
    return {
        "n_sites": len(result.sites),
        "lattice_found": bool(result.lattice_found),
        "lattice_constant_px": _number(result.lattice_constant_px),
        "drift_px": [_number(each) for each in result.drift_px],
        "model_version": result.model_version,
        "notes": [note.code for note in result.notes],
    }


def _class(entry: Any) -> dict[str, Any]:
    return {"name": entry.name, "role": entry.role, "sublattice": int(entry.sublattice)}


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
