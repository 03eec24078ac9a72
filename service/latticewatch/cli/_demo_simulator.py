"""The simulated microscope of the demo, in a process of its own: ports and truth come back through a pipe."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import signal
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from latticewatch.errors import ConfigurationError, LatticewatchError
from latticewatch_simulator import FrameTruth, SimulatedFrame, Simulation, SimulatorSettings

# More than the service can be behind: while it learns, the simulator goes on.
FRAMES_REMEMBERED = 2048
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 10.0
END_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Ready:
    """What the simulator says once its sockets are open.

    Attributes
    ----------
    frames, control : str
        Where frames come from, and where the stage is moved from.
    dose_e_per_a2 : float
        Electrons per square angstrom and frame.
    """

    frames: str
    control: str
    dose_e_per_a2: float


class SimulatorProcess:
    """A simulated microscope that shares no interpreter lock with the service; a context manager.

    It sends nothing before somebody receives, and ends when the pipe is closed, also if this process dies.

    Parameters
    ----------
    settings : SimulatorSettings
        Specimen, scan and detector.
    control : str
        Where the stage is to be moved from; another port is taken if that one is in use.
    """

    def __init__(self, settings: SimulatorSettings, control: str) -> None:
        # A fresh interpreter: a fork would copy the threads' locks as they are at this moment.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_simulate, args=(theirs, settings, control), name="simulator", daemon=True
        )
        # Ctrl-C reaches every process of the terminal; the simulator ends when we say so.
        with _interrupts_ignored():
            self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    def ready(self) -> Ready:
        """Wait until the sockets are open.

        Raises
        ------
        ConfigurationError
            Settings or an address that cannot work.
        LatticewatchError
            The process ended, or did not answer in time.
        """
        answer = self._receive(START_TIMEOUT_S)
        if isinstance(answer, Ready):
            return answer
        raise ConfigurationError(str(answer))

    def truth(self, number: int) -> FrameTruth | None:
        """The truth of one of the newest frames; None where the simulator has forgotten it or has ended."""
        try:
            self._pipe.send(number)
            answer = self._receive(ANSWER_TIMEOUT_S)
        except (OSError, LatticewatchError):
            return None
        return answer if isinstance(answer, FrameTruth) else None

    def close(self) -> None:
        """End the simulation and its process."""
        self._pipe.close()
        self._process.join(END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, timeout_s: float) -> object:
        try:
            if self._pipe.poll(timeout_s):
                return self._pipe.recv()
        except EOFError as error:
            self._process.join(END_TIMEOUT_S)
            raise LatticewatchError(
                f"the simulator ended with exit status {self._process.exitcode}; its message is above"
            ) from error
        raise LatticewatchError(f"the simulator did not answer within {timeout_s:g} s; start again")


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """SIGINT is ignored by what is started here: the disposition is inherited."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# In the simulator's process


def _simulate(pipe: Connection, settings: SimulatorSettings, control: str) -> None:
    try:
        simulation = _opened(settings, control)
    except LatticewatchError as error:
        pipe.send(str(error))
        return
    recent: OrderedDict[int, FrameTruth] = OrderedDict()

    def remember(frame: SimulatedFrame) -> None:
        recent[frame.truth.number] = frame.truth
        if len(recent) > FRAMES_REMEMBERED:
            recent.popitem(last=False)

    def answer() -> None:
        try:
            while True:
                pipe.send(recent.get(pipe.recv()))
        except (EOFError, OSError):
            # The demo is over, one way or another.
            simulation.request_stop()

    with simulation:
        assert simulation.control_endpoint is not None
        dose = simulation.microscope.dose_e_per_a2
        pipe.send(Ready(simulation.endpoint, simulation.control_endpoint, dose))
        threading.Thread(target=answer, name="truth", daemon=True).start()
        simulation.run(on_frame=remember)


def _opened(settings: SimulatorSettings, control: str) -> Simulation:
    """The simulation, with its controls on another port where the one asked for is in use."""
    frames = "tcp://127.0.0.1:0"
    try:
        return Simulation(settings, bind=frames, control=control, wait_for_subscriber=True)
    except ConfigurationError as error:
        if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
            raise
    host = control.rpartition(":")[0]
    return Simulation(settings, bind=frames, control=f"{host}:0", wait_for_subscriber=True)
