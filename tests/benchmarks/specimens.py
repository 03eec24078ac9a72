"""Specimens as they are, from the simulator: domains, steps, alloys, dislocations, dirt, dark columns, … with defects.

    python tests/benchmarks/specimens.py [--specimens domains,step] [--materials MoSe2,WS2] [--seeds 0,1] [--dose 60000]
        [--defects vacancy|all] [--amount 3]

One frame each, learnt from and classified. For each specimen and material, over all seeds together:
  R, P    recall and precision of sites, vacancies included
  F1      of defects, and what the ideal observer is expected to reach: it knows every place, and of each kind of defect
          what it changes, how frequent it is, and the noise. Of the lines of the scan it knows by how much they are
          displaced and how much their current varies, but not which of them are
  false   columns called a defect that are none, per 1000 sites
  hosts   classes of role host, the most in one frame
  notes   what the program said
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.stats import norm

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, FrameResult, Learner, analyse
from latticewatch_simulator import FrameTruth, Microscope, SimulatorSettings, SpecimenName, load_crystal
from latticewatch_simulator._defects import birth_species
from latticewatch_simulator._scene import Scene
from latticewatch_simulator._signal import Spot

SPECIMENS = get_args(SpecimenName)
MATERIALS = ("WS2", "WSe2", "MoS2", "MoSe2", "graphene", "hBN")
PEROVSKITES = ("SrRuO3", "PbTiO3")
SIZE = 340
DEFECTS = 10
# A site is found within this share of the distance of nearest neighbours.
NEAR = 0.35
# Lattice constants from the edges of a frame within which nothing is scored; where only few cells are seen.
MARGIN, FEW_MARGIN = 1.6, 0.6
# A light lattice needs more electrons, and smaller pixels.
LIGHT = ("graphene", "hBN")
LIGHT_DOSE, LIGHT_PIXEL = 20.0, 0.6
# Specimens whose defects are their own.
OWN_DEFECTS = ("weak", "displaced", "lone", "hollow")
# Times as many electrons where the ideal observer needs them.
DOSE = {"weak": 50.0, "dark": 4.0}
# What the brightest pixel may expect [counts], and counts per electron where that allows it.
FULL_COUNTS, GAIN = 50_000.0, 40.0


@dataclass(frozen=True, eq=False)
class Made:
    """What is in a frame, as the simulator wrote it down.

    Attributes
    ----------
    truth : FrameTruth
    settings : SimulatorSettings
    scene : Scene
        Without noise.
    microscope : Microscope
    """

    truth: FrameTruth
    settings: SimulatorSettings
    scene: Scene
    microscope: Microscope

    @property
    def pixel_nm(self) -> float:
        """Pixel size."""
        return self.settings.pixel_size_nm

    @cached_property
    def constant_px(self) -> float:
        """Lattice constant."""
        vectors = self.microscope.specimen.crystal.vectors_nm
        return float(np.linalg.norm(vectors, axis=1).min()) / self.pixel_nm

    @cached_property
    def nearest_px(self) -> float:
        """Distance of nearest neighbours."""
        return self.microscope.specimen.crystal.nearest_nm() / self.pixel_nm

    @property
    def margin_px(self) -> float:
        """Columns nearer to the edge are not scored."""
        return (FEW_MARGIN if self.settings.specimen == "few" else MARGIN) * self.constant_px

    @cached_property
    def site(self) -> NDArray[np.float64]:
        """Where the columns are, shape (n, 2) [px]."""
        return self.truth.positions_px()

    def inside(self, margin_px: float) -> NDArray[np.bool_]:
        """Columns that can be seen, at least so far from the edges of the frame and from what hides columns."""
        inside, hidden = self.truth.inside(margin_px), self.truth.hidden
        if hidden is None or not hidden.any():
            return inside
        return inside & (KDTree(self.site[hidden]).query(self.site)[0] > margin_px)

    def defects(self) -> NDArray[np.intp]:
        """Columns that are defects, the edges included."""
        return np.flatnonzero(self.truth.is_defect())


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
        """Of defects; 1 where there are none and none are said."""
        return 2 * self.hits / (self.defects + self.hits + self.false) if self.defects + self.false else 1.0


def made(
    name: str,
    material: str,
    seed: int,
    dose: float = 60_000.0,
    pixel_nm: float = 0.02,
    *,
    defects: str = "vacancy",
    size: int = SIZE,
    **settings: Any,
) -> tuple[NDArray[np.uint16], Made]:
    """A frame of a specimen, and the truth of it.

    Parameters
    ----------
    name, material : str
        ``perfect`` is the crystal in one piece.
    seed : int
        Also turns and shifts the crystal.
    dose, pixel_nm : float
        [e/Å²], [nm]; of graphene and hBN there are more electrons and smaller pixels.
    defects : str
        ``vacancy``: about ten; ``all``: those of the material; ``none``.
    size : int
        Rows and columns.
    **settings
        Further ones of the simulator.
    """
    rng = np.random.default_rng([seed, len(name), len(material)])
    if material in LIGHT:
        dose, pixel_nm = LIGHT_DOSE * dose, LIGHT_PIXEL * pixel_nm
    given: dict[str, Any] = {
        "specimen": "crystal" if name == "perfect" else name,
        "material": material,
        "shape": (size, size),
        "rotation_deg": float(rng.uniform(0, 60)),
        "origin_nm": tuple(rng.uniform(0, 1, 2)),
        "births_per_frame": 0.0,
        "drift_nm_per_frame": (0.0, 0.0),
        "dose_e_per_a2": dose,
        "seed": seed,
        **settings,
    }
    if name != "few":
        given["pixel_size_nm"] = pixel_nm
    if name not in OWN_DEFECTS and defects != "all":
        given["defects"] = {} if defects == "none" else _vacancies(SimulatorSettings.checked(**given))
    checked = _unsaturated(given)
    microscope = Microscope(checked)
    frame = microscope.acquire()
    return frame.image, Made(frame.truth, checked, microscope._scene, microscope)


def _vacancies(settings: SimulatorSettings) -> dict[str, float]:
    """About so many of the simplest vacancy in a frame."""
    crystal = load_crystal(settings)
    name = birth_species(settings, crystal)
    host = name[2:] if name.startswith("V_") else f"{name[:-1]}2"
    cells = np.prod(settings.fov_nm) / abs(np.linalg.det(crystal.vectors_nm))
    return {name: float(min(0.1, DEFECTS / (cells * crystal.species.count(host))))}


def _unsaturated(given: dict[str, Any]) -> SimulatorSettings:
    """With a smaller gain where pixels would not fit into 16 bit."""
    settings = SimulatorSettings.checked(**given)
    brightest = Microscope(settings).brightest_counts() - settings.offset
    scale = min(1.0, FULL_COUNTS / brightest) * settings.counts_per_electron / GAIN
    return SimulatorSettings.checked(
        **given, counts_per_electron=scale * GAIN, read_noise=scale * settings.read_noise
    )


def classified(frame: NDArray[np.uint16], pixel_nm: float) -> FrameResult:
    """One frame, learnt from and classified."""
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    given = Frame(image=frame, series_id="s", number=0, pixel_size_nm=pixel_nm)
    return learner.fold(analyse(given, None, settings))[-1]


def scored(result: FrameResult, made: Made) -> Score:
    """How a result compares with the truth, away from the edges of the frame and from what hides columns.

    A defect that is said where nothing can be seen, and where there is none, is false.
    """
    near, inside, place = NEAR * made.nearest_px, made.inside(made.margin_px), made.site
    position, role = result.sites.position.astype(float), np.array(ROLES)[result.sites.role]
    defects = place[inside & made.truth.is_defect()]
    if not len(position):
        return Score(int(inside.sum()), 0, 0, 0, len(defects), 0, 0)
    last = np.array(made.truth.shape) - 1 - made.margin_px
    within = ((position >= made.margin_px) & (position <= last)).all(1)
    tree = KDTree(place)
    beside = tree.query(position)[1]
    seen = within if made.truth.hidden is None else within & ~made.truth.hidden[beside]
    found = KDTree(position).query(place[inside])[0] < near
    right = tree.query(position[seen])[0] < near
    said = position[within & (role == "defect")]
    hits = false = 0
    if len(said):
        true = place[made.defects()]
        hits = int((KDTree(said).query(defects)[0] < near).sum()) if len(defects) else 0
        false = int((KDTree(true).query(said)[0] >= near).sum()) if len(true) else len(said)
    return Score(
        int(inside.sum()), int(found.sum()), int(seen.sum()), int(right.sum()), len(defects), hits, false
    )


def ideal_f1(made: Made) -> float | None:
    """What the ideal observer is expected to reach: of defects against hosts, one column at a time.

    A column's likelihood ratio is normal with the separation d' of the two images; priors are the shares in the frame.
    None without defects.
    """
    truth, inside = made.truth, made.inside(made.margin_px)
    specimen = made.microscope.specimen
    hits, said, total = 0.0, 0.0, 0
    for species in np.unique(truth.species[inside & truth.is_defect()]):
        members = np.flatnonzero(inside & (truth.species == species))
        eligible = np.isin(truth.sublattice, specimen.kinds[species - specimen.n_hosts].hosts)
        others = max(int((inside & eligible & ~truth.is_defect()).sum()), len(members))
        apart = np.array([separation(made, int(column)) for column in members])
        limit = apart / 2 + np.log(others / len(members)) / np.maximum(apart, 1e-9)
        right = float(norm.sf(limit - apart).sum())
        hits += right
        said += right + others * float(norm.sf(limit).mean())
        total += len(members)
    return 2 * hits / (total + said) if total else None


def separation(made: Made, column: int) -> float:
    """d' between a defect and the host that it replaced, of one column of the truth."""
    settings, specimen, scene = made.settings, made.microscope.specimen, made.scene
    species, sublattice = int(made.truth.species[column]), int(made.truth.sublattice[column])
    height = float(scene.columns.height[column])
    here = made.site[column]
    reach = round(made.nearest_px)
    corner = np.rint(here).astype(int) - reach
    change = specimen.signal[species] * _spot(made, here - corner, reach)
    if sublattice >= 0:
        host = specimen.signal[specimen.species.index(specimen.crystal.species[sublattice])]
        shift_px = specimen.shift_nm[species][::-1] / made.pixel_nm
        change = change - host * _spot(made, here - shift_px - corner, reach)
    change *= height * scene.sign
    rows, cols = (
        scene.oversampling * (scene.margin_px + start + np.arange(2 * reach + 1)) for start in corner
    )
    electrons = (settings.dose_e_per_a2 or 0.0) * (10 * made.pixel_nm) ** 2
    host = electrons * np.maximum(scene.image[np.ix_(rows, cols)] - change, 0)
    read = settings.read_noise / settings.counts_per_electron
    down, along = np.gradient(host)
    jitter = settings.line_jitter_px
    lines = np.stack([0.5 * settings.flicker * host, 0.5 * jitter * down, jitter * along])
    return separation_of(change * electrons, host * (1 + settings.gain_spread**2) + read**2, lines)


def separation_of(
    change: NDArray[np.float64], variance: NDArray[np.float64], lines: NDArray[np.float64]
) -> float:
    """d' of a change in noise that is each pixel's own, and in noise that the pixels of a line have in common.

    Parameters
    ----------
    change : ndarray of shape (rows, cols), float64
    variance : ndarray of shape (rows, cols), float64
        Of each pixel by itself.
    lines : ndarray of shape (m, rows, cols), float64
        What one standard deviation of each of m faults of a line does to its pixels; the faults of different lines are
        independent.
    """
    # Woodbury's identity, line by line: the covariance is diagonal but for m directions of a line
    clear = (change**2 / variance).sum(1)
    seen = np.einsum("mij,ij->im", lines, change / variance)
    shared = np.eye(len(lines)) + np.einsum("mij,nij->imn", lines, lines / variance)
    lost = np.einsum("im,im->i", seen, np.linalg.solve(shared, seen[..., None])[..., 0])
    return float(np.sqrt(np.maximum(clear - lost, 0.0).sum()))


def _spot(made: Made, centre: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Image of a column of the signal one, its centre as far from the corner [px]."""
    spot = Spot.of_probe(made.settings.probe_fwhm_nm, made.settings.source_sigma_nm)
    away = (np.indices((2 * reach + 1,) * 2) - centre[:, None, None]) * made.pixel_nm
    r2 = (away**2).sum(0)
    return spot.narrow * np.exp(-r2 / (2 * spot.narrow_nm**2)) + spot.wide * np.exp(
        -r2 / (2 * spot.wide_nm**2)
    )


def main() -> None:
    """Print a line for each specimen and material."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--specimens", default=",".join(SPECIMENS))
    parser.add_argument("--materials", default="WS2,MoSe2")
    parser.add_argument("--seeds", default="0,1,2", help="with commas")
    parser.add_argument("--dose", type=float, default=60_000.0, help="e/Å²; of weak and dark more")
    parser.add_argument("--pixel-nm", type=float, default=0.02)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument(
        "--amount", type=float, help="of the specimen; see docs/reference/simulator-specimens.md"
    )
    parser.add_argument("--defects", choices=("vacancy", "all", "none"), default="vacancy")
    parser.add_argument("--each", action="store_true", help="a line for each seed")
    given = parser.parse_args()
    write = sys.stdout.write
    write(
        "| specimen | material | seeds | R | P | F1 | ideal | false | hosts | notes |\n|" + "---|" * 10 + "\n"
    )
    for name in given.specimens.split(","):
        materials = given.materials.split(",") if name != "perovskite" else PEROVSKITES
        for material in materials:
            rows = [measured(name, material, int(seed), given) for seed in given.seeds.split(",")]
            for seed, row in zip(given.seeds.split(","), rows, strict=True) if given.each else ():
                write(line(name, material, seed, [row]))
            write(line(name, material, str(len(rows)), rows))
            sys.stdout.flush()


class Row(NamedTuple):
    """What came of one frame."""

    score: Score
    ideal: float | None
    hosts: int
    notes: list[str]


def measured(name: str, material: str, seed: int, given: argparse.Namespace) -> Row:
    """One frame of a specimen through the pipeline."""
    frame, truth = made(
        name,
        material,
        seed,
        given.dose * DOSE.get(name, 1.0),
        given.pixel_nm,
        defects=given.defects,
        size=given.size,
        amount=given.amount,
    )
    result = classified(frame, truth.pixel_nm)
    role, of = np.asarray(result.sites.role), np.asarray(result.sites.class_id)
    hosts = len(np.unique(of[role == ROLES.index("host")]))
    return Row(scored(result, truth), ideal_f1(truth), hosts, [note.code for note in result.notes])


def line(name: str, material: str, seeds: str, rows: list[Row]) -> str:
    """Frames added up, as a row of the table."""
    total = Score(0, 0, 0, 0, 0, 0, 0)
    for row in rows:
        total += row.score
    ideals = [row.ideal for row in rows if row.ideal is not None]
    notes = Counter(code for row in rows for code in row.notes)
    said = ", ".join(f"{code} {n}" for code, n in sorted(notes.items()))
    best = f"{np.mean(ideals):.3f}" if ideals else "–"
    false = 1000 * total.false / max(total.said, 1)
    hosts = max(row.hosts for row in rows)
    return (
        f"| {name} | {material} | {seeds} | {total.recall:.3f} | {total.precision:.3f} | {total.f1:.3f} | {best}"
        f" | {false:.1f} | {hosts} | {said} |\n"
    )


if __name__ == "__main__":
    main()
