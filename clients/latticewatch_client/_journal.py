"""What the loop meant to do and what became of it, on disk before it is done."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Self

from latticewatch.errors import ControlError


class Journal:
    """A file of JSON lines; each is on the disk when `write` returns. A context manager.

    An act begins with an ``intent`` and ends with ``done``, ``failed`` or ``refused``. Between them stand its actions:
    ``action`` before each, ``result`` after it, and ``sight`` where a target was looked for in the frames.
    ``annotated`` says that the service knows.

    Parameters
    ----------
    path : str or Path, optional
        The file; it is added to, and what it holds is read first. None keeps nothing on disk.

    Attributes
    ----------
    visited : set of str
        Targets that were acted on, by their identity.
    open : dict of str to dict
        Intents without an end, by their id: the program was ended in between.
    actions : dict of str to list of dict
        Actions of the open intents, in order, each with its ``result`` if it has one.
    untold : dict of str to dict
        Ends of acts that the service does not know of, by the id of the act.
    past : list of dict
        Intents and actions that were there when it was opened, for the limits that hold over restarts.

    Raises
    ------
    ControlError
        The file cannot be read or written, or is no journal.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self.visited: set[str] = set()
        self.open: dict[str, dict[str, Any]] = {}
        self.actions: dict[str, list[dict[str, Any]]] = {}
        self.untold: dict[str, dict[str, Any]] = {}
        self.past: list[dict[str, Any]] = []
        self._file = None
        if self._path is None:
            return
        try:
            whole = self._read(self._path)
            self._file = self._path.open("ab")
            # A line that was cut off by the end of the program never led to an act: it is taken off.
            self._file.truncate(whole)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise ControlError(f"{self._path}: the journal cannot be kept: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def write(self, what: str, act: str, **fields: Any) -> None:
        """Add a line and wait until it is on the disk.

        Parameters
        ----------
        what : {"intent", "action", "result", "sight", "done", "failed", "refused", "annotated"}
            What is about to be done, or was.
        act : str
            Id of the act.
        **fields
            Ready for JSON.

        Raises
        ------
        ControlError
            It is not on the disk: what it speaks of must not be done.
        """
        entry = {"what": what, "id": act, "time": time.time(), **fields}
        if self._file is not None:
            try:
                self._file.write(json.dumps(entry).encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ControlError(f"{self._path}: the journal was not written: {reason}") from error
        self._take(entry)

    def _read(self, path: Path) -> int:
        """Take in what is there; the length of its whole lines [bytes]."""
        if not path.exists():
            return 0
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                self._take(entry)
                if entry["what"] in ("intent", "action"):
                    self.past.append(entry)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ControlError(
                    f"{path}, line {number}: no line of a journal; move the file away to start a new one"
                ) from error
        return whole

    def _take(self, entry: dict[str, Any]) -> None:
        act = entry["id"]
        if entry["what"] == "intent":
            self.open[act] = entry
            self.actions[act] = []
            # A target is acted on once, whatever comes of it; a field that was not reached may be gone to again.
            if "found" in entry:
                self.visited.add(entry["target"])
        elif entry["what"] == "action":
            self.actions[act].append(entry)
        elif entry["what"] == "result":
            self.actions[act][-1] = {**self.actions[act][-1], "result": entry["result"]}
        elif entry["what"] == "sight":
            self.actions[act][-1] = {**self.actions[act][-1], "sight": entry["sight"]}
        elif entry["what"] == "annotated":
            self.untold.pop(act, None)
        else:
            begun = self.open.pop(act, None)
            self.actions.pop(act, None)
            if begun is not None and "found" in begun:
                self.untold[act] = {**entry, "target": begun["target"], "holder": begun.get("holder")}
            elif begun is not None and entry["what"] == "done":
                self.visited.add(begun["target"])
