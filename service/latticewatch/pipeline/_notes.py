"""The one place where notes come together: since when each has been said, and all that a run has said."""

from __future__ import annotations

from collections.abc import Iterable

from latticewatch.messages import Note

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
    """The frames show a lattice, but nothing can be learnt from them."""
    return Note(
        code="cannot-learn",
        text=_sentence(f"nothing could be learnt from these frames ({why.rstrip('.')})"),
        remedy="Check that columns are bright on a dark background, and that the frames are of one specimen.",
    )


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
