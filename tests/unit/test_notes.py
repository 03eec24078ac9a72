"""What the program says about its own doubt."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from latticewatch.messages import Note
from latticewatch.pipeline import NoteBook, said_in_all


def note(code, text="Something."):
    return Note(code=code, text=text)


def test_a_note_says_since_which_frame_it_has_been_said():
    book = NoteBook()
    since = [book.taken([note("dark")] if n != 3 else [], "series", n) for n in range(6)]
    assert [s[0].since_frame if s else None for s in since] == [0, 0, 0, None, 4, 4]


def test_a_new_series_starts_anew():
    book = NoteBook()
    book.taken([note("dark")], "one", 7)
    assert book.taken([note("dark")], "two", 0)[0].since_frame == 0


def test_a_frame_that_comes_again_after_learning_does_not_shorten_what_was_said():
    book = NoteBook()
    for n in (3, 4, 5, 3, 4):
        (said,) = book.taken([note("dark")], "series", n)
    assert said.since_frame == 3


def test_the_same_doubt_is_said_once_a_frame():
    assert len(NoteBook().taken([note("dark"), note("dark", "Again."), note("few")], "s", 0)) == 2


def test_a_run_says_every_doubt_once_with_how_many_frames_had_it():
    frames = [(0, [note("a")]), (1, [note("a", "Last."), note("b")]), (2, [])]
    said = [(n.code, n.text, n.since_frame, frames) for n, frames in said_in_all(frames)]
    assert said == [("a", "Last.", 0, 2), ("b", "Something.", 1, 1)]


@pytest.mark.parametrize("code", ["", "No Lattice", "no_lattice", "-x"])
def test_codes_are_words_that_programs_can_compare(code):
    with pytest.raises(ValidationError):
        note(code)
