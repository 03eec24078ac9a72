"""The model in force, its version, the number of the next class, and what people change in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from latticewatch.discover import Halves, divided
from latticewatch.errors import UnknownClassError
from latticewatch.messages import Role
from latticewatch.model import CatalogueEntry, Model
from latticewatch.pipeline._events import class_event, model_event
from latticewatch.pipeline._results import EventDraft


class InForce:
    """Holds the model that classifies; no version, and no number of a class, is used for two.

    Attributes
    ----------
    model : Model or None
        None while nothing is learnt.
    version : int
        Of the model in force, or of the one before.
    next_class : int
        Number that the next class gets.
    """

    def __init__(self) -> None:
        self.model: Model | None = None
        self.version = 0
        self.next_class = 0

    @property
    def learnt(self) -> Model:
        """The model, where there is one."""
        assert self.model is not None
        return self.model

    def adopt(self, model: Model) -> None:
        """Put a model in force.

        Parameters
        ----------
        model : Model
        """
        self.model = model
        self.version = model.version
        self.next_class = max([self.next_class, *(entry.class_id + 1 for entry in model.classes)])

    def put_out(self, reason: str) -> list[EventDraft]:
        """Put the model out of force.

        Parameters
        ----------
        reason : str
            In words.

        Returns
        -------
        list of EventDraft
            What is to be told of it; nothing where there was no model.
        """
        had, self.model = self.model, None
        if had is None:
            return []
        self.version += 1
        return [model_event(replace(had, version=self.version, classes=()), None, reason)]

    def rename(self, class_id: int, name: str) -> tuple[CatalogueEntry, EventDraft]:
        """See `Learner.rename`; the event that tells of it, too."""
        model = self._with(class_id)
        old = model.entry(class_id)
        entry = replace(old, name=name)
        self.adopt(model.with_entry(entry))
        return entry, class_event("class.renamed", entry, self.version, previous_name=old.name)

    def set_role(self, class_id: int, role: Role) -> tuple[CatalogueEntry, EventDraft]:
        """See `Learner.set_role`; the event that tells of it, too."""
        model = self._with(class_id)
        entry = replace(model.entry(class_id), role=role)
        self.adopt(model.with_entry(entry))
        return entry, model_event(self.learnt, None, f"role of {entry.name} set to {role}")

    def merge(self, class_id: int, others: list[int]) -> tuple[CatalogueEntry, dict[int, int], EventDraft]:
        """See `Learner.merge`; which class those that are gone are part of, and the event that tells of it, too."""
        model = self._with(class_id)
        taken = [model.entry(other) for other in others if other != class_id]
        entry = model.entry(class_id)
        entry = replace(
            entry,
            total=entry.total + sum(other.total for other in taken),
            prior=entry.prior + sum(other.prior for other in taken if other.sublattice == entry.sublattice),
        )
        gone = {other.class_id: class_id for other in taken}
        alias = {old: gone.get(new, new) for old, new in model.alias.items()} | gone
        kept = tuple(e for e in model.with_entry(entry).classes if e.class_id not in gone)
        layout = np.array([gone.get(int(i), int(i)) for i in model.embedding_class], np.int16)
        sublattices = tuple(known.without_healed(alias) for known in model.sublattices)
        self.adopt(
            replace(
                model,
                version=model.version + 1,
                sublattices=sublattices,
                classes=kept,
                alias=alias,
                embedding_class=layout,
            )
        )
        return entry, gone, class_event("class.merged", entry, self.version, merged=tuple(gone))

    def split(
        self, class_id: int, halves: Sequence[Halves], name: str | None
    ) -> tuple[CatalogueEntry, EventDraft]:
        """See `Learner.split`; the event that tells of it, too."""
        model = self._with(class_id)
        part = self.next_class
        self.adopt(divided(model, class_id, halves, part, name))
        entry = self.learnt.entry(part)
        return entry, class_event("class.split", entry, self.version, split_from=class_id)

    def entry(self, class_id: int) -> CatalogueEntry:
        """A class of the model in force.

        Parameters
        ----------
        class_id : int

        Returns
        -------
        CatalogueEntry

        Raises
        ------
        UnknownClassError
            There is no such class, or no model yet.
        """
        return self._with(class_id).entry(class_id)

    def _with(self, class_id: int) -> Model:
        if self.model is None:
            raise UnknownClassError(
                f"class {class_id}: nothing is learnt yet; wait for the learning phase to end"
            )
        self.model.entry(class_id)
        return self.model
