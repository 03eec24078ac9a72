"""Idle cores help with one frame, while no other frame needs them.

Frames are analysed in parallel, a thread for each. When there are fewer of them than cores, parts of a frame go to the
idle ones: kernels release the interpreter, so threads do. Under load nothing is split, as a split costs a little.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Generic, TypeVar

from latticewatch.errors import LatticewatchError

T = TypeVar("T")

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


def busy() -> int:
    """Cores that frames keep busy, this one's included."""
    return _working


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

    wanted = min(idle(), len(calls) - 1)
    if wanted:
        _keep_off(_this_core())
    helping = [_helpers().submit(work) for _ in range(wanted)]
    work()
    for promise in helping:
        if not promise.cancel():
            promise.result()
    return results


def by_parts(call: Callable[[int, int], Any], n: int, fewest: int) -> None:
    """Have something done for each of some rows, as many parts at a time as cores are idle.

    Parameters
    ----------
    call : callable
        ``call(first, last)``, for the rows from the first to before the last. What it makes of a row must not depend on
        the others.
    n : int
        Number of rows.
    fewest : int
        Rows of a part, at least: fewer are not worth the way.
    """
    parts = max(min(idle() + 1, n // fewest), 1)
    ends = [n * k // parts for k in range(parts + 1)]
    run(*(partial(call, *part) for part in pairwise(ends)))


class Once(Generic[T]):
    """Something that several calls of `run` need: the first that asks makes it, while others wait.

    Parameters
    ----------
    make : callable
        Called without arguments, once.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._making = make, threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """What was made."""
        with self._making:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    _kept_off.clear()
    return ThreadPoolExecutor(
        max(cores() - 1, 1), "part", lambda: _kept_off.update({threading.get_native_id(): -1})
    )


# Threads that help, and the core that each of them keeps off.
_kept_off: dict[int, int] = {}


def _keep_off(core: int | None) -> None:
    """Let those that help run on any core but this one.

    The system tends to wake a thread on the core of the one that wakes it, where it waits for that one's work to end
    while another core is idle; it moves it only after some milliseconds, which is more than a part of a frame takes.
    """
    if core is None:
        return
    for thread in [one for one, off in _kept_off.copy().items() if off != core]:
        # the cores that this process may use, as they are now
        others = os.sched_getaffinity(0) - {core}
        # where the system says no, it stays as it was
        with suppress(OSError):
            if others:
                os.sched_setaffinity(thread, others)
        _kept_off[thread] = core


def _this_core() -> int | None:
    """Number of the core that this thread is on; None where the system does not say."""
    ask = _asking_core()
    return None if ask is None else ask()


@lru_cache(maxsize=1)
def _asking_core() -> Callable[[], int] | None:
    try:
        return ctypes.PyDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
    except (AttributeError, OSError):
        return None
