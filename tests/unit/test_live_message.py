"""What the live view tells of one site, and of where nothing is looked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latticewatch.pipeline import SiteTable
from latticewatch.serve._picture import numbered

SITES = SiteTable(
    position=np.zeros((2, 2), np.float32),
    sublattice=np.zeros(2, np.int16),
    class_id=np.array([3, 1], np.int16),
    role=np.array([1, 0], np.uint8),
    confidence=np.array([0.8, 1.0], np.float32),
    track=np.arange(2, dtype=np.int32),
    other_class=np.array([[1, -1], [-1, -1]], np.int16),
    other_share=np.array([[0.15, 0.03], [0.0, 0.0]], np.float32),
)


def test_a_site_has_the_probability_of_each_class_its_own_first():
    assert SITES.probabilities(0) == pytest.approx({3: 0.8, 1: 0.15, -1: 0.03})
    assert list(SITES.probabilities(0)) == [3, 1, -1]
    assert SITES.probabilities(1) == {1: 1.0}
    assert replace(SITES, other_class=None, other_share=None).probabilities(0) == pytest.approx({3: 0.8})


def test_classes_that_were_merged_are_as_probable_as_they_were_together():
    merged = replace(SITES, other_class=np.where(SITES.other_class == 1, np.int16(3), SITES.other_class))
    assert merged.probabilities(0) == pytest.approx({3: 0.95, -1: 0.03})


@pytest.mark.parametrize("shape", [(64, 64), (130, 301), (1000, 40)])
def test_a_thin_region_is_not_lost_when_it_is_made_small(rng, shape):
    dirt, bar = np.zeros((2, *shape), bool)
    dirt[rng.integers(shape[0], size=5), rng.integers(shape[1], size=5)] = True
    bar[-1] = True  # beyond the last whole block
    small, factor = numbered([bar, dirt], 128)
    assert max(small.shape) <= 128
    for row, column in np.argwhere(dirt):
        assert small[row // factor, column // factor] == 2
    assert (small[-1] > 0).all()
    clear = ~(dirt | bar)
    blocks = [(row // factor, column // factor) for row, column in np.argwhere(~clear)]
    assert np.count_nonzero(small) == len(set(blocks))
