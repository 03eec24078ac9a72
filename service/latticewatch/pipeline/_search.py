"""The search for classes in what tracks have gathered: beside the stream, its result taken up between two frames."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from latticewatch.discover import Searched, SiteAverages, averaged_patches, search
from latticewatch.model import DISPLACED, REGION, Model, Patches, Verdict
from latticewatch.pipeline._analysis import Classified
from latticewatch.track import ROLES, Tracked

# Classes are looked for again when each site has so many times more frames with noise of their own.
MORE_FRAMES = 1.33
# Fewer frames tell little more than those that were learnt from.
FIRST_FRAMES = 6
# What a search finds is taken up after so many frames, or this share of those that it had, whichever is more, and not
# before frames were acquired that much later [s], or so many came: always after the same frame, however fast the
# machine, and in a fast stream no frame has to wait for it. Clocks agree within a tick [s].
LEAST_FRAMES = 4
SHARE_FRAMES = 0.25
LEAST_S = 1.0
ENOUGH_FRAMES = 16
TICK_S = 1e-3
# A search that takes longer is waited for no longer, and taken up when it is done [s].
PATIENCE_S = 2.0
# How long the end of the process waits for one that runs: a thread that is in compiled code when Python goes away takes
# the process with it ("terminate called without an active exception"), after all its work is done [s].
END_S = 10.0
# Sites that were there in fewer of the frames than this share of the usual number are left out.
SEEN_SHARE = 0.75
# State of a site that is of no class: one that becomes so has changed, whatever it turns out to be.
STRANGE = np.int16(-3)
# Fewer sites of a sublattice say too little.
FEWEST_SITES = 50
# Attributes that make out its state; the thread and what it found are made again from these.
_STATE = (
    "_gathered",
    "_model",
    "_patches",
    "_due",
    "_now",
    "_begun",
    "_begun_s",
    "_is_due",
    "_searched",
    "number",
)

_log = structlog.get_logger(__name__)


class Search:
    """One search at a time, on a thread of its own.

    Parameters
    ----------
    look : callable, optional
        ``look(model, patches, frames)`` gives what is found, or None.
    patient : bool, optional
        Wait for a search however long it takes, so that the same frames give the same on any machine. Without it, as in
        a stream, one that takes longer than `PATIENCE_S` is taken up when it is done.

    Attributes
    ----------
    number : int
        Searches so far.
    """

    def __init__(
        self, look: Callable[[Model, Patches, float], Searched | None] = search, *, patient: bool = False
    ) -> None:
        self._look, self._patience_s = look, None if patient else PATIENCE_S
        self._gathered = SiteAverages()
        self._thread: threading.Thread | None = None
        self._result: Searched | None = None
        # of the search under way
        self._model: Model | None = None
        self._patches: Patches | None = None
        self._due = 0
        self._now = 0
        self._begun = 0
        self._begun_s: float | None = None
        self._is_due = False
        self._searched = 0.0
        self.number = 0

    def learnt_from(self, frames: int) -> None:
        """The classes are of so many frames."""
        self._searched = float(frames)

    def state(self) -> dict[str, Any]:
        """All that it goes on from; of a search under way, what it looks through."""
        return {name: getattr(self, name) for name in _STATE}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, perhaps of another process; a search that was under way is begun anew, with what it had.

        Parameters
        ----------
        state : mapping
            As `state` gave it.
        """
        for name in _STATE:
            setattr(self, name, state[name])
        if self._model is not None and self._patches is not None:
            self._start(self._model, self._patches, self._searched)

    def take(
        self,
        model: Model,
        analysis: Classified,
        tracked: Tracked,
        independent: Callable[[float], float],
        *,
        teaches: bool = True,
    ) -> Searched | None:
        """Take in a frame, and begin a search where there is enough for one.

        Parameters
        ----------
        model : Model
        analysis : Classified
        tracked : Tracked
        independent : callable
            How many frames with noise of their own hold what some number of frames of the stream do.
        teaches : bool, optional
            False for a doubtful frame: nothing is gathered from it.

        Returns
        -------
        Searched or None
            What a search found, after the frame after which it is due.
        """
        verdict, patches = analysis.verdict, analysis.patches
        self._now += 1
        defect = tracked.role == ROLES.index("defect")
        state = np.where(defect, tracked.class_id, np.int16(-1)).astype(np.int16)
        state[tracked.role == ROLES.index("unknown")] = STRANGE
        confidence = tracked.confidence
        usable = _undisturbed(patches, verdict, model)
        if not teaches:
            confidence, usable = np.zeros_like(confidence), np.zeros_like(usable)
        self._gathered.update(
            tracked.track, patches.moments, state, confidence, usable, patches.index, patches.sublattice
        )
        found = None
        if self._thread is not None and self._waited_enough(analysis.frame.t_acquired):
            found = self._finished(model)
            if found is not None:
                self._gathered.scattered(found.frames, _scatter(found, model))
        if self._thread is None and found is None:
            self._begin(model, analysis, tracked.track, independent)
        return found

    def averages(
        self, model: Model, analysis: Classified, track: NDArray[np.int32]
    ) -> tuple[Patches, NDArray[np.intp]]:
        """Averages of the sites of the newest frame, and their rows in it."""
        rows, _ = self._well_seen(model, analysis, track)
        return self._averages_of(rows, model, analysis, track), rows

    def _well_seen(
        self, model: Model, analysis: Classified, track: NDArray[np.int32]
    ) -> tuple[NDArray[np.intp], float]:
        """Rows of the columns with about as many frames as is usual, and how many that is."""
        frames, sublattice = self._gathered.frames_of(track), analysis.sites.sublattice
        column = (sublattice >= 0) & (sublattice < model.n_columns)
        usual = float(np.median(frames[column])) if column.any() else 0.0
        return np.flatnonzero(column & (frames >= max(SEEN_SHARE * usual, 1.0))), usual

    def _averages_of(
        self, rows: NDArray[np.intp], model: Model, analysis: Classified, track: NDArray[np.int32]
    ) -> Patches:
        sites = analysis.sites.take(rows)
        moments, shape = self._gathered.of(track[rows], analysis.sites.sublattice[rows]), analysis.image.shape
        return averaged_patches(model, moments, sites.position, sites.sublattice, sites.cell, shape)  # type: ignore[arg-type]

    def taken_up(self) -> None:
        """The classes are others now."""
        self._gathered.forget_states()

    def _begin(
        self,
        model: Model,
        analysis: Classified,
        track: NDArray[np.int32],
        independent: Callable[[float], float],
    ) -> None:
        enough = MORE_FRAMES * independent(self._searched)
        if self._now < FIRST_FRAMES or independent(self._now) < enough:
            return
        rows, usual = self._well_seen(model, analysis, track)
        if usual < FIRST_FRAMES or independent(usual) < enough:
            return
        sites = np.bincount(analysis.sites.sublattice[rows], minlength=model.n_columns)
        if sites[: model.n_columns].min() < FEWEST_SITES:
            return
        patches = self._averages_of(rows, model, analysis, track)
        self._searched, self._model, self._patches, self._result = usual, model, patches, None
        self._due = self._now + max(LEAST_FRAMES, int(SHARE_FRAMES * usual))
        self.number += 1
        self._begun, self._begun_s, self._is_due = self._now, analysis.frame.t_acquired, False
        self._start(model, patches, usual)

    def _start(self, model: Model, patches: Patches, frames: float) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(model, patches, frames), name="search", daemon=True
        )
        self._thread.start()
        # while it runs the thread keeps this object, so that only the end of the process waits
        weakref.finalize(self, _let_end, self._thread)

    def _run(self, model: Model, patches: Patches, frames: float) -> None:
        try:
            self._result = self._look(model, patches, frames)
        except Exception:  # noqa: BLE001 - the stream goes on with the classes that there are
            _log.exception("the search for classes in averages failed")

    def _waited_enough(self, now_s: float | None) -> bool:
        """Whether the frame is the one after which the search is taken up, or a later one."""
        if self._now < self._due:
            return False
        if now_s is None or self._begun_s is None or self._now >= self._begun + ENOUGH_FRAMES:
            return True
        # clocks that stand still or go back say nothing
        return not 0.0 < now_s - self._begun_s < LEAST_S - TICK_S

    def _finished(self, model: Model) -> Searched | None:
        assert self._thread is not None
        assert self._model is not None
        # it is waited for once
        self._thread.join(0.0 if self._is_due else self._patience_s)
        self._is_due = True
        if self._thread.is_alive():
            return None
        same = model.lattice is self._model.lattice
        self._thread = self._model = self._patches = None
        return self._result if same else None


def _let_end(thread: threading.Thread) -> None:
    if thread is not threading.current_thread():
        thread.join(END_S)


def _scatter(found: Searched, model: Model) -> float:
    """Standard deviation of the hosts' averages beside that of single frames, as an average over the sublattices."""
    pairs = zip(found.found.sublattices, model.sublattices, strict=False)
    return float(
        np.mean([mine.filter.height_of_sigma / known.filter.height_of_sigma for mine, known in pairs])
    )


def _undisturbed(patches: Patches, verdict: Verdict, model: Model) -> NDArray[np.bool_]:
    """Sites whose patches show no displaced column and nothing between the columns."""
    strange = np.isin(verdict.component, (DISPLACED, REGION)) | (patches.sublattice >= model.n_columns)
    if not strange.any():
        return ~strange
    beside = patches.index
    return ~(strange | (strange[np.maximum(beside, 0)] & (beside >= 0)).any(1))
