"""The compiled parts of the lattice against their slow, obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from latticewatch.lattice import _cell
from latticewatch.lattice._background import _blocks, _subtract, block_means
from latticewatch.lattice._banded import add_windowed, bounds, padded
from latticewatch.lattice._cell import fold_cells, unfold_cell
from latticewatch.lattice._demodulator import demodulator
from latticewatch.lattice._phase import (
    PhaseField,
    _combine,
    _jumps,
    _unwrap,
    cell_coordinates,
    invert_coordinates,
    mean_slope,
)
from latticewatch.lattice._sites import predict_sites
from latticewatch.lattice._smooth import convolved, gaussian_window, weighted_plane
from latticewatch.lattice._specimen import BLOCK, _looked_at

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
def test_phases_that_do_not_jump_need_no_unwrapping(seed):
    rng = np.random.default_rng(seed)
    phase, quality = rng.uniform(-2.2, 2.2, (2, 4, 5)), rng.random((4, 5))
    jumps = any(
        abs(phase[:, i, j] - phase[:, a, b]).max() >= np.pi
        for i, j in np.ndindex(4, 5)
        for a, b in np.ndindex(4, 5)
        if max(abs(a - i), abs(b - j)) == 1
    )
    assert _jumps(phase) == jumps
    gentle = 0.7 * phase
    assert not _jumps(gentle)
    np.testing.assert_array_equal(_unwrap(gentle, quality, 1, 2), gentle)
    np.testing.assert_array_equal(naive.unwrapped(gentle, quality, (1, 2)), gentle)


@pytest.mark.parametrize("shape", [(37, 45), (64, 40), (21, 27)])
@pytest.mark.parametrize("constant", [7.0, 11.0, 18.0, 36.0])
def test_waves_are_windowed_sums_over_blocks(rng, shape, constant):
    basis = np.linalg.inv(constant * np.array([[0.1, 1.0], [0.9, 0.4]])).T
    demodulate = demodulator(shape, basis, 3)
    # in one frame a constant on which single precision would founder
    for pedestal in (0.0, 1e4):
        image = (rng.poisson(9, shape) + pedestal).astype(np.float32)
        down, across = (
            np.repeat(window, demodulate.block, 1)[:, :n]
            for window, n in zip((demodulate.over_rows, demodulate.over_cols), shape, strict=True)
        )
        frequencies = np.vstack([np.zeros(2), demodulate.orders @ basis])
        sums = naive.demodulated(image, down, across, frequencies)
        constant_gives = naive.demodulated(np.ones(shape), down, across, frequencies)
        mass = np.maximum(constant_gives[0].real, 1e-3 * constant_gives[0].real.max())
        expected = (sums[1:] - sums[0].real / mass * constant_gives[1:]) / mass
        waves, means = demodulate(image, pedestal)
        np.testing.assert_allclose(waves, expected, atol=1e-7 * pedestal + 1e-4)
        np.testing.assert_allclose(means, naive.mean_of_blocks(image, demodulate.block), rtol=1e-6)


@given(seed=seeds, n_rows=st.integers(1, 9), n_blocks=st.integers(1, 40))
@few
def test_windows_are_a_product_with_a_band(seed, n_rows, n_blocks):
    rng = np.random.default_rng(seed)
    centre, reach = np.linspace(-2, n_blocks + 2, n_rows), rng.uniform(0.5, 6)
    distance = (np.arange(n_blocks) - centre[:, None]) / reach
    windows = np.where(np.abs(distance) < 1, 1 - distance**2, 0).astype(np.float32)
    rows = rng.normal(size=(n_blocks, padded(45))).astype(np.float32)
    out = rng.normal(size=(n_rows, padded(45))).astype(np.float32)
    expected = out + windows @ rows
    low, high = bounds(windows.T)
    for start in range(0, n_blocks, 5):
        stop = min(start + 5, n_blocks)
        add_windowed(
            rows[start:stop],
            windows,
            start,
            stop,
            low[start:stop].min(),
            high[start:stop].max(),
            out,
        )
    np.testing.assert_allclose(out, expected, atol=1e-4)


@given(seed=seeds)
@few
def test_all_harmonics_agree_on_one_phase(seed):
    rng = np.random.default_rng(seed)
    orders = np.array([(1, 0), (0, 1), (1, -1), (2, 1), (-1, 1)], float)
    phase = rng.uniform(-np.pi, np.pi, (2, 5, 6))
    waves = np.stack([np.exp(1j * np.tensordot(order, phase, 1)) for order in orders])
    waves *= rng.uniform(0.5, 2, waves.shape) * np.exp(0.3j * rng.normal(size=waves.shape))
    # the last one is noise
    waves[-1] *= np.exp(1j * rng.uniform(-np.pi, np.pi, (5, 6)))
    good = rng.random((5, 6)) < 0.9
    change, best = _combine(waves, orders, good)
    expected, coherence = naive.agreed_phases(waves, orders, good)
    np.testing.assert_allclose(change, expected, atol=1e-4)
    assert best == pytest.approx(coherence)


@given(seed=seeds)
@few
def test_the_slope_of_a_phase_is_that_of_its_plane(seed):
    rng = np.random.default_rng(seed)
    field = some_field(rng)
    nodes = field.step * np.moveaxis(np.indices(field.amplitude.shape), 0, -1)
    slope = rng.normal(size=(2, 2))
    phase = 2 * np.pi * nodes @ slope.T + rng.normal(size=2)
    flat = PhaseField(field.basis, phase, field.amplitude, field.origin, field.step)
    np.testing.assert_allclose(mean_slope(flat), slope, atol=1e-7)


@given(seed=seeds, rows=st.integers(1, 9), cols=st.integers(1, 9))
@few
def test_planes_are_the_weighted_least_squares(seed, rows, cols):
    rng = np.random.default_rng(seed)
    values, weight = rng.normal(size=(2, rows, cols))
    found = weighted_plane(values, np.abs(weight))
    np.testing.assert_allclose(found, naive.plane_through(values, np.abs(weight)), atol=1e-5)


@given(seed=seeds, rows=st.integers(1, 9), cols=st.integers(1, 9), sigma=st.sampled_from([0.4, 1.3, 5.0]))
@few
def test_the_low_pass_is_a_gaussian_that_knows_nothing_beyond_the_grid(seed, rows, cols, sigma):
    grid = np.random.default_rng(seed).normal(size=(rows, cols))
    np.testing.assert_allclose(
        convolved(grid, gaussian_window(sigma)), naive.smoothed(grid, sigma), atol=1e-9
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
    amplitude = np.ascontiguousarray(rng.uniform(0.3, 1.2, field.amplitude.shape))
    where = field.basis, field.phase, field.origin, field.step
    flat = image - rng.uniform(2, 5, image.shape).astype(np.float32)
    found = fold_cells(image, flat, *where, amplitude, 0.6, n1, n2)
    np.testing.assert_allclose(
        found, naive.folded(image, flat, *where, amplitude, 0.6, n1, n2), rtol=1e-4, atol=1e-3
    )
    assert fold_cells(image, flat, *where, amplitude, 0.0, n1, n2)[3].sum() == pytest.approx(image.size)


def test_a_frame_is_folded_into_its_cell_once(monkeypatch):
    rng = np.random.default_rng(4)
    field, folded = some_field(rng), []

    def counted(*given):
        folded.append(given[0])
        return fold_cells(*given)

    monkeypatch.setattr(_cell, "fold_cells", counted)
    image = rng.poisson(9, (24, 29)).astype(np.float32)
    _cell.unit_cell(image, field)
    assert [one is image for one in folded] == [True]


@given(seed=seeds, n1=st.integers(3, 9), n2=st.integers(3, 9))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_unfolding_reads_the_cell_at_every_pixel(seed, n1, n2):
    rng = np.random.default_rng(seed)
    field, cell = some_field(rng), rng.normal(size=(n1, n2))
    found = unfold_cell(cell, field, (24, 29))
    expected = naive.unfolded(cell, field.basis, field.phase, field.origin, field.step, (24, 29))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("block", [2, 4])
def test_unfolding_in_blocks_gives_their_means(rng, block):
    # smooth enough for a linear interpolation, and a lattice that bends little
    field = some_field(rng, shape=(80, 96), bend=0.02)
    u, v = np.meshgrid(np.arange(48) / 48, np.arange(48) / 48, indexing="ij")
    cell = np.cos(2 * np.pi * u) + np.sin(2 * np.pi * (u - v)) + 0.5 * np.cos(4 * np.pi * v)
    pixels = unfold_cell(cell, field, (80, 96))
    found = unfold_cell(cell, field, (80 // block, 96 // block), block=block)
    np.testing.assert_allclose(found, naive.mean_of_blocks(pixels, block), atol=0.02)


@given(seed=seeds, block=st.sampled_from([1, 2, 4, 8, 16]))
@few
def test_means_are_over_whole_blocks(seed, block):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=rng.integers(16, 50, 2)).astype(np.float32)
    np.testing.assert_allclose(block_means(image, block), naive.mean_of_blocks(image, block), atol=1e-5)


def test_sites_are_all_columns_inside_the_margin_and_the_lattice(rng):
    field = some_field(rng, shape=(60, 70), bend=0.1)
    amplitude = rng.uniform(0.2, 1.2, field.amplitude.shape)
    field = PhaseField(field.basis, field.phase, amplitude, field.origin, field.step)
    columns = np.array([[0.1, 0.2], [0.7, 0.6]])
    sites = predict_sites(field, columns, (60, 70), 4.5)
    # every cell that could be in view
    cells = np.stack(np.meshgrid(np.arange(-30, 30), np.arange(-30, 30), indexing="ij"), -1).reshape(-1, 2)
    expected = []
    for s, column in enumerate(columns):
        position = field.positions(cells + column)
        inside = ((position >= 4.5) & (position <= [59 - 4.5, 69 - 4.5])).all(1)
        inside &= field.amplitude_at(position) > 0.6
        expected += [(s, *cell, *at) for cell, at in zip(cells[inside], position[inside], strict=True)]
    found = np.column_stack([sites.sublattice, sites.cell, sites.position])
    assert len(found) > 40
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (sites.sublattice.dtype, sites.cell.dtype) == (np.int16, np.int32)


@given(seed=seeds)
@few
def test_whole_turns_along_a_cut_of_the_phase_change_nothing(seed):
    rng = np.random.default_rng(seed)
    smooth = some_field(rng, shape=(60, 70), bend=0.1)
    turns = np.zeros(smooth.phase.shape)
    turns[:, smooth.phase.shape[1] // 2 :] = 2 * np.pi * rng.integers(1, 3, 2)
    turns[smooth.phase.shape[0] // 2 :, :, 0] -= 2 * np.pi
    cut = PhaseField(smooth.basis, smooth.phase + turns, smooth.amplitude, smooth.origin, smooth.step)
    columns = np.array([[0.1, 0.2], [0.7, 0.6]])
    expected, found = (predict_sites(field, columns, (60, 70), 4.5) for field in (smooth, cut))
    assert len(found) == len(expected)
    assert (np.diff(found.sublattice) >= 0).all()
    for s in range(2):
        ours, theirs = (sites.position[sites.sublattice == s] for sites in (found, expected))
        apart = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1))
        assert apart.min(0).max() < 0.01
    points = rng.uniform(5, 55, (20, 2))
    change = cut.cell_coordinates(points) - smooth.cell_coordinates(points)
    np.testing.assert_allclose(change, np.rint(change), atol=1e-6)
    cell = rng.normal(size=(8, 9))
    np.testing.assert_allclose(
        unfold_cell(cell, cut, (60, 70)), unfold_cell(cell, smooth, (60, 70)), atol=2e-3
    )
    np.testing.assert_allclose(mean_slope(cut), mean_slope(smooth), atol=2e-3)


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


@given(seed=seeds, rows=st.integers(9, 40), cols=st.integers(16, 30))
@few
def test_one_look_at_a_frame_sees_areas_of_one_value_pixels_that_stand_out_and_lines(seed, rows, cols):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 6, (rows, cols)).astype(np.float32)
    image[rng.integers(rows, size=5), rng.integers(cols, size=5)] = 20

    above, below = np.float32(rng.integers(1, 9)), np.float32(rng.integers(1, 4))
    for found, expected in zip(
        _looked_at(image, above, below), naive.look(image, above, below, BLOCK), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
