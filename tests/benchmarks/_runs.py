"""Frames of a specimen through the pipeline, and what was said of its columns beside the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _specimen import MARGIN_PX, Detector, Specimen, frames
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import KDTree

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, FrameResult, Learner, analyse

DEFECT, HOST = ROLES.index("defect"), ROLES.index("host")
# A site is at a column within this share of the distance of nearest neighbours.
MATCHED = 0.35
# Farther from the edge than this many distances of nearest neighbours, a column is scored.
SCORED_MARGIN = 2.0
CONTAMINATION_NM, CONTAMINATION_CONTRAST = 3.0, 0.6


def followed(
    images: Iterable[NDArray[Any]], settings: AnalysisSettings, pixel_nm: float | None = None
) -> Iterator[FrameResult]:
    """Results in the order of the frames as they come out of the pipeline.

    A frame that was gathered comes twice: as it was seen first, without classes, and as it was learnt from.
    """
    learner = Learner(settings)
    for number, image in enumerate(images):
        frame = Frame(
            image,
            series_id="made",
            number=number,
            ordinal=number,
            t_acquired=float(number),
            t_received=float(number),
            pixel_size_nm=pixel_nm,
        )
        yield from learner.fold(analyse(frame, learner.model, settings))


def contamination(size: int, pixel_nm: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth dirt of mean one around a frame of this size, margin included."""
    side = size + 2 * MARGIN_PX
    nodes = max(4, int(np.ceil(side * pixel_nm / CONTAMINATION_NM)) + 3)
    coarse = gaussian_filter(rng.standard_normal((nodes, nodes)), 0.7)
    smooth = np.asarray(zoom(coarse, side / (nodes - 2), order=3))
    dirt = np.exp(CONTAMINATION_CONTRAST * smooth[:side, :side] / smooth.std())
    return (dirt / dirt.mean()).astype(np.float32)


def exposures(
    specimen: Specimen,
    dose: float,
    number: int,
    rng: np.random.Generator,
    dirt: float = 0.0,
    detector: Detector | None = None,
) -> Iterator[NDArray[np.uint16]]:
    """Frames of a specimen that stays.

    Parameters
    ----------
    dose : float
        Electrons per square angstrom and frame.
    dirt : float
        Contamination, as a share of the mean signal.
    """
    scene = specimen.image()
    if dirt:
        scene += np.float32(dirt * float(scene.mean())) * contamination(specimen.size, specimen.pixel_nm, rng)
    electrons = dose * (10 * specimen.pixel_nm) ** 2
    stream = ((scene, electrons) for _ in range(number))
    detector = (detector or Detector()).unsaturated(electrons * float(scene.max()))
    for image, _ in frames(stream, specimen.size, detector, rng):
        yield image


def truth_of(specimen: Specimen, margin_px: float) -> dict[str, NDArray[Any]]:
    """The specimen as the files of multislice scenes have it: what the ideal observer reads."""
    signals = np.unique(specimen.signal[(specimen.host >= 0) & (specimen.kind == "")])
    names = np.array([f"host{np.abs(signals - s).argmin()}" for s in specimen.signal], object)
    inner = slice(MARGIN_PX, MARGIN_PX + specimen.size)
    here = specimen.inside(0.0)
    return {
        "image": specimen.image()[inner, inner],
        "electrons_fraction": np.array(1.0),
        "pixel_size_nm": np.array(specimen.pixel_nm),
        "positions_px": specimen.site[here],
        "species": np.where(specimen.kind == "", names, specimen.kind)[here].astype(str),
        "inside": specimen.inside(margin_px)[here],
        "host": np.unique(names[(specimen.kind == "") & (specimen.host >= 0)].astype(str)),
    }


@dataclass(frozen=True, slots=True)
class Found:
    """Decisions between defect and none, counted.

    Attributes
    ----------
    right, false, missed : int
    """

    right: int
    false: int
    missed: int

    @property
    def f1(self) -> float:
        """1 where nothing is there and nothing is said."""
        total = 2 * self.right + self.false + self.missed
        return 2 * self.right / total if total else 1.0

    def __add__(self, other: Found) -> Found:
        return Found(self.right + other.right, self.false + other.false, self.missed + other.missed)


def sites_at(
    result: FrameResult, place: NDArray[np.float64], within_px: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which site lies at each place and which place at each site, one to one, nearest first; -1: none."""
    position = np.asarray(result.sites.position, float).reshape(-1, 2)
    site, at = np.full(len(place), -1), np.full(len(position), -1)
    if not len(position):
        return site, at
    near = KDTree(place).query_ball_point(position, within_px)
    pairs = [(float(np.hypot(*(position[s] - place[k]))), s, k) for s, ks in enumerate(near) for k in ks]
    for _, s, k in sorted(pairs):
        if site[k] < 0 and at[s] < 0:
            site[k], at[s] = s, k
    return site, at


def found(result: FrameResult, truth: dict[str, NDArray[Any]]) -> Found:
    """Defects of a frame against the truth, within the part that is scored."""
    place, inside = truth["positions_px"], truth["inside"].astype(bool)
    true = ~np.isin(truth["species"], truth["host"])
    within = MATCHED * nearest_px(place)
    site, at = sites_at(result, place, within)
    role = np.asarray(result.sites.role)
    said = np.zeros(len(place), bool)
    said[site >= 0] = role[site[site >= 0]] == DEFECT
    low, high = place[inside].min(0) - within, place[inside].max(0) + within
    position = np.asarray(result.sites.position, float).reshape(-1, 2)
    stray = (at < 0) & (role == DEFECT) & ((position >= low) & (position <= high)).all(1)
    return Found(
        int((inside & true & said).sum()),
        int((inside & ~true & said).sum() + stray.sum()),
        int((inside & true & ~said).sum()),
    )


def nearest_px(place: NDArray[np.float64]) -> float:
    """Distance of nearest neighbours."""
    return float(np.median(np.asarray(KDTree(place).query(place, k=2)[0])[:, 1]))


def table(columns: dict[str, str]) -> str:
    """Head of a table."""
    return "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)


def line(row: dict[str, Any], columns: dict[str, str]) -> str:
    """A row of a table: formats by column; what was not measured is a dash."""
    cells = []
    for name, form in columns.items():
        value = row.get(name)
        if isinstance(value, dict):
            cells.append(", ".join(f"{key} × {n}" for key, n in value.items()) or "–")
        else:
            cells.append("–" if value is None else format(value, form))
    return "| " + " | ".join(cells) + " |"


def numbers(text: str) -> list[float]:
    """Of a list with commas."""
    return [float(part) for part in text.split(",")]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(values))
