"""The options by which a command that reads files is told what a file does not say."""

from __future__ import annotations

from typing import Annotated

import typer

PixelSize = Annotated[
    float | None, typer.Option(metavar="NM", help="Pixel size, instead of the file's, in nm.")
]
Channel = Annotated[
    int | None, typer.Option(min=0, help="Which channel, or which image of a file without channels, from 0.")
]
Image = Annotated[
    str | None, typer.Option(metavar="N|NAME", help="Which image of a file that holds several.")
]
Axes = Annotated[
    str | None,
    typer.Option(metavar="TYX", help="A letter for each axis (T, C, Z, Y, X), instead of the file's."),
]
Dataset = Annotated[
    str | None, typer.Option(metavar="PATH", help="Data set of an HDF5 file of an unknown layout.")
]
