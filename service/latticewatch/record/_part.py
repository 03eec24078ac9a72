"""Frames, sites and events in; one folder that HyperSpy opens, readable after every write, out."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latticewatch import __version__
from latticewatch.ingest.files import recording as layout
from latticewatch.record._logged import LoggedEvent

if TYPE_CHECKING:
    from latticewatch.ingest import Frame

# Sites in one piece of the table on disk; a frame with more has several pieces.
PIECE = 4096
# The table of sites grows by so many frames at once: what is not written yet reads as no sites.
ROWS_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """What the frames of one part have in common: HyperSpy knows one shape and one scale to a stack."""

    shape: tuple[int, ...]
    dtype: str
    pixel_size_nm: float | None
    address: str
    detector: str | None


def kind_of(frame: Frame) -> Kind:
    """The kind of a frame."""
    return Kind(
        frame.image.shape,
        frame.image.dtype.newbyteorder("<").str,
        frame.pixel_size_nm,
        frame.address,
        frame.detector,
    )


def header_of(frame: Frame) -> dict[str, Any]:
    """What was said of a frame, in the words of the wire where it has any."""
    said = {
        "series_id": frame.series_id,
        "frame": frame.number,
        "ordinal": frame.ordinal,
        "t_received": frame.t_received,
        "timeStamp": frame.t_acquired,
        "pixel_size_nm": frame.pixel_size_nm,
        "stage_nm": list(frame.stage_nm) if frame.stage_nm is not None else None,
        "rotation_deg": frame.rotation_deg,
        "flip_x": frame.flip_x or None,
        "flip_y": frame.flip_y or None,
        "calibration_id": frame.calibration_id,
        "dwell_us": frame.dwell_us,
        "detector": frame.detector,
        "dose_e_per_a2": frame.dose_e_per_a2,
        "scalars": dict(frame.scalars) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


class Lines:
    """A file of JSON lines; a write that fails half way is taken back by the next one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._end = 0

    def add(self, lines: Sequence[Mapping[str, Any]]) -> int:
        """Append; returns the bytes written."""
        return self.write([json.dumps(line, separators=(",", ":")) for line in lines])

    def write(self, lines: Sequence[str]) -> int:
        """Append what is JSON already; returns the bytes written."""
        data = b"".join(line.encode() + b"\n" for line in lines)
        if os.fstat(self._file.fileno()).st_size > self._end:
            self._file.truncate(self._end)
        self._file.seek(self._end)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._end += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Part:
    """One part of a recording while it is written.

    A frame counts from the moment when the length of the stack, which is written last and in one step, includes it;
    what a killed process or a full disk leaves behind it is written over, or not seen.

    Parameters
    ----------
    path : Path
        The folder, without its ending; it must not exist.
    kind : Kind
    about : dict
        What is to be known of the whole recording.
    frames : bool
        Whether to keep the images.

    Attributes
    ----------
    n : int
        Frames written.
    bytes : int
        What was written, about.
    """

    def __init__(self, path: Path, kind: Kind, about: Mapping[str, Any], frames: bool) -> None:
        import numcodecs
        import zarr

        self.kind, self.n, self.bytes = kind, 0, 0
        self.path = path.with_name(path.name + (layout.WITH_FRAMES if frames else layout.RESULTS_ALONE))
        self._times: list[float] = []
        self._classes: dict[int, dict[str, Any]] = {}
        self._compressor = numcodecs.Blosc("zstd", 1, numcodecs.Blosc.SHUFFLE)
        root: Any = zarr.open_group(str(self.path), mode="w-", zarr_format=2)
        root.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.3"})
        self._data = self._stack(root) if frames else None
        ours = root.create_group(layout.OURS)
        self._sites: Any = ours.create_array(
            layout.SITES,
            shape=(0, PIECE),
            chunks=(1, PIECE),
            dtype=layout.SITE_ROW,
            compressors=self._compressor,
        )
        folder = self.path / layout.OURS
        self._frames_file = Lines(folder / layout.FRAMES)
        self._results_file = Lines(folder / layout.RESULTS)
        self._events_file = Lines(folder / layout.EVENTS)
        self._about = {**about, "latticewatch": __version__, **_said_of(kind)}
        # the last of all: a folder without it is no part of a recording
        write_json(folder / layout.ABOUT, self._about)

    def add(self, frame: Frame) -> int:
        """Write a frame; returns its row."""
        row = self.n
        self.bytes += self._frames_file.add([{"row": row, **header_of(frame)}])
        if self._data is not None:
            image = np.ascontiguousarray(frame.image, self.kind.dtype)
            self._write_image(row, image)
        self.n += 1
        time = frame.t_acquired if frame.t_acquired is not None else frame.t_received
        self._times = [*self._times[:1], time]
        if self._data is not None:
            self._write_time_axis()
        return row

    def add_sites(self, row: int, sites: NDArray[np.void], said: Mapping[str, Any]) -> None:
        """Write what was found in a frame, in the place of what was found before."""
        rows, columns = self._sites.shape
        wanted = max(PIECE, -(-len(sites) // PIECE) * PIECE)
        if row >= rows or wanted > columns:
            self._sites.resize((max(rows, row + ROWS_AHEAD), max(columns, wanted)))
            columns = self._sites.shape[1]
        padded = np.zeros(columns, layout.SITE_ROW)
        padded[: len(sites)] = sites
        self._sites[row] = padded
        self.bytes += 8 * len(sites) + self._results_file.add([{"row": row, **said}])

    def add_events(self, events: Sequence[LoggedEvent]) -> None:
        """Write events, in their envelopes."""
        self.bytes += self._events_file.write([event.json() for event in events])

    def add_classes(self, classes: Mapping[int, dict[str, Any]]) -> None:
        """Write the catalogue where it has changed; classes that are gone stay."""
        merged = {**self._classes, **classes}
        if merged != self._classes:
            write_json(
                self.path / layout.OURS / layout.CLASSES,
                {str(number): entry for number, entry in merged.items()},
            )
            self._classes = merged

    def close(self, why: str) -> None:
        """End it."""
        for file in (self._frames_file, self._results_file, self._events_file):
            file.close()
        with contextlib.suppress(OSError):
            write_json(
                self.path / layout.OURS / layout.ABOUT, {**self._about, "frames": self.n, "ended": why}
            )

    def _stack(self, root: Any) -> Any:
        """The layout of a HyperSpy signal: the data, an axis each, metadata."""
        title = self.kind.detector or "STEM"
        signal = root.create_group("Experiments").create_group(
            "".join(c if c.isalnum() else "_" for c in title)
        )
        signal.attrs.update({"package": "", "package_version": ""})
        rows, columns = self.kind.shape
        data = signal.create_array(
            "data",
            shape=(0, rows, columns),
            chunks=(1, rows, columns),
            dtype=self.kind.dtype,
            compressors=self._compressor,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        pixel = self.kind.pixel_size_nm
        scale, units = (1.0, "") if pixel is None else (pixel, "nm")
        signal.create_group("axis-0").attrs.update(_axis("time", 0, 1.0, "", navigate=True))
        signal.create_group("axis-1").attrs.update(_axis("y", rows, scale, units))
        signal.create_group("axis-2").attrs.update(_axis("x", columns, scale, units))
        metadata = signal.create_group("metadata")
        metadata.create_group("General").attrs.update({"title": title})
        metadata.create_group("Signal").attrs.update({"signal_type": ""})
        for name in ("original_metadata", "learning_results"):
            signal.create_group(name)
        self._signal = self.path / signal.path
        return data

    def _write_image(self, row: int, image: NDArray[Any]) -> None:
        meta = self._signal / "data" / ".zarray"
        described = json.loads(meta.read_text(encoding="utf-8"))
        packed = self._compressor.encode(image)
        chunk = self._signal / "data" / str(row) / "0" / "0"
        chunk.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(chunk, packed)
        described["shape"][0] = row + 1
        write_json(meta, described)
        self.bytes += len(packed)

    def _write_time_axis(self) -> None:
        """Its size, and the mean time from frame to frame; HyperSpy knows no other."""
        first, last = self._times[0], self._times[-1]
        step = (last - first) / (self.n - 1) if self.n > 1 and last > first else 1.0
        units = "s" if self.n > 1 and last > first else ""
        write_json(self._signal / "axis-0" / ".zattrs", _axis("time", self.n, step, units, navigate=True))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step: whoever looks sees the old one or the new one."""
    draft = path.with_name(f".{path.name}.partial")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON in one step."""
    write_bytes(path, json.dumps(content, indent=1).encode())


def _axis(name: str, size: int, scale: float, units: str, *, navigate: bool = False) -> dict[str, Any]:
    return {
        "_type": "UniformDataAxis",
        "name": name,
        "size": size,
        "scale": scale,
        "offset": 0.0,
        "units": units,
        "navigate": navigate,
        "is_binned": False,
    }


def _said_of(kind: Kind) -> dict[str, Any]:
    return {
        "shape": list(kind.shape),
        "dtype": kind.dtype,
        "pixel_size_nm": kind.pixel_size_nm,
        "address": kind.address,
        "detector": kind.detector,
    }
