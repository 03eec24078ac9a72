"""A microscope at work: frames at a steady pace, controls beside them, the truth on disk."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from latticewatch.errors import ControlError
from latticewatch_simulator._actions import Actions
from latticewatch_simulator._control import ControlServer
from latticewatch_simulator._microscope import Microscope, SimulatedFrame
from latticewatch_simulator._publisher import Publisher
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._truth import TruthWriter


class Simulation:
    """A simulated microscope on the network; a context manager.

    Parameters
    ----------
    settings : SimulatorSettings
        Specimen, scan and detector.
    bind : str
        Where frames are sent from; port 0 takes a free port.
    control : str or None
        Where the stage is moved from; None for no controls.
    push : bool
        PUSH instead of PUB: no frame is lost, the microscope waits.
    frames : int, optional
        Number of frames; None goes on until it is stopped.
    truth : Path, optional
        File for the truth of every frame.
    wait_for_subscriber : bool
        Send nothing before somebody receives.
    series_id : str, optional
        Name of the series; made up where none is given.
    context : zmq.Context, optional
        The caller's, which stays open; else one of its own.

    Attributes
    ----------
    microscope : Microscope
        The source of the frames.
    endpoint, control_endpoint : str, str or None
        Where its sockets are bound.
    newest : SimulatedFrame or None
        The frame sent last.

    Raises
    ------
    ConfigurationError, FileError
        Settings or addresses that cannot work, or a file that cannot be read or written.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        *,
        bind: str = "tcp://127.0.0.1:5555",
        control: str | None = "tcp://127.0.0.1:5556",
        push: bool = False,
        frames: int | None = None,
        truth: Path | None = None,
        wait_for_subscriber: bool = False,
        series_id: str | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self.microscope = Microscope(settings, series_id)
        self.newest: SimulatedFrame | None = None
        self._frames = frames
        self._wait = wait_for_subscriber
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        fixed = None if truth is None else "the truth is written to a file, which describes one scan"
        self._actions = Actions(self.microscope, self.status, self._newest_truth, fixed)
        with ExitStack() as opened:
            self._publisher = opened.enter_context(Publisher(bind, push=push, context=context))
            self._control = None
            if control is not None:
                self._control = opened.enter_context(
                    ControlServer(control, actions=self._actions, context=context)
                )
            self._truth = None
            if truth is not None:
                self._truth = opened.enter_context(TruthWriter(truth, self.microscope.description()))
            self._opened = opened.pop_all()
        self.endpoint = self._publisher.endpoint
        self.control_endpoint = self._control.endpoint if self._control else None

    def run(self, on_frame: Callable[[SimulatedFrame], None] | None = None) -> int:
        """Send the series: the frame with number i at start + i periods, in this thread.

        Another scan is another series.

        A frame that is late by more than a period moves the start, so that frames never come in a burst.

        Parameters
        ----------
        on_frame : callable, optional
            Called with each frame after it was sent.

        Returns
        -------
        int
            Number of frames sent.
        """
        if self._wait and not self._publisher.wait_for_subscriber(self._stop):
            return 0
        microscope, publisher = self.microscope, self._publisher
        series_id = microscope.series_id
        publisher.start_series(series_id, self._frames, self._stop)
        due: float | None = None
        sent = 0
        for _ in itertools.count() if self._frames is None else range(self._frames):
            if self._stop.is_set():
                break
            frame = microscope.acquire()
            if frame.truth.series_id != series_id:
                publisher.end_series(series_id)
                sent += publisher.frames
                series_id = frame.truth.series_id
                publisher.start_series(series_id, None, self._stop)
            period = 1 / microscope.settings.fps
            now = time.monotonic()
            due = now if due is None else due + period
            if now - due > period:
                due = now
            elif self._stop.wait(max(0.0, due - now)):
                break
            sound = microscope.is_sound(frame)
            self._publish(frame)
            self._actions.last = (frame.truth.series_id, frame.truth.number)
            microscope.operations.frame_sent(frame.truth.series_id, frame.truth.number, sound)
            if on_frame is not None:
                on_frame(frame)
        microscope.operations.abandon("the microscope has ended")
        publisher.end_series(series_id)
        return sent + publisher.frames

    def start(self) -> None:
        """Run in a thread of its own; `stop` and `join` raise what went wrong in it."""
        self._thread = threading.Thread(target=self._run_thread, name="simulator", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread to end; an error that ended it is raised here.

        Parameters
        ----------
        timeout_s : float, optional
            Longest wait [s]; endless where none is given.

        Returns
        -------
        bool
            Whether it has ended.

        Raises
        ------
        Exception
            What ended the thread.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return True

    def request_stop(self) -> None:
        """End the series after the frame that is being sent; from any thread."""
        self._stop.set()

    def stop(self) -> None:
        """End the series and wait for the thread."""
        self.request_stop()
        self.join()

    def close(self) -> None:
        """Stop, and close the sockets and the truth file."""
        try:
            self.stop()
        finally:
            self._opened.close()

    def status(self) -> dict[str, Any]:
        """What it is doing, ready for JSON."""
        newest = self.newest
        return {
            **self.microscope.description(),
            "endpoint": self.endpoint,
            "frame": newest.truth.number if newest else None,
            "frames_sent": self._publisher.frames,
            "shift_px": list(newest.truth.shift_px) if newest else None,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _publish(self, frame: SimulatedFrame) -> None:
        if self._control is not None:
            self._control.check()
        if self._truth is not None:
            self._truth.write(frame.truth)
        # Known before it is sent: who has received a frame can ask for its truth.
        self.newest = frame
        self._publisher.send(
            frame.image,
            frame=frame.truth.number,
            series_id=frame.truth.series_id,
            stop=self._stop,
            timeStamp=time.time(),
            **self.microscope.header(frame),
        )

    def _newest_truth(self) -> dict[str, Any]:
        if self.newest is None:
            raise ControlError("get_truth: no frame has been sent yet; ask again after the first one")
        return self.newest.truth.table()

    def _run_thread(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001  raised again by join
            self._error = error


def run(settings: SimulatorSettings, **options: Any) -> int:
    """Run a `Simulation` to its end.

    Parameters
    ----------
    settings : SimulatorSettings
    **options
        Those of `Simulation`.

    Returns
    -------
    int
        Frames sent.
    """
    with Simulation(settings, **options) as simulation:
        return simulation.run()
