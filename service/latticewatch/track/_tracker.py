"""The tracker: the only state of this folder, updated in frame order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError
from latticewatch.robust import NORMAL, median
from latticewatch.track._evidence import Evidence, false_alarm_change
from latticewatch.track._grid import Grid
from latticewatch.track._map import TrackMap
from latticewatch.track._places import Places
from latticewatch.track._priors import GAIN
from latticewatch.track._records import (
    MIN_ALTERNATIVE,
    N_OTHERS,
    ROLES,
    Away,
    Observation,
    Tracked,
    Transition,
)
from latticewatch.track._registration import LINK_RADIUS, Points
from latticewatch.track._segments import independent_frames
from latticewatch.track._states import States
from latticewatch.track._transitions import ABSENT_FRAMES, Hysteresis, Scene, find_transitions

# Position error of a site before a second frame measures it, and the least that is claimed [px].
NOMINAL_SIGMA_PX = 0.3
MIN_SIGMA_PX = 0.01
# Time between frames that is taken for granted where no frame tells its own, and the longest that counts as one [s].
NOMINAL_PERIOD_S = 0.1
LONGEST_PERIOD_S = 60.0
# Sites whose median residual is a better drift than that of the lattice phase: at least, and about as many as needed.
MIN_REFINING = 5
REFINING_SITES = 500


class Tracker:
    """Follow every site through a series: identity, accumulated verdict and transitions.

    Parameters
    ----------
    false_events_per_hour : float
        Changes of sites in view that are reported by mistake, at most and in the mean, at the rate of the frames and
        the number of sites that there are. A lower rate makes real changes wait longer: each factor of 10 takes 2.3
        nats more of evidence, which a defect at d′ = 5 brings within a fifth of a frame. To these the first frames of
        a site add what a calibrated classifier does: of those reported at 0.995, one in two hundred is taken back.
    appear_above, disappear_below, reclassify_above : float
        Probabilities beyond which a defect is reported to have appeared, disappeared, and changed its class. The gap
        between the first two is what a site has to cross to be reported again.
    hold_frames : int
        Frames that one end of a hop waits for an undecided other end, so that they are one move, and that a new defect
        waits until it is clear of which class it is.
    miss_probability : float
        Chance that a peak outside the lattice (an adatom) which is there is not found in a frame.
    memory_frames : int
        Frames after which a site that is out of view is forgotten.
    max_tracks : int
        Sites remembered at most, and at least twice those of the newest frame; the longest unseen go first.
    blind_frames : int
        Successive frames without a lattice that are left out before a specimen that had one is taken to have lost it.

    Raises
    ------
    ConfigurationError
        A parameter outside its limits.

    Notes
    -----
    Frames are not averaged: their evidence is (see `Evidence`). Classes of role host, neighbour and unknown make no
    transitions. A frame that cannot be placed starts a new map; the old one is kept, and found again when its defects
    come back. The new map is provisional for one frame: only when the next frame fits it as well are its defects
    reported, so that a single spoilt frame is not a change of place.
    """

    # In force for a tracker on disk that was written before tracks had epochs.
    _epoch = 1
    _epoch_begins_with = 1

    def __init__(
        self,
        *,
        false_events_per_hour: float = 1.0,
        appear_above: float = 0.995,
        disappear_below: float = 0.005,
        reclassify_above: float = 0.95,
        hold_frames: int = 3,
        miss_probability: float = 0.3,
        memory_frames: int = 600,
        max_tracks: int = 50_000,
        blind_frames: int = 10,
    ) -> None:
        if not 0 < disappear_below < 0.5 <= appear_above < 1 or not 0.5 <= reclassify_above < 1:
            raise ConfigurationError(
                f"thresholds: got appear_above={appear_above}, disappear_below={disappear_below}, reclassify_above="
                f"{reclassify_above}; expected 0 < disappear_below < 0.5 <= appear_above and reclassify_above < 1"
            )
        if not false_events_per_hour > 0 or not 0 < miss_probability < 1:
            raise ConfigurationError(
                f"rates: got false_events_per_hour={false_events_per_hour}, miss_probability={miss_probability}; "
                "expected a rate above 0, and a probability between 0 and 1, both excluded"
            )
        if hold_frames < 0 or memory_frames < 1 or max_tracks < 1 or blind_frames < 0:
            raise ConfigurationError(
                f"bounds: got hold_frames={hold_frames}, blind_frames={blind_frames}, memory_frames={memory_frames}, "
                f"max_tracks={max_tracks}; expected at least 0, 0, 1 and 1"
            )
        self._rule = Hysteresis(
            appear_above, disappear_below, reclassify_above, hold_frames, miss_probability
        )
        self._memory_frames, self._max_tracks, self._blind_frames = memory_frames, max_tracks, blind_frames
        self._false_events_per_hour = false_events_per_hour
        self._evidence = Evidence()
        self._next_track = 1
        self.reset()

    def reset(self, series_id: str | None = None) -> None:
        """Close all tracks without a word, as at a new series; their numbers are not used again.

        Parameters
        ----------
        series_id : str, optional
            Series that follows; without it, that of the next observation.
        """
        if self._next_track > self._epoch_begins_with:
            self._epoch += 1
            self._epoch_begins_with = self._next_track
        self._series_id = series_id
        self._now = 0
        self._blind = 0
        self._sigma_px = NOMINAL_SIGMA_PX
        self._period_s, self._seen_at_s = NOMINAL_PERIOD_S, None
        self._places = Places()
        self._evidence.clear()

    @property
    def epoch(self) -> int:
        """How often tracks have begun anew, counted from 1: none of an epoch before this one comes back."""
        return self._epoch

    @property
    def next_track(self) -> int:
        """Number of the next track; none is used twice."""
        return self._next_track

    def number_on(self, next_track: int, epoch: int) -> None:
        """Go on after tracks that were numbered before, by another tracker, and are not known here.

        Parameters
        ----------
        next_track : int
            Number for the next one, where ours is not higher anyway.
        epoch : int
            In which they were numbered.
        """
        self._next_track = self._epoch_begins_with = max(self._next_track, next_track)
        self._epoch = max(self._epoch, epoch + 1)

    def relabel(self, mapping: Mapping[int, int]) -> None:
        """Follow a merge or a renumbering of classes; what is announced stays announced.

        Parameters
        ----------
        mapping : mapping of int to int
            New class of each old one; classes that are not in it stay.
        """
        for tracks in self._places:
            tracks.relabel(mapping)

    def divide(self, class_id: int, part: int) -> None:
        """Follow a class that was split off another; the next frame tells them apart.

        Parameters
        ----------
        class_id : int
            Class that is divided.
        part : int
            The new one.
        """
        for tracks in self._places:
            tracks.divide(class_id, part)

    def independent_frames(self, frames: float) -> float:
        """How many frames with noise of their own hold what so many of this stream do; see `Evidence`.

        Parameters
        ----------
        frames : float
            Frames of this stream.

        Returns
        -------
        float
        """
        return float(independent_frames(max(frames, 1.0), self._evidence.repeatability))

    def inform(
        self,
        track: NDArray[np.int32],
        posterior: NDArray[np.float32],
        class_ids: NDArray[np.int16],
        roles: tuple[str, ...],
        log_prior: NDArray[np.floating],
    ) -> None:
        """Put what is known of some sites by the average of their frames in place of what the frames said one by one.

        Parameters
        ----------
        track : ndarray of shape (n,), int32
            Of the map in use; -1 where a site has none.
        posterior : ndarray of shape (n, n_classes), float32
            By all frames since each site last changed.
        class_ids : ndarray of shape (n_classes,), int16
        roles : tuple of str
        log_prior : ndarray of shape (n_classes,)
        """
        tracks = self._places.tracks
        if tracks is None:
            return
        states = States.of(roles)
        new = ~np.isin(states.ids(class_ids), tracks.state_ids)
        for each in self._places:
            each.set_classes(class_ids, states)
        order = np.argsort(tracks.track, kind="stable")
        at = np.minimum(np.searchsorted(tracks.track, track, sorter=order), len(order) - 1)
        rows = order[at]
        some = np.flatnonzero(tracks.track[rows] == track)
        self._evidence.inform(tracks, rows[some], posterior[some], states, log_prior, new)

    def update(self, observation: Observation) -> Tracked:
        """Take in the next frame of a series.

        Parameters
        ----------
        observation : Observation
            Of another series than the one before: all tracks are closed first.

        Returns
        -------
        Tracked
        """
        if observation.series_id != self._series_id:
            self.reset(observation.series_id)
        self._now += 1
        states = States.of(observation.roles)
        for tracks in self._places:
            tracks.set_classes(observation.class_ids, states)
            self._forget(tracks, len(observation.position))
        position = np.ascontiguousarray(observation.position, np.float64).reshape(-1, 2)
        sublattice = np.ascontiguousarray(observation.sublattice, np.int16)
        if not len(position):
            return self._verdict(observation, np.zeros((0, len(observation.roles)), np.float32))
        posterior = np.ascontiguousarray(observation.posterior, np.float32)
        row = sublattice.astype(np.int64) + 1
        value, evident = self._evidence.single_frame(
            posterior, row, observation.class_ids, observation.roles, observation.log_prior
        )
        if self._is_blind(observation):
            return self._verdict(observation, posterior)
        points = Points.of(position, sublattice, evident, observation.vectors)
        tracks, grid, jump = self._places.place(points, observation)
        index = self._link(points, tracks, grid)
        self._evidence.change = self._chance_of_change(observation, row)
        self._evidence.fold(tracks, index, value, posterior, row, self._now)
        tracks.see(index, position, self._now)
        tracks.miss(points.low + tracks.spacing, points.high - tracks.spacing, self._now)
        transitions = ()
        if not tracks.provisional:
            scene = Scene.of(
                self._now, len(tracks), index, position, states, self._sigma_px, observation.height
            )
            transitions = find_transitions(tracks, scene, self._rule, self._evidence)
            for transition in transitions:
                if transition.type == "defect.disappeared":
                    # The track ends with the defect: another one that comes to this site will not be the same.
                    tracks.track[tracks.track == transition.track] = self._next_track
                    self._next_track += 1
        return self._verdict(observation, posterior, tracks, index, jump, transitions)

    def _is_blind(self, observation: Observation) -> bool:
        """Whether a frame is left out because its lattice was not found, though the specimen has one."""
        tracks = self._places.tracks
        if tracks is None or not tracks.crystalline or observation.vectors is not None:
            self._blind = 0
        else:
            self._blind += 1
        return 0 < self._blind <= self._blind_frames

    def _link(self, points: Points, tracks: TrackMap, grid: Grid) -> NDArray[np.int64]:
        """Track of each site as a row of the map, new ones included; -1 where two sites want one track."""
        radius = LINK_RADIUS * tracks.spacing
        near, index = grid.link(points.position, tracks.drift, points.sublattice, radius)
        complete = index.min() >= 0
        linked = np.arange(len(index)) if complete else np.flatnonzero(index >= 0)
        if len(linked) >= MIN_REFINING:
            some = linked[:: len(linked) // REFINING_SITES + 1]
            residual = points.position[some] - tracks.drift - tracks.position[index[some]]
            shift = np.array([median(residual[:, axis]) for axis in range(2)])
            tracks.drift = tracks.drift + shift
            sigma = max(NORMAL * median(np.abs(residual - shift).ravel()), MIN_SIGMA_PX)
            self._sigma_px += GAIN * (sigma - self._sigma_px)
        new = np.flatnonzero(near < 0) if not complete else linked[:0]
        if len(new):
            index[new] = len(tracks) + np.arange(len(new))
            numbers = np.arange(self._next_track, self._next_track + len(new), dtype=np.int32)
            self._next_track += len(new)
            tracks.append(points.position[new] - tracks.drift, points.sublattice[new], numbers, self._now)
        return index

    def _chance_of_change(self, observation: Observation, row: NDArray[np.int64]) -> float:
        """Chance of a change between two frames that keeps the rate of false events."""
        now = observation.time_s
        if now is not None:
            if self._seen_at_s is not None and now > self._seen_at_s:
                self._period_s += GAIN * (min(now - self._seen_at_s, LONGEST_PERIOD_S) - self._period_s)
            self._seen_at_s = now
        defects = self._evidence.expected_defects(row)
        false_per_frame = self._false_events_per_hour * self._period_s / 3600
        return false_alarm_change(false_per_frame, defects, self._rule.appear_above)

    def _forget(self, tracks: TrackMap, n_sites: int) -> None:
        """Drop sites that are gone, those long out of view, and the longest unseen beyond the bound."""
        gone = (tracks.missed >= ABSENT_FRAMES) & (tracks.announced < 0)
        tracks.keep(~gone & (tracks.last_seen >= self._now - self._memory_frames))
        bound = max(self._max_tracks, 2 * n_sites)
        if len(tracks) > bound:
            unseen = np.argsort(-tracks.last_seen, kind="stable")
            tracks.keep(np.isin(np.arange(len(tracks)), unseen[:bound]))

    def _verdict(
        self,
        observation: Observation,
        posterior: NDArray[np.float32],
        tracks: TrackMap | None = None,
        index: NDArray[np.int64] | None = None,
        jump: bool = False,
        transitions: tuple[Transition, ...] = (),
    ) -> Tracked:
        """What is known of each site: by its track, or by this frame alone where it has none."""
        current = self._places.tracks
        if tracks is None or index is None:
            index = np.full(len(posterior), -1)
            known, number = posterior, np.zeros(0, np.int32)
        else:
            known, number = tracks.posterior, tracks.track
        roles = np.array([ROLES.index(role) for role in observation.roles], np.uint8)
        class_ids = observation.class_ids.astype(np.int16)
        n = len(index)
        told, class_id = np.empty(n, np.int32), np.empty(n, np.int16)
        role, confidence = np.empty(n, np.uint8), np.empty(n, np.float32)
        _most_probable(index, posterior, known, number, class_ids, roles, told, class_id, role, confidence)
        other_class, other_share = np.full((n, N_OTHERS), -1, np.int16), np.zeros((n, N_OTHERS), np.float32)
        _next_probable(index, posterior, known, class_ids, class_id, confidence, other_class, other_share)
        seen = np.zeros(n, np.int64) if tracks is None else np.where(index >= 0, tracks.run_frames[index], 0)
        drift = (0.0, 0.0) if current is None else (float(current.drift[0]), float(current.drift[1]))
        alone = drift if current is None else (*current.specimen_drift.tolist(),)
        return Tracked(
            track=told,
            class_id=class_id,
            role=role,
            confidence=confidence,
            other_class=other_class,
            other_share=other_share,
            drift_px=drift,
            jump=jump,
            transitions=transitions,
            specimen_drift_px=alone,
            sigma_px=self._sigma_px,
            prospect=self._evidence.prospect(seen),
            away=None if tracks is None else self._away(tracks, observation.shape, class_ids, roles),
        )

    def _away(
        self,
        tracks: TrackMap,
        shape: tuple[int, int],
        class_ids: NDArray[np.int16],
        roles: NDArray[np.uint8],
    ) -> Away | None:
        """Defects of the map in use that lie beside the newest frame; None where there are none."""
        rows = np.flatnonzero(tracks.last_seen < self._now)
        place = tracks.position[rows] + tracks.drift
        beside = np.any((place < 0) | (place > np.array(shape) - 1), axis=1)
        rows, place = rows[beside], place[beside]
        best = tracks.posterior[rows].argmax(axis=1)
        known = (roles[best] == ROLES.index("defect")) & (tracks.posterior[rows, best] > 0)
        rows, place, best = rows[known], place[known], best[known]
        if not len(rows):
            return None
        return Away(
            position=place,
            sublattice=tracks.sublattice[rows],
            track=tracks.track[rows],
            class_id=class_ids[best],
            confidence=np.minimum(tracks.posterior[rows, best], np.float32(1.0)),
            prospect=self._evidence.prospect(tracks.run_frames[rows]),
        )


@njit(cache=True, nogil=True)
def _most_probable(
    index, alone, known, number, class_ids, roles, track, class_id, role, confidence
):  # pragma: no cover - compiled
    """Number, most probable class, its role and its probability of each site, into the last four arguments."""
    n, classes = alone.shape
    half = np.float32(0.5)
    for i in range(n):
        t = index[i]
        # nothing was ever said about the site: unknown
        best, most = classes - 1, np.float32(0.0)
        for k in range(classes):
            share = known[t, k] if t >= 0 else alone[i, k]
            if share > most:
                best, most = k, share
                if share > half:
                    break
        track[i] = number[t] if t >= 0 else -1
        # shares are rounded on their way
        class_id[i], role[i], confidence[i] = class_ids[best], roles[best], min(most, np.float32(1.0))


@njit(cache=True, nogil=True)
def _next_probable(
    index, alone, known, class_ids, class_id, confidence, other_class, other_share
):  # pragma: no cover - compiled
    """Classes that come after the most probable one of each site, and their probabilities, into the last two."""
    n, classes = alone.shape
    least = np.float32(MIN_ALTERNATIVE)
    for i in range(n):
        # nothing else can be worth a mention
        if confidence[i] > 1 - least:
            continue
        t = index[i]
        for k in range(classes):
            share = known[t, k] if t >= 0 else alone[i, k]
            if share < least or class_ids[k] == class_id[i]:
                continue
            at = N_OTHERS
            while at > 0 and share > other_share[i, at - 1]:
                at -= 1
            for later in range(N_OTHERS - 1, at, -1):
                other_class[i, later], other_share[i, later] = (
                    other_class[i, later - 1],
                    other_share[i, later - 1],
                )
            if at < N_OTHERS:
                other_class[i, at], other_share[i, at] = class_ids[k], share
