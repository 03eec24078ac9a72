"""Recorded frames in; the messages of a microscope that acquires them now, out."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import zmq
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError
from latticewatch.ingest._inlets import BUSY_MS, HEARTBEAT_MS, SILENT_MS
from latticewatch.ingest._shots import Shot, shots_of
from latticewatch.ingest.files import FileSeries
from latticewatch.ingest.files.recording import Recording
from latticewatch.messages import SeriesEnd, SeriesStart, encode_frame, encode_json

# Frames that may wait for one subscriber before PUB drops, or before PUSH blocks.
SEND_HWM = 8
# How often a blocked send or wait looks whether it should stop.
POLL_MS = 100
# Further behind than this, the schedule starts afresh instead of rushing after it.
MAX_LATE_S = 1.0
# How long the last messages may take to leave when everything was sent, and when it was stopped.
LINGER_MS, LINGER_STOPPED_MS = 30_000, 500


@dataclass(slots=True)
class _OpenSeries:
    """A series that was begun on the wire."""

    series_id: str
    frames: int = 0
    messages: int = 0


class Replayer:
    """Publishes the frames of files at a steady rate, as if they were acquired now.

    Files of one shape and pixel size make one series, whose frame numbers run on from file to file and, with
    ``loop``, from pass to pass, so that what is followed over time lives on. Another shape or pixel size starts
    another series. A recording of the service is sent as it was received: with its series, numbers, times and scalars,
    so that it gives the same events.

    Parameters
    ----------
    files : sequence of FileSeries or Recording
        In the order in which they are sent.
    bind : str
        Where to publish; port 0 takes a free one.
    fps : float
        Frames per second.
    loop : bool
        Start again after the last frame.
    lossless : bool
        PUSH, which waits for the receiver, instead of PUB, which drops.
    frames : int, optional
        Stop after so many.
    first, last : int, optional
        Send these and those between them alone, counted from zero over all files.
    context : zmq.Context, optional
        Left open by `close`.

    Attributes
    ----------
    endpoint : str
        The address that was bound.
    total : int or None
        Frames that will be sent; None of an endless loop.

    Raises
    ------
    ConfigurationError
        The address cannot be bound, or there is no frame to send.
    """

    def __init__(
        self,
        files: Sequence[FileSeries | Recording],
        *,
        bind: str = "tcp://127.0.0.1:5555",
        fps: float = 10.0,
        loop: bool = False,
        lossless: bool = False,
        frames: int | None = None,
        first: int = 0,
        last: int | None = None,
        context: zmq.Context | None = None,
    ) -> None:
        self._shots = shots_of(files, first, last)
        if not self._shots:
            raise ConfigurationError(
                f"no frame from {first}{'' if last is None else f' to {last}'}; "
                f"there are {sum(map(len, files))}, counted from 0"
            )
        # the last of each series, so that it is ended there
        self._last_of = {shot.kind: k for k, shot in enumerate(self._shots)}
        self.total = frames if loop else min(len(self._shots), frames or len(self._shots))
        self._period_s = 1.0 / fps
        self._loop = loop
        self._lossless = lossless
        self._limit = frames
        self._stopped = threading.Event()
        self._open: dict[tuple[Any, ...], _OpenSeries] = {}
        self._n_series = 0
        self._owned = context is None
        self._context = zmq.Context() if context is None else context
        # XPUB is PUB that also tells when somebody subscribes.
        kind = zmq.PUSH if lossless else zmq.XPUB
        self._socket: zmq.Socket = self._context.socket(kind)
        self._socket.sndhwm = SEND_HWM
        # A service that lost its power says no goodbye.
        self._socket.heartbeat_ivl = HEARTBEAT_MS
        self._socket.heartbeat_timeout = BUSY_MS if lossless else SILENT_MS
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self._stopped.set()
            self.close()
            raise ConfigurationError(f"--bind {bind}: {error}; expected a free tcp://HOST:PORT") from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def wait_for_receiver(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody subscribes or connects.

        Parameters
        ----------
        timeout_s : float, optional
            Longest wait [s]; endless where none is given.

        Returns
        -------
        bool
            Whether somebody has; false after the timeout or when stopped.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._stopped.is_set():
            if self._socket.poll(POLL_MS, zmq.POLLOUT if self._lossless else zmq.POLLIN):
                return True
            if deadline is not None and time.monotonic() > deadline:
                return False
        return False

    def run(self, on_frame: Callable[[int], None] | None = None) -> int:
        """Send everything, or until `stop`.

        Parameters
        ----------
        on_frame : callable, optional
            Called with the number of frames sent, after each.

        Returns
        -------
        int
            Frames sent.

        Raises
        ------
        FileError
            A frame in the middle of a file cannot be read.
        """
        sent = 0
        due = time.monotonic()
        # when a frame was due, and not when this machine got to it: so every replay gives the same times
        clock = time.time() - due
        try:
            for k, turn, shot in self._all():
                series = self._series_of(shot, turn)
                image = shot.image
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    break
                if not self._send(self._message(shot, image, series, due + clock), series):
                    break
                series.frames += 1
                sent += 1
                if on_frame is not None:
                    on_frame(sent)
                due = max(due + self._period_s, time.monotonic() - MAX_LATE_S)
                if shot.header is not None and self._last_of[shot.kind] == k:
                    self._end(shot.kind)
        finally:
            for kind in list(self._open):
                self._end(kind)
        return sent

    def stop(self) -> None:
        """End `run` and `wait_for_receiver` soon; from any thread or a signal handler."""
        self._stopped.set()

    def close(self) -> None:
        """Close the socket when what was sent has left."""
        self._socket.close(linger=LINGER_STOPPED_MS if self._stopped.is_set() else LINGER_MS)
        if self._owned:
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all(self) -> Iterator[tuple[int, int, Shot]]:
        """Number in a turn, turn, and frame."""
        sent = turn = 0
        while True:
            for k, shot in enumerate(self._shots):
                if sent == self._limit:
                    return
                sent += 1
                yield k, turn, shot
            if not self._loop:
                return
            turn += 1

    def _series_of(self, shot: Shot, turn: int) -> _OpenSeries:
        """The open series that a frame belongs to; a file of another kind ends the one before."""
        if shot.kind not in self._open:
            if shot.header is None:
                for kind in list(self._open):
                    self._end(kind)
            self._n_series += 1
            series = _OpenSeries(self._name_of(shot, turn))
            self._open[shot.kind] = series
            start = SeriesStart(series_id=series.series_id, msg_number=0, frames=None)
            self._send([encode_json(start)], series)
        return self._open[shot.kind]

    def _name_of(self, shot: Shot, turn: int) -> str:
        if shot.header is not None:
            name = str(shot.header.get("series_id", ""))
            return f"{name} turn {turn + 1}"[-256:] if turn else name
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        stem = "".join(
            character if character.isprintable() else "_" for character in shot.series.path.stem[:128]
        )
        return f"{stem}-{now}-{self._n_series}"

    def _message(
        self, shot: Shot, image: NDArray[Any], series: _OpenSeries, due: float
    ) -> list[bytes | memoryview]:
        number = series.frames if shot.header is None else int(shot.header["frame"])
        fields = {"timeStamp": due} if shot.header is None else {}
        return encode_frame(
            image,
            frame=number,
            series_id=series.series_id,
            msg_number=series.messages,
            **fields,
            **shot.fields,
        )

    def _end(self, kind: tuple[Any, ...]) -> None:
        series = self._open.pop(kind)
        end = SeriesEnd(series_id=series.series_id, msg_number=series.messages, frames=series.frames)
        self._send([encode_json(end)], series)

    def _send(self, parts: list[bytes | memoryview], series: _OpenSeries) -> bool:
        """Send one message; false when it was stopped before there was room for it."""
        while True:
            with contextlib.suppress(zmq.Again):
                self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
                series.messages += 1
                return True
            if self._stopped.is_set():
                return False
            self._socket.poll(POLL_MS, zmq.POLLOUT)
