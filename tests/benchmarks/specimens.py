"""Specimens as they are: domains, steps, wedges, dislocations, dark columns, made afresh with vacancies in them.

    python tests/benchmarks/specimens.py [--specimens domains,step] [--materials MoSe2,WS2] [--seeds 3] [--dose 60000]

For each specimen and material, over all seeds together:
  R, P    recall and precision of sites, vacancies included
  F1      of defects
  false   columns called a defect that are none, per 1000 sites
  notes   what the program said
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from _specimen import (
    KINDS,
    Detector,
    Kind,
    Specimen,
    crystal,
    dislocated,
    frames,
    in_domains,
    planted,
    stepped,
    wedged,
)
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, FrameResult, Learner, analyse

SPECIMENS: dict[str, Callable[[Specimen, np.random.Generator], Specimen]] = {
    "perfect": lambda perfect, rng: perfect,
    "domains": in_domains,
    "step": stepped,
    "wedge": wedged,
    "dislocation": dislocated,
    # seen in annular bright field
    "dark": lambda perfect, rng: perfect,
}
MATERIALS = ("WS2", "WSe2", "MoS2", "MoSe2", "graphene", "hBN")
SIZE = 340
DEFECTS = 10
# A site is found within this share of the distance of nearest neighbours.
NEAR = 0.35
# A light lattice needs more electrons, and smaller pixels.
LIGHT = ("graphene", "hBN")
LIGHT_DOSE, LIGHT_PIXEL = 20.0, 0.6
# Of the beam, what a bright-field detector gets where there are no atoms, and how much less at the brightest column.
BRIGHT_FIELD, DARKEST = 0.5, 0.3


class Score(NamedTuple):
    """Counts of one frame, which add up over frames."""

    sites: int
    found: int
    said: int
    right: int
    defects: int
    hits: int
    false: int

    def __add__(self, other: Score) -> Score:  # type: ignore[override]
        return Score(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def recall(self) -> float:
        """Of sites."""
        return self.found / max(self.sites, 1)

    @property
    def precision(self) -> float:
        """Of sites."""
        return self.right / max(self.said, 1)

    @property
    def f1(self) -> float:
        """Of defects."""
        return 2 * self.hits / max(self.defects + self.hits + self.false, 1)


def made(
    name: str, material: str, seed: int, dose: float = 60_000.0, pixel_nm: float = 0.02
) -> tuple[NDArray[np.uint16], Specimen]:
    """A frame of a specimen, and the truth of it."""
    rng = np.random.default_rng([seed, len(name), len(material)])
    if material in LIGHT:
        dose, pixel_nm = LIGHT_DOSE * dose, LIGHT_PIXEL * pixel_nm
    perfect = SPECIMENS[name](crystal(material, pixel_nm, SIZE, rng), rng)
    kind = KINDS[material]["vacancy"] if material in KINDS else Kind((), 1)
    if kind.species:
        # half of the chalcogen column
        kind = Kind(factor=0.5, host=kind.host)
    margin = 1.6 * perfect.constant_px
    truth = planted(perfect, {"vacancy": (kind, DEFECTS)}, rng, margin)
    scene = truth.image()
    if name == "dark":
        scene = np.float32(BRIGHT_FIELD) * (1 - np.float32(DARKEST) * scene / scene.max())
    electrons = dose * (10 * pixel_nm) ** 2
    detector = Detector().unsaturated(float(scene.max()) * electrons)
    ((frame, _),) = frames(iter([(scene, electrons)]), SIZE, detector, rng)
    return frame, truth


def classified(frame: NDArray[np.uint16], pixel_nm: float) -> FrameResult:
    """One frame, learnt from and classified."""
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    given = Frame(image=frame, series_id="s", number=0, pixel_size_nm=pixel_nm)
    return learner.fold(analyse(given, None, settings))[-1]


def scored(result: FrameResult, truth: Specimen) -> Score:
    """How a result compares with the truth, away from the edges of the frame."""
    margin = 1.6 * truth.constant_px
    near = NEAR * truth.nearest_px
    position, role = result.sites.position.astype(float), np.array(ROLES)[result.sites.role]
    if not len(position):
        return Score(int(truth.inside(margin).sum()), 0, 0, 0, DEFECTS, 0, 0)
    inside = truth.inside(margin)
    within = ((position >= margin) & (position <= truth.size - 1 - margin)).all(1)
    found = KDTree(position).query(truth.site[inside])[0] < near
    right = KDTree(truth.site).query(position[within])[0] < near
    defects, said = truth.site[truth.defects()], position[role == "defect"]
    hits, false = 0, len(said)
    if len(said):
        hits = int((KDTree(said).query(defects)[0] < near).sum())
        false = int((KDTree(defects).query(said)[0] >= near).sum())
    return Score(
        int(inside.sum()), int(found.sum()), int(within.sum()), int(right.sum()), len(defects), hits, false
    )


def main() -> None:
    """Print a line for each specimen and material."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--specimens", default=",".join(SPECIMENS))
    parser.add_argument("--materials", default=",".join(MATERIALS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dose", type=float, default=60_000.0, help="electrons per square angstrom")
    given = parser.parse_args()
    write = sys.stdout.write
    write(f"{'specimen':<12}{'material':<10}{'R':>6}{'P':>7}{'F1':>7}{'false':>7}  notes\n")
    for name in given.specimens.split(","):
        for material in given.materials.split(","):
            total, notes = Score(0, 0, 0, 0, 0, 0, 0), Counter[str]()
            for seed in range(given.seeds):
                frame, truth = made(name, material, seed, given.dose)
                result = classified(frame, truth.pixel_nm)
                total += scored(result, truth)
                notes.update(note.code for note in result.notes)
            false = 1000 * total.false / max(total.said, 1)
            said = ", ".join(f"{code} {n}" for code, n in sorted(notes.items()))
            write(
                f"{name:<12}{material:<10}{total.recall:6.3f}{total.precision:7.3f}{total.f1:7.3f}{false:7.1f}"
                f"  {said}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
