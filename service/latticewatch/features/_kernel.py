"""Separable moments of the patches around sites, on the frame in place.

A Zernike polynomial of order n is a polynomial of degree n in x and y, so 66 sums of f(x, y) P_j(y) P_i(x)
over the disk, i + j ≤ 10, hold the 66 moments. They separate: a sum over y for each column and j, then one
over x for each i. The rows y and -y are folded first: even orders need their sum, odd ones their
difference.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.features._simd import (
    FAST_FLAGS,
    LANES,
    add,
    keep,
    load,
    multiply_add,
    store,
    subtract,
    zeros,
)

kernel = njit(cache=True, nogil=True, fastmath=set(FAST_FLAGS))


@kernel
def separable_moments(
    image: NDArray[np.float32],
    corners: NDArray[np.int64],
    shifts: NDArray[np.float32],
    masks: NDArray[np.uint32],
    first: NDArray[np.int64],
    along_y: NDArray[np.float32],
    along_x: NDArray[np.float32],
    start: NDArray[np.int64],
    moments: NDArray[np.float32],
) -> None:
    """Fill `moments` with the separable moments of the patches at `corners`.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32, C order
    corners : ndarray of shape (n_sites, 2), int64
        First row and column of each patch; where a patch leaves the image, the edge is repeated.
    shifts : ndarray of shape (n_sites, 2), float32
        Fraction of a pixel, 0 ≤ shift < 1, to go on from there in row and column, by bilinear interpolation.
    masks, first, along_y, along_x, start
        See `Tables`.
    moments : ndarray of shape (n_sites, n_terms + along_x.shape[1]), float32
        Output, order j in y and then i in x, i + j ≤ n_max; the rest is scratch.
    """
    height, width = image.shape
    size, reach = masks.shape
    if reach != len(first) * LANES:
        raise ValueError("the tables were made for another width of vectors; delete __pycache__")
    # One row more than pairs, or the vectors of columns would compete for the same lines of the cache.
    folded = np.empty((len(first), len(along_y) + 1, 2 * LANES), np.float32)
    columns = np.empty((start.size, reach), np.float32)
    clamped = np.zeros((size + 1, reach + 1), np.float32)
    for site in range(len(corners)):
        row, col = corners[site]
        down, right = shifts[site]
        rows, cols = size + (down > 0), size + (right > 0)
        # Vectors may read on into the next row of the image, where the masks cover it, but not past its end.
        end = (row + rows - 1) * width + col + reach + 1
        if row >= 0 and col >= 0 and row + rows <= height and col + cols <= width and end <= image.size:
            _fold(image, row, col, down, right, masks, first, folded)
        else:
            _copy_clamped(image, row, col, size, clamped)
            _fold(clamped, 0, 0, down, right, masks, first, folded)
        _sum_columns(folded, first, along_y, columns)
        _sum_rows(columns, along_x, start, moments, site)


@kernel
def _copy_clamped(image, row, col, size, window):
    """Copy a patch, and a row and a column more, repeating the edge of the image."""
    height, width = image.shape
    for i in range(size + 1):
        source = min(max(row + i, 0), height - 1)
        for j in range(size + 1):
            window[i, j] = image[source, min(max(col + j, 0), width - 1)]


@kernel
def _fold(image, row, col, down, right, masks, first, folded):
    """Sums and differences of the rows y and -y, vector after vector of columns.

    Row by row: down a column of a frame whose width is a power of two, all pixels compete for the same few lines of
    the processor's cache.
    """
    last = len(masks) - 1
    pairs = (len(masks) + 1) // 2
    between = down > 0 or right > 0
    for k in range(pairs):
        for block in range(len(first)):
            if first[block] > k:
                continue
            x = block * LANES
            if between:
                upper = _interpolate(image, row + k, col + x, down, right)
                lower = _interpolate(image, row + last - k, col + x, down, right)
            else:
                upper = load(image, row + k, col + x)
                lower = load(image, row + last - k, col + x)
            upper, lower = keep(masks, k, x, upper), keep(masks, last - k, x, lower)
            store(folded[block], k, 0, add(upper, lower))
            store(folded[block], k, LANES, subtract(upper, lower))


@kernel
def _interpolate(image, row, col, down, right):
    """Bilinear interpolation; a neighbour of no weight is not looked at, it may lie outside the image."""
    below, beside = row + (down > 0), col + (right > 0)
    up, left = np.float32(1) - down, np.float32(1) - right
    value = multiply_add(zeros(), up * left, load(image, row, col))
    value = multiply_add(value, up * right, load(image, row, beside))
    value = multiply_add(value, down * left, load(image, below, col))
    return multiply_add(value, down * right, load(image, below, beside))


@kernel
def _sum_columns(folded, first, along_y, columns):
    """For every column of the patch, sum its pixels times each P_j(y); the sums stay in registers."""
    pairs = len(along_y)
    for block in range(len(first)):
        x = block * LANES
        e0, e1, e2, e3, e4, e5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        o0, o1, o2, o3, o4, o5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        for k in range(first[block], pairs):
            even = load(folded[block], k, 0)
            odd = load(folded[block], k, LANES)
            e0 = multiply_add(e0, along_y[k, 0], even)
            e1 = multiply_add(e1, along_y[k, 1], even)
            e2 = multiply_add(e2, along_y[k, 2], even)
            e3 = multiply_add(e3, along_y[k, 3], even)
            e4 = multiply_add(e4, along_y[k, 4], even)
            e5 = multiply_add(e5, along_y[k, 5], even)
            o0 = multiply_add(o0, along_y[k, 6], odd)
            o1 = multiply_add(o1, along_y[k, 7], odd)
            o2 = multiply_add(o2, along_y[k, 8], odd)
            o3 = multiply_add(o3, along_y[k, 9], odd)
            o4 = multiply_add(o4, along_y[k, 10], odd)
            o5 = multiply_add(o5, along_y[k, 11], odd)
        store(columns, 0, x, e0)
        store(columns, 1, x, e1)
        store(columns, 2, x, e2)
        store(columns, 3, x, e3)
        store(columns, 4, x, e4)
        store(columns, 5, x, e5)
        store(columns, 6, x, o0)
        store(columns, 7, x, o1)
        store(columns, 8, x, o2)
        store(columns, 9, x, o3)
        store(columns, 10, x, o4)
        store(columns, 11, x, o5)


@kernel
def _sum_rows(columns, along_x, start, moments, site):
    """Sum the columns times each P_i(x).

    Whole vectors are written: what lies beyond the last i of an order j is overwritten by the following ones, written
    later.
    """
    for i in range(along_x.shape[1] - LANES, -1, -LANES):
        e0, e1, e2, e3, e4, e5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        o0, o1, o2, o3, o4, o5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        for x in range(len(along_x)):
            value = load(along_x, x, i)
            e0 = multiply_add(e0, columns[0, x], value)
            e1 = multiply_add(e1, columns[1, x], value)
            e2 = multiply_add(e2, columns[2, x], value)
            e3 = multiply_add(e3, columns[3, x], value)
            e4 = multiply_add(e4, columns[4, x], value)
            e5 = multiply_add(e5, columns[5, x], value)
            o0 = multiply_add(o0, columns[6, x], value)
            o1 = multiply_add(o1, columns[7, x], value)
            o2 = multiply_add(o2, columns[8, x], value)
            o3 = multiply_add(o3, columns[9, x], value)
            o4 = multiply_add(o4, columns[10, x], value)
            o5 = multiply_add(o5, columns[11, x], value)
        store(moments, site, start[0] + i, e0)
        store(moments, site, start[6] + i, o0)
        store(moments, site, start[1] + i, e1)
        store(moments, site, start[7] + i, o1)
        store(moments, site, start[2] + i, e2)
        store(moments, site, start[8] + i, o2)
        store(moments, site, start[3] + i, e3)
        store(moments, site, start[9] + i, o3)
        store(moments, site, start[4] + i, e4)
        store(moments, site, start[10] + i, o4)
        store(moments, site, start[5] + i, e5)
        store(moments, site, start[11] + i, o5)
