"""What tracks have gathered: the average moments of every site over the frames since it last changed.

Sites are seen in different frames: some come into view late, some change. So what the hosts of a frame have in common
(focus, dose, contamination that change) must not get into what sites differ by: it is taken off in every frame, and its
average is added again.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Frames averaged at most: then the older ones count half, so that what changes slowly is followed.
MOST_FRAMES = 128
# Twice as many, and so on up to these, where that brings more: the hosts' averages come nearer to one another by at
# least this power of the number of frames. Noise alone makes it a half, what they differ by themselves nothing.
LONGEST_FRAMES = 1024
LEAST_FALL = 0.25
# A site has changed where it is surely of another class than it surely was.
SURE = np.float32(0.99)
# A track that was not seen for so many frames is forgotten.
FORGET_FRAMES = 100
# Nothing was ever sure about a site.
NOTHING = -2
# State of a site that is no defect.
HOST = -1


class HostLevel:
    """Average moments of the hosts of each sublattice: in the newest frame, and over the stream."""

    def __init__(self) -> None:
        self._mean: NDArray[np.float64] | None = None
        self._frames = np.zeros(0)

    def take(
        self, moments: NDArray[np.float32], sublattice: NDArray[np.int16], host: NDArray[np.bool_], most: int
    ) -> NDArray[np.float32]:
        """Take in a frame.

        Parameters
        ----------
        moments : ndarray of shape (n, n_moments), float32
        sublattice : ndarray of shape (n,), int16
        host : ndarray of shape (n,), bool
        most : int
            Frames averaged at most.

        Returns
        -------
        ndarray of shape (n_sublattices + 1, n_moments), float32
            What the hosts of this frame have in common, or the average where a sublattice has none here; the last row,
            for sites of no sublattice, is 0.
        """
        n = max(len(self._frames), int(sublattice.max(initial=-1)) + 1)
        self._enlarge(n, moments.shape[1])
        assert self._mean is not None
        sums, number = _host_sums(moments, sublattice, host, n)
        seen = number > 0
        level = self._mean.copy()
        level[seen] = sums[seen] / number[seen, None]
        self._frames[seen] = np.minimum(self._frames[seen] + 1, most)
        self._mean[seen] += (level[seen] - self._mean[seen]) / self._frames[seen, None]
        return np.concatenate([level, np.zeros((1, level.shape[1]))]).astype(np.float32)

    def usual(self, sublattice: NDArray[np.int16]) -> NDArray[np.float32]:
        """The average over the stream for some sites, shape (n, n_moments); 0 where nothing is known."""
        if self._mean is None:
            return np.zeros((len(sublattice), 1), np.float32)
        known = np.concatenate([self._mean, np.zeros((1, self._mean.shape[1]))]).astype(np.float32)
        return known[
            np.where((sublattice >= 0) & (sublattice < len(self._mean)), sublattice, len(self._mean))
        ]

    def _enlarge(self, n: int, n_moments: int) -> None:
        mean = np.zeros((n, n_moments))
        if self._mean is not None:
            mean[: len(self._mean)] = self._mean
        self._mean = mean
        self._frames = np.concatenate([self._frames, np.zeros(n - len(self._frames))])


class SiteAverages:
    """Sums of the moments of sites, by track; bounded by the number of tracks in view."""

    def __init__(self) -> None:
        self._now = 0
        self._rows: NDArray[np.intp] | None = None
        self._newest = np.zeros(0, np.int32)
        self._track = np.zeros(0, np.int32)
        self._sum = np.zeros((0, 0), np.float32)
        self._frames = np.zeros(0, np.int64)
        self._state = np.zeros(0, np.int16)
        self._seen = np.zeros(0, np.int64)
        self._hosts = HostLevel()
        self._most = MOST_FRAMES
        self._scatter: list[tuple[float, float]] = []

    @property
    def most_frames(self) -> int:
        """Frames averaged at most."""
        return self._most

    def scattered(self, frames: float, scatter: float) -> None:
        """Hear how far hosts are from one another; where more frames have made that less, more are averaged.

        Parameters
        ----------
        frames : float
            How many frames with noise of their own the averages were made of.
        scatter : float
            Standard deviation of the hosts' averages, in any unit that stays the same.
        """
        before = [(n, old) for n, old in self._scatter if 2 * n <= frames]
        self._scatter = [(n, old) for n, old in self._scatter if n < frames] + [(frames, scatter)]
        if 2 * frames < self._most or not before:
            return
        n, old = before[-1]
        if scatter <= old * (n / frames) ** LEAST_FALL:
            self._most = min(2 * self._most, LONGEST_FRAMES)

    def update(
        self,
        track: NDArray[np.int32],
        moments: NDArray[np.float32],
        state: NDArray[np.int16],
        confidence: NDArray[np.float32],
        usable: NDArray[np.bool_],
        index: NDArray[np.int32],
        sublattice: NDArray[np.int16],
    ) -> None:
        """Take in a frame.

        Parameters
        ----------
        track : ndarray of shape (n,), int32
            -1 where a site has none.
        moments : ndarray of shape (n, n_moments), float32
        state : ndarray of shape (n,), int16
            Class of each defect; -1 for all that is none, and another negative number for what is of no class.
        confidence : ndarray of shape (n,), float32
        usable : ndarray of shape (n,), bool
            Sites whose patches show them as they are; nothing is learnt from the others.
        index : ndarray of shape (n, k), int32
            Their neighbours, negative where there is none: a site that changes has other patches around it.
        sublattice : ndarray of shape (n,), int16
        """
        self._now += 1
        rows = self._rows_of(track, moments.shape[1])
        changed = _changed(rows, state, confidence, self._state)
        if changed.any():
            around = index[changed]
            changed[around[around >= 0]] = True
            afresh = rows[changed]
            self._frames[afresh[afresh >= 0]] = 0
            self._sum[afresh[afresh >= 0]] = 0.0
        level = self._hosts.take(moments, sublattice, usable & (state == HOST), self._most)
        at = np.where(sublattice >= 0, sublattice, len(level) - 1)
        _add(rows, moments, level, at, usable, self._now, self._most, self._sum, self._frames, self._seen)

    def frames_of(self, track: NDArray[np.int32]) -> NDArray[np.int64]:
        """Of how many frames the average of each site is, 0 where nothing was gathered.

        Parameters
        ----------
        track : ndarray of shape (n,), int32
            Tracks of the newest frame, or some of them.

        Returns
        -------
        ndarray of shape (n,), int64
        """
        rows = self._known(track)
        return np.where(rows >= 0, self._frames[rows], 0) if len(self._frames) else np.zeros(len(rows), int)

    def of(self, track: NDArray[np.int32], sublattice: NDArray[np.int16]) -> NDArray[np.float32]:
        """Average moments of some sites, as if all had been seen in the same frames.

        Parameters
        ----------
        track : ndarray of shape (n,), int32
            Tracks of the newest frame, or some of them.
        sublattice : ndarray of shape (n,), int16

        Returns
        -------
        ndarray of shape (n, n_moments), float32
            0 where nothing was gathered.
        """
        frames = self.frames_of(track)
        mean = self._sum[np.maximum(self._known(track), 0)] / np.maximum(frames, 1)[:, None]
        mean += self._hosts.usual(sublattice)
        mean[frames == 0] = 0.0
        return mean.astype(np.float32)

    def forget_states(self) -> None:
        """The classes are others now: that a site is of another one does not mean that it has changed."""
        self._state[:] = NOTHING

    def _rows_of(self, track: NDArray[np.int32], n_moments: int) -> NDArray[np.intp]:
        if self._rows is not None and np.array_equal(track, self._newest):
            return self._rows
        if self._sum.shape[1] != n_moments:
            self._track, self._sum = self._track[:0], np.zeros((0, n_moments), np.float32)
            self._frames, self._state, self._seen = self._frames[:0], self._state[:0], self._seen[:0]
            self._hosts = HostLevel()
        if len(self._track) > 2 * len(track):
            self._keep(self._seen >= self._now - FORGET_FRAMES)
        rows = self._known(track)
        new = np.unique(track[(track >= 0) & (np.append(self._track, -1)[rows] != track)])
        if len(new):
            n = len(new)
            self._track = np.concatenate([self._track, new.astype(np.int32)])
            self._sum = np.concatenate([self._sum, np.zeros((n, n_moments), np.float32)])
            self._frames = np.concatenate([self._frames, np.zeros(n, np.int64)])
            self._state = np.concatenate([self._state, np.full(n, NOTHING, np.int16)])
            self._seen = np.concatenate([self._seen, np.full(n, self._now)])
            if len(self._track) > n and self._track[-n - 1] > new[0]:
                # numbers grow, so that new ones nearly always come last
                self._keep(np.argsort(self._track, kind="stable"))
            rows = self._known(track)
        self._rows = rows
        self._newest = track.copy()
        return self._rows

    def _known(self, track: NDArray[np.int32]) -> NDArray[np.intp]:
        """Row of each track, or where a new one belongs; -1 for none."""
        return np.where(track >= 0, np.searchsorted(self._track, track), -1)

    def _keep(self, which: NDArray) -> None:
        self._track, self._sum, self._frames = self._track[which], self._sum[which], self._frames[which]
        self._state, self._seen = self._state[which], self._seen[which]


@njit(cache=True, nogil=True)
def _changed(rows, state, confidence, known):  # pragma: no cover - compiled
    """Sites that are surely of another class than they surely were; what they surely are now is noted."""
    out = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        r = rows[i]
        if r >= 0 and confidence[i] >= SURE:
            out[i] = known[r] != NOTHING and known[r] != state[i]
            known[r] = state[i]
    return out


@njit(cache=True, nogil=True)
def _add(rows, moments, level, at, usable, now, most, total, frames, seen):  # pragma: no cover - compiled
    half = np.float32(0.5)
    for i in range(len(rows)):
        r = rows[i]
        if r < 0:
            continue
        seen[r] = now
        if not usable[i]:
            continue
        if frames[r] >= most:
            frames[r] //= 2
            for k in range(total.shape[1]):
                total[r, k] *= half
        frames[r] += 1
        for k in range(total.shape[1]):
            total[r, k] += moments[i, k] - level[at[i], k]


@njit(cache=True, nogil=True)
def _host_sums(moments, sublattice, host, n):  # pragma: no cover - compiled
    """Sums over the hosts of each sublattice, and how many they are."""
    sums, number = np.zeros((n, moments.shape[1])), np.zeros(n)
    for i in range(len(moments)):
        s = sublattice[i]
        if s >= 0 and host[i]:
            number[s] += 1.0
            for k in range(moments.shape[1]):
                sums[s, k] += moments[i, k]
    return sums, number
