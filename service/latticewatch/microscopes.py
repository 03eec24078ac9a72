"""Which microscopes a service watches, and the configuration of each."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import ValidationError

from latticewatch.config import Section, Settings, unfit
from latticewatch.errors import ConfigurationError

# NAME=ADDRESS: a name holds neither colon nor slash, so no address is taken for one.
NAMED = re.compile(r"([^:/=]*)=(.*)", re.DOTALL)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Paths that a service of several microscopes answers itself.
TAKEN = ("v1", "healthz", "readyz", "metrics")
# Settings that say which microscopes there are, and cannot be of one of them.
OF_ALL = ("sources", "one_microscope")

S = TypeVar("S", bound=Section)


def microscopes_of(settings: Settings) -> dict[str, Settings]:
    """The configuration of each microscope that a service watches, by its name.

    A source is a microscope, unless ``ingest.one_microscope`` says that all are of one, or two have the same name. Each
    keeps what it learns, its events and its recording in a folder of its own, and has its name in its events. What
    ``microscopes.NAME`` says of one wins over what ``ingest`` and ``analysis`` say of all.

    Parameters
    ----------
    settings : Settings
        Of the service; a source is an address, or ``NAME=ADDRESS``.

    Returns
    -------
    dict of str to Settings
        In the order of the sources. The name is empty where a service watches one microscope that has none: its
        settings are those of the service.

    Raises
    ------
    ConfigurationError
        A name that cannot be one, names although all sources are of one microscope, or settings of one that cannot
        work or that is none of these.
    """
    watched = _watched(settings)
    unknown = sorted(settings.microscopes.keys() - watched.keys())
    if unknown:
        there = ", ".join(filter(None, watched)) or "none with a name"
        raise ConfigurationError(
            f"microscopes.{unknown[0]}: no such microscope; ingest.sources gives {there}, as NAME=ADDRESS"
        )
    return watched


def _watched(settings: Settings) -> dict[str, Settings]:
    given = [_split(source) for source in settings.ingest.sources]
    named = {name for name, _ in given if name is not None}
    if named and settings.ingest.one_microscope:
        raise ConfigurationError(
            f"ingest.sources: {', '.join(sorted(named))}: with ingest.one_microscope sources have no names; leave the "
            "names out, or give sources of the same microscope the same name"
        )
    if not named and (settings.ingest.one_microscope or len(given) == 1):
        return {"": settings}
    addresses: dict[str, list[str]] = {}
    for name, address in given:
        addresses.setdefault(name or _free(_name_of(address), named | addresses.keys()), []).append(address)
    return {name: _of_one(settings, name, own) for name, own in addresses.items()}


def _split(source: str) -> tuple[str | None, str]:
    match = NAMED.fullmatch(source)
    if match is None:
        return None, source
    name, address = match.groups()
    if not NAME.fullmatch(name) or name in TAKEN:
        raise ConfigurationError(
            f"ingest.sources: {source!r}: {name!r} cannot be the name of a microscope; take letters, digits, '.', '_' "
            f"and '-', at most 64, and none of {', '.join(TAKEN)}"
        )
    return name, address


def _name_of(address: str) -> str:
    """A name for a microscope that was given none: ``titan-pc-5555`` for ``tcp://titan-pc:5555``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", address.partition("://")[2]).strip("-._")
    return plain[:60] or "microscope"


def _free(name: str, others: set[str]) -> str:
    n, free = 1, name
    while free in others or free in TAKEN:
        n += 1
        free = f"{name}-{n}"
    return free


def _of_one(settings: Settings, name: str, addresses: list[str]) -> Settings:
    serve, record = settings.serve, settings.record
    ingest, analysis = settings.ingest, settings.analysis
    if (own := settings.microscopes.get(name)) is not None:
        ingest = _with(ingest, own.ingest, f"microscopes.{name}.ingest")
        analysis = _with(analysis, own.analysis, f"microscopes.{name}.analysis")
    folders: dict[str, Any] = {"data_dir": record.data_dir / name}
    if record.recording is not None:
        folders["recording"] = record.recording / name
    return settings.model_copy(
        update={
            "ingest": ingest.model_copy(update={"sources": tuple(addresses), "one_microscope": True}),
            "analysis": analysis,
            "microscopes": {},
            "serve": serve.model_copy(update={"instrument": name}),
            "record": record.model_copy(update=folders),
        }
    )


def _with(section: S, own: dict[str, Any], where: str) -> S:
    """A section with other values of some of its settings."""
    for name in OF_ALL:
        if name in own:
            raise ConfigurationError(
                f"setting {where}.{name}: it is of all microscopes; set it under [ingest]"
            )
    try:
        return type(section).model_validate(section.model_dump() | own)
    except ValidationError as error:
        raise unfit(error, f"{where}.") from error
