"""What open pages cost the service, in processor time.

``python tests/benchmarks/pages.py [--pages 20] [--rate 100] [--seconds 10] [--size 512]`` lets the real application,
as a process of its own, show so many frames a second to so many pages, which draw at once and ask for the next as the
dashboard does. Frames were analysed before: what is measured is what pages cost beside that. Columns: pages, processor
time of the service as a share of one core, that of no page taken off, and pictures a second of each page. Nothing is
asserted; the goal for 20 pages is 10 % of a core. Processor time counts what the service itself does, so that other
work on the machine makes it longer by caches at the most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

VIEW = {"width": 900, "height": 700, "max_bytes": 2_000_000}


def main() -> None:
    """Measure, and print a row for no page, one and all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--show", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.show:
        show(asked.size, asked.rate)
        return
    command = [sys.executable, __file__, "--show", "--size", str(asked.size), "--rate", str(asked.rate)]
    out = sys.stdout.write
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        url = service.stdout.readline().strip()
        out(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {asked.size}² px, {asked.rate:g} frames/s\n"
        )
        out("pages  core/%  beyond none/%  pictures/s of each\n")
        none = 0.0
        for pages in (0, 1, asked.pages):
            share, each = watched(url, service.pid, pages, asked.seconds)
            none = none if pages else share
            out(f"{pages:5d}  {share:6.1f}  {share - none:13.1f}  {each:18.1f}\n")
            sys.stdout.flush()
        service.terminate()


def watched(url: str, pid: int, pages: int, seconds: float) -> tuple[float, float]:
    """Processor time of a process while so many pages watch [% of a core], and pictures a second of each."""
    stop, counts = threading.Event(), [0] * pages
    threads = [threading.Thread(target=page, args=(url, stop, counts, k), daemon=True) for k in range(pages)]
    for thread in threads:
        thread.start()
    time.sleep(2.0)
    before, drawn, began = _seconds_of(pid), sum(counts), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    share = 100 * (_seconds_of(pid) - before) / took
    each = (sum(counts) - drawn) / took / max(pages, 1)
    stop.set()
    for thread in threads:
        thread.join(5)
    return share, each


def page(url: str, stop: threading.Event, counts: list[int], k: int) -> None:
    """One page: asks for the next picture when it has this one."""
    from websockets.sync.client import connect

    from latticewatch.messages import unpack_live

    header = None
    with connect(url.replace("http", "ws") + "/v1/live", max_size=None, compression=None) as socket:
        while not stop.is_set():
            request = {"type": "next", "view": VIEW, "plane": False}
            if header is not None:
                request |= {"after": header.ordinal, "model_version": header.status.model_version}
            socket.send(json.dumps(request))
            header, _ = unpack_live(socket.recv())
            counts[k] += 1


def show(size: int, rate: float) -> None:
    """Serve frames that are analysed already, one after another, until the process is ended."""
    from latticewatch.config import AnalysisSettings
    from latticewatch.ingest import Frame
    from latticewatch.pipeline import Learner, analyse
    from latticewatch.serve import Service, ToldEngine
    from latticewatch_simulator import Microscope, SimulatorSettings

    settings = AnalysisSettings(learning_frames=2)
    scope = Microscope(SimulatorSettings.checked(shape=(size, size), pixel_size_nm=0.02, seed=1), "series")
    learner, results = Learner(settings), []
    for n in range(8):
        frame = Frame(scope.acquire().image, "series", n, n, pixel_size_nm=0.02)
        results += learner.fold(analyse(frame, learner.model, settings))
    with tempfile.TemporaryDirectory() as folder:
        engine = ToldEngine(Path(folder), shape=(size, size))
        with Service(engine.settings, engine) as service:
            sys.stdout.write(f"{service.url}\n")
            sys.stdout.flush()
            began = time.monotonic()
            for n in range(10**9):
                result = replace(
                    results[-1 - n % 4], number=n, ordinal=n, events=(), received_at=time.monotonic()
                )
                publisher = engine._publisher
                publisher.publish(publisher.newest.with_result(result), [])
                time.sleep(max(0.0, began + n / rate - time.monotonic()))


def _seconds_of(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
