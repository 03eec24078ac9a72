"""Lines of the scan that are displaced or brighter than others: measured on all columns in a line, and taken off.

A line that the scan draws a tenth of a pixel beside its place changes all columns in it at once, each by a part that
depends on where in the column the line passes. Its columns say together how far it is displaced, far better than one of
them shows it. What the lattice does not look like the profile of its columns is no displacement: it is the same
wherever a line passes through the columns at the same place, and is measured there, over all lines.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice._sites import Sites, predict_sites
from latticewatch.vectors import LANES, add, kernel, load, multiply, multiply_add, store, summed, zeros

if TYPE_CHECKING:
    from latticewatch.lattice._lattice import Lattice
    from latticewatch.lattice._phase import PhaseField

# Tables are given at so many places to a pixel; what is left of a line's place is the slope's.
FINE = 8
# And what the profile does not show, at so many.
COARSE = 4
# Columns reach so many widths of their profile.
REACH_WIDTHS = 3.0
# And a line so many widths beside its middle says where it is.
NEAR_WIDTHS = 2.0
# What is slow is no jitter of single lines: it is taken off over so many lattice constants on both sides.
SLOW_CELLS = 2.0
# Heights are compared with those around, in squares of so many lattice constants.
AROUND_CELLS = 6.0
# Columns beyond this many standard deviations in height or place do not say where a line is.
ODD_SIGMA = 4.0
# A variance over the lines that is less than this many standard errors is none.
CERTAIN = 5.0
# Slopes tell what a column looks like so many widths of its profile beside its place, and not farther.
LINEAR_WIDTHS = 0.5
# Where more than one line in twenty is farther off, by so many standard deviations, lines are left as they are.
FAR_SIGMA = 2.0
# And lines that are brighter by more than this are no flicker.
MOST_FLICKER = 0.3
# From this share of the variance of a column's height on that lines make, they are looked at in every frame.
MIN_SHARE = 0.25
ROUNDS = 3
# Displacement along rows and along columns, and brightness.
DOWN, ALONG, BRIGHT = range(3)
N_MODES = 3


class Lines(NamedTuple):
    """Lines of the scan of one frame.

    Attributes
    ----------
    change : ndarray of shape (height, 3), float64
        By how much each line is displaced along rows and columns [px], and brighter [share]. What noise may be of
        that, and what changes slowly from line to line, is left out.
    power : ndarray of shape (3,), float64
        Variance of each over the lines; 0 where noise may have made it.
    noise : float
        Variance of a pixel at the columns, in the square of the image's units.
    level : ndarray of shape (n,), float64
        Height of the columns around each site, that of the average cell being 1.
    """

    change: NDArray[np.float64]
    power: NDArray[np.float64]
    noise: float
    level: NDArray[np.float64]


class _Tables(NamedTuple):
    """What a line sees of the columns of a lattice.

    Attributes
    ----------
    width : float
        Of the profile [px].
    reach : int
        Rows, and pixels along them, on each side of a column [px].
    near : int
        Those of the rows that say where they are [px].
    height : ndarray of shape (n_sublattices,), float64
    seen : ndarray of shape (n_sublattices, n_places, 2, 4), float64
        By how far a line passes below a column: its scalar products with Gaussian and slope of the column along the
        line; of the line itself, and of its change when it is displaced along rows or columns, and when it is brighter.
    """

    width: float
    reach: int
    near: int
    height: NDArray[np.float64]
    seen: NDArray[np.float64]


def find_lines(image: NDArray[np.float32], sites: Sites, lattice: Lattice) -> Lines | None:
    """How far each line of the scan is displaced, and how much brighter it is.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Without its background, the highest columns near 1.
    sites : Sites
        Columns of the lattice.
    lattice : Lattice
        With one grain.

    Returns
    -------
    Lines or None
        None where there is too little to see.

    Notes
    -----
    Of a column the scalar product of each of its lines with a Gaussian as wide as the column, and with the slope of
    that, are linear in the three changes. They are solved for by least squares over all columns of a line, the changes
    having the variance that they have over the lines. What is left over on average where lines pass a column of one
    sublattice at the same fraction of a pixel is the misfit of the profile, and is taken off in the next round, so that
    only what differs from line to line counts.
    """
    tables = _tables(lattice)
    position, sublattice = np.ascontiguousarray(sites.position), np.ascontiguousarray(sites.sublattice)
    if len(position) < 2 or min(image.shape) < 2 * tables.reach + 1 + LANES:
        return None
    seen, whole = _gathered(image, position, sublattice, tables.width, tables.reach, tables.near, tables.seen)
    side = AROUND_CELLS * lattice.constant_px
    level, plain = _plain(
        whole, position, sublattice, len(tables.height), side, image.shape[0], image.shape[1]
    )
    window = int(np.ceil(SLOW_CELLS * lattice.constant_px))
    limit = np.array([LINEAR_WIDTHS * tables.width, LINEAR_WIDTHS * tables.width, MOST_FLICKER])
    change, power, noise = _solved(
        seen,
        level,
        plain,
        position,
        sublattice,
        tables.reach,
        tables.near,
        tables.seen,
        len(image),
        window,
        limit,
    )
    return Lines(change, power, float(noise) / (np.sqrt(np.pi) * tables.width), level)


def share_of_lines(lines: Lines, lattice: Lattice) -> float:
    """Variance that lines give the height of a column over that which noise gives it; 0 where they are too far off.

    Parameters
    ----------
    lines : Lines
    lattice : Lattice

    Notes
    -----
    The height is that of a Gaussian of width s and height 1, fitted to it. Lines displaced across themselves by
    independent amounts of variance v give it the variance v / (2^2.5 sqrt(pi) s^3), brighter ones v / (sqrt(2 pi) s),
    and pixels of the variance v have v / (pi s^2).
    """
    width = lattice.profile.narrow
    if _are_far(lines, width):
        return 0.0
    displaced = lines.power[DOWN] / (2**2.5 * np.sqrt(np.pi) * width**3)
    brighter = lines.power[BRIGHT] / (np.sqrt(2 * np.pi) * width)
    return float((displaced + brighter) * np.pi * width**2 / max(lines.noise, np.finfo(float).tiny))


def steadied(image: NDArray[np.float32], sites: Sites, lattice: Lattice) -> NDArray[np.float32]:
    """A frame as if its lines were where they belong, and equally bright.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Without its background, the highest columns near 1.
    sites : Sites
        Columns of the lattice, see `columns_in_view`.
    lattice : Lattice
        With one grain.

    Returns
    -------
    ndarray of shape (height, width), float32
        Its noise stays as it is.
    """
    lines = find_lines(image, sites, lattice)
    if lines is None or _are_far(lines, lattice.profile.narrow):
        return image
    return without_change(image, sites, lattice, lines)


def _are_far(lines: Lines, width: float) -> bool:
    """Whether lines are so far beside their places that slopes do not tell what they do to a column."""
    return FAR_SIGMA * float(np.sqrt(lines.power[:BRIGHT].max())) > LINEAR_WIDTHS * width


def columns_in_view(where: PhaseField, lattice: Lattice, shape: tuple[int, ...]) -> Sites:
    """Every column of a frame, up to its edges.

    Parameters
    ----------
    where : PhaseField
    lattice : Lattice
        With one grain.
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    Sites
    """
    return predict_sites(where, lattice.cell.columns, (shape[0], shape[1]), 0.0)


def without_change(
    image: NDArray[np.float32], sites: Sites, lattice: Lattice, lines: Lines
) -> NDArray[np.float32]:
    """A frame less what the changes of its lines make of the columns.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    sites : Sites
    lattice : Lattice
    lines : Lines
        Of the same image and sites.

    Returns
    -------
    ndarray of shape (height, width), float32
        Its noise stays as it is.
    """
    tables = _tables(lattice)
    return _without_change(
        image,
        np.ascontiguousarray(sites.position),
        np.ascontiguousarray(sites.sublattice),
        tables.width,
        tables.reach,
        tables.height,
        lines.level,
        lines.change,
    )


def _tables(lattice: Lattice) -> _Tables:
    profile, field = lattice.profile, lattice.field
    return _tables_once(
        (profile.narrow, profile.broad, profile.share),
        tuple((profile.height / lattice.cell.height[0]).tolist()),
        tuple(map(tuple, lattice.cell.columns.tolist())),
        tuple(map(tuple, field.vectors.tolist())),
    )


@lru_cache(maxsize=16)
def _tables_once(
    shape: tuple[float, float, float],
    heights: tuple[float, ...],
    columns: tuple[tuple[float, ...], ...],
    vectors: tuple[tuple[float, ...], ...],
) -> _Tables:
    narrow, broad, share = shape
    height, place = np.array(heights), np.array(columns)
    reach = int(np.ceil(REACH_WIDTHS * narrow))
    # rows that a line may pass below a column, and places along it, in fractions of a pixel
    down = (np.arange(FINE * (2 * reach + 2) + 1) / FINE - reach - 1)[:, None]
    along = np.arange(-FINE * reach, FINE * reach + 1)[None] / FINE
    gauss = np.exp(-0.5 * (along[0] / narrow) ** 2)
    weight = np.stack([gauss, along[0] / narrow * gauss]) / FINE
    far = reach + 1 + 4 * broad
    most = int(np.ceil(far / min(np.hypot(*np.array(vectors).T)))) + 2
    cells = np.array([(i, j) for i in range(-most, most + 1) for j in range(-most, most + 1)], float)
    seen = np.zeros((len(height), len(down), 2, 4))
    for s in range(len(height)):
        for other in range(len(height)):
            for dr, dc in (place[other] + cells - place[s]) @ np.array(vectors):
                if max(abs(dr), abs(dc)) > far:
                    continue
                for width, part in ((narrow, 1 - share), (broad, share)):
                    r, c = down - dr, along - dc
                    light = height[other] * part * np.exp(-0.5 * (r * r + c * c) / width**2)
                    slopes = light, -r / width**2 * light, -c / width**2 * light, light
                    seen[s] += np.stack([one @ weight.T for one in slopes], -1)
    return _Tables(narrow, reach, int(np.ceil(NEAR_WIDTHS * narrow)), height, seen)


@njit(cache=True, nogil=True)
def _along(col, width, reach, weight):  # pragma: no cover - compiled
    """Gaussian and slope of a column along the lines, (2, at least 2 reach + 1) float32, from the first pixel on."""
    first = int(np.rint(col)) - reach
    for c in range(2 * reach + 1):
        away = (first + c - col) / width
        gauss = np.exp(-0.5 * away * away)
        weight[0, c] = gauss
        weight[1, c] = away * gauss
    return first


@kernel
def _product(image, r, first, weight, k, n):  # pragma: no cover - compiled
    total = zeros()
    for c in range(0, n, LANES):
        total = add(total, multiply(load(zeros(), image, r, first + c), load(zeros(), weight, k, c)))
    return summed(total)


@njit(cache=True, nogil=True)
def _gathered(image, position, sublattice, width, reach, near, table):  # pragma: no cover - compiled
    """Scalar products of every line of every column, (n, rows, 2) float32, those not in the frame 0.

    And height and displacement of each column as a whole, (n, 3) float64.
    """
    n, rows = len(position), 2 * near + 1
    n_rows, n_cols = image.shape
    padded = (2 * reach + LANES) // LANES * LANES
    weight = np.zeros((2, padded), np.float32)
    seen = np.zeros((n, rows, 2), np.float32)
    whole = np.zeros((n, 3))
    for i in range(n):
        s = sublattice[i]
        first = _along(position[i, 1], width, reach, weight)
        if first < 0 or first + padded > n_cols:
            continue
        top = int(np.rint(position[i, 0])) - near
        a = b = c = d = e = f = 0.0
        for q in range(max(-top, 0), min(rows, n_rows - top)):
            r = top + q
            gauss = _product(image, r, first, weight, 0, padded)
            slope = _product(image, r, first, weight, 1, padded)
            seen[i, q, 0], seen[i, q, 1] = gauss, slope
            u = (r - position[i, 0] + reach + 1) * FINE
            at = int(np.rint(u))
            away = (u - at) / FINE
            expected = table[s, at, 0, 0] + away * table[s, at, 0, 1]
            a += gauss * expected
            b += expected * expected
            c += gauss * table[s, at, 0, 1]
            d += table[s, at, 0, 1] ** 2
            e += slope * table[s, at, 1, 2]
            f += table[s, at, 1, 2] ** 2
        if b > 0:
            whole[i, 0], whole[i, 1], whole[i, 2] = a / b, c / d, e / f
    return seen, whole


@njit(cache=True, nogil=True)
def _plain(whole, position, sublattice, n_sublattices, side, height, width):  # pragma: no cover - compiled
    """Height of the columns around each, (n,), and whether it is like them, (n,) bool."""
    n = len(whole)
    down, across = int(height / side) + 1, int(width / side) + 1
    level = np.ones((n, 3))
    plain = np.ones(n, np.bool_)
    for i in range(n):
        # not measured
        plain[i] = whole[i, 0] != 0.0
        level[i, 1] = level[i, 2] = 0.0
    square = np.empty(n, np.int64)
    for i in range(n):
        square[i] = int(position[i, 0] / side) * across + int(position[i, 1] / side)
    for _ in range(3):
        spread = np.zeros((n_sublattices, 3))
        count = np.zeros(n_sublattices)
        sums = np.zeros((n_sublattices, down * across, 4))
        for i in range(n):
            if plain[i]:
                one = sums[sublattice[i], square[i]]
                one[3] += 1
                for k in range(3):
                    one[k] += whole[i, k]
        for i in range(n):
            if plain[i]:
                one = sums[sublattice[i], square[i]]
                count[sublattice[i]] += 1
                for k in range(3):
                    spread[sublattice[i], k] += (whole[i, k] - one[k] / one[3]) ** 2
        for i in range(n):
            s = sublattice[i]
            one = sums[s, square[i]]
            if whole[i, 0] == 0.0:
                continue
            plain[i] = True
            for k in range(3):
                if one[3] > 0:
                    level[i, k] = one[k] / one[3]
                away = whole[i, k] - level[i, k]
                if away * away > ODD_SIGMA**2 * spread[s, k] / max(count[s] - 1, 1.0):
                    plain[i] = False
    return level[:, 0].copy(), plain


@njit(cache=True, nogil=True)
def _solved(
    seen, level, plain, position, sublattice, reach, near, table, n_rows, window, limit
):  # pragma: no cover - compiled
    """Change of every line, (n_rows, 3), its variance over the lines, (3,), and that of a scalar product."""
    rows, n_sublattices, n_places = 2 * near + 1, table.shape[0], COARSE * (2 * reach + 2) + 1
    change, power = np.zeros((n_rows, N_MODES)), np.zeros(N_MODES)
    usual = np.zeros((n_sublattices, n_places, 2))
    noise = np.ones((n_sublattices, rows, 2))
    slope = np.empty(N_MODES)
    for _ in range(ROUNDS):
        normal, right = np.zeros((n_rows, N_MODES, N_MODES)), np.zeros((n_rows, N_MODES))
        left, mass = np.zeros((n_sublattices, n_places, 2)), np.zeros((n_sublattices, n_places))
        squares, number = np.zeros((n_sublattices, rows, 2)), np.zeros((n_sublattices, rows))
        for i in range(len(seen)):
            if not plain[i]:
                continue
            s, full = sublattice[i], level[i]
            top = int(np.rint(position[i, 0])) - near
            for q in range(max(-top, 0), min(rows, n_rows - top)):
                r = top + q
                u = r - position[i, 0] + reach + 1
                at = int(np.rint(FINE * u))
                away = u - at / FINE
                place = int(COARSE * u)
                share = COARSE * u - place
                number[s, q] += 1
                mass[s, place] += 1 - share
                mass[s, place + 1] += share
                for k in range(2):
                    one = table[s, at, k]
                    weight = 1 / noise[s, q, k]
                    e = seen[i, q, k] - full * (one[0] + away * one[1])
                    e -= (1 - share) * usual[s, place, k] + share * usual[s, place + 1, k]
                    rest = e
                    for a in range(N_MODES):
                        slope[a] = full * one[1 + a]
                        rest -= slope[a] * change[r, a]
                        right[r, a] += weight * slope[a] * e
                        for b in range(a + 1):
                            normal[r, a, b] += weight * slope[a] * slope[b]
                    left[s, place, k] += (1 - share) * rest
                    left[s, place + 1, k] += share * rest
                    squares[s, q, k] += rest * rest
        _lines_of(normal, right, change, power)
        _without_slow(change, window)
        for s in range(n_sublattices):
            for k in range(2):
                for place in range(n_places):
                    usual[s, place, k] += left[s, place, k] / max(mass[s, place], 1.0)
                for q in range(rows):
                    noise[s, q, k] = max(squares[s, q, k] / max(number[s, q], 1.0), 1e-30)
    for r in range(n_rows):
        for a in range(N_MODES):
            change[r, a] = min(max(change[r, a], -limit[a]), limit[a])
    return change, power, noise[0, near, 0]


@njit(cache=True, nogil=True)
def _lines_of(normal, right, change, power):  # pragma: no cover - compiled
    """Solve for the lines, what noise may be of their changes left out; their variance is what noise does not make."""
    for a in range(N_MODES):
        excess = square = chance = 0.0
        for r in range(len(normal)):
            own = normal[r, a, a]
            excess += right[r, a] ** 2 - own
            square += own * own
            chance += 2 * own * own
        power[a] = excess / square if square > 0 and excess > CERTAIN * np.sqrt(chance) else 0.0
    matrix, x = np.empty((N_MODES, N_MODES)), np.empty(N_MODES)
    for r in range(len(normal)):
        for a in range(N_MODES):
            for b in range(a + 1):
                matrix[a, b] = normal[r, a, b]
            matrix[a, a] += 1 / max(power[a], 1e-30)
            x[a] = right[r, a]
        # Cholesky
        for a in range(N_MODES):
            for b in range(a + 1):
                total = matrix[a, b]
                for c in range(b):
                    total -= matrix[a, c] * matrix[b, c]
                matrix[a, b] = np.sqrt(total) if a == b else total / matrix[b, b]
        for a in range(N_MODES):
            for b in range(a):
                x[a] -= matrix[a, b] * x[b]
            x[a] /= matrix[a, a]
        for a in range(N_MODES - 1, -1, -1):
            for b in range(a + 1, N_MODES):
                x[a] -= matrix[b, a] * x[b]
            x[a] /= matrix[a, a]
            change[r, a] = x[a] if power[a] > 0 else 0.0


@njit(cache=True, nogil=True)
def _without_slow(change, window):  # pragma: no cover - compiled
    """Take the mean over a window off the changes of all lines."""
    n = len(change)
    for a in range(change.shape[1]):
        sums = np.zeros(n + 1)
        for r in range(n):
            sums[r + 1] = sums[r] + change[r, a]
        for r in range(n):
            first, last = max(r - window, 0), min(r + window + 1, n)
            change[r, a] -= (sums[last] - sums[first]) / (last - first)


@njit(cache=True, nogil=True)
def _without_change(
    image, position, sublattice, width, reach, height, level, change
):  # pragma: no cover - compiled
    """The image less what the changes of its lines make of the columns."""
    out = image.copy()
    rows = 2 * reach + 1
    n_rows, n_cols = image.shape
    padded = (rows + LANES - 1) // LANES * LANES
    weight = np.zeros((2, padded), np.float32)
    for i in range(len(position)):
        first = _along(position[i, 1], width, reach, weight)
        if first < 0 or first + padded > n_cols:
            continue
        top = int(np.rint(position[i, 0])) - reach
        full = height[sublattice[i]] * level[i]
        for q in range(max(-top, 0), min(rows, n_rows - top)):
            r = top + q
            u = (r - position[i, 0]) / width
            light = full * np.exp(-0.5 * u * u)
            gauss = np.float32(light * (change[r, 0] * u / width - change[r, 2]))
            slope = np.float32(light * change[r, 1] / width)
            for c in range(0, padded, LANES):
                new = multiply_add(load(zeros(), out, r, first + c), gauss, load(zeros(), weight, 0, c))
                store(out, r, first + c, multiply_add(new, slope, load(zeros(), weight, 1, c)))
    return out
