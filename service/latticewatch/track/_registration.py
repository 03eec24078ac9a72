"""Where a frame lies on the specimen: lattice phase to a fraction of a pixel, the constellation of defects to a cell.

A lattice looks the same after a move by a whole cell; what breaks its periodicity are the defects. So the candidates
are the lattice translations that agree with the phase, and each is scored by how the defects in the frame meet those on
the map. The smallest move is taken unless another one is clearly better; where the smallest is refuted and none is
clearly better, nothing is taken.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.track._correlation import displacement
from latticewatch.track._grid import Grid, nearest_to
from latticewatch.track._map import TrackMap

# Farthest that a site may be from its track after registration, in lattice constants.
LINK_RADIUS = 0.4
# A move by whole cells must be carried by this many defects at least, and be better by this many nats
# (odds of 3000 to 1, for some thousand moves that are possible).
MIN_MATCHES = 3
CLEAR_MARGIN = 8.0
# The rates at which defects are found again vary from frame to frame, more than independent chances do: they are taken
# to be this much lower, so that a poor frame does not refute a place.
CAUTION = 0.7
# Sites that determine the lattice phase, and defects that vote: more do not make it surer.
PHASE_SITES = 600
VOTERS = 400
# Below this the residuals have no common phase: the lattice has turned, or its constant has changed.
MIN_COHERENCE = 0.3
MAX_CELLS = 128
CANDIDATES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Sites of one frame, as registration sees them.

    Attributes
    ----------
    position : ndarray of shape (n, 2), float64
        In the frame [px].
    sublattice : ndarray of shape (n,), int16
    defects : ndarray of shape (m,), int64
        Sites that are probably a defect, by this frame alone.
    vectors : ndarray of shape (2, 2), float64, or None
        Lattice vectors as rows [px].
    low, high : ndarray of shape (2,), float64
        Corners of the box around the sites [px].
    """

    position: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    defects: NDArray[np.int64]
    vectors: NDArray[np.float64] | None
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        position: NDArray[np.float64],
        sublattice: NDArray[np.int16],
        evident: NDArray[np.bool_],
        vectors: NDArray[np.float64] | None,
    ) -> Self:
        """Sites, at least one, and the box around them."""
        low, high = _box(position)
        return cls(position, sublattice, np.flatnonzero(evident), vectors, np.array(low), np.array(high))


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A frame placed on a map.

    Attributes
    ----------
    drift : ndarray of shape (2,), float64
        Position in the frame less position on the specimen [px].
    score : float
        log p(defects in the frame | map, this drift) − log p(defects in the frame | elsewhere).
    matched, in_frame, on_map : int
        Defects that meet, and all those of the frame and of the map where the two overlap.
    """

    drift: NDArray[np.float64]
    score: float
    matched: int
    in_frame: int
    on_map: int

    @property
    def refuted(self) -> bool:
        """Defects of the map are missing, more of them than chance allows."""
        return self.score < -CLEAR_MARGIN and self.on_map - self.matched >= MIN_MATCHES

    @property
    def borne_out(self) -> bool:
        """Defects meet, more of them than chance allows."""
        return self.score > CLEAR_MARGIN and self.matched >= MIN_MATCHES


def register(points: Points, tracks: TrackMap, grid: Grid, expected: NDArray[np.float64]) -> Fit | None:
    """Place a frame on a map by its lattice and its defects.

    Parameters
    ----------
    points : Points
        With lattice vectors.
    tracks : TrackMap
    grid : Grid
        That of the map.
    expected : ndarray of shape (2,), float64
        Drift to start from: that of the frame before, and the move of the stage since.

    Returns
    -------
    Fit or None
        ``None`` where the frame cannot be placed: the smallest move is refuted and no other one is clear.
    """
    assert points.vectors is not None
    phase = lattice_phase(points, grid, expected, tracks.spacing)
    if phase is None:
        return None
    smallest = _score(points, tracks, grid, expected + phase)
    most = min(len(points.defects), np.count_nonzero(tracks.evident))
    if smallest.score + CLEAR_MARGIN >= most * _weights(points, tracks)[0]:
        return smallest  # no other move can be clearly better
    others = [
        fit
        for cells in _moves_voted_for(points, tracks, smallest)
        if (fit := _score(points, tracks, grid, smallest.drift + cells @ points.vectors)).matched
        >= MIN_MATCHES
    ]
    others.sort(key=lambda fit: -fit.score)
    if others:
        runner_up = max([smallest.score, *(fit.score for fit in others[1:2])])
        if others[0].score > max(runner_up, 0.0) + CLEAR_MARGIN:
            return others[0]
    return None if smallest.refuted else smallest


def register_image(
    points: Points,
    thumbnail: NDArray[np.float32],
    shrink: int,
    tracks: TrackMap,
    grid: Grid,
    expected: NDArray,
) -> Fit | None:
    """Place a frame without a lattice by cross-correlation with the frame before.

    Parameters
    ----------
    thumbnail : ndarray of shape (rows, cols), float32
        The frame, reduced by ``shrink``.

    Returns
    -------
    Fit or None
        ``None`` where neither the expected drift nor the correlation brings a third of the peaks onto tracks.
    """
    candidates = [expected]
    if tracks.thumbnail is not None and tracks.thumbnail.shape == thumbnail.shape:
        candidates.append(tracks.drift + shrink * displacement(tracks.thumbnail, thumbnail))
    radius = LINK_RADIUS * tracks.spacing
    linked = [
        (grid.link(points.position, drift, points.sublattice, radius)[0] >= 0).mean() for drift in candidates
    ]
    # The expected drift comes first, and so wins where both are as good.
    best = int(np.argmax(linked))
    return _score(points, tracks, grid, candidates[best]) if linked[best] > 1 / 3 else None


def lattice_phase(
    points: Points, grid: Grid, expected: NDArray[np.float64], spacing: float
) -> NDArray[np.float64] | None:
    """Smallest move from an expected drift that brings lattice and map into phase.

    Residuals to the nearest track are averaged on the unit circle of either lattice direction, so that neither a
    residual that wraps nor a distortion of the scan, which both share, matters.

    Returns
    -------
    ndarray of shape (2,) or None
        Zero where frame and map do not overlap; ``None`` where the two have no common phase.
    """
    assert points.vectors is not None
    crystal = max(1, int(np.count_nonzero(points.sublattice >= 0)) // PHASE_SITES)
    found, *parts = _phase(
        points.position, points.sublattice, crystal, expected, points.vectors, *grid.arrays, spacing
    )
    if found < 10:
        return np.zeros(2)
    mean = [complex(*parts[:2]) / found, complex(*parts[2:]) / found]
    if min(map(abs, mean)) < MIN_COHERENCE:
        return None
    wrapped = [cmath.phase(value) / (2 * np.pi) for value in mean]
    # In an oblique cell the wrapped one is not always the shortest.
    (a, b), (c, d) = points.vectors.tolist()
    near = [(wrapped[0] + i, wrapped[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.array(
        min(((i * a + j * c, i * b + j * d) for i, j in near), key=lambda move: math.hypot(*move))
    )


def _score(points: Points, tracks: TrackMap, grid: Grid, drift: NDArray[np.float64]) -> Fit:
    """How the defects of a frame meet those of a map at a drift."""
    margin = LINK_RADIUS * tracks.spacing
    low, high = points.low + margin, points.high - margin
    in_frame, matched, on_map = _meet(
        points.position,
        points.sublattice,
        points.defects,
        drift,
        tracks.evident,
        low,
        high,
        *grid.arrays,
        margin,
    )
    on_map = max(on_map, matched)
    match, absent, surplus = _weights(points, tracks)
    score = matched * match + (on_map - matched) * absent + (in_frame - matched) * surplus
    return Fit(drift, score, matched, in_frame, on_map)


def _weights(points: Points, tracks: TrackMap) -> tuple[float, float, float]:
    """What a defect that meets one, one of the map alone and one of the frame alone add to the score."""
    base = min((len(points.defects) + 1) / (len(points.position) + 2), 0.4)
    hit, pure = (max(CAUTION * rate, 2 * base, 0.02) for rate in (tracks.hit_rate, tracks.purity))
    return math.log(hit / base), math.log((1 - hit) / (1 - base)), math.log((1 - pure) / (1 - base))


def _moves_voted_for(points: Points, tracks: TrackMap, smallest: Fit) -> NDArray[np.float64]:
    """Lattice translations, in cells, that most pairs of a defect in the frame and one on the map agree on.

    Those that could not score above the smallest move, all their votes being matches, are left out.
    """
    assert points.vectors is not None
    both = points.defects, np.flatnonzero(tracks.evident)
    thin = [len(which) // VOTERS + 1 for which in both]
    frame, chart = (which[::step] for which, step in zip(both, thin, strict=True))
    to_cells = np.linalg.inv(points.vectors)
    reach = min(MAX_CELLS, int(1.5 * (points.high - points.low).max() / tracks.spacing) + 1)
    votes = _count_votes(
        (points.position[frame] - smallest.drift) @ to_cells,
        points.sublattice[frame],
        tracks.position[chart] @ to_cells,
        tracks.sublattice[chart],
        reach,
    )
    votes[reach, reach] = 0
    enough = max(smallest.score, 0.0) / (_weights(points, tracks)[0] * thin[0] * thin[1])
    popular = np.flatnonzero(votes.ravel() > max(enough, 1.0))
    popular = popular[np.argsort(-votes.ravel()[popular], kind="stable")[:CANDIDATES]]
    return (np.stack(np.unravel_index(popular, votes.shape), axis=1) - reach).astype(np.float64)


@njit(cache=True, nogil=True)
def _box(position):  # pragma: no cover - compiled
    """Least and greatest row and column."""
    top, left = position[0, 0], position[0, 1]
    bottom, right = top, left
    for i in range(len(position)):
        top, bottom = min(top, position[i, 0]), max(bottom, position[i, 0])
        left, right = min(left, position[i, 1]), max(right, position[i, 1])
    return (top, left), (bottom, right)


@njit(cache=True, nogil=True)
def _phase(
    position, sublattice, every, expected, vectors, point, kinds, per_px, start, order, radius
):  # pragma: no cover - compiled
    """How many of every so many sites of the lattice are near a track, and cosines and sines of how far, summed up.

    Distances are in cells, along either lattice direction.
    """
    found, cos0, sin0, cos1, sin1 = 0, 0.0, 0.0, 0.0, 0.0
    cell_area = vectors[0, 0] * vectors[1, 1] - vectors[0, 1] * vectors[1, 0]
    left = 0
    for i in range(len(position)):
        if sublattice[i] < 0:
            continue
        left -= 1
        if left >= 0:
            continue
        left = every - 1
        row, col = position[i, 0] - expected[0], position[i, 1] - expected[1]
        p = nearest_to(row, col, sublattice[i], point, kinds, per_px, start, order, radius)
        if p < 0:
            continue
        row, col = 2 * np.pi * (row - point[p, 0]), 2 * np.pi * (col - point[p, 1])
        along0 = (row * vectors[1, 1] - col * vectors[1, 0]) / cell_area
        along1 = (col * vectors[0, 0] - row * vectors[0, 1]) / cell_area
        found += 1
        cos0 += np.cos(along0)
        sin0 += np.sin(along0)
        cos1 += np.cos(along1)
        sin1 += np.sin(along1)
    return found, cos0, sin0, cos1, sin1


@njit(cache=True, nogil=True)
def _meet(
    position, sublattice, defects, drift, evident, low, high, point, kinds, per_px, start, order, radius
):  # pragma: no cover - compiled
    """How many defects of a frame are on the map, how many of these meet one, and how many of the map are in a box."""
    in_frame, matched, on_map = 0, 0, 0
    for i in defects:
        row, col = position[i, 0] - drift[0], position[i, 1] - drift[1]
        p = nearest_to(row, col, sublattice[i], point, kinds, per_px, start, order, radius)
        if p >= 0:
            in_frame += 1
            matched += evident[p]
    for p in range(len(point)):
        if evident[p]:
            row, col = point[p, 0] + drift[0], point[p, 1] + drift[1]
            on_map += low[0] < row < high[0] and low[1] < col < high[1]
    return in_frame, matched, on_map


@njit(cache=True, nogil=True)
def _count_votes(frame, frame_sublattice, chart, chart_sublattice, reach):
    """Pairs of one sublattice by the whole number of cells between them."""
    votes = np.zeros((2 * reach + 1, 2 * reach + 1), np.int32)
    for f in range(len(frame)):
        for c in range(len(chart)):
            if frame_sublattice[f] != chart_sublattice[c]:
                continue
            d0, d1 = frame[f, 0] - chart[c, 0], frame[f, 1] - chart[c, 1]
            i, j = np.int64(np.rint(d0)), np.int64(np.rint(d1))
            if abs(d0 - i) < 0.25 and abs(d1 - j) < 0.25 and abs(i) <= reach and abs(j) <= reach:
                votes[i + reach, j + reach] += 1
    return votes
