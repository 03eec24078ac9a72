"""Where messages come in: a ZeroMQ socket that listens, one that asks, or a connection to a Merlin."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from typing import Any, Protocol

import structlog
import zmq

from latticewatch.config import IngestSettings
from latticewatch.errors import ConfigurationError, WireError
from latticewatch.ingest._curve import Curve
from latticewatch.ingest._karabo import REQUEST
from latticewatch.ingest._merlin import MerlinStream
from latticewatch.ingest._wire import MAX_HEADER_BYTES

# Messages that ZeroMQ may hold for us while we are busy with another one, in the mode that drops.
LATEST_HWM = 32
# A request without an answer for so long is made again: the other side has been restarted.
ASK_AGAIN_S = 5.0
# A sender of ours asks its peer so often whether it is there, and gives it up when that says nothing for so long [ms].
HEARTBEAT_MS, SILENT_MS = 10_000, 30_000
# One that may lose nothing waits longer: a receiver that learns reads nothing meanwhile, and says nothing either.
BUSY_MS = 300_000
# The system asks the machine of a peer whether it is there, first after so long, then again, so often [s].
KEEPALIVE_S, KEEPALIVE_AGAIN_S, KEEPALIVE_TIMES = 10, 5, 4
# A connection that has given messages and then none for so long is made anew; each time in vain, after twice as long,
# up to the second number [s].
SILENT_S, SILENT_MOST_S = 30.0, 480.0
# A connection that is lost or refused is made again after this.
CONNECT_AGAIN_S = 1.0
READ_BYTES = 2**20
# Parts of one message: a train of a karabo bridge has two and more for each of its sources, everything else one or two.
MAX_PARTS = 4096

log = structlog.get_logger(__name__)


class Inlet(Protocol):
    """Gives messages when there are some; polled by one thread."""

    endpoint: str

    @property
    def pollable(self) -> Any:
        """What a poller takes, or None while there is no connection."""
        ...

    def receive(self) -> Iterator[list[memoryview]]:
        """The messages that have come; without waiting."""
        ...

    def tick(self) -> float | None:
        """Do what is due; returns in how many seconds to come again, if at all."""
        ...

    def close(self) -> None: ...


def max_message(settings: IngestSettings) -> int:
    """Somewhat too large is read and counted as such; a peer that sends more than this is cut off [bytes]."""
    return 2 * settings.max_frame_mib * 2**20 + MAX_HEADER_BYTES


def open_inlet(
    settings: IngestSettings, context: zmq.Context, source: str, curve: Curve | None = None
) -> Inlet:
    """Open a source: ``merlin://HOST[:PORT]``, or an endpoint of ZeroMQ, encrypted where there are keys.

    Raises
    ------
    ConfigurationError
        It cannot be bound or connected.
    """
    if source.startswith("merlin://"):
        return MerlinInlet(source, max_message(settings))
    kind = {"sub": zmq.SUB, "pull": zmq.PULL, "req": zmq.REQ}[settings.socket]
    zmq_socket = context.socket(kind)
    zmq_socket.linger = 0
    zmq_socket.rcvhwm = LATEST_HWM if settings.mode == "latest" else settings.queue_frames
    zmq_socket.maxmsgsize = max_message(settings)
    # A peer that loses its power says no goodbye. No heartbeats of ZeroMQ: libzmq 4.3.5 ends the process when it sends
    # one to a peer that has gone away while our queue was full (out_event, `Assertion failed: !_io_error`).
    zmq_socket.tcp_keepalive = 1
    zmq_socket.tcp_keepalive_idle = KEEPALIVE_S
    zmq_socket.tcp_keepalive_intvl = KEEPALIVE_AGAIN_S
    zmq_socket.tcp_keepalive_cnt = KEEPALIVE_TIMES
    zmq_socket.ipv6 = "[" in source
    if kind == zmq.SUB:
        zmq_socket.subscribe(b"")
    if kind == zmq.REQ:
        zmq_socket.req_relaxed = 1
        zmq_socket.req_correlate = 1
    try:
        if curve is not None:
            curve.apply(zmq_socket, bind=settings.bind)
        if settings.bind:
            zmq_socket.bind(source)
            endpoint = zmq_socket.last_endpoint.decode()
        else:
            zmq_socket.connect(source)
            endpoint = source
    except ConfigurationError:
        zmq_socket.close(linger=0)
        raise
    except zmq.ZMQError as error:
        zmq_socket.close(linger=0)
        verb = "bind" if settings.bind else "connect"
        raise ConfigurationError(
            f"source {source}: cannot {verb}: {error}; expected tcp://HOST:PORT, ipc://PATH or merlin://HOST:PORT"
        ) from error
    kind_of_inlet = AskingInlet if kind == zmq.REQ else ZmqInlet
    return kind_of_inlet(zmq_socket, endpoint, max_message(settings), connects=not settings.bind)


class ZmqInlet:
    """A SUB or PULL socket.

    Parameters
    ----------
    zmq_socket : zmq.Socket
    endpoint : str
    max_bytes : int
        Of a message, all its parts together; the rest of a larger one is thrown away part by part.
    connects : bool
        It connects to its peer, and so can connect anew.
    """

    def __init__(
        self, zmq_socket: zmq.Socket, endpoint: str, max_bytes: int, *, connects: bool = False
    ) -> None:
        self.socket, self.endpoint = zmq_socket, endpoint
        self._max_bytes, self._connects = max_bytes, connects
        self._heard_at: float | None = None
        self._in_vain = 0

    @property
    def pollable(self) -> Any:
        return self.socket

    def receive(self) -> Iterator[list[memoryview]]:
        """One message, so that sources take turns.

        Raises
        ------
        WireError
            It has more parts, or is larger, than any message may be.
        """
        parts: list[memoryview] = []
        n = size = 0
        more = True
        while more:
            try:
                part = self.socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            n, size, more = n + 1, size + len(part), part.more
            if n > MAX_PARTS or size > self._max_bytes:
                parts.clear()
            else:
                parts.append(part.buffer)
        self._heard_at, self._in_vain = time.monotonic(), 0
        if n > MAX_PARTS or size > self._max_bytes:
            raise WireError(
                f"message of {n} parts and {size / 2**20:.1f} MiB, limits {MAX_PARTS} parts and "
                f"{self._max_bytes / 2**20:.1f} MiB",
                "parts" if n > MAX_PARTS else "size",
            )
        yield parts

    def tick(self) -> float | None:
        """Connect anew where a peer that has sent something has been silent for long: something between may be dead."""
        if self._heard_at is None or not self._connects:
            return None
        patience_s = min(SILENT_S * 2**self._in_vain, SILENT_MOST_S)
        left_s = self._heard_at + patience_s - time.monotonic()
        if left_s > 0:
            return left_s
        if self.socket.poll(0):  # it waits to be read
            return None
        log.info("silent for long; connected anew", source=self.endpoint, seconds=patience_s)
        self.socket.disconnect(self.endpoint)
        self.socket.connect(self.endpoint)
        self._heard_at, self._in_vain = time.monotonic(), self._in_vain + 1
        return SILENT_S

    def close(self) -> None:
        self.socket.close(linger=0)


class AskingInlet(ZmqInlet):
    """A REQ socket that asks for the next message when the one before has been taken, as a karabo bridge wants it."""

    # When it asked last; None where it may ask.
    _asked: float | None = None

    def receive(self) -> Iterator[list[memoryview]]:
        for parts in super().receive():
            self._asked = None
            yield parts

    def tick(self) -> float | None:
        now = time.monotonic()
        if self._asked is None or now - self._asked > ASK_AGAIN_S:
            try:
                self.socket.send(REQUEST, zmq.NOBLOCK)
                self._asked = now
            except zmq.Again:  # nobody is there yet
                return CONNECT_AGAIN_S
        return max(0.01, self._asked + ASK_AGAIN_S - now)


class MerlinInlet:
    """The data port of a Merlin, connected again whenever it is lost."""

    def __init__(self, source: str, max_bytes: int) -> None:
        host, _, port = source.removeprefix("merlin://").partition(":")
        if not host or not (port or "6342").isdigit():
            raise ConfigurationError(f"source {source}: expected merlin://HOST or merlin://HOST:PORT")
        self.endpoint = source
        self._address = host, int(port or 6342)
        self._max_bytes = max_bytes
        self._socket: socket.socket | None = None
        self._stream = MerlinStream(max_bytes)
        self._next_try = 0.0

    @property
    def pollable(self) -> Any:
        return self._socket

    def receive(self) -> Iterator[list[memoryview]]:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(str(error))
            return
        if not data:
            self._lost("the other side has closed it")
            return
        try:
            for payload in self._stream.feed(data):
                yield [payload]
        except WireError:
            self._lost("what came is no Merlin stream")
            raise

    def tick(self) -> float | None:
        now = time.monotonic()
        if self._socket is not None:
            return None
        if now < self._next_try:
            return self._next_try - now
        self._next_try = now + CONNECT_AGAIN_S
        one = socket.socket(
            socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET, socket.SOCK_STREAM
        )
        # A host that does not answer must not hold up the other sources.
        one.settimeout(0.5)
        try:
            one.connect(self._address)
        except OSError as error:
            one.close()
            if error.errno not in (errno.ECONNREFUSED, None):
                log.debug("no connection", source=self.endpoint, error=str(error))
            return CONNECT_AGAIN_S
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._stream = one, MerlinStream(self._max_bytes)
        return None

    def _lost(self, why: str) -> None:
        log.warning("connection lost", source=self.endpoint, why=why)
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
