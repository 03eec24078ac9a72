"""Short files: each frame has its result, and one without classes says why."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import honeycomb, render, square
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import read_frames
from latticewatch.offline import analyse_file


@pytest.fixture
def analysed(tmp_path):
    def run(*frames):
        np.save(tmp_path / "stack.npy", np.stack(frames))
        return analyse_file(read_frames(tmp_path / "stack.npy"), AnalysisSettings(threads=1)).results

    return run


def test_a_last_frame_of_another_lattice_has_a_result_too(rng, analysed):
    first = render(honeycomb(16.0), rng, shape=(160, 160), counts=500).image
    other = render(square(11.0).turned(17), rng, shape=(160, 160), counts=60).image
    results = analysed(first, other)
    assert [result.number for result in results] == [0, 1]
    assert results[0].classes
    assert results[1].notes


def test_a_frame_before_the_others_that_shows_another_lattice_says_why_it_has_no_classes(rng, analysed):
    first = render(honeycomb(16.0), rng, shape=(160, 160), counts=500).image
    other = render(square(11.0).turned(17), rng, shape=(160, 160), counts=60).image
    results = analysed(other, first)
    assert [result.number for result in results] == [0, 1]
    assert results[0].notes
    assert results[1].classes
