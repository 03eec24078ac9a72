"""What is found in frames whose truth is known, beside what the ideal observer finds in them.

``python tests/benchmarks/accuracy.py [--doses 2e4,1e5] [--seeds 0,1] [--contamination 0.2] [--quick] [--json]``
prints a row for each scene, dose and seed: one frame, default settings, nothing told about the material.
``--soft 0.5`` makes the probe softer, by a Gaussian of so many angstrom. ``--embeddings`` prints instead how well
layouts of the same whitened moments separate the species.

The scenes and the tools that make and score the frames are not part of this project: ``--scenes`` and ``--tools``, or
the folder in ``LATTICEWATCH_TEST_DATA``. Nothing is asserted; seconds are those of a machine that may be busy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from _ideal import Detector, Ideal, observe, scene_templates
from _layouts import compare_layouts
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, FrameResult, Learner, analyse

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LATTICEWATCH_TEST_DATA") or PROJECT.parent / "shared" / "data")
SCENES = ("ws2_1024_r0", "ws2_1024_fine", "mose2_1024_r0", "graphene_1024_r0")
DOSES = "2e3,5e3,1e4,2e4,5e4,1e5,3e5,1e6"
QUICK_DOSES = "2e4,3e5"
# What degrade.py does to an electron by default: 40 counts with a spread of 0.35, and 12 counts of read noise.
DEGRADED = Detector(spread=0.35, read=12 / 40)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One frame: as it was made, what was found in it, and how that compares with the truth."""

    scene: str
    dose: float
    seed: int
    result: FrameResult
    learner: Learner
    frame: Frame
    score: dict[str, Any]
    spacing_px: float
    seconds: float

    def host_classes(self) -> int:
        """Largest number of classes of role host on one sublattice."""
        hosts = [entry.sublattice for entry in self.result.classes if entry.role == "host"]
        return int(np.bincount(hosts).max()) if hosts else 0

    def row(self, poisson: Ideal, detector: Ideal) -> dict[str, Any]:
        """Everything that is reported of it, ready for JSON."""
        sites, defects = self.score["sites"], self.score["defects"]
        error = sites["rms_px"]
        return {
            "scene": self.scene,
            "dose": self.dose,
            "seed": self.seed,
            "site_recall": sites["recall"],
            "site_precision": sites["precision"],
            "rms_px": error,
            "rms_nn": None if error is None else error / self.spacing_px,
            "defect_f1": defects["f1"],
            "ideal_f1": detector.f1,
            "ideal_poisson_f1": poisson.f1,
            "defect_recall": defects["recall"],
            "defect_precision": defects["precision"],
            # where nothing was learnt, the few peaks of a frame are one class, and rightly so
            "ari": self.score["ari"] if self.result.classes else None,
            "host_classes": self.host_classes(),
            "seconds": self.seconds,
            "classes": {
                name: {
                    "f1": self.score["classes"][name]["f1"],
                    "ideal_f1": detector.species_f1.get(name),
                    "d_prime": detector.separation.get(name),
                    "n": self.score["classes"][name]["n"],
                }
                for name in self.score["classes"]
            },
        }


def load_tool(folder: Path, name: str) -> ModuleType:
    """A script of the test tools as a module."""
    path = folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        sys.exit(f"{path}: not found; give the folder of degrade.py and score.py with --tools")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_scene(path: Path) -> dict[str, NDArray[Any]]:
    """A file of truth as a dictionary."""
    if not path.exists():
        sys.exit(f"{path}: not found; give the folder of the scenes with --scenes")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def softened(truth: dict[str, NDArray[Any]], sigma_angstrom: float) -> dict[str, NDArray[Any]]:
    """The scene as a softer probe shows it: convolved with a Gaussian of this standard deviation [Å]."""
    sigma = sigma_angstrom / (10 * float(truth["pixel_size_nm"]))
    return truth | {"image": ndimage.gaussian_filter(truth["image"].astype(np.float64), sigma, mode="wrap")}


def measure(
    scene: str, truth: dict[str, NDArray[Any]], dose: float, seed: int, contamination: float, tools: Path
) -> Measured:
    """Make a frame, analyse it as one that was never seen before, and score it."""
    degrade, score = load_tool(tools, "degrade"), load_tool(tools, "score")
    rates = truth["image"].astype(np.float32) * np.float32(truth["electrons_fraction"])
    image, shift = next(
        degrade.frames(rates, float(truth["pixel_size_nm"]), dose, 1, seed, contam=contamination)
    )
    settings = AnalysisSettings(learning_frames=1)
    learner, frame = Learner(settings), Frame(image)
    start = time.perf_counter()
    with threadpool_limits(limits=1, user_api="blas"):
        result = learner.fold(analyse(frame, None, settings))[-1]
    seconds = time.perf_counter() - start
    sites = result.sites
    rows = [
        {"row_px": position[0], "col_px": position[1], "role": ROLES[role], "class_id": str(class_id)}
        for position, role, class_id in zip(sites.position, sites.role, sites.class_id, strict=True)
    ]
    spacing = float(np.median(KDTree(truth["positions_px"]).query(truth["positions_px"], k=2)[0][:, 1]))
    scored = score.score(rows, truth, shift=-shift)
    return Measured(scene, dose, seed, result, learner, frame, scored, spacing, seconds)


def measurements(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the table, as they are measured."""
    for scene in arguments.scene:
        truth = softened(load_scene(arguments.scenes / f"{scene}.npz"), arguments.soft)
        templates = scene_templates(truth)
        fraction = float(truth["image"].mean() * truth["electrons_fraction"])
        for dose in arguments.doses:
            electrons = dose * (10 * float(truth["pixel_size_nm"])) ** 2
            background = arguments.contamination * fraction
            poisson, detector = (
                observe(templates, electrons, background, kind) for kind in (Detector(), DEGRADED)
            )
            for seed in arguments.seeds:
                measured = measure(scene, truth, dose, seed, arguments.contamination, arguments.tools)
                yield measured.row(poisson, detector)


def layouts(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the comparison of layouts, as they are measured."""
    for scene in arguments.scene:
        truth = softened(load_scene(arguments.scenes / f"{scene}.npz"), arguments.soft)
        for dose in arguments.doses:
            for seed in arguments.seeds:
                measured = measure(scene, truth, dose, seed, arguments.contamination, arguments.tools)
                if measured.learner.model is None:
                    sys.exit(f"{scene} at {dose:g} e/Å²: no lattice found, so there is nothing to lay out")
                for row in compare_layouts(measured.learner.model, measured.frame, truth, seed):
                    yield {"scene": scene, "dose": dose, "seed": seed, **row}


# Title of each column: its format and its width in characters.
ACCURACY_COLUMNS = {
    "scene": ("{scene}", 16),
    "dose": ("{dose:.0f}", 7),
    "seed": ("{seed}", 4),
    "recall": ("{site_recall:.4f}", 6),
    "precision": ("{site_precision:.4f}", 9),
    "rms px": ("{rms_px:.3f}", 6),
    "rms nn": ("{rms_nn:.4f}", 6),
    "F1": ("{defect_f1:.3f}", 5),
    "ideal": ("{ideal_f1:.3f}", 5),
    "Poisson": ("{ideal_poisson_f1:.3f}", 7),
    "ARI": ("{ari:.3f}", 5),
    "hosts": ("{host_classes}", 5),
    "s": ("{seconds:.1f}", 5),
    "F1 (ideal) of each species": ("{species}", 26),
}
LAYOUT_COLUMNS = {
    "scene": ("{scene}", 16),
    "dose": ("{dose:.0f}", 7),
    "seed": ("{seed}", 4),
    "layout": ("{layout}", 23),
    "sites": ("{sites}", 5),
    "silhouette": ("{silhouette:.3f}", 10),
    "by species": ("{silhouette_of_species:.3f}", 10),
    "ARI HDBSCAN": ("{ari_hdbscan:.3f}", 11),
    "ARI k-means": ("{ari_kmeans:.3f}", 11),
    "s": ("{seconds:.1f}", 5),
}


def shown(row: dict[str, Any], columns: dict[str, tuple[str, int]], *, markdown: bool) -> str:
    """A row as text; what was not measured is a dash."""
    values = {key: float("nan") if value is None else value for key, value in row.items()}
    if "classes" in row:
        values["species"] = ", ".join(
            f"{name} {of['f1']:.2f} ({of['ideal_f1']:.2f})"
            for name, of in row["classes"].items()
            if of["ideal_f1"] is not None
        )
    cells = [form.format(**values).replace("nan", "–") for form, _ in columns.values()]
    if markdown:
        return "| " + " | ".join(cells) + " |"
    widths = [width for _, width in columns.values()]
    return "  ".join(f"{cell:{width}s}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def heading(columns: dict[str, tuple[str, int]], *, markdown: bool) -> str:
    """Titles of the columns."""
    if markdown:
        return "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)
    return "  ".join(f"{title:{width}s}" for title, (_, width) in columns.items()).rstrip()


def averaged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds of rows that have everything else in common."""
    first = rows[0]
    out: dict[str, Any] = {}
    for key, value in first.items():
        if isinstance(value, dict):
            out[key] = averaged([row[key] for row in rows]) if value else {}
        elif isinstance(value, int | float):
            known = [row[key] for row in rows if row[key] is not None]
            out[key] = max(known) if isinstance(value, int) else float(np.mean(known))
        else:
            out[key] = value
    return out


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=Path, default=DATA / "truth", help="folder of the noise-free scenes")
    parser.add_argument("--scene", nargs="+", default=SCENES, help="names of scenes, all by default")
    parser.add_argument("--tools", type=Path, default=DATA.parent / "tools", help="degrade.py and score.py")
    parser.add_argument("--doses", type=_numbers, help=f"electrons per Å² and frame, default {DOSES}")
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0])
    parser.add_argument("--contamination", type=float, default=0.2, help="of the mean intensity, default 0.2")
    parser.add_argument("--soft", type=float, default=0.0, help="width added to the probe [Å], default 0")
    parser.add_argument("--embeddings", action="store_true", help="compare layouts of the moments")
    parser.add_argument("--quick", action="store_true", help=f"doses {QUICK_DOSES} only")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--markdown", action="store_true", help="means over the seeds, as a table for a page")
    arguments = parser.parse_args()
    if arguments.doses is None:
        arguments.doses = _numbers(QUICK_DOSES if arguments.quick or arguments.embeddings else DOSES)
    columns = dict(LAYOUT_COLUMNS if arguments.embeddings else ACCURACY_COLUMNS)
    rows = layouts(arguments) if arguments.embeddings else measurements(arguments)
    if arguments.markdown:
        del columns["s"], columns["seed"]
        together: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            together.setdefault((row["scene"], row["dose"], row.get("layout")), []).append(row)
        rows = (averaged(same) for same in together.values())
    for number, row in enumerate(rows):
        if arguments.json:
            text = json.dumps(row)
        else:
            above = heading(columns, markdown=arguments.markdown) + "\n" if number == 0 else ""
            text = above + shown(row, columns, markdown=arguments.markdown)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
