"""Whether memory, handles and threads stay as they are over very many small frames.

``python tests/benchmarks/endurance.py analyse|serve [--frames 100000] [--size 128] [--look 5000]`` repeats some hundred
frames of a simulated specimen in which defects come and go, so that there is something to tell all the time: through
`analyse` into files, or over a socket through the service, as a process of its own. Columns: frames, resident memory
[MiB], beside that after the first two looks, open handles, threads, frames a second. Nothing is asserted; the goal is
memory within 5 %, and handles and threads flat.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import FileSeries
from latticewatch.offline import ResultWriter, run_file
from latticewatch_client import Client
from latticewatch_client.publisher import Publisher
from latticewatch_simulator import Microscope, SimulatorSettings

DISTINCT = 300
PIXEL_NM = 0.02
STARTS_S = 300.0


class Watch:
    """Looks at a process now and then, and prints a row."""

    def __init__(self, pid: int, every: int) -> None:
        self._pid, self._every = pid, every
        self._first: list[float] = []
        self._n, self._at = 0, time.monotonic()

    def frames(self, n: int) -> None:
        """So many are done."""
        if n - self._n < self._every:
            return
        folder, now = Path(f"/proc/{self._pid}"), time.monotonic()
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        memory = int(status["VmRSS"].split()[0]) / 1024
        handles = len(list((folder / "fd").iterdir()))
        beside = 100 * (memory / self._first[-1] - 1) if len(self._first) == 2 else 0.0
        if len(self._first) < 2:
            self._first.append(memory)
        rate = (n - self._n) / (now - self._at)
        row = f"{n:8d}  {memory:7.1f}  {beside:+6.1f} %  {handles:7d}  {int(status['Threads']):7d}  {rate:8.1f}\n"
        sys.stdout.write(row)
        sys.stdout.flush()
        self._n, self._at = n, now


class Repeated(FileSeries):
    """A file that has a few frames again and again."""

    def frame(self, number: int) -> np.ndarray:
        """One of them."""
        return self._data[number % len(self._data)]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("way", choices=["analyse", "serve"])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--look", type=int, default=5000)
    asked = parser.parse_args()
    images = scenes(asked.size)
    sys.stdout.write("  frames      MiB    beside  handles  threads  frames/s\n")
    with tempfile.TemporaryDirectory() as folder:
        way = through_analyse if asked.way == "analyse" else through_service
        way(images, asked.frames, asked.look, Path(folder))


def scenes(size: int) -> np.ndarray:
    """Frames of a specimen on which defects come and go."""
    settings = SimulatorSettings.checked(
        shape=(size, size), pixel_size_nm=PIXEL_NM, births_per_frame=0.2, lifetime_frames=100.0, seed=2,
        dose_e_per_a2=1e5,
    )  # fmt: skip
    scope = Microscope(settings, "s")
    return np.stack([scope.acquire().image for _ in range(DISTINCT)])


def through_analyse(images: np.ndarray, frames: int, look: int, folder: Path) -> None:
    """As `latticewatch analyse` does it, without figures."""
    series = Repeated(
        folder / "long.npy", "long", images.shape[1:], images.dtype, frames, PIXEL_NM, {}, _data=images
    )
    watch, began = Watch(os.getpid(), look), time.monotonic()
    with ResultWriter(series, folder / "out") as writer:
        last = run_file(series, AnalysisSettings(), writer.add, writer.event, watch.frames)
        writer.finish(last, time.monotonic() - began, figures=False)


def through_service(images: np.ndarray, frames: int, look: int, folder: Path) -> None:
    """Over a socket that waits for the service; a service that is slower than the sender loses no frame."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        http = f"127.0.0.1:{free.getsockname()[1]}"
    with Publisher("tcp://127.0.0.1:0", push=True, timeout_s=STARTS_S) as publisher:
        command = [sys.executable, "-m", "latticewatch", "serve", "--pull", "--source", publisher.address]
        command += ["--http", http, "--data-dir", str(folder / "data")]
        environment = os.environ | {"LATTICEWATCH_INGEST__MODE": "lossless"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as service:
            watch = Watch(service.pid, look)
            try:
                publisher.start("long")
                with Client(f"http://{http}") as client:
                    for n in range(frames):
                        publisher.publish(images[n % len(images)], pixel_size_nm=PIXEL_NM)
                        if n % 500 == 499:
                            watch.frames(client.status().frames.analysed)
                    while (said := client.status().frames).analysed + sum(said.dropped.values()) < frames:
                        time.sleep(0.2)
                    watch.frames(frames + look)
                    sys.stdout.write(f"analysed {said.analysed}, dropped {said.dropped}\n")
            finally:
                service.terminate()


if __name__ == "__main__":
    main()
