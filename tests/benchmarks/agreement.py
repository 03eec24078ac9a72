"""How far the classes that are found agree with the labels that others gave to experimental frames.

``python tests/benchmarks/agreement.py [DATA]`` prints a table; nothing is asserted. DATA holds ``real/``; without it,
the folder that the tests use. Labels are their authors' and semi-automatic: this is agreement, not accuracy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from sklearn.metrics import adjusted_rand_score

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import read_frames
from latticewatch.offline import AnalysedFile, analyse_file
from latticewatch.pipeline import ROLES

PROJECT = Path(__file__).resolve().parents[2]
LABELLED_VACANCY = 1
# Contamination makes the left side of these frames bright, up to this column.
CLEAN_FROM_PX = 110
# Or: where the background, averaged over a few unit cells, is above its median by so many robust standard deviations.
BRIGHT_SIGMA = 3.0
CELLS_AVERAGED = 1.5


def paired(
    wanted: NDArray[np.float64], found: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the positions wanted, and which of those found, belong to a pair: one to one, nearest first."""
    has, used = np.zeros(len(wanted), bool), np.zeros(len(found), bool)
    if len(wanted) and len(found):
        distance, index = KDTree(found).query(wanted, k=min(4, len(found)), distance_upper_bound=tolerance)
        rows = np.broadcast_to(np.arange(len(wanted))[:, None], np.atleast_2d(index.T).T.shape)
        for d, i, j in sorted(zip(distance.ravel(), rows.ravel(), index.ravel(), strict=True)):
            if np.isfinite(d) and not has[i] and not used[j]:
                has[i] = used[j] = True
    return has, used


def contaminated(image: NDArray[np.generic], lattice_constant_px: float) -> NDArray[np.bool_]:
    """Where the background of a frame is bright, as a mask of its shape."""
    background = ndimage.gaussian_filter(image.astype(float), CELLS_AVERAGED * lattice_constant_px)
    median = np.median(background)
    sigma = 1.4826 * np.median(np.abs(background - median))
    return background > median + BRIGHT_SIGMA * sigma


def agreement(
    wanted: NDArray[np.float64], found: NDArray[np.float64], tolerance: float, left_out: NDArray[np.bool_]
) -> dict[str, float]:
    """Recall, precision and F1 of positions where a mask does not leave them out."""
    has, used = paired(wanted, found, tolerance)

    def kept(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        row, col = np.rint(positions).astype(int).T
        return ~left_out[row.clip(0, left_out.shape[0] - 1), col.clip(0, left_out.shape[1] - 1)]

    here, reported = kept(wanted), kept(found)
    recall = float(has[here].mean()) if here.any() else 0.0
    precision = float(used[reported].mean()) if reported.any() else 0.0
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    return {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "labelled": int(here.sum()),
        "reported": int(reported.sum()),
    }


def vacancies(folder: Path, detector: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Agreement on the vacancies of the Ti:WSe2 frame in one of its detectors, over the frame and without its edge."""
    analysed = analyse_file(read_frames(folder / f"1028_ADF{detector}_2.dm4"), AnalysisSettings(seed=seed))
    points = np.load(folder / "1028_Ti2_pts_new.npy", allow_pickle=False)[:, ::-1].astype(float)
    labels = np.load(folder / "1028_Ti2_lbs_new.npy", allow_pickle=False)
    result = analysed.results[-1]
    position = result.sites.position.astype(float)
    found = position[result.sites.role == ROLES.index("defect")]
    # what lies beyond the outermost labels was looked at by nobody
    half = float(np.median(KDTree(points).query(points, k=2)[0][:, 1])) / 2
    low, high = points.min(0) - half, points.max(0) + half
    found = found[((found >= low) & (found <= high)).all(1)]
    none = np.zeros(result.shape, bool)
    left = none.copy()
    left[:, :CLEAN_FROM_PX] = True
    constant = result.lattice_constant_px
    assert constant is not None
    masks = {
        "whole frame": none,
        f"columns from {CLEAN_FROM_PX} px": left,
        "background not bright": contaminated(analysed.last_image, constant),
    }
    wanted = points[labels == LABELLED_VACANCY]
    return {name: agreement(wanted, found, half, mask) for name, mask in masks.items()}


def rand_index(folder: Path, seed: int = 0) -> tuple[float, Counter[tuple[int, str]]]:
    """Adjusted Rand index of the classes of the MoSe2 frame against its labels, all neighbours counted as one class.

    Returns
    -------
    float
        1 for the same partition, 0 for chance.
    Counter of (int, str)
        Labelled points by label and by the class of the site at them.
    """
    analysed: AnalysedFile = analyse_file(
        read_frames(folder / "MoSe2_80K_small.npy"), AnalysisSettings(seed=seed)
    )
    points = np.load(folder / "MoSe2_80K_small_pos_xy.npy", allow_pickle=False)[:, ::-1].astype(float)
    labels = np.load(folder / "MoSe2_80K_small_lbs.npy", allow_pickle=False)
    result = analysed.results[-1]
    names = {
        e.class_id: "neighbour" if e.role == "neighbour" else f"{e.name} ({e.role})" for e in result.classes
    }
    half = float(np.median(KDTree(points).query(points, k=2)[0][:, 1])) / 2
    distance, site = KDTree(result.sites.position).query(points)
    near = distance <= half
    called = [names.get(int(i), "unknown") for i in result.sites.class_id[site[near]]]
    table = Counter(zip(labels[near].tolist(), called, strict=True))
    return float(adjusted_rand_score(labels[near], called)), table


def say(line: str) -> None:
    """A line on standard output."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("LATTICEWATCH_TEST_DATA") or PROJECT.parent / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    real = parser.parse_args().data / "real"
    say("Ti:WSe2: role defect on a labelled single Se vacancy")
    for detector in (1, 2):
        for name, numbers in vacancies(real / "TiWSe2_1028_2", detector).items():
            say(
                f"  ADF{detector}  {name:22s}  recall {numbers['recall']:.3f}  precision {numbers['precision']:.3f}"
                f"  F1 {numbers['f1']:.3f}  labelled {numbers['labelled']}  reported {numbers['reported']}"
            )
    index, table = rand_index(real / "MoSe2_80K")
    say(f"MoSe2 at 80 K: adjusted Rand index {index:.3f} over {table.total()} labelled points with a site")
    meaning = {0: "Se2", 1: "Mo", 2: "Mo next to a vacancy", 3: "Se vacancy"}
    for (label, called), n in sorted(table.items()):
        say(f"  {meaning[label]:22s}{called:24s}{n:5d}")


if __name__ == "__main__":
    main()
