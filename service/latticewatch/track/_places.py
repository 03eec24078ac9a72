"""Which map a frame belongs to: the one in use, one that was left and is recognised, or a new one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.track._correlation import shrink_of, thumbnail
from latticewatch.track._grid import Grid
from latticewatch.track._map import TrackMap
from latticewatch.track._priors import GAIN
from latticewatch.track._records import Observation
from latticewatch.track._registration import CLEAR_MARGIN, Fit, Points, register, register_image
from latticewatch.track._states import States

# Maps of places that the specimen was moved away from, kept to be recognised.
LEFT_PLACES = 2
# The rates of defects found again are measured where frame and map share at least so many.
RATE_DEFECTS = 5


class Places:
    """The map in use and those of places that were left.

    A frame that cannot be placed on the map in use, nor on one that was left, starts a new one. The new map is
    provisional until the next frame fits it too: a single spoilt frame is not a change of place.

    Attributes
    ----------
    tracks : TrackMap or None
        The map in use.
    """

    def __init__(self) -> None:
        self.tracks: TrackMap | None = None
        self._left: deque[TrackMap] = deque(maxlen=LEFT_PLACES)

    def __iter__(self) -> Iterator[TrackMap]:
        return iter([*([] if self.tracks is None else [self.tracks]), *self._left])

    def place(self, points: Points, observation: Observation) -> tuple[TrackMap, Grid, bool]:
        """Put a frame on the map that it belongs to, which becomes the one in use with its drift set.

        Returns
        -------
        tracks : TrackMap
        grid : Grid
            Its tracks, sorted.
        jump : bool
            The frame could not be placed, and the map is a new one.
        """
        frame = _Frame(points, observation)
        current = self.tracks
        jump = False
        if current is None:
            self.tracks, fit = self._new(frame, np.zeros(2), provisional=False), None
        else:
            fit = frame.fit(current)
            # After a jump the frame may lie at the edge of this map, and in the middle of another one.
            jumped = fit is not None and np.hypot(*(fit.drift - frame.expected(current))) > current.spacing
            if fit is None or jumped or current.provisional or fit.score < -CLEAR_MARGIN:
                known = self._recognise(frame, fit)
                if known is not None:
                    self.tracks, fit = known
                    self._left.remove(self.tracks)
                    self._leave(current)
                elif fit is None:
                    self._leave(current)
                    self.tracks = self._new(frame, frame.expected(current), provisional=True)
                    jump = True
        tracks = self.tracks
        assert tracks is not None
        if fit is not None:
            tracks.drift = fit.drift
            tracks.provisional = False
            _measure_rates(tracks, fit)
        tracks.stage, tracks.axes, tracks.thumbnail = frame.stage, frame.axes, frame.thumbnail
        if tracks is not current and current is not None and tracks.home_nm is None:
            tracks.home_nm = current.home_nm
        if tracks.home_nm is None and tracks.stage is not None and tracks.axes is not None:
            tracks.home_nm = np.linalg.solve(tracks.axes, tracks.stage).astype(np.float64)
        return tracks, frame.grid(tracks), jump

    def _recognise(self, frame: _Frame, fit: Fit | None) -> tuple[TrackMap, Fit] | None:
        """A map that was left and fits better than the one in use, without a doubt."""
        floor = 0.0 if fit is None else max(fit.score, 0.0)
        found = [(tracks, there) for tracks in self._left if (there := frame.fit(tracks)) is not None]
        found = [
            (tracks, there)
            for tracks, there in found
            if there.borne_out and there.score > floor + CLEAR_MARGIN
        ]
        return max(found, key=lambda pair: pair[1].score, default=None)

    def _leave(self, tracks: TrackMap) -> None:
        """Keep a map to be recognised, unless one frame is all that it is of."""
        if not tracks.provisional:
            self._left.append(tracks)

    @staticmethod
    def _new(frame: _Frame, drift: NDArray[np.float64], *, provisional: bool) -> TrackMap:
        vectors = frame.points.vectors
        return TrackMap(
            frame.observation.class_ids,
            States.of(frame.observation.roles),
            drift,
            _neighbour_distance(frame) if vectors is None else _lattice_constant(vectors),
            frame.observation.shape,
            crystalline=vectors is not None,
            provisional=provisional,
        )


class _Frame:
    """A frame that is to be placed."""

    def __init__(self, points: Points, observation: Observation) -> None:
        self.points, self.observation = points, observation
        self.stage = None if observation.stage_px is None else np.array(observation.stage_px, float)
        self.axes = observation.axes
        self.shrink = shrink_of(observation.shape)
        self.thumbnail = None if points.vectors is not None else thumbnail(observation.image, self.shrink)
        # By the map itself: one that is dropped meanwhile could leave its address to a new one.
        self._grids: dict[TrackMap, Grid] = {}

    def grid(self, tracks: TrackMap) -> Grid:
        """The tracks of a map, sorted once a frame."""
        if tracks not in self._grids:
            self._grids[tracks] = tracks.grid()
        return self._grids[tracks]

    def expected(self, tracks: TrackMap) -> NDArray[np.float64]:
        """Drift by the stage alone: where it goes forward on the specimen, features go back in the frame."""
        if self.stage is None or tracks.stage is None:
            return tracks.drift.copy()
        before, now, home = tracks.axes, self.axes, tracks.home_nm
        if before is None or now is None or home is None or np.array_equal(before, now):
            return tracks.drift - (self.stage - tracks.stage)
        # Another scan: what the specimen has drifted, in the pixels of this one.
        return now @ np.linalg.solve(before, tracks.specimen_drift) - (self.stage - now @ home)

    def fit(self, tracks: TrackMap) -> Fit | None:
        """Place this frame on a map."""
        crystalline = self.points.vectors is not None
        if tracks.crystalline != crystalline or tracks.shape != self.observation.shape:
            return None
        grid, expected = self.grid(tracks), self.expected(tracks)
        if self.thumbnail is None:
            return register(self.points, tracks, grid, expected)
        return register_image(self.points, self.thumbnail, self.shrink, tracks, grid, expected)


def _measure_rates(tracks: TrackMap, fit: Fit) -> None:
    """Average how many defects of the map a frame shows, and how many that it shows are on the map."""
    if fit.on_map >= RATE_DEFECTS:
        tracks.hit_rate += GAIN * (fit.matched / fit.on_map - tracks.hit_rate)
    if fit.in_frame >= RATE_DEFECTS:
        tracks.purity += GAIN * (fit.matched / fit.in_frame - tracks.purity)


def _lattice_constant(vectors: NDArray[np.float64]) -> float:
    """Shortest lattice translation [px]."""
    around = np.array([(1, 0), (0, 1), (1, 1), (1, -1)]) @ vectors
    return float(np.hypot(*around.T).min())


def _neighbour_distance(frame: _Frame) -> float:
    """Median distance of nearest neighbours [px]."""
    position = frame.points.position
    if len(position) < 2:
        return float(max(frame.observation.shape))
    distance = KDTree(position).query(position, k=2)[0][:, 1]
    return max(1.0, float(np.median(distance)))
