"""What the service says of a changing specimen, frame by frame, beside what really happened.

``python tests/benchmarks/events.py [--scenario dynamic,static] [--seeds 0,1] [--frames 500] [--size 512] [--explain]``
simulates frames, takes them through the pipeline as the service does, matches true and reported events and prints a row
for each scenario and seed. ``--explain`` adds every miss and false event with what the tracker knew of the site.

A defect at the border, or within ``--delay`` frames of the end, need not be reported, but may be. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _events import EventScore, Happening, TrackScore, match_events, score_tracks
from numpy.typing import NDArray
from scipy.spatial import KDTree
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, Analysis, Classified, FrameResult, Learner, analyse
from latticewatch_simulator import FrameTruth, Microscope, SimulatorSettings

CHANGES = ("defect.appeared", "defect.disappeared", "defect.moved")
# Farther from the edge than half a patch by this much, a site is sure to be seen [px].
BORDER_PX = 4.0
DEFECT = ROLES.index("defect")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated, and for how many frames."""

    frames: int
    settings: dict[str, Any]
    moves_nm: dict[float, tuple[float, float]] = field(default_factory=dict)


WS2 = {"material": "WS2", "births_per_frame": 0.0}
BEAM = WS2 | {"dynamics": "beam", "dose_e_per_a2": 5e4}
SCENARIOS = {
    "low-dose": Scenario(20, WS2 | {"dose_e_per_a2": 1e4, "drift_nm_per_frame": (0.004, -0.003)}),
    "static": Scenario(200, WS2 | {"dose_e_per_a2": 2e4, "drift_nm_per_frame": (0.003, 0.0015)}),
    "dynamic": Scenario(500, BEAM | {"drift_nm_per_frame": (0.002, -0.001), "drift_walk_nm": 0.003}),
    "jump": Scenario(
        90, WS2 | {"dose_e_per_a2": 5e4, "settling_fraction": 0.02}, {1 / 3: (5.0, 0.0), 2 / 3: (0.0, 0.0)}
    ),
    "untold-jump": Scenario(
        90, WS2 | {"dose_e_per_a2": 5e4, "drift_jumps_nm": {30: (5.0, 0.0), 60: (-5.0, 0.0)}}
    ),
    "fast-drift": Scenario(60, WS2 | {"dose_e_per_a2": 5e4, "drift_nm_per_frame": (0.0837, -0.0441)}),
}


class Story:
    """The true trajectories and events of a run, frame by frame."""

    def __init__(self) -> None:
        self.events: list[Happening] = []
        self.trajectories: list[dict[int, tuple[int, bool]]] = []
        self._on: dict[int, int] = {}
        self._told: set[int] = set()
        self._next = 0

    def add(self, truth: FrameTruth, margin_px: float) -> None:
        """Take in the next frame; what lies nearer to the border than the margin is not counted."""
        counted = dict(zip(truth.id.tolist(), truth.inside(margin_px).tolist(), strict=True))
        # Nobody can have seen what the first frame is the first to show, nor what is not on the lattice.
        changes = truth.events if self.trajectories else ()
        for event in changes:
            if event.before.startswith("ad-"):
                continue
            if event.type == "defect.moved":
                assert event.from_site is not None
                self._on[event.site] = self._on.pop(event.from_site)
            elif event.type == "defect.disappeared":
                del self._on[event.site]
            elif event.type == "defect.appeared":
                self._begin(event.site)
                self._told.add(self._on[event.site])
            sites = (event.site, event.site if event.from_site is None else event.from_site)
            sure = all(counted.get(site, False) for site in sites)
            self.events.append(Happening(event.type, truth.number, event.site, sure))
            if event.from_site is not None and not sure:
                # Of a hop over the border one end may be all that can be seen.
                self.events.append(
                    Happening("defect.disappeared", truth.number, event.from_site, counted=False)
                )
                self.events.append(Happening("defect.appeared", truth.number, event.site, counted=False))
        defects = truth.id[(truth.sublattice >= 0) & truth.is_defect()].tolist()
        for site in self._on.keys() & counted.keys() - set(defects):
            del self._on[site]  # healed out of view
        for site in defects:
            if site not in self._on:
                self._begin(site)
        inside = set(truth.id[truth.inside()].tolist()).intersection(defects)
        for site in inside:
            if self._on[site] not in self._told:
                self._told.add(self._on[site])
                self.events.append(Happening("defect.appeared", truth.number, site, counted=False))
        self.trajectories.append({site: (self._on[site], counted[site]) for site in inside})

    def _begin(self, site: int) -> None:
        self._on[site] = self._next
        self._next += 1


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One frame as the service saw it: its result, and which true column each site lies on (-1: none)."""

    result: FrameResult
    column: NDArray[np.int64]
    alone: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A scenario with one seed, done."""

    scenario: str
    seed: int
    truths: list[FrameTruth]
    seen: list[Seen]
    reported: list[tuple[Happening, str]]
    learner: Learner
    margin_px: float
    fold_ms: float


def columns_at(truth: FrameTruth, position: NDArray[Any]) -> NDArray[np.int64]:
    """Identity of the column on which each position lies; -1 where there is none within half their spacing."""
    lattice = truth.sublattice >= 0
    tree = KDTree(truth.positions_px()[lattice])
    spacing = float(np.median(tree.query(tree.data, k=2)[0][:, 1]))
    distance, nearest = tree.query(np.asarray(position, float).reshape(-1, 2))
    return np.where(distance < spacing / 2, truth.id[lattice][nearest], -1)


def simulate(scenario: str, seed: int, frames: int, size: int) -> Iterator[tuple[FrameTruth, Frame]]:
    """Frames of a scenario and the truth about them."""
    chosen = SCENARIOS[scenario]
    settings = SimulatorSettings.checked(
        **{
            "shape": (size, size),
            "settle_s": 0.0,
            "seed": seed,
            "rotation_deg": 7.0 * seed,
            **chosen.settings,
        }
    )
    microscope = Microscope(settings, f"{scenario}-{seed}")
    moves = {round(at * frames): place for at, place in chosen.moves_nm.items()}
    for number in range(frames):
        if number in moves:
            microscope.stage.move(*moves[number])
        taken = microscope.acquire()
        yield (
            taken.truth,
            Frame(
                taken.image,
                series_id=microscope.series_id,
                number=number,
                ordinal=number,
                t_acquired=number / settings.fps,
                t_received=number / settings.fps,
                pixel_size_nm=settings.pixel_size_nm,
                stage_nm=taken.truth.stage_nm,
            ),
        )


def run(
    scenario: str, seed: int, frames: int, size: int, setup: Callable[[Learner], None] | None = None
) -> Run:
    """Take a scenario through the pipeline.

    Parameters
    ----------
    setup : callable, optional
        Called with the learner before the first frame.
    """
    settings = AnalysisSettings(seed=seed)
    learner = Learner(settings)
    if setup is not None:
        setup(learner)
    truths: list[FrameTruth] = []
    seen: dict[int, Seen] = {}
    reported: list[tuple[Happening, str]] = []
    spent = 0.0
    with threadpool_limits(limits=1, user_api="blas"):
        for truth, frame in simulate(scenario, seed, frames, size):
            truths.append(truth)
            analysis = analyse(frame, learner.model, settings)
            start = time.process_time()
            results = learner.fold(analysis)
            spent += time.process_time() - start if len(results) == 1 else 0.0
            for result in results:
                seen[result.number] = _seen(result, truths[result.number], analysis)
                reported += _reported(result, truths[result.number])
    model = learner.model
    if model is None:
        sys.exit(f"{scenario}, seed {seed}: nothing was learnt in {frames} frames; give more frames")
    margin = model.patch_px / 2 + BORDER_PX
    return Run(
        scenario,
        seed,
        truths,
        [seen[number] for number in range(frames)],
        reported,
        learner,
        margin,
        1e3 * spent / frames,
    )


def _seen(result: FrameResult, truth: FrameTruth, analysis: Analysis) -> Seen:
    own = analysis.frame.number == result.number and isinstance(analysis, Classified)
    posterior = analysis.verdict.posterior if own else None
    return Seen(result, columns_at(truth, result.sites.position), posterior)


def _reported(result: FrameResult, truth: FrameTruth) -> Iterator[tuple[Happening, str]]:
    for event in result.events:
        if event.type.startswith("defect."):
            data = event.data
            at = np.array([[data.px.row, data.px.col]])  # type: ignore[union-attr]
            site = int(columns_at(truth, at)[0])
            yield Happening(event.type, result.number, site), data.class_name  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of a run."""

    run: Run
    events: EventScore
    tracks: TrackScore
    last_f1: float
    site_frames: int

    def row(self) -> dict[str, Any]:
        """Ready for JSON."""
        changes = self.events.of(*CHANGES)
        delays = changes.delays or [0]
        return {
            "scenario": self.run.scenario,
            "seed": self.run.seed,
            "frames": len(self.run.seen),
            "true": len(changes.found) + len(changes.missed),
            "recall": changes.recall,
            "precision": changes.precision,
            "delay_median": float(np.median(delays)),
            "delay_p90": float(np.percentile(delays, 90)),
            "false": len(self.events.false),
            "false_per_10000": 1e4 * len(self.events.false) / max(self.site_frames, 1),
            "switches": self.tracks.switches,
            "breaks": self.tracks.breaks,
            "mota": self.tracks.mota,
            "idf1": self.tracks.idf1,
            "last_f1": self.last_f1,
            "fold_ms": self.run.fold_ms,
        }


def score(run: Run, max_delay: int) -> Report:
    """Score a run."""
    story, found = Story(), []
    for truth, seen in zip(run.truths, run.seen, strict=True):
        story.add(truth, run.margin_px)
        sites = seen.result.sites
        said = (sites.role == DEFECT) & (sites.track >= 0)
        # A site on no column is a false one, each by itself.
        column = np.where(seen.column >= 0, seen.column, -2 - np.arange(len(seen.column)))
        found.append(dict(zip(column[said].tolist(), sites.track[said].tolist(), strict=True)))
    last = len(run.truths) - max_delay
    true = [
        event if event.frame < last else Happening(event.type, event.frame, event.site, counted=False)
        for event in story.events
    ]
    events = match_events(true, [event for event, _ in run.reported], max_delay)
    tracks = score_tracks(story.trajectories, found)
    final = score_tracks(story.trajectories[-1:], found[-1:])
    right = final.truths - final.missed
    f1 = 2 * right / max(2 * right + final.missed + final.false, 1)
    return Report(run, events, tracks, f1, sum(len(seen.column) for seen in run.seen))


def explain(report: Report) -> Iterator[str]:
    """Each miss and false event, and what was known of the site around it."""
    run = report.run
    names = {entry.class_id: f"{entry.name}/{entry.role}" for entry in run.learner.model.classes}  # type: ignore[union-attr]
    for what, events in (("missed", report.events.missed), ("false", report.events.false)):
        for event in sorted(events, key=lambda event: event.frame):
            called = next((name for e, name in run.reported if e is event), "")
            yield f"{what} {event.type} at frame {event.frame}, column {event.site} {called}"
            for number in range(max(0, event.frame - 3), min(len(run.seen), event.frame + 9)):
                yield f"    {number}: {_known(run, number, event.site, names)}"
            others = [f"{e.frame}: {e.type[7:]} {name}" for e, name in run.reported if e.site == event.site]
            yield f"    said of it: {'; '.join(others)}"


def _known(run: Run, number: int, column: int, names: dict[int, str]) -> str:
    truth, seen = run.truths[number], run.seen[number]
    at = np.flatnonzero(truth.id == column)
    if not len(at):
        return "not in the scene"
    row, col = truth.positions_px()[at[0]]
    text = f"({row:.0f}, {col:.0f}) {truth.names[truth.species[at[0]]]}"
    site = np.flatnonzero(seen.column == column)
    if not len(site):
        return f"{text}, no site"
    sites, k = seen.result.sites, int(site[0])
    text += (
        f", track {sites.track[k]} {names.get(int(sites.class_id[k]), 'unknown')} {sites.confidence[k]:.3f}"
    )
    if seen.alone is not None:
        ids = [*names, -1]
        best = np.argsort(-seen.alone[k])[:2]
        alone = ", ".join(
            f"{names.get(ids[b], 'unknown')} {seen.alone[k, b]:.2g}" for b in best if b < len(ids)
        )
        text += f"; alone {alone}"
    return text


COLUMNS = {
    "scenario": "",
    "seed": "",
    "frames": "",
    "true": "",
    "recall": ".3f",
    "precision": ".3f",
    "delay_median": ".1f",
    "delay_p90": ".1f",
    "false": "",
    "false_per_10000": ".3f",
    "switches": "",
    "breaks": "",
    "mota": ".4f",
    "idf1": ".4f",
    "last_f1": ".3f",
    "fold_ms": ".2f",
}


def main() -> None:
    """Run the scenarios and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default=",".join(SCENARIOS), help="names, with commas between them")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--frames", type=int, help="in place of each scenario's own number")
    parser.add_argument("--size", type=int, default=512, help="rows and columns [px]")
    parser.add_argument("--delay", type=int, default=10, help="frames that a report may take")
    parser.add_argument("--explain", action="store_true", help="each miss and false event")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    arguments = parser.parse_args()
    unknown = set(arguments.scenario.split(",")) - set(SCENARIOS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such scenario; give some of {', '.join(SCENARIOS)}")
    if not arguments.json:
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))  # noqa: T201
    for scenario in arguments.scenario.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            frames = arguments.frames or SCENARIOS[scenario].frames
            report = score(run(scenario, seed, frames, arguments.size), arguments.delay)
            row = report.row()
            line = "| " + " | ".join(format(row[name], form) for name, form in COLUMNS.items()) + " |"
            print(json.dumps(row) if arguments.json else line, flush=True)  # noqa: T201
            if arguments.explain:
                print(*explain(report), sep="\n", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
