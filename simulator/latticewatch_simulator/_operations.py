"""What was asked of the microscope, by its id: done once, however often it is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from latticewatch.errors import ControlRefusedError
from latticewatch.messages import Acquired, ControlReply, ControlRequest, Exposed, MicroscopeState

# Requests that are remembered; the oldest go first.
REMEMBERED = 4096


@dataclass(slots=True)
class Operation:
    """One request that takes its time, and its answer when it has one."""

    asked: ControlRequest
    reply: ControlReply | None = None
    # Whether a frame has begun since it was asked for: one that began before shows what was before.
    ready: bool = False
    series_id: str = ""
    first: int | None = None


class Operations:
    """Every operation by its id, and those that wait for the frames or the beam; safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Operation] = OrderedDict()
        self._acquiring: list[Operation] = []
        self._exposing: list[Operation] = []

    def find(self, asked: ControlRequest) -> Operation | None:
        """The operation of a request that came before.

        Raises
        ------
        ControlRefusedError
            The id belongs to another request.
        """
        with self._lock:
            known = self._known.get(asked.request_id) if asked.request_id else None
        if known is not None and known.asked != asked:
            raise ControlRefusedError(
                f"request_id {asked.request_id!r} was used for another request: {known.asked.action}; "
                "give each request an id of its own"
            )
        return known

    def begin(self, asked: ControlRequest, reply: ControlReply | None = None) -> Operation:
        """A new operation: with its reply, or one to wait for."""
        operation = Operation(asked, reply)
        with self._lock:
            if asked.request_id:
                self._known[asked.request_id] = operation
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            if reply is None:
                waiting = self._acquiring if asked.action == "acquire" else self._exposing
                waiting.append(operation)
        return operation

    def next_exposure(self) -> Operation | None:
        """The exposure that is due."""
        with self._lock:
            return self._exposing[0] if self._exposing else None

    def exposed(self, operation: Operation, dose: float, seconds: float) -> None:
        """An exposure has come to its end."""
        with self._lock:
            if operation in self._exposing:
                self._exposing.remove(operation)
                result = Exposed(dose_e_per_a2=dose, duration_s=seconds).model_dump()
                operation.reply = ControlReply(ok=True, result=result)

    def frame_begins(self) -> None:
        """A frame is about to be taken."""
        with self._lock:
            for operation in self._acquiring:
                operation.ready = True

    def frame_sent(self, series_id: str, number: int, sound: bool) -> None:
        """A frame was sent; ``sound``: the beam was on and nothing moved from its beginning on."""
        with self._lock:
            for operation in list(self._acquiring):
                if operation.first is not None and (operation.series_id != series_id or not sound):
                    self._end(operation, "the stage, the scan or the beam was changed during the acquisition")
                    continue
                if not sound or not operation.ready:
                    continue
                if operation.first is None:
                    operation.first, operation.series_id = number, series_id
                if number - operation.first + 1 >= (operation.asked.frames or 1):
                    found = Acquired(series_id=series_id, first=operation.first, last=number)
                    self._acquiring.remove(operation)
                    operation.reply = ControlReply(ok=True, result=found.model_dump())

    def abandon(self, why: str) -> None:
        """End all that wait."""
        with self._lock:
            for operation in [*self._acquiring, *self._exposing]:
                self._end(operation, why)

    @property
    def busy(self) -> bool:
        """Whether an acquisition or an exposure has not ended."""
        with self._lock:
            return bool(self._acquiring or self._exposing)

    def _end(self, operation: Operation, why: str) -> None:
        for waiting in (self._acquiring, self._exposing):
            if operation in waiting:
                waiting.remove(operation)
        operation.reply = ControlReply(ok=False, fault="timeout", error=f"{operation.asked.action}: {why}")


def result_of(state: MicroscopeState) -> dict[str, Any]:
    """A state as the result of a reply."""
    return state.model_dump(mode="json")
