"""``latticewatch keys``: a new key, and the line that lets it in."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer


class Grants(StrEnum):
    """What a key is for."""

    read = "read"
    control = "control"


def keys(
    scope: Annotated[Grants, typer.Argument(help="What the key grants; control grants both.")] = Grants.read,
    comment: Annotated[str, typer.Option(help="Whose it is; stands behind the hash.")] = "",
) -> None:
    """Print a new key on standard error, and on standard output the line of serve.keys_file that lets it in."""
    from latticewatch.serve._keys import hash_of, new_key

    key = new_key()
    typer.echo(f"key, shown this once: {key}", err=True)
    about = " ".join([f"{datetime.now(UTC):%Y-%m-%d}", *comment.split()])
    typer.echo(f"{scope.value} {hash_of(key)} {about}")
