"""What follows the classes of a model from frame to frame: how they change, and which ones come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.config import AnalysisSettings
from latticewatch.discover import Renewed, taken_up
from latticewatch.messages import ClassSplit, Note
from latticewatch.model import CatalogueEntry, Model
from latticewatch.parallel import run
from latticewatch.pipeline._analysis import Classified
from latticewatch.pipeline._compose import roles_and_priors
from latticewatch.pipeline._events import class_event, discovered, model_event
from latticewatch.pipeline._follow import ClassStatistics, confirmed_among, patches_of
from latticewatch.pipeline._in_force import InForce
from latticewatch.pipeline._judge import Condition, Judge
from latticewatch.pipeline._results import EventDraft
from latticewatch.pipeline._search import Search
from latticewatch.pipeline._space import LiveSpace
from latticewatch.track import Tracked, Tracker


class Following:
    """Judges each frame, and where it is sound lets it teach; a model that is grown by it is put in force.

    Parameters
    ----------
    settings : AnalysisSettings
    new_search : callable, optional
        Makes the search in what tracks have gathered.

    Attributes
    ----------
    statistics : ClassStatistics
    search : Search
    space : LiveSpace or None
        None while nothing is learnt.
    """

    def __init__(self, settings: AnalysisSettings, new_search: Callable[[], Search] = Search) -> None:
        self._settings = settings
        self.new_search = new_search
        self.statistics = ClassStatistics()
        self.search = new_search()
        self.space: LiveSpace | None = None
        self._judge = Judge()
        self._newest: Classified | None = None

    def begin_with(self, model: Model, frames: int = 0) -> None:
        """Begin anew, with a model.

        Parameters
        ----------
        model : Model
        frames : int, optional
            How many frames at hand it was learnt from.
        """
        self.statistics, self.search, self._judge = ClassStatistics(), self.new_search(), Judge()
        self.search.learnt_from(frames)
        self.space = LiveSpace(model, self._settings.seed)
        self._newest = None

    def go_on_with(self, model: Model | None, statistics: ClassStatistics | None) -> None:
        """Go on after a restart.

        Parameters
        ----------
        model : Model or None
        statistics : ClassStatistics or None
            As they were kept; None where they were not.
        """
        self.search = self.new_search()
        self._newest = None
        self.space = None if model is None else LiveSpace(model, self._settings.seed)
        if statistics is not None:
            self.statistics = statistics

    def state(self) -> dict[str, Any]:
        """All that it goes on from and that decides something; the space, which is for people to see, is not."""
        return {"statistics": self.statistics, "search": self.search.state(), "judge": self._judge}

    def go_on(self, model: Model, state: Mapping[str, Any]) -> None:
        """Go on from a state as if nothing had come between, unlike `go_on_with`.

        Parameters
        ----------
        model : Model
            In force.
        state : mapping
            As `state` gave it.
        """
        self.go_on_with(model, state["statistics"])
        self.search.go_on(state["search"])
        self._judge = state["judge"]

    def take(
        self, force: InForce, analysis: Classified, tracked: Tracked, tracker: Tracker
    ) -> tuple[list[EventDraft], Note | None]:
        """Take in a frame.

        Parameters
        ----------
        force : InForce
            The model, which may be another one afterwards.
        analysis : Classified
        tracked : Tracked
            Of the frame.
        tracker : Tracker
            Is told what the averages of its tracks say, where classes are looked for anew.

        Returns
        -------
        events : list of EventDraft
        doubt : Note or None
            Why the frame taught nothing.
        """
        self._newest = analysis
        model, space = force.learnt, self.space

        def watch() -> None:
            # decides nothing, so that an idle core may do it meanwhile
            if space is not None:
                space.take(model, analysis.patches, tracked.class_id, analysis.frame.number)

        def learn() -> tuple[list[EventDraft], Note | None]:
            events: list[EventDraft] = []
            doubt = self._judge.doubt(Condition.of(analysis))
            if doubt is None:
                events += self._follow(force, analysis, tracked)
            events += self._look_again(force, analysis, tracked, tracker, teaches=doubt is None)
            return events, doubt

        learnt, _ = run(learn, watch)
        return learnt

    def split(
        self, force: InForce, tracker: Tracker, class_id: int, wanted: ClassSplit
    ) -> tuple[CatalogueEntry, NDArray[np.intp], EventDraft]:
        """See `Learner.split`; the event that tells of it, too."""
        force.entry(class_id)
        line = np.array(wanted.line, np.float64)
        halves = None if self.space is None else self.space.drawn_round(wanted.layout, line, class_id)
        if self.space is None or halves is None or self._newest is None:
            raise ValueError(f"layout {wanted.layout} is not kept any more; draw the line again")
        entry, event = force.split(class_id, halves, wanted.name)
        self.space.divide(force.learnt, entry.class_id)
        verdict = force.learnt.classify(self._newest.patches)
        ids = force.learnt.class_ids[verdict.posterior.argmax(1)]
        members = {k: np.flatnonzero(ids == k) for k in (entry.class_id, class_id)}
        rows, entry = members[entry.class_id], self._looked_at(force, self._newest, members)
        tracker.divide(class_id, entry.class_id)
        return entry, rows, event._replace(data=event.data.model_copy(update={"class_name": entry.name}))

    def _looked_at(
        self, force: InForce, analysis: Classified, members: dict[int, NDArray[np.intp]]
    ) -> CatalogueEntry:
        """Give classes the average patch of their members, and what it looks like; the first of them."""
        model, patch = force.learnt, patches_of(analysis)
        for class_id, rows in members.items():
            if len(rows):
                seen = replace(model.entry(class_id), average=patch(rows.tolist(), model.patch_px))
                model = replace(
                    model, classes=tuple(seen if e.class_id == class_id else e for e in model.classes)
                )
        model = confirmed_among(model, members)
        force.adopt(model)
        return model.entry(next(iter(members)))

    def _follow(self, force: InForce, analysis: Classified, tracked: Tracked) -> list[EventDraft]:
        """Let the classes follow, and be born; the events that tell of it."""
        model = force.learnt
        followed, found = self.statistics.update(model, analysis, tracked.track, force.next_class)
        if followed is model:
            return []
        events = []
        if followed.version != model.version:
            reason = "classes were born" if found else "the classes have followed the stream"
            events.append(model_event(followed, analysis.frame.number, reason))
        force.adopt(followed)
        return events + [discovered(followed, class_id) for class_id in found]

    def _look_again(
        self, force: InForce, analysis: Classified, tracked: Tracked, tracker: Tracker, *, teaches: bool
    ) -> list[EventDraft]:
        """Take up what a search in the averages of the tracks has found; the events that tell of it."""
        model = force.learnt
        searched = self.search.take(model, analysis, tracked, tracker.independent_frames, teaches=teaches)
        if searched is None:
            return []
        patches, rows = self.search.averages(model, analysis, tracked.track)
        renewed = taken_up(
            model, searched, patches, force.next_class, patches_of(analysis, rows), self.search.number
        )
        if renewed is None:
            return []
        grown = confirmed_among(renewed.model, {*renewed.found, *renewed.renamed})
        force.adopt(grown)
        events = [model_event(grown, analysis.frame.number, "classes were looked for again")]
        self.search.taken_up()
        tracker.inform(tracked.track[rows], renewed.posterior, grown.class_ids, *roles_and_priors(grown))
        return events + _told(renewed, model, grown, force, tracker)


def _told(renewed: Renewed, model: Model, grown: Model, force: InForce, tracker: Tracker) -> list[EventDraft]:
    """Events of the classes that a search renewed, found and merged."""
    before = {entry.class_id: entry.name for entry in model.classes}
    events = [
        class_event("class.renamed", entry, grown.version, previous_name=before[entry.class_id])
        for entry in grown.classes
        if before.get(entry.class_id, entry.name) != entry.name
    ]
    events += [discovered(grown, class_id) for class_id in renewed.found]
    for gone, class_id in renewed.merged.items():
        _, relabelled, event = force.merge(class_id, [gone])
        tracker.relabel(relabelled)
        events.append(event)
    return events
