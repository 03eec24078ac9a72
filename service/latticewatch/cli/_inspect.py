"""``latticewatch inspect``: what is in a file, and what would be taken of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latticewatch.cli._file_options import Axes, Channel, Dataset, Image, PixelSize
from latticewatch.errors import FileError

if TYPE_CHECKING:
    from latticewatch.ingest import FileSeries
    from latticewatch.ingest.files import Signal

# Known lattices named beside the measured one, at most.
MOST_LATTICES = 4


def inspect(
    files: Annotated[list[Path], typer.Argument(help="Images or stacks.")],
    pixel_size: PixelSize = None,
    channel: Channel = None,
    image: Image = None,
    axes: Axes = None,
    dataset: Dataset = None,
    lattice: Annotated[
        bool, typer.Option("--lattice/--no-lattice", help="Look for the lattice of the first frame.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Say what a file holds, what would be analysed, its calibration and the lattice in its first frame."""
    from latticewatch.ingest import read_frames
    from latticewatch.ingest.files import read_all, refusals

    failed = 0
    refused = refusals(
        files, channel=channel, pixel_size_nm=pixel_size, image=image, axes=axes, dataset=dataset
    )
    for path in files:
        try:
            if path in refused:
                raise FileError(refused[path])
            signals = read_all(path, axes, dataset)
        except FileError as error:
            failed += 1
            typer.echo(json.dumps({"file": str(path), "problem": str(error)}) if as_json else str(error))
            continue
        report: dict[str, Any] = {"file": str(path), "images": [_described(one) for one in signals]}
        try:
            series = read_frames(path, channel, pixel_size, image=image, axes=axes, dataset=dataset)
            report["taken"] = _taken(series) | (_lattice(series) if lattice else {})
        except FileError as error:
            failed += 1
            report["problem"] = str(error)
        typer.echo(json.dumps(report, ensure_ascii=False) if as_json else said(report))
    if failed:
        raise typer.Exit(2)


def _described(signal: Signal) -> dict[str, Any]:
    return {
        "name": signal.name,
        "shape": list(signal.data.shape),
        "dtype": str(signal.data.dtype),
        "axes": [
            {"role": role, "name": axis.name, "size": axis.size, "scale": axis.scale, "units": axis.units}
            for role, axis in zip(signal.roles, signal.axes, strict=True)
        ],
        "channels": [name for name in signal.channels if name],
        "problem": signal.problem(),
    }


def _taken(series: FileSeries) -> dict[str, Any]:
    return {
        "name": series.name,
        "frames": len(series),
        "shape_px": list(series.shape),
        "dtype": str(series.dtype),
        "axes": series.axes,
        "pixel_size_nm": series.pixel_size_nm,
        "frame_s": series.frame_s,
        "notes": list(series.notes),
    }


def _lattice(series: FileSeries) -> dict[str, Any]:
    """The lattice of the first frame, as the analysis would start with it."""
    from latticewatch.errors import NoLatticeError
    from latticewatch.lattice import find_lattice
    from latticewatch.pipeline import counts_and_picture, lattice_notes, lattices_like

    try:
        found = find_lattice(counts_and_picture(series.frame(0))[0])
    except NoLatticeError as error:
        return {"lattice_constant_px": None, "lattice": str(error)}
    constant = found.constant_px
    size = series.pixel_size_nm
    return {
        "lattice_constant_px": constant,
        "lattice_constant_nm": constant * size if size else None,
        "lattices_like_it": list(lattices_like(found.field.vectors, size)),
        "notes": [
            *series.notes,
            *(f"{note.text} {note.remedy}" for note in lattice_notes(found.field.vectors, size)),
        ],
    }


def said(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    lines = [report["file"]]
    for number, one in enumerate(report["images"]):
        axes = ", ".join(
            f"{axis['role']} {axis['size']}"
            + (
                f" ({axis['scale']:.6g} {axis['units']})"
                if axis["scale"] is not None and axis["units"]
                else ""
            )
            for axis in one["axes"]
        )
        lines.append(f"  {number}: {one['name']}, {axes or 'no axes'}, {one['dtype']}")
        if one["channels"]:
            lines.append(
                f"     channels {', '.join(f'{k}: {name}' for k, name in enumerate(one['channels']))}"
            )
        if one["problem"]:
            lines.append(f"     no image: {one['problem']}")
    if "problem" in report:
        return "\n".join([*lines, f"  nothing is taken: {report['problem']}"])
    taken = report["taken"]
    rows, columns = taken["shape_px"]
    size = "no pixel size" if taken["pixel_size_nm"] is None else f"{taken['pixel_size_nm']:.4g} nm/px"
    pace = "" if taken["frame_s"] is None else f", {taken['frame_s']:.4g} s a frame"
    lines.append(f"  taken: {taken['name']}, {taken['frames']} x {rows} x {columns}, {size}{pace}")
    if taken.get("lattice_constant_px"):
        constant = f"{taken['lattice_constant_px']:.2f} px"
        if taken["lattice_constant_nm"]:
            constant += f", {taken['lattice_constant_nm']:.4f} nm"
        like = ", ".join(taken["lattices_like_it"][:MOST_LATTICES])
        lines.append(f"  lattice constant in the first frame: {constant}" + (f", as {like}" if like else ""))
    elif "lattice" in taken:
        lines.append(f"  no lattice in the first frame: {taken['lattice']}")
    lines += [f"  note: {note}" for note in taken["notes"]]
    return "\n".join(lines)
