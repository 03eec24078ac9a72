"""``latticewatch export``: what a recording holds, for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What is written."""

    parquet = "parquet"
    csv = "csv"
    nexus = "nexus"


def export(
    recording: Annotated[Path, typer.Argument(help="Folder that serve --record named, or one part of it.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[  # noqa: A002
        Format, typer.Option(help="Tables as parquet or csv, or the images as NeXus.")
    ] = Format.parquet,
) -> None:
    """Write sites, tracks and events of a recording as tables, or its images as NeXus."""
    from latticewatch.cli._progress import frames_bar
    from latticewatch.ingest import Recording
    from latticewatch.offline import export_recording

    with frames_bar("written", len(Recording(recording))) as done:
        written = export_recording(recording, out, format.value, done)
    for path in written:
        typer.echo(path)
