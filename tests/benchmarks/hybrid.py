"""Known defects in real frames: planted where hosts are, with the frame's own noise and texture.

``python tests/benchmarks/hybrid.py [--frames ti-adf1,ti-adf2,ws2te,mose2] [--seeds 0,1] [--number 30]``
analyses a frame as it is, changes some of its hosts that nothing odd is near to, analyses it again, and prints for
each kind ``recall``: planted defects that have a site of role defect; ``new``: sites elsewhere that are a defect only
now; ``precision``: both together; ``d_prime``: how far the filter that knows the change tells it from hosts, which
differ by the frame's noise and texture. Columns are scaled or shifted by the Gaussian that fits the average patch of
their sublattice; ``vacancy`` takes off what the vacancies that the authors of a frame labelled lack beside its hosts.

The frames are not part of this project: the folder in ``LATTICEWATCH_TEST_DATA``, or ``../shared/data`` from its root.
Labels are their authors'. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _runs import DEFECT, HOST, followed, line, nearest_px, numbers, sites_at, table
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import curve_fit
from scipy.spatial import KDTree
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import read_frames
from latticewatch.pipeline import FrameResult

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LATTICEWATCH_TEST_DATA") or PROJECT.parent / "shared" / "data")
# File, and labelled points and labels with the number of the vacancies.
TI = ("TiWSe2_1028_2/1028_Ti2_pts_new.npy", "TiWSe2_1028_2/1028_Ti2_lbs_new.npy", 1)
FRAMES: dict[str, tuple[str, tuple[str, str, int] | None]] = {
    "ti-adf1": ("TiWSe2_1028_2/1028_ADF1_2.dm4", TI),
    "ti-adf2": ("TiWSe2_1028_2/1028_ADF2_2.dm4", TI),
    "ws2te": ("WS2Te/WS2Te_Cut.npy", None),
    "mose2": (
        "MoSe2_80K/MoSe2_80K_small.npy",
        ("MoSe2_80K/MoSe2_80K_small_pos_xy.npy", "MoSe2_80K/MoSe2_80K_small_lbs.npy", 3),
    ),
}
HOST_CONFIDENCE = 0.95
FEWEST_HOSTS = 30
MATCHED = 0.35
# Distances from anything odd, from the edge and from one another, in distances of nearest neighbours.
CLEAR, EDGE, APART = 2.2, 4.0, 4.0
# Shifts in shares of the distance of nearest neighbours: 35 pm are 0.19 in WSe2.
CHANGES = {"−60 %": 0.4, "−40 %": 0.6, "+40 %": 1.4}
SHIFTS = {"shifted 0.2": 0.2, "shifted 0.3": 0.3}


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A frame as it is.

    Attributes
    ----------
    image : ndarray of shape (height, width), float64
    result : FrameResult
    position : ndarray of shape (n_sites, 2), float64
    nearest : float
        Distance of nearest neighbours [px].
    """

    image: NDArray[np.float64]
    result: FrameResult
    position: NDArray[np.float64]
    nearest: float

    def hosts(self, sublattice: int) -> NDArray[np.intp]:
        """Sites of a sublattice that are hosts with nothing odd near them, away from the edges."""
        sites, margin = self.result.sites, EDGE * self.nearest
        last = np.array(self.image.shape) - 1 - margin
        row, col = self.position.T
        inside = (row > margin) & (row < last[0]) & (col > margin) & (col < last[1])
        mine = inside & (sites.sublattice == sublattice) & (sites.role == HOST)
        mine &= np.asarray(sites.confidence) >= HOST_CONFIDENCE
        odd = self.position[np.asarray(sites.role) != HOST]
        if len(odd):
            mine &= np.asarray(KDTree(odd).query(self.position)[0]) > CLEAR * self.nearest
        return np.flatnonzero(mine)

    def patch(self, places: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
        """Average patch around places."""
        axis = np.arange(-radius, radius + 1)
        grid = np.stack(np.meshgrid(axis, axis, indexing="ij"))
        at = places.T[:, :, None, None] + grid[:, None]
        return map_coordinates(self.image, at, order=1, mode="nearest").mean(0)


Change = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def analysed(image: NDArray[np.float64]) -> FrameResult:
    """One frame, learnt from and classified."""
    settings = AnalysisSettings(learning_frames=1)
    return list(followed([image.astype(np.float32)], settings))[-1]


def column(base: Base, sublattice: int) -> tuple[float, float]:
    """Height and width of the Gaussian that fits the average column of a sublattice within half its distance."""
    radius = max(2, int(np.ceil(base.nearest / 2)))
    patch = base.patch(base.position[base.hosts(sublattice)], radius)
    axis = np.arange(-radius, radius + 1)
    squared = axis[:, None] ** 2 + axis[None] ** 2
    near = squared <= (base.nearest / 2) ** 2

    def gaussian(r2: NDArray[np.float64], height: float, width: float, level: float) -> NDArray[np.float64]:
        return height * np.exp(-0.5 * r2 / width**2) + level

    start = (float(np.ptp(patch[near])), base.nearest / 4, float(patch[near].min()))
    (height, width, _), _ = curve_fit(gaussian, squared[near].astype(float), patch[near], start, maxfev=4000)
    return float(height), abs(float(width))


def scaling(height: float, width: float, factor: float, shift: float, angle: float) -> Change:
    """A column of another height, or at another place."""
    away = shift * np.array([np.sin(angle), np.cos(angle)])

    def change(row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
        def spot(r: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
            return height * np.exp(-0.5 * (r**2 + c**2) / width**2)

        return factor * spot(row - away[0], col - away[1]) - spot(row, col)

    return change


def lacking(base: Base, vacancies: NDArray[np.float64], sublattice: int, strength: float) -> Change:
    """What labelled vacancies lack beside the hosts of their sublattice."""
    radius = int(np.ceil(1.2 * base.nearest))
    sites, at = sites_at(base.result, vacancies, MATCHED * base.nearest)
    del at
    centres = base.position[sites[sites >= 0]]
    low, last = radius + 1, np.array(base.image.shape) - radius - 2
    centres = centres[((centres >= low) & (centres <= last)).all(1)]
    difference = base.patch(centres, radius) - base.patch(base.position[base.hosts(sublattice)], radius)
    axis = np.arange(-radius, radius + 1)
    window = np.clip(1.5 - np.hypot(*np.meshgrid(axis, axis)) / (0.8 * base.nearest), 0, 1)
    difference = strength * window * (difference - np.median(difference[window == 0]))

    def change(row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
        return map_coordinates(difference, [row + radius, col + radius], order=1, mode="constant")

    return change


def planted(base: Base, places: NDArray[np.float64], change: Change) -> NDArray[np.float64]:
    """The frame with a change at each place."""
    image = base.image.copy()
    reach = int(np.ceil(2.5 * base.nearest))
    axis = np.arange(-reach, reach + 1)
    for row, col in places:
        r, c = round(row), round(col)
        down, right = np.meshgrid(axis + r - row, axis + c - col, indexing="ij")
        image[r - reach : r + reach + 1, c - reach : c + reach + 1] += change(down, right)
    return image


def separation(base: Base, sublattice: int, change: Change) -> float:
    """d' of the change for the filter that knows it, against what hosts of this frame differ among themselves."""
    radius = int(np.ceil(1.2 * base.nearest))
    axis = np.arange(-radius, radius + 1.0)
    weights = change(*np.meshgrid(axis, axis, indexing="ij"))
    weights = weights * (np.hypot(*np.meshgrid(axis, axis)) <= 1.15 * base.nearest)
    at = (
        base.position[base.hosts(sublattice)].T[:, :, None, None]
        + np.stack(np.meshgrid(axis, axis, indexing="ij"))[:, None]
    )
    patches = map_coordinates(base.image, at, order=1, mode="nearest")
    # neither filter nor scatter takes in the level of the background
    inside = weights != 0
    filters = np.where(inside, weights - weights[inside].mean(), 0.0)
    output = (patches * filters).sum((1, 2))
    return float((filters * weights).sum() / (1.4826 * np.median(np.abs(output - np.median(output)))))


def places_for(base: Base, sublattice: int, number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hosts to be changed, away from one another."""
    chosen: list[NDArray[np.float64]] = []
    for k in rng.permutation(base.hosts(sublattice)):
        place = base.position[k]
        if all(np.hypot(*(place - other)) > APART * base.nearest for other in chosen):
            chosen.append(place)
        if len(chosen) == number:
            break
    return np.array(chosen).reshape(-1, 2)


def changes(
    base: Base, vacancies: NDArray[np.float64] | None, rng: np.random.Generator
) -> Iterator[tuple[str, int, Change]]:
    """Name, sublattice and what is done, one kind after another."""
    for sublattice in range(int(np.asarray(base.result.sites.sublattice).max()) + 1):
        if (n := len(base.hosts(sublattice))) < FEWEST_HOSTS:
            sys.stderr.write(
                f"sublattice {sublattice}: skipped, {n} hosts with nothing odd near; {FEWEST_HOSTS} are needed\n"
            )
            continue
        height, width = column(base, sublattice)
        letter = chr(ord("A") + sublattice)
        for name, factor in CHANGES.items():
            yield f"{letter} {name}", sublattice, scaling(height, width, factor, 0.0, 0.0)
        for name, share in SHIFTS.items():
            angle = float(rng.uniform(0, 2 * np.pi))
            yield f"{letter} {name}", sublattice, scaling(height, width, 1.0, share * base.nearest, angle)
    if vacancies is not None:
        site, _ = sites_at(base.result, vacancies, MATCHED * base.nearest)
        of = np.asarray(base.result.sites.sublattice)[site[site >= 0]]
        sublattice = int(np.bincount(of[of >= 0]).argmax())
        for strength in (1.0, 1.5):
            yield f"vacancy × {strength}", sublattice, lacking(base, vacancies, sublattice, strength)


def load(folder: Path, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Image and labelled vacancies (row, col) of a frame."""
    file, labelled = FRAMES[name]
    series = read_frames(folder / file)
    image = np.asarray(series.frame(0), np.float64)
    if labelled is None:
        return image, None
    points, labels, vacancy = labelled
    place = np.load(folder / points, allow_pickle=False)[:, ::-1].astype(float)
    return image, place[np.load(folder / labels, allow_pickle=False) == vacancy]


def rows(arguments: argparse.Namespace, name: str) -> Iterator[dict[str, Any]]:
    """A row for each kind."""
    image, vacancies = load(arguments.data / "real", name)
    result = analysed(image)
    position = np.asarray(result.sites.position, float)
    base = Base(image, result, position, nearest_px(position))
    before = position[np.asarray(result.sites.role) == DEFECT]
    for seed in map(int, arguments.seeds):
        rng = np.random.default_rng([seed, 31])
        for kind, sublattice, change in changes(base, vacancies, rng):
            places = places_for(base, sublattice, arguments.number, rng)
            now = analysed(planted(base, places, change))
            within = MATCHED * base.nearest
            said = np.asarray(now.sites.position, float)[np.asarray(now.sites.role) == DEFECT]
            hits = new = 0
            if len(said):
                hits = int((np.asarray(KDTree(said).query(places)[0]) <= within).sum())
                known = np.concatenate([before, places])
                new = int((np.asarray(KDTree(known).query(said)[0]) > within).sum())
            yield {
                "frame": name,
                "kind": kind,
                "seed": seed,
                "planted": len(places),
                "d_prime": separation(base, sublattice, change),
                "before": len(before),
                "recall": hits / max(len(places), 1),
                "new": new,
                "precision": hits / max(hits + new, 1),
            }


COLUMNS = {
    "frame": "",
    "kind": "",
    "seed": "",
    "planted": "",
    "d_prime": ".1f",
    "recall": ".2f",
    "precision": ".2f",
    "new": "",
    "before": "",
}


def main() -> None:
    """Plant, analyse and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", default=",".join(FRAMES))
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--number", type=int, default=30, help="defects planted")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds real/")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    unknown = set(arguments.frames.split(",")) - set(FRAMES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such frame; give some of {', '.join(FRAMES)}")
    if not arguments.json:
        sys.stdout.write(table(COLUMNS) + "\n")
    with threadpool_limits(limits=1, user_api="blas"):
        for name in arguments.frames.split(","):
            file = arguments.data / "real" / FRAMES[name][0]
            if not file.exists():
                sys.stderr.write(
                    f"{name}: skipped, {file} is not there; give the folder of real/ with --data\n"
                )
                continue
            for row in rows(arguments, name):
                sys.stdout.write((json.dumps(row) if arguments.json else line(row, COLUMNS)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
