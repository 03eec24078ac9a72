"""The results of a stack, one after another, in; what tables and figures need of all of them, and the last one, out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from latticewatch.execute import record_of
from latticewatch.messages import DefectKind, Note
from latticewatch.offline._counts import Counts
from latticewatch.pipeline import CatalogueEntry, FrameResult
from latticewatch.statistics import History, HistoryView

MAX_POINTS = 1000


class Stack:
    """What is kept of the frames of a file: counts by class, statistics and notes; of the last frame, everything.

    Memory grows neither with the size of the frames nor with their number.

    Attributes
    ----------
    last : FrameResult or None
    catalogue : dict of int to CatalogueEntry
        Every class that a site of any frame may have, as it was last, in the order of their discovery.
    kinds : dict of int to str
        What each class of defects differs in from its host.
    counts : Counts
        Sites of each class over the frames.
    with_lattice : int
        Frames in which a lattice was found.
    """

    def __init__(self, results: Iterable[FrameResult] = ()) -> None:
        self.last: FrameResult | None = None
        self.catalogue: dict[int, CatalogueEntry] = {}
        self.kinds: dict[int, DefectKind] = {}
        self.counts = Counts()
        self.with_lattice = 0
        self._history = History()
        self._notes: dict[str, tuple[Note, int, int]] = {}
        for result in results:
            self.add(result)

    def __len__(self) -> int:
        return len(self.counts)

    def add(self, result: FrameResult) -> None:
        """Take in the next frame."""
        classified = bool(result.classes) and result.lattice_found
        if not result.classes:
            self._history.interrupt()
        elif result.lattice_found:
            # the unit of time is the frame, which every file has
            self._history.add(record_of(result, time=float(len(self))))
        self.catalogue |= {entry.class_id: entry for entry in result.classes}
        self.kinds |= result.kinds
        self.with_lattice += result.lattice_found
        for note in result.notes:
            _, first, frames = self._notes.get(note.code, (note, result.number, 0))
            self._notes[note.code] = (note, first, frames + 1)
        self.counts.add(result.number, result.sites.class_id if classified else None)
        self.last = result

    def history(self) -> HistoryView:
        """Counts, events and lifetimes; the unit of time is the frame."""
        return self._history.view(MAX_POINTS)

    def notes(self) -> list[tuple[Note, int]]:
        """Every note, as it was said last, with the first frame that said it and how many did."""
        return [
            (note.model_copy(update={"since_frame": first}), frames)
            for note, first, frames in self._notes.values()
        ]


def stack_of(results: Stack | Sequence[FrameResult]) -> Stack:
    """The same, gathered where it is not yet."""
    return results if isinstance(results, Stack) else Stack(results)
