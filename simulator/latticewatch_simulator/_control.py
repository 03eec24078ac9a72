"""The control socket: one JSON request, one JSON reply, over ZeroMQ REQ/REP."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import zmq
from pydantic import ValidationError

from latticewatch.errors import ConfigurationError, ControlError
from latticewatch.messages import ControlReply, ControlRequest, encode_json
from latticewatch_simulator._publisher import POLL_MS, bind
from latticewatch_simulator._stage import Stage

MAX_REQUEST_BYTES = 16 * 1024
# Requests that are remembered, so that one that is sent again is done once.
REMEMBERED = 256


class ControlServer:
    """Answers requests in a thread of its own; a context manager. Nothing a peer sends ends it.

    Parameters
    ----------
    endpoint : str
        Address to bind; port 0 takes a free one.
    stage : Stage
        What it moves.
    status, truth : callable
        Give the results of the actions ``status`` and ``get_truth``, from any thread.
    context : zmq.Context, optional
        The caller's, which stays open; else one of its own.

    Attributes
    ----------
    endpoint : str
        Where it is bound.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        stage: Stage,
        status: Callable[[], dict[str, Any]],
        truth: Callable[[], dict[str, Any]],
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self._stage = stage
        self._results = {"status": status, "get_truth": truth}
        self._moves: OrderedDict[str, ControlReply] = OrderedDict()
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.REP)
        self._socket.set(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        self._socket.set(zmq.LINGER, 200)
        try:
            self.endpoint = bind(self._socket, endpoint)
        except ConfigurationError:
            self._close_socket()
            raise
        self._thread = threading.Thread(target=self._serve, name="simulator-control", daemon=True)
        self._thread.start()

    def answer(self, request: bytes) -> ControlReply:
        """The reply to one request; what is wrong with it is said, never raised."""
        try:
            asked = ControlRequest.model_validate_json(request)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "as a whole"
            return ControlReply(ok=False, error=f"request, {where}: {first['msg']}")
        if asked.action == "move_stage":
            return self._move(asked)
        try:
            result = self._results[asked.action]() if asked.action in self._results else None
        except ControlError as error:
            return ControlReply(ok=False, error=str(error), stage=self._stage.state())
        return ControlReply(ok=True, stage=self._stage.state(), result=result)

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
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

    def _move(self, asked: ControlRequest) -> ControlReply:
        if asked.request_id in self._moves:
            done = self._moves[asked.request_id]
            return done.model_copy(update={"stage": self._stage.state()})
        if asked.x_nm is None or asked.y_nm is None:
            return ControlReply(
                ok=False, error="move_stage: give x_nm and y_nm, 0 for an axis that stays in a relative move"
            )
        try:
            target = self._stage.move(asked.x_nm, asked.y_nm, relative=asked.relative)
            reply = ControlReply(ok=True, stage=self._stage.state(), result={"target_nm": list(target)})
        except ControlError as error:
            reply = ControlReply(ok=False, error=str(error), stage=self._stage.state())
        if asked.request_id:
            self._moves[asked.request_id] = reply
            if len(self._moves) > REMEMBERED:
                self._moves.popitem(last=False)
        return reply

    def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._socket.poll(POLL_MS):
                    continue
                parts = self._socket.recv_multipart()
                if len(parts) == 1:
                    reply = self.answer(parts[0])
                else:
                    reply = ControlReply(
                        ok=False, error=f"request of {len(parts)} parts; send one, a JSON object"
                    )
                self._socket.send(encode_json(reply))
        except BaseException as error:  # noqa: BLE001  raised again by check and close
            self._error = error

    def _close_socket(self) -> None:
        self._socket.close()
        if self._own_context:
            self._context.term()
