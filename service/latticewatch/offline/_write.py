"""What `latticewatch analyse` leaves behind: tables, a summary, the events, and figures."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latticewatch import __version__
from latticewatch.errors import FileError
from latticewatch.ingest import FileSeries
from latticewatch.messages import DefectKind
from latticewatch.offline._checkpoint import (
    CHECKPOINT,
    Pace,
    RunState,
    Written,
    read_checkpoint,
    settle,
    write_checkpoint,
)
from latticewatch.offline._draft import DRAFT, Table, copy_start, hold, left_in, remove_left
from latticewatch.offline._run import AnalysedFile
from latticewatch.offline._stack import Stack
from latticewatch.offline._statistics import statistics_summary
from latticewatch.pipeline import ROLES, CatalogueEntry, EventDraft, FrameResult

TABLES = ("sites.csv", "events.jsonl")
COLUMNS = (
    "frame",
    "track",
    "row_px",
    "col_px",
    "sublattice",
    "class_id",
    "class_name",
    "role",
    "confidence",
    "kind",
    "displaced_row_px",
    "displaced_col_px",
    "displaced_sigma_px",
    "region",
)


class ResultWriter:
    """Writes the results of one file as they come: tables line by line, the rest at the end.

    Until `finish`, everything lies in a folder of its own beside its place (``.writing-…``). If the program is killed
    or ends by an error, it stays where there is something to go on from, and goes otherwise.

    Parameters
    ----------
    series : FileSeries
    out : Path
        Made where it is missing; files of the same name in it are replaced.
    options : dict, optional
        How it is analysed, for `finished` to compare, and for whoever goes on.
    resume : bool, optional
        Go on from what an earlier analysis of the file has left in the folder, if that is possible.

    Attributes
    ----------
    start : RunState or None
        Where to go on, for `run_file`; None to begin with the first frame.
    refused : str or None
        Why what was left is not gone on from.

    Raises
    ------
    FileError
        The folder cannot be made or written to.
    """

    def __init__(
        self, series: FileSeries, out: Path, options: dict[str, Any] | None = None, *, resume: bool = False
    ) -> None:
        self.series, self.out, self.options = series, out, options
        self.stack = Stack()
        self.events = 0
        self.start: RunState | None = None
        self.refused: str | None = None
        self._pace, self._since, self._before_s = Pace(), time.perf_counter(), 0.0
        self._settling = threading.Thread()
        self._made = not out.exists()
        with _writable(out), ExitStack() as files:
            out.mkdir(parents=True, exist_ok=True)
            tables = self._go_on(files) if resume else None
            if tables is None:
                self._draft, tables = _new_draft(out, files), {}
            files.callback(self._remove)
            self._tables = {
                name: files.enter_context(closing(Table(self._draft / name, *tables.get(name, (0, 0)))))
                for name in TABLES
            }
            files.callback(self._settled)
            self._sites_file, self._events_file = self._tables.values()
            self._sites = csv.writer(self._sites_file)
            if not tables:
                self._sites.writerow(COLUMNS)
            self._files = files.pop_all()

    def _go_on(self, files: ExitStack) -> dict[str, tuple[int, int]] | None:
        """Take up what the latest analysis left that can be gone on from; its tables, None where there is none."""
        for folder in left_in(self.out):
            locked = ExitStack()
            if folder != self.out and not locked.enter_context(hold(folder)):
                # another process is at it
                continue
            try:
                found = read_checkpoint(folder, self.series, self.options or {})
            except FileError as error:
                self.refused = self.refused or str(error)
                locked.close()
                continue
            if found is None:
                locked.close()
                continue
            self.start, written = found
            self.refused = None
            files.push(locked)
            self._draft = folder
            if folder == self.out:
                self._draft = _new_draft(self.out, files)
                for name, (length, _) in written.tables.items():
                    copy_start(folder / name, self._draft / name, length)
            self.stack, self.events, self._before_s = written.stack, written.events, written.seconds
            return written.tables
        return None

    @property
    def seconds(self) -> float:
        """What the analysis has taken so far, before an interruption too [s]."""
        return self._before_s + time.perf_counter() - self._since

    @property
    def due(self) -> bool:
        """Whether it is time to keep where the analysis is."""
        return self._pace.due and not self._settling.is_alive()

    def keep(self, run: RunState) -> None:
        """Put on disk where the analysis is, beside the tables.

        Parameters
        ----------
        run : RunState
        """
        self._settled()
        began = time.monotonic()
        with _writable(self.out):
            for table in self._tables.values():
                table.flush()
        tables = {name: table.written for name, table in self._tables.items()}
        written = Written(self.stack, self.events, tables, self.seconds)
        if write_checkpoint(self._draft, self.series, self.options or {}, run, written):
            self._settling = threading.Thread(target=settle, args=(self._draft, TABLES), name="checkpoint")
            self._settling.start()
        self._pace.took(time.monotonic() - began)

    def _settled(self) -> None:
        """Wait until the checkpoint written last is in its place."""
        if self._settling.ident is not None:
            self._settling.join()

    def add(self, result: FrameResult) -> None:
        """Write the sites of the next frame.

        Parameters
        ----------
        result : FrameResult

        Raises
        ------
        FileError
            It cannot be written, as when the disk is full.
        """
        with _writable(self.out):
            self.stack.add(result)
            self._sites.writerows(_rows_of_sites(result))
            self._sites_file.flush()

    def event(self, event: EventDraft, frame: int) -> None:
        """Write an event, with the number of the frame that brought it.

        Parameters
        ----------
        event : EventDraft
        frame : int

        Raises
        ------
        FileError
            It cannot be written, as when the disk is full.
        """
        self.events += 1
        line = {
            "seq": self.events,
            "type": event.type,
            "frame": frame,
            "data": event.data.model_dump(mode="json", exclude_none=True),
        }
        with _writable(self.out):
            self._events_file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._events_file.flush()

    def finish(
        self,
        image: NDArray[Any],
        seconds: float,
        figures: bool = True,
        of_frames: int | None = None,
        reason: str = "interrupted",
    ) -> tuple[list[Path], dict[str, Any]]:
        """Write what needs all frames, and put everything in its place.

        Parameters
        ----------
        image : ndarray of shape (height, width)
            The last frame, as it was recorded.
        seconds : float
            Wall time of the analysis [s].
        figures : bool, optional
            Whether to draw figures, which takes longer than the analysis of a small frame.
        of_frames : int, optional
            Frames that there were to analyse, where it ended before.
        reason : str, optional
            Why it did.

        Returns
        -------
        list of Path
            What was written.
        dict
            The summary.
        """
        self._settled()
        with _writable(self.out):
            self._sites_file.close()
            self._events_file.close()
            numbers = summary_of(self.series, self.stack, self.events, seconds)
            if of_frames is not None:
                numbers["ended_early"] = {"frames": len(self.stack), "of": of_frames, "reason": reason}
            if self.options is not None:
                numbers["options"] = self.options
            _write_json(
                self._draft / "classes.json",
                [_class(entry, self.stack.kinds.get(entry.class_id)) for entry in _catalogue(self.stack)],
            )
            _write_json(self._draft / "summary.json", numbers)
            if figures:
                from latticewatch.offline._figures import save_figures

                save_figures(self._draft, self.stack, image)
            parts = sorted(part for part in self._draft.iterdir() if not part.name.startswith(CHECKPOINT))
            for part in parts:
                target = self.out / part.name
                if target.is_dir():
                    shutil.rmtree(target)
                part.replace(target)
            self._made = False
            if of_frames is not None and (self._draft / CHECKPOINT).exists():
                (self._draft / CHECKPOINT).replace(self.out / CHECKPOINT)
            else:
                # nothing is left to go on with
                (self.out / CHECKPOINT).unlink(missing_ok=True)
                (self._draft / CHECKPOINT).unlink(missing_ok=True)
            if of_frames is None:
                remove_left(self.out, self._draft)
        return [self.out / part.name for part in parts], numbers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _remove(self) -> None:
        if (self._draft / CHECKPOINT).exists():
            return
        shutil.rmtree(self._draft, ignore_errors=True)
        if self._made:
            with suppress(OSError):
                self.out.rmdir()


def _new_draft(out: Path, files: ExitStack) -> Path:
    draft = Path(tempfile.mkdtemp(dir=out, prefix=DRAFT))
    files.enter_context(hold(draft))
    return draft


def finished(path: Path, out: Path, options: dict[str, Any]) -> bool:
    """Whether a folder holds the whole results of a file as it is now, analysed in the same way.

    Parameters
    ----------
    path : Path
    out : Path
    options : dict
        As they were given to `ResultWriter`.

    Returns
    -------
    bool
    """
    try:
        summary_path = out / "summary.json"
        numbers = json.loads(summary_path.read_text(encoding="utf-8"))
        newer = summary_path.stat().st_mtime_ns >= path.stat().st_mtime_ns
    except (OSError, ValueError):
        return False
    same = numbers.get("file") == path.name and numbers.get("options") == options
    return newer and same and numbers.get("latticewatch") == __version__ and "ended_early" not in numbers


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"{out}: {error.strerror or error}; give a folder that can be written to") from error


def write_results(analysed: AnalysedFile, out: Path, figures: bool = True) -> list[Path]:
    """Write everything of an analysed file into a folder; all of it or nothing.

    Parameters
    ----------
    analysed : AnalysedFile
    out : Path
        Made where it is missing; files of the same name in it are replaced.
    figures : bool, optional
        Whether to draw figures.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    FileError
        The folder cannot be made or written to.
    """
    with ResultWriter(analysed.series, out) as writer:
        for result in analysed.results:
            writer.add(result)
        for event, frame in analysed.events:
            writer.event(event, frame)
        return writer.finish(analysed.last_image, analysed.seconds, figures)[0]


def catalogue(analysed: AnalysedFile) -> list[CatalogueEntry]:
    """Every class that a site of any frame may have, as it was last; one learnt anew has other numbers."""
    return _catalogue(Stack(analysed.results))


def _catalogue(stack: Stack) -> list[CatalogueEntry]:
    return [stack.catalogue[class_id] for class_id in sorted(stack.catalogue)]


def summary(analysed: AnalysedFile) -> dict[str, Any]:
    """The run in a few numbers, each with its unit in its name.

    Parameters
    ----------
    analysed : AnalysedFile

    Returns
    -------
    dict of str
        Ready for JSON.
    """
    return summary_of(analysed.series, Stack(analysed.results), len(analysed.events), analysed.seconds)


def summary_of(series: FileSeries, stack: Stack, events: int, seconds: float) -> dict[str, Any]:
    """The same, of what is kept of the frames."""
    last = stack.last
    assert last is not None
    pixel = series.pixel_size_nm
    constant = last.lattice_constant_px
    by_role = dict.fromkeys(ROLES, 0)
    for role in last.sites.role:
        by_role[ROLES[role]] += 1
    area = last.shape[0] * last.shape[1] * pixel**2 if pixel is not None else None
    return {
        "latticewatch": __version__,
        "file": series.path.name,
        "signal": series.name,
        "shape_px": list(last.shape),
        "pixel_size_nm": pixel,
        "frames": len(stack),
        "frame_s": series.frame_s,
        "frames_with_lattice": stack.with_lattice,
        "lattice_found": last.lattice_found,
        "lattice_constant_px": constant,
        "lattice_constant_nm": constant * pixel if constant is not None and pixel is not None else None,
        "patch_size_px": int(last.classes[0].average.shape[0]) if last.classes else None,
        "sites": len(last.sites),
        "sites_by_role": by_role,
        "odd_regions": [region.model_dump() for region in last.odd_regions],
        "defects_per_nm2": by_role["defect"] / area if area else None,
        "classes": len(stack.catalogue),
        "events": events,
        "statistics": statistics_summary(stack, series.frame_s) if len(stack) > 1 else None,
        "seconds": round(seconds, 3),
        "notes": [note.model_dump() | {"frames": frames} for note, frames in stack.notes()],
        "file_notes": list(series.notes),
    }


def _rows_of_sites(result: FrameResult) -> Iterator[tuple[Any, ...]]:
    names = {entry.class_id: entry.name for entry in result.classes}
    sites = result.sites
    for k in range(len(sites)):
        class_id = int(sites.class_id[k])
        row, col = sites.position[k]
        kind = result.kinds.get(class_id)
        shift = sites.displaced_by(k) if kind == "displaced" else None
        yield (
            result.number,
            int(sites.track[k]),
            f"{row:.3f}",
            f"{col:.3f}",
            int(sites.sublattice[k]),
            class_id,
            names.get(class_id, "unknown"),
            ROLES[sites.role[k]],
            f"{sites.confidence[k]:.4f}",
            kind or "",
            *(("", "", "") if shift is None else (f"{value:.3f}" for value in shift)),
            "" if sites.region is None or sites.region[k] < 0 else int(sites.region[k]),
        )


def _class(entry: CatalogueEntry, kind: DefectKind | None) -> dict[str, Any]:
    return {
        "class_id": entry.class_id,
        "name": entry.name,
        "role": entry.role,
        "kind": kind,
        "sublattice": entry.sublattice,
        "host_class": entry.host_class,
        "total": entry.total,
        "prior": entry.prior,
        "separation_sigma": entry.separation,
        "template": entry.template,
        "score": entry.score,
        "runner_up": None
        if entry.runner_up is None
        else {"template": entry.runner_up[0], "score": entry.runner_up[1]},
        "average": _rows(entry.average),
        "template_patch": None if entry.template_patch is None else _rows(entry.template_patch),
    }


def _rows(patch: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), 5) for value in row] for row in patch]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
