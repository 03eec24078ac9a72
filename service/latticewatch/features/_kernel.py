"""Zernike moments of the patches around sites, on the frame in place.

A Zernike polynomial of order n is a polynomial of degree n in x and y, so 66 sums of f(x, y) P_j(y) P_i(x)
over the disk, i + j ≤ 10, hold the 66 moments. They separate: a sum over y for each column and j, then one
over x for each i. The rows y and -y are folded first: even orders need their sum, odd ones their
difference; likewise the columns x and -x. In the sums over y the lanes of a vector are columns of a patch;
after them there is little left of each patch, and the lanes are patches.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latticewatch.features._basis import Tables
from latticewatch.features._simd import ORDERS, accumulate, keep, no_low_sums, no_sums, store_sums, transpose
from latticewatch.parallel import idle, run
from latticewatch.vectors import (
    LANES,
    NARROW_LANES,
    WIDE_LANES,
    add,
    between,
    kernel,
    load,
    multiply_add,
    narrow_zeros,
    store,
    subtract,
    wide_zeros,
    zeros,
)

N_ORDERS = len(ORDERS)
# Sites that are taken at a time where other cores help, at least: fewer are not worth the way.
FEWEST_SITES = 150


def moments_around(
    image: NDArray[np.float32], positions: NDArray[np.float64], table: Tables, n_orders: int
) -> NDArray[np.float32]:
    """Zernike moments of the patches around `positions`.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32, C order
    positions : ndarray of shape (n_sites, 2), float64, C order
        Finite patch centres (row, col) [px]. Between pixels the image is interpolated bilinearly; where a patch leaves
        it, its edge is repeated.
    table : Tables
        Those of the patch size and the highest order.
    n_orders : int
        Number of moments.

    Returns
    -------
    ndarray of shape (n_sites, n_orders), float32
    """
    moments = np.empty((len(positions), n_orders), np.float32)
    # Frames from a socket are read-only, others are not; numba would compile the kernel for each.
    image, positions = _read_only(image), _read_only(positions)
    ends, helpers = [0], idle()
    while ends[-1] < len(positions):
        left = len(positions) - ends[-1]
        # less and less, so that all cores end together
        ends.append(ends[-1] + (min(max(left // (helpers + 2), FEWEST_SITES), left) if helpers else left))
    run(
        *(
            partial(_fill_part, image, positions[start:stop], table, moments[start:stop])
            for start, stop in pairwise(ends)
        )
    )
    return moments


def _fill_part(
    image: NDArray[np.float32], positions: NDArray[np.float64], table: Tables, moments: NDArray[np.float32]
) -> None:
    window = np.zeros((len(table.masks) + 1, 8 * table.masks.shape[1] + 1), np.float32)
    _fill(image, positions, window, _read_only(window), *table, moments)


def _read_only(array: NDArray) -> NDArray:
    view = array.view()
    view.flags.writeable = False
    return view


@kernel
def _fill(image, positions, window, window_read, masks, panels, along, outputs, terms, coefficients, moments):
    """Fill `moments`; a patch that sticks out of the image is copied to `window`, which `window_read` looks at."""
    height, width = image.shape
    size, reach = len(masks), 8 * masks.shape[1]
    if panels[0, 2] != NARROW_LANES and panels[0, 2] != LANES and panels[0, 2] != WIDE_LANES:
        raise ValueError("the tables were made for another width of vectors; delete __pycache__")
    n_orders = moments.shape[1]
    whole = n_orders // LANES * LANES
    padded = whole + LANES
    columns = np.zeros((LANES, N_ORDERS * size + WIDE_LANES), np.float32)
    turned = np.empty((N_ORDERS * size + LANES, LANES), np.float32)
    separable = np.empty((N_ORDERS * N_ORDERS, LANES), np.float32)
    panel_moments = np.zeros((padded, LANES), np.float32)
    rows = np.empty((LANES, padded), np.float32)
    # Further out than a patch nothing changes any more, and the corners stay within int64.
    limit = 2.0 * size + 2
    order = _along_rows(positions, height, width, size)
    for begin in range(0, len(positions), LANES):
        n = min(LANES, len(positions) - begin)
        for site in range(n):
            y = min(max(positions[order[begin + site], 0], -limit), height + limit)
            x = min(max(positions[order[begin + site], 1], -limit), width + limit)
            row, col = int(np.floor(y)) - size // 2, int(np.floor(x)) - size // 2
            down, right = np.float32(y - np.floor(y)), np.float32(x - np.floor(x))
            shifted = down > 0 or right > 0
            # Vectors may read on into the next row of the image, where the masks cover it, but not past its end.
            end = (row + size + shifted - 1) * width + col + reach + 1
            inside = (
                row >= 0 and col >= 0 and row + size + shifted <= height and col + size + shifted <= width
            )
            if inside and end <= image.size:
                _sum_columns(image, row, col, down, right, masks, panels, along, columns, site)
            else:
                _copy_clamped(image, row, col, size, window)
                _sum_columns(window_read, 0, 0, down, right, masks, panels, along, columns, site)
        for x in range(0, N_ORDERS * size, LANES):
            transpose(columns, 0, x, turned, x, 0)
        _sum_rows(turned, size, along, separable)
        _convert(separable, outputs, terms, coefficients, panel_moments)
        for k in range(0, padded, LANES):
            transpose(panel_moments, k, 0, rows, 0, k)
        for site in range(n):
            place = order[begin + site]
            for k in range(0, whole, LANES):
                store(moments, place, k, load(zeros(), rows, site, k))
            for k in range(whole, n_orders):
                moments[place, k] = rows[site, k]


@kernel
def _along_rows(positions, height, width, size):
    """Order of the sites in which a frame is read as it lies in memory: bands of rows, from left to right in each.

    In the order of a lattice, down its columns or from right to left, a large frame takes up to twice as long.
    """
    order = np.empty(len(positions), np.int64)
    for site in range(len(order)):
        order[site] = site
    order = _sorted(order, positions, 1, width, LANES)
    return _sorted(order, positions, 0, height, max(size // 2, 1))


@kernel
def _sorted(order, positions, axis, length, step):
    """The same sites sorted by their step along an axis, those of one step as they were; a counting sort."""
    first = np.zeros(length // step + 2, np.int64)
    steps = np.empty(len(order), np.int64)
    for site in range(len(order)):
        steps[site] = int(min(max(positions[site, axis], 0.0), length)) // step
        first[steps[site] + 1] += 1
    for k in range(1, len(first)):
        first[k] += first[k - 1]
    result = np.empty(len(order), np.int64)
    for site in order:
        result[first[steps[site]]] = site
        first[steps[site]] += 1
    return result


@kernel
def _copy_clamped(image, row, col, size, window):
    """Copy a patch, and a row and a column more, repeating the edge of the image."""
    height, width = image.shape
    for i in range(size + 1):
        source = min(max(row + i, 0), height - 1)
        for j in range(size + 1):
            window[i, j] = image[source, min(max(col + j, 0), width - 1)]


@kernel
def _sum_columns(image, row, col, down, right, masks, panels, along, columns, site):
    """For every column of the patch, sum its pixels times each P_j(y), a panel of columns at a time."""
    for panel in range(len(panels)):
        x, first, lanes = panels[panel]
        if lanes == WIDE_LANES:
            _sum(wide_zeros(), image, row, col, down, right, masks, x, first, along, columns, site)
        elif lanes == LANES:
            _sum(zeros(), image, row, col, down, right, masks, x, first, along, columns, site)
        else:
            _sum(narrow_zeros(), image, row, col, down, right, masks, x, first, along, columns, site)


@kernel
def _sum(zero, image, row, col, down, right, masks, x, first, along, columns, site):
    """Sum a panel of columns as wide as `zero`."""
    if down > 0 or right > 0:
        _sum_between(zero, image, row, col, down, right, masks, x, first, along, columns, site)
    else:
        _sum_whole(zero, image, row, col, masks, x, first, along, columns, site)


@kernel
def _sum_whole(zero, image, row, col, masks, x, first, along, columns, site):
    """Sum a panel of columns, the patch lying on the pixels."""
    size = len(masks)
    sums = no_sums(zero)
    for k in range(first, len(along)):
        mirror = size - 1 - k
        upper = keep(masks, k, x, load(zero, image, row + k, col + x))
        lower = keep(masks, mirror, x, load(zero, image, row + mirror, col + x))
        sums = accumulate(sums, along, k, add(upper, lower), subtract(upper, lower))
    store_sums(columns, site, x, 0, size, sums)


@kernel
def _sum_between(zero, image, row, col, down, right, masks, x, first, along, columns, site):
    """Sum a panel of columns, the patch lying between the pixels; a row interpolated in x is used twice in y."""
    size = len(masks)
    sums = no_sums(zero)
    col = col + x
    upper = _row_between(zero, image, row + first, col, right)
    lower_next = _row_between(zero, image, row + size - first, col, right)
    for k in range(first, len(along)):
        mirror = size - 1 - k
        upper_next = _row_between(zero, image, row + k + 1, col, right)
        lower = _row_between(zero, image, row + mirror, col, right)
        above = keep(masks, k, x, between(upper, upper_next, down))
        below = keep(masks, mirror, x, between(lower, lower_next, down))
        sums = accumulate(sums, along, k, add(above, below), subtract(above, below))
        upper, lower_next = upper_next, lower
    store_sums(columns, site, x, 0, size, sums)


@kernel
def _row_between(zero, image, row, col, right):
    return between(load(zero, image, row, col), load(zero, image, row, col + 1), right)


@kernel
def _sum_rows(turned, size, along, separable):
    """Sum the columns times each P_i(x); above j = 4 there are at most three even and three odd i."""
    for order in range(N_ORDERS):
        begin, end = order * size, order * size + size - 1
        if ORDERS[order] < 5:
            sums = no_sums(zeros())
            for k in range(len(along)):
                left, right = load(zeros(), turned, begin + k, 0), load(zeros(), turned, end - k, 0)
                sums = accumulate(sums, along, k, add(left, right), subtract(left, right))
            store_sums(separable, order * N_ORDERS, 0, 1, 0, sums)
        else:
            low_sums = no_low_sums(zeros())
            for k in range(len(along)):
                left, right = load(zeros(), turned, begin + k, 0), load(zeros(), turned, end - k, 0)
                low_sums = accumulate(low_sums, along, k, add(left, right), subtract(left, right))
            store_sums(separable, order * N_ORDERS, 0, 1, 0, low_sums)


@kernel
def _convert(separable, outputs, terms, coefficients, moments):
    """Zernike moments from separable ones, three moments of the same symmetry at a time."""
    for triple in range(len(outputs)):
        a, b, c = zeros(), zeros(), zeros()
        for k in range(terms.shape[1]):
            if terms[triple, k] < 0:
                break
            value = load(zeros(), separable, terms[triple, k], 0)
            a = multiply_add(a, coefficients[triple, k, 0], value)
            b = multiply_add(b, coefficients[triple, k, 1], value)
            c = multiply_add(c, coefficients[triple, k, 2], value)
        store(moments, outputs[triple, 0], 0, a)
        store(moments, outputs[triple, 1], 0, b)
        store(moments, outputs[triple, 2], 0, c)
