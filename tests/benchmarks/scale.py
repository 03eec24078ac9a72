"""What worker processes of a Dask cluster bring, and what decides how much.

``python tests/benchmarks/scale.py [--size 2048] [--frames 40] [--workers 1 2] [--no-run]`` first measures the terms of
the model of docs/reference/performance.md, in processor time, which other work on the machine changes little: what a
frame costs in a worker, what folding it costs here, what it costs to send it and to take its analysis, with their
sizes, and what an empty task costs. Then it analyses frames with so many worker processes on this machine, one thread
each, and prints the rate beside the one that the model says for it, and the processor time that a frame cost here, the
scheduler's included, and in the workers. Nothing is asserted; the goal is that two workers give 1.8 times the rate of
one on frames of 2048 px, where there are cores for two workers and for this process. Where there are not, ``--share
0.4`` holds each worker to two fifths of a core.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latticewatch.config import AnalysisSettings
from latticewatch.execute import Runner, executor_of
from latticewatch.execute._dask import analyse_there
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse
from latticewatch_simulator import Microscope, SimulatorSettings

LEARNING = 2
DISTINCT = 6
# How often a worker that is held is stopped [s], and what stops it: so that each has its part of the time.
PERIOD_S = 0.02
HOLD = """
import os, signal, sys, time
share, period, pids = float(sys.argv[1]), float(sys.argv[2]), [int(pid) for pid in sys.argv[3:]]
running = {pid: None for pid in pids}
while True:
    now = time.monotonic() / period
    for k, pid in enumerate(pids):
        runs = (now + k / len(pids)) % 1 < share
        if runs is not running[pid]:
            os.kill(pid, signal.SIGCONT if runs else signal.SIGSTOP)
            running[pid] = runs
    time.sleep(period / 40)
"""
# Frames for each worker before the clock starts: kernels are compiled and every queue is full by then.
WARM = 8


@dataclass(frozen=True, slots=True)
class Terms:
    """What a frame costs, each the median of a few frames.

    Attributes
    ----------
    there_s : float
        Analysis in a worker [s of one core].
    pack_s : float
        Turning the frame and the analysis into bytes and back, in the worker [s].
    fold_s : float
        Folding here [s].
    carry_s : float
        The same as ``pack_s``, and what a task costs, here [s].
    out_bytes, back_bytes : int
        Of the frame, and of its analysis.
    """

    there_s: float
    pack_s: float
    fold_s: float
    carry_s: float
    out_bytes: int
    back_bytes: int

    def rate(self, workers: int, cores: int | None = None, link_bytes_per_s: float = np.inf) -> float:
        """Frames a second.

        Parameters
        ----------
        workers : int
        cores : int, optional
            Of the one machine that all of it runs on; without it each worker and this process have a core of their own.
        link_bytes_per_s : float
            From here to all workers together.
        """
        there, here = self.there_s + self.pack_s, self.fold_s + self.carry_s
        limits = [workers / there, 1 / here, link_bytes_per_s / max(self.out_bytes, self.back_bytes)]
        if cores is not None:
            limits.append(cores / (there + here))
        return min(limits)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--no-run", action="store_true", help="Only the terms.")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="Hold each worker to so much of a core, as if it had a slower one: then a few cores suffice for all.",
    )
    asked = parser.parse_args()
    out, cores = sys.stdout.write, os.cpu_count() or 1
    images = scenes(asked.size)
    terms = measured(images)
    here = terms.fold_s + terms.carry_s
    out(f"{cores} cores, load {os.getloadavg()[0]:.1f}; {asked.size}² px\n")
    out(f"in a worker: analysis {1e3 * terms.there_s:.1f} ms, bytes {1e3 * terms.pack_s:.1f} ms\n")
    out(f"here: folding {1e3 * terms.fold_s:.1f} ms, carrying {1e3 * terms.carry_s:.1f} ms\n")
    out(f"on the way: {terms.out_bytes / 1e6:.1f} MB out, {terms.back_bytes / 1e6:.1f} MB back\n")
    out(
        f"this process is full at {1 / here:.0f} frames/s, with {(terms.there_s + terms.pack_s) / here:.1f} workers\n"
    )
    out("workers  model/fps  1 Gbit/s  10 Gbit/s\n")
    for n in (1, 2, 4, 8, 16, 32):
        rates = [terms.rate(n), terms.rate(n, None, 1.25e8), terms.rate(n, None, 1.25e9)]
        out(f"{n:7d}  {rates[0]:9.1f}  {rates[1]:8.1f}  {rates[2]:9.1f}\n")
    sys.stdout.flush()
    if asked.no_run:
        return
    out("workers  measured/fps  x first  model on these cores  here/ms  a worker/ms  cores in use\n")
    first = None
    for n in asked.workers:
        ran = run(images, asked.frames, n, asked.share)
        first = first or ran.rate
        out(
            f"{n:7d}  {ran.rate:12.2f}  {ran.rate / first:7.2f}  {terms.rate(n, cores):20.2f}"
            f"  {1e3 * ran.here_s:7.1f}  {1e3 * ran.there_s:11.1f}  {ran.rate * (ran.here_s + ran.there_s):12.2f}\n"
        )
        sys.stdout.flush()


def scenes(size: int) -> list[np.ndarray]:
    """A few frames, which are repeated."""
    settings = SimulatorSettings.checked(shape=(size, size), pixel_size_nm=0.012, dose_e_per_a2=5e4, seed=3)
    scope = Microscope(settings, "s")
    return [scope.acquire().image for _ in range(DISTINCT)]


def stream(images: list[np.ndarray], n: int) -> Iterator[Frame]:
    """So many frames."""
    for k in range(n):
        yield Frame(images[k % len(images)], "s", k, k, pixel_size_nm=0.012)


def measured(images: list[np.ndarray]) -> Terms:
    """The terms, by processor time."""
    from distributed import Client, LocalCluster
    from distributed.protocol.serialize import deserialize, serialize

    settings = AnalysisSettings(learning_frames=LEARNING)
    learner = Learner(settings)
    for frame in stream(images, LEARNING + 2):
        learner.fold(analyse(frame, learner.model, settings))
    there, fold, pack, sizes = [], [], [], (0, 0)
    for k, frame in enumerate(stream(images, 12)):
        frame = replace(frame, number=k + 100, ordinal=k + 100)
        about = replace(frame, image=frame.image[:0, :0])
        (analysis, _), seconds = timed(lambda: analyse_there(about, frame.image, learner.model, settings))  # noqa: B023
        there.append(seconds)
        packed, seconds = timed(lambda: (serialize(frame.image), serialize(analysis)))  # noqa: B023
        _, back = timed(lambda: [deserialize(*one) for one in packed])  # noqa: B023
        pack.append(seconds + back)
        sizes = tuple(sum(memoryview(part).nbytes for part in one[1]) for one in packed)
        blank = np.broadcast_to(np.float32(np.nan), frame.image.shape)
        whole = replace(analysis, frame=frame, model=learner.model, image=blank)
        fold.append(timed(lambda: learner.fold(whole))[1])  # noqa: B023
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.submit(len, b"").result()
        _, task = timed(
            lambda: [client.submit(len, b"", pure=False).result() for _ in range(100)], time.process_time
        )
    carry = float(np.median(pack)) + task / 100
    return Terms(float(np.median(there)), float(np.median(pack)), float(np.median(fold)), carry, *sizes)


def timed(what: Callable[[], Any], clock: Callable[[], float] = time.thread_time) -> tuple[Any, float]:
    """What a call gives, and the processor time of this thread that it took [s].

    Classes are looked for in a thread beside it, which is no part of an analysis.
    """
    before = clock()
    given = what()
    return given, clock() - before


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave, once it was steady.

    Attributes
    ----------
    rate : float
        Frames a second.
    here_s, there_s : float
        Processor time of a frame in this process, the scheduler's with it, and in the workers together [s].
    """

    rate: float
    here_s: float
    there_s: float


def run(images: list[np.ndarray], frames: int, workers: int, share: float = 1.0) -> Ran:
    """Analyse so many frames with worker processes on this machine, learning and the first frames left out."""
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        settings = AnalysisSettings(learning_frames=LEARNING, executor=address)
        learner, warm = Learner(settings), LEARNING + WARM * workers
        began, before, n = 0.0, (0.0, 0.0), 0
        with Client(cluster, set_as_default=False) as client:
            pids = list(client.run(os.getpid).values())
        with held_to(share, pids), closing(executor_of(settings, analyse)) as executor:  # type: ignore[type-var]
            for k, _ in enumerate(
                Runner(executor, lambda: learner).results(stream(images, warm + frames), LEARNING)
            ):
                if k == warm - 1:
                    began, before = time.monotonic(), processor_times()
                n = k + 1 - warm
            seconds = time.monotonic() - began
            here, there = (now - then for now, then in zip(processor_times(), before, strict=True))
            return Ran(n / seconds, here / n, there / n)


@contextmanager
def held_to(share: float, pids: list[int]) -> Iterator[None]:
    """Stop processes for a part of every few milliseconds, one after another, so that they do not all run at once."""
    if share >= 1:
        yield
        return
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(share), str(PERIOD_S), *map(str, pids)])
    try:
        yield
    finally:
        holder.terminate()
        holder.wait()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def processor_times() -> tuple[float, float]:
    """Of this process, and of all those that it has started [s]."""
    import psutil

    me = psutil.Process()
    own, *theirs = (sum(one.cpu_times()[:2]) for one in (me, *me.children(recursive=True)))
    return own, sum(theirs)


if __name__ == "__main__":
    main()
