"""Frames analysed in processes of this machine, each with an interpreter of its own.

In threads of one process, analyses and the folding wait for one another's interpreter. A process that analyses gets the
pixels through memory that both see, and each version of the model once; what it finds comes back the same way. Whoever
waits for it does so in a thread of `Threads`, so that all that holds for these (limits, what is no longer wanted) holds
here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import threading
import time
from collections import OrderedDict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import structlog

from latticewatch.config import AnalysisSettings
from latticewatch.errors import ConfigurationError, LatticewatchError
from latticewatch.execute._analyser import COMMAND, VERSIONS_KEPT
from latticewatch.execute._carried import completed
from latticewatch.execute._common import CommonMemory, behind, new_descriptor
from latticewatch.execute._executors import MOST_SLOTS, Threads
from latticewatch.execute._parts import Analyse
from latticewatch.execute._workers import Job
from latticewatch.ingest import Frame
from latticewatch.parallel import busy, check_wanted, working

# How often it is looked whether a frame is still wanted [s].
LOOK_S = 0.1
# How long a process may take until it is ready, which compiles kernels at the first start [s].
READY_S = 300.0
# Processes that are lost are replaced, but not more often than this [s].
AGAIN_S = 5.0

_log = structlog.get_logger("latticewatch.execute")


class LostError(LatticewatchError):
    """A process that analyses has ended."""


class AnalysisError(LatticewatchError):
    """An analysis failed in another process."""


class Processes(Threads):
    """Processes of this machine; until they are ready, and for what is lost with one, threads of this process.

    Each process has a thread that waits for it. One that is replaced ends its process, too.

    Parameters
    ----------
    analyse : callable
        ``analyse(frame, model, settings)``, here.
    settings : AnalysisSettings
        As many processes as it has threads. They start with the first model: what is learnt from is analysed here.

    Raises
    ------
    ConfigurationError
        Processes of this system have no memory in common.
    """

    def __init__(self, analyse: Analyse, settings: AnalysisSettings) -> None:
        if os.name != "posix":
            raise ConfigurationError("executor processes: needs Linux or macOS; use threads")
        super().__init__(self._analysed, settings)
        self._here, self._n = analyse, settings.threads
        # one is on its way, either way
        self.slots = min(self._n + 2, MOST_SLOTS)
        # the last one back is asked first: its caches are warm
        self._free: queue.LifoQueue[Analyser] = queue.LifoQueue()
        self._all: set[Analyser] = set()
        self._changing = threading.Lock()
        self._n_ready = 0
        self._started = self._closed = False

    @property
    def ready(self) -> int:
        """Processes that are ready and have nothing to do."""
        return self._free.qsize()

    def submit(self, frame: Frame, model: Any) -> Job:
        """See `Threads.submit`.

        Parameters
        ----------
        frame : Frame
        model : Model or None

        Returns
        -------
        Job
        """
        if model is not None and not self._started:
            self._started = True
            for _ in range(self._n):
                threading.Thread(target=self._start, name="analyser", daemon=True).start()
        return super().submit(frame, model)

    def close(self) -> None:
        """Let the processes end."""
        super().close()
        with self._changing:
            self._closed = True
            for one in self._all:
                one.end()

    def _start(self, wait_s: float = 0.0) -> None:
        """Start a process, and give it frames as soon as it is ready."""
        time.sleep(wait_s)
        one = Analyser()
        with self._changing:
            if self._closed:
                return
            self._all.add(one)
        try:
            one.start(self._settings)
        except (OSError, LostError) as error:
            # frames are analysed here as before
            self._lose(one)
            if not self._closed:
                _log.warning("no process to analyse in; frames are analysed in threads", error=str(error))
            return
        if self._closed:
            one.end()
            return
        self._free.put(one)
        with self._changing:
            self._n_ready += 1
            n = self._n_ready
        if n == self._n:
            _log.info("frames are analysed in processes", processes=n)

    def _lose(self, one: Analyser) -> None:
        with self._changing:
            self._all.discard(one)
        one.end()

    def _analysed(self, frame: Frame, model: Any, settings: AnalysisSettings) -> Any:
        try:
            one = self._free.get_nowait()
        except queue.Empty:
            return self._here(frame, model, settings)
        try:
            with working():
                analysis = one.analysed(frame, model)
        except LostError as error:
            self._replaced(one)
            if not self._closed:
                _log.warning("a process that analyses was lost; its frame is analysed here", error=str(error))
            return self._here(frame, model, settings)
        except AnalysisError:
            self._free.put(one)
            raise
        except BaseException:
            # it still works on what nobody waits for
            self._replaced(one)
            raise
        self._free.put(one)
        return analysis

    def _replaced(self, one: Analyser) -> None:
        self._lose(one)
        if not self._closed:
            threading.Thread(target=self._start, args=(AGAIN_S,), name="analyser", daemon=True).start()


class Analyser:
    """One process that analyses, seen from the one that asks."""

    def __init__(self) -> None:
        self._ending_once = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: Connection | None = None
        self._memory: CommonMemory | None = None
        self._models: OrderedDict[int, tuple[int, Any]] = OrderedDict()
        self._versions = 0
        self._shared: Any = None

    def start(self, settings: AnalysisSettings) -> None:
        """Start it, and wait until it is ready.

        Parameters
        ----------
        settings : AnalysisSettings

        Raises
        ------
        OSError
            There can be no process, or no memory in common.
        LostError
            It ended at once.
        """
        from latticewatch.pipeline._carrier import STAYING
        from latticewatch.pipeline._pack import Shared

        self._shared = Shared(STAYING, VERSIONS_KEPT)
        ours, theirs = socket.socketpair()
        with theirs:
            memory = CommonMemory(new_descriptor())
            self._memory, self._asked = memory, Connection(ours.detach())
            passed = theirs.fileno(), memory.descriptor
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                [*COMMAND, *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=passed,
            )
        self._send(settings.model_dump_json().encode())
        limit = time.monotonic() + READY_S
        while not self._comes():
            if time.monotonic() > limit:
                raise LostError(f"not ready after {READY_S:g} s")
        self._received()

    def end(self) -> None:
        """End it at once; more than once is as good as once."""
        with self._ending_once:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._memory is not None:
            # another file may have its number afterwards
            memory, self._memory = self._memory, None
            os.close(memory.descriptor)
        if self._asked is not None:
            with contextlib.suppress(OSError):
                self._asked.close()

    def analysed(self, frame: Frame, model: Any) -> Any:
        """A frame, analysed there.

        Parameters
        ----------
        frame : Frame
        model : Model or None

        Returns
        -------
        Analysis

        Raises
        ------
        LostError
            The process has ended.
        AnalysisError
            The analysis failed.
        NoLongerWantedError
            Nobody waits for it any more.
        """
        from latticewatch.pipeline._carrier import carrier

        memory = self._memory
        if memory is None:
            raise LostError(self._ending())
        image = np.ascontiguousarray(frame.image)
        memory.grow(max(image.nbytes, 1))
        memory.array(0, image.nbytes)[:] = image.reshape(-1).view(np.uint8)
        task = {
            "dtype": image.dtype.str,
            "shape": image.shape,
            # this thread is one of those that wait
            "busy": max(busy() - 1, 0),
            "model": None,
        }
        if model is not None:
            task["model"], parts = self._version(model, task)
            if parts:
                task["model_at"] = behind(image.nbytes), memory.put(behind(image.nbytes), parts)
        # the other side of the connection may hang: a message must fit into its buffer
        self._send(json.dumps(task | {"size": memory.size}).encode())
        while not self._comes():
            check_wanted()
        answer = json.loads(self._received())
        if "error" in answer:
            raise AnalysisError(answer["error"])
        memory.follow(answer["size"])
        found = memory.part(*answer["at"])
        return completed(carrier.value_of(found, answer["n_text"]), frame, model)

    def _version(self, model: Any, task: dict[str, Any]) -> tuple[int, list[Any]]:
        """Number of a model, and the model where it is not there yet."""
        from latticewatch.pipeline._carrier import carrier

        if id(model) in self._models:
            return self._models[id(model)][0], []
        self._versions += 1
        self._models[id(model)] = self._versions, model
        while len(self._models) > VERSIONS_KEPT:
            self._models.popitem(last=False)
        task["gone"] = self._shared.begin()
        parts, task["n_text"] = carrier.parts(model, self._shared)
        return self._versions, parts

    def _send(self, message: bytes) -> None:
        assert self._asked is not None
        try:
            self._asked.send_bytes(message)
        except (OSError, ValueError) as error:
            raise LostError(self._ending()) from error

    def _comes(self) -> bool:
        """Whether an answer comes within a moment; also where none can."""
        assert self._asked is not None
        try:
            return self._asked.poll(LOOK_S)
        except (OSError, ValueError) as error:
            raise LostError(self._ending()) from error

    def _received(self) -> bytes:
        assert self._asked is not None
        try:
            return self._asked.recv_bytes()
        except (EOFError, OSError) as error:
            raise LostError(self._ending()) from error

    def _ending(self) -> str:
        status = None if self._process is None else self._process.poll()
        return "it has ended" if status is None else f"it ended with status {status}"
