"""Which events are kept: so many, so young, and so much of the disk."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# How often age and size are looked at [s].
LOOK_EVERY_S = 60.0
# Most events that one write drops, so that nobody waits for a log that was made much smaller.
MOST_DROPPED = 10_000
# Dropped beyond what has to go for the size, as a share: it is not looked at again at once.
BEYOND = 0.05
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept at the most.

    Attributes
    ----------
    events : int
    age_days : float or None
        Older ones are dropped [days].
    size_mib : float or None
        Of what the log holds. The file does not get smaller: it is filled again [MiB].
    """

    events: int = 10_000_000
    age_days: float | None = None
    size_mib: float | None = None


def written(moment: datetime) -> str:
    """A moment as the log has it, such as ``2026-03-01T08:00:00.000000Z``: texts in the order of their times.

    Parameters
    ----------
    moment : datetime
        With its zone.

    Returns
    -------
    str
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Retention:
    """Says which event is the oldest to be kept.

    The newest is always kept, for the numbers go on after it.

    Parameters
    ----------
    limits : Limits
    clock : callable
        Monotonic time [s].
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._by_age_and_size = 0
        self._looked_at = -math.inf

    def first(self, database: sqlite3.Connection, first: int, last: int, now: datetime) -> int:
        """Number of the oldest event to be kept.

        Parameters
        ----------
        database : sqlite3.Connection
            In a transaction that writes.
        first, last : int
            Of the oldest event that is there, and of the newest.
        now : datetime
            With its zone.

        Returns
        -------
        int
            Between ``first`` and ``last``.
        """
        if self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            self._by_age_and_size = max(
                self._by_age(database, first, last, now), self._by_size(database, first, last)
            )
        wanted = max(last - self._limits.events + 1, self._by_age_and_size)
        return max(first, min(wanted, last, first + MOST_DROPPED))

    def _by_age(self, database: sqlite3.Connection, first: int, last: int, now: datetime) -> int:
        """The first event that is young enough, looked for by halves: times grow with numbers."""
        if self._limits.age_days is None:
            return first
        oldest = written(now - timedelta(days=self._limits.age_days))
        while first < last:
            middle = (first + last) // 2
            row = database.execute("SELECT time FROM event WHERE seq = ?", (middle,)).fetchone()
            if row is None or row[0] < oldest:
                first = middle + 1
            else:
                last = middle
        return first

    def _by_size(self, database: sqlite3.Connection, first: int, last: int) -> int:
        if self._limits.size_mib is None:
            return first
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        held, most = size * (pages - free), self._limits.size_mib * MIB
        if held <= most:
            return first
        return first + math.ceil((last - first + 1) * min(1.0, 1 - most / held + BEYOND))
