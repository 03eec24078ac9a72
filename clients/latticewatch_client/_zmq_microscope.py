"""A microscope behind a control socket: JSON requests out over ZeroMQ, replies back."""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from latticewatch.errors import (
    ConfigurationError,
    ControlError,
    ControlRefusedError,
    ControlTimeoutError,
    ControlUnreachableError,
)
from latticewatch.messages import (
    Acquired,
    Capabilities,
    ControlReply,
    ControlRequest,
    Exposed,
    Limits,
    MicroscopeState,
    encode_json,
)

DEFAULT_CONTROL = "tcp://127.0.0.1:5556"
# A reply is larger than a request only where it tells a truth or a dose map.
MAX_REPLY_BYTES = 16 << 20
ASK_AGAIN_S = 0.02

M = TypeVar("M", bound=BaseModel)


class ZmqMicroscope:
    """A `Microscope` over ZeroMQ: that of ``latticewatch simulate``, or an adapter beside a real one.

    From any thread: requests wait for each other, and `stop` waits for none.

    Parameters
    ----------
    endpoint : str
        Control socket, ``tcp://HOST:PORT``. One that is not on this machine has to be meant: ``remote=True``.
    timeout : float
        Longest wait for one answer [s].
    retries : int
        How often a request without an answer is sent again, over a new socket. It carries the same id, so that what
        was done is not done twice.
    settle_timeout : float
        Longest time for the stage to settle [s].
    tolerance_nm : float
        The stage has arrived when it is this near [nm].
    remote : bool
        Whether the socket may be on another machine. It has no password: whoever reaches it moves the stage.
    context : zmq.Context, optional
        The caller's, which stays open.

    Raises
    ------
    ConfigurationError
        A socket of another machine that was not meant.

    Notes
    -----
    A REQ socket that waits for an answer cannot send, so it is opened anew after a request without an answer (the "lazy
    pirate" of the ZeroMQ guide).
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_CONTROL,
        timeout: float = 2.0,
        retries: int = 2,
        settle_timeout: float = 30.0,
        tolerance_nm: float = 0.02,
        remote: bool = False,
        context: Any = None,
    ) -> None:
        import zmq

        if not remote and endpoint.startswith("tcp://") and not _is_local(endpoint):
            raise ConfigurationError(
                f"{endpoint}: not on this machine, and a control socket has no password; give remote=True if that is "
                "meant, or lead a port of this machine there with ssh -L"
            )
        self._zmq = zmq
        self.endpoint = endpoint
        self._timeout_ms = max(1, round(timeout * 1000))
        self._retries = retries
        self._settle_timeout, self._tolerance_nm = settle_timeout, tolerance_nm
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._lock = threading.Lock()
        self._socket: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, and the context if it is ours."""
        with self._lock:
            self._drop_socket()
        if self._own_context:
            self._context.term()

    # What it is and does

    def limits(self) -> Limits:
        """What it can do at the utmost."""
        return self._result(ControlRequest(action="limits"), Limits)

    def state(self) -> MicroscopeState:
        """What it does now."""
        return self._result(ControlRequest(action="state"), MicroscopeState)

    def capabilities(self) -> Capabilities:
        """What it is, and which actions it has."""
        return self._result(ControlRequest(action="capabilities"), Capabilities)

    # Actions

    def move_stage(self, x_nm: float, y_nm: float, id: str) -> MicroscopeState:  # noqa: A002
        """Bring the stage to a place and wait until it has settled.

        Parameters
        ----------
        x_nm, y_nm : float
            [nm]
        id : str
            Of this action; the same id is done once.

        Returns
        -------
        MicroscopeState
            After it.

        Raises
        ------
        ControlRefusedError
            Beyond the limits.
        ControlTimeoutError
            It has not settled in time, or elsewhere.
        ControlUnreachableError
        """
        self.ask(ControlRequest(action="move_stage", x_nm=x_nm, y_nm=y_nm, request_id=id))
        deadline = time.monotonic() + self._settle_timeout
        while (state := self.state()).moving:
            if time.monotonic() > deadline:
                raise ControlTimeoutError(
                    f"{self.endpoint}: the stage still moves after {self._settle_timeout:g} s; look at it"
                )
            time.sleep(ASK_AGAIN_S)
        away = math.dist((state.x_nm, state.y_nm), (x_nm, y_nm))
        if not away <= self._tolerance_nm:
            raise ControlTimeoutError(
                f"{self.endpoint}: the stage settled {away:.3f} nm from ({x_nm:g}, {y_nm:g}) nm, tolerance "
                f"{self._tolerance_nm:g} nm"
            )
        return state

    def shift_image(self, dx_nm: float, dy_nm: float, id: str) -> MicroscopeState:  # noqa: A002
        """Set the image shift: the shift itself, not a step.

        Parameters
        ----------
        dx_nm, dy_nm : float
            [nm]
        id : str
            Of this action; the same id is done once.

        Returns
        -------
        MicroscopeState
            After it.

        Raises
        ------
        ControlError
            As for `ask`.
        """
        self.ask(ControlRequest(action="shift_image", dx_nm=dx_nm, dy_nm=dy_nm, request_id=id))
        return self.state()

    def set_scan(
        self,
        fov_nm: float | None = None,
        rotation_deg: float | None = None,
        dwell_s: float | None = None,
        shape: tuple[int, int] | None = None,
        *,
        id: str,  # noqa: A002
    ) -> MicroscopeState:
        """Take another scan from the next frame on; what is not given stays.

        Parameters
        ----------
        fov_nm : float, optional
            Width of the field [nm].
        rotation_deg : float, optional
            [degrees]
        dwell_s : float, optional
            Time for one pixel [s].
        shape : tuple of int, optional
            Rows and columns.
        id : str
            Of this action; the same id is done once.

        Returns
        -------
        MicroscopeState
            After it.

        Raises
        ------
        ControlError
            As for `ask`.
        """
        self.ask(
            ControlRequest(
                action="set_scan",
                fov_nm=fov_nm,
                rotation_deg=rotation_deg,
                dwell_s=dwell_s,
                shape=shape,
                request_id=id,
            )
        )
        return self.state()

    def acquire(self, frames: int, id: str) -> Acquired:  # noqa: A002
        """Take frames.

        Parameters
        ----------
        frames : int
            How many.
        id : str
            Of this action; the same id is done once.

        Returns
        -------
        Acquired
            Which ones they are.

        Raises
        ------
        ControlRefusedError
            The beam is blanked, or too many frames.
        ControlTimeoutError
            Something moved meanwhile, or they did not come.
        ControlUnreachableError
        """
        longest = self._settle_timeout + 3 * frames * self.state().frame_s
        request = ControlRequest(action="acquire", frames=frames, request_id=id)
        return self._until_done(request, Acquired, longest)

    def expose(self, x_nm: float, y_nm: float, duration_s: float, id: str) -> Exposed:  # noqa: A002
        """Let the beam stand at a place.

        Parameters
        ----------
        x_nm, y_nm : float
            Place of the stage [nm].
        duration_s : float
            [s]
        id : str
            Of this action; the same id is done once.

        Returns
        -------
        Exposed
            With the dose that it gave.

        Raises
        ------
        ControlRefusedError
            The beam is blanked, the place out of the field, or the time too long.
        ControlTimeoutError, ControlUnreachableError
        """
        request = ControlRequest(action="expose", x_nm=x_nm, y_nm=y_nm, duration_s=duration_s, request_id=id)
        return self._until_done(request, Exposed, duration_s + self._settle_timeout)

    def blank(self, on: bool) -> None:
        """Take the beam off the specimen, or let it back.

        Parameters
        ----------
        on : bool
            True takes it off.

        Raises
        ------
        ControlError
            As for `ask`.
        """
        self.ask(ControlRequest(action="blank", on=on))

    def stop(self) -> None:
        """Emergency stop, over a socket of its own: no other request holds it up.

        Raises
        ------
        ControlUnreachableError
            No answer: nobody knows whether it stopped.
        """
        with self._context.socket(self._zmq.REQ) as socket:
            self._prepare(socket)
            answer = self._over(socket, encode_json(ControlRequest(action="stop")))
        if answer is None:
            raise ControlUnreachableError(
                f"{self.endpoint}: no answer to the emergency stop; press the button"
            )

    def release(self) -> None:
        """Let it go on after an emergency stop; the beam stays blanked."""
        self.ask(ControlRequest(action="release"))

    # The socket

    def ask(self, request: ControlRequest) -> ControlReply:
        """Send any request.

        Parameters
        ----------
        request : ControlRequest
            Given an id where it has none.

        Returns
        -------
        ControlReply

        Raises
        ------
        ControlRefusedError, ControlTimeoutError
            What the reply says.
        ControlUnreachableError
            No answer after all retries, or one that cannot be read.
        """
        if not request.request_id:
            request = request.model_copy(update={"request_id": uuid.uuid4().hex})
        message = encode_json(request)
        for _ in range(1 + self._retries):
            with self._lock:
                answer = self._exchange(message)
            if answer is not None:
                return self._read(answer)
        raise ControlUnreachableError(
            f"{self.endpoint}: no answer to {request.action} within {self._timeout_ms} ms, "
            f"{1 + self._retries} times; is the microscope's control server running?"
        )

    def _read(self, answer: bytes) -> ControlReply:
        try:
            reply = ControlReply.model_validate_json(answer)
        except ValidationError as error:
            raise ControlUnreachableError(
                f"{self.endpoint}: an answer that is no ControlReply: {error.errors()[0]['msg']}"
            ) from error
        if reply.ok:
            return reply
        kind = ControlTimeoutError if reply.fault == "timeout" else ControlRefusedError
        raise kind(f"{self.endpoint}: {reply.error or 'refused without a reason'}")

    def _result(self, request: ControlRequest, model: type[M]) -> M:
        return self._model(self.ask(request), model)

    def _model(self, reply: ControlReply, model: type[M]) -> M:
        try:
            return model.model_validate(reply.result)
        except ValidationError as error:
            raise ControlUnreachableError(
                f"{self.endpoint}: an answer that is no {model.__name__}: {error.errors()[0]['msg']}"
            ) from error

    def _until_done(self, request: ControlRequest, model: type[M], longest_s: float) -> M:
        deadline = time.monotonic() + longest_s
        while not (reply := self.ask(request)).done:
            if time.monotonic() > deadline:
                raise ControlTimeoutError(
                    f"{self.endpoint}: {request.action} has not ended after {longest_s:.0f} s"
                )
            time.sleep(ASK_AGAIN_S)
        return self._model(reply, model)

    def _exchange(self, message: bytes) -> bytes | None:
        if self._socket is None:
            self._socket = self._context.socket(self._zmq.REQ)
            try:
                self._prepare(self._socket)
            except ControlError:
                self._drop_socket()
                raise
        answer = self._over(self._socket, message)
        if answer is None:
            self._drop_socket()
        return answer

    def _prepare(self, socket: Any) -> None:
        socket.linger = 0
        socket.set(self._zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        socket.set(self._zmq.HEARTBEAT_IVL, 10_000)
        socket.set(self._zmq.HEARTBEAT_TIMEOUT, 30_000)
        try:
            socket.connect(self.endpoint)
        except self._zmq.ZMQError as error:
            raise ControlUnreachableError(f"{self.endpoint}: {error}; expected tcp://HOST:PORT") from error

    def _over(self, socket: Any, message: bytes) -> bytes | None:
        # Without a peer, sending would wait for ever.
        if socket.poll(self._timeout_ms, self._zmq.POLLOUT):
            socket.send(message)
            if socket.poll(self._timeout_ms, self._zmq.POLLIN):
                return socket.recv()
        return None

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _is_local(endpoint: str) -> bool:
    transport, _, address = endpoint.partition("://")
    host = (address.rpartition(":")[0] or address).strip("[]")
    return transport in ("inproc", "ipc") or host in ("localhost", "::1") or host.startswith("127.")
