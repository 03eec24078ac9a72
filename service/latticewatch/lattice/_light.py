"""Light at places of a frame."""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.vectors import LANES, kernel, load, multiply_add, store, zeros


@kernel
def light_at(image, position, width):  # pragma: no cover - compiled
    """Intensity at each place, weighted by a Gaussian as wide as a column, cut at two widths.

    image (height, width) float32; position (n, 2) float64 [px]; width: standard deviation [px]. Returns (n,) float64.
    """
    rows, cols = image.shape
    reach = 2.0 * width
    most = int(2 * reach) + 2
    across, down = np.empty(most, np.float32), np.empty(most, np.float32)
    lines = np.empty((1, most + LANES), np.float32)
    step = np.exp(-1.0 / width**2)
    out = np.zeros(len(position))
    for i in range(len(position)):
        r, c = position[i, 0], position[i, 1]
        top, left = max(int(np.ceil(r - reach)), 0), max(int(np.ceil(c - reach)), 0)
        n_rows, n_cols = min(int(r + reach), rows - 1) - top + 1, min(int(c + reach), cols - 1) - left + 1
        mass_rows = _weights(top - r, width, step, down[:n_rows])
        mass_cols = _weights(left - c, width, step, across[:n_cols])
        if mass_rows <= 0.0 or mass_cols <= 0.0:
            continue
        # the rows first, side by side; vectors may read on into the next row of the image, but not past its end
        end = (top + n_rows - 1) * cols + left + (n_cols + LANES - 1) // LANES * LANES
        if end <= image.size:
            for x in range(0, n_cols, LANES):
                sums = zeros()
                for a in range(n_rows):
                    sums = multiply_add(sums, down[a], load(zeros(), image, top + a, left + x))
                store(lines, 0, x, sums)
        else:
            for b in range(n_cols):
                lines[0, b] = 0.0
                for a in range(n_rows):
                    lines[0, b] += down[a] * image[top + a, left + b]
        total = np.float32(0.0)
        for b in range(n_cols):
            total += across[b] * lines[0, b]
        out[i] = total / (mass_rows * mass_cols)
    return out


@njit(cache=True, nogil=True)
def _weights(start, width, step, out):  # pragma: no cover - compiled
    """A Gaussian at a start and every pixel behind it, into `out`, and its sum: each from the one before."""
    value, ratio = np.exp(-0.5 * (start / width) ** 2), np.exp(-(start + 0.5) / width**2)
    total = np.float32(0.0)
    for k in range(len(out)):
        out[k] = value
        total += out[k]
        value *= ratio
        ratio *= step
    return total
