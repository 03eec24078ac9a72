"""Where each setting came from, and names in files and in the environment that mean no setting."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

from latticewatch.errors import ConfigurationError

PREFIX = "LATTICEWATCH_"
# Ours, and no settings of the service: what the commands that talk to one read, and where tests find frames.
OTHERS = ("LATTICEWATCH_SERVICE", "LATTICEWATCH_KEY", "LATTICEWATCH_TEST_DATA")
Origin = Literal["command line", "environment", "file", "default"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


def names_of(model: type[BaseModel]) -> list[str]:
    """All settings, as ``section.name``, in the order of the configuration.

    Parameters
    ----------
    model : type
        The root of the configuration, whose fields are sections.

    Returns
    -------
    list of str
    """
    return [
        f"{section}.{name}"
        for section, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for name in field.annotation.model_fields
    ]


def variable_of(name: str) -> str:
    """The environment variable of a setting, ``LATTICEWATCH_SECTION__NAME``.

    Parameters
    ----------
    name : str
        ``section.name``.

    Returns
    -------
    str
    """
    return PREFIX + name.replace(".", "__").upper()


def nearest(name: str, known: list[str]) -> str | None:
    """The setting that somebody who wrote this most likely meant.

    Parameters
    ----------
    name : str
        As written, ``section.name`` or a name alone.
    known : list of str
        All settings.

    Returns
    -------
    str or None
        None where none is alike.
    """
    name = name.lower()
    by_leaf: dict[str, str] = {one.partition(".")[2]: one for one in reversed(known)}
    leaf = name.rpartition(".")[2]
    if leaf in by_leaf:
        return by_leaf[leaf]
    found = difflib.get_close_matches(name, known, 1, 0.75)
    if not found:
        found = [by_leaf[one] for one in difflib.get_close_matches(leaf, list(by_leaf), 1, 0.75)]
    return found[0] if found else None


def meant(name: str, known: list[str]) -> str:
    """What to say after a name that is no setting.

    Parameters
    ----------
    name : str
        As written.
    known : list of str
        All settings, as ``section.name``.

    Returns
    -------
    str
        With the nearest setting, where one is alike.
    """
    found = nearest(name, known)
    return "no such setting" if found is None else f"no such setting; {found} is meant, perhaps"


def check_environment(known: list[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Refuse variables that look like settings and are none, which would be ignored without a word.

    Parameters
    ----------
    known : list of str
        All settings.
    environment : mapping, optional
        That of the process by default.

    Returns
    -------
    list of str
        Variables with our prefix that look like no setting at all: not used, as those that Kubernetes makes.

    Raises
    ------
    ConfigurationError
        One that was meant as a setting, named with the nearest that there is.
    """
    sections = {name.partition(".")[0] for name in known}
    others = []
    for variable in sorted(os.environ if environment is None else environment):
        if not variable.upper().startswith(PREFIX) or variable in OTHERS:
            continue
        name = variable[len(PREFIX) :].lower()
        section, nested, leaf = name.partition("__")
        # of one microscope alone: its names are not known here
        if section == "microscopes":
            continue
        if f"{section}.{leaf.partition('__')[0]}" in known or (name in sections and not nested):
            continue
        guess = nearest(f"{section}.{leaf}" if nested else name, known)
        if nested or guess is not None:
            hint = "" if guess is None else f"; {variable_of(guess)} is meant, perhaps"
            raise ConfigurationError(f"{variable}: no such setting{hint}")
        others.append(variable)
    return others


def origins_of(
    known: list[str],
    config: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Origin]:
    """Where each setting has its value from.

    Parameters
    ----------
    known : list of str
        All settings.
    config : Path, optional
        The TOML file; it can be read.
    overrides : mapping, optional
        Values by section, from the command line; None means not given.
    environment : mapping, optional
        That of the process by default.

    Returns
    -------
    dict of str to str
        By ``section.name``.
    """
    given = {f"{section}.{name}" for section, name in _given(overrides or {})}
    variables = {variable.upper() for variable in (os.environ if environment is None else environment)}
    written: set[str] = set()
    if config is not None:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
        written = {f"{section}.{name}" for section, values in tables.items() for name in values}

    def origin(name: str) -> Origin:
        if name in given:
            return "command line"
        section = PREFIX + name.partition(".")[0].upper()
        in_environment = variable_of(name)
        if section in variables or any(
            one == in_environment or one.startswith(f"{in_environment}__") for one in variables
        ):
            return "environment"
        return "file" if name in written else "default"

    return {name: origin(name) for name in known}


def _given(overrides: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for section, values in overrides.items():
        for name, value in values.items():
            if value is not None:
                yield section, name
