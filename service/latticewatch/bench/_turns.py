"""Calls are measured in turn, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable

# The threads of OpenBLAS spin for some 30 ms after a product, on the core that the next call needs.
SPIN_S = 0.05
# A turn lasts this long, and does not count at first: after a pause the clock of a core is low and its caches are
# another's, which no stream of frames sees.
TURN_S = 0.1
WARM_UP_S = 0.05
MIN_REPEATS = 3
MAX_REPEATS = 1000


def in_turn(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Durations of each call [s]; the first round, and the first calls of each turn, warm up and do not count.

    Parameters
    ----------
    calls : dict
    seconds : float
        How long to go on in all; three rounds at least.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    for repeat in range(MAX_REPEATS):
        for name, call in calls.items():
            time.sleep(SPIN_S)
            turn = time.perf_counter()
            call()
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                if repeat and (start > turn + WARM_UP_S or now > turn + TURN_S):
                    taken[name].append(now - start)
                if now > turn + TURN_S:
                    break
        if repeat >= MIN_REPEATS and time.perf_counter() > end:
            break
    return taken
