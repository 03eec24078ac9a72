"""The folder that results lie in until they are whole: its tables, and who has it in use."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latticewatch.offline._checkpoint import CHECKPOINT

try:
    import fcntl
except ImportError:
    # no such locks on this system: nothing tells a folder in use from one that was left
    fcntl = None

DRAFT = ".writing-"


class Table:
    """A table that grows line by line, with the length and the checksum of what is written.

    Parameters
    ----------
    path : Path
    length, checksum : int, optional
        To go on with; what lies beyond this length is cut off.
    """

    def __init__(self, path: Path, length: int = 0, checksum: int = 0) -> None:
        self._length, self._checksum = length, checksum
        self._file = path.open("r+b" if length else "wb")
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, text: str) -> None:
        """Write at its end.

        Parameters
        ----------
        text : str
        """
        data = text.encode()
        self._length, self._checksum = self._length + len(data), zlib.crc32(data, self._checksum)
        self._file.write(data)

    def flush(self) -> None:
        """Let others see it."""
        self._file.flush()

    @property
    def written(self) -> tuple[int, int]:
        """Length and checksum."""
        return self._length, self._checksum

    def close(self) -> None:
        """Write the last lines."""
        self._file.close()


def copy_start(source: Path, target: Path, length: int) -> None:
    """Copy the first bytes of a file."""
    with source.open("rb") as read, target.open("wb") as write:
        while length and (part := read.read(min(length, 2**20))):
            write.write(part)
            length -= len(part)


def left_in(out: Path) -> list[Path]:
    """Folders with a checkpoint, the newest first: those that were left before they were whole, and `out` itself."""
    found = [path for path in (out, *out.glob(f"{DRAFT}*")) if (path / CHECKPOINT).is_file()]
    return sorted(found, key=lambda path: (path / CHECKPOINT).stat().st_mtime_ns, reverse=True)


@contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Have a folder in use till the end of the block; false where another process has, which ends with it.

    Parameters
    ----------
    folder : Path
    """
    if fcntl is None:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # a file system without locks
        return True
    return True


def remove_left(out: Path, but: Path) -> None:
    """Remove the folders in which earlier results never became whole, now that there are whole ones; but not one."""
    for folder in out.glob(f"{DRAFT}*"):
        if folder == but:
            continue
        with suppress(OSError), hold(folder) as mine:
            if mine:
                shutil.rmtree(folder)
