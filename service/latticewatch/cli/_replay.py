"""``latticewatch replay``: recorded frames on the network, as if they were acquired now."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from latticewatch.cli._file_options import Axes, Channel, Dataset, Image, PixelSize


def replay(
    files: Annotated[
        list[Path], typer.Argument(help="Images or stacks, in the order in which they are sent.")
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
    from latticewatch.ingest import Replayer, read_frames

    series = [
        read_frames(path, channel, pixel_size, image=image, axes=axes, dataset=dataset) for path in files
    ]
    with Replayer(series, bind=bind, fps=fps, loop=loop, lossless=lossless, frames=frames) as replayer:
        before = {
            number: signal.signal(number, lambda *_: replayer.stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            typer.echo(
                f"replaying on {replayer.endpoint} ({'PUSH' if lossless else 'PUB'}), {fps:g} per second"
            )
            for one in series:
                rows, columns = one.shape
                size = "no pixel size" if one.pixel_size_nm is None else f"{one.pixel_size_nm:.4g} nm/px"
                typer.echo(
                    f"  {one.path.name}: {one.name}, {len(one)} x {rows} x {columns} {one.dtype}, {size}"
                )
                for note in one.notes:
                    typer.echo(f"warning: {one.path}: {note}", err=True)
            if wait and not replayer.wait_for_receiver(0):
                typer.echo("waiting for a receiver")
                replayer.wait_for_receiver()
            sent = replayer.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    typer.echo(f"sent {sent} frames")
