"""``latticewatch doctor``: what comes from an address, what is wrong with it, and how to attach it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from latticewatch.ingest import Diagnosis, Heard


def doctor(
    source: Annotated[str, typer.Argument(help="Where frames come from: tcp://HOST:PORT or merlin://HOST.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to listen.")] = 10.0,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the settings that the service uses.")
    ] = None,
) -> None:
    """Listen to an address, and say what comes, what is wrong, and how to attach it.

    A sender that pushes shares its frames among all who listen: what is heard here, a running service does not get.
    """
    from latticewatch.cli._serve import log_to_stderr
    from latticewatch.config import load_settings
    from latticewatch.ingest import examine

    log_to_stderr("ERROR")
    settings = load_settings(config).ingest
    typer.echo(f"listening to {source} for {seconds:g} s")
    diagnosis = examine(source, seconds, settings)
    for line in lines_of(diagnosis):
        typer.echo(line)
    if diagnosis.command is None:
        raise typer.Exit(1)


def lines_of(diagnosis: Diagnosis) -> list[str]:
    """What was heard, in lines."""
    heard = diagnosis.heard
    lines = ["nothing came"] if heard is None else _heard(heard)
    for note in diagnosis.notes:
        lines += [f"problem      {note.text}"]
        lines += [f"             {note.remedy}"] if note.remedy else []
    if diagnosis.command is not None:
        lines.append(f"attach with  {diagnosis.command}")
    return lines


def _heard(heard: Heard) -> list[str]:
    counts, frame = heard.counts, heard.last
    lines = [f"format       {heard.format or 'not recognised'}, through {heard.socket.upper()}"]
    rate = "" if heard.fps is None else f", {heard.fps:.3g} per second"
    lines.append(f"frames       {counts.received}{rate}")
    if frame is not None:
        sizes = ", ".join(f"{rows} × {cols}" for rows, cols in sorted(heard.sizes))
        lines.append(f"size         {sizes} px, {frame.image.dtype.name}")
        if frame.pixel_size_nm is None:
            lines.append("pixel size   not said: give --pixel-size NM, or positions are in pixels only")
        else:
            rows, cols = frame.image.shape
            size = frame.pixel_size_nm
            lines.append(
                f"pixel size   {size:.4g} nm, field of view {cols * size:.4g} × {rows * size:.4g} nm"
            )
        stage = (
            "not said" if frame.stage_nm is None else f"{frame.stage_nm[0]:.6g}, {frame.stage_nm[1]:.6g} nm"
        )
        lines.append(f"stage        {stage}; scan rotation {frame.rotation_deg or 0:g}°")
        lines.append(f"detectors    {', '.join(sorted(heard.detectors)) or 'not said'}")
    if heard.series:
        lines.append(f"series       {len(heard.series)}, the last: {heard.series[-1]}")
    if counts.lost_upstream:
        lines.append(f"lost         {counts.lost_upstream} frames before they arrived")
    for name, what in (
        ("dropped", counts.dropped),
        ("refused", counts.rejected),
        ("ignored", counts.ignored),
    ):
        shown = {reason: n for reason, n in what.items() if reason not in ("queue full", "shutdown")}
        if shown:
            lines.append(f"{name:<12} {', '.join(f'{reason} {n}' for reason, n in shown.items())}")
    return lines
