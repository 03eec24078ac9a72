"""Frames in from the receiver; events out to the log, and the newest state for everyone who looks at it."""

from latticewatch.execute._edits import EngineBusyError
from latticewatch.execute._engine import Engine
from latticewatch.execute._executors import Executor, Threads, executor_of
from latticewatch.execute._history import record_of
from latticewatch.execute._meter import LATENCY_BOUNDS_S, Meter
from latticewatch.execute._operation import Operation
from latticewatch.execute._prepare import compile_all
from latticewatch.execute._report import Vitals, counts_of, status_of
from latticewatch.execute._runner import Runner
from latticewatch.execute._state import LiveState

__all__ = [
    "LATENCY_BOUNDS_S",
    "Engine",
    "EngineBusyError",
    "Executor",
    "LiveState",
    "Meter",
    "Operation",
    "Runner",
    "Threads",
    "Vitals",
    "compile_all",
    "counts_of",
    "executor_of",
    "record_of",
    "status_of",
]
