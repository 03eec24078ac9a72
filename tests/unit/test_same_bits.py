"""What decides the last bit: the same frames give the same numbers in any process, freshly compiled or not."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.dispatcher import Dispatcher
from threadpoolctl import threadpool_limits

import latticewatch
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.model import Model
from latticewatch.pipeline import Analysis, Learner, analyse
from latticewatch.vectors import FUSED, LANES, between, load, multiply_add, store, summed, zeros
from latticewatch_simulator import Microscope, SimulatorSettings

SETTINGS = AnalysisSettings(learning_frames=2)

# Kernels whose sums LLVM may reorder, with the reason that nothing but a picture depends on the order.
REORDERED = {
    "lattice._specimen._add_equal": "counts",
    "lattice._specimen._steps": "counts",
    "lattice._specimen._row_hits": "counts",
    "lattice._specimen._over": "compares",
    "estimators._layout.repulsion": "a picture",
    "estimators._layout.attraction": "a picture",
}


def kernels() -> Iterator[tuple[str, Dispatcher]]:
    """Every compiled function of the service, by the name of its place."""
    for module in pkgutil.walk_packages(latticewatch.__path__, "latticewatch."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.name:
                yield f"{module.name.removeprefix('latticewatch.')}.{name}", value


def test_no_sum_of_a_kernel_is_reordered_or_fused_by_the_compiler():
    # How it does so depends on what it compiles in one go: a worker that compiles and one that loads would differ.
    found = dict(kernels())
    assert len(found) > 40
    assert {name for name, one in found.items() if one.targetoptions.get("fastmath")} == set(REORDERED)


@njit
def _added(rows: Any) -> None:  # pragma: no cover - compiled
    rows[0, 0] = 0.0
    store(rows, 0, 0, multiply_add(load(zeros(), rows, 1, 0), rows[2, 0], load(zeros(), rows, 3, 0)))
    store(rows, 4, 0, between(load(zeros(), rows, 5, 0), load(zeros(), rows, 6, 0), rows[7, 0]))


@pytest.mark.skipif(not FUSED, reason="this processor adds a product in two steps")
def test_a_product_is_added_in_one_step_with_one_rounding():
    rows = np.zeros((8, LANES), np.float32)
    least = np.float32(2**-12)
    # (1 + e)² - (1 + 2 e) is e² in one step, and nothing in two
    rows[1], rows[2], rows[3] = -(1 + 2 * least), 1 + least, 1 + least
    rows[5], rows[6], rows[7] = -(1 + 2 * least), -least, 1 + least
    _added(rows)
    assert (rows[0] == least**2).all()
    assert (rows[4] == least**2).all()


@njit
def _sum_of(rows: Any) -> Any:  # pragma: no cover - compiled
    return summed(load(zeros(), rows, 0, 0))


def test_a_vector_is_summed_half_by_half(rng):
    rows = rng.normal(size=(1, LANES)).astype(np.float32)
    rows[0, 0] = 1e6
    halves = rows[0]
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert _sum_of(rows) == halves[0]


@pytest.fixture(scope="module")
def stream() -> tuple[Model, list[Frame]]:
    """A model that two frames gave, and two frames more."""
    settings = SimulatorSettings.checked(
        shape=(240, 240), pixel_size_nm=0.02, births_per_frame=0.5, dose_e_per_a2=2e5, seed=5
    )
    scope = Microscope(settings, "s")
    frames = [Frame(scope.acquire().image, "s", n, n, pixel_size_nm=0.02) for n in range(4)]
    learner = Learner(SETTINGS)
    with threadpool_limits(limits=1, user_api="blas"):
        for frame in frames[:2]:
            learner.fold(analyse(frame, None, SETTINGS))
    assert learner.model is not None
    return learner.model, frames[2:]


def sent(thing: Any, shift: int) -> Any:
    """As it arrives from a socket: its arrays read-only, each so many bytes beside where memory is aligned."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    arrived = []
    for buffer in buffers:
        data = np.frombuffer(buffer.raw(), np.uint8)
        room = np.empty(len(data) + 128, np.uint8)
        start = -room.ctypes.data % 64 + shift
        place = room[start : start + len(data)]
        place[:] = data
        place.flags.writeable = False
        arrived.append(place.data)
    return pickle.loads(pickled, buffers=arrived)


def bits(thing: Any, path: str = "") -> dict[str, bytes]:
    """Every number of an analysis, by where it is; without what a clock says."""
    if isinstance(thing, np.ndarray):
        return {path: np.ascontiguousarray(thing).tobytes()} if thing.dtype != object else {}
    if dataclasses.is_dataclass(thing):
        parts = {
            field.name: getattr(thing, field.name)
            for field in dataclasses.fields(thing)
            if path or field.name not in ("frame", "model", "timings_ms")
        }
    elif isinstance(thing, tuple | list):
        parts = {str(k): part for k, part in enumerate(thing)}
    elif isinstance(thing, dict):
        parts = {str(k): part for k, part in thing.items()}
    else:
        return {path: repr(thing).encode()} if isinstance(thing, float | int | str) else {}
    return {k: v for name, part in parts.items() for k, v in bits(part, f"{path}.{name}").items()}


@pytest.mark.parametrize("shift", [0, 8, 4, 1])
def test_a_frame_and_a_model_that_were_sent_give_the_same_bits(stream, shift):
    model, frames = stream
    with threadpool_limits(limits=1, user_api="blas"):
        for frame in frames:
            here: Analysis = analyse(frame, model, SETTINGS)
            there: Analysis = analyse(sent(frame, shift), sent(model, shift), SETTINGS)
            assert len(bits(here)) > 30
            assert bits(there) == bits(here)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kernels_that_are_compiled_and_kernels_from_the_cache_give_the_same_events(tmp_path):
    settings = SimulatorSettings.checked(
        shape=(240, 240), pixel_size_nm=0.02, births_per_frame=0.5, dose_e_per_a2=2e5, seed=5
    )
    scope = Microscope(settings, "s")
    stack = tmp_path / "stack.npz"
    np.savez(stack, frames=np.stack([scope.acquire().image for _ in range(12)]), pixel_size_nm=0.02)

    def events(out: Path) -> bytes:
        command = ["analyse", str(stack), "--out", str(out), "--no-figures"]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        subprocess.run(
            [sys.executable, "-m", "latticewatch", *command], env=environment, check=True, timeout=300
        )
        clock = rb'"(?:time|t_received|t_emitted|t_acquired)": ?(?:"[^"]*"|[0-9.e+-]+)'
        return re.sub(clock, b"", (out / "events.jsonl").read_bytes())

    compiled = events(tmp_path / "compiled")
    assert compiled.count(b"\n") > 20
    assert any((tmp_path / "cache").rglob("*.nbc"))
    assert events(tmp_path / "loaded") == compiled
