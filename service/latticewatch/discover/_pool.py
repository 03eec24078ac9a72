"""The pool of what no class explains, by track: it fills frame by frame, and holds what may become a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.model import DISPLACED, NONE

# Frames in a row in which a site must be odd: a flash, a glitch of the scan or a hot pixel is odd in one.
FRAMES_NEEDED = 2
# A track that was not seen for so many frames is forgotten; the pool holds no more tracks than this.
FORGET_FRAMES = 10
MAX_TRACKS = 2000
# Where more than this share of the sites of a frame is odd, a whole region of it is something else. A single frame that
# is odd does not come here: it is doubtful, and teaches nothing.
MAX_SHARE = 0.2
MIN_CROWD = 30


@dataclass(slots=True)
class OddTrack:
    """What is known of one site that no class explains.

    Attributes
    ----------
    sublattice : int
    displaced : bool
        The column stands beside its place; otherwise its height is strange.
    frames : int
        Frames in a row.
    score : float
        Sum of the changes of height [sigma].
    shift : ndarray of shape (2,), float64
        Sum of the displacements (row, column) [px].
    row : int
        Its row in the newest frame.
    seen : int
        Number of that frame.
    square : float
        Sum of the squares of how unsure the changes of height were, that of noise being 1.
    """

    sublattice: int
    displaced: bool
    frames: int
    score: float
    shift: NDArray[np.float64]
    row: int
    seen: int
    square: float = 0.0

    def precision(self, *, void: bool) -> float:
        """Of the mean change of height, in that of one frame's noise.

        What is not known of the light around a column is the same in every frame, and no number of them makes it less.
        Between the columns it is noise that is more.

        Parameters
        ----------
        void : bool
            It is a place between the columns.

        Returns
        -------
        float
        """
        variance = max(self.square / self.frames, 1.0)
        return self.frames / variance if void else 1 / (1 / self.frames + variance - 1)


class OddPool:
    """Tracks of odd sites; bounded however long the stream."""

    def __init__(self) -> None:
        self._tracks: dict[int, OddTrack] = {}
        self._now = 0

    @property
    def frames(self) -> int:
        """How many it has taken in."""
        return self._now

    def update(
        self,
        track: NDArray[np.int32],
        sublattice: NDArray[np.int16],
        score: NDArray[np.float64],
        shift: NDArray[np.float64],
        component: NDArray[np.int16],
        unknown: NDArray[np.floating],
        unsure: NDArray[np.float64],
        n_columns: int,
    ) -> bool:
        """Take in a frame.

        Parameters
        ----------
        track : ndarray of shape (n,), int32
            -1 where a site has none.
        sublattice : ndarray of shape (n,), int16
        score : ndarray of shape (n,), float64
            Change of height [sigma].
        shift : ndarray of shape (n, 2), float64
            Displacement (row, column) [px].
        component : ndarray of shape (n,), int16
            See `Verdict`.
        unknown : ndarray of shape (n,)
            Probability that no class explains the site, or only that of displacements of their own.
        unsure : ndarray of shape (n,), float64
            See `Verdict`.
        n_columns : int
            Sublattices from this one on are places between the columns. One that is not there has nothing in it, as a
            column may be that is no longer odd.

        Returns
        -------
        bool
            Whether the frame is sound: False where so much is odd that nothing is learnt from it.
        """
        self._now += 1
        strange = (component == NONE) | ((component == DISPLACED) & (unknown > 0.5))
        odd = np.flatnonzero(strange & (track >= 0))
        if len(odd) > max(MIN_CROWD, MAX_SHARE * len(track)):
            return False
        seen = set(track.tolist()) if self._tracks else set()
        now_odd = set(track[odd].tolist())
        self._tracks = {
            number: one
            for number, one in self._tracks.items()
            if number in now_odd
            or (number not in seen and one.sublattice < n_columns and self._now - one.seen <= FORGET_FRAMES)
        }
        for i in odd.tolist():
            number, displaced = int(track[i]), bool(component[i] == DISPLACED)
            one = self._tracks.get(number)
            if one is None or one.displaced != displaced:
                if one is None and len(self._tracks) >= MAX_TRACKS:
                    continue
                one = OddTrack(int(sublattice[i]), displaced, 0, 0.0, np.zeros(2), i, self._now)
                self._tracks[number] = one
            one.frames += 1
            one.score += float(score[i])
            one.square += float(unsure[i]) ** 2
            one.shift = one.shift + shift[i]
            one.row, one.seen = i, self._now
        return True

    def candidates(self, sublattice: int, *, displaced: bool) -> list[OddTrack]:
        """Tracks of one sublattice that were odd long enough, seen in the newest frame.

        Parameters
        ----------
        sublattice : int
        displaced : bool
            Columns beside their places; else those of a strange height.

        Returns
        -------
        list of OddTrack
        """
        return [
            one
            for one in self._tracks.values()
            if one.sublattice == sublattice
            and one.displaced == displaced
            and one.frames >= FRAMES_NEEDED
            and one.seen == self._now
        ]

    def measure_anew(self) -> None:
        """Forget how far columns are displaced; a class was found, whose light was part of that."""
        self._tracks = {number: one for number, one in self._tracks.items() if not one.displaced}

    def drop(self, members: Sequence[OddTrack]) -> None:
        """Forget tracks that have got a class.

        Parameters
        ----------
        members : sequence of OddTrack
        """
        gone = {id(one) for one in members}
        self._tracks = {number: one for number, one in self._tracks.items() if id(one) not in gone}
