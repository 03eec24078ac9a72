"""The learning phase: frames are gathered until there are enough of them to learn a model from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.config import AnalysisSettings
from latticewatch.discover import learn_model
from latticewatch.errors import NoLatticeError
from latticewatch.features import ZernikeDisk
from latticewatch.identify import confirmed, named_by_element
from latticewatch.ingest import Frame
from latticewatch.lattice import Lattice, SpectrumSum, follow_lattice
from latticewatch.messages import Note
from latticewatch.model import Model, Survey
from latticewatch.pipeline._analyse import analyse, patch_size, survey_frame
from latticewatch.pipeline._analysis import Analysis, Classified, Surveyed
from latticewatch.pipeline._notes import cannot_learn, too_few_sites
from latticewatch.pipeline._pulled import Followed, with_turns
from latticewatch.pipeline._regions import region_mask

# Fewer sites of a sublattice than these, in all frames learnt from together, say too little of their host.
MIN_GRAIN_SITES = 50
# And in a frame of one grain, with fewer than these nothing is learnt, and that is said.
FEWEST_SITES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A model, and the frames that it was learnt from.

    Attributes
    ----------
    model : Model
    frames : list of Analysis
        All that show its lattice, oldest first, as the model sees them.
    n_different : int
        How many of them are different frames.
    """

    model: Model
    frames: list[Analysis]
    n_different: int


class _Shown(NamedTuple):
    """A frame that shows a lattice, and the reciprocal vectors that it was looked for with; None from nothing."""

    seen: Surveyed
    basis: NDArray[np.float64] | None


class Gathering:
    """Gathers the frames of a learning phase.

    Parameters
    ----------
    settings : AnalysisSettings

    Attributes
    ----------
    trouble : Note or None
        Why nothing was learnt from the frames gathered last; None where that was not tried, or went well.
    """

    def __init__(self, settings: AnalysisSettings) -> None:
        self._settings = settings
        self.trouble: Note | None = None
        self._gathered: list[_Shown] = []
        # frames that show no lattice alone, the newest, and the spectra of all of them
        self._hidden: list[Frame] = []
        self._spectra = SpectrumSum()

    def __len__(self) -> int:
        return len(self._gathered)

    @property
    def n_hidden(self) -> int:
        """Frames that are kept though they show no lattice alone."""
        return len(self._hidden)

    @property
    def enough(self) -> bool:
        """Whether there are as many as are to be learnt from."""
        return len(self._gathered) >= self._settings.learning_frames

    def begin_anew(self) -> None:
        """No frame has been gathered yet."""
        self._gathered, self._hidden, self._spectra = [], [], SpectrumSum()

    def take(self, analysis: Surveyed) -> Surveyed:
        """Gather one more frame, where it shows a lattice, alone or together with those before it.

        Parameters
        ----------
        analysis : Surveyed
            Without a model.

        Returns
        -------
        Surveyed
            The same, or what is seen in the frame with the lattice that several show together.
        """
        if self._gathered and analysis.frame.image.shape != self._gathered[0].seen.frame.image.shape:
            self._gathered = []
        shown = _Shown(analysis, None)
        if analysis.lattice is None:
            shown = self._seen_together(analysis)
        if shown.seen.lattice is not None:
            self._gathered.append(shown)
        return shown.seen

    def state(self) -> dict[str, Any]:
        """All that it goes on from; of frames their numbers, and how they were looked at."""
        return {
            "trouble": self.trouble,
            "gathered": [(seen.frame.number, basis) for seen, basis in self._gathered],
            "hidden": [frame.number for frame in self._hidden],
            "spectra": self._spectra,
        }

    def go_on(self, state: Mapping[str, Any], frame_of: Callable[[int], Frame]) -> None:
        """Go on from a state, perhaps of another process: the frames gathered are read and looked at again.

        Parameters
        ----------
        state : mapping
            As `state` gave it.
        frame_of : callable
            Gives the frame of a number.
        """
        self.trouble, self._spectra = state["trouble"], state["spectra"]
        self._gathered = [self._looked_at(frame_of(number), basis) for number, basis in state["gathered"]]
        self._hidden = [frame_of(number) for number in state["hidden"]]

    def _seen_together(self, analysis: Surveyed) -> _Shown:
        """A frame that shows no lattice alone, looked at again with that of all such frames together.

        The newest of those before it, too, are gathered, once that lattice is known; as many as are learnt from.
        """
        frame = analysis.frame
        last = self._hidden[-1] if self._hidden else frame
        if frame.series_id != last.series_id or frame.image.shape != last.image.shape:
            self._hidden, self._spectra = [], SpectrumSum()
        self._spectra.add(analysis.image)
        basis = self._spectra.basis()
        room = self._settings.learning_frames - 1
        if basis is None:
            self._hidden = [*self._hidden, frame][-room:] if room else []
            return _Shown(analysis, None)
        before, self._hidden = self._hidden, []
        for hidden in before[max(0, len(before) + len(self._gathered) - room) :]:
            again = self._looked_at(hidden, basis)
            if again.seen.lattice is not None:
                self._gathered.append(again)
        return self._looked_at(frame, basis)

    def _looked_at(self, frame: Frame, basis: NDArray[np.float64] | None) -> _Shown:
        seen = analyse(frame, None, self._settings, basis)
        assert isinstance(seen, Surveyed)
        return _Shown(seen, basis)

    def learn(self, version: int, first_class: int) -> Learnt | None:
        """Learn from the frames gathered, surveyed with the lattice of the clearest of them; gathering begins anew.

        Parameters
        ----------
        version : int
            Of the model.
        first_class : int
            Number of its first class.

        Returns
        -------
        Learnt or None
            None where these frames do not suffice, see `trouble`.
        """
        gathered = [shown.seen for shown in self._gathered]
        self.begin_anew()
        learnt = self._learnt_from(gathered, version, first_class)
        if learnt is None:
            return None
        odd = [self._odd_places(frame) for frame in learnt.frames]
        if all(place is None for place in odd):
            return learnt
        # what is no crystal taught the model its classes: it is learnt again without
        places = {id(seen.frame): place for seen, place in zip(learnt.frames, odd, strict=True)}
        without = [one.without(places.get(id(one.frame))) for one in gathered]
        again = self._learnt_from(without, version, first_class)
        # where what is left does not suffice, something was learnt all the same
        self.trouble = None
        return again or learnt

    def _odd_places(self, seen: Analysis) -> NDArray[np.bool_] | None:
        """Pixels of a frame's regions of odd sites."""
        if not isinstance(seen, Classified):
            return None
        reach = seen.model.lattice.nearest_neighbour_px
        return region_mask(seen.odd_regions, seen.sites.position, seen.image.shape, reach)

    def _learnt_from(self, gathered: list[Surveyed], version: int, first_class: int) -> Learnt | None:
        settings = self._settings
        reference = max(gathered, key=lambda a: _clarity(a.lattice)).lattice
        assert reference is not None
        zernike = ZernikeDisk(settings.n_max, patch_size(reference, settings))
        followed, used = self._surveyed(gathered, reference, zernike)
        surveys = [one.survey for one in followed]
        well_seen = _well_seen(reference, surveys)
        if len(well_seen.others) < len(reference.others):
            reference = well_seen
            followed, used = self._surveyed(gathered, reference, zernike)
            surveys = [one.survey for one in followed]
        if not surveys:
            self.trouble = cannot_learn("none of them shows the lattice of the clearest")
            return None
        self.trouble = _too_few_sites(reference, surveys)
        if self.trouble is not None:
            return None
        try:
            model = learn_model(
                surveys,
                reference,
                zernike,
                invariant=settings.invariant,
                material=settings.material,
                pixel_size_nm=used[0].frame.pixel_size_nm,
                version=version,
                first_class=first_class,
                seed=settings.seed,
            )
        except (np.linalg.LinAlgError, FloatingPointError) as error:
            self.trouble = cannot_learn(str(error))
            return None
        model = with_turns(model, followed)
        model = named_by_element(replace(model, classes=confirmed(model, model.classes)))
        return Learnt(model, [analyse(a.frame, model, settings) for a in used], len(surveys))

    def _surveyed(
        self, gathered: list[Surveyed], reference: Lattice, zernike: ZernikeDisk
    ) -> tuple[list[Followed], list[Surveyed]]:
        """What the frames gathered show of a lattice, each different frame once, and all of them that show it."""
        followed, used = [], []
        distinct: list[NDArray[np.float32]] = []
        for analysis in gathered:
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
            survey = survey_frame(
                analysis.image,
                reference,
                field,
                zernike,
                measure_noise=True,
                voids="all",
                mask=analysis.unsound,
            )
            followed.append(Followed(analysis.image, field, survey, analysis.lines))
        return followed, used


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


def _clarity(lattice: Lattice | None) -> float:
    """How well a frame shows its lattice: contrast of the average cell over its noise."""
    if lattice is None:
        return 0.0
    noise = float(np.median(lattice.cell.error)) or 1.0
    return len(lattice.cell.columns) * float(np.ptp(lattice.cell.mean)) / noise
