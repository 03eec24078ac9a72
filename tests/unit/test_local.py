"""Standardised values, and what one unit of them stands for."""

from __future__ import annotations

import numpy as np
import pytest

from latticewatch.model._local import standardise, unit_of


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_units_are_undone_whatever_else_is_among_the_values(rng, share):
    # a third of the hosts hears an echo of what stands beside them
    n, shape = 300, (512, 512)
    values = rng.normal(size=n) + np.where(rng.random(n) < share, 6 * rng.choice([-1, 1], n), 0.0)
    values[:15] = 30.0
    host = np.arange(n) >= 15
    position = rng.uniform(0, 512, (n, 2))
    standard = standardise(values, position, np.zeros(n, np.int32), host, shape)
    undone = standard * unit_of(values[host], standard[host])
    np.testing.assert_allclose(undone[:15], 30.0, rtol=0.1)


def test_values_that_are_all_one_have_a_unit_of_one():
    assert unit_of(np.ones(5), np.zeros(5)) == 1.0
