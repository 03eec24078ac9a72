"""Memory that two processes have in common."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# It grows by whole multiples of this [bytes].
STEP = 2**22
# And what is in it begins at multiples of this [bytes].
ALIGNED = 64


class CommonMemory:
    """Bytes that two processes see; it has no name, and is gone when both have ended.

    Parameters
    ----------
    descriptor : int
        Of the file that it is. One process makes it with `new_descriptor`, and gives it to the other.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = 0
        self._seen: mmap.mmap | None = None

    def grow(self, size: int) -> None:
        """Have at least so many bytes; arrays of before stay where they are."""
        if size > self.size:
            size = -(-size // STEP) * STEP
            os.ftruncate(self.descriptor, size)
            self.follow(size)

    def follow(self, size: int) -> None:
        """See what the other process made larger."""
        if size > self.size:
            self._seen, self.size = mmap.mmap(self.descriptor, size), size

    def part(self, start: int, n: int) -> memoryview:
        """Some of the bytes, not copied."""
        assert self._seen is not None
        return memoryview(self._seen)[start : start + n]

    def put(self, start: int, parts: Sequence[bytes | memoryview]) -> int:
        """Put some bytes one behind another; how many."""
        n = sum(memoryview(part).nbytes for part in parts)
        self.grow(start + n)
        at = start
        for part in parts:
            here = np.frombuffer(part, np.uint8)
            self.array(at, len(here))[:] = here
            at += len(here)
        return n

    def array(self, start: int, n: int) -> NDArray[np.uint8]:
        """Some of the bytes as an array, not copied."""
        return np.frombuffer(self.part(start, n), np.uint8)


def behind(n: int) -> int:
    """Where something can begin behind so many bytes."""
    return -(-n // ALIGNED) * ALIGNED


def new_descriptor() -> int:
    """A file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("latticewatch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
