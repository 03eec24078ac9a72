"""A recording in; tables of sites, tracks and events for other programs, and stacks for archives, out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from latticewatch import __version__
from latticewatch.errors import FileError
from latticewatch.ingest import Recording
from latticewatch.ingest.files.recording import RecordedPart
from latticewatch.messages import ROLES

# Rows that are written at once.
BATCH_ROWS = 200_000
_NO_CLASS = {"name": "", "role": "unknown", "sublattice": -1}
_FROM_DATA = ("series_id", "frame", "track", "class_id", "class_name", "role", "confidence")


def export_recording(
    path: Path, out: Path, kind: str, progress: Callable[[int], None] | None = None
) -> list[Path]:
    """Write what a recording holds for other programs.

    Parameters
    ----------
    path : Path
        A recording, or one part of it.
    out : Path
        Folder; made where it is missing. A file of the same name is replaced when the new one is whole.
    kind : {"parquet", "csv", "nexus"}
        ``parquet`` and ``csv``: ``sites``, ``tracks`` and ``events``. ``nexus``: a stack for each part.
    progress : callable, optional
        Called with the number of frames done.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    FileError
        The recording cannot be read, or the folder not be written to.
    """
    recording = Recording(path)
    report = progress or (lambda _: None)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if kind == "nexus":
            return _stacks(recording, out, report)
        return _tables(recording, out, kind, report)
    except OSError as error:
        raise FileError(f"{out}: {error.strerror or error}; give a folder that can be written to") from error


def _tables(recording: Recording, out: Path, kind: str, report: Callable[[int], None]) -> list[Path]:
    import pyarrow as pa

    tracks: dict[tuple[str, int], dict[str, Any]] = {}
    classes = [part.classes for part in recording.parts]
    with _writer(out / f"sites.{kind}", kind) as write:
        batch: list[Any] = []
        rows = 0
        for done, one in enumerate(recording.frames, 1):
            part = recording.parts[one.part]
            batch.append(_sites(part, one.row, one.header, classes[one.part], tracks))
            rows += batch[-1].num_rows
            if rows > BATCH_ROWS or done == len(recording):
                write(pa.concat_tables(batch))
                batch, rows = [], 0
            report(done)
    with _writer(out / f"tracks.{kind}", kind) as write:
        write(pa.Table.from_pylist(list(tracks.values()), schema=_schema(_TRACKS)))
    with _writer(out / f"events.{kind}", kind) as write:
        write(pa.Table.from_pylist(_events(recording), schema=_schema(_EVENTS)))
    return [out / f"{name}.{kind}" for name in ("sites", "tracks", "events")]


def _sites(
    part: RecordedPart,
    row: int,
    header: dict[str, Any],
    classes: dict[int, dict[str, Any]],
    tracks: dict[tuple[str, int], dict[str, Any]],
) -> Any:
    """The sites of one frame as a table; its tracks are taken in on the way."""
    import pyarrow as pa

    sites = part.sites(row)
    n = len(sites)
    pixel = header.get("pixel_size_nm")
    time = header.get("timeStamp", header.get("t_received"))
    names = [classes.get(int(k), _NO_CLASS)["name"] for k in sites["class_id"]]
    roles = [ROLES[k] for k in sites["role"]]
    run, series_id = str(part.about.get("run", "")), header.get("series_id", "")
    for k in np.flatnonzero(sites["track"] >= 0):
        number = int(sites["track"][k])
        began = {"run": run, "track": number, "series_id": series_id, "n_frames": 0}
        began |= {"first_frame": header["frame"], "first_time_s": time, "first_class": names[k]}
        track = tracks.setdefault((run, number), began)
        track["n_frames"] += 1
        track |= {"row_px": float(sites["row_px"][k]), "col_px": float(sites["col_px"][k])}
        track |= {"last_frame": header["frame"], "last_time_s": time}
        track |= {"last_class": names[k], "last_role": roles[k]}
    columns: dict[str, Any] = {name: sites[name] for name in sites.dtype.names or ()}
    columns |= {"run": [run] * n, "series_id": [series_id] * n}
    columns |= {"frame": [header["frame"]] * n, "time_s": [time] * n}
    columns |= {
        name: sites[of].astype(float) * pixel if pixel else [None] * n
        for name, of in (("x_nm", "col_px"), ("y_nm", "row_px"))
    }
    columns |= {"class_name": names, "role": roles}
    schema = _schema(_SITES)
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _events(recording: Recording) -> list[dict[str, Any]]:
    """The envelope, what tables are usually sorted by, and all of the data as JSON."""
    rows = []
    for part in recording.parts:
        for event in part.events:
            data = event.get("data", {})
            px, nm = data.get("px") or {}, data.get("nm") or {}
            row = {name: event.get(name) for name in ("seq", "type", "time", "stream", "source")}
            row |= {name: data.get(name) for name in _FROM_DATA}
            row |= {
                "row_px": px.get("row"),
                "col_px": px.get("col"),
                "x_nm": nm.get("x"),
                "y_nm": nm.get("y"),
            }
            rows.append(row | {"data": json.dumps(data, ensure_ascii=False)})
    return sorted(rows, key=lambda row: (row["stream"], row["seq"]))


@contextlib.contextmanager
def _writer(path: Path, kind: str) -> Iterator[Callable[[Any], None]]:
    """Writes tables one after another; the file is in its place when all are in it."""
    draft = path.with_name(f".{path.name}.partial")
    opened: list[Any] = []

    def write(table: Any) -> None:
        if not opened:
            if kind == "parquet":
                import pyarrow.parquet

                opened.append(pyarrow.parquet.ParquetWriter(draft, table.schema, compression="zstd"))
            else:
                import pyarrow.csv

                opened.append(pyarrow.csv.CSVWriter(draft, table.schema))
        opened[0].write_table(table)

    try:
        yield write
        if not opened:
            raise FileError(f"{path.parent}: nothing was recorded; there is nothing to export")
        opened[0].close()
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _stacks(recording: Recording, out: Path, report: Callable[[int], None]) -> list[Path]:
    written, done = [], 0
    for part in recording.parts:
        if not part.has_frames or not part.frames:
            continue
        path = out / f"{part.path.stem}.nxs"
        draft = path.with_name(f".{path.name}.partial")
        try:
            for _ in _write_stack(part, draft):
                done += 1
                report(done)
            draft.replace(path)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        written.append(path)
    if not written:
        raise FileError(f"{recording.path}: recorded without frames; export parquet or csv")
    return written


def _write_stack(part: RecordedPart, path: Path) -> Iterator[int]:
    """One part as NeXus, after the application definition NXem: a stack of images with its axes."""
    import h5py

    series = part.series()
    times = np.array([one.get("timeStamp", one.get("t_received", 0.0)) for one in part.frames], float)
    pixel = series.pixel_size_nm
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry")
        entry["definition"] = "NXem"
        entry["start_time"] = datetime.fromtimestamp(float(times[0]), UTC).isoformat()
        program = _group(entry, "profiling_program", "NXprogram")
        program["program"] = "latticewatch"
        program["program"].attrs["version"] = __version__
        measurement = _group(entry, "measurement", "NXem_measurement")
        instrument = _group(measurement, "instrument", "NXem_instrument")
        instrument["name"] = str(part.about.get("source", ""))
        detector = _group(instrument, "detector", "NXdetector")
        detector["local_name"] = str(part.about.get("detector") or "")
        image = _group(_group(measurement, "events", "NXem_event_data"), "image", "NXimage")
        stack = _group(image, "stack_2d", "NXdata")
        for group, default in (
            (entry, "measurement"),
            (measurement, "events"),
            (measurement["events"], "image"),
            (image, "stack_2d"),
        ):
            group.attrs["default"] = default
        stack.attrs["signal"] = "real"
        stack.attrs["axes"] = ["time", "axis_j", "axis_i"]
        stack["title"] = series.name
        axes = {
            "time": (times - times[0], "s", "time"),
            "axis_j": (np.arange(series.shape[0]) * (pixel or 1.0), "nm" if pixel else "", "y"),
            "axis_i": (np.arange(series.shape[1]) * (pixel or 1.0), "nm" if pixel else "", "x"),
        }
        for k, (name, (values, units, said)) in enumerate(axes.items()):
            stack[name] = values
            stack[name].attrs.update({"units": units, "long_name": said})
            stack.attrs[f"{name}_indices"] = k
        data = stack.create_dataset(
            "real",
            (len(part.frames), *series.shape),
            series.dtype.newbyteorder("<"),
            chunks=(1, *series.shape),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        data.attrs["long_name"] = "intensity"
        # all that was said of each frame, as it was recorded
        stack["frames"] = json.dumps(part.frames, ensure_ascii=False)
        for row in range(len(part.frames)):
            data[row] = series.frame(row)
            yield row


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


# Columns and their types, in the words of Arrow.
_SITES = (
    "run string, series_id string, frame int64, time_s double, track int32, row_px float, col_px float, x_nm double, "
    "y_nm double, sublattice int16, class_id int16, class_name string, role string, confidence float"
)
_TRACKS = (
    "run string, track int32, series_id string, first_frame int64, last_frame int64, n_frames int64, "
    "first_time_s double, last_time_s double, row_px double, col_px double, first_class string, last_class string, "
    "last_role string"
)
_EVENTS = (
    "stream string, seq int64, type string, time string, source string, series_id string, frame int64, track int64, "
    "class_id int64, class_name string, role string, confidence double, row_px double, col_px double, x_nm double, "
    "y_nm double, data string"
)


def _schema(columns: str) -> Any:
    import pyarrow as pa

    pairs = [column.split() for column in columns.split(", ")]
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in pairs])
