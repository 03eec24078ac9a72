"""Products with a matrix that is zero away from a band: windows over rows of blocks."""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.vectors import WIDE_LANES, add, kernel, load, multiply_add, store, wide_zeros


@njit(cache=True, nogil=True)
def bounds(windows):  # pragma: no cover - compiled
    """First column that is not zero in each row, and the one after the last."""
    first, last = np.zeros(len(windows), np.int64), np.zeros(len(windows), np.int64)
    for i in range(len(windows)):
        for k in range(windows.shape[1]):
            if windows[i, k] != 0:
                last[i] = k + 1
                if windows[i, first[i]] == 0:
                    first[i] = k
    return first, last


@njit(cache=True, nogil=True)
def padded(width):  # pragma: no cover - compiled
    """Width of the rows that `add_windowed` takes, for so many numbers."""
    return (width + WIDE_LANES - 1) // WIDE_LANES * WIDE_LANES


@kernel
def add_windowed(rows, windows, start, stop, low, high, out):  # pragma: no cover - compiled
    """Add ``windows[low:high, start:stop] @ rows[: stop - start]`` to ``out[low:high]``.

    rows (at least stop - start, n), windows (n_out, k) and out (n_out, n) float32; n is one of `padded`. Four rows of
    the product are summed at once, in registers.
    """
    i = low
    while i + 4 <= high:
        for x in range(0, out.shape[1], WIDE_LANES):
            a, b, c, d = wide_zeros(), wide_zeros(), wide_zeros(), wide_zeros()
            for k in range(start, stop):
                value = load(wide_zeros(), rows, k - start, x)
                a = multiply_add(a, windows[i, k], value)
                b = multiply_add(b, windows[i + 1, k], value)
                c = multiply_add(c, windows[i + 2, k], value)
                d = multiply_add(d, windows[i + 3, k], value)
            store(out, i, x, add(load(wide_zeros(), out, i, x), a))
            store(out, i + 1, x, add(load(wide_zeros(), out, i + 1, x), b))
            store(out, i + 2, x, add(load(wide_zeros(), out, i + 2, x), c))
            store(out, i + 3, x, add(load(wide_zeros(), out, i + 3, x), d))
        i += 4
    while i < high:
        for x in range(0, out.shape[1], WIDE_LANES):
            total = load(wide_zeros(), out, i, x)
            for k in range(start, stop):
                total = multiply_add(total, windows[i, k], load(wide_zeros(), rows, k - start, x))
            store(out, i, x, total)
        i += 1
