"""The microscope's control socket: requests out over ZeroMQ, the state of the stage back."""

from __future__ import annotations

import time
import uuid
from typing import Any, Self

from pydantic import ValidationError

from latticewatch.errors import ControlError
from latticewatch.messages import ControlReply, ControlRequest, StageState, encode_json

DEFAULT_CONTROL = "tcp://127.0.0.1:5556"


class Microscope:
    """The stage of a microscope, or of the simulator. Not for several threads at once.

    Parameters
    ----------
    endpoint : str
        Control socket, ``tcp://HOST:PORT``.
    timeout : float
        Longest wait for one answer [s].
    retries : int
        How often a request without an answer is sent again, over a new socket. It carries the same
        ``request_id``, so a move whose answer was lost is not made twice.
    context : zmq.Context, optional
        The caller's, which stays open.

    Notes
    -----
    The socket is opened at the first request, and opened again after a request without an answer: a REQ
    socket that waits for an answer cannot send (the "lazy pirate" of the ZeroMQ guide).
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_CONTROL,
        timeout: float = 2.0,
        retries: int = 2,
        context: Any = None,
    ) -> None:
        import zmq

        self._zmq = zmq
        self.endpoint = endpoint
        self._timeout_ms = max(1, round(timeout * 1000))
        self._retries = retries
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._socket: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, and the context if it is ours."""
        self._drop_socket()
        if self._own_context:
            self._context.term()

    def stage(self) -> StageState:
        """Where the stage is, and how far it may go.

        Raises
        ------
        ControlError
            No answer, or a refusal.
        """
        return self._stage_of(ControlRequest(action="get_stage", request_id=_new_id()))

    def move_to(self, x_nm: float, y_nm: float, request_id: str | None = None) -> StageState:
        """Bring a place on the specimen to the centre of the frame; the stage may still be on its way.

        Parameters
        ----------
        x_nm, y_nm : float
            Position of the stage [nm].
        request_id : str, optional
            A move with the same one is made once; made up where none is given.

        Raises
        ------
        ControlError
            No answer, or a refusal such as a place beyond the limit.
        """
        return self._stage_of(
            ControlRequest(action="move_stage", x_nm=x_nm, y_nm=y_nm, request_id=request_id or _new_id())
        )

    def wait_until_still(self, timeout: float = 30.0, interval: float = 0.05) -> StageState:
        """Wait for the end of a move.

        Raises
        ------
        ControlError
            It has not ended in time.
        """
        deadline = time.monotonic() + timeout
        while (state := self.stage()).moving:
            if time.monotonic() > deadline:
                raise ControlError(f"{self.endpoint}: the stage still moves after {timeout:g} s; look at it")
            time.sleep(interval)
        return state

    def ask(self, request: ControlRequest) -> ControlReply:
        """Send any request.

        Raises
        ------
        ControlError
            No answer after all retries, or one that cannot be read.
        """
        message = encode_json(request.model_copy(update={"request_id": request.request_id or _new_id()}))
        for _ in range(1 + self._retries):
            answer = self._exchange(message)
            if answer is None:
                continue
            try:
                return ControlReply.model_validate_json(answer)
            except ValidationError as error:
                raise ControlError(
                    f"{self.endpoint}: an answer that is no ControlReply: {error.errors()[0]['msg']}"
                ) from error
        raise ControlError(
            f"{self.endpoint}: no answer to {request.action} within {self._timeout_ms} ms, "
            f"{1 + self._retries} times; is the microscope's control server running?"
        )

    def _stage_of(self, request: ControlRequest) -> StageState:
        reply = self.ask(request)
        if not reply.ok or reply.stage is None:
            raise ControlError(
                f"{self.endpoint}: {reply.error or 'an answer without the state of the stage'}"
            )
        return reply.stage

    def _exchange(self, message: bytes) -> bytes | None:
        try:
            if self._socket is None:
                self._socket = self._context.socket(self._zmq.REQ)
                self._socket.linger = 0
                self._socket.connect(self.endpoint)
            # Without a peer, sending would wait for ever.
            if self._socket.poll(self._timeout_ms, self._zmq.POLLOUT):
                self._socket.send(message)
                if self._socket.poll(self._timeout_ms, self._zmq.POLLIN):
                    return self._socket.recv()
        except self._zmq.ZMQError as error:
            self._drop_socket()
            raise ControlError(f"{self.endpoint}: {error}; expected tcp://HOST:PORT") from error
        self._drop_socket()
        return None

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _new_id() -> str:
    return uuid.uuid4().hex
