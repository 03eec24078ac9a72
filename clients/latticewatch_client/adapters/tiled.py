"""A finished series of a recording in a Tiled catalogue: its frames and its events as tables (extra ``tiled``)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tiled.client.container import Container

SPEC = "latticewatch.series"
# Folder of ours in each part of a recording, and what is in it; docs/how-to/record-and-replay.md.
OURS, FRAMES, RESULTS, EVENTS = "latticewatch", "frames.jsonl", "results.jsonl", "events.jsonl"
# Of an event's data, what has a column of its own; all of it is in the column ``data``.
OF_DATA = (
    "frame", "track", "class_id", "class_name", "role", "kind", "confidence", "px", "nm", "stage_nm", "model_version",
)  # fmt: skip


def register_series(
    catalogue: Container,
    recording: str | Path,
    series_id: str,
    metadata: Mapping[str, Any] | None = None,
) -> Container:
    """Write a series into a Tiled catalogue.

    Parameters
    ----------
    catalogue : tiled.client.container.Container
        Where to write to, from ``tiled.client.from_uri``; one's own key needs the right to write.
    recording : str or Path
        Folder of a recording, or of one of its parts.
    series_id : str
    metadata : mapping, optional
        What else is to be known of it, ready for JSON.

    Returns
    -------
    tiled.client.container.Container
        With the tables ``frames``, a row for each recorded frame and what was found in it, and ``events``; its metadata
        says how many there are of each, of which log, and when the series began and ended. A series that is in the
        catalogue already is given back as it is.

    Raises
    ------
    ValueError
        There is no such series, it has not ended, or something else is in its place in the catalogue.
    """
    frames, events = _rows(Path(recording), series_id)
    if not frames:
        raise ValueError(f"{recording}: no frame of series {series_id!r}; see frames.jsonl in its parts")
    if not any(event["type"] == "series.ended" for event in events):
        raise ValueError(f"series {series_id!r} has not ended; register it when it has")
    times = [frame["t_received"] for frame in frames]
    said = {
        "series_id": series_id,
        "stream": events[0]["stream"],
        "source": events[0].get("source"),
        "n_frames": len(frames),
        "n_events": len(events),
        "t_first": min(times),
        "t_last": max(times),
    }
    key = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in series_id)
    if key in catalogue:
        there = catalogue[key]
        if dict(there.metadata).get("latticewatch") != said or not {"frames", "events"} <= set(there):
            raise ValueError(
                f"{key!r} is in the catalogue, and is not this series as a whole; remove it first"
            )
        return there
    series = catalogue.create_container(
        key, metadata={**(metadata or {}), "latticewatch": said}, specs=[SPEC]
    )
    series.write_table(pd.DataFrame([_flat(frame) for frame in frames]), key="frames")
    series.write_table(pd.DataFrame([_event_row(event) for event in events]), key="events")
    return series


def _rows(recording: Path, series_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Frames of a series with what was found in them, and its events, in their order."""
    frames: list[dict[str, Any]] = []
    events: dict[int, dict[str, Any]] = {}
    part = recording / OURS
    for ours in [part] if part.is_dir() else sorted(recording.glob(f"*/{OURS}")):
        # A frame may have been looked at twice: the last result is the one that holds.
        found = {line["row"]: line for line in _lines(ours / RESULTS)}
        frames += [
            {**found.get(frame["row"], {}), **frame, "part": ours.parent.name}
            for frame in _lines(ours / FRAMES)
            if frame["series_id"] == series_id
        ]
        for event in _lines(ours / EVENTS):
            if event["data"].get("series_id") == series_id:
                events[event["seq"]] = event
    frames.sort(key=lambda frame: (frame["ordinal"], frame["t_received"]))
    return frames, [events[seq] for seq in sorted(events)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; one that is being written is left out."""
    if path.exists():
        data = path.read_bytes()
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            yield json.loads(line)


def _event_row(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event["data"]
    named = {name: data.get(name) for name in OF_DATA}
    envelope = {name: event[name] for name in ("id", "seq", "stream", "type", "time")}
    return {**envelope, **_flat(named), "data": json.dumps(data)}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with plain columns: x and y, row and col, scalars by their names; what is no number or text as JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and name in ("px", "nm", "stage_nm", "drift_nm", "scalars"):
            flat |= {f"{name}.{part}": number for part, number in value.items()}
        elif name == "stage_nm" and isinstance(value, list) and len(value) == 2:
            flat |= {"stage_nm.x": value[0], "stage_nm.y": value[1]}
        elif isinstance(value, Mapping | list | tuple):
            flat[name] = json.dumps(value)
        elif isinstance(value, float) and not math.isfinite(value):
            flat[name] = None
        else:
            flat[name] = value
    return flat
