"""How weak a change may be, and how many sites may share it: contrast × dose, alloys, lone defects.

``python tests/benchmarks/contrast.py [--material MoSe2] [--changes=-10,-5,-3,-2,2,3,5,10] [--doses 1e5,3e5,1e6,3e6,1e7]
[--seeds 0,1] [--size 512] [--only weak,alloy,lone]``
One frame each, default settings, nothing told about the material.

*weak*: 4 % of the brightest columns differ by so many per cent in height. ``share``: F1 in that of the ideal observer,
who knows how much lines jitter.
``falls``: how much of that F1 a smaller dose had found that this one misses; more electrons must never find less.
*alloy*: a share of the columns is another element. All of them are hosts: ``hosts`` classes of that role on the
sublattice, ``mixed``: the share of the columns whose class is not that of its element; ``false``: sites called defect,
of a thousand.
*lone*: one vacancy and one foreign atom in a frame: how many of both are found, and what else is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from _ideal import Detector as Ideals
from _ideal import observe, scene_templates
from _runs import (
    DEFECT,
    HOST,
    MATCHED,
    Found,
    exposures,
    followed,
    found,
    line,
    numbers,
    sites_at,
    table,
    truth_of,
)
from _specimen import KINDS, Detector, Kind, Specimen, crystal, planted
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.pipeline import FrameResult
from latticewatch_simulator._signal import column_signal

WEAK_SHARE = 0.04
# Sublattice (brightest first), elements of its columns, and their shares.
ALLOYS: dict[str, tuple[str, int, tuple[tuple[tuple[str, ...], float], ...]]] = {
    "Mo 60 W 40": ("MoSe2", 1, ((("Mo",), 0.6), (("W",), 0.4))),
    "Mo 50 W 50": ("MoSe2", 1, ((("Mo",), 0.5), (("W",), 0.5))),
    "W 55 Mo 45": ("WS2", 0, ((("W",), 0.55), (("Mo",), 0.45))),
    "S 25 SSe 50 Se 25": (
        "WS2",
        1,
        ((("S", "S"), 0.25), (("Se", "S"), 0.5), (("Se", "Se"), 0.25)),
    ),
}


def analysed(
    specimen: Specimen, dose: float, rng: np.random.Generator, dirt: float, jitter_px: float
) -> FrameResult:
    """One frame, learnt from and classified."""
    images = exposures(specimen, dose, 1, rng, dirt, Detector(jitter_px=jitter_px))
    return list(followed(images, AnalysisSettings(learning_frames=1), specimen.pixel_nm))[-1]


def weak(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Contrast and dose."""
    detector = Detector()
    for change in arguments.changes:
        best_so_far = 0.0
        for dose in arguments.doses:
            total, ideal = Found(0, 0, 0), []
            for seed in map(int, arguments.seeds):
                rng = np.random.default_rng([seed, 21])
                perfect = crystal(arguments.material, arguments.pixel_nm, arguments.size, rng)
                margin = 2 * perfect.nearest_px
                number = round(WEAK_SHARE * int((perfect.inside(margin) & (perfect.host == 0)).sum()))
                kind = Kind(host=0, factor=1 + change / 100)
                specimen = planted(perfect, {"weak": (kind, number)}, rng, margin)
                truth = truth_of(specimen, margin)
                result = analysed(
                    specimen,
                    dose,
                    np.random.default_rng([seed, 22]),
                    arguments.contamination,
                    arguments.jitter_px,
                )
                total += found(result, truth)
                level = arguments.contamination * float(truth["image"].mean())
                limits = Ideals(detector.spread, detector.read / detector.counts, arguments.jitter_px)
                electrons = dose * (10 * arguments.pixel_nm) ** 2
                ideal.append(observe(scene_templates(truth), electrons, level, limits).f1)
            best = float(np.mean(ideal))
            yield {
                "test": "weak",
                "specimen": arguments.material,
                "change": change,
                "dose": dose,
                "n": total.right + total.missed,
                "F1": total.f1,
                "ideal": best,
                "share": total.f1 / best if best > 0.05 else None,
                "falls": max(best_so_far - total.f1, 0.0),
                "false": float(total.false),
            }
            best_so_far = max(best_so_far, total.f1)


def alloy(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Sublattices of several elements."""
    for name, (material, host, parts) in ALLOYS.items():
        for dose in arguments.alloy_doses:
            for seed in map(int, arguments.seeds):
                rng = np.random.default_rng([seed, 23])
                perfect = crystal(material, arguments.pixel_nm, arguments.size, rng)
                mine = perfect.host == host
                element = rng.choice(len(parts), len(mine), p=[share for _, share in parts])
                signal = np.array([column_signal(atoms) for atoms, _ in parts])
                specimen = replace(perfect, signal=np.where(mine, signal[element], perfect.signal))
                result = analysed(specimen, dose, rng, arguments.contamination, arguments.jitter_px)
                yield {
                    "test": "alloy",
                    "specimen": name,
                    "dose": dose,
                    "seed": seed,
                    **_mixed(result, specimen, mine, element),
                }


def _mixed(
    result: FrameResult, specimen: Specimen, mine: NDArray[np.bool_], element: NDArray[np.int64]
) -> dict[str, Any]:
    inside = mine & specimen.inside(2 * specimen.nearest_px)
    site, _ = sites_at(result, specimen.site[inside], MATCHED * specimen.nearest_px)
    class_id = np.asarray(result.sites.class_id)[site[site >= 0]]
    role = np.asarray(result.sites.role)[site[site >= 0]]
    of = element[inside][site >= 0]
    right = sum(
        count.most_common(1)[0][1]
        for count in (Counter(of[class_id == one].tolist()) for one in np.unique(class_id[role == HOST]))
    )
    return {
        "n": int(inside.sum()),
        "hosts": len(np.unique(class_id[role == HOST])),
        "mixed": 1 - right / max(len(of), 1),
        "false": 1e3 * float((result.sites.role == DEFECT).sum()) / max(len(result.sites.role), 1),
    }


def lone(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One of each kind in a frame."""
    for material in ("WS2", "MoSe2", "graphene"):
        for dose in arguments.lone_doses[material]:
            total = Found(0, 0, 0)
            for seed in map(int, arguments.seeds):
                rng = np.random.default_rng([seed, 24])
                perfect = crystal(material, arguments.pixel_nm, arguments.size, rng)
                margin = 3 * perfect.nearest_px
                kinds = {name: (KINDS[material][name], 1) for name in ("height", "vacancy")}
                specimen = planted(perfect, kinds, rng, margin)
                result = analysed(specimen, dose, rng, arguments.contamination, arguments.jitter_px)
                total += found(result, truth_of(specimen, 2 * perfect.nearest_px))
            yield {
                "test": "lone",
                "specimen": material,
                "dose": dose,
                "n": total.right + total.missed,
                "F1": total.f1,
                "false": float(total.false),
            }


COLUMNS = {
    "test": "",
    "specimen": "",
    "change": "+.1f",
    "dose": ".0e",
    "seed": "",
    "n": "",
    "F1": ".3f",
    "ideal": ".3f",
    "share": ".3f",
    "falls": ".3f",
    "hosts": "",
    "mixed": ".4f",
    "false": ".1f",
}
TESTS = {"weak": weak, "alloy": alloy, "lone": lone}


def main() -> None:
    """Run the tests and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(TESTS), help="weak, alloy, lone; with commas")
    parser.add_argument("--material", default="MoSe2", choices=list(KINDS), help="of the weak changes")
    parser.add_argument("--changes", type=numbers, default=[-10, -5, -3, -2, 2, 3, 5, 10], help="per cent")
    parser.add_argument("--doses", type=numbers, default=[1e5, 3e5, 1e6, 3e6, 1e7], help="e/Å², rising")
    parser.add_argument("--seeds", type=numbers, default=[0, 1])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--pixel-nm", type=float, default=0.02)
    parser.add_argument("--contamination", type=float, default=0.0, help="of the mean intensity")
    parser.add_argument("--jitter-px", type=float, default=0.15, help="of the lines, along them [px rms]")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.alloy_doses = [2e4, 1e5]
    # where d' of the fainter one is 8 or more
    arguments.lone_doses = {"WS2": [1e5, 1e6], "MoSe2": [1e5, 1e6], "graphene": [1e7]}
    unknown = set(arguments.only.split(",")) - set(TESTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such test; give some of {', '.join(TESTS)}")
    if not arguments.json:
        sys.stdout.write(table(COLUMNS) + "\n")
    with threadpool_limits(limits=1, user_api="blas"):
        for name in arguments.only.split(","):
            for row in TESTS[name](arguments):
                sys.stdout.write((json.dumps(row) if arguments.json else line(row, COLUMNS)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
