"""``latticewatch classes``: the catalogue of a service as a table."""

from __future__ import annotations

from typing import Annotated

import typer

from latticewatch.cli._events import Key, Service


def classes(
    json: Annotated[bool, typer.Option("--json", help="A JSON list.")] = False,
    service: Service = "http://127.0.0.1:8765",
    key: Key = None,
) -> None:
    """Print the classes: role, how many there are now and have been, and how far from their host they are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from latticewatch_client import Client

    with Client(service, key) as client:
        found = client.classes()
    if json:
        typer.echo(f"[{', '.join(one.model_dump_json() for one in found)}]")
        return
    if not found:
        typer.echo("no classes yet: the service is waiting for frames, or learning")
        return
    names = {one.class_id: one.name for one in found}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "now", "in all", "d′ [σ]"):
        table.add_column(heading, justify="right")
    for heading in ("class", "role", "host", "template"):
        table.add_column(heading)
    for one in found:
        table.add_row(
            str(one.class_id),
            str(one.count),
            str(one.total),
            "–" if one.separation is None else f"{one.separation:.1f}",
            Text.assemble(("● ", one.colour), one.name),
            one.role,
            Text("–" if one.host_class is None else names.get(one.host_class, str(one.host_class))),
            Text("–" if one.template is None else f"{one.template} {one.score or 0:.2f}"),
        )
    Console().print(table)
