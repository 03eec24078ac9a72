"""Where a frame lies on the specimen: lattice phase to a fraction of a pixel, the constellation of defects to a cell.

A lattice looks the same after a move by a whole cell; what breaks its periodicity are the defects. So the candidates
are the lattice translations that agree with the phase, and each is scored by how the defects in the frame meet those on
the map. The smallest move is taken unless another one is clearly better; where the smallest is refuted and none is
clearly better, nothing is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.track._correlation import displacement
from latticewatch.track._grid import Grid
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
    evident : ndarray of shape (n,), bool
        Probably a defect or the neighbour of one, by this frame alone.
    vectors : ndarray of shape (2, 2), float64, or None
        Lattice vectors as rows [px].
    low, high : ndarray of shape (2,), float64
        Corners of the box around the sites [px].
    """

    position: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    evident: NDArray[np.bool_]
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
        return cls(position, sublattice, evident, vectors, position.min(axis=0), position.max(axis=0))


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
    most = min(np.count_nonzero(points.evident), np.count_nonzero(tracks.evident))
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
        (grid.nearest(points.position - drift, points.sublattice, radius) >= 0).mean() for drift in candidates
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
    crystal = np.flatnonzero(points.sublattice >= 0)
    crystal = crystal[:: max(1, len(crystal) // PHASE_SITES)]
    position = points.position[crystal] - expected
    near = grid.nearest(position, points.sublattice[crystal], spacing)
    found = near >= 0
    if found.sum() < 10:
        return np.zeros(2)
    cells = (position[found] - grid.point[near[found]]) @ np.linalg.inv(points.vectors)
    mean = np.exp(2j * np.pi * cells).mean(axis=0)
    if np.abs(mean).min() < MIN_COHERENCE:
        return None
    wrapped = np.angle(mean) / (2 * np.pi)
    # In an oblique cell the wrapped one is not always the shortest.
    around = (wrapped + np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])) @ points.vectors
    return around[np.hypot(*around.T).argmin()]


def _score(points: Points, tracks: TrackMap, grid: Grid, drift: NDArray[np.float64]) -> Fit:
    """How the defects of a frame meet those of a map at a drift."""
    margin = LINK_RADIUS * tracks.spacing
    near = grid.nearest(points.position[points.evident] - drift, points.sublattice[points.evident], margin)
    near = near[near >= 0]
    matched = int(tracks.evident[near].sum())
    expected = tracks.position[tracks.evident] + drift
    low, high = points.low + margin, points.high - margin
    on_map = max(int(((expected > low) & (expected < high)).all(axis=1).sum()), matched)
    match, absent, surplus = _weights(points, tracks)
    score = matched * match + (on_map - matched) * absent + (len(near) - matched) * surplus
    return Fit(drift, score, matched, len(near), on_map)


def _weights(points: Points, tracks: TrackMap) -> tuple[float, float, float]:
    """What a defect that meets one, one of the map alone and one of the frame alone add to the score."""
    base = min((np.count_nonzero(points.evident) + 1) / (len(points.position) + 2), 0.4)
    hit, pure = (max(CAUTION * rate, 2 * base, 0.02) for rate in (tracks.hit_rate, tracks.purity))
    return math.log(hit / base), math.log((1 - hit) / (1 - base)), math.log((1 - pure) / (1 - base))


def _moves_voted_for(points: Points, tracks: TrackMap, smallest: Fit) -> NDArray[np.float64]:
    """Lattice translations, in cells, that most pairs of a defect in the frame and one on the map agree on.

    Those that could not score above the smallest move, all their votes being matches, are left out.
    """
    assert points.vectors is not None
    thin = [np.count_nonzero(which) // VOTERS + 1 for which in (points.evident, tracks.evident)]
    frame, chart = np.flatnonzero(points.evident)[:: thin[0]], np.flatnonzero(tracks.evident)[:: thin[1]]
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
