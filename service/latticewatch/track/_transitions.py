"""From what is known about each site to what is worth an event: thresholds with hysteresis, and hops as one move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.track._evidence import Evidence
from latticewatch.track._map import TrackMap
from latticewatch.track._records import MIN_ALTERNATIVE, N_OTHERS, Transition, TransitionType
from latticewatch.track._restless import ABSENT_FRAMES, find_restless
from latticewatch.track._segments import EXCESS
from latticewatch.track._states import NO_DEFECT, States

# A hop goes to a neighbouring site, this many lattice constants away at most.
HOP_REACH = 1.2
# How sure one is of a hop that both ends speak for.
HOP_CERTAINTY = 0.9999


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """When a change is certain enough to be reported.

    Attributes
    ----------
    appear_above : float
        A defect is reported once its probability, over all classes of role defect, is above this.
    disappear_below : float
        It is reported gone once the probability that a defect or something unknown is there is below this.
    reclassify_above : float
        It is reported to be of another class once that one's probability is above this.
    hold_frames : int
        Frames that a change waits while a neighbouring site is undecided whether it is the other end of a hop, or the
        defect which one it is.
    miss_probability : float
        Chance that a peak which is there, but belongs to no site of the lattice, is not found in a frame.
    """

    appear_above: float = 0.995
    disappear_below: float = 0.005
    reclassify_above: float = 0.95
    hold_frames: int = 3
    miss_probability: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The newest frame on its map.

    Attributes
    ----------
    now : int
        Time of the frame.
    site : ndarray of shape (n_tracks,), int64
        Site of each track in the frame; -1 where the frame has none.
    position : ndarray of shape (n_sites, 2), float64
        Of the sites, in the frame [px].
    states : States
        Of the classes.
    sigma_px : float
        Standard deviation of a position along either axis.
    alike : ndarray of shape (n_classes, n_classes), bool
        Classes that one defect can be of, before and after a hop.
    """

    now: int
    site: NDArray[np.int64]
    position: NDArray[np.float64]
    states: States
    sigma_px: float
    alike: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        now: int,
        n_tracks: int,
        index: NDArray[np.int64],
        position: NDArray[np.float64],
        states: States,
        sigma_px: float,
        height: NDArray[np.floating] | None = None,
    ) -> Self:
        """A frame, by the track of each of its sites; -1 where a site has none."""
        site = np.full(n_tracks + 1, -1)
        site[index] = np.arange(len(index))  # those without a track go to the last, which is left out
        return cls(now, site[:-1], position, states, sigma_px, states.alike(height))


def find_transitions(
    tracks: TrackMap, scene: Scene, rule: Hysteresis, evidence: Evidence
) -> tuple[Transition, ...]:
    """Transitions that a frame brings; ``tracks`` is told what is announced by them.

    A disappearance and an appearance on neighbouring sites are one move, where both are of one class, or of classes
    that one defect can be of on different sublattices; the track goes with the defect. Each end of a hop looks for the
    other: if that one has gone most of the way (probability beyond one half), the move is reported; if it is undecided,
    the change waits, at most ``hold_frames``.
    """
    if not len(scene.states.defects):
        return ()
    row, busy = find_restless(
        scene.now,
        scene.site,
        tracks.position,
        tracks.sublattice,
        tracks.posterior,
        tracks.known,
        tracks.class_ids,
        scene.states.defects,
        scene.states.unknown,
        scene.alike,
        (tracks.run_frames, tracks.recent_frames, tracks.frames, tracks.missed),
        tracks.announced,
        tracks.settled,
        tracks.held_since,
        (rule.appear_above, rule.disappear_below, rule.reclassify_above, rule.miss_probability),
        evidence.change,
        HOP_REACH * tracks.spacing,
    )
    return _Update(tracks, scene, rule, row, evidence).run() if busy else ()


class _Update:
    """The rows of the map that may change, and the transitions found so far."""

    def __init__(
        self, tracks: TrackMap, scene: Scene, rule: Hysteresis, row: NDArray[np.intp], evidence: Evidence
    ) -> None:
        self.tracks, self.scene, self.rule, self.row = tracks, scene, rule, row
        self.evidence = evidence
        self.site = scene.site[row]
        self.used = np.zeros(len(self.row), bool)
        self._hop_together(evidence)
        self.posterior = tracks.posterior[self.row]
        self.announced = tracks.announced[self.row]
        columns = scene.states.defects
        self.probability = self.posterior[:, columns].sum(axis=1)
        best = columns[self.posterior[:, columns].argmax(axis=1)]
        self.class_id = tracks.class_ids[best].astype(np.int32)
        self.class_probability = np.take_along_axis(self.posterior, best[:, None], axis=1)[:, 0]
        # What is unknown may be the defect, changed or covered: it is no evidence that it has gone.
        self.presence = (
            self.probability + self.posterior[:, scene.states.unknown].sum(axis=1)
        ) * self._found()
        self.found: list[Transition] = []

    def _hop_together(self, evidence: Evidence) -> None:
        """Settle hops that both ends speak for, though neither might be enough alone.

        With o the odds of a site alone that a defect has gone from here (ε a) or has come there (ε π b, π its prior), a
        and b being what the frames say: that it hopped to one of n sites has the odds ε a b / n against that
        nothing happened, which is o o′ / (n ε π), and o or o′ are those of one of the two alone. The n are the sites
        of the lattice in reach, of whatever sublattice, on which the defect can be.
        """
        tracks, columns, change = self.tracks, self.scene.states.of_column, evidence.change
        announced, seen = tracks.announced[self.row] >= 0, self.site >= 0
        posterior = tracks.posterior[self.row]
        # What a site was before must be known: the doubts of its first frames are no change.
        stirred = tracks.recent_frames[self.row] > 0
        changed = ~stirred & (tracks.run_frames[self.row] < tracks.frames[self.row])
        gone = _odds(posterior[:, columns == NO_DEFECT].sum(axis=1)) * changed
        gone[stirred] = change * np.exp(tracks.known[self.row[stirred], EXCESS, NO_DEFECT])
        coming = np.flatnonzero(~announced & seen & (stirred | changed))
        for i in np.flatnonzero(announced & seen & (gone > change)).tolist():
            column = int((tracks.class_ids == tracks.announced[self.row[i]]).argmax())
            own, near = int(columns[column]), self._near(i, coming)
            target, prior = self._become(near, np.flatnonzero(self.scene.alike[column]), posterior, evidence)
            near, target, prior = near[prior > 0], target[prior > 0], prior[prior > 0]
            if not len(near):
                continue
            state = columns[target]
            come = np.where(
                stirred[near],
                change * prior * np.exp(tracks.known[self.row[near], EXCESS, state]),
                _odds(posterior[near, target]),
            )
            hop = gone[i] * come / (self._landing_sites(i, {*state.tolist(), own}, evidence) * change * prior)
            best = int(hop.argmax())
            if hop[best] / (1 + gone[i] + come[best]) > _odds(self.rule.appear_above):
                evidence.settle(tracks, int(self.row[i]), NO_DEFECT, HOP_CERTAINTY)
                evidence.settle(tracks, int(self.row[near[best]]), int(state[best]), HOP_CERTAINTY)
                coming = coming[coming != near[best]]

    def _become(
        self,
        near: NDArray[np.intp],
        alike: NDArray[np.intp],
        posterior: NDArray[np.float32],
        evidence: Evidence,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Which of some classes that are one defect each row is likeliest to have become, and its prior there."""
        columns, sublattice = self.scene.states.of_column, self.tracks.sublattice[self.row[near]]
        prior = np.stack([evidence.priors(sublattice, int(columns[k])) for k in alike], 1)
        best = np.where(prior > 0, posterior[near][:, alike], -1.0).argmax(1)
        return alike[best], np.take_along_axis(prior, best[:, None], 1)[:, 0]

    def run(self) -> tuple[Transition, ...]:
        """Find them all."""
        rule, announced = self.rule, self.announced >= 0
        self._settle(announced)
        appearing = ~announced & (self.probability > rule.appear_above)
        leaving = announced & (self.presence < rule.disappear_below)
        changed = announced & ~leaving & (self.site >= 0) & (self.class_id != self.announced)
        changed &= self.class_probability > rule.reclassify_above
        stirred = self.tracks.recent_frames[self.row] > 0
        self.sources = np.flatnonzero(announced & (stirred | (self.presence < rule.appear_above)) & ~changed)
        self.targets = np.flatnonzero(~announced & (self.probability > rule.disappear_below))
        for i in np.flatnonzero(changed).tolist():
            self._announce("defect.reclassified", i, int(self.class_id[i]), previous=int(self.announced[i]))
        for i in np.flatnonzero(appearing).tolist():
            self._appear(i)
        for i in np.flatnonzero(leaving).tolist():
            if not self.used[i]:
                self._leave(i)
        calm = self.row[~(appearing | leaving)]
        self.tracks.held_since[calm] = -1
        return tuple(self.found)

    def _appear(self, i: int) -> None:
        near = self._near(i, self._like(self.sources, self.announced, int(self.class_id[i])))
        if len(near):
            source = int(near[self.presence[near].argmin()])
            if self.presence[source] < 0.5:
                self._move(source, i)
                return
            if self._wait(i):
                return
        # That a defect is there may be clear before it is clear which one; a guess would have to be taken back.
        if self.class_probability[i] < self.rule.reclassify_above and self._wait(i):
            return
        self._announce("defect.appeared", i, int(self.class_id[i]))

    def _leave(self, i: int) -> None:
        near = self._near(i, self._like(self.targets, self.class_id, int(self.announced[i])))
        if len(near):
            target = int(near[self.probability[near].argmax()])
            if self.probability[target] > 0.5:
                self._move(i, target)
                return
            if self._wait(i):
                return
        self._emit("defect.disappeared", i, int(self.announced[i]), 1.0 - float(self.presence[i]))
        self.tracks.announced[self.row[i]] = -1

    def _move(self, source: int, target: int) -> None:
        """The defect takes its track along; the sites exchange theirs."""
        here, there = self.row[source], self.row[target]
        self.tracks.track[[here, there]] = self.tracks.track[[there, here]]
        self.tracks.announced[here] = -1
        self.tracks.settled[here] = self.scene.now
        self.used[source] = True
        before, there = int(self.announced[source]), int(self.class_id[target])
        if there == before or not self._can_be(target, before):
            self._announce("defect.moved", target, there, None if there == before else before)
        else:
            self._announce("defect.moved", target, before)

    def _can_be(self, i: int, class_id: int) -> bool:
        """Whether the site of a row can have a class."""
        state = int(self.scene.states.of_column[(self.tracks.class_ids == class_id).argmax()])
        return bool(self.evidence.priors(self.tracks.sublattice[self.row[[i]]], state)[0] > 0)

    def _like(self, rows: NDArray[np.intp], class_id: NDArray[np.int32], wanted: int) -> NDArray[np.intp]:
        """Those of some rows whose class can be the same defect as one of the wanted class."""
        ids = self.tracks.class_ids
        place = int((ids == wanted).argmax())
        return rows[np.isin(class_id[rows], ids[self.scene.alike[place]])]

    def _announce(self, kind: TransitionType, i: int, class_id: int, previous: int | None = None) -> None:
        column = int(np.flatnonzero(self.tracks.class_ids == class_id)[0])
        self._emit(kind, i, class_id, float(self.posterior[i, column]), previous)
        self.tracks.announced[self.row[i]] = class_id
        self.used[i] = True

    def _emit(
        self, kind: TransitionType, i: int, class_id: int, confidence: float, previous: int | None = None
    ) -> None:
        row, site = self.row[i], int(self.site[i])
        position = self.scene.position[site] if site >= 0 else self.tracks.position[row] + self.tracks.drift
        others = {
            int(c): float(p)
            for c, p in zip(self.tracks.class_ids, self.posterior[i], strict=True)
            if c != class_id and p >= MIN_ALTERNATIVE
        }
        latency = max(0, self.scene.now - int(self.tracks.settled[row]) - 1)
        self.tracks.settled[row] = self.scene.now
        self.tracks.held_since[row] = -1
        self.found.append(
            Transition(
                kind,
                site,
                int(self.tracks.track[row]),
                class_id,
                previous,
                min(max(confidence, 0.0), 1.0),
                dict(sorted(others.items(), key=lambda item: -item[1])[:N_OTHERS]),
                (float(position[0]), float(position[1])),
                self.scene.sigma_px,
                latency,
            )
        )

    def _near(self, i: int, others: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of some rows that a hop from or to one row can reach, and that are not taken."""
        position = self.tracks.position
        distance = np.hypot(*(position[self.row[others]] - position[self.row[i]]).T)
        return others[(distance < HOP_REACH * self.tracks.spacing) & ~self.used[others]]

    def _landing_sites(self, i: int, states: Iterable[int], evidence: Evidence) -> int:
        """Number of sites that a defect may hop to from one row: those in reach on which it can be.

        Of several states that it may be in there, the one that can be on most of them.
        """
        tracks = self.tracks
        sublattice = tracks.sublattice[_within(tracks.position, self.row[i], HOP_REACH * tracks.spacing)]
        # the site itself is one of them
        ways = [int((evidence.priors(sublattice, state) > 0).sum()) - 1 for state in states]
        return max(*ways, 1)

    def _wait(self, i: int) -> bool:
        """Whether a change is held back once more."""
        row = self.row[i]
        if self.tracks.held_since[row] < 0:
            self.tracks.held_since[row] = self.scene.now
        return bool(self.scene.now - self.tracks.held_since[row] < self.rule.hold_frames)

    def _found(self) -> NDArray[np.float64]:
        """Probability that a track is still there, by whether the frame has its site.

        The absence of a peak speaks for itself; the absence of a site only says that the lattice was not found there.
        """
        missed = np.where(self.site >= 0, 0, self.tracks.missed[self.row])
        peak = self.tracks.sublattice[self.row] < 0
        return np.where(peak, self.rule.miss_probability**missed, missed < ABSENT_FRAMES)

    def _settle(self, announced: NDArray[np.bool_]) -> None:
        """Note where the evidence agrees with what is announced."""
        own = np.where(self.tracks.class_ids == self.announced[:, None], self.posterior, 0.0).sum(axis=1)
        self.tracks.settled[self.row[announced & (own > 0.5) & (self.site >= 0)]] = self.scene.now


@njit(cache=True, nogil=True)
def _within(position, row, reach):  # pragma: no cover - compiled
    """Rows of the places nearer to that of one row than a reach, itself among them; position (n, 2)."""
    out = np.empty(len(position), np.intp)
    n = 0
    for k in range(len(position)):
        down, across = abs(position[k, 0] - position[row, 0]), abs(position[k, 1] - position[row, 1])
        if down < reach and across < reach and np.hypot(down, across) < reach:
            out[n] = k
            n += 1
    return out[:n]


def _odds(probability):
    """Odds of a probability, or of each of several; those of what is as good as certain are bounded."""
    return probability / np.maximum(1 - probability, 1e-9)
