"""Sends a series over ZeroMQ: its start, its frames, its end."""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType
from typing import Any, Self

import zmq
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError
from latticewatch.messages import SeriesEnd, SeriesStart, encode_frame, encode_json

# How often a wait looks whether it should stop [ms].
POLL_MS = 50
LOCAL_HOSTS = ("127.", "localhost", "[::1]", "::1")


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach an endpoint.

    Parameters
    ----------
    endpoint : str
        As ZeroMQ writes it, such as ``tcp://127.0.0.1:5555``.

    Returns
    -------
    bool
    """
    transport, _, address = endpoint.partition("://")
    return transport != "tcp" or address.startswith(LOCAL_HOSTS)


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind a socket and return where, with the port that the system chose for port 0.

    Raises
    ------
    ConfigurationError
        An address that is wrong or taken.
    """
    transport, _, address = endpoint.partition("://")
    port = address.rpartition(":")[2]
    # libzmq takes a port that is too large for another one.
    if transport == "tcp" and port.isdecimal() and int(port) > 65535:
        raise ConfigurationError(f"cannot bind {endpoint}: port {port}; give 0 to 65535")
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise ConfigurationError(
            f"cannot bind {endpoint}: {error.strerror or error}; give a free address such as tcp://127.0.0.1:0"
        ) from error
    return socket.get_string(zmq.LAST_ENDPOINT)


class Publisher:
    """A bound socket that a series is sent through; a context manager, used from one thread.

    A published frame that finds the queue of a subscriber full is dropped for it. Pushed frames are never
    dropped: the sender waits.

    Parameters
    ----------
    endpoint : str
        Address to bind; ``tcp://127.0.0.1:0`` takes a free port.
    push : bool
        PUSH instead of PUB.
    queue_frames : int
        Frames that may wait for a receiver.
    context : zmq.Context, optional
        The caller's, which stays open; else one of its own.

    Attributes
    ----------
    endpoint : str
        Where it is bound.
    frames : int
        Frames sent in this series.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        push: bool = False,
        queue_frames: int = 8,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        # XPUB is a PUB that also tells who subscribes.
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PUSH if push else zmq.XPUB)
        self._push = push
        self._subscriptions = 0
        self._socket.set(zmq.SNDHWM, queue_frames)
        self._socket.set(zmq.LINGER, 1000)
        self._socket.set(zmq.HEARTBEAT_IVL, 10_000)
        # A receiver that learns reads nothing meanwhile: one that may lose nothing waits for it.
        self._socket.set(zmq.HEARTBEAT_TIMEOUT, 300_000 if push else 30_000)
        # What subscribers may send is a topic.
        self._socket.set(zmq.MAXMSGSIZE, 1024)
        self._messages = 0
        self.frames = 0
        try:
            self.endpoint = bind(self._socket, endpoint)
        except ConfigurationError:
            self.close()
            raise

    def wait_for_subscriber(self, stop: threading.Event, timeout_s: float | None = None) -> bool:
        """Wait until somebody receives.

        Parameters
        ----------
        stop : Event
            Ends the wait when set.
        timeout_s : float, optional
            Longest wait; None waits on.

        Returns
        -------
        bool
            Whether somebody does.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._has_receiver(POLL_MS):
            if stop.is_set() or time.monotonic() > deadline:
                return False
        return True

    def start_series(self, series_id: str, frames: int | None, stop: threading.Event) -> None:
        """Announce a series.

        Parameters
        ----------
        series_id : str
        frames : int or None
            How many will come; None where nobody knows.
        stop : Event
            Gives up waiting for a receiver when set.
        """
        self._messages = self.frames = 0
        message = SeriesStart(series_id=series_id, msg_number=0, frames=frames)
        self._send([encode_json(message)], stop)

    def send(
        self, image: NDArray[Any], *, frame: int, series_id: str, stop: threading.Event, **fields: Any
    ) -> None:
        """Send one frame; its memory must not be changed afterwards.

        Parameters
        ----------
        image : ndarray of shape (rows, columns)
            The frame.
        frame, series_id : int, str
            Its number and series.
        stop : Event
            Gives up waiting for a receiver when set.
        **fields
            Further fields of `latticewatch.messages.FrameHeader`.
        """
        parts = encode_frame(image, frame=frame, series_id=series_id, msg_number=self._messages, **fields)
        if self._send(parts, stop):
            self.frames += 1

    def end_series(self, series_id: str) -> None:
        """Say that the series is over; not said to a receiver that takes nothing any more.

        Parameters
        ----------
        series_id : str
        """
        message = SeriesEnd(series_id=series_id, msg_number=self._messages, frames=self.frames)
        try:
            self._socket.send(encode_json(message), zmq.NOBLOCK)
        except zmq.Again:
            return

    def close(self) -> None:
        """Close the socket, and the context if it is its own."""
        self._socket.close()
        if self._own_context:
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, parts: list[bytes | memoryview], stop: threading.Event) -> bool:
        if not self._push:
            self._has_receiver(0)
        while True:
            try:
                self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
            except zmq.Again:
                if stop.is_set():
                    return False
                self._socket.poll(POLL_MS, zmq.POLLOUT)
            else:
                self._messages += 1
                return True

    def _has_receiver(self, wait_ms: int) -> bool:
        if self._push:
            return bool(self._socket.poll(wait_ms, zmq.POLLOUT))
        if not self._subscriptions:
            self._socket.poll(wait_ms, zmq.POLLIN)
        while True:
            try:
                event = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return self._subscriptions > 0
            # The first subscription to a topic and the end of the last one: 1 or 0, then the topic.
            self._subscriptions += {b"\x01": 1, b"\x00": -1}.get(event[:1], 0)
