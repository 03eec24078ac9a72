"""``latticewatch replay``: recorded frames on the network, as if they were acquired now."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.cli._file_options import Axes, Channel, Dataset, Image, PixelSize

if TYPE_CHECKING:
    from latticewatch.ingest import FileSeries, Recording


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(help="Images, stacks or recordings, in the order in which they are sent."),
    ],
    bind: Annotated[str, typer.Option(help="Where frames are sent from; port 0 takes a free one.")] = (
        "tcp://127.0.0.1:5555"
    ),
    fps: Annotated[float, typer.Option(min=0.001, max=10_000, help="Frames per second.")] = 10.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again after the last frame.")] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="PUSH instead of PUB: wait for the receiver, drop nothing.")
    ] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    first: Annotated[
        int, typer.Option("--from", min=0, metavar="N", help="First frame, counted from 0 over all files.")
    ] = 0,
    last: Annotated[
        int | None, typer.Option("--to", min=0, metavar="N", help="Last frame; it is sent, too.")
    ] = None,
    pixel_size: PixelSize = None,
    channel: Channel = None,
    image: Image = None,
    axes: Axes = None,
    dataset: Dataset = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Send nothing before somebody receives.")
    ] = True,
) -> None:
    """Send recorded frames as a microscope would: dm3, dm4, emd, ser, mrc, hspy, tif, npy, npz …"""
    from latticewatch.cli._progress import frames_bar
    from latticewatch.ingest import Recording, Replayer, is_recording, read_frames
    from latticewatch.ingest.files import check

    foreign = [path for path in files if not is_recording(path)]
    check(foreign, channel=channel, pixel_size_nm=pixel_size, image=image, axes=axes, dataset=dataset)
    sources = [
        Recording(path)
        if is_recording(path)
        else read_frames(path, channel, pixel_size, image=image, axes=axes, dataset=dataset)
        for path in files
    ]
    with Replayer(
        sources, bind=bind, fps=fps, loop=loop, lossless=lossless, frames=frames, first=first, last=last
    ) as replayer:
        before = {
            number: signal.signal(number, lambda *_: replayer.stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            typer.echo(
                f"replaying on {replayer.endpoint} ({'PUSH' if lossless else 'PUB'}), {fps:g} per second"
            )
            for one in sources:
                _say(one)
            if wait and not replayer.wait_for_receiver(0):
                typer.echo("waiting for a receiver")
                replayer.wait_for_receiver()
            with frames_bar("sent", replayer.total) as done:
                sent = replayer.run(done)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    typer.echo(f"sent {sent} frames")


def _say(source: FileSeries | Recording) -> None:
    """What is sent, in a line, and what is doubtful about it."""
    from latticewatch.ingest import FileSeries

    if not isinstance(source, FileSeries):
        typer.echo(f"  {source.path}: a recording of {len(source.parts)} parts, {len(source)} frames")
        return
    rows, columns = source.shape
    size = "no pixel size" if source.pixel_size_nm is None else f"{source.pixel_size_nm:.4g} nm/px"
    typer.echo(
        f"  {source.path.name}: {source.name}, {len(source)} x {rows} x {columns} {source.dtype}, {size}"
    )
    for note in source.notes:
        typer.echo(f"warning: {source.path}: {note}", err=True)
