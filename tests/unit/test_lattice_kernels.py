"""The compiled parts of the lattice against their slow, obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from latticewatch.lattice._background import _blocks, _subtract
from latticewatch.lattice._cell import fold_cells, unfold_cell
from latticewatch.lattice._phase import PhaseField, _unwrap, cell_coordinates, invert_coordinates

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None, derandomize=True)


def some_field(rng, shape=(24, 29), bend=0.4):
    """A lattice of about ten pixels with a gently bent phase, over a frame of this shape."""
    vectors = 10 * np.array([[0.1, 1.0], [0.9, 0.4]]) + rng.normal(size=(2, 2))
    origin, step = -3.0, float(rng.uniform(5, 9))
    nodes = [int(np.ceil((n - origin) / step)) + 1 for n in shape]
    phase = bend * rng.normal(size=(*nodes, 2)) + rng.uniform(-9, 9, 2)
    return PhaseField(np.linalg.inv(vectors).T, phase, np.ones(nodes), origin, step)


@given(seed=seeds, rows=st.integers(1, 7), cols=st.integers(1, 7))
@few
def test_unwrapping_takes_the_best_nodes_first(seed, rows, cols):
    rng = np.random.default_rng(seed)
    phase, quality = (
        rng.uniform(-np.pi, np.pi, (2, rows, cols)),
        rng.integers(0, 4, (rows, cols)).astype(float),
    )
    start = int(rng.integers(rows)), int(rng.integers(cols))
    np.testing.assert_allclose(
        _unwrap(phase, quality, *start), naive.unwrapped(phase, quality, start), atol=1e-9
    )


@given(seed=seeds)
@few
def test_unwrapping_a_slope_of_many_turns_gives_the_slope_back(seed):
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:20, :25]
    true = np.stack([rng.uniform(-2, 2) * i + rng.uniform(-2, 2) * j for _ in range(2)])
    wrapped = np.angle(np.exp(1j * true))
    turns = (_unwrap(wrapped, rng.random((20, 25)), 10, 12) - true) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.broadcast_to(np.rint(turns[:, :1, :1]), turns.shape), atol=1e-9)


@given(seed=seeds)
@few
def test_cell_coordinates_are_the_plane_wave_and_the_local_phase(seed):
    rng = np.random.default_rng(seed)
    field = some_field(rng)
    # some of them beyond the grid of nodes, where the phase keeps its last value
    points = rng.uniform(-20, 50, (12, 2))
    expected = [naive.cell_coordinate(p, field.basis, field.phase, field.origin, field.step) for p in points]
    found = cell_coordinates(points, field.basis, field.phase, field.origin, field.step)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(seed=seeds)
@few
def test_a_point_is_found_from_its_cell_coordinates(seed):
    rng = np.random.default_rng(seed)
    field = some_field(rng, bend=0.15)
    wanted = rng.uniform(0, 2, (6, 2))
    found = invert_coordinates(wanted, field.basis, field.vectors, field.phase, field.origin, field.step)
    expected = [
        naive.point_of_cell_coordinate(u, field.basis, field.phase, field.origin, field.step) for u in wanted
    ]
    np.testing.assert_allclose(found, expected, atol=1e-2)
    np.testing.assert_allclose(field.cell_coordinates(found), wanted, atol=1e-3)


@given(seed=seeds, n1=st.integers(3, 9), n2=st.integers(3, 9))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_folding_shares_each_pixel_between_four_nodes_of_the_cell(seed, n1, n2):
    rng = np.random.default_rng(seed)
    field, image = some_field(rng), rng.poisson(9, (24, 29)).astype(np.float32)
    arguments = field.basis, field.phase, field.origin, field.step, n1, n2
    found = fold_cells(image, *arguments)
    np.testing.assert_allclose(found, naive.folded(image, *arguments), rtol=1e-4, atol=1e-3)
    assert found[2].sum() == pytest.approx(image.size)


@given(seed=seeds, n1=st.integers(3, 9), n2=st.integers(3, 9))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_unfolding_reads_the_cell_at_every_pixel(seed, n1, n2):
    rng = np.random.default_rng(seed)
    field, cell = some_field(rng), rng.normal(size=(n1, n2))
    found = unfold_cell(cell, field, (24, 29))
    expected = naive.unfolded(cell, field.basis, field.phase, field.origin, field.step, (24, 29))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@given(seed=seeds, block=st.integers(1, 9), limit=st.sampled_from([0.5, 2.0, np.inf]))
@few
def test_sums_of_blocks_leave_out_what_is_beyond_the_limit(seed, block, limit):
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(4, 20)), int(rng.integers(4, 20))
    # eighths: exact in single precision, so that no residual lies on either side of the limit by rounding
    image, perfect = (rng.integers(-20, 20, (2, *shape)) / 8).astype(np.float32)
    offset = rng.integers(-8, 8, [-(-n // block) for n in shape]) / 8
    found = _blocks(image, perfect, offset, np.float32(1.5), np.float32(limit), block)
    np.testing.assert_allclose(
        found, naive.block_sums(image, perfect, offset, 1.5, limit, block), rtol=1e-5, atol=1e-4
    )


@given(seed=seeds, block=st.integers(1, 12))
@few
def test_the_offset_is_bilinear_between_the_centres_of_blocks(seed, block):
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 20)), int(rng.integers(1, 20))
    image = rng.normal(size=shape).astype(np.float32)
    offset = rng.normal(size=[-(-n // block) for n in shape])
    found = _subtract(image, offset, block, np.float32(0.5))
    np.testing.assert_allclose(found, naive.without_offset(image, offset, block, 0.5), atol=1e-5)
