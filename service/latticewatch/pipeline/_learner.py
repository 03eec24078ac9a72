"""The only state of the pipeline: the model, the tracks, and the frames gathered while learning."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from latticewatch.config import AnalysisSettings
from latticewatch.discover import learn_model, taken_up
from latticewatch.errors import NoLatticeError, UnknownClassError
from latticewatch.features import ZernikeDisk
from latticewatch.identify import confirmed, named_by_element
from latticewatch.ingest import Frame
from latticewatch.lattice import Lattice, Sites, SpectrumSum, follow_lattice
from latticewatch.messages import ClassEventData, Note, Role, StreamEventData
from latticewatch.model import CatalogueEntry, Model, Survey, displacements, kinds_of, renumbered
from latticewatch.pipeline._analyse import Analysis, analyse, patch_size, survey_frame
from latticewatch.pipeline._events import defect_events, discovered, model_event
from latticewatch.pipeline._follow import ClassStatistics, confirmed_among, patches_of
from latticewatch.pipeline._judge import Condition, Judge
from latticewatch.pipeline._kept import state_packer
from latticewatch.pipeline._notes import NoteBook, cannot_learn, too_few_sites
from latticewatch.pipeline._plausible import lattice_notes
from latticewatch.pipeline._results import ROLES, EventDraft, FrameResult, SiteTable
from latticewatch.pipeline._search import Search
from latticewatch.pipeline._space import LiveSpace
from latticewatch.track import Observation, Tracked, Tracker

# Frames in a row that do not show the lattice learnt, after which that is told, and another one is looked for.
LOST_FRAMES = 8
# Frames in a row that agree on another lattice, before the one learnt is put aside for it.
OTHER_FRAMES = 3
# Lattice vectors that differ by less than this share of their length are the same.
SAME_VECTORS = 0.05
# Models of other lattices that are remembered, to be recognised.
REMEMBERED = 8
# Fewer sites of a sublattice than these, in all frames learnt from together, say too little of their host.
MIN_GRAIN_SITES = 50
# And in a frame of one grain, with fewer than these nothing is learnt, and that is said.
FEWEST_SITES = 20


class Learner:
    """Folds analyses, in the order of their frames, into a model, tracks and events.

    Parameters
    ----------
    settings : AnalysisSettings
    patient : bool, optional
        Hold the stream up for a search for classes, however long it takes: the same frames then give the same on any
        machine, however busy.

    Attributes
    ----------
    model : Model or None
        Immutable; hand it to `analyse`. None during the learning phase.
    """

    def __init__(self, settings: AnalysisSettings, *, patient: bool = False) -> None:
        self.settings = settings
        self.model: Model | None = None
        self._gathered: list[Analysis] = []
        # frames that show no lattice alone, the newest, and the spectra of all of them
        self._hidden: list[Frame] = []
        self._spectra = SpectrumSum()
        self._tracker = Tracker(false_events_per_hour=self.settings.false_events_per_hour)
        self._class_statistics = ClassStatistics()
        self._new_search: Callable[[], Search] = partial(Search, patient=patient)
        self._search = self._new_search()
        self._judge = Judge()
        self._space: LiveSpace | None = None
        self._series: str | None = None
        self._version = 0
        self._next_class = 0
        self._lost = 0
        self._other: list[Lattice] = []
        self._remembered: list[Model] = []
        self._events: list[EventDraft] = []
        self._notes = NoteBook()
        self._cannot_learn: Note | None = None

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
        if analysis.verdict is None and self._lost + 1 >= LOST_FRAMES:
            other = self._another(analysis)
            if self.model is None:
                return self._learn(other)
            analysis = other
        self._mind_the_lattice(analysis)
        return [self._classified(analysis)]

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
            "lost": self._lost,
            "follower": self._class_statistics,  # its name on disks that are in use
        }
        numbers = {
            "track": self._tracker.next_track,
            "epoch": self._tracker.epoch,
            "class": self._next_class,
            "version": self._version,
        }
        out = {"tracks": state_packer.pack(tracks), "numbers": json.dumps(numbers).encode()}
        if with_model:
            model = {
                "model": self.model,
                "remembered": self._remembered,
                "version": self._version,
                "next_class": self._next_class,
            }
            out["model"] = state_packer.pack(model)
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
        self._remembered = model["remembered"]
        self._search = self._new_search()
        self._version, self._next_class = model["version"], model["next_class"]
        self.model = model["model"]
        self._space = None if self.model is None else LiveSpace(self.model, self.settings.seed)
        if tracks is not None:
            self._tracker, self._series, self._lost = tracks["tracker"], tracks["series"], tracks["lost"]
            self._class_statistics = tracks.get("follower") or ClassStatistics()

    def number_on(self, kept: Mapping[str, bytes]) -> None:
        """Use no number again that was given, though what was kept cannot be read.

        Parameters
        ----------
        kept : mapping of str to bytes
            As `kept` gave it.
        """
        numbers = json.loads(kept.get("numbers", b"{}"))
        self._version = max(self._version, numbers.get("version", 0))
        self._next_class = max(self._next_class, numbers.get("class", 0))
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
        if not own and self._next_class > 0:
            model = renumbered(model, self._next_class)
        self._next_class = max([self._next_class, *(merged + 1 for merged in model.alias)])
        if self.model is not None:
            self._put_aside()
        # the same one is not remembered beside itself
        mine = {entry.class_id for entry in model.classes}
        self._remembered = [
            other for other in self._remembered if mine.isdisjoint(e.class_id for e in other.classes)
        ]
        self._take_up(replace(model, version=max(model.version, self._version) + 1), "a model was loaded")
        return self._learnt_model()

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
        model = self._learnt(class_id)
        old = model.entry(class_id)
        entry = replace(old, name=name)
        self._adopt(model.with_entry(entry))
        self._draft_class_event("class.renamed", entry, previous_name=old.name)
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
        model = self._learnt(class_id)
        entry = replace(model.entry(class_id), role=role)
        self._adopt(model.with_entry(entry))
        self._events.append(model_event(self._learnt(class_id), None, f"role of {entry.name} set to {role}"))
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
        model = self._learnt(class_id)
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
        self._adopt(
            replace(model, version=model.version + 1, classes=kept, alias=alias, embedding_class=layout)
        )
        self._tracker.relabel(gone)
        self._draft_class_event("class.merged", entry, merged=tuple(gone))
        return entry

    def relearn(self) -> None:
        """Throw the classes away, those remembered of other lattices too, and start a learning phase."""
        self._remembered = []
        self._forget("asked to learn anew")

    def take_events(self) -> tuple[EventDraft, ...]:
        """Events that no frame brought, since the last call."""
        events, self._events = tuple(self._events), []
        return events

    # Learning

    def _learn(self, analysis: Analysis) -> list[FrameResult]:
        if analysis.model is not None:
            analysis = analyse(analysis.frame, None, self.settings)
        if self._gathered and analysis.frame.image.shape != self._gathered[0].frame.image.shape:
            self._gathered = []
        if analysis.lattice is None:
            analysis = self._seen_together(analysis)
        if analysis.lattice is not None:
            self._gathered.append(analysis)
        if len(self._gathered) < self.settings.learning_frames:
            return [self._unclassified(analysis)]
        return self._finish_learning() or [self._unclassified(analysis)]

    def _seen_together(self, analysis: Analysis) -> Analysis:
        """A frame that shows no lattice alone, looked at again with that of all such frames together.

        The newest of those before it, too, are gathered, once that lattice is known; as many as are learnt from.
        """
        frame = analysis.frame
        last = self._hidden[-1] if self._hidden else frame
        if frame.series_id != last.series_id or frame.image.shape != last.image.shape:
            self._hidden, self._spectra = [], SpectrumSum()
        self._spectra.add(analysis.image)
        basis = self._spectra.basis()
        room = self.settings.learning_frames - 1
        if basis is None:
            self._hidden = [*self._hidden, frame][-room:] if room else []
            return analysis
        before, self._hidden = self._hidden, []
        for hidden in before[max(0, len(before) + len(self._gathered) - room) :]:
            again = analyse(hidden, None, self.settings, basis)
            if again.lattice is not None:
                self._gathered.append(again)
        return analyse(frame, None, self.settings, basis)

    def finish_learning(self) -> list[FrameResult]:
        """End the learning phase with the frames that there are, as at the end of a file.

        Returns
        -------
        list of FrameResult
            Those of the frames gathered, with classes and events; empty where none showed a lattice.
        """
        return self._finish_learning() if self.model is None and self._gathered else []

    def _finish_learning(self) -> list[FrameResult]:
        """The gathered frames, surveyed with the lattice of the clearest of them, learnt from and classified."""
        reference = max(self._gathered, key=lambda a: _clarity(a.lattice)).lattice
        assert reference is not None
        zernike = ZernikeDisk(self.settings.n_max, patch_size(reference, self.settings))
        surveys, used = self._surveyed(reference, zernike)
        well_seen = _well_seen(reference, surveys)
        if len(well_seen.others) < len(reference.others):
            reference = well_seen
            surveys, used = self._surveyed(reference, zernike)
        self._gather_anew()
        if not surveys:
            return []
        self._cannot_learn = _too_few_sites(reference, surveys)
        if self._cannot_learn is not None:
            return []
        try:
            model = learn_model(
                surveys,
                reference,
                zernike,
                invariant=self.settings.invariant,
                material=self.settings.material,
                pixel_size_nm=used[0].frame.pixel_size_nm,
                version=self._version + 1,
                first_class=self._next_class,
                seed=self.settings.seed,
            )
        except (np.linalg.LinAlgError, FloatingPointError) as error:
            self._cannot_learn = cannot_learn(str(error))
            return []
        model = named_by_element(replace(model, classes=confirmed(model, model.classes)))
        self._adopt(model)
        self._begin_with(model, len(surveys))
        first = used[0].frame
        self._events.append(model_event(model, first.number, f"learnt from {len(surveys)} frames"))
        self._events += [discovered(model, entry.class_id) for entry in model.classes]
        before = copy.deepcopy(self._tracker)
        results = [self._classified(analyse(a.frame, model, self.settings)) for a in used]
        grown = self._learnt_model()
        if len(grown.classes) == len(model.classes):
            return results
        # the first of these frames have the classes, too, that were found among their tracks
        self._tracker = before
        self._begin_with(grown, len(surveys))
        self._events += [
            event for result in results for event in result.events if not event.type.startswith("defect.")
        ]
        return [self._classified(analyse(a.frame, grown, self.settings)) for a in used]

    def _gather_anew(self) -> None:
        """No frame has been gathered yet."""
        self._gathered, self._hidden, self._spectra = [], [], SpectrumSum()

    def _begin_with(self, model: Model, frames: int = 0) -> None:
        """What follows the classes of a model begins anew; it was learnt from so many frames that are at hand."""
        self._class_statistics, self._search, self._judge = ClassStatistics(), self._new_search(), Judge()
        self._search.learnt_from(frames)
        self._space = LiveSpace(model, self.settings.seed)

    def _surveyed(self, reference: Lattice, zernike: ZernikeDisk) -> tuple[list[Survey], list[Analysis]]:
        """Those of the frames gathered that show a lattice, and what they show, each different frame once."""
        surveys, used = [], []
        distinct: list[NDArray[np.float32]] = []
        for analysis in self._gathered:
            # frames of another contrast, bright or dark, are not of this lattice
            if analysis.lattice is None or analysis.lattice.dark != reference.dark:
                continue
            try:
                field = follow_lattice(analysis.image, reference)
            except NoLatticeError:
                continue
            used.append(analysis)
            # a recorded frame that comes again brings the same noise again, which would pass for a class
            if any(np.array_equal(analysis.image, other) for other in distinct):
                continue
            distinct.append(analysis.image)
            surveys.append(
                survey_frame(
                    analysis.image,
                    reference,
                    field,
                    zernike,
                    measure_noise=True,
                    voids="all",
                    mask=analysis.unsound,
                )
            )
        return surveys, used

    def _mind_the_lattice(self, analysis: Analysis) -> None:
        """Tell when the lattice is lost, and when it is back; nothing is forgotten."""
        frame = analysis.frame
        if analysis.verdict is None:
            self._lost += 1
            if self._lost == LOST_FRAMES:
                reason = f"the lattice learnt has not been seen for {LOST_FRAMES} frames; classes and tracks are kept"
                data = StreamEventData(series_id=frame.series_id, frame=frame.number, reason=reason)
                self._events.append(EventDraft("stream.paused", data))
            return
        self._resume(analysis, "a lattice that was learnt is in view")

    def _resume(self, analysis: Analysis, reason: str) -> None:
        frame = analysis.frame
        if self._lost >= LOST_FRAMES:
            data = StreamEventData(series_id=frame.series_id, frame=frame.number, reason=reason)
            self._events.append(EventDraft("stream.resumed", data))
        self._lost, self._other = 0, []

    def _another(self, analysis: Analysis) -> Analysis:
        """The frame, looked at with the models of lattices seen before, and with none.

        A lattice that is known is taken up at once. One that is not is learnt when `OTHER_FRAMES` frames agree on it;
        then `model` is None, and what is given is not classified.
        """
        for known in self._remembered:
            seen = analyse(analysis.frame, known, self.settings)
            if seen.verdict is not None:
                self._put_aside()
                self._remembered.remove(known)
                self._take_up(
                    replace(known, version=self._version + 1), "a lattice seen before is in view again"
                )
                return analyse(analysis.frame, self.model, self.settings)
        found = analyse(analysis.frame, None, self.settings)
        if found.lattice is None or (self._other and not _alike(found.lattice, self._other[-1])):
            self._other = [] if found.lattice is None else [found.lattice]
            return analysis
        if _alike(found.lattice, self._learnt_model().lattice):
            return analysis
        self._other.append(found.lattice)
        if len(self._other) < OTHER_FRAMES:
            return analysis
        self._put_aside()
        self._resume(analysis, "another lattice is in view, and is learnt")
        self._forget("another lattice is in view; the one before is remembered")
        return found

    def _put_aside(self) -> None:
        self._remembered = [self._learnt_model(), *self._remembered][:REMEMBERED]

    def _take_up(self, model: Model, reason: str) -> None:
        self._adopt(model)
        self._gather_anew()
        self._series = None
        self._tracker.reset()
        self._begin_with(model)
        self._events.append(model_event(model, None, reason))

    def _forget(self, reason: str) -> None:
        had = self.model
        self.model, self._series = None, None
        self._gather_anew()
        # not a new one: numbers of tracks are not used again
        self._tracker.reset()
        if had is not None:
            self._version += 1
            self._events.append(model_event(replace(had, version=self._version, classes=()), None, reason))

    def _adopt(self, model: Model) -> None:
        self.model = model
        self._version = model.version
        self._next_class = max([self._next_class, *(entry.class_id + 1 for entry in model.classes)])

    def _learnt(self, class_id: int) -> Model:
        if self.model is None:
            raise UnknownClassError(
                f"class {class_id}: nothing is learnt yet; wait for the learning phase to end"
            )
        self.model.entry(class_id)
        return self.model

    def _draft_class_event(self, kind: str, entry: CatalogueEntry, **fields: object) -> None:
        data = ClassEventData.model_validate(
            {
                "model_version": self._version,
                "class_id": entry.class_id,
                "class_name": entry.name,
                "role": entry.role,
                "count": entry.total,
                **fields,
            }
        )
        self._events.append(EventDraft(kind, data))  # type: ignore[arg-type]

    # Results

    def _unclassified(self, analysis: Analysis) -> FrameResult:
        return self._result(analysis, _blank_table(analysis.sites), (0.0, 0.0), [])

    def _classified(self, analysis: Analysis) -> FrameResult:
        model = self._learnt_model()
        frame = analysis.frame
        if frame.series_id != self._series:
            self._tracker.reset(frame.series_id)
            self._series = frame.series_id
        if analysis.verdict is None or analysis.survey is None or analysis.phase_field is None:
            return self._result(analysis, _blank_table(analysis.sites), (0.0, 0.0), [])
        start = time.perf_counter()
        tracked = self._tracker.update(_observation(analysis, model))
        analysis.timings_ms["tracks"] = 1e3 * (time.perf_counter() - start)
        sites = SiteTable(
            analysis.sites.position.astype(np.float32),
            _on_lattice(analysis.sites.sublattice, model),
            tracked.class_id,
            tracked.role,
            tracked.confidence,
            tracked.track,
            displacements(analysis.model or model, analysis.verdict, analysis.sites.sublattice),
            tracked.other_class,
            tracked.other_share,
        )
        events, self._events = self._events, []
        events += defect_events(
            tracked.transitions, frame, model, tracked.specimen_drift_px, sites, self._tracker.epoch
        )
        if self._space is not None and analysis.patches is not None:
            self._space.take(model, analysis.patches, tracked.class_id, frame.number)
        doubt = self._judge.doubt(Condition.of(analysis))
        if doubt is None:
            followed, found = self._class_statistics.update(model, analysis, tracked.track, self._next_class)
            if followed is not model:
                if followed.version != model.version:
                    reason = "classes were born" if found else "the classes have followed the stream"
                    events.append(model_event(followed, frame.number, reason))
                self._adopt(followed)
                events += [discovered(followed, class_id) for class_id in found]
        events += self._looked_again(analysis, tracked, teaches=doubt is None)
        result = self._result(analysis, sites, tracked.drift_px, events, [] if doubt is None else [doubt])
        return replace(result, specimen_drift_px=tracked.specimen_drift_px, sigma_px=tracked.sigma_px)

    def _looked_again(self, analysis: Analysis, tracked: Tracked, *, teaches: bool) -> list[EventDraft]:
        """Take up what a search in the averages of the tracks has found; the events that tell of it."""
        model = self._learnt_model()
        searched = self._search.take(
            model, analysis, tracked, self._tracker.independent_frames, teaches=teaches
        )
        if searched is None:
            return []
        patches, rows = self._search.averages(model, analysis, tracked.track)
        patch = patches_of(analysis, rows)
        renewed = taken_up(model, searched, patches, self._next_class, patch)
        if renewed is None:
            return []
        grown = confirmed_among(renewed.model, {*renewed.found, *renewed.renamed})
        self._adopt(grown)
        updated = model_event(grown, analysis.frame.number, "classes were looked for again")
        self._search.taken_up()
        self._tracker.inform(
            tracked.track[rows], renewed.posterior, grown.class_ids, *_roles_and_priors(grown)
        )
        told, self._events = self._events, []
        before = {entry.class_id: entry.name for entry in model.classes}
        for entry in grown.classes:
            if before.get(entry.class_id, entry.name) != entry.name:
                self._draft_class_event("class.renamed", entry, previous_name=before[entry.class_id])
        self._events += [discovered(grown, class_id) for class_id in renewed.found]
        for gone, class_id in renewed.merged.items():
            self.merge(class_id, [gone])
        events, self._events = self._events, told
        return [updated, *events]

    def _learnt_model(self) -> Model:
        assert self.model is not None
        return self.model

    def _result(
        self,
        analysis: Analysis,
        sites: SiteTable,
        drift_px: tuple[float, float],
        events: list[EventDraft],
        said: Sequence[Note] = (),
    ) -> FrameResult:
        frame, model = analysis.frame, self.model
        needed = self.settings.learning_frames
        notes = [*frame.notes, *analysis.notes, *said]
        if self.model is None and self._cannot_learn is not None:
            notes.append(self._cannot_learn)
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
            model_version=self._version,
            epoch=self._tracker.epoch,
            learning=(needed if model is not None else len(self._gathered), needed),
            classes=() if model is None else model.classes,
            kinds={} if model is None else kinds_of(model),
            scalars=frame.scalars,
            regions=analysis.regions,
            embedding=np.zeros((0, 2), np.float32) if model is None else model.embedding,
            embedding_class=np.zeros(0, np.int16) if model is None else model.embedding_class,
            events=tuple(events),
            timings_ms=dict(analysis.timings_ms),
            space=None if model is None else self._space,
            notes=self._notes.taken(notes, frame.series_id, frame.number),
        )


def _same_classes(one: Model, other: Model) -> bool:
    return (
        one.lattice is other.lattice and one.alias == other.alias and len(one.classes) == len(other.classes)
    )


def _roles_and_priors(model: Model) -> tuple[tuple[Role, ...], NDArray[np.float64]]:
    """Role and log prior of each column of a posterior."""
    return (*(entry.role for entry in model.classes), "unknown"), _log_priors(model.classes)


def _log_priors(classes: Sequence[CatalogueEntry]) -> NDArray[np.float64]:
    """Log prior of each class, and last of *unknown*."""
    return np.log([max(entry.prior, 1e-6) for entry in classes] + [1e-6])


def _too_few_sites(lattice: Lattice, surveys: list[Survey]) -> Note | None:
    """What is said where some sublattice has too few sites, in all frames together, to know its host."""
    n = sum(len(grain.cell.columns) for grain in lattice.grains)
    number = sum(np.bincount(survey.sites.sublattice, minlength=n)[:n] for survey in surveys)
    fewest = int(np.min(number))
    return too_few_sites(fewest, FEWEST_SITES) if fewest < FEWEST_SITES else None


def _well_seen(lattice: Lattice, surveys: list[Survey]) -> Lattice:
    """The lattice without the further grains of which there are too few sites to learn from."""
    number = np.zeros(sum(len(grain.cell.columns) for grain in lattice.grains), int)
    for survey in surveys:
        number += np.bincount(survey.sites.sublattice, minlength=len(number))[: len(number)]
    kept, first = [], len(lattice.cell.columns)
    for other in lattice.others:
        last = first + len(other.cell.columns)
        if number[first:last].min() >= MIN_GRAIN_SITES:
            kept.append(other)
        first = last
    return replace(lattice, others=tuple(kept))


def _alike(one: Lattice, other: Lattice) -> bool:
    """Whether two lattices have the same vectors, whichever of their cells was chosen, and as many columns."""
    if len(one.cell.columns) != len(other.cell.columns):
        return False
    first, second = other.field.vectors
    candidates = [sign * v for v in (first, second, first + second, first - second) for sign in (1, -1)]
    return all(
        min(float(np.hypot(*(vector - candidate))) for candidate in candidates)
        < SAME_VECTORS * float(np.hypot(*vector))
        for vector in one.field.vectors
    )


def _clarity(lattice: Lattice | None) -> float:
    """How well a frame shows its lattice: contrast of the average cell over its noise."""
    if lattice is None:
        return 0.0
    noise = float(np.median(lattice.cell.error)) or 1.0
    return len(lattice.cell.columns) * float(np.ptp(lattice.cell.mean)) / noise


def _on_lattice(sublattice: NDArray[np.int16], model: Model) -> NDArray[np.int16]:
    """Sublattices, -1 for what belongs to none: it stands between the columns."""
    return np.where(sublattice < model.n_columns, sublattice, -1).astype(np.int16)


def _blank_table(sites: Sites) -> SiteTable:
    n = len(sites)
    return SiteTable(
        sites.position.astype(np.float32),
        sites.sublattice,
        np.full(n, -1, np.int16),
        np.full(n, ROLES.index("unknown"), np.uint8),
        np.zeros(n, np.float32),
        np.full(n, -1, np.int32),
    )


def _observation(analysis: Analysis, model: Model) -> Observation:
    frame, verdict, survey, field = analysis.frame, analysis.verdict, analysis.survey, analysis.phase_field
    assert verdict is not None
    assert survey is not None
    assert field is not None
    assert analysis.model is not None
    calibration = frame.calibration
    stage = None if calibration is None else calibration.stage_px()
    axes = None
    if calibration is not None:
        along = [calibration.from_nm(*calibration.turn_back(*unit)) for unit in ((1.0, 0.0), (0.0, 1.0))]
        axes = np.array(along).T
    # columns of the model that classified the frame, with the roles of today
    roles = {entry.class_id: entry.role for entry in model.classes}
    classes = analysis.model.classes
    return Observation(
        series_id=frame.series_id,
        number=frame.number,
        ordinal=frame.ordinal,
        shape=analysis.image.shape,  # type: ignore[arg-type]
        image=survey.flat.image,
        vectors=field.vectors,
        position=analysis.sites.position,
        sublattice=_on_lattice(analysis.sites.sublattice, analysis.model),
        posterior=verdict.posterior,
        class_ids=analysis.model.class_ids,
        roles=(*(roles.get(entry.class_id, entry.role) for entry in classes), "unknown"),
        stage_px=stage,
        axes=axes,
        time_s=frame.t_acquired,
        log_prior=_log_priors(classes),
        height=np.array([_height(entry) for entry in classes] + [0.0]),
    )


def _height(entry: CatalogueEntry) -> float:
    """Of the column of a class, where host columns are near 1."""
    middle = len(entry.average) // 2
    return float(entry.average[middle - 1 : middle + 2, middle - 1 : middle + 2].mean())
