"""From an event in the service to a program that waits for it.

``python tests/benchmarks/event_latency.py [--events 1000] [--fps 10] [--slow 0.5]`` lets a simulated microscope, the
service and a client run, each on real sockets, the service as a process of its own, and takes the time from
``t_emitted`` of each event until the client's iterator gives it out: the same clock. ``--slow`` adds a second client,
whose program takes so many seconds over each event [s]. Columns: client, events, lost or repeated, p50, p99 and the
longest [ms]. Nothing is asserted; the goal on a quiet machine is p50 5 ms and p99 25 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _loops import Stand
from latticewatch_client import Client

WARM_UP = 20


def main() -> None:
    """Measure, and print a row for each client."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument(
        "--slow", type=float, default=0.0, help="A second client takes so long over each [s]."
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    settings = {
        "births_per_frame": 2.0,
        "lifetime_frames": 20.0,
        "fps": asked.fps,
        "shape": (256, 256),
        "seed": asked.seed,
    }
    with tempfile.TemporaryDirectory() as folder, Stand(Path(folder), "WS2", **settings) as stand:
        stand.wait_live()
        done = threading.Event()
        behind: list[int] = []

        def dawdle() -> None:
            with Client(stand.url) as client:
                for event in client.events(after="now"):
                    behind.append(event.seq)
                    if done.wait(asked.slow):
                        return

        slow = threading.Thread(target=dawdle, daemon=True)
        if asked.slow:
            slow.start()
        late, seen = [], []
        with Client(stand.url) as client:
            for event in client.events(after="now"):
                now = time.time()
                seen.append(event.seq)
                if "t_emitted" in event.data:
                    late.append(1e3 * (now - event.data["t_emitted"]))
                if len(late) >= asked.events + WARM_UP:
                    break
        done.set()
        if asked.slow:
            slow.join(10 + asked.slow)
    out = sys.stdout.write
    out(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    out("client  events  amiss  p50/ms  p99/ms  longest/ms\n")
    times = np.array(late[WARM_UP:])
    p50, p99 = np.percentile(times, (50, 99))
    out(f"prompt  {len(seen):6d}  {_amiss(seen):5d}  {p50:6.2f}  {p99:6.2f}  {times.max():10.2f}\n")
    if asked.slow:
        out(f"slow    {len(behind):6d}  {_amiss(behind):5d}\n")


def _amiss(numbers: list[int]) -> int:
    """How many numbers do not follow the one before."""
    return int(np.count_nonzero(np.diff(numbers) != 1))


if __name__ == "__main__":
    main()
