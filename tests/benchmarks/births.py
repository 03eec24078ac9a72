"""Kinds of defects that are born on a stream: which are seen, what they are called, and how soon.

``python tests/benchmarks/births.py [--material WS2,MoSe2,graphene] [--kinds height,displaced,all] [--seeds 0,1]
[--counts 150] [--size 512] [--pixel-nm 0.0125] [--frames 35] [--born 15]``
makes a stream for each material, kind and seed, takes it through the pipeline as the service does, and scores its last
ten frames. ``--born 0``: the kind is there from the first frame on. ``--full``: 768 × 768, born at 30, 50 frames.

Kinds: ``height`` (another element), ``vacancy`` (one atom of the column, in graphene the column), ``displaced`` (35 pm
in one direction), ``scattered`` (35 pm in six directions), ``hollow``, ``bridge`` and ``anywhere`` (an atom off the
lattice, no nearer to a column than a bridge), ``all`` (height, vacancy, displaced and hollow at once), ``none``
(nothing is born), ``strained`` (columns move together, which is no defect). Kinds with a plus between them begin at
once (``height+bridge``).

``d_prime``: what the ideal observer has for the least clear of them in one frame. ``defect``: share of them, over the
scored frames, with a site of role defect there (off the lattice within 30 pm, once); ``unknown``, ``neighbour``: what
the others are called. ``false``: other sites of role defect in a frame. ``heard``: frames from birth to the event, in
the median, and of how many. ``shift``, ``turn``: errors of the displacement (share, degrees), in the median, where the
service tells one. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _specimen import KINDS, Detector, Kind, Specimen, crystal, frames, planted, separation
from numpy.typing import NDArray
from scipy.spatial import KDTree
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, FrameResult, Learner, analyse

TOGETHER = ("height", "vacancy", "displaced", "hollow")
DEFAULT = "height,vacancy,displaced,hollow,all,none"
EMPTY = ("none", "strained")
NUMBER = (12, 14)
SCORED = 10
# A report belongs to a defect within this share of the distance of nearest neighbours; off the lattice [pm].
MATCHED, OFF_LATTICE_PM = 0.4, 30.0
STRAIN_PM, STRAIN_NM = 35.0, 1.5
DEFECT = ROLES.index("defect")


@dataclass(slots=True)
class Tally:
    """What was said of the sites of one kind, over the scored frames."""

    number: int
    separation: float
    roles: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    heard: list[int] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)
    turn: list[float] = field(default_factory=list)
    place_pm: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A stream that was analysed: truth, results and events, frame by frame."""

    before: Specimen
    after: Specimen
    born: int
    separation: dict[str, float]
    shifts: list[NDArray[np.float64]]
    results: dict[int, FrameResult]
    seconds: float

    def place(self, k: int, number: int) -> NDArray[np.float64]:
        """Where a defect is in a frame [px]: its site on the lattice, or where it stands off it."""
        return self.after.site[k] - self.shifts[number]


def made(arguments: argparse.Namespace, material: str, kinds: tuple[str, ...], seed: int) -> Stream:
    """Make a stream and take it through the pipeline."""
    rng = np.random.default_rng([seed, *map(ord, material + "".join(kinds))])
    before = crystal(material, arguments.pixel_nm, arguments.size, rng)
    drift = tuple(float(d) / arguments.pixel_nm for d in arguments.drift.split(","))
    margin = 2.5 * before.constant_px + max(abs(d) for d in drift) * arguments.frames
    after = before
    if "strained" in kinds:
        after = before.strained(_bump(before))
    wanted: dict[str, tuple[Kind, int]] = {
        name: (KINDS[material][name], int(rng.integers(NUMBER[0], NUMBER[1] + 1)))
        for name in kinds
        if name not in EMPTY
    }
    after = planted(after, wanted, rng, margin)
    scenes = {False: before.image(), True: after.image()}
    electrons = arguments.counts / float(scenes[False].max())
    detector = Detector().unsaturated(electrons * max(float(scene.max()) for scene in scenes.values()))
    stream = ((scenes[n >= arguments.born], electrons) for n in range(arguments.frames))
    settings = AnalysisSettings(learning_frames=5, seed=seed)
    learner, results, shifts, spent = Learner(settings), {}, [], 0.0
    made_frames = frames(stream, arguments.size, detector, rng, drift)  # type: ignore[arg-type]
    for number, (image, shift) in enumerate(made_frames):
        shifts.append(shift)
        frame = Frame(
            image,
            series_id=f"{material}-{seed}",
            number=number,
            ordinal=number,
            t_acquired=float(number),
            t_received=float(number),
            pixel_size_nm=arguments.pixel_nm,
        )
        start = time.perf_counter()
        for result in learner.fold(analyse(frame, learner.model, settings)):
            results[result.number] = result
        spent += time.perf_counter() - start
    distance = separation(before, after, electrons, detector) if wanted else {}
    return Stream(before, after, arguments.born, distance, shifts, results, spent)


def _bump(specimen: Specimen) -> NDArray[np.float64]:
    """Columns around the middle move together, most in the middle [px]."""
    away = (specimen.site - specimen.size / 2) * specimen.pixel_nm
    strength = np.exp(-0.5 * (away**2).sum(1) / STRAIN_NM**2)
    return STRAIN_PM / (1e3 * specimen.pixel_nm) * strength[:, None] * np.array([0.6, 0.8])


def scored(stream: Stream) -> tuple[dict[str, Tally], float, Counter[str]]:
    """What the last frames say of each kind; false defects a frame, and what they are called."""
    after, last = stream.after, sorted(stream.results)[-SCORED:]
    defects = after.defects()
    tallies = {
        name: Tally(len(after.defects(name)), stream.separation[name])
        for name in sorted(set(after.kind[defects]))
    }
    false: Counter[str] = Counter()
    tolerance = np.where(
        after.host[defects] >= 0, MATCHED * after.nearest_px, OFF_LATTICE_PM / (1e3 * after.pixel_nm)
    )
    for number in last:
        result = stream.results[number]
        sites, names = result.sites, {entry.class_id: entry.name for entry in result.classes}
        position = np.asarray(sites.position, float)
        said = np.flatnonzero(sites.role == DEFECT)
        left = set(said.tolist())
        for k, within in zip(defects, tolerance, strict=True):
            tally, place = tallies[str(after.kind[k])], stream.place(k, number)
            reach = np.hypot(*(position - place).T)
            mine = [s for s in left if reach[s] <= within]
            if mine:
                best = min(mine, key=lambda s: reach[s])
                left.discard(best)
                tally.roles["defect"] += 1
                tally.names[names.get(int(sites.class_id[best]), "unknown")] += 1
                tally.place_pm.append(float(1e3 * after.pixel_nm * reach[best]))
            elif len(reach) and reach.min() <= within:
                tally.roles[ROLES[sites.role[int(reach.argmin())]]] += 1
            else:
                tally.roles["no site"] += 1
        false.update(names.get(int(sites.class_id[s]), "unknown") for s in left)
    _listen(stream, tallies, defects, tolerance)
    return tallies, sum(false.values()) / max(len(last), 1), false


def _listen(
    stream: Stream, tallies: dict[str, Tally], defects: NDArray[np.intp], tolerance: NDArray[np.float64]
) -> None:
    """Delays of the events, and the displacements that they tell."""
    if not len(defects):
        return
    heard: dict[int, int] = {}
    told: dict[int, NDArray[np.float64]] = {}
    tree = KDTree(stream.after.site[defects])
    for number in sorted(stream.results):
        for event in stream.results[number].events:
            if not event.type.startswith("defect.") or number < stream.born:
                continue
            data: Any = event.data
            distance, nearest = tree.query(np.array([data.px.row, data.px.col]) + stream.shifts[number])
            if distance > tolerance[nearest]:
                continue
            if event.type == "defect.appeared":
                heard.setdefault(int(nearest), number - stream.born)
            displacement = getattr(data, "displacement_nm", None)
            if displacement is not None:
                told[int(nearest)] = np.array([displacement.y, displacement.x])
    for nearest, frames_later in heard.items():
        tallies[str(stream.after.kind[defects[nearest]])].heard.append(frames_later)
    for nearest, shift in told.items():
        k = defects[nearest]
        true = (stream.after.position[k] - stream.after.site[k]) * stream.after.pixel_nm
        length = np.hypot(*true)
        if length > 0:
            tally = tallies[str(stream.after.kind[k])]
            tally.shift.append(abs(float(np.hypot(*shift)) - length) / length)
            cosine = float(shift @ true) / max(float(np.hypot(*shift)) * length, 1e-12)
            tally.turn.append(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each material, kind and seed."""
    for material in arguments.material.split(","):
        for kind in arguments.kinds.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                stream = made(
                    arguments, material, TOGETHER if kind == "all" else tuple(kind.split("+")), seed
                )
                tallies, false, called = scored(stream)
                common = {
                    "material": material,
                    "stream": kind,
                    "seed": seed,
                    "false": false,
                    "false_names": dict(called.most_common(4)),
                    "classes": len(stream.results[max(stream.results)].classes),
                    "s_frame": stream.seconds / max(len(stream.results), 1),
                }
                if not tallies:
                    yield common | {"kind": "–", "n": 0, "names": {}}
                for name, tally in tallies.items():
                    total = max(sum(tally.roles.values()), 1)
                    yield (
                        common
                        | {
                            "kind": name,
                            "n": tally.number,
                            "d_prime": tally.separation,
                            "defect": tally.roles["defect"] / total,
                            "unknown": tally.roles["unknown"] / total,
                            "neighbour": tally.roles["neighbour"] / total,
                            "heard": float(np.median(tally.heard)) if tally.heard else None,
                            "heard_share": len(tally.heard) / tally.number,
                            "place_pm": float(np.median(tally.place_pm)) if tally.place_pm else None,
                            "shift": float(np.median(tally.shift)) if tally.shift else None,
                            "turn": float(np.median(tally.turn)) if tally.turn else None,
                            "names": dict(tally.names.most_common(4)),
                        }
                    )


COLUMNS = {
    "material": "",
    "stream": "",
    "seed": "",
    "kind": "",
    "n": "",
    "d_prime": ".1f",
    "defect": ".2f",
    "unknown": ".2f",
    "neighbour": ".2f",
    "false": ".1f",
    "heard": ".0f",
    "heard_share": ".2f",
    "place_pm": ".0f",
    "shift": ".2f",
    "turn": ".0f",
    "classes": "",
    "s_frame": ".2f",
    "names": "",
    "false_names": "",
}


def shown(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = []
    for name, form in COLUMNS.items():
        value = row.get(name)
        if isinstance(value, dict):
            cells.append(", ".join(f"{key} × {n}" for key, n in value.items()) or "–")
        else:
            cells.append("–" if value is None else format(value, form))
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Make the streams and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--material", default="WS2", help=f"of {', '.join(KINDS)}, with commas")
    parser.add_argument("--kinds", default=DEFAULT, help=f"with commas, default {DEFAULT}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--counts", type=float, default=150.0, help="electrons at the brightest pixel")
    parser.add_argument("--size", type=int, default=512, help="rows and columns [px]")
    parser.add_argument("--pixel-nm", type=float, default=0.0125)
    parser.add_argument("--frames", type=int, default=35)
    parser.add_argument("--born", type=int, default=15, help="first frame that has the kind; 0: all have it")
    parser.add_argument("--drift", default="0,0", help="nm a frame: row,col")
    parser.add_argument("--full", action="store_true", help="768 px, 50 frames, born at 30")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    arguments = parser.parse_args()
    if arguments.full:
        arguments.size, arguments.frames, arguments.born = 768, 50, 30
    for material in arguments.material.split(","):
        if material not in KINDS:
            parser.error(f"{material}: no such material; give some of {', '.join(KINDS)}")
        known = {*KINDS[material], *EMPTY, "all"}
        unknown = set(arguments.kinds.replace("+", ",").split(",")) - known
        if unknown:
            parser.error(
                f"{', '.join(sorted(unknown))}: no such kind; give some of {', '.join(sorted(known))}"
            )
    if not arguments.json:
        sys.stdout.write("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n")
    with threadpool_limits(limits=1, user_api="blas"):
        for row in rows(arguments):
            sys.stdout.write((json.dumps(row) if arguments.json else shown(row)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
