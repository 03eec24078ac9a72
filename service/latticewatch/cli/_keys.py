"""``latticewatch keys``: a new key, and the line that lets it in; or a key pair for ZeroMQ."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latticewatch.errors import ConfigurationError


class Grants(StrEnum):
    """What a key is for."""

    read = "read"
    control = "control"
    curve = "curve"


def keys(
    scope: Annotated[
        Grants,
        typer.Argument(
            help="What the key grants; control grants both; curve is a pair for frames over ZeroMQ."
        ),
    ] = Grants.read,
    comment: Annotated[str, typer.Option(help="Whose key it is; written after the hash.")] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="NAME", help="For curve: writes NAME.key and NAME.key_secret.")
    ] = None,
) -> None:
    """Print a new key on standard error, and on standard output the line of serve.keys_file that lets it in.

    With curve, write a key pair of ZeroMQ: NAME.key_secret stays here (ingest.curve_key), NAME.key goes to others.
    """
    if scope is Grants.curve:
        _write_pair(out)
        return
    if out is not None:
        raise ConfigurationError(
            "--out is for `latticewatch keys curve`; other keys are shown once and not written"
        )
    from latticewatch.serve._keys import hash_of, new_key

    key = new_key()
    typer.echo(f"key, shown this once: {key}", err=True)
    about = " ".join([f"{datetime.now(UTC):%Y-%m-%d}", *comment.split()])
    typer.echo(f"{scope.value} {hash_of(key)} {about}")


def _write_pair(name: Path | None) -> None:
    if name is None:
        raise ConfigurationError("keys curve: give --out NAME; NAME.key and NAME.key_secret are written")
    from latticewatch.ingest._curve import write_pair

    public, secret = write_pair(name)
    typer.echo(f"{secret}  stays on this computer: ingest.curve_key of the service, curve_key of a Publisher")
    typer.echo(f"{public}  goes to the other side: its curve_peers")
