"""Idle cores help with one frame, while no other frame needs them.

Frames are analysed in parallel, a thread for each. When there are fewer of them than cores, parts of a frame go to the
idle ones: kernels release the interpreter, so threads do. Under load nothing is split, as a split costs a little.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_counting = threading.Lock()
_working = 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def working(threads: int = 1) -> Iterator[None]:
    """Till the end of the block this thread is busy with a frame of its own, or so many threads are."""
    global _working
    with _counting:
        _working += threads
    try:
        yield
    finally:
        with _counting:
            _working -= threads


def shares(most: int) -> int:
    """Into how many parts to split work, at most as many as given: one for this thread and one for each idle core."""
    return max(1, min(most, cores() - max(_working, 1) + 1))


def run(*calls: Callable[[], Any]) -> list[Any]:
    """Make all calls, the first one in this thread, the others on idle cores, if there are any.

    What no other thread has begun with when the first call has returned is done in this thread too.

    Parameters
    ----------
    *calls : callable
        They must not call `run` themselves.

    Returns
    -------
    list
        What each returned.
    """
    if shares(len(calls)) == 1:
        return [call() for call in calls]
    first, *others = calls
    promised: list[Future[Any]] = [_helpers().submit(call) for call in others]
    results = [first()]
    for call, promise in zip(others, promised, strict=True):
        results.append(call() if promise.cancel() else promise.result())
    return results


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(cores() - 1, 1), thread_name_prefix="part")
