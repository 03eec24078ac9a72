"""Numbers for each frame in; a course over time, the finer the newer, of bounded size out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CAPACITY = 1024
RATIO = 4
LEVELS = 8


@dataclass(slots=True, eq=False)
class Bins:
    """Successive frames, taken together bin by bin.

    Attributes
    ----------
    start, end : ndarray of shape (n,), float64
        Times of the first and the last frame of each bin.
    frames : ndarray of shape (n,), int64
        Frames in it.
    low, high, mean : ndarray of shape (n, n_values), float32
        Of each value over those frames; low and high of those frames that have it, the mean where all of them do.
    sums : ndarray of shape (n, n_sums), float32
        Of each quantity that adds up.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    frames: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float32]
    sums: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def empty(cls, n: int, n_values: int, n_sums: int) -> Bins:
        """Bins of nothing.

        Parameters
        ----------
        n : int
            Bins.
        n_values, n_sums : int
            Columns, as in `BinnedSeries`.

        Returns
        -------
        Bins
        """
        low, high, mean = np.zeros((3, n, n_values), np.float32)
        sums = np.zeros((n, n_sums), np.float32)
        return cls(np.zeros(n), np.zeros(n), np.zeros(n, np.int64), low, high, mean, sums)

    def arrays(self) -> tuple[NDArray, ...]:
        """All of them, in the order of the attributes."""
        return self.start, self.end, self.frames, self.low, self.high, self.mean, self.sums

    def take(self, rows: NDArray[np.intp] | slice) -> Bins:
        """Some of the bins.

        Parameters
        ----------
        rows : ndarray of shape (m,), intp, or slice

        Returns
        -------
        Bins
        """
        return Bins(*(array[rows] for array in self.arrays()))

    def merged(self, factor: int) -> Bins:
        """Every ``factor`` successive bins as one; the last one may be of fewer.

        Parameters
        ----------
        factor : int

        Returns
        -------
        Bins
            Itself where `factor` is 1.
        """
        at = np.arange(0, len(self), factor)
        if factor <= 1 or not len(self):
            return self
        frames = np.add.reduceat(self.frames, at)
        total = np.add.reduceat(self.mean * self.frames[:, None], at)
        last = np.append(at[1:], len(self)) - 1
        return Bins(
            self.start[at],
            self.end[last],
            frames,
            np.fmin.reduceat(self.low, at),
            np.fmax.reduceat(self.high, at),
            (total / frames[:, None]).astype(np.float32),
            np.add.reduceat(self.sums, at, dtype=np.float64).astype(np.float32),
        )


def _joined(parts: list[Bins]) -> Bins:
    return Bins(*(np.concatenate(arrays) for arrays in zip(*(p.arrays() for p in parts), strict=True)))


class _Ring:
    """The newest bins of one width, and those that will make the next bin of the level above."""

    def __init__(self, n_values: int, n_sums: int) -> None:
        self.bins = Bins.empty(CAPACITY, n_values, n_sums)
        self.pushed = 0

    def push(self, one: Bins) -> Bins | None:
        """Take in a bin; the last `RATIO` of them as one when they are complete."""
        row = self.pushed % CAPACITY
        for mine, new in zip(self.bins.arrays(), one.arrays(), strict=True):
            mine[row] = new[0]
        self.pushed += 1
        return self.newest(RATIO).merged(RATIO) if self.pushed % RATIO == 0 else None

    def newest(self, n: int) -> Bins:
        """The newest ``n`` bins, oldest first."""
        return self.bins.take(np.arange(self.pushed - n, self.pushed) % CAPACITY)

    @property
    def kept(self) -> int:
        return min(self.pushed, CAPACITY)


class BinnedSeries:
    """The course of some values over a stream that does not end.

    The newest `CAPACITY` frames are kept one by one, those before in bins of `RATIO` frames, then of
    ``RATIO²`` and so on: what is long ago is kept coarser. Memory does not grow with the stream.

    Parameters
    ----------
    n_values : int
        Quantities of which a bin keeps minimum, mean and maximum, such as counts.
    n_sums : int
        Quantities that a bin adds up, such as seconds or numbers of events.
    """

    def __init__(self, n_values: int, n_sums: int) -> None:
        self._shape = n_values, n_sums
        self._rings = [_Ring(n_values, n_sums)]
        self._one = Bins.empty(1, n_values, n_sums)

    def push(self, time: float, values: NDArray[np.floating], sums: NDArray[np.floating]) -> None:
        """Take in a frame.

        Parameters
        ----------
        time : float
            Not before that of the frame before [s].
        values : ndarray of shape (n_values,)
            NaN where the frame has none.
        sums : ndarray of shape (n_sums,)
        """
        one = self._one
        one.start[0] = one.end[0] = time
        one.frames[0] = 1
        one.low[0] = one.high[0] = one.mean[0] = values
        one.sums[0] = sums
        bins: Bins | None = one
        for level, ring in enumerate(self._rings):
            bins = ring.push(bins)
            if bins is None:
                return
            if level + 1 == len(self._rings) < LEVELS:
                self._rings.append(_Ring(*self._shape))

    def forget(self, value: int, sums: list[int]) -> None:
        """Set a value and some sums to zero in every bin, so that their columns serve for something else.

        Parameters
        ----------
        value : int
            Column of the values.
        sums : list of int
            Columns of the sums.
        """
        for ring in self._rings:
            for array in (ring.bins.low, ring.bins.high, ring.bins.mean):
                array[:, value] = 0.0
            ring.bins.sums[:, sums] = 0.0

    def view(self, points: int, since: float | None = None) -> Bins:
        """The course as bins of one width, the finest that is kept for all of that time.

        Parameters
        ----------
        points : int
            Bins at most, at least 1.
        since : float, optional
            Only frames after this time [s], as far as bins tell; without it, all there ever were.

        Returns
        -------
        Bins
            Oldest first.
        """
        level = 0
        while level + 1 < len(self._rings) and not self._covers(self._rings[level], since):
            level += 1
        parts = [self._rings[level].newest(self._rings[level].kept)]
        # What is newer than the last complete bin of this level is still on the finer ones.
        tail = [ring.newest(ring.pushed % RATIO) for ring in reversed(self._rings[:level])]
        rest = _joined(tail) if tail else None
        if rest is not None and len(rest):
            parts.append(rest.merged(len(rest)))
        bins = _joined(parts)
        if since is not None:
            bins = bins.take(np.flatnonzero(bins.end > since))
        return bins.merged(-(-len(bins) // points)) if len(bins) > points else bins

    @staticmethod
    def _covers(ring: _Ring, since: float | None) -> bool:
        if ring.pushed <= CAPACITY:
            return True
        return since is not None and float(ring.newest(CAPACITY).end[0]) <= since
