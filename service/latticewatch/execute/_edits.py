"""Edits of the catalogue, from any thread; they are done by the one that folds, and hold when they are on disk."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from latticewatch.errors import LatticewatchError, UnknownClassError
from latticewatch.execute._parts import FrameLearner
from latticewatch.execute._publisher import Publisher
from latticewatch.messages import ClassPatch, ClassSplit

if TYPE_CHECKING:
    from latticewatch.model import Model
    from latticewatch.pipeline import CatalogueEntry, SavedModel

EDIT_TIMEOUT_S = 10.0


class EngineBusyError(LatticewatchError):
    """An edit of the catalogue could not be done in time; nothing was changed, or it will be done late."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to be done between two frames, and who waits for it."""

    function: Callable[[], Any]
    done: Future[Any]

    def run(self) -> None:
        """Do it, unless nobody waits any more."""
        if self.done.set_running_or_notify_cancel():
            try:
                self.done.set_result(self.function())
            except Exception as error:  # noqa: BLE001 - belongs to the thread that waits for it
                self.done.set_exception(error)


class Edits:
    """What a person asks of the classes.

    Parameters
    ----------
    queue_of_work : queue.Queue
        Where the folding thread takes its work from.
    publisher : Publisher
    learner : callable
        The learner; called by the folding thread.
    refusal : callable
        Why nothing can be edited now; None where it can.
    """

    def __init__(
        self,
        queue_of_work: queue.Queue[Any],
        publisher: Publisher,
        learner: Callable[[], FrameLearner],
        refusal: Callable[[], str | None],
    ) -> None:
        self._work, self._publisher, self._learner, self._refusal = queue_of_work, publisher, learner, refusal

    def on_fold_thread(self, function: Callable[[], Any]) -> Any:
        """Have something done between two frames.

        Raises
        ------
        EngineBusyError
            Not done within `EDIT_TIMEOUT_S`.
        """
        why = self._refusal()
        if why is not None:
            raise EngineBusyError(why)
        done: Future[Any] = Future()
        deadline = time.monotonic() + EDIT_TIMEOUT_S
        try:
            self._work.put(Edit(function, done), timeout=EDIT_TIMEOUT_S)
            return done.result(timeout=max(0.0, deadline - time.monotonic()))
        except (queue.Full, TimeoutError) as error:
            # An edit that has begun cannot be called back; one that still waits is.
            done.cancel()
            raise EngineBusyError(
                f"the service was busy for {EDIT_TIMEOUT_S:g} s or is stopping; try again"
            ) from error

    def edit(self, class_id: int, patch: ClassPatch) -> CatalogueEntry:
        """Rename a class, set its role, merge others into it."""
        return self.on_fold_thread(lambda: self._edit(class_id, patch))

    def split(self, class_id: int, wanted: ClassSplit) -> CatalogueEntry:
        """Make some sites of a class one of their own."""
        return self.on_fold_thread(lambda: self._split(class_id, wanted))

    def relearn(self) -> None:
        """Throw the classes away and start a new learning phase."""
        self.on_fold_thread(self._relearn)

    def load(self, saved: SavedModel) -> Model:
        """Take up a model of another day."""
        return self.on_fold_thread(lambda: self._load(saved))

    def _load(self, saved: SavedModel) -> Model:
        self._require_disk()
        own = bool(saved.stream) and saved.stream == self._publisher.log.stream
        model = self._learner().start_from(saved.model, own=own)
        self._publish(self._publisher.newest.with_model(model))
        return model

    def _edit(self, class_id: int, patch: ClassPatch) -> CatalogueEntry:
        self._require_disk()
        learner, state = self._learner(), self._publisher.newest
        known = {entry.class_id: entry for entry in state.catalogue}
        others = sorted(set(patch.merge or ()))
        _require(known, class_id, *others)
        if class_id in others:
            raise ValueError(f"class {class_id}: cannot be merged into itself; leave it out of merge")
        entry = known[class_id]
        if others:
            entry = learner.merge(class_id, others)
        if patch.role is not None:
            entry = learner.set_role(class_id, patch.role)
        if patch.name is not None:
            entry = learner.rename(class_id, patch.name)
        self._publish(replace(state.with_entry(entry, others), model_version=self._version()))
        return entry

    def _split(self, class_id: int, wanted: ClassSplit) -> CatalogueEntry:
        self._require_disk()
        learner, state = self._learner(), self._publisher.newest
        _require([entry.class_id for entry in state.catalogue], class_id)
        entry, rows = learner.split(class_id, wanted)
        rest = next((one for one in learner.model.classes if one.class_id == class_id), None)
        if rest is not None:
            state = state.with_entry(rest)
        self._publish(replace(state.with_part(entry, class_id, rows), model_version=self._version()))
        return entry

    def _relearn(self) -> None:
        self._require_disk()
        self._learner().relearn()
        self._publish(self._publisher.newest.unlearnt(self._version()))

    def _version(self) -> int:
        # Without a model the last version stays in force: it names what came before.
        return getattr(self._learner().model, "version", self._publisher.newest.model_version)

    def _publish(self, state: Any) -> None:
        drafts = self._learner().take_events()
        if not self._publisher.publish(state, drafts):
            raise EngineBusyError(
                f"not stored yet: {self._publisher.trouble}; it waits, and is stored when the log can be written"
            )

    def _require_disk(self) -> None:
        """Refuse what could not be stored, before anything is changed."""
        if self._publisher.trouble is not None and not self._publisher.flush(at_once=True):
            raise EngineBusyError(f"nothing was changed: {self._publisher.trouble}")


def _require(known: Collection[int], *wanted: int) -> None:
    """Refuse classes that the catalogue does not hold."""
    for class_id in wanted:
        if class_id not in known:
            raise UnknownClassError(f"class {class_id}: not in the catalogue, which holds {sorted(known)}")
