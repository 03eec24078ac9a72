"""The same sites in several frames: which is which, and the average of their moments.

The noise of an average over n frames is smaller by √n, so a class that no single frame shows is found in several. The
specimen may have drifted by any number of unit cells between them: what is not alike on all sites (defects, dirt) tells
by how many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.discover._filter import matched_filter
from latticewatch.model import Patches, SublatticeTemplates, standardise

# Scores beyond this many standard deviations count as much as these: no single site decides.
CLIP = 4.0
# The highest of some thousand correlations of noise is near 3.3. Where a few sites stand far out, some of them fall on
# others by chance: the right shift must also stand out of all others by this factor.
MIN_CORRELATION = 4.5
MIN_LEAD = 1.6
# Two frames are compared only where they share this part of their sites.
MIN_SHARED = 0.3
# A site is the same one within this part of the distance to the next [nearest-neighbour distances].
SAME_PLACE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class AveragedSites:
    """Sites that several frames show, and their averages.

    Attributes
    ----------
    patches : Patches
        Their average moments, at their places in the first frame.
    site : ndarray of shape (n,), int32
        Of every patch, the row in `patches` of its site; -1 where not all frames show it.
    n_frames : int
        Frames averaged.
    """

    patches: Patches
    site: NDArray[np.int32]
    n_frames: int


def average_sites(patches: Patches, templates: tuple[SublatticeTemplates, ...]) -> AveragedSites | None:
    """Average the sites of several frames.

    Parameters
    ----------
    patches : Patches
        Of frames of one specimen, in their order.
    templates : tuple of SublatticeTemplates

    Returns
    -------
    AveragedSites or None
        None where there is one frame, or nothing in the frames says which cell is which.
    """
    frames = [np.flatnonzero(patches.frame == k) for k in range(int(patches.frame.max(initial=0)) + 1)]
    if len(frames) < 2:
        return None
    scores = _scores(patches, templates)
    main = [s for s, t in enumerate(templates) if t.grain == 0 and not t.void]
    chosen = np.isin(patches.sublattice, main)
    low = patches.cell[chosen].min(0)
    extent = patches.cell[chosen].max(0) - low + 1
    first = frames[0][chosen[frames[0]]]
    reference = _Map.of(patches, scores, first, low, extent, len(main))
    spacing = min(float(np.hypot(*t.offset.T).min(initial=np.inf)) for t in templates)
    same = {0: np.arange(len(frames[0]))}
    for number, rows in enumerate(frames[1:], start=1):
        mine = rows[chosen[rows]]
        other = _Map.of(patches, scores, mine, low, extent, len(main))
        shift = reference.shift_of(other)
        if shift is None:
            continue
        drift = _drift(patches, first, mine, shift)
        same[number] = _nearest(patches, frames[0], rows, drift, SAME_PLACE * spacing)
        reference = reference.plus(other, shift)
    if len(same) < 2:
        return None
    seen = np.zeros(len(frames[0]), int)
    for at in same.values():
        seen[at[at >= 0]] += 1
    return _averaged(patches, frames, same, seen == len(same))


def _scores(patches: Patches, templates: tuple[SublatticeTemplates, ...]) -> NDArray[np.float64]:
    """Output of the filter that knows the pixel noise alone [sigma], clipped."""
    out = np.zeros(len(patches.moments))
    for s, known in enumerate(templates):
        rows = np.flatnonzero(patches.sublattice == s)
        if not len(rows):
            continue
        moments = patches.moments[rows].astype(np.float64)
        matched, _ = matched_filter(None, known, np.median(moments, axis=0))
        value = standardise(
            matched(moments),
            patches.position[rows],
            patches.frame[rows],
            np.ones(len(rows), bool),
            patches.shape,
        )
        out[rows] = np.clip(value, -CLIP, CLIP)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    """Scores by sublattice and unit cell, and in how many frames each place was seen."""

    score: NDArray[np.float64]
    seen: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        patches: Patches,
        scores: NDArray[np.float64],
        rows: NDArray[np.intp],
        low: NDArray[np.int32],
        extent: NDArray[np.int32],
        n_sublattices: int,
    ) -> _Map:
        score = np.zeros((n_sublattices, *extent))
        seen = np.zeros_like(score)
        at = (patches.sublattice[rows], *(patches.cell[rows] - low).T)
        score[at] = scores[rows]
        seen[at] = 1.0
        return cls(score, seen)

    def shift_of(self, other: _Map) -> tuple[int, int] | None:
        """Unit cells by which another map is shifted against this one; None where nothing tells."""
        size = [2 * n for n in self.score.shape[1:]]

        def correlate(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
            product = np.conj(np.fft.rfft2(a, size)) * np.fft.rfft2(b, size)
            return np.asarray(np.fft.irfft2(product.sum(0), size), np.float64)

        # each place has the variance of the frames it was seen in
        shared = correlate(self.seen, other.seen)
        enough = shared >= MIN_SHARED * other.seen.sum()
        correlation = np.where(enough, correlate(self.score, other.score), 0.0)
        correlation = correlation / np.sqrt(np.maximum(shared, 1.0))
        best = np.unravel_index(np.argmax(correlation), correlation.shape)
        highest = correlation[best]
        correlation[best] = 0.0
        if highest < max(MIN_CORRELATION, MIN_LEAD * float(correlation.max())):
            return None
        first, second = (int(i) if i < n // 2 else int(i) - n for i, n in zip(best, size, strict=True))
        return first, second

    def plus(self, other: _Map, shift: tuple[int, int]) -> _Map:
        """The sum of both, the other one shifted back; beyond the edge of this one it is lost."""
        score, seen = self.score.copy(), self.seen.copy()
        into = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(shift, score.shape[1:], strict=True))
        out_of = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(shift, score.shape[1:], strict=True))
        score[(slice(None), *into)] += other.score[(slice(None), *out_of)]
        seen[(slice(None), *into)] += other.seen[(slice(None), *out_of)]
        return _Map(score, seen)


def _drift(
    patches: Patches, first: NDArray[np.intp], rows: NDArray[np.intp], shift: tuple[int, int]
) -> NDArray[np.float64]:
    """How far the specimen moved from the first frame to another, whose cells are shifted [px]."""

    def keys(of: NDArray[np.intp], back: tuple[int, int]) -> NDArray[np.void]:
        columns = np.column_stack([patches.sublattice[of], patches.cell[of] - back]).astype(np.int64)
        return np.ascontiguousarray(columns).view([("", np.int64)] * 3).ravel()

    _, here, there = np.intersect1d(keys(first, (0, 0)), keys(rows, shift), return_indices=True)
    return np.median(patches.position[rows[there]] - patches.position[first[here]], axis=0)


def _nearest(
    patches: Patches,
    first: NDArray[np.intp],
    rows: NDArray[np.intp],
    drift: NDArray[np.float64],
    reach: float,
) -> NDArray[np.intp]:
    """For each site of a frame the row among the first frame's of the same site; -1 where there is none."""

    def points(of: NDArray[np.intp], back: NDArray[np.float64]) -> NDArray[np.float64]:
        # sublattices apart by more than any place is
        apart = 2.0 * sum(patches.shape) * patches.sublattice[of].astype(float)
        return np.column_stack([patches.position[of] - back, apart])

    distance, at = KDTree(points(first, np.zeros(2))).query(points(rows, drift), distance_upper_bound=reach)
    return np.where(np.isfinite(distance), at, -1)


def _averaged(
    patches: Patches,
    frames: list[NDArray[np.intp]],
    same: dict[int, NDArray[np.intp]],
    in_all: NDArray[np.bool_],
) -> AveragedSites | None:
    kept = np.flatnonzero(in_all)
    if not len(kept):
        return None
    number = np.full(len(frames[0]), -1, np.int32)
    number[kept] = np.arange(len(kept))
    site = np.full(len(patches.moments), -1, np.int32)
    total = np.zeros((len(kept), patches.moments.shape[1]))
    for k, at in same.items():
        known = np.flatnonzero(at >= 0)
        mine = number[at[known]]
        rows, mine = frames[k][known[mine >= 0]], mine[mine >= 0]
        site[rows] = mine
        total[mine] += patches.moments[rows]
    rows = frames[0][kept]
    around = patches.index[rows]
    index = np.where(around >= 0, number[np.maximum(around, 0)], around)
    averaged = replace(
        patches,
        moments=(total / len(same)).astype(np.float32),
        position=patches.position[rows],
        sublattice=patches.sublattice[rows],
        frame=np.zeros(len(rows), np.int32),
        cell=patches.cell[rows],
        index=index.astype(np.int32),
    )
    return AveragedSites(averaged, site, len(same))
