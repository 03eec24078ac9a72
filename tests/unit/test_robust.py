"""Median and spread are those that numpy gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latticewatch.robust import median, median_and_spread

VALUES = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=30),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(VALUES)
def test_the_median_is_that_of_numpy(values):
    before = values.copy()
    assert median(values) == pytest.approx(float(np.median(values)), rel=1e-6)
    assert (values == before).all()


@given(VALUES)
def test_the_spread_is_the_median_deviation_of_normal_values(values):
    level, spread = median_and_spread(values)
    assert level == median(values)
    away = np.abs(values.astype(float) - level)
    assert spread == pytest.approx(1.4826 * float(np.median(away)), rel=1e-5, abs=1e-6 * (1 + abs(level)))


def test_of_nothing_there_is_no_median():
    assert np.isnan(median(np.zeros(0)))
    assert np.isnan(median_and_spread(np.zeros(0))).all()


def test_of_many_normal_values_the_spread_is_their_standard_deviation(rng):
    level, spread = median_and_spread(3 + 2 * rng.normal(size=100_000))
    assert (level, spread) == (pytest.approx(3, abs=0.03), pytest.approx(2, rel=0.02))


def test_the_factor_of_a_median_deviation_stands_in_one_place(project):
    files = (project / "service/latticewatch").rglob("*.py")
    assert [file.name for file in files if "1.4826" in file.read_text(encoding="utf-8")] == ["robust.py"]
