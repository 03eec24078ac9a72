"""Files in; those that would hang this process, end it or fill its memory, named, out: each is opened in a child first.

HDF5 and other libraries in C do not survive every damaged file. A child process opens the file as this one would; if it
dies, takes too long or needs more memory than there is, the file is refused in one line and this process goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from latticewatch.errors import FileError
from latticewatch.ingest.files._numpy import PICTURES

# NumPy, Pillow and tifffile check what they read; a child costs a second.
SAFE = (".npy", ".npz", ".tif", ".tiff", *PICTURES)
# A child may take so long for a file, and longer by its size: whole files are read from slow disks.
TRIAL_S, BYTES_PER_S = 60.0, 5e6
COMMAND = (sys.executable, "-P", "-c", "from latticewatch.ingest.files._trial import main; main()")


def refusals(paths: Sequence[Path], **options: Any) -> dict[Path, str]:
    """Which files must not be opened here, and why.

    Parameters
    ----------
    paths : sequence of Path
        Those that are missing, and those of formats that are safe to read, cost nothing.
    **options
        What `read_frames` is told beside the path.

    Returns
    -------
    dict of Path to str
        One line for each file that ended the child, hung it or filled the memory; empty is the rule.
    """
    left = [path for path in dict.fromkeys(paths) if path.exists() and path.suffix.lower() not in SAFE]
    refused: dict[Path, str] = {}
    while left:
        tried, said = _one_child(left, options)
        if said:
            refused[left[tried]] = f"{left[tried]}: {said}"
            tried += 1
        left = left[tried:]
    return refused


def check(paths: Sequence[Path], **options: Any) -> None:
    """As `refusals`, for a command that needs all of its files.

    Parameters
    ----------
    paths : sequence of Path
    **options
        As for `refusals`.

    Raises
    ------
    FileError
        A file must not be opened here.
    """
    for said in refusals(paths, **options).values():
        raise FileError(said)


def _one_child(paths: list[Path], options: dict[str, Any]) -> tuple[int, str]:
    """How many files one child opened, and what is wrong with the next; empty where all are right."""
    asked = json.dumps({"paths": [os.fspath(path) for path in paths], "options": options})
    try:
        child = subprocess.Popen(  # noqa: S603 - this interpreter
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:  # no processes here: the file is opened as before
        return len(paths), ""
    answers: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_pass_on, args=(child, asked.encode(), answers), daemon=True).start()
    try:
        for k, path in enumerate(paths):
            limit = TRIAL_S + _bytes(path) / BYTES_PER_S
            try:
                answer = answers.get(timeout=limit)
            except queue.Empty:
                return k, (
                    f"not opened after {limit:.0f} s; the file is damaged, or its disk is slow: copy it and try again"
                )
            if answer == b"memory\n":
                return k, (
                    f"opening it takes more than the {_memory() / 2**30:.0f} GiB of memory here; the file is damaged, "
                    "or has to be exported in parts"
                )
            if answer != b"opened\n":
                return k, (
                    f"opening it ends the program that reads it ({_ending(child.wait())}); the file is damaged: "
                    "copy or export it again"
                )
        return len(paths), ""
    finally:
        child.kill()
        child.wait()


def _pass_on(child: subprocess.Popen[bytes], asked: bytes, answers: queue.Queue[bytes]) -> None:
    """The question to the child, and its answers, a line for each file; an empty one when it has ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(OSError), child.stdin as stdin:
        stdin.write(asked)
    with child.stdout as stdout:
        for line in stdout:
            answers.put(line)
    answers.put(b"")


def _ending(status: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"exit status {status}"


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(part.stat().st_size for part in path.rglob("*"))


def _memory() -> float:
    """Physical memory in bytes; infinite where the system does not tell."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return float("inf")


def main() -> None:
    """The child: paths and options on standard input, a line for each file that was opened on standard output."""
    asked = json.load(sys.stdin)
    paths = [Path(name) for name in asked["paths"]]
    with _only_answers() as say:
        _bound_memory(sum(_bytes(path) for path in paths))
        for path in paths:
            say("memory" if _fills_memory(path, asked["options"]) else "opened")


def _fills_memory(path: Path, options: dict[str, Any]) -> bool:
    """Open one file; what is wrong with it otherwise is said when it is opened in the parent."""
    from latticewatch.ingest.files._series import read_frames

    try:
        read_frames(path, **options)
    except Exception as error:  # noqa: BLE001 - said by the parent, which opens the file then
        return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
    return False


@contextlib.contextmanager
def _only_answers() -> Iterator[Any]:
    """Standard output for the answers alone: a library in C may print on it."""
    out = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    with out:
        yield lambda text: print(text, file=out, flush=True)


def _bound_memory(mapped: int) -> None:
    """No more address space than there is memory, beside files that are mapped."""
    with contextlib.suppress(ImportError, ValueError, OSError, OverflowError):
        import resource

        limit = int(_memory()) + mapped
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


__all__ = ["check", "refusals"]
