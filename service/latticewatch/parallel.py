"""Idle cores help with one frame, while no other frame needs them.

Frames are analysed in parallel, a thread for each. When there are fewer of them than cores, parts of a frame go to the
idle ones: kernels release the interpreter, so threads do. Under load nothing is split, as a split costs a little.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from latticewatch.errors import LatticewatchError

_counting = threading.Lock()
_asked = threading.local()
_working = 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def working(threads: int = 1) -> Iterator[None]:
    """Till the end of the block this thread is busy with a frame of its own, or so many threads are.

    Parameters
    ----------
    threads : int
        How many cores it keeps busy.
    """
    global _working
    with _counting:
        _working += threads
    try:
        yield
    finally:
        with _counting:
            _working -= threads


class NoLongerWantedError(LatticewatchError):
    """Nobody waits any more for what this thread is doing."""


@contextmanager
def wanted_while(wanted: Callable[[], bool]) -> Iterator[None]:
    """Till the end of the block, what this thread does is to be left off as soon as ``wanted`` says no.

    Parameters
    ----------
    wanted : callable
        Called without arguments, from this thread, by `check_wanted`.
    """
    before = getattr(_asked, "wanted", None)
    _asked.wanted = wanted
    try:
        yield
    finally:
        _asked.wanted = before


def check_wanted() -> None:
    """Called between steps of what may take long.

    Raises
    ------
    NoLongerWantedError
        Nobody waits for it.
    """
    wanted = getattr(_asked, "wanted", None)
    if wanted is not None and not wanted():
        raise NoLongerWantedError("this frame is no longer waited for")


def idle() -> int:
    """Cores that no frame keeps busy, this thread's own not counted."""
    return max(cores() - max(_working, 1), 0)


def run(*calls: Callable[[], Any]) -> list[Any]:
    """Make some calls, this thread and idle cores taking one after another.

    A core that something else keeps busy, or that wakes up late, takes fewer of them or none.

    Parameters
    ----------
    *calls : callable
        One that calls `run` itself gets the help of cores that have none of these calls.

    Returns
    -------
    list
        What each returned.
    """
    results: list[Any] = len(calls) * [None]
    left = iter(enumerate(calls))

    def work() -> None:
        # the interpreter lets one thread at a time take the next
        for k, call in left:
            results[k] = call()

    helping = [_helpers().submit(work) for _ in range(min(idle(), len(calls) - 1))]
    work()
    for promise in helping:
        if not promise.cancel():
            promise.result()
    return results


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(cores() - 1, 1), thread_name_prefix="part")
