"""A cursor on disk: read with care, written in one step."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from latticewatch.errors import ServiceError
from latticewatch_client._follow import Cursor

logger = logging.getLogger(__name__)


class CursorFile:
    """Keeps the last event that was handled.

    A new text takes the place of the old one in one step, so that a program that is killed leaves the one or the other.

    Parameters
    ----------
    path : str or Path
        The file; made at the first event.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._written: Cursor | None = None

    def read(self) -> Cursor | None:
        """The cursor; None where there is no file, or one that holds no cursor (which is logged).

        Raises
        ------
        ServiceError
            The file cannot be read.
        """
        try:
            text = self._path.read_bytes().decode("utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ServiceError(f"{self._path}: the cursor cannot be read: {error.strerror}") from error
        try:
            return Cursor.parse(text)
        except ValueError:
            logger.warning("%s: holds no cursor (%r); starting as if there were none", self._path, text[:80])
            return None

    def write(self, cursor: Cursor, *, durable: bool = False) -> None:
        """Take the place of what is there.

        Parameters
        ----------
        cursor : Cursor
        durable : bool
            Wait until it is on the disk, so that it outlasts a power failure and not only the end of the program.

        Raises
        ------
        ServiceError
            The file cannot be written.
        """
        if cursor == self._written and not durable:
            return
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(str(cursor))
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise ServiceError(f"{self._path}: the cursor cannot be written: {error.strerror}") from error
        self._written = cursor
