"""What frames bring together: defect F1 after 1, 5, 10 and 20 frames of few electrons, beside the ideal observer's.

``python tests/benchmarks/gather.py [--dose 2e3] [--after 1,5,10,20] [--seeds 0,1] [--material WS2] [--scene FILE.npz]``
prints a row for each number of frames: means over the seeds. Without ``--scene`` (a multislice scene with its
truth) the specimen is made afresh. ``--learning`` frames are learnt from first (``all``: as many as are scored); what
was learnt from counts as it was classified afterwards. The ideal observer has the electrons of all frames in one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _ideal import Detector as Ideals
from _ideal import observe, scene_templates
from _runs import contamination, followed, found, line, mean, numbers, table, truth_of
from _specimen import KINDS, MARGIN_PX, Detector, Kind, crystal, frames, planted
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings

# Shares of the sites of the host that is replaced, as in the multislice scenes.
SPECIES: dict[str, dict[str, tuple[Kind, float]]] = {
    "WS2": {
        "Fe": (Kind(("Fe",), 0), 0.014),
        "Te+S": (Kind(("Te", "S"), 1), 0.014),
        "S1": (Kind(("S",), 1), 0.014),
        "V_S2": (Kind((), 1), 0.009),
    },
    "MoSe2": {
        "W": (Kind(("W",), 1), 0.014),
        "Se1": (Kind(("Se",), 0), 0.014),
        "V_Se2": (Kind((), 0), 0.009),
    },
    "graphene": {name: (KINDS["graphene"][name], 0.009) for name in ("height", "vacancy")}
    | {"Si": (Kind(("Si",), 0), 0.009)},
}


def specimen(arguments: argparse.Namespace, seed: int) -> dict[str, NDArray[Any]]:
    """Truth of a specimen, from a file or made afresh."""
    if arguments.scene is not None:
        if not arguments.scene.exists():
            sys.exit(f"{arguments.scene}: not found; give a multislice scene, or none to have one made")
        with np.load(arguments.scene, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    rng = np.random.default_rng([seed, 11])
    perfect = crystal(arguments.material, arguments.pixel_nm, arguments.size, rng)
    sites = int((perfect.inside(0) & (perfect.host == 0)).sum())
    kinds = {
        name: (kind, max(2, round(share * sites)))
        for name, (kind, share) in SPECIES[arguments.material].items()
    }
    margin = 2 * perfect.nearest_px
    return truth_of(planted(perfect, kinds, rng, margin), margin)


def run(arguments: argparse.Namespace, seed: int) -> Iterator[tuple[int, float, float]]:
    """Number of frames, F1 and that of the ideal observer, each time that it is asked for."""
    truth, rng = specimen(arguments, seed), np.random.default_rng([seed, 12])
    pixel_nm, size = float(truth["pixel_size_nm"]), len(truth["image"])
    clean = truth["image"].astype(np.float32) * np.float32(truth["electrons_fraction"])
    scene = np.pad(clean, MARGIN_PX, mode="wrap")
    level = arguments.contamination * float(clean.mean())
    if level:
        scene = scene + level * contamination(size, pixel_nm, rng)
    electrons = arguments.dose * (10 * pixel_nm) ** 2
    detector = Detector().unsaturated(electrons * float(scene.max()))
    templates = scene_templates(truth)
    wanted = [int(n) for n in arguments.after]
    learning = max(wanted) if arguments.learning == "all" else int(arguments.learning)
    settings = AnalysisSettings(learning_frames=learning, seed=seed)
    images = (
        image for image, _ in frames(((scene, electrons) for _ in range(max(wanted))), size, detector, rng)
    )
    scores = {result.number: found(result, truth).f1 for result in followed(images, settings, pixel_nm)}
    for n in wanted:
        best = observe(
            templates,
            n * electrons,
            level,
            Ideals(detector.spread, np.sqrt(n) * detector.read / detector.counts),
        )
        yield n, scores[n - 1], best.f1


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Means over the seeds."""
    all_runs = [list(run(arguments, seed)) for seed in map(int, arguments.seeds)]
    for of_number in zip(*all_runs, strict=True):
        yield {
            "frames": of_number[0][0],
            "dose": arguments.dose,
            "F1": mean([f1 for _, f1, _ in of_number]),
            "ideal": mean([ideal for _, _, ideal in of_number]),
            "least": min(f1 for _, f1, _ in of_number),
        }


COLUMNS = {"frames": "", "dose": ".0f", "F1": ".3f", "ideal": ".3f", "least": ".3f"}


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", type=Path, help="a multislice scene with its truth (.npz)")
    parser.add_argument("--material", default="WS2", choices=list(SPECIES))
    parser.add_argument("--dose", type=float, default=2e3, help="electrons per Å² and frame")
    parser.add_argument("--after", type=numbers, default=[1, 5, 10, 20], help="frames, with commas")
    parser.add_argument("--learning", default="5", help="frames learnt from first, or all")
    parser.add_argument("--seeds", type=numbers, default=[0, 1])
    parser.add_argument("--size", type=int, default=1024, help="of a specimen that is made [px]")
    parser.add_argument("--pixel-nm", type=float, default=0.0125)
    parser.add_argument("--contamination", type=float, default=0.2, help="of the mean intensity")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json:
        sys.stdout.write(table(COLUMNS) + "\n")
    with threadpool_limits(limits=1, user_api="blas"):
        for row in rows(arguments):
            sys.stdout.write((json.dumps(row) if arguments.json else line(row, COLUMNS)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
