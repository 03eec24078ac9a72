"""The real service killed again and again, with classes named and tracks live; what is in its log afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latticewatch.messages import Event
from latticewatch.record import EventLog
from latticewatch_client import Client
from latticewatch_simulator import Simulation, SimulatorSettings

PATIENCE_S = 120.0
# The first start may have to compile the kernels, which takes minutes on a busy machine [s].
FIRST_START_S = 900.0
NAME = "what a person calls it"
SPECIMEN = {
    "material": "graphene",
    "shape": (192, 192),
    "pixel_size_nm": 0.025,
    "fps": 8,
    "births_per_frame": 0.2,
    "lifetime_frames": 40,
    "settle_s": 0.1,
}


@dataclass(slots=True)
class Seen:
    """What clients were told while the service lived.

    Attributes
    ----------
    events : dict
        By sequence number.
    renamed : dict
        Names that a person gave, by class.
    starts_s : list of float
        From the start of the process until the model is live [s].
    catalogue : dict
        Of each class, the name and the role that it had when a client last looked.
    seq : int
        The last event there was before that.
    changed : list of tuple
        Classes that were not found after a start as they had been before it: the event before, the class, its name and
        role then, and the ones now (None where it is gone).
    """

    events: dict[int, Event] = field(default_factory=dict)
    renamed: dict[int, str] = field(default_factory=dict)
    starts_s: list[float] = field(default_factory=list)
    catalogue: dict[int, tuple[str, str]] = field(default_factory=dict)
    seq: int = 0
    changed: list[tuple[int, int, tuple[str, str], tuple[str, str] | None]] = field(default_factory=list)


def killed(folder: Path, kills: int, seed: int = 0) -> tuple[Seen, list[Event]]:
    """Kill a service so many times, at random moments.

    Parameters
    ----------
    folder : Path
        For its data and log.
    kills : int
    seed : int
        Of the moments and of the specimen.

    Returns
    -------
    seen : Seen
    events : list of Event
        All that is in the log in the end.
    """
    rng, seen = np.random.default_rng(seed), Seen()
    settings = SimulatorSettings.checked(**SPECIMEN, seed=seed)
    with Simulation(settings, bind="tcp://127.0.0.1:0", control=None) as simulation:
        frames = threading.Thread(target=simulation.run, daemon=True)
        frames.start()
        try:
            for left in range(kills, -1, -1):
                began = time.monotonic()
                process, url = _started(folder, simulation.endpoint)
                try:
                    with Client(url, timeout=PATIENCE_S) as client:
                        _live(client, seen)
                        seen.starts_s.append(time.monotonic() - began)
                        _compare(client, seen)
                        # any moment, that which kills is chosen by nobody
                        time.sleep(float(rng.uniform(0.0, 1.5)))
                        _note(client, seen)
                        _account(folder, seen)
                        time.sleep(float(rng.uniform(0.0, 0.2)))
                finally:
                    process.send_signal(signal.SIGKILL if left else signal.SIGTERM)
                    process.wait(PATIENCE_S)
        finally:
            simulation.request_stop()
            frames.join(PATIENCE_S)
    with EventLog(folder / "events.sqlite", source="/latticewatch/stem") as log:
        logged = [event for after in range(0, log.last_seq, 1000) for event in log.read(after).events]
    return seen, [Event.model_validate_json(event.json()) for event in logged]


def _started(folder: Path, frames: str) -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable,
        "-u",
        "-m",
        "latticewatch",
        "serve",
        "--source",
        frames,
        "--data-dir",
        str(folder),
    ]
    command += ["--http", "127.0.0.1:0", "--learning-frames", "4"]
    with (folder / "stderr.txt").open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        # it answers, and says where: a port that was free a moment ago may be somebody else's by now
        if line.startswith("dashboard"):
            return process, line.split()[1]
    raise AssertionError("the service ended itself")


def _live(client: Client, seen: Seen) -> None:
    """Wait until there are classes; name one the first time, and look whether they are as they were the others."""
    deadline = time.monotonic() + (PATIENCE_S if seen.renamed else FIRST_START_S)
    while client.status().phase != "live" or (not seen.renamed and not client.tracks().n):
        assert time.monotonic() < deadline, client.status()
        time.sleep(0.02)
    if not seen.renamed:
        one = next(entry for entry in client.classes() if entry.role == "defect")
        client.rename(one.class_id, NAME)
        seen.renamed[one.class_id] = NAME
    names = {entry.class_id: entry.name for entry in client.classes()}
    assert seen.renamed.items() <= names.items(), f"{names} after {len(seen.starts_s)} kills"


def _compare(client: Client, seen: Seen) -> None:
    """What is there after a start, beside what was there before it."""
    now = _catalogue(client)
    for class_id, before in seen.catalogue.items():
        if now.get(class_id) != before:
            seen.changed.append((seen.seq, class_id, before, now.get(class_id)))


def _catalogue(client: Client) -> dict[int, tuple[str, str]]:
    return {entry.class_id: (entry.name, entry.role) for entry in client.classes()}


def _account(folder: Path, seen: Seen) -> None:
    """A line for each start, so that a run that is cut short has shown something."""
    kinds = Counter(event.type for event in seen.events.values())
    line = {"start": len(seen.starts_s), "live_s": round(seen.starts_s[-1], 2), "classes": seen.catalogue}
    with (folder / "starts.jsonl").open("a") as accounts:
        accounts.write(json.dumps({**line, "events": kinds, "changed": seen.changed}) + "\n")


def _note(client: Client, seen: Seen) -> None:
    seen.seq, seen.catalogue = client.status().last_seq, _catalogue(client)
    after = max(seen.events, default=0)
    for event in client.events(after=after, follow=False):
        seen.events[event.seq] = event


def told_of(event: Event) -> dict[str, Any]:
    """The data of an event, as it crosses the wire."""
    return event.model_dump(mode="json")["data"]


def series_told(events: list[Event]) -> dict[str, list[str]]:
    """For each series, what was told of it: starts and ends, in order."""
    told: dict[str, list[str]] = {}
    for event in events:
        if event.type in ("series.started", "series.ended"):
            told.setdefault(str(told_of(event)["series_id"]), []).append(event.type.removeprefix("series."))
    return told


def appeared_twice(events: list[Event]) -> list[int]:
    """Tracks that appeared more than once."""
    times = Counter(told_of(event)["track"] for event in events if event.type == "defect.appeared")
    return [track for track, n in times.items() if n > 1]


def changed_untold(seen: Seen, events: list[Event]) -> list[tuple[int, int, Any, Any]]:
    """Classes that a start changed: all that changed, but for those of which the log says it."""
    telling = [
        (event.seq, told_of(event)) for event in events if event.type in ("class.renamed", "class.merged")
    ]
    return [
        one
        for one in seen.changed
        if not any(seq > one[0] and one[1] in (told["class_id"], *told["merged"]) for seq, told in telling)
    ]
