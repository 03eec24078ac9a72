"""The pixels of a diffraction frame in a ring, summed."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def sum_at(image, pixels, dead):  # pragma: no cover - compiled
    total, n = 0.0, 0
    for i in range(len(pixels)):
        value = image[pixels[i]]
        if value != dead:
            total += value
            n += 1
    return total * len(pixels) / n if n else 0.0
