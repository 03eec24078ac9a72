"""``latticewatch analyse``: recorded frames through the pipeline, into tables and figures."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latticewatch.cli._file_options import Axes, Channel, Dataset, Image, PixelSize
from latticewatch.cli._progress import frames_bar
from latticewatch.cli._serve import patch_size_of
from latticewatch.errors import FileError

if TYPE_CHECKING:
    from latticewatch.config import AnalysisSettings
    from latticewatch.ingest import FileSeries


def analyse(
    files: Annotated[list[Path], typer.Argument(help="Images or stacks.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the results; each of several files gets its own in it.")
    ],
    pixel_size: PixelSize = None,
    channel: Channel = None,
    image: Image = None,
    axes: Axes = None,
    dataset: Dataset = None,
    patch_size: Annotated[
        str | None, typer.Option(metavar="PX|auto", help="Diameter of the patches, in pixels.")
    ] = None,
    invariant: Annotated[
        bool | None, typer.Option("--invariant", help="Orientations of a motif are one class.")
    ] = None,
    material: Annotated[
        str | None,
        typer.Option(
            metavar="FORMULA", help="WS2; Se2,W (brightest column first); doped WS2:Fe,Te. Sets names."
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(metavar="threads|processes|dask://HOST:PORT", help="Where frames are analysed."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures too.")] = True,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Leave out files that are done, and go on within one that was interrupted."
        ),
    ] = False,
) -> None:
    """Find every site of recorded frames, vacancies included, and tell defects apart without a label."""
    from latticewatch.config import load_settings
    from latticewatch.ingest import read_frames
    from latticewatch.ingest.files import check
    from latticewatch.offline import finished

    settings = load_settings(
        analysis={
            "patch_size": patch_size_of(patch_size),
            "invariant": invariant,
            "material": material,
            "executor": executor,
            "seed": seed,
        }
    ).analysis
    # every file is opened before the first is analysed: a wrong name costs no time
    check(files, channel=channel, pixel_size_nm=pixel_size, image=image, axes=axes, dataset=dataset)
    opened = [
        read_frames(path, channel, pixel_size, image=image, axes=axes, dataset=dataset) for path in files
    ]
    options = {
        "analysis": settings.model_dump(mode="json", exclude={"threads", "executor"}),
        "pixel_size_nm": pixel_size,
        "channel": channel,
        "image": image,
        "axes": axes,
        "dataset": dataset,
        "figures": figures,
    }
    failed: list[str] = []
    for series, folder in zip(opened, folders(files, out), strict=True):
        if resume and finished(series.path, folder, options):
            typer.echo(f"{series.path.name}: done before; results in {folder}")
            continue
        try:
            _analyse_one(series, folder, settings, options, figures, resume, failed)
        except FileError as error:
            if len(opened) == 1:
                raise
            # what is wrong with one file is no reason to leave the others
            failed.append(str(error))
    if failed:
        raise FileError("; ".join(failed))


def _analyse_one(
    series: FileSeries,
    folder: Path,
    settings: AnalysisSettings,
    options: dict[str, Any],
    figures: bool,
    resume: bool,
    failed: list[str],
) -> None:
    """One file; what can be read of a damaged one is kept, and the fault added to `failed`."""
    from latticewatch.offline import ResultWriter, run_file

    damage: list[FileError] = []
    with ResultWriter(series, folder, options, resume=resume) as writer, interruptible() as stopped:
        if writer.start is not None:
            typer.echo(f"{series.path.name}: goes on after {writer.start.frames} of {len(series)} frames")
        elif writer.refused is not None:
            typer.echo(f"{series.path.name}: begins anew, for what was done before is of {writer.refused}")
        with frames_bar(series.path.name, len(series)) as done:
            last = run_file(
                series,
                settings,
                writer.add,
                writer.event,
                done,
                stopped.is_set,
                damage.append,
                keeper=writer,
                start=writer.start,
            )
        early = len(writer.stack) < len(series)
        if not len(writer.stack):
            if damage:
                raise damage[0]
            raise typer.Exit(130)
        reason = str(damage[0]) if damage else "interrupted"
        written, numbers = writer.finish(
            last, writer.seconds, figures, len(series) if early else None, reason
        )
    for note in series.notes:
        typer.echo(f"warning: {series.path}: {note}", err=True)
    typer.echo(said(numbers))
    typer.echo(f"  {len(written)} files in {folder}")
    if early:
        typer.echo(
            f"ended early: {numbers['frames']} of {len(series)} frames were analysed; --resume goes on",
            err=True,
        )
    if damage:
        failed.append(str(damage[0]))
    elif early:
        raise typer.Exit(130)


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """The first Ctrl-C asks for an end after the frames in hand; a second one ends at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: object) -> None:
        stopped.set()
        signal.signal(number, before[number])  # type: ignore[arg-type]

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def folders(files: list[Path], out: Path) -> list[Path]:
    """A folder for the results of each file; names that stand twice are numbered."""
    if len(files) == 1:
        return [out]
    seen: dict[str, int] = {}
    result = []
    for path in files:
        seen[path.stem] = seen.get(path.stem, 0) + 1
        result.append(out / (path.stem if seen[path.stem] == 1 else f"{path.stem}-{seen[path.stem]}"))
    return result


def said(numbers: dict) -> str:
    """The summary as a person reads it."""
    rows, cols = numbers["shape_px"]
    head = f"{numbers['file']}: {numbers['frames']} x {rows} x {cols} px, {numbers['seconds']:.1f} s"
    if not numbers["lattice_found"]:
        return f"{head}\n  no lattice found; {numbers['sites']} peaks{_notes(numbers)}"
    constant = f"{numbers['lattice_constant_px']:.2f} px"
    if numbers["lattice_constant_nm"] is not None:
        constant = f"{numbers['lattice_constant_nm']:.4f} nm ({constant})"
    by_role = numbers["sites_by_role"]
    roles = ", ".join(f"{by_role[role]} {role}" for role in ("defect", "neighbour", "unknown"))
    return (
        f"{head}\n  lattice constant {constant}, {numbers['sites']} sites: {by_role['host']} host, {roles}\n"
        f"  {numbers['classes']} classes, {numbers['events']} events{_notes(numbers)}"
    )


def _notes(numbers: dict) -> str:
    """What the run has to say about its own doubt, a line each."""
    lines = []
    for note in numbers["notes"]:
        which = f" (in {note['frames']} of {numbers['frames']} frames)" if numbers["frames"] > 1 else ""
        lines.append(f"\n  note: {note['text']}{which} {note['remedy']}".rstrip())
    return "".join(lines)
