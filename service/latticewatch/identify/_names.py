"""Classes that are called by the element that they are, where a person has told which ones there may be."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from latticewatch.elements import dopants_of
from latticewatch.model import CatalogueEntry, Model, named_change, unique

_ONE_ELEMENT = re.compile(r"(\S+) on \S+")


def named_by_element(model: Model, among: Collection[int] | None = None) -> Model:
    """The model, each class that looks like one of the elements it is doped with called by that.

    Parameters
    ----------
    model : Model
        Its classes beside the simulated ones that they look like, its material with what it is doped with.
    among : collection of int, optional
        Only these classes; without it all.

    Returns
    -------
    Model
        The same where no name changes. What a person has named keeps its name; columns beside such a defect are called
        after its new one.
    """
    dopants = () if model.material is None else dopants_of(model.material)
    if not dopants:
        return model
    taken = {entry.name for entry in model.classes}
    called: dict[str, str] = {}
    for entry in model.classes:
        if among is None or entry.class_id in among:
            element = _element_of(entry, dopants)
            if element is not None:
                called[entry.name] = unique(element, taken)
    if not called:
        return model
    return replace(model, classes=tuple(_renamed(entry, called) for entry in model.classes))


def _element_of(entry: CatalogueEntry, dopants: Collection[str]) -> str | None:
    """Such as "Fe on W"; None where it may be several, or where the name is a person's."""
    found = _ONE_ELEMENT.fullmatch(entry.template or "")
    if found is None or found[1] not in dopants:
        return None
    return entry.template if entry.role == "defect" and named_change(entry.name) is not None else None


def _renamed(entry: CatalogueEntry, called: dict[str, str]) -> CatalogueEntry:
    if entry.name in called:
        return replace(entry, name=called[entry.name])
    if entry.role == "neighbour":
        for before, after in called.items():
            head, beside, tail = entry.name.partition(f" beside {before}")
            if beside and (not tail or tail.startswith(" ")):
                return replace(entry, name=f"{head} beside {after}{tail}")
    return entry
