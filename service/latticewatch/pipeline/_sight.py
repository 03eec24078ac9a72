"""Whether the lattice that was learnt is in view; if not for long, whether another one is that was seen before."""

from __future__ import annotations

import numpy as np

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import Lattice
from latticewatch.messages import StreamEventData
from latticewatch.model import Model
from latticewatch.pipeline._analyse import analyse
from latticewatch.pipeline._analysis import Analysis, Classified, Surveyed
from latticewatch.pipeline._results import EventDraft

# Frames in a row that do not show the lattice learnt, after which that is told, and another one is looked for.
LOST_FRAMES = 8
# Frames in a row that agree on another lattice, before the one learnt is put aside for it.
OTHER_FRAMES = 3
# Lattice vectors that differ by less than this share of their length are the same.
SAME_VECTORS = 0.05
# Models of other lattices that are remembered, to be recognised.
REMEMBERED = 8


class Sight:
    """Counts frames that do not show the lattice learnt, and remembers models of lattices seen before.

    Attributes
    ----------
    lost : int
        Frames in a row that did not show it.
    remembered : list of Model
        The newest first.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.remembered: list[Model] = []
        self._other: list[Lattice] = []

    def lost_for_long(self, analysis: Analysis) -> bool:
        """Whether, with this frame, the lattice has not been seen for so long that another one is looked for.

        Parameters
        ----------
        analysis : Analysis
            Of the newest frame, not yet counted.

        Returns
        -------
        bool
        """
        return isinstance(analysis, Surveyed) and self.lost + 1 >= LOST_FRAMES

    def recognised(self, frame: Frame, settings: AnalysisSettings) -> Model | None:
        """The model of a lattice seen before that this frame shows; it is remembered no longer.

        Parameters
        ----------
        frame : Frame
        settings : AnalysisSettings

        Returns
        -------
        Model or None
        """
        for known in self.remembered:
            if isinstance(analyse(frame, known, settings), Classified):
                self.remembered.remove(known)
                return known
        return None

    def is_another(self, found: Surveyed, learnt: Lattice) -> bool:
        """Whether, with this frame, enough of them in a row agree on a lattice that is not the one learnt.

        Parameters
        ----------
        found : Surveyed
            The frame, looked at with no model.
        learnt : Lattice

        Returns
        -------
        bool
        """
        if found.lattice is None or (self._other and not _alike(found.lattice, self._other[-1])):
            self._other = [] if found.lattice is None else [found.lattice]
            return False
        if _alike(found.lattice, learnt):
            return False
        self._other.append(found.lattice)
        return len(self._other) >= OTHER_FRAMES

    def mind(self, analysis: Analysis) -> list[EventDraft]:
        """Count a frame, and tell when the lattice is lost, and when it is back; nothing is forgotten.

        Parameters
        ----------
        analysis : Analysis

        Returns
        -------
        list of EventDraft
            At most one.
        """
        if isinstance(analysis, Classified):
            return self.resume(analysis.frame, "a lattice that was learnt is in view")
        self.lost += 1
        if self.lost != LOST_FRAMES:
            return []
        reason = f"the lattice learnt has not been seen for {LOST_FRAMES} frames; classes and tracks are kept"
        return [_stream_event("stream.paused", analysis.frame, reason)]

    def resume(self, frame: Frame, reason: str) -> list[EventDraft]:
        """A lattice is in view.

        Parameters
        ----------
        frame : Frame
        reason : str
            Which, in words.

        Returns
        -------
        list of EventDraft
            One where it was told before that there was none.
        """
        was_told = self.lost >= LOST_FRAMES
        self.lost, self._other = 0, []
        return [_stream_event("stream.resumed", frame, reason)] if was_told else []

    def remember(self, model: Model) -> None:
        """Remember a model that is put aside.

        Parameters
        ----------
        model : Model
        """
        self.remembered = [model, *self.remembered][:REMEMBERED]

    def forget_those_with(self, model: Model) -> None:
        """Remember no model that has a class of this one: the same one is not remembered beside itself.

        Parameters
        ----------
        model : Model
        """
        mine = {entry.class_id for entry in model.classes}
        self.remembered = [
            other for other in self.remembered if mine.isdisjoint(e.class_id for e in other.classes)
        ]


def _stream_event(kind: str, frame: Frame, reason: str) -> EventDraft:
    data = StreamEventData(series_id=frame.series_id, frame=frame.number, reason=reason)
    return EventDraft(kind, data)  # type: ignore[arg-type]


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
