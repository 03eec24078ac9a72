"""Recorded frames in; the messages of a microscope that acquires them now, out."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import zmq
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError
from latticewatch.ingest.files import FileSeries
from latticewatch.messages import SeriesEnd, SeriesStart, encode_frame, encode_json

# Frames that may wait for one subscriber before PUB drops, or before PUSH blocks.
SEND_HWM = 8
# How often a blocked send or wait looks whether it should stop.
POLL_MS = 100
# Further behind than this, the schedule starts afresh instead of rushing after it.
MAX_LATE_S = 1.0
# How long the last messages may take to leave when everything was sent, and when it was stopped.
LINGER_MS, LINGER_STOPPED_MS = 30_000, 500


class Replayer:
    """Publishes the frames of files at a steady rate, as if they were acquired now.

    Files of one shape and pixel size make one series, whose frame numbers run on from file to file and, with
    ``loop``, from pass to pass, so that what is followed over time lives on. Another shape or pixel size starts
    another series.

    Parameters
    ----------
    files : sequence of FileSeries
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
    context : zmq.Context, optional
        Left open by `close`.

    Attributes
    ----------
    endpoint : str
        The address that was bound.

    Raises
    ------
    ConfigurationError
        The address cannot be bound.
    """

    def __init__(
        self,
        files: Sequence[FileSeries],
        *,
        bind: str = "tcp://127.0.0.1:5555",
        fps: float = 10.0,
        loop: bool = False,
        lossless: bool = False,
        frames: int | None = None,
        context: zmq.Context | None = None,
    ) -> None:
        self._files = files
        self._period_s = 1.0 / fps
        self._loop = loop
        self._lossless = lossless
        self._limit = frames
        self._stopped = threading.Event()
        self._series_id = ""
        self._n_series = 0
        self._n_messages = 0
        self._owned = context is None
        self._context = zmq.Context() if context is None else context
        # XPUB is PUB that also tells when somebody subscribes.
        kind = zmq.PUSH if lossless else zmq.XPUB
        self._socket: zmq.Socket = self._context.socket(kind)
        self._socket.sndhwm = SEND_HWM
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self._stopped.set()
            self.close()
            raise ConfigurationError(f"--bind {bind}: {error}; expected a free tcp://HOST:PORT") from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def wait_for_receiver(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody subscribes or connects.

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
        sent = number = 0
        kind = None
        due = time.monotonic()
        try:
            for series, image in self._frames():
                if (series.shape, series.pixel_size_nm) != kind:
                    self._end_series(number)
                    kind, number = (series.shape, series.pixel_size_nm), 0
                    self._start_series(series)
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    break
                if not self._send(self._message(series, image, number)):
                    break
                number += 1
                sent += 1
                if on_frame is not None:
                    on_frame(sent)
                due = max(due + self._period_s, time.monotonic() - MAX_LATE_S)
        finally:
            self._end_series(number)
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

    def _frames(self) -> Iterator[tuple[FileSeries, NDArray[Any]]]:
        sent = 0
        while True:
            for series in self._files:
                for image in series:
                    if sent == self._limit:
                        return
                    sent += 1
                    yield series, image
            if not self._loop:
                return

    def _message(self, series: FileSeries, image: NDArray[Any], number: int) -> list[bytes | memoryview]:
        fields: dict[str, Any] = (
            {} if series.pixel_size_nm is None else {"pixel_size_nm": series.pixel_size_nm}
        )
        return encode_frame(
            image,
            frame=number,
            series_id=self._series_id,
            msg_number=self._n_messages,
            timeStamp=time.time(),
            **fields,
        )

    def _start_series(self, series: FileSeries) -> None:
        self._n_series += 1
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        stem = "".join(character if character.isprintable() else "_" for character in series.path.stem[:128])
        self._series_id = f"{stem}-{now}-{self._n_series}"
        self._n_messages = 0
        self._send([encode_json(SeriesStart(series_id=self._series_id, msg_number=0, frames=None))])

    def _end_series(self, frames: int) -> None:
        if self._series_id:
            end = SeriesEnd(series_id=self._series_id, msg_number=self._n_messages, frames=frames)
            self._send([encode_json(end)])
            self._series_id = ""

    def _send(self, parts: list[bytes | memoryview]) -> bool:
        """Send one message; false when it was stopped before there was room for it."""
        while True:
            with contextlib.suppress(zmq.Again):
                self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
                self._n_messages += 1
                return True
            if self._stopped.is_set():
                return False
            self._socket.poll(POLL_MS, zmq.POLLOUT)
