"""The map of tracks: every site that is followed, where it is on the specimen and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.track._grid import Grid
from latticewatch.track._segments import BASE, EXCESS, LAST, MORE, N_ROWS, RECENT, RUN
from latticewatch.track._states import States

# A site is not averaged over more than this many frames, so that it follows slow distortion of the scan.
POSITION_FRAMES = 10
# Columns grow by one in so many rows, so that a few new tracks in every frame do not copy all others.
SPARE = 4


class TrackMap:
    """Tracks as columns of equal length, and where the newest frame lies among them.

    Attributes
    ----------
    states : States or None
        What the classes say of a site; ``None`` until the next frame, where they were renamed.
    state_ids : list of int
        Class of each state of role defect; -2 for no defect, -1 for unknown.
    drift : ndarray of shape (2,), float64
        Position in the frame less position on the specimen [px].
    stage : ndarray of shape (2,) or None
        Stage position of the frame that ``drift`` belongs to [px].
    axes : ndarray of shape (2, 2) or None
        Of that frame, from the stage's nanometres to pixels; see `Observation.axes`.
    home_nm : ndarray of shape (2,) or None
        Where the stage was when ``drift`` was the specimen's alone [nm].
    spacing : float
        Lattice constant, or without a lattice the median distance of nearest neighbours [px].
    shape : tuple of int
        Rows and columns of the frames.
    crystalline : bool
        The frames of this map have a lattice.
    provisional : bool
        One frame is all that this map is of, and it may have been a spoilt one.
    hit_rate, purity : float
        Share of the defects on the map that a frame shows, and share of those in a frame that are on the map.
    thumbnail : ndarray or None
        The newest frame, reduced, where there is no lattice.
    position : ndarray of shape (n, 2), float64
        On the specimen [px].
    sublattice : ndarray of shape (n,), int16
    track : ndarray of shape (n,), int32
    posterior : ndarray of shape (n, n_classes), float32
        All zero where nothing is known.
    known : ndarray of shape (n, 6, n_states), float32
        For each state: log prior, NaN where it is that of the sublattice (BASE); mean log-likelihood of the frames
        since the site last changed (RUN); sum of log-likelihoods of the last few frames, which speak for a change
        (RECENT), and by how much they do [nats] (EXCESS); log-likelihood of the frame that had the site last (LAST);
        what averages said beyond the frames of the run, over as many frames (MORE): together it stays what it was as
        frames are added.
    run_frames, recent_frames : ndarray of shape (n,), int64
        How many frames are in RUN, up to a limit, and in RECENT.
    evident : ndarray of shape (n,), bool
        Known to be a defect or the neighbour of one.
    announced : ndarray of shape (n,), int32
        Class of the defect that was reported here; -1 for none.
    frames : ndarray of shape (n,), int64
        Frames that had the site.
    last_seen, settled, held_since : ndarray of shape (n,), int64
        Time at which the site was last seen, at which the evidence last agreed with what is announced, and at which a
        transition was first held back (-1: none is).
    missed : ndarray of shape (n,), int64
        Successive frames that should have had the site and did not.
    """

    # Of the class too, for what was kept by a version that did not know them.
    axes: NDArray[np.float64] | None = None
    home_nm: NDArray[np.float64] | None = None
    # What is said of a new track; its position, sublattice, number and times are given.
    NEW: ClassVar[dict[str, float]] = {
        "posterior": 0.0,
        "known": 0.0,
        "run_frames": 0,
        "recent_frames": 0,
        "evident": False,
        "announced": -1,
        "frames": 0,
        "held_since": -1,
        "missed": 0,
    }
    COLUMNS = ("position", "sublattice", "track", "last_seen", "settled", *NEW)

    def __init__(
        self,
        class_ids: NDArray[np.int16],
        states: States,
        drift: NDArray[np.float64],
        spacing: float,
        shape: tuple[int, int],
        *,
        crystalline: bool,
        provisional: bool,
    ) -> None:
        self.class_ids = class_ids
        self.states: States | None = states
        self.state_ids = states.ids(class_ids)
        self.drift = drift
        self.stage: NDArray[np.float64] | None = None
        self.spacing = spacing
        self.shape = shape
        self.crystalline = crystalline
        self.provisional = provisional
        # Low, as at a low dose: until more is known, a defect that is not found again means little.
        self.hit_rate = self.purity = 0.3
        self.thumbnail: NDArray[np.float32] | None = None
        self.position = np.zeros((0, 2))
        self.sublattice = np.zeros(0, np.int16)
        self.track = np.zeros(0, np.int32)
        self.posterior = np.zeros((0, len(class_ids)), np.float32)
        self.known = np.zeros((0, N_ROWS, states.n), np.float32)
        self.run_frames = np.zeros(0, np.int64)
        self.recent_frames = np.zeros(0, np.int64)
        self.evident = np.zeros(0, bool)
        self.announced = np.zeros(0, np.int32)
        self.frames = np.zeros(0, np.int64)
        self.last_seen = np.zeros(0, np.int64)
        self.settled = np.zeros(0, np.int64)
        self.held_since = np.zeros(0, np.int64)
        self.missed = np.zeros(0, np.int64)
        # Arrays with room for more tracks, of which the columns are the first rows.
        self._room: dict[str, NDArray] = {}

    def __len__(self) -> int:
        return len(self.position)

    @property
    def specimen_drift(self) -> NDArray[np.float64]:
        """How far the specimen has moved in the frame without the stage (row, col) [px]."""
        if self.stage is None or self.axes is None or self.home_nm is None:
            return self.drift
        return self.drift + self.stage - self.axes @ self.home_nm

    def grid(self) -> Grid:
        """The tracks, sorted for searches by position."""
        return Grid.of(self.position, self.sublattice, self.spacing)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop all other tracks."""
        if not which.all():
            kept = np.flatnonzero(which)
            for name in self.COLUMNS:
                setattr(self, name, getattr(self, name).take(kept, axis=0))

    def append(
        self,
        position: NDArray[np.float64],
        sublattice: NDArray[np.int16],
        track: NDArray[np.int32],
        now: int,
    ) -> None:
        """Add tracks of which nothing is known yet."""
        if not len(position):
            return
        given = {
            "position": position,
            "sublattice": sublattice,
            "track": track,
            "last_seen": now - 1,
            "settled": now - 1,
        }
        before, n = len(self), len(self) + len(position)
        for name, value in (given | self.NEW).items():
            column, room = getattr(self, name), self._room.get(name)
            if room is None or column.base is not room or len(room) < n:
                room = self._room[name] = np.empty((n + n // SPARE, *column.shape[1:]), column.dtype)
                room[:before] = column
            room[before:n] = value
            setattr(self, name, room[:n])
        self.known[before:, BASE] = np.nan

    def see(self, index: NDArray[np.int64], position: NDArray[np.float64], now: int) -> None:
        """Take in where tracks are in the newest frame, averaging over the last few, and which are evident now.

        Parameters
        ----------
        index : ndarray of shape (m,), int64
            Track of each site, each at most once; -1 for none.
        position : ndarray of shape (m, 2), float64
            In the frame [px].
        """
        assert self.states is not None
        _see(
            index,
            position,
            self.drift,
            now,
            self.posterior,
            self.states.defects,
            self.position,
            self.frames,
            self.last_seen,
            self.missed,
            self.evident,
        )

    def miss(self, low: NDArray[np.float64], high: NDArray[np.float64], now: int) -> None:
        """Count a frame that should have had some tracks, and did not: those inside a box of the frame [px]."""
        _miss(low - self.drift, high - self.drift, now, self.position, self.last_seen, self.missed)

    def set_classes(self, class_ids: NDArray[np.int16], states: States) -> None:
        """Rearrange what is known to the columns and roles of a new model; classes that it lacks are forgotten.

        What was known of the others stays known.
        """
        if self.known.shape[1] < N_ROWS:
            # kept by a version that did not know them
            missing = N_ROWS - self.known.shape[1]
            self.known = np.pad(self.known, ((0, 0), (0, missing), (0, 0)))
        if np.array_equal(class_ids, self.class_ids) and states.same(self.states):
            return
        column = {int(class_id): k for k, class_id in enumerate(self.class_ids)}
        posterior = np.zeros((len(self), len(class_ids)), np.float32)
        for k, class_id in enumerate(class_ids):
            if int(class_id) in column:
                posterior[:, k] = self.posterior[:, column[int(class_id)]]
        self._set_posterior(posterior, class_ids)
        if not states.same(self.states) or self.state_ids != states.ids(class_ids):
            # A class that is new has been unknown till now, and one that is no defect any more goes with its new role.
            ids, unknown = states.ids(class_ids), len(self.state_ids) - 1
            sources = {class_id: [k] for k, class_id in enumerate(self.state_ids)}
            for class_id, state in zip(class_ids.tolist(), states.of_column.tolist(), strict=True):
                if class_id in sources and ids[state] != class_id:
                    sources[ids[state]] = [*sources.get(ids[state], []), *sources[class_id]]
            self._restate([sources.get(class_id, [unknown]) for class_id in ids], ids)
        self.states = states

    def _restate(self, sources: list[list[int]], state_ids: list[int]) -> None:
        """Make each state of what the likeliest of some former ones was."""
        whole = self.known[:, RUN] + self.known[:, MORE]
        known = np.zeros((*self.known.shape[:2], len(sources)), np.float32)
        for state, which in enumerate(sources):
            known[..., state] = self.known[..., which].max(axis=-1)
            if len(which) > 1:
                likeliest = np.array(which)[whole[:, which].argmax(axis=1)]
                for row in (RUN, MORE, LAST):
                    known[:, row, state] = self.known[np.arange(len(self)), row, likeliest]
        self.known = known
        self.known[:, [RECENT, EXCESS]] = 0.0
        self.recent_frames[:] = 0
        self.state_ids = state_ids

    def relabel(self, mapping: Mapping[int, int]) -> None:
        """Rename or merge classes, announced ones included."""
        renamed = np.array([mapping.get(int(c), int(c)) for c in self.class_ids], np.int16)
        class_ids = np.array(list(dict.fromkeys(renamed.tolist())), np.int16)
        posterior = np.stack([self.posterior[:, renamed == c].sum(axis=1) for c in class_ids], axis=1)
        self._set_posterior(posterior, class_ids)
        ids = [mapping.get(i, i) for i in self.state_ids]
        merged = list(dict.fromkeys(ids))
        self._restate([[k for k, i in enumerate(ids) if i == mine] for mine in merged], merged)
        self.states = None
        announced = self.announced.copy()
        for old, new in mapping.items():
            announced[self.announced == old] = new
        self.announced = announced

    def divide(self, class_id: int, part: int) -> None:
        """Let a class be known that was split off another: what the frames said of the one they said of the other."""
        self._set_posterior(
            np.append(self.posterior, np.zeros((len(self), 1), np.float32), axis=1),
            np.append(self.class_ids, np.int16(part)),
        )
        if class_id in self.state_ids:
            of, last = self.state_ids.index(class_id), len(self.state_ids) - 1
            ids = [*self.state_ids[:last], part, self.state_ids[last]]
            self._restate([*([k] for k in range(last)), [of], [last]], ids)
        self.states = None

    def _set_posterior(self, posterior: NDArray[np.float32], class_ids: NDArray[np.int16]) -> None:
        total = posterior.sum(axis=1, keepdims=True)
        self.posterior = np.divide(posterior, total, out=np.zeros_like(posterior), where=total > 1e-6)
        self.class_ids = class_ids


@njit(cache=True, nogil=True)
def _see(
    index, seen, drift, now, posterior, defects, position, frames, last_seen, missed, evident
):  # pragma: no cover - compiled
    for i in range(len(index)):
        t = index[i]
        if t < 0:
            continue
        frames[t] += 1
        weight = 1.0 / min(frames[t], POSITION_FRAMES)
        for axis in range(2):
            position[t, axis] += weight * (seen[i, axis] - drift[axis] - position[t, axis])
        last_seen[t] = now
        missed[t] = 0
        defect = np.float32(0.0)
        for k in defects:
            defect += posterior[t, k]
        evident[t] = defect > 0.5


@njit(cache=True, nogil=True)
def _miss(low, high, now, position, last_seen, missed):
    for t in range(len(position)):
        row, col = position[t, 0], position[t, 1]
        if last_seen[t] < now and low[0] < row < high[0] and low[1] < col < high[1]:
            missed[t] += 1
