"""The four loops of the tutorial against a simulated microscope, and what they did by its own account."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latticewatch.errors import ServiceError
from latticewatch_client import Client, Dose, Loop, Sight, ZmqMicroscope, tiles
from latticewatch_simulator import SimulatedFrame, Simulation, SimulatorSettings

FREE = "tcp://127.0.0.1:0"
PATIENCE_S = 180.0
# Whether what lies so near to the border of a sample is on it, its drift decides [nm].
BORDER_NM = 0.1
LOOPS = Path(__file__).parents[1] / "docs/tutorial/loops"
# A turned scan, a stage that overshoots, and 0.05 nm of drift in a second.
BASE: dict[str, Any] = {
    "shape": (384, 384), "pixel_size_nm": 0.02, "fps": 5.0, "births_per_frame": 0, "settle_s": 0.1,
    "overshoot": 0.1, "scan_rotation_deg": 30.0, "drift_nm_per_frame": (0.008, 0.006),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """The truth of a frame.

    Attributes
    ----------
    at_s : float
        When it was sent, on the monotonic clock [s].
    stage_nm, drift_nm : tuple of float
        The middle of the field, and how far the specimen has drifted against it (x, y along the stage) [nm].
    defects : dict
        By identity: species, and where it is, from the middle of the field along the stage [nm].
    """

    at_s: float
    stage_nm: tuple[float, float]
    drift_nm: tuple[float, float]
    defects: dict[int, tuple[str, tuple[float, float]]]


class Stand:
    """A simulated microscope, the service as a process that can be killed, and the truth of every frame.

    Attributes
    ----------
    seen : dict
        What each frame really shows, by series and number.
    changed : callable, optional
        Called with each frame after it was sent.
    """

    def __init__(
        self,
        folder: Path,
        material: str,
        *,
        told: str | None = None,
        model: Path | None = None,
        **settings: Any,
    ) -> None:
        self.folder, self.told, self.model = folder, told or material, model
        checked = SimulatorSettings.checked(**(BASE | {"material": material} | settings))
        self.simulation = Simulation(checked, bind=FREE, control=FREE)
        self.control = str(self.simulation.control_endpoint)
        self.seen: dict[tuple[str, int], Shown] = {}
        self.changed: Callable[[SimulatedFrame], None] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.http = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.http}"
        self._frames = threading.Thread(target=self.simulation.run, args=(self._note,), daemon=True)
        self.service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Stand:
        self.serve()
        self._frames.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)
        self.simulation.request_stop()
        self._frames.join(20)
        self.simulation.close()

    def serve(self) -> None:
        """Start the service, or start it again on the same data."""
        command = [sys.executable, "-m", "latticewatch", "serve", "--source", self.simulation.endpoint]
        command += ["--http", self.http, "--data-dir", str(self.folder / "data"), "--material", self.told]
        if self.model is not None:
            command += ["--model", str(self.model)]
        with (self.folder / "service.txt").open("ab") as said:
            self.service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End the service, if it has not ended."""
        assert self.service is not None
        self.service.send_signal(how)
        self.service.wait(30)

    def wait_live(self, defects: int = 1) -> None:
        """Until the service has classes and targets."""
        deadline = time.monotonic() + PATIENCE_S
        with Client(self.url) as client:
            while True:
                try:
                    said = client.status()
                    # What came while the classes were learnt waits to be analysed.
                    behind = max((n for _, n in list(self.seen)), default=0) - (said.last_frame or 0)
                    if said.phase == "live" and behind <= 2 and client.targets().n >= defects:
                        return
                except ServiceError:
                    pass
                assert time.monotonic() < deadline, "the service does not come to live"
                time.sleep(0.1)

    def start(self, name: str, *arguments: Any) -> subprocess.Popen[bytes]:
        """One of the loops as a process."""
        code = "import sys, json; sys.path.insert(0, sys.argv[1]); "
        code += f"import {name}; {name}.main(*json.loads(sys.argv[2]))"
        given = json.dumps([self.url, self.control, *arguments])
        with (self.folder / "loop.txt").open("ab") as said:
            return subprocess.Popen([sys.executable, "-c", code, str(LOOPS), given], stdout=said, stderr=said)

    def defects(self, species: str, low: Any, high: Any) -> set[int]:
        """What there really is of a species on a part of the specimen, by identity."""
        specimen = self.simulation.microscope.specimen
        corners = (np.broadcast_to(np.asarray(corner, float), 2) for corner in (low, high))
        table = specimen.columns(*corners)
        inside = np.all((table.xy_nm >= low) & (table.xy_nm <= high), axis=1)
        return set(table.id[inside & (table.species == specimen.species.index(species))].tolist())

    def _note(self, frame: SimulatedFrame) -> None:
        truth, settings = frame.truth, self.simulation.microscope.settings
        at = np.flatnonzero(truth.is_defect())
        away = (truth.positions_px()[at] - (np.array(truth.shape) - 1) / 2) * settings.pixel_size_nm
        names = [truth.names[k] for k in truth.species[at]]
        along = [settings.turn(col, row) for row, col in away.tolist()]
        row, col = np.array(truth.shift_px) * settings.pixel_size_nm
        shown = dict(zip(truth.id[at].tolist(), zip(names, along, strict=True), strict=True))
        drift = settings.turn(float(col), float(row))
        self.seen[truth.series_id, truth.number] = Shown(time.monotonic(), truth.stage_nm, drift, shown)
        if self.changed is not None:
            self.changed(frame)


@dataclass(slots=True)
class Visited:
    """(a) What a loop did on a sample of several fields.

    Attributes
    ----------
    there : int
        Defects of the kind that there are on the sample, but for those within `BORDER_NM` of its border.
    visited : int
        Of those, how many were.
    twice : int
        Defects that were exposed more than once.
    outside : int
        Acts on what is not on the sample, or is something else; frames and exposures out of the box.
    failed : dict
        Acts that have not ended well, by reason.
    offset_nm : list of float
        True distance of each from the middle of the frame after which it was exposed [nm].
    missed_nm : list of float
        True distance of each from where the beam stood, in the frame before [nm].
    place_nm : float
        How much the places on the specimen that the service gave vary about the true ones, at the most [nm].
    dose_e_per_a2, electrons : float
        The highest dose of a square nanometre, every frame of the microscope counted, and the electrons of all acts.
    seconds, drift_nm_per_s : float
    """

    there: int = 0
    visited: int = 0
    twice: int = 0
    outside: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    offset_nm: list[float] = field(default_factory=list)
    missed_nm: list[float] = field(default_factory=list)
    place_nm: float = 0.0
    dose_e_per_a2: float = 0.0
    electrons: float = 0.0
    seconds: float = 0.0
    drift_nm_per_s: float = 0.0


def entries_of(journal: Path) -> list[dict[str, Any]]:
    """Whole lines of a journal."""
    if not journal.exists():
        return []
    data = journal.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def visit(folder: Path, seed: int, n: int = 3, step_nm: float = 5.0, kills: bool = True) -> Visited:
    """(a) Every Fe of n × n fields, with the service killed twice and the loop once on the way."""
    journal, rng = folder / "journal.jsonl", np.random.default_rng(seed)
    defects = {"Fe": 0.01, "Te+S": 0.01, "S1": 0.01}
    with Stand(folder, "WS2", told="WS2:Fe,Te", defects=defects, seed=seed) as stand:
        stand.wait_live()
        began, half = time.monotonic(), n * step_nm / 2
        about = len(stand.defects("Fe", -half, half))
        kill = {about // 4: "service", about // 2: "loop", 3 * about // 4: "service"} if kills else {}
        loop = stand.start("visit", str(journal), "Fe", n, step_nm)
        try:
            while loop.poll() is None:
                assert time.monotonic() < began + 60 + 20 * about, "the loop does not end"
                acts = sum("found" in one for one in entries_of(journal) if one["what"] == "intent")
                due = [after for after in kill if acts > after]
                if due:
                    time.sleep(float(rng.uniform(0, 1.5)))
                    if kill.pop(due[0]) == "loop":
                        loop.kill()
                        loop.wait()
                        loop = stand.start("visit", str(journal), "Fe", n, step_nm)
                    else:
                        stand.kill()
                        time.sleep(float(rng.uniform(0, 2)))
                        stand.serve()
                time.sleep(0.02)
        finally:
            loop.kill()
            loop.wait()
        assert not kill, "not killed as often as was meant"
        result = _visited(stand, entries_of(journal), half)
        result.seconds = time.monotonic() - began
    return result


def _visited(stand: Stand, entries: list[dict[str, Any]], half: float) -> Visited:
    result, frames = Visited(), list(stand.seen.values())
    result.drift_nm_per_s = math.dist(frames[-1].drift_nm, frames[0].drift_nm) / (
        frames[-1].at_s - frames[0].at_s
    )
    result.dose_e_per_a2 = stand.simulation.microscope.beam.dose.highest((0.0, 0.0), (1e3, 1e3), 0.0)
    found = {one["id"]: one["found"] for one in entries if one["what"] == "intent" and "found" in one}
    which: dict[str, int] = {}
    shown: dict[str, Shown] = {}
    times: Counter[int] = Counter()
    for one in entries:
        act = one["id"]
        if one["what"] == "action" and one["dose"] is not None:
            result.electrons += Dose(**one["dose"]).electrons
        if one["what"] == "failed" and act in found:
            result.failed[one["detail"]] = result.failed.get(one["detail"], 0) + 1
        if one["what"] == "result" and "last" in one["result"]:
            shown[act] = stand.seen[one["result"]["series_id"], one["result"]["last"]]
        if one["what"] == "action" and one["call"] == "expose":
            last = shown[act]
            at = (one["args"]["x_nm"] - last.stage_nm[0], one["args"]["y_nm"] - last.stage_nm[1])
            column, (species, middle) = min(last.defects.items(), key=lambda d: math.hypot(*d[1][1]))
            which[act] = column
            times[column] += 1
            result.outside += species != "Fe"
            result.offset_nm.append(math.hypot(*middle))
            result.missed_nm.append(math.dist(at, middle))
    specimen = stand.simulation.microscope.specimen
    said = {k: (found[act]["specimen_nm"]["x"], found[act]["specimen_nm"]["y"]) for act, k in which.items()}
    apart = np.array([specimen.position_nm(k) - place for k, place in said.items()])
    # The service counts drift from the first frame that it saw.
    origin = np.median(apart, axis=0)
    result.place_nm = float(np.hypot(*(apart - origin).T).max())
    inner = stand.defects("Fe", origin - half + BORDER_NM, origin + half - BORDER_NM)
    outer = stand.defects("Fe", origin - half - BORDER_NM, origin + half + BORDER_NM)
    result.there, result.visited = len(inner), len(inner & times.keys())
    result.twice = sum(n > 1 for n in times.values())
    result.outside += len(times.keys() - outer)
    box = 4 * half
    result.outside += sum(max(map(abs, frame.stage_nm)) > box for frame in frames)
    return result


@dataclass(slots=True)
class Followed:
    """(b) How well one defect was kept in the middle.

    Attributes
    ----------
    offset_nm : list of float
        True distance of the defect nearest to the middle from it, in each frame that was taken of it [nm].
    hops : int
        How often it hopped from one of these frames to the next.
    between : list of float
        The same distance in the first frame after each hop [nm].
    failed : dict
    drift_nm_per_s : float
    """

    offset_nm: list[float] = field(default_factory=list)
    hops: int = 0
    between: list[float] = field(default_factory=list)
    tracks: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    drift_nm_per_s: float = 0.0


def follow(folder: Path, seed: int, looks: int = 200) -> Followed:
    """(b) One vacancy that hops, in the middle of the field."""
    settings = {
        "defects": {"S1": 0.004}, "dynamics": "beam", "creation_a2": 0.0, "healing_a2": 0.0, "substitution_a2": 0.0,
        "hop_a2": 3e-7, "attraction": 1.0, "seed": seed,
    }  # fmt: skip
    sights: list[Sight] = []
    with Stand(folder, "WS2", **settings) as stand:
        stand.wait_live()
        report = example("follow")(stand.url, stand.control, looks, sights)
        frames = list(stand.seen.values())
        result = Followed(failed=dict(report.failed), tracks=len({sight.track.track for sight in sights}))
        result.drift_nm_per_s = math.dist(frames[-1].drift_nm, frames[0].drift_nm) / (
            frames[-1].at_s - frames[0].at_s
        )
        columns = []
        for sight in sights:
            shown = stand.seen[sight.frames.series_id, sight.frames.last]
            column, (_, middle) = min(shown.defects.items(), key=lambda one: math.hypot(*one[1][1]))
            columns.append(column)
            hopped = len(columns) > 1 and column != columns[-2]
            result.hops += hopped
            (result.between if hopped else result.offset_nm).append(math.hypot(*middle))
    return result


@dataclass(slots=True)
class Ended:
    """(c) How long the beam stayed on after the third vacancy.

    Attributes
    ----------
    after_s : float
        From the third vacancy's first frame sent until the beam was off [s].
    frame_s : float
        Between two frames, as they came [s].
    seen : int
        Vacancies that were reported.
    late_frames : int
        Frames that showed the third one before it was reported.
    """

    after_s: float
    frame_s: float
    seen: int
    late_frames: int


def expose_until(folder: Path, seed: int) -> Ended:
    """(c) The beam off after the third vacancy."""
    settings = {
        "defects": {"S1": 0.03}, "dynamics": "beam", "creation_a2": 1e-9, "hop_a2": 0.0, "healing_a2": 0.0,
        "substitution_a2": 0.0, "drift_nm_per_frame": (0.0, 0.0), "shape": (256, 256), "fps": 8.0, "seed": seed,
    }  # fmt: skip
    first: dict[int, float] = {}
    off: list[float] = []
    with Stand(folder, "WS2", **settings) as stand:
        beam = stand.simulation.microscope.beam
        blank = beam.blank

        def noted(on: bool) -> None:
            blank(on)
            if on:
                off.append(time.monotonic())

        beam.blank = noted  # type: ignore[method-assign]
        stand.wait_live()
        seen = example("expose_until")(stand.url, stand.control)
        third = seen[-1]
        frames = list(stand.seen.items())
        for _, shown in frames:
            for column in shown.defects:
                first.setdefault(column, shown.at_s)
        shown = stand.seen[third.data["series_id"], third.data["frame"]]
        settings_now = stand.simulation.microscope.settings
        rows, cols = settings_now.shape
        size = settings_now.pixel_size_nm
        col, row = third.data["px"]["col"] - (cols - 1) / 2, third.data["px"]["row"] - (rows - 1) / 2
        at = settings_now.turn(col * size, row * size)
        column = min(shown.defects, key=lambda one: math.dist(shown.defects[one][1], at))
        assert math.dist(shown.defects[column][1], at) < 0.1, "what was reported is not there"
        times = [one.at_s for _, one in frames]
        late = sum(first[column] <= one < shown.at_s for one in times)
    return Ended(off[0] - first[column], float(np.median(np.diff(times))), len(seen), late)


@dataclass(slots=True)
class Looked:
    """(d) What looking at some defects has brought.

    Attributes
    ----------
    looked : list of int
        Tracks, in order.
    before : float
        Mean confidence of all defects known when the sample had been seen in passing.
    after : float
        Mean of what is said of the same sites at last, whatever they are called then.
    defects : int
        How many those are.
    """

    looked: list[int]
    before: float
    after: float
    defects: int


LOOKS, FIELDS_A_SIDE = 4, 4
# (d): small frames of few electrons, so that a frame or two leave doubt. Without drift: the second service goes on from
# the same moment as the first, though later.
FAINT: dict[str, Any] = {
    "dose_e_per_a2": 2e3, "fps": 4.0, "shape": (256, 256), "drift_nm_per_frame": (0.0, 0.0),
}  # fmt: skip


def learnt_before(folder: Path, seed: int = 99) -> Path:
    """(d) A model of another sample."""
    path = folder / "model.npz"
    with Stand(folder, "WS2", seed=seed, **FAINT) as stand:
        stand.wait_live()
        with Client(stand.url) as client:
            path.write_bytes(client.saved_model())
    return path


def least_sure(folder: Path, seed: int, model: Path, policies: tuple[str, ...]) -> list[Looked]:
    """(d) A longer look at some of the defects of a sample that was seen in passing, by each policy.

    The sample is seen once: what the service knows then is copied, and each policy begins with it.
    """
    result, data, kept = [], folder / "data", folder / "seen"
    with Stand(folder, "WS2", model=model, seed=seed, **FAINT) as stand:
        stand.wait_live()
        with Client(stand.url) as client, ZmqMicroscope(stand.control) as microscope:
            fields = tiles(FIELDS_A_SIDE, FIELDS_A_SIDE, 4.0)
            seeing = Loop(client, microscope, classes=["none"], fields=fields, survey=1)
            assert seeing.run(timeout=0).fields == FIELDS_A_SIDE**2
            known = client.tracks("defect", 10_000, out_of_view=True).tracks
            told = {one.track: one.confidence for one in known if one.track >= 0}
            stand.kill(signal.SIGTERM)
            shutil.copytree(data, kept)
            for policy in policies:
                microscope.blank(False)
                shutil.rmtree(data)
                shutil.copytree(kept, data)
                stand.serve()
                stand.wait_live(defects=0)
                result.append(_looked(stand, policy, dict(told)))
                stand.kill(signal.SIGTERM)
    return result


def _looked(stand: Stand, policy: str, told: dict[int, float]) -> Looked:
    before, ended = float(np.mean(list(told.values()))), threading.Event()

    def note() -> None:
        """What is said of them, frame by frame: what comes out of view keeps the last of it."""
        with Client(stand.url) as other:
            while not ended.is_set():
                for one in other.tracks("all", 10_000).tracks:
                    if one.track in told:
                        told[one.track] = one.confidence
                ended.wait(0.1)

    notes = threading.Thread(target=note, daemon=True)
    notes.start()
    looked = example("least_sure")(stand.url, stand.control, policy, LOOKS, 0)
    ended.set()
    notes.join(20)
    return Looked(looked, before, float(np.mean(list(told.values()))), len(told))


def example(name: str) -> Any:
    """The function of one of the loops."""
    spec = importlib.util.spec_from_file_location(name, LOOPS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main
