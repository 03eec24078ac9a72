"""Scores of reported events and tracks against what really happened.

Sites of a crystal are discrete: a reported position is first taken to the column that it lies on, so that a true and a
reported thing correspond when they are on the same column, and no distance has to be weighed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True, slots=True)
class Happening:
    """A true event, or a reported one.

    Attributes
    ----------
    type : str
        As in the service's events.
    frame : int
        First frame that shows it, or the one whose analysis reported it.
    site : int
        Identity of the column; of a move, where the defect went.
    counted : bool
        Of a true event: whether it has to be reported. One that has not, at the border or as a defect comes into
        view, may be, at any later time.
    """

    type: str
    frame: int
    site: int
    counted: bool = True


@dataclass(slots=True)
class EventScore:
    """Events of one kind, or of several.

    Attributes
    ----------
    found, missed, false : list of Happening
        True events that were reported in time, those that were not, and reports that nothing true explains.
    delays : list of int
        Frames from each true event that was reported to its report.
    """

    found: list[Happening] = field(default_factory=list)
    missed: list[Happening] = field(default_factory=list)
    false: list[Happening] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Share of the true events that were reported; 1 where there was none."""
        n = len(self.found) + len(self.missed)
        return len(self.found) / n if n else 1.0

    @property
    def precision(self) -> float:
        """Share of the reports that are true; 1 where there was none."""
        n = len(self.found) + len(self.false)
        return len(self.found) / n if n else 1.0

    def of(self, *types: str) -> EventScore:
        """Those of some types alone."""
        kept = [k for k, event in enumerate(self.found) if event.type in types]
        return EventScore(
            [self.found[k] for k in kept],
            [event for event in self.missed if event.type in types],
            [event for event in self.false if event.type in types],
            [self.delays[k] for k in kept],
        )

    def __add__(self, other: EventScore) -> EventScore:
        return EventScore(
            self.found + other.found,
            self.missed + other.missed,
            self.false + other.false,
            self.delays + other.delays,
        )


def match_events(true: Sequence[Happening], reported: Sequence[Happening], max_delay: int) -> EventScore:
    """Match reports to true events: the same type, the same site, and not before it nor too long after it.

    Parameters
    ----------
    true, reported : sequence of Happening
    max_delay : int
        Frames that a report of a counted event may take. One that is not counted may be reported at any later time,
        and counts neither as found nor as missed nor as false.

    Notes
    -----
    In each type and site the earliest report goes with the earliest true event that counts, which matches as many as
    can be, and if there is none with one that does not count.
    """
    waiting: dict[tuple[str, int], list[Happening]] = defaultdict(list)
    for event in sorted(true, key=lambda event: event.frame):
        waiting[event.type, event.site].append(event)
    score = EventScore()
    for report in sorted(reported, key=lambda event: event.frame):
        here = [event for event in waiting[report.type, report.site] if event.frame <= report.frame]
        in_time = [event for event in here if event.counted and report.frame <= event.frame + max_delay]
        chosen = next(iter([*in_time, *(event for event in here if not event.counted)]), None)
        if chosen is None:
            score.false.append(report)
            continue
        waiting[report.type, report.site].remove(chosen)
        if chosen.counted:
            score.found.append(chosen)
            score.delays.append(report.frame - chosen.frame)
    score.missed = [event for left in waiting.values() for event in left if event.counted]
    return score


@dataclass(frozen=True, slots=True)
class TrackScore:
    """Tracks against true trajectories, over all frames.

    Attributes
    ----------
    truths, missed, false : int
        Defects of all frames that have to be found, those that were not, and sites wrongly said to be defects.
    switches : int
        Times that a trajectory is found under another track than the time before.
    breaks : int
        Times that a trajectory, found before, is lost for some frames and found again.
    mota, idf1 : float
    """

    truths: int
    missed: int
    false: int
    switches: int
    breaks: int
    mota: float
    idf1: float


def score_tracks(
    true: Sequence[Mapping[int, tuple[int, bool]]], found: Sequence[Mapping[int, int]]
) -> TrackScore:
    """CLEAR MOT and identity scores.

    Parameters
    ----------
    true : sequence of mapping of int to tuple of (int, bool)
        For each frame, trajectory of the defect on each site, and whether it is counted. One that is not may be found
        or not.
    found : sequence of mapping of int to int
        For each frame, track of each site that is said to be a defect.

    Notes
    -----
    MOTA = 1 − Σ(misses + false + switches) / Σ truths (Bernardin and Stiefelhagen 2008, eq. 2,
    doi:10.1155/2008/246309), a switch being a match with another track than the trajectory's last one. IDF1 = 2 IDTP /
    (truths + found), with the one-to-one assignment of tracks to trajectories that shares most frames (Ristani et al.
    2016, eq. 11, doi:10.1007/978-3-319-48881-3_2).
    """
    truths = missed = false = switches = breaks = claims = 0
    last_track: dict[int, int] = {}
    lost: set[int] = set()
    together: Counter[tuple[int, int]] = Counter()
    for real, said in zip(true, found, strict=True):
        for site, (trajectory, counted) in real.items():
            track = said.get(site)
            if not counted:
                continue
            truths += 1
            if track is None:
                missed += 1
                if trajectory in last_track:
                    lost.add(trajectory)
                continue
            claims += 1
            together[trajectory, track] += 1
            switches += last_track.get(trajectory, track) != track
            breaks += trajectory in lost
            lost.discard(trajectory)
            last_track[trajectory] = track
        false += len(said.keys() - real.keys())
    claims += false
    mota = 1 - (missed + false + switches) / truths if truths else 1.0
    idf1 = 2 * _most_shared(together) / (truths + claims) if truths + claims else 1.0
    return TrackScore(truths, missed, false, switches, breaks, mota, idf1)


def _most_shared(together: Counter[tuple[int, int]]) -> int:
    """Frames shared under the best one-to-one assignment."""
    if not together:
        return 0
    trajectories = {value: k for k, value in enumerate(sorted({key[0] for key in together}))}
    tracks = {value: k for k, value in enumerate(sorted({key[1] for key in together}))}
    shared = np.zeros((len(trajectories), len(tracks)))
    for (trajectory, track), n in together.items():
        shared[trajectories[trajectory], tracks[track]] = n
    return int(shared[linear_sum_assignment(shared, maximize=True)].sum())
