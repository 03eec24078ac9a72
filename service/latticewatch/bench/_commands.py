"""Commands of the package in processes of their own, as a person would start them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

from latticewatch.errors import LatticewatchError

END_TIMEOUT_S = 20.0
# How often a wait looks whether the process still lives.
LOOK_S = 0.1


class Command:
    """A ``latticewatch`` command that runs until the block ends; a context manager.

    Parameters
    ----------
    *arguments : str
        Of the command line. Settings in the environment are not handed on: everybody measures the same.
    """

    def __init__(self, *arguments: str) -> None:
        self.name = arguments[0]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LATTICEWATCH_")}
        self._process = subprocess.Popen(  # noqa: S603 (our own command line)
            [sys.executable, "-m", "latticewatch", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._said = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"output of {self.name}", daemon=True)
        self._reader.start()

    def said(self, pattern: str, timeout_s: float) -> str:
        """Wait until it has said something; the first group of the pattern.

        Raises
        ------
        LatticewatchError
            It has not in time, or has ended.
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while (match := re.search(pattern, self._said)) is None:
                self.check()
                if time.monotonic() > deadline:
                    raise LatticewatchError(
                        f"'latticewatch {self.name}' did not get ready within {timeout_s:g} s; "
                        f"it said: {self._said.strip() or 'nothing'}"
                    )
                self._news.wait(LOOK_S)
        return match.group(1)

    def check(self) -> None:
        """Raise what it said last, if it has ended.

        Raises
        ------
        LatticewatchError
            It has ended.
        """
        if self._process.poll() is not None:
            raise LatticewatchError(
                f"'latticewatch {self.name}' ended with exit status {self._process.returncode}; "
                f"it said: {self._said.strip()[-500:] or 'nothing'}"
            )

    def close(self) -> None:
        """End it as Ctrl-C does, and by force if that does not help."""
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self._said += line
                    self._news.notify_all()
