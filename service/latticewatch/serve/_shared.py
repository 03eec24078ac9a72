"""Something that several ask for at the same moment is made once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


class Shared:
    """Gives what was made a moment ago for whoever asked the same; used by the event loop alone.

    Parameters
    ----------
    fresh_s : float
        So long after it was begun it is given [s].
    kept : int
        So many are kept at the most.
    """

    def __init__(self, fresh_s: float = 0.02, kept: int = 8) -> None:
        self._fresh_s, self._kept = fresh_s, kept
        self._made: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What belongs to a key, made in another thread if it was not made just now.

        Parameters
        ----------
        key : hashable
        make : callable
            Makes it.

        Returns
        -------
        object
            What ``make`` gave, to whoever asked first.
        """
        now = time.monotonic()
        begun_at, task = self._made.get(key, (0.0, None))
        if task is None or (task.done() and (now - begun_at > self._fresh_s or task.exception() is not None)):
            task = asyncio.create_task(run_in_threadpool(make))
            self._made[key] = now, task
            while len(self._made) > self._kept:
                self._made.popitem(last=False)
        # Whoever goes away does not take it from the others.
        return await asyncio.shield(task)
