"""Defects that begin, are seen and end in; how long they live out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.statistics._rates import poisson_interval

KEPT = 4096
MAX_OPEN = 16_384
MAX_CLASSES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """How long defects live.

    Attributes
    ----------
    n_ended : int
        Defects that were seen to disappear, whether or not they were seen to appear.
    exposure_s : float
        Time that all defects together were watched [s].
    mean_s : float or None
        ``exposure_s / n_ended``, the mean lifetime where the chance to disappear does not depend on age [s]; ``None``
        before the first has ended.
    mean_low_s, mean_high_s : float or None
        Its interval, confidence 95 % [s].
    n_followed : int
        Defects that were seen to appear, of which the curve is made.
    time_s, share : ndarray of shape (n,), float64
        Share of the defects that are still there this long after they appeared, at each age at which one ended
        (Kaplan and Meier 1958: those that are still there, or were lost from view, count as long as they were seen).
    median_s : float or None
        Age at which half are gone [s]; ``None`` where more than half are still there.
    """

    n_ended: int
    exposure_s: float
    mean_s: float | None
    mean_low_s: float | None
    mean_high_s: float | None
    n_followed: int
    time_s: NDArray[np.float64]
    share: NDArray[np.float64]
    median_s: float | None


def survival(
    age_s: NDArray[np.floating], ended: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of things that reach an age, by the product-limit estimator of Kaplan and Meier.

    Parameters
    ----------
    age_s : ndarray of shape (n,)
        Age at which each ended or was last seen [s].
    ended : ndarray of shape (n,), bool
        Whether it ended then.

    Returns
    -------
    time_s : ndarray of shape (n_ages,), float64
        Ages at which some ended, rising.
    share : ndarray of shape (n_ages,), float64
        Share that outlives each of them.
    """
    time, deaths = np.unique(np.asarray(age_s, np.float64)[ended], return_counts=True)
    at_risk = len(age_s) - np.searchsorted(np.sort(age_s), time, side="left")
    return time, np.cumprod(1.0 - deaths / at_risk, dtype=np.float64)


@dataclass(slots=True)
class _Open:
    class_id: int
    born: float
    seen: float


class Lifetimes:
    """Keeps account of defects from the time they appear to the time they disappear; bounded.

    The newest `KEPT` lives are kept one by one, and of each class the time that was watched and the number that ended.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._lives: deque[tuple[int, float, bool]] = deque(maxlen=KEPT)
        self._exposure_s: dict[int, float] = {}
        self._ended: dict[int, int] = {}

    def begin(self, track: int, class_id: int, time: float) -> None:
        """A defect was seen to appear at this time.

        Parameters
        ----------
        track : int
        class_id : int
        time : float
            [s]
        """
        self._open[track] = _Open(class_id, time, time)
        if len(self._open) > MAX_OPEN:
            self._lose(min(self._open, key=lambda one: self._open[one].seen))

    def reclassify(self, track: int, class_id: int) -> None:
        """A defect is of another class now.

        Parameters
        ----------
        track : int
            One that was not seen to appear is passed over.
        class_id : int
        """
        if track in self._open:
            self._open[track].class_id = class_id

    def end(self, track: int, class_id: int, time: float) -> None:
        """A defect of this class disappeared at this time, whether or not it was seen to appear.

        Parameters
        ----------
        track : int
        class_id : int
        time : float
            [s]
        """
        self._ended[class_id] = self._ended.get(class_id, 0) + 1
        one = self._open.pop(track, None)
        if one is not None:
            self._lives.append((class_id, max(0.0, time - one.born), True))

    def see(self, tracks: Iterable[int], time: float) -> None:
        """These defects are in view at this time.

        Parameters
        ----------
        tracks : iterable of int
        time : float
            [s]
        """
        for track in tracks:
            if track in self._open:
                self._open[track].seen = time

    def expose(self, class_id: int, seconds: float) -> None:
        """Defects of a class were watched.

        Parameters
        ----------
        class_id : int
        seconds : float
            For how long, added up over all of them [s].
        """
        if class_id not in self._exposure_s and len(self._exposure_s) >= MAX_CLASSES:
            oldest = next(iter(self._exposure_s))
            del self._exposure_s[oldest]
            self._ended.pop(oldest, None)
        self._exposure_s[class_id] = self._exposure_s.get(class_id, 0.0) + seconds

    def lose_all(self) -> None:
        """Nothing that was followed will be known again, as after a new series begins."""
        for track in list(self._open):
            self._lose(track)

    def _lose(self, track: int) -> None:
        one = self._open.pop(track)
        self._lives.append((one.class_id, one.seen - one.born, False))

    def survival(self, class_id: int | None = None) -> Survival:
        """How long defects live.

        Parameters
        ----------
        class_id : int, optional
            Only those that are, or were at the end, of this class.

        Returns
        -------
        Survival
        """
        lives = [*self._lives, *((o.class_id, o.seen - o.born, False) for o in self._open.values())]
        if class_id is not None:
            lives = [life for life in lives if life[0] == class_id]
        time, share = survival(
            np.array([age for _, age, _ in lives], np.float64), np.array([over for *_, over in lives], bool)
        )
        gone = np.flatnonzero(share <= 0.5)
        wanted = self._exposure_s if class_id is None else [class_id]
        exposure = sum(self._exposure_s.get(one, 0.0) for one in wanted)
        ended = sum(self._ended.values()) if class_id is None else self._ended.get(class_id, 0)
        low, high = poisson_interval(ended)
        watched = exposure > 0
        return Survival(
            ended,
            exposure,
            exposure / ended if ended and watched else None,
            exposure / high if watched else None,
            exposure / low if low and watched else None,
            len(lives),
            time,
            share,
            float(time[gone[0]]) if len(gone) else None,
        )
