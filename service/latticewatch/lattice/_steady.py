"""Lines of the scan that are displaced or brighter than others: measured on all columns in a line, and taken out.

A line that the scan draws a tenth of a pixel beside its place changes all columns in it at once, each by a part that
depends on where in the column the line passes. The columns say together how far it is displaced, far better than one of
them shows it. What the perfect lattice looks different there is taken off the frame; its own noise stays as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.vectors import kernel

# Lines are taken to their places from this share on that their displacement has in the squares of what the perfect
# lattice leaves over: a column notices it more than a pixel, all pixels of a line being wrong alike.
MIN_SHARE = 0.05
# A line that seems to be displaced by more than this share of the distance between columns shows something else.
MAX_SHARE_OF_NEAREST = 0.3
# Windows in which columns may be higher than elsewhere, in that distance.
WINDOW_NEAREST = 1.2
# Of the usual variance of the perfect lattice in a window, so much is added: where there is little, a window is as high
# as usual.
HELD = 0.2
# A displacement of several pixels is found in so many steps, each of one pixel at most.
STEPS = 4
# A window with so many times the usual square left over does not say where lines are: something else is there.
MAX_LEFT = 3.0
# By chance the squared spread of n lines is too large by this share over √n at most.
CHANCE = 3.0


class Lines(NamedTuple):
    """Lines of the scan of one frame.

    Attributes
    ----------
    change : ndarray of shape (height, 4), float64
        By how much each line is displaced, in rows and columns [px], and brighter: in its columns, and as a whole. What
        noise may be of that is taken off.
    share : float
        Of the squares that the perfect lattice leaves over, what this explains, without what it explains of noise.
    """

    change: NDArray[np.float64]
    share: float


def steadied(
    image: NDArray[np.float32], perfect: NDArray[np.float32], nearest_px: float
) -> tuple[NDArray[np.float32], Lines]:
    """A frame as if its lines were where they belong, and what was wrong with them.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Without its background.
    perfect : ndarray of shape (height, width), float32
        What the perfect lattice looks like there, in the same units; zero where it is not.
    nearest_px : float
        Shortest distance between columns [px].

    Returns
    -------
    image : ndarray of shape (height, width), float32
    lines : Lines
    """
    size = max(round(WINDOW_NEAREST * nearest_px) | 1, 3)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(ndimage.uniform_filter(values, size, mode="nearest"), np.float32)

    level = mean(perfect)
    square = mean(perfect * perfect) - level**2
    held = np.float32(HELD * np.median(square) + np.finfo(np.float32).tiny)
    limit = MAX_SHARE_OF_NEAREST * nearest_px
    change = np.zeros((len(image), 4))
    used = np.ones(image.shape, np.float32)
    at_place, before = image, 0.0
    for step in range(STEPS):
        here = mean(at_place)
        height = (mean(at_place * perfect) - here * level + held) / (square + held)
        left = np.empty_like(image)
        normal, right, noise = _equations(image, perfect, level, here, height, used, change, left)
        if step == 0:
            before = float((left.astype(np.float64) ** 2).mean())
        elif step > 1:
            # before, what lines that are far beside their places leave over is theirs
            around = mean(left * left)
            used = (around < MAX_LEFT * np.median(around)).astype(np.float32)
        size_of = np.trace(normal, axis1=1, axis2=2)[:, None, None]
        inverse = np.linalg.inv(normal + (1e-9 * size_of + np.finfo(float).tiny) * np.eye(4))
        change += np.clip((inverse @ right[..., None])[..., 0], -1.0, 1.0)
        change[np.abs(change[:, :2]).max(1) > limit] = 0.0
        at_place = _at_place(image, perfect, level, here, height, change)
    usual = float(np.median((left * left).mean(1)))
    # where a line shows no column, what is left over there says nothing
    noise = np.maximum(
        *(np.diagonal(one, axis1=1, axis2=2) for one in (inverse @ noise @ inverse, usual * inverse))
    )
    change *= _sure(change, noise)
    out = _at_place(image, perfect, level, here, height, change)
    explained = float((((out - image).astype(np.float64)) ** 2).mean()) / max(before, np.finfo(float).tiny)
    return out, Lines(change, explained - change.shape[1] / image.shape[1])


def _sure(change: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each change is none of noise: its spread over the lines, and the variance that noise gives it."""
    error = np.maximum(variance, np.finfo(float).tiny)
    away = (change - np.median(change, 0)) / np.sqrt(error)
    spread = (1.4826 * np.median(np.abs(away), 0)) ** 2
    # of so many lines the spread is known to so much only
    own = np.maximum(spread * (1 - CHANCE / np.sqrt(len(change))) - 1, 0.0) * np.median(error, 0)
    return own / (own + error + np.finfo(float).tiny)


@njit(cache=True, nogil=True)
def _equations(image, perfect, level, here, height, used, change, left):  # pragma: no cover - compiled
    """Normal equations of the changes of every line, (rows, 4, 4) and (rows, 4), and the variance of the right side.

    What is left over goes into `left`: pixels of bright columns have more noise than others.
    """
    n_rows, n_cols = image.shape
    normal, right, noise = np.zeros((n_rows, 4, 4)), np.zeros((n_rows, 4)), np.zeros((n_rows, 4, 4))
    moved, down, across = np.empty(n_cols), np.empty(n_cols), np.empty(n_cols)
    basis = np.empty(4)
    for r in range(n_rows):
        _moved_line(perfect, r, change[r, 0], change[r, 1], moved, down, across)
        for c in range(n_cols):
            model = height[r, c] * (moved[c] - level[r, c]) + here[r, c]
            e = image[r, c] - (1 + change[r, 2]) * model - change[r, 3]
            left[r, c] = e
            if used[r, c] == 0:
                continue
            basis[0], basis[1] = height[r, c] * down[c], height[r, c] * across[c]
            basis[2], basis[3] = model, 1.0
            for a in range(4):
                right[r, a] += basis[a] * e
                for b in range(4):
                    normal[r, a, b] += basis[a] * basis[b]
                    noise[r, a, b] += basis[a] * basis[b] * e * e
    return normal, right, noise


@njit(cache=True, nogil=True)
def _at_place(image, perfect, level, here, height, change):  # pragma: no cover - compiled
    """The frame less what the lines' changes make of the perfect lattice."""
    n_rows, n_cols = image.shape
    out = np.empty_like(image)
    moved, down, across = np.empty(n_cols), np.empty(n_cols), np.empty(n_cols)
    for r in range(n_rows):
        _moved_line(perfect, r, change[r, 0], change[r, 1], moved, down, across)
        for c in range(n_cols):
            model = height[r, c] * (moved[c] - level[r, c]) + here[r, c]
            off = height[r, c] * (moved[c] - perfect[r, c]) + change[r, 2] * model + change[r, 3]
            out[r, c] = image[r, c] - off
    return out


@kernel
def _moved_line(perfect, row, by_rows, by_cols, moved, down, across):  # pragma: no cover - compiled
    """A line of a frame so far beside its place, cubic between the pixels, and its slopes along rows and columns."""
    n_rows, n_cols = perfect.shape
    at = row + by_rows
    first = int(np.floor(at))
    w, v = _cubic(at - first)
    line, slope = np.zeros(n_cols), np.zeros(n_cols)
    for k in range(4):
        source = min(max(first - 1 + k, 0), n_rows - 1)
        for c in range(n_cols):
            line[c] += w[k] * perfect[source, c]
            slope[c] += v[k] * perfect[source, c]
    shift = int(np.floor(by_cols))
    w, v = _cubic(by_cols - shift)
    for c in range(n_cols):
        moved[c] = down[c] = across[c] = 0.0
        for k in range(4):
            source = min(max(c + shift - 1 + k, 0), n_cols - 1)
            moved[c] += w[k] * line[source]
            down[c] += w[k] * slope[source]
            across[c] += v[k] * line[source]


@kernel
def _cubic(f):  # pragma: no cover - compiled
    """Weights of four pixels around a place, a share of the way from the second to the third, and their slopes.

    Keys (1981), doi:10.1109/TASSP.1981.1163711, a = -1/2.
    """
    weight = (
        0.5 * (-f + 2 * f * f - f * f * f),
        0.5 * (2 - 5 * f * f + 3 * f * f * f),
        0.5 * (f + 4 * f * f - 3 * f * f * f),
        0.5 * (-f * f + f * f * f),
    )
    slope = (
        0.5 * (-1 + 4 * f - 3 * f * f),
        0.5 * (-10 * f + 9 * f * f),
        0.5 * (1 + 8 * f - 9 * f * f),
        0.5 * (-2 * f + 3 * f * f),
    )
    return weight, slope
