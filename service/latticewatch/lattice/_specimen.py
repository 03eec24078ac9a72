"""What of a frame is no specimen: pixels and lines that the detector made, borders, bars and gaps. Mended or masked.

Single pixels and lines are mended, since their neighbours say what they should be. Areas that hold one and the same
value (the border of an aligned stack, a scale bar) or none at all are masked: no site lies there, and nothing there is
a defect. All of it is counted, and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.messages import Note
from latticewatch.parallel import run
from latticewatch.robust import median_and_spread
from latticewatch.vectors import LANES, add, counting_kernel, kernel, load, store, zeros

# A pixel stands out of its neighbours by more than chance gives once in so many frames; the tail is taken for
# exponential, and measured between two quantiles of a sample of so many pixels, in whole rows.
FRAMES_TO_CHANCE = np.exp(10.0)
TAIL = (0.98, 0.995)
SAMPLED = 8_192
# A column, however narrow, gives its neighbours more than a fifth of its height; a hot pixel gives them nothing.
MIN_ALONE = 0.8
# More of the pixels than this are no faults, but what such a frame looks like.
MAX_FAULTS = 0.01
# The mean of a line of the scan that differs from those beside it by so many robust standard deviations.
LINE_SIGMA = 12.0
# An area of one value: side of the blocks that are looked at, and pixels in one that equal their neighbours.
BLOCK = 8
MIN_EQUAL = 12
MIN_AREA = 16
# Areas of one value that are more than this are columns that the detector saturates.
MAX_AREAS = 8
# Of a large area of one value [px] this share is no nearer than two pixels to any other value.
LARGE_AREA = 400
MIN_WHOLE = 0.3
# Where there is more of it than this the frame as a whole is so.
MAX_MASKED = 0.9
# Ways in which a group of adjacent pixels grows by one, each, about.
NEIGHBOURS = 10.0
# What is drawn with soft edges reaches this far beyond its value [px].
SOFT_EDGE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    """A frame without what is no specimen.

    Attributes
    ----------
    image : ndarray of shape (height, width), float32
        Faulty pixels mended, masked ones at the level of the frame.
    mask : ndarray of shape (height, width), bool, or None
        What is no specimen; None where all of it is.
    notes : tuple of Note
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    notes: tuple[Note, ...]


def mend(image: NDArray[np.float32], gaps: NDArray[np.bool_] | None = None) -> Specimen:
    """Mend the faults of the detector, and mask what is no specimen.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Finite counts; changed in place where there is something to mend.
    gaps : ndarray of shape (height, width), bool, optional
        Pixels that had no value.

    Returns
    -------
    Specimen
    """
    notes: list[Note] = []
    if min(image.shape) < 2 * BLOCK:
        return Specimen(image, gaps, ())
    limits = _limits(image, None)
    seen = _looked_at(image, *limits)
    mask = _areas(image, seen.equal, gaps)
    n_pixels = 0
    # of a frame without any value nothing is masked: that it shows no lattice says it all
    if gaps is not None and gaps.any() and not gaps.all():
        wide, narrow = _split(gaps)
        if wide.any():
            mask = wide if mask is None else mask | wide
        n_pixels = _fill(image, narrow, gaps)
    if mask is not None or n_pixels:
        limits = _limits(image, mask)
        seen = _looked_at(image, *limits)
    mended = _mend_pixels(image, seen.places, mask)
    if mended:
        seen = _looked_at(image, *limits)
    n_pixels += mended
    n_lines = _mend_lines(image, seen, mask)
    if n_pixels or n_lines:
        notes.append(_mended(n_pixels, n_lines))
    if mask is not None:
        known = image[~mask]
        image[mask] = np.median(known[:: max(1, len(known) // 4096)]) if len(known) else 0.0
        notes.append(_masked(float(mask.mean())))
    return Specimen(image, mask, tuple(notes))


def _mended(n_pixels: int, n_lines: int) -> Note:
    parts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((n_pixels, "pixel"), (n_lines, "line")) if n]
    return Note(
        code="pixels-mended",
        text=f"{' and '.join(parts)} without a value, or with one far from those around, were mended.",
        remedy="Check the detector, or the correction of its pixels, if they stay.",
    )


def _masked(share: float) -> Note:
    return Note(
        code="no-specimen",
        text=f"{share:.1%} of the frame is a border, a bar or a gap; there are no sites in it.",
    )


# Gaps


def _split(gaps: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels without a value in areas, and those that are alone or in lines."""
    # beyond the frame nothing is known, so a border may be as thin as it likes
    core = ndimage.binary_erosion(gaps, np.ones((3, 3), bool), border_value=1)
    wide = np.asarray(ndimage.binary_dilation(core, np.ones((3, 3), bool)), bool) & gaps
    return wide, gaps & ~wide


def _fill(image: NDArray[np.float32], narrow: NDArray[np.bool_], gaps: NDArray[np.bool_]) -> int:
    """Give pixels the mean of those around that have a value; returns how many."""
    n = int(np.count_nonzero(narrow))
    if n:
        known = (~gaps).astype(np.float32)
        weight = ndimage.gaussian_filter(known, 1.0)
        level = ndimage.gaussian_filter(image * known, 1.0) / np.maximum(weight, 1e-6)
        usable = narrow & (weight > 1e-3)
        image[usable] = level[usable]
    return n


# One look at every pixel


class _Look(NamedTuple):
    """What one pass over a frame of shape (height, width) sees.

    Attributes
    ----------
    equal : ndarray of shape (height // BLOCK, width // BLOCK), float32
        Pixels of each block that equal those right of and below them.
    places : ndarray of shape (n, 2), int64
        Row and column of pixels that lie beyond all but one of their four neighbours.
    down : ndarray of shape (height,), float64
        Sums of the rows.
    across : ndarray of shape (width,), float64
        Sums of the columns.
    """

    equal: NDArray[np.float32]
    places: NDArray[np.int64]
    down: NDArray[np.float64]
    across: NDArray[np.float64]


def _looked_at(image: NDArray[np.float32], above: np.float32, below: np.float32) -> _Look:
    """What one pass over a frame sees; above and below: how far a pixel has to stand out."""
    # always in the same parts: sums of other parts would have other last digits
    blocks = len(image) // BLOCK
    ends = sorted({0, blocks // 2 * BLOCK, len(image)})
    parts = run(*(partial(_look, image, *part, above, below) for part in pairwise(ends)))
    if len(parts) == 1:
        return _Look(*parts[0])
    equal, places, down, across = zip(*parts, strict=True)
    return _Look(np.concatenate(equal), np.concatenate(places), np.concatenate(down), np.stack(across).sum(0))


@njit(cache=True, nogil=True)
def _look(image, first, last, above, below):  # pragma: no cover - compiled
    """The fields of a `_Look` for the rows from first, where a block begins, to before last."""
    height, width = image.shape
    equal = np.zeros(((last - first) // BLOCK, width // BLOCK), np.float32)
    down, across = np.empty(last - first), np.zeros(width)
    some, same = np.zeros((1, width), np.float32), np.zeros(width, np.float32)
    hits, lanes = np.zeros(width, np.float32), np.zeros((1, LANES), np.float32)
    places = []
    least = min(above, below)
    for r in range(first, last):
        row = image[r]
        down[r - first] = _add_row(image, r, some, lanes)
        # nothing is below the last row
        if r < height - 1:
            _add_equal(row, image[r + 1], same)
            # what stands out does so of the pixel left or right of it, which is soon said of a whole row
            if (
                r > 0
                and _steps(row, least) > 0
                and _row_hits(image[r - 1], row, image[r + 1], above, below, hits) > 0
            ):
                for c in range(1, width - 1):
                    if hits[c] > 0:
                        places.append((r, c))  # noqa: PERF401 - numba
        if r % BLOCK == BLOCK - 1 or r == last - 1:
            i = (r - first) // BLOCK
            for j in range(equal.shape[1] if i < len(equal) else 0):
                for c in range(j * BLOCK, (j + 1) * BLOCK):
                    equal[i, j] += same[c]
            for c in range(width):
                across[c] += some[0, c]
                some[0, c] = same[c] = 0
    found = np.empty((len(places), 2), np.int64)
    for k in range(len(places)):
        found[k, 0], found[k, 1] = places[k]
    return equal, found, down, across


@kernel
def _add_row(image, r, some, lanes):  # pragma: no cover - compiled
    """Add a row to `some`; its sum. `lanes` is where the sums side by side are kept."""
    width = image.shape[1]
    whole = width - width % LANES
    sums = zeros()
    for c in range(0, whole, LANES):
        values = load(zeros(), image, r, c)
        sums = add(sums, values)
        store(some, 0, c, add(load(zeros(), some, 0, c), values))
    store(lanes, 0, 0, sums)
    total = np.float32(0.0)
    for k in range(LANES):
        total += lanes[0, k]
    for c in range(whole, width):
        some[0, c] += image[r, c]
        total += image[r, c]
    return total


@counting_kernel
def _add_equal(row, below, same):  # pragma: no cover - compiled
    for c in range(len(row) - 1):
        same[c] += np.float32(1.0) if row[c] == row[c + 1] and row[c] == below[c] else np.float32(0.0)


@counting_kernel
def _steps(row, least):  # pragma: no cover - compiled
    """How many neighbours in a row differ by more than the least."""
    total = np.float32(0.0)
    for c in range(len(row) - 1):
        total += np.float32(1.0) if abs(row[c] - row[c + 1]) > least else np.float32(0.0)
    return total


@counting_kernel
def _row_hits(before, row, after, above, below, hits):  # pragma: no cover - compiled
    total = np.float32(0.0)
    for c in range(1, len(row) - 1):
        a, b = max(before[c], after[c]), min(before[c], after[c])
        d, e = max(row[c - 1], row[c + 1]), min(row[c - 1], row[c + 1])
        high = max(d, b) if a > d else max(a, e)
        low = min(e, a) if b < e else min(b, d)
        hit = np.float32(1.0) if row[c] - high > above or low - row[c] > below else np.float32(0.0)
        hits[c] = hit
        total += hit
    return total


# Single pixels


def _limits(image: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> tuple[np.float32, np.float32]:
    """How far a pixel has to lie above, and below, all but one of its four neighbours to stand out."""
    n_rows = max(1, SAMPLED // image.shape[1])
    rows = np.arange(1, image.shape[0] - 1, max(1, (image.shape[0] - 2) // n_rows))
    high, low = _over(image, rows)
    if mask is not None:
        known = ~mask[rows, 1:-1]
        high, low = high[known], low[known]
    return (
        np.float32(_limit(high.ravel(), image.size)),
        np.float32(_limit(low.ravel(), image.size)),
    )


def _mend_pixels(image: NDArray[np.float32], found: NDArray[np.int64], mask: NDArray[np.bool_] | None) -> int:
    """Mend single pixels, and pairs, of those that stand out of all around; returns how many."""
    if mask is not None and len(found):
        found = found[~mask[found[:, 0], found[:, 1]]]
    if not len(found) or len(found) > MAX_FAULTS * image.size:
        return 0
    faulty = np.zeros(image.shape, bool)
    for r, c in found:
        around = image[max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3]
        level = float(np.median(around))
        near = np.sort(np.array([image[r - 1, c], image[r + 1, c], image[r, c - 1], image[r, c + 1]]))
        second = near[2] if image[r, c] > level else near[1]
        faulty[r, c] = abs(image[r, c] - second) > MIN_ALONE * abs(image[r, c] - level)
    for r, c in np.argwhere(faulty):
        part = (slice(r - 1, r + 2), slice(c - 1, c + 2))
        image[r, c] = np.median(image[part][~faulty[part]]) if not faulty[part].all() else image[r - 1, c]
    return int(faulty.sum())


@counting_kernel
def _over(image, rows):  # pragma: no cover - compiled
    """How far the pixels of some rows lie above, and below, all but one of their four neighbours."""
    width = image.shape[1]
    above = np.empty((len(rows), width - 2), np.float32)
    below = np.empty((len(rows), width - 2), np.float32)
    for k in range(len(rows)):
        before, row, after = image[rows[k] - 1], image[rows[k]], image[rows[k] + 1]
        for c in range(1, width - 1):
            a, b = max(before[c], after[c]), min(before[c], after[c])
            d, e = max(row[c - 1], row[c + 1]), min(row[c - 1], row[c + 1])
            above[k, c - 1] = row[c] - (max(d, b) if a > d else max(a, e))
            below[k, c - 1] = (min(e, a) if b < e else min(b, d)) - row[c]
    return above, below


def _limit(over: NDArray[np.float32], n_pixels: int) -> float:
    """What noise and columns do not reach, from the tail of a sample."""
    if len(over) < 100:
        return np.inf
    places = [round(share * (len(over) - 1)) for share in TAIL]
    low, high = np.partition(over, places)[places].astype(float)
    if high <= 0:
        # a frame of few distinct values: what is usual is a step of them
        high = float(over.max()) if over.max() > 0 else np.inf
    fold = max((high - max(low, 0.0)) / np.log((1 - TAIL[0]) / (1 - TAIL[1])), 0.5 * high)
    return high + fold * np.log((1 - TAIL[1]) * n_pixels * FRAMES_TO_CHANCE)


# Lines


def _mend_lines(image: NDArray[np.float32], seen: _Look, mask: NDArray[np.bool_] | None) -> int:
    """Replace whole rows and columns that do not belong by what is beside them; returns how many."""
    n = 0
    for axis, means in enumerate(_line_means(image, seen, mask)):
        turned = image if axis == 0 else image.T
        apart = means[1:-1] - (means[:-2] + means[2:]) / 2
        spread = median_and_spread(apart)[1]
        far = np.flatnonzero(np.abs(apart) > LINE_SIGMA * max(spread, 1e-9 * float(np.abs(means).max()))) + 1
        far = [k for k in far if abs(apart[k - 1]) >= 0.9 * np.abs(apart[max(k - 2, 0) : k + 1]).max()]
        if spread <= 0 or not far or len(far) > max(2, MAX_FAULTS * len(means)):
            continue
        for k in far:
            turned[k] = (turned[k - 1] + turned[k + 1]) / 2
        n += len(far)
    return n


def _line_means(
    image: NDArray[np.float32], seen: _Look, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of the rows and of the columns over what is not masked; one that is masked has that before it."""
    if mask is None:
        return seen.down / image.shape[1], seen.across / image.shape[0]
    known = ~mask
    out = []
    for axis in (1, 0):
        n = known.sum(axis)
        means = np.where(known, image, 0).sum(axis, dtype=np.float64) / np.maximum(n, 1)
        # means over few of the pixels vary more, and those beside a border more still
        usable = n > 0.9 * n.max()
        at = np.maximum.accumulate(np.where(usable, np.arange(len(n)), int(np.argmax(usable))))
        out.append(means[at])
    return out[0], out[1]


# Areas of one value


def _areas(
    image: NDArray[np.float32], counts: NDArray[np.float32], gaps: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Areas that hold one and the same value, larger than chance can make them."""
    if counts.max() < MIN_EQUAL:
        return None
    equal = np.zeros(image.shape, bool)
    equal[:-1, :-1] = (image[:-1, :-1] == image[:-1, 1:]) & (image[:-1, :-1] == image[1:, :-1])
    if gaps is not None:
        # they were given one value, and it is that of other pixels
        equal &= ~gaps
    labels, n = ndimage.label(equal)  # type: ignore[misc]
    area = np.bincount(labels.ravel(), minlength=n + 1)
    area[0] = 0
    by_value: dict[float, list[int]] = {}
    first = ndimage.maximum(image, labels, index=np.arange(n + 1)) if n else np.zeros(1)
    for k in np.flatnonzero(area >= MIN_AREA):
        by_value.setdefault(float(first[k]), []).append(int(k))
    mask = np.zeros(image.shape, bool)
    for value, regions in by_value.items():
        if len(regions) > MAX_AREAS:
            continue
        same = image == value if gaps is None else (image == value) & ~gaps
        inside = np.isin(labels, regions)
        around = np.asarray(ndimage.binary_dilation(inside, np.ones((3, 3), bool)), bool)
        share = max(float((same & ~around).mean()), 1 / image.size)
        needed = (np.log(image.size) + 10) / -np.log(share) if share < 1 else np.inf
        kept = [k for k in regions if area[k] >= max(needed, MIN_AREA)]
        if not kept:
            continue
        region = ndimage.binary_dilation(np.isin(labels, kept), np.ones((3, 3), bool)) & same
        whole = ndimage.minimum_filter(region, size=5)
        if region.sum() > LARGE_AREA and whole.sum() < MIN_WHOLE * region.sum():
            # where few electrons are counted most pixels have none, with others among them
            continue
        border = region[[0, -1]].any() or region[:, [0, -1]].any()
        if not border:
            # a bar: what is written beside it has its value, and both have soft edges
            region |= _written(same & ~around, region, share)
            region = ndimage.binary_dilation(region, iterations=SOFT_EDGE)
        mask |= region
    return mask if 0 < mask.mean() < MAX_MASKED else None


def _written(same: NDArray[np.bool_], bar: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """What has the value of a bar, is no farther from it than it is long, and is larger than chance makes it.

    Parameters
    ----------
    same : ndarray of shape (height, width), bool
        Pixels of its value that are not in it.
    bar : ndarray of shape (height, width), bool
    share : float
        Of the pixels elsewhere that have its value.
    """
    if NEIGHBOURS * share >= 1:
        return np.zeros_like(same)
    needed = (np.log(same.size) + 10) / -np.log(NEIGHBOURS * share)
    extent = max(int(np.ptp(at)) + 1 for at in np.nonzero(bar))
    near = same & (np.asarray(ndimage.distance_transform_edt(~bar)) <= extent)
    labels, n = ndimage.label(near, np.ones((3, 3), bool))  # type: ignore[misc]
    size = np.bincount(labels.ravel(), minlength=n + 1)
    size[0] = 0
    return (size >= needed)[labels]


def touched(position: NDArray[np.float64], mask: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Which places have something masked within a square around them.

    Parameters
    ----------
    position : ndarray of shape (n, 2), float64
    mask : ndarray of shape (height, width), bool
    reach : float
        Half the side of the square [px].

    Returns
    -------
    ndarray of shape (n,), bool
    """
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
    np.cumsum(np.cumsum(mask, 0, dtype=np.int32), 1, out=total[1:, 1:])
    low = np.clip(np.floor(position - reach).astype(int), 0, np.array(mask.shape))
    high = np.clip(np.ceil(position + reach).astype(int) + 1, 0, np.array(mask.shape))
    (a, b), (c, d) = low.T, high.T
    return total[c, d] - total[a, d] - total[c, b] + total[a, b] > 0
