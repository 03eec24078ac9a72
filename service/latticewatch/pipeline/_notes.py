"""The one place where notes come together: since when each has been said, and all that a run has said."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice import PhaseField
from latticewatch.messages import Note

# Less of a frame without a lattice is the uncertainty of its edges.
LEAST_MISSING = 0.08
CHECK_THE_VIEW = "Check focus, field of view and pixel size."


def no_lattice(why: str) -> Note:
    """No lattice was found in a frame."""
    return Note(code="no-lattice", text=_sentence(why), remedy=CHECK_THE_VIEW)


def too_few_sites(number: int, needed: int) -> Note:
    """Sites are found, but too few of one sublattice to learn what they are."""
    return Note(
        code="too-few-sites",
        text=f"Too few sites to learn from: {number} of one sublattice, {needed} are needed.",
        remedy="Use a larger field of view, or more frames.",
    )


def cannot_learn(why: str) -> Note:
    """The frames show a lattice, but nothing can be learnt from them.

    Parameters
    ----------
    why : str
        In words.

    Returns
    -------
    Note
    """
    return Note(
        code="cannot-learn",
        text=_sentence(f"nothing could be learnt from these frames ({why.rstrip('.')})"),
        remedy="Check that columns are bright on a dark background, and that the frames are of one specimen.",
    )


def contaminated(dirt: NDArray[np.bool_]) -> Note:
    """Part of a frame is brighter than its columns."""
    rows, cols = np.nonzero(dirt)
    return Note(
        code="contamination",
        text=(
            f"Around row {rows.mean():.0f}, column {cols.mean():.0f}, {dirt.mean():.1%} of the frame is brighter than "
            "the columns of the lattice: contamination, or something thick. There are no sites in it."
        ),
        remedy="Go to a clean place, or count defects per area of the rest of the frame.",
    )


def partly_covered(field: PhaseField | None, mask: NDArray[np.bool_] | None) -> list[Note]:
    """Whether part of a frame, beside what is masked, shows no lattice."""
    if field is None:
        return []
    covered = sum(grain.covered for grain in field.grains if grain is not None)
    missing = 1 - covered - (0.0 if mask is None else float(mask.mean()))
    if missing < LEAST_MISSING:
        return []
    text = f"About {missing:.0%} of the frame shows no lattice: holes, vacuum, another material. No sites are there."
    return [Note(code="partly-covered", text=text)]


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


class NoteBook:
    """Knows since which frame each note has been said, in one series after another."""

    def __init__(self) -> None:
        self._series: str | None = None
        self._since: dict[str, int] = {}

    def taken(self, notes: Iterable[Note], series: str, frame: int) -> tuple[Note, ...]:
        """The notes of one frame, each with the frame since which it has been said; one that stops is forgotten.

        Parameters
        ----------
        notes : iterable of Note
            Of one frame; of several with the same code the first counts.
        series : str
        frame : int
            Its number in the series.

        Returns
        -------
        tuple of Note
        """
        if series != self._series:
            self._series, self._since = series, {}
        known, self._since = self._since, {}
        out = []
        for note in notes:
            if note.code in self._since:
                continue
            # a frame that was learnt from comes twice, the second time after later ones
            self._since[note.code] = min(frame, known.get(note.code, frame))
            out.append(note.model_copy(update={"since_frame": self._since[note.code]}))
        return tuple(out)


def said_in_all(notes_of_frames: Iterable[tuple[int, Iterable[Note]]]) -> list[tuple[Note, int]]:
    """Every note of a run, as it was said last, with the first frame that said it and how many did.

    Parameters
    ----------
    notes_of_frames : iterable of (int, iterable of Note)
        Number and notes of each frame.

    Returns
    -------
    list of tuple
        Note, and number of frames that said it.
    """
    last: dict[str, Note] = {}
    first: dict[str, int] = {}
    frames: dict[str, int] = {}
    for number, notes in notes_of_frames:
        for note in notes:
            last[note.code] = note
            first.setdefault(note.code, number)
            frames[note.code] = frames.get(note.code, 0) + 1
    return [
        (note.model_copy(update={"since_frame": first[code]}), frames[code]) for code, note in last.items()
    ]
