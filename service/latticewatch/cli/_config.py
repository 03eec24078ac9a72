"""``latticewatch config``: what the service would run with, where each value comes from, and whether it can work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from latticewatch.config import Settings
    from latticewatch.origins import Origin

config = typer.Typer(
    name="config",
    help="Show or check the configuration of the service, from file and environment.",
    no_args_is_help=True,
)
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The TOML file, as given to serve.")
]


@config.command()
def show(
    file: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
) -> None:
    """Print each setting with its value and where that comes from; keys are not shown."""
    settings, origins = _loaded(file)
    rows = [
        (name, _value(settings, name), origin)
        for name, origin in origins.items()
        if not changed or origin != "default"
    ]
    rows += [
        (f"microscopes.{microscope}.{section}.{name}", value, "given")
        for microscope, own in settings.microscopes.items()
        for section, values in own.model_dump(mode="json").items()
        for name, value in values.items()
    ]
    if as_json:
        typer.echo(json.dumps({name: {"value": value, "from": origin} for name, value, origin in rows}))
        return
    if not rows:
        typer.echo("every setting has its default")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", no_wrap=True)
    for name, value, origin in rows:
        table.add_row(
            name,
            "–" if value is None else json.dumps(value),
            origin,
            style="dim" if origin == "default" else None,
        )
    Console(highlight=False).print(table)


@config.command()
def check(file: ConfigOption = None) -> None:
    """Say whether the service could start with this: names, values, folders, files and keys."""
    from latticewatch.config import Settings
    from latticewatch.microscopes import microscopes_of
    from latticewatch.origins import check_environment, names_of
    from latticewatch.serve import Access

    settings, origins = _loaded(file)
    microscopes_of(settings)
    Access(settings.serve)
    _check_folder("record.data_dir", settings.record.data_dir)
    if settings.record.recording is not None:
        _check_folder("record.recording", settings.record.recording)
    if settings.analysis.model is not None:
        _check_file("analysis.model", settings.analysis.model)
    for variable in check_environment(names_of(Settings)):
        typer.echo(f"note: {variable} is no setting, and not used")
    given = sum(origin != "default" for origin in origins.values())
    typer.echo(
        f"the configuration can work: {given} of {len(origins)} settings are given, the others default"
    )


def _loaded(file: Path | None) -> tuple[Settings, dict[str, Origin]]:
    from latticewatch.config import Settings, load_settings
    from latticewatch.origins import names_of, origins_of

    settings = load_settings(file)
    return settings, origins_of(names_of(Settings), file)


def _value(settings: Settings, name: str) -> Any:
    section, _, leaf = name.partition(".")
    # Secrets print as asterisks.
    return getattr(settings, section).model_dump(mode="json")[leaf]


def _check_folder(name: str, path: Path) -> None:
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigurationError(f"setting {name}: {there} is not a folder; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(f"setting {name}: {there} cannot be written; choose another place")


def _check_file(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"setting {name}: {path}: {error.strerror or error}") from error
