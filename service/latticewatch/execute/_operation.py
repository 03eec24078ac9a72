"""What an operator watches beside the state: the log, the disk, the queue and the threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """Figures of one moment.

    Attributes
    ----------
    writes_failed : int
        Attempts to write the event log that failed, since the start.
    events_waiting : int
        Events that wait for a log that cannot be written.
    events_lost : int
        Events dropped because too many waited, since the start.
    told : mapping of str to int
        Events on disk, since the start, by type.
    stored_age_s : float
        Time since what was learnt was last stored [s].
    queued : int
        Frames with a worker, or analysed and not yet folded.
    hanging : int
        Threads that hang in an analysis nobody waits for.
    """

    writes_failed: int
    events_waiting: int
    events_lost: int
    told: Mapping[str, int]
    stored_age_s: float
    queued: int
    hanging: int
