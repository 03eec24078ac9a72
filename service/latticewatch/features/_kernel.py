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
    length: NDArray[np.int64],
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
    masks, first, along_y, along_x, start, length
        See `Tables`.
    moments : ndarray of shape (n_sites, n_terms), float32
        Output, order j in y and then i in x, i + j ≤ n_max.
    """
    height, width = image.shape
    size, reach = masks.shape
    if reach != len(first) * LANES:
        raise ValueError("the tables were made for another width of vectors; delete __pycache__")
    columns = np.empty((start.size, reach), np.float32)
    terms = np.empty((start.size, along_x.shape[1]), np.float32)
    clamped = np.zeros((size + 1, reach + 1), np.float32)
    resampled = np.empty((size, reach), np.float32)
    for site in range(len(corners)):
        row, col = corners[site]
        down, right = shifts[site]
        rows, cols = size + (down > 0), size + (right > 0)
        # Vectors may read on into the next row of the image, where the masks cover it, but not past its end.
        end = (row + rows - 1) * width + col + reach + 1
        inside = row >= 0 and col >= 0 and row + rows <= height and col + cols <= width and end <= image.size
        if not inside:
            _copy_clamped(image, row, col, size, clamped)
        if down > 0 or right > 0:
            if inside:
                _resample(image, row, col, down, right, first, resampled)
            else:
                _resample(clamped, 0, 0, down, right, first, resampled)
            _sum_columns(resampled, 0, 0, masks, first, along_y, columns)
        elif inside:
            _sum_columns(image, row, col, masks, first, along_y, columns)
        else:
            _sum_columns(clamped, 0, 0, masks, first, along_y, columns)
        _sum_rows(columns, along_x, terms)
        _gather(terms, start, length, moments[site])


@kernel
def _copy_clamped(image, row, col, size, window):
    """Copy a patch, and a row and a column more, repeating the edge of the image."""
    height, width = image.shape
    for i in range(size + 1):
        source = min(max(row + i, 0), height - 1)
        for j in range(size + 1):
            window[i, j] = image[source, min(max(col + j, 0), width - 1)]


@kernel
def _resample(image, row, col, down, right, first, window):
    """Bilinear interpolation of a patch, where its columns touch the disk."""
    # The row after the last one may lie outside the image where it has no weight.
    bottom = len(window) - 1 + (down > 0)
    for block in range(len(first)):
        x, top = block * LANES, first[block]
        upper = _between_columns(image, row + top, col + x, right)
        for k in range(top, len(window) - top):
            lower = _between_columns(image, row + min(k + 1, bottom), col + x, right)
            value = multiply_add(zeros(), np.float32(1) - down, upper)
            store(window, k, x, multiply_add(value, down, lower))
            upper = lower


@kernel
def _between_columns(image, row, col, right):
    value = multiply_add(zeros(), np.float32(1) - right, load(image, row, col))
    return multiply_add(value, right, load(image, row, col + (right > 0)))


@kernel
def _sum_columns(image, row, col, masks, first, along_y, columns):
    """For every column of the patch, sum its pixels times each P_j(y); the sums stay in registers."""
    last = len(masks) - 1
    for block in range(len(first)):
        x = block * LANES
        e0, e1, e2, e3, e4, e5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        o0, o1, o2, o3, o4, o5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        for k in range(first[block], len(along_y)):
            upper = keep(masks, k, x, load(image, row + k, col + x))
            lower = keep(masks, last - k, x, load(image, row + last - k, col + x))
            even, odd = add(upper, lower), subtract(upper, lower)
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
def _sum_rows(columns, along_x, terms):
    """Sum the columns times each P_i(x)."""
    for j in range(0, len(columns), 6):
        for i in range(0, along_x.shape[1], LANES):
            s0, s1, s2, s3, s4, s5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
            for x in range(len(along_x)):
                value = load(along_x, x, i)
                s0 = multiply_add(s0, columns[j, x], value)
                s1 = multiply_add(s1, columns[j + 1, x], value)
                s2 = multiply_add(s2, columns[j + 2, x], value)
                s3 = multiply_add(s3, columns[j + 3, x], value)
                s4 = multiply_add(s4, columns[j + 4, x], value)
                s5 = multiply_add(s5, columns[j + 5, x], value)
            store(terms, j, i, s0)
            store(terms, j + 1, i, s1)
            store(terms, j + 2, i, s2)
            store(terms, j + 3, i, s3)
            store(terms, j + 4, i, s4)
            store(terms, j + 5, i, s5)


@kernel
def _gather(terms, start, length, moments):
    """Keep the terms with i + j ≤ n_max."""
    for j in range(len(start)):
        for i in range(length[j]):
            moments[start[j] + i] = terms[j, i]
