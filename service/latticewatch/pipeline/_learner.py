"""The only state of the pipeline, put together: the model in force, the tracks, and what gathers, follows and minds."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.messages import ClassSplit, Note, Role
from latticewatch.model import CatalogueEntry, Model, kinds_of, renumbered
from latticewatch.pipeline._analyse import analyse
from latticewatch.pipeline._analysis import Analysis, Classified, Surveyed
from latticewatch.pipeline._compose import away_table, blank_table, observation_of, site_table
from latticewatch.pipeline._events import defect_events, discovered, model_event
from latticewatch.pipeline._follow import ClassStatistics
from latticewatch.pipeline._following import Following
from latticewatch.pipeline._gathering import Gathering
from latticewatch.pipeline._in_force import InForce
from latticewatch.pipeline._kept import state_packer
from latticewatch.pipeline._notes import NoteBook
from latticewatch.pipeline._plausible import lattice_notes
from latticewatch.pipeline._results import EventDraft, FrameResult, SiteTable
from latticewatch.pipeline._search import Search
from latticewatch.pipeline._sight import Sight
from latticewatch.track import Tracker


class Learner:
    """Folds analyses, in the order of their frames, into a model, tracks and events.

    Parameters
    ----------
    settings : AnalysisSettings
    patient : bool, optional
        Hold the stream up for a search for classes, however long it takes: the same frames then give the same on any
        machine, however busy.
    """

    def __init__(self, settings: AnalysisSettings, *, patient: bool = False) -> None:
        self.settings = settings
        self._force = InForce()
        self._gathering = Gathering(settings)
        self._sight = Sight()
        self._following = Following(settings, partial(Search, patient=patient))
        self._tracker = Tracker(false_events_per_hour=settings.false_events_per_hour)
        self._series: str | None = None
        self._events: list[EventDraft] = []
        self._notes = NoteBook()

    @property
    def model(self) -> Model | None:
        """The model in force, immutable; hand it to `analyse`. None during the learning phase."""
        return self._force.model

    @property
    def wanted(self) -> int:
        """How many frames the learning phase still needs; 0 once there is a model."""
        return 0 if self.model is not None else self.settings.learning_frames - len(self._gathering)

    @property
    def trouble(self) -> Note | None:
        """Why nothing was learnt from the frames gathered last; None where that was not tried, or went well."""
        return self._gathering.trouble

    def fold(self, analysis: Analysis) -> list[FrameResult]:
        """Take in one frame.

        Parameters
        ----------
        analysis : Analysis

        Returns
        -------
        list of FrameResult
            One for this frame. The frame that ends the learning phase brings those of all frames gathered, oldest
            first, now with classes and events; they were returned before without.
        """
        if self.model is None:
            return self._learn(analysis)
        if not self.fits(analysis.model):
            # started before the model was learnt, learnt anew, or got or lost classes
            analysis = analyse(analysis.frame, self.model, self.settings)
        if self._sight.lost_for_long(analysis):
            analysis = self._another(analysis)
            if self.model is None:
                return self._learn(analysis)
        self._events += self._sight.mind(analysis)
        return [self._followed(analysis)]

    def fits(self, model: Model | None) -> bool:
        """Whether what was analysed with a model can be folded as it is: it has the classes of the one in force.

        Parameters
        ----------
        model : Model or None
            None where the frame was analysed before anything was learnt.

        Returns
        -------
        bool
        """
        if model is None or self.model is None:
            return model is self.model
        return _same_classes(model, self.model)

    def kept(self, *, with_model: bool = True) -> dict[str, bytes]:
        """All that a restart goes on from, by name.

        Parameters
        ----------
        with_model : bool
            With the models, too, which are large and change seldom; else the tracks alone.

        Returns
        -------
        dict of str to bytes
            For `restore`.
        """
        tracks = {
            "tracker": self._tracker,
            "series": self._series,
            "lost": self._sight.lost,
            "follower": self._following.statistics,  # its name on disks that are in use
        }
        numbers = {
            "track": self._tracker.next_track,
            "epoch": self._tracker.epoch,
            "class": self._force.next_class,
            "version": self._force.version,
        }
        out = {"tracks": state_packer.pack_fast(tracks), "numbers": json.dumps(numbers).encode()}
        if with_model:
            model = {
                "model": self.model,
                "remembered": self._sight.remembered,
                "version": self._force.version,
                "next_class": self._force.next_class,
            }
            out["model"] = state_packer.pack_fast(model)
        return out

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Go on from what was kept.

        Parameters
        ----------
        kept : mapping of str to bytes
            As `kept` gave it, perhaps in another process.

        Raises
        ------
        FileError
            It cannot be read; nothing has changed.
        """
        model = state_packer.unpack(kept["model"])
        tracks = state_packer.unpack(kept["tracks"]) if "tracks" in kept else None
        self._sight.remembered = model["remembered"]
        force = self._force
        force.model, force.version, force.next_class = model["model"], model["version"], model["next_class"]
        statistics = None
        if tracks is not None:
            self._tracker, self._series, self._sight.lost = (
                tracks["tracker"],
                tracks["series"],
                tracks["lost"],
            )
            statistics = tracks.get("follower") or ClassStatistics()
        self._following.go_on_with(force.model, statistics)

    def state(self) -> dict[str, Any] | None:
        """All that it goes on from, to the last bit, unlike what a service keeps, which goes on with a little less.

        Returns
        -------
        dict or None
            For `go_on`; None while there are events that nobody has taken.
        """
        if self._events:
            return None
        return {
            "force": self._force,
            "gathering": self._gathering.state(),
            "sight": self._sight,
            # what is learnt is followed from its beginning
            "following": None if self.model is None else self._following.state(),
            "tracker": self._tracker,
            "series": self._series,
            "notes": self._notes,
        }

    def go_on(self, state: Mapping[str, Any], frame_of: Callable[[int], Frame]) -> None:
        """Go on from a state as if nothing had come between.

        Parameters
        ----------
        state : mapping
            As `state` gave it, perhaps in another process.
        frame_of : callable
            Gives the frame of a number, of those that were gathered in a learning phase.
        """
        self._force, self._sight = state["force"], state["sight"]
        self._tracker, self._series, self._notes = state["tracker"], state["series"], state["notes"]
        self._gathering.go_on(state["gathering"], frame_of)
        if self.model is not None:
            self._following.go_on(self.model, state["following"])

    def number_on(self, kept: Mapping[str, bytes]) -> None:
        """Use no number again that was given, though what was kept cannot be read.

        Parameters
        ----------
        kept : mapping of str to bytes
            As `kept` gave it.
        """
        numbers = json.loads(kept.get("numbers", b"{}"))
        self._force.version = max(self._force.version, numbers.get("version", 0))
        self._force.next_class = max(self._force.next_class, numbers.get("class", 0))
        self._tracker.number_on(numbers.get("track", 1), numbers.get("epoch", 0))

    def start_from(self, model: Model, *, own: bool = False) -> Model:
        """Start from a model of another day; the one in force is remembered, with its classes.

        Parameters
        ----------
        model : Model
        own : bool
            It was learnt on this stream: its classes have their numbers here. Those of another stream keep theirs where
            none of them was given here, and get new ones otherwise: a number never means two classes.

        Returns
        -------
        Model
            As it is now in force.
        """
        force = self._force
        if not own and force.next_class > 0:
            model = renumbered(model, force.next_class)
        force.next_class = max([force.next_class, *(merged + 1 for merged in model.alias)])
        if force.model is not None:
            self._sight.remember(force.model)
        self._sight.forget_those_with(model)
        self._take_up(replace(model, version=max(model.version, force.version) + 1), "a model was loaded")
        return force.learnt

    def rename(self, class_id: int, name: str) -> CatalogueEntry:
        """Give a class a name of its own.

        Parameters
        ----------
        class_id : int
        name : str

        Returns
        -------
        CatalogueEntry
            As it is now.

        Raises
        ------
        UnknownClassError
            There is no such class.
        """
        entry, event = self._force.rename(class_id, name)
        self._events.append(event)
        return entry

    def set_role(self, class_id: int, role: Role) -> CatalogueEntry:
        """Overrule the role of a class.

        Parameters
        ----------
        class_id : int
        role : {"host", "defect", "neighbour", "unknown"}

        Returns
        -------
        CatalogueEntry
            As it is now.

        Raises
        ------
        UnknownClassError
            There is no such class.
        """
        entry, event = self._force.set_role(class_id, role)
        self._events.append(event)
        return entry

    def merge(self, class_id: int, others: list[int]) -> CatalogueEntry:
        """Make other classes part of one.

        Parameters
        ----------
        class_id : int
            Keeps its number and its name.
        others : list of int
            Their sites and tracks become its own.

        Returns
        -------
        CatalogueEntry
            As it is now.

        Raises
        ------
        UnknownClassError
            One of them is not in the catalogue.
        """
        entry, gone, event = self._force.merge(class_id, others)
        self._tracker.relabel(gone)
        if self._following.space is not None:
            self._following.space.merge(self._force.learnt)
        self._events.append(event)
        return entry

    def split(self, class_id: int, wanted: ClassSplit) -> tuple[CatalogueEntry, NDArray[np.intp]]:
        """Make some sites of a class one of their own.

        Parameters
        ----------
        class_id : int
            Keeps its number and its name.
        wanted : ClassSplit
            Line round the sites that are meant, in a layout of the plane, and a name.

        Returns
        -------
        entry : CatalogueEntry
            The new class.
        rows : ndarray of shape (n,), intp
            Sites that the newest frame alone takes for it.

        Raises
        ------
        UnknownClassError
            There is no such class.
        ValueError
            The layout is not kept any more, too few sites are within the line or outside, or a frame cannot tell them
            apart.
        """
        told, rows, event = self._following.split(self._force, self._tracker, class_id, wanted)
        self._events.append(event)
        return told, rows

    def relearn(self) -> None:
        """Throw the classes away, those remembered of other lattices too, and start a learning phase."""
        self._sight.remembered = []
        self._forget("asked to learn anew")

    def take_events(self) -> tuple[EventDraft, ...]:
        """Events that no frame brought, since the last call."""
        events, self._events = tuple(self._events), []
        return events

    # Learning

    def _learn(self, analysis: Analysis) -> list[FrameResult]:
        if analysis.model is not None:
            analysis = analyse(analysis.frame, None, self.settings)
        assert isinstance(analysis, Surveyed)
        analysis = self._gathering.take(analysis)
        learnt = self._finish_learning() if self._gathering.enough else []
        if not learnt:
            return [self._result(analysis, blank_table(analysis.sites))]
        if learnt[-1].ordinal != analysis.frame.ordinal:
            # the newest does not show the lattice that the others have taught
            learnt.append(self._followed(analyse(analysis.frame, self.model, self.settings)))
        return learnt

    def finish_learning(self) -> list[FrameResult]:
        """End the learning phase with the frames that there are, as at the end of a file.

        Returns
        -------
        list of FrameResult
            Those of the frames gathered, with classes and events; empty where none showed a lattice.
        """
        return self._finish_learning() if self.model is None and len(self._gathering) else []

    def _finish_learning(self) -> list[FrameResult]:
        """Learn from the gathered frames, and classify them."""
        learnt = self._gathering.learn(self._force.version + 1, self._force.next_class)
        if learnt is None:
            return []
        model, frames = learnt.model, learnt.frames
        self._force.adopt(model)
        self._following.begin_with(model, learnt.n_different)
        reason = f"learnt from {learnt.n_different} frames"
        self._events.append(model_event(model, frames[0].frame.number, reason))
        self._events += [discovered(model, entry.class_id) for entry in model.classes]
        before = copy.deepcopy(self._tracker)
        results = [self._followed(seen) for seen in frames]
        grown = self._force.learnt
        if len(grown.classes) == len(model.classes):
            return results
        # the first of these frames have the classes, too, that were found among their tracks
        self._tracker = before
        self._following.begin_with(grown, learnt.n_different)
        self._events += [
            event for result in results for event in result.events if not event.type.startswith("defect.")
        ]
        return [self._followed(analyse(a.frame, grown, self.settings)) for a in frames]

    # Another lattice

    def _another(self, analysis: Analysis) -> Analysis:
        """The frame, looked at with the models of lattices seen before, and with none.

        A lattice that is known is taken up at once. One that is not is learnt when several frames agree on it; then
        `model` is None, and what is given is not classified.
        """
        frame, model = analysis.frame, self._force.learnt
        known = self._sight.recognised(frame, self.settings)
        if known is not None:
            self._sight.remember(model)
            self._take_up(
                replace(known, version=self._force.version + 1), "a lattice seen before is in view again"
            )
            return analyse(frame, self.model, self.settings)
        found = analyse(frame, None, self.settings)
        assert isinstance(found, Surveyed)
        if not self._sight.is_another(found, model.lattice):
            return analysis
        self._sight.remember(model)
        self._events += self._sight.resume(frame, "another lattice is in view, and is learnt")
        self._forget("another lattice is in view; the one before is remembered")
        return found

    def _take_up(self, model: Model, reason: str) -> None:
        self._force.adopt(model)
        self._gathering.begin_anew()
        self._series = None
        self._tracker.reset()
        self._following.begin_with(model)
        self._events.append(model_event(model, None, reason))

    def _forget(self, reason: str) -> None:
        told = self._force.put_out(reason)
        self._series = None
        self._gathering.begin_anew()
        # not a new one: numbers of tracks are not used again
        self._tracker.reset()
        self._events += told

    # Results

    def _followed(self, analysis: Analysis) -> FrameResult:
        """Follow the sites of a frame; what is to be told of it."""
        frame = analysis.frame
        if frame.series_id != self._series:
            self._tracker.reset(frame.series_id)
            self._series = frame.series_id
        if isinstance(analysis, Surveyed):
            return self._result(analysis, blank_table(analysis.sites))
        model = self._force.learnt
        start = time.perf_counter()
        tracked = self._tracker.update(observation_of(analysis, model))
        analysis.timings_ms["tracks"] = 1e3 * (time.perf_counter() - start)
        sites = site_table(analysis, tracked, model)
        events, self._events = self._events, []
        events += defect_events(
            tracked.transitions, frame, model, tracked.specimen_drift_px, sites, self._tracker.epoch
        )
        taught, doubt = self._following.take(self._force, analysis, tracked, self._tracker)
        said = [] if doubt is None else [doubt]
        result = self._result(analysis, sites, tracked.drift_px, events + taught, said)
        return replace(
            result,
            specimen_drift_px=tracked.specimen_drift_px,
            sigma_px=tracked.sigma_px,
            away=away_table(tracked, model),
        )

    def _result(
        self,
        analysis: Analysis,
        sites: SiteTable,
        drift_px: tuple[float, float] = (0.0, 0.0),
        events: Sequence[EventDraft] = (),
        said: Sequence[Note] = (),
    ) -> FrameResult:
        frame, model = analysis.frame, self.model
        needed = self.settings.learning_frames
        notes = [*frame.notes, *analysis.notes, *said]
        if self._force.model is None and self._gathering.trouble is not None:
            notes.append(self._gathering.trouble)
        field = analysis.phase_field
        if field is not None:
            notes += lattice_notes(field.vectors, frame.pixel_size_nm, self.settings.material)
        return FrameResult(
            series_id=frame.series_id,
            number=frame.number,
            ordinal=frame.ordinal,
            shape=analysis.image.shape,  # type: ignore[arg-type]
            t_received=frame.t_received,
            received_at=frame.received_at,
            t_acquired=frame.t_acquired,
            pixel_size_nm=frame.pixel_size_nm,
            stage_nm=frame.stage_nm,
            picture=analysis.picture,
            sites=sites,
            lattice_found=field is not None,
            lattice_constant_px=None if field is None else field.lattice_constant,
            drift_px=drift_px,
            calibration=frame.calibration,
            model_version=self._force.version,
            epoch=self._tracker.epoch,
            learning=(needed if model is not None else len(self._gathering), needed),
            classes=() if model is None else model.classes,
            kinds={} if model is None else kinds_of(model),
            scalars=frame.scalars,
            regions=analysis.regions,
            embedding=np.zeros((0, 2), np.float32) if model is None else model.embedding,
            embedding_class=np.zeros(0, np.int16) if model is None else model.embedding_class,
            events=tuple(events),
            timings_ms=dict(analysis.timings_ms),
            space=None if model is None else self._following.space,
            notes=self._notes.taken(notes, frame.series_id, frame.number),
            odd_regions=tuple(region.told() for region in analysis.odd_regions)
            if isinstance(analysis, Classified)
            else (),
        )


def _same_classes(one: Model, other: Model) -> bool:
    return (
        one.lattice is other.lattice and one.alias == other.alias and len(one.classes) == len(other.classes)
    )
