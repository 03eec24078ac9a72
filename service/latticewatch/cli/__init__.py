"""The command line: one module a command; nothing heavy is imported before its command runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer

from latticewatch.errors import LatticewatchError

# command: (module of this package, function)
COMMANDS = {
    "demo": ("_demo", "demo"),
    "serve": ("_serve", "serve"),
    "simulate": ("_simulate", "simulate"),
    "replay": ("_replay", "replay"),
    "export": ("_export", "export"),
    "analyse": ("_analyse", "analyse"),
    "inspect": ("_inspect", "inspect"),
    "events": ("_events", "events"),
    "classes": ("_classes", "classes"),
    "model": ("_model", "model"),
    "loop": ("_loop", "loop"),
    "config": ("_config", "config"),
    "keys": ("_keys", "keys"),
    "doctor": ("_doctor", "doctor"),
    "compile": ("_compile", "compile_kernels"),
    "bench": ("_bench", "bench"),
}
# What each extra brings, to name the one that is missing.
EXTRA_OF = {
    "zmq": "service",
    "cbor2": "service",
    "msgpack": "service",
    "numba": "service",
    "sklearn": "service",
    "scipy": "service",
    "threadpoolctl": "service",
    "fastapi": "service",
    "uvicorn": "service",
    "structlog": "service",
    "pydantic_settings": "service",
    "ase": "simulator",
    "rsciio": "io",
    "pint": "io",
    "zarr": "io",
    "pyarrow": "io",
    "matplotlib": "io",
    "tifffile": "io",
    "h5py": "io",
}


def _command(name: str) -> Callable[..., Any] | typer.Typer:
    module, function = COMMANDS[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)


def build(only: str | None = None) -> typer.Typer:
    """The application, with one command or with all of them."""
    app = typer.Typer(
        name="latticewatch",
        help="See atomic defects being born: live defect analysis for scanning transmission electron microscopes.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(common_options)
    for name in COMMANDS if only is None else [only]:
        command = _command(name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(_versions())
        raise typer.Exit


def _versions() -> str:
    """Our version first, then what a report of a fault should name too."""
    import importlib.metadata
    import platform

    from latticewatch import __version__

    with_us = [f"Python {platform.python_version()}"]
    for name in ("numpy", "numba", "pyzmq"):
        try:
            with_us.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{__version__}  ({', '.join(with_us)}; {platform.system()} {platform.machine()})"


def common_options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and end.", is_eager=True, callback=_print_version
    ),
) -> None:
    """See atomic defects being born: live defect analysis for scanning transmission electron microscopes."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    only = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        build(only)(arguments, prog_name="latticewatch")
    except LatticewatchError as error:
        fail(" ".join(str(error).split()))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRA_OF:
            raise
        extra = EXTRA_OF[package]
        fail(f"this command needs {package}: install it with  pip install 'latticewatch[{extra}]'")
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


def fail(message: str) -> None:
    """One line on standard error, exit status 2."""
    sys.stderr.write(f"latticewatch: {message}\n")
    raise SystemExit(2)
