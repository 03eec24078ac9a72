"""The control socket: one JSON request, one JSON reply, over ZeroMQ, for REQ sockets."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import zmq
from pydantic import ValidationError

from latticewatch.errors import ConfigurationError
from latticewatch.messages import ControlReply, ControlRequest, encode_json
from latticewatch_simulator._actions import Actions
from latticewatch_simulator._publisher import POLL_MS, bind

MAX_REQUEST_BYTES = 16 * 1024


class ControlServer:
    """Answers requests in a thread of its own; a context manager. Nothing a peer sends ends it.

    Parameters
    ----------
    endpoint : str
        Address to bind; port 0 takes a free one.
    actions : Actions
        What it asks.
    context : zmq.Context, optional
        The caller's, which stays open; else one of its own.

    Attributes
    ----------
    endpoint : str
        Where it is bound.
    """

    def __init__(self, endpoint: str, *, actions: Actions, context: zmq.Context[Any] | None = None) -> None:
        self._actions = actions
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        self._socket.set(zmq.LINGER, 200)
        self._socket.set(zmq.HEARTBEAT_IVL, 10_000)
        self._socket.set(zmq.HEARTBEAT_TIMEOUT, 30_000)
        try:
            self.endpoint = bind(self._socket, endpoint)
        except ConfigurationError:
            self._close_socket()
            raise
        self._thread = threading.Thread(target=self._serve, name="simulator-control", daemon=True)
        self._thread.start()

    def answer(self, request: bytes) -> ControlReply | None:
        """The reply to one request; what is wrong with it is said, never raised.

        Parameters
        ----------
        request : bytes
            JSON of a `ControlRequest`.

        Returns
        -------
        ControlReply or None
            None where none is to be given.
        """
        try:
            asked = ControlRequest.model_validate_json(request)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "as a whole"
            return ControlReply(ok=False, fault="refused", error=f"request, {where}: {first['msg']}")
        return self._actions.answer(asked)

    def check(self) -> None:
        """Raise what ended the thread, if anything did.

        Raises
        ------
        Exception
            What ended the thread.
        """
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop the thread, close what is its own, and raise what ended the thread if anything did."""
        self._stop.set()
        self._thread.join()
        self._close_socket()
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._socket.poll(POLL_MS):
                    continue
                # A REQ socket sends its name, an empty part, and the request. What is no envelope has no way back.
                peer, *rest = self._socket.recv_multipart()
                if not rest or rest[0] != b"":
                    continue
                if len(rest) == 2:
                    reply = self.answer(rest[1])
                else:
                    reply = ControlReply(
                        ok=False, error=f"request of {len(rest) - 1} parts; send one, a JSON object"
                    )
                if reply is not None:
                    # To a peer that does not read its replies a ROUTER drops them, and goes on.
                    self._socket.send_multipart([peer, b"", encode_json(reply)])
        except BaseException as error:  # noqa: BLE001  raised again by check and close
            self._error = error

    def _close_socket(self) -> None:
        self._socket.close()
        if self._own_context:
            self._context.term()
