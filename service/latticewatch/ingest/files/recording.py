"""A recording of the service in; its frames in the order in which they were analysed, and what was found, out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import FileError
from latticewatch.ingest.files._series import FileSeries

# Every part of a recording is a folder that HyperSpy opens, where frames are in it; beside them lies a folder of ours.
WITH_FRAMES, RESULTS_ALONE = ".zspy", ".zarr"
OURS = "latticewatch"
ABOUT, FRAMES, RESULTS, EVENTS, CLASSES = (
    "recording.json",
    "frames.jsonl",
    "results.jsonl",
    "events.jsonl",
    "classes.json",
)
SITES = "sites"
SITE_ROW = np.dtype(
    [
        ("valid", "u1"),  # 0 in the rest of a row that is longer than the sites of its frame
        ("row_px", "<f4"),
        ("col_px", "<f4"),
        ("sublattice", "<i2"),
        ("class_id", "<i2"),
        ("role", "u1"),
        ("confidence", "<f4"),
        ("track", "<i4"),
    ]
)


def is_part(path: Path) -> bool:
    """Whether a folder is one part of a recording.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return (path / OURS / ABOUT).is_file()


def is_recording(path: Path) -> bool:
    """Whether a folder is a recording, or a part of one.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return path.is_dir() and bool(parts_of(path))


def parts_of(path: Path) -> list[Path]:
    """The parts of a recording, oldest first; a part alone is a recording of one.

    Parameters
    ----------
    path : Path
        A recording, or a part of one.

    Returns
    -------
    list of Path
        Empty where it is neither.
    """
    if is_part(path):
        return [path]
    if not path.is_dir():
        return []
    return sorted(each for each in path.iterdir() if each.is_dir() and is_part(each))


class RecordedPart:
    """One part of a recording, as far as it was written: a process that was killed leaves no more than a torn line.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    about : dict
        When it was begun and ended, the settings, what the frames have in common.
    frames : list of dict
        What was said of each frame, in the order in which they were analysed.
    results : dict of int to dict
        What was found in it, by the row of the frame.

    Raises
    ------
    FileError
        It is no part of a recording, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not is_part(path):
            raise FileError(f"{path}: no part of a recording; give the folder that --record named")
        ours = path / OURS
        try:
            self.about: dict[str, Any] = json.loads((ours / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{path}: {ABOUT} cannot be read ({error}); the recording is damaged") from error
        lines = _lines(ours / FRAMES)
        written = self._written()
        self.frames = lines if written is None else lines[:written]
        self.results = {
            line["row"]: line for line in _lines(ours / RESULTS) if line["row"] < len(self.frames)
        }

    @property
    def has_frames(self) -> bool:
        """Whether the images were recorded, too."""
        return self.path.suffix == WITH_FRAMES

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event that was told while this part was written, in its envelope."""
        return _lines(self.path / OURS / EVENTS)

    @property
    def classes(self) -> dict[int, dict[str, Any]]:
        """Every class by its number, as it was last."""
        try:
            found = json.loads((self.path / OURS / CLASSES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {int(number): entry for number, entry in found.items()}

    def image(self, row: int) -> NDArray[Any]:
        """One image.

        Parameters
        ----------
        row : int
            From 0, in this part.

        Returns
        -------
        ndarray of shape (height, width)
            Of the dtype that was recorded.

        Raises
        ------
        FileError
            It cannot be read.
        """
        return self.series().frame(row)

    def series(self) -> FileSeries:
        """The images.

        Raises
        ------
        FileError
            It was recorded without frames.
        """
        from latticewatch.ingest.files._series import read_frames

        if not self.has_frames:
            raise FileError(f"{self.path}: recorded without frames; there is nothing to send or analyse")
        return read_frames(self.path)

    def sites(self, row: int) -> NDArray[np.void]:
        """Every site of a frame, as columns of `SITE_ROW`; empty where nothing was found or stored of it.

        Parameters
        ----------
        row : int
            Of the image, from 0, in this part.

        Returns
        -------
        structured ndarray of shape (n_sites,)
        """
        import zarr

        array: Any = zarr.open_array(str(self.path / OURS / SITES), mode="r")
        if row >= array.shape[0]:
            return np.zeros(0, SITE_ROW)
        found = np.asarray(array[row])
        return found[found["valid"] == 1]

    def _written(self) -> int | None:
        """Frames whose images are on disk; None where images were not recorded."""
        if not self.has_frames:
            return None
        for meta in sorted(self.path.glob("Experiments/*/data/.zarray")):
            try:
                return int(json.loads(meta.read_text(encoding="utf-8"))["shape"][0])
            except (OSError, ValueError, KeyError, IndexError):
                return 0
        return 0


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame of a recording: where it lies, and what was said of it."""

    part: int
    row: int
    header: dict[str, Any]


class Recording:
    """A recording as a whole.

    Parameters
    ----------
    path : Path
        The folder that ``--record`` named, or one part of it.

    Attributes
    ----------
    parts : list of RecordedPart
    frames : list of RecordedFrame
        In the order in which they were analysed.

    Raises
    ------
    FileError
        It is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = [RecordedPart(part) for part in parts_of(path)]
        if not self.parts:
            raise FileError(f"{path}: no recording; give the folder that --record named")
        self.frames = in_order(self.parts)
        self._series: dict[int, FileSeries] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def series(self, part: int) -> FileSeries:
        """The images of one part.

        Parameters
        ----------
        part : int
            From 0.

        Returns
        -------
        FileSeries

        Raises
        ------
        FileError
            It cannot be read.
        """
        if part not in self._series:
            self._series[part] = self.parts[part].series()
        return self._series[part]


def in_order(parts: Sequence[RecordedPart]) -> list[RecordedFrame]:
    """The frames of all parts in the order in which they were analysed, which may go to and fro between parts.

    Parameters
    ----------
    parts : sequence of RecordedPart

    Returns
    -------
    list of RecordedFrame
    """
    found = [
        RecordedFrame(k, row, header)
        for k, part in enumerate(parts)
        for row, header in enumerate(part.frames)
    ]
    runs = sorted({str(part.about.get("run", "")) for part in parts})
    return sorted(
        found,
        key=lambda one: (runs.index(str(parts[one.part].about.get("run", ""))), one.header["ordinal"]),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file of JSON; the last one may have been torn."""
    return list(_whole(path))


def _whole(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_bytes()
    except OSError:
        return
    for line in text.split(b"\n")[:-1]:
        try:
            found = json.loads(line)
        except ValueError:
            return
        if isinstance(found, dict):
            yield found
