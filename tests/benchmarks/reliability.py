"""Whether confidence means it: how often what was said with a confidence is true, per material and dose.

``python tests/benchmarks/reliability.py [--material WS2,MoSe2,graphene] [--doses 2e4,…] [--seeds 0,1] [--curve]``
analyses frames of specimens made afresh, one frame each, and pools the sites of all seeds. What is said of a site is
its class; it is true where the site's species is the one that most sites of that class are (of the same frame), and a
class of role neighbour is true of a host. A class of defects may be of several species that no height tells apart: it
is true of those most of whose sites called defect are of it, too. ``purest`` counts only the most common one.
``ece``: expected calibration error, the mean over sites of what their bin's mean confidence differs from its share of
truths; over all sites that got a class, over those called *defect*, and over the doubtful ones (confidence below
0.99). ``floor``: the error that would be found in as many sites if each were true with just the probability that was
said. ``--curve`` prints the bins. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from _ideal import Detector as Ideals
from _ideal import observe, scene_templates
from _runs import (
    DEFECT,
    MATCHED,
    Found,
    exposures,
    followed,
    found,
    line,
    nearest_px,
    numbers,
    sites_at,
    table,
    truth_of,
)
from _specimen import Detector, crystal, planted
from gather import SPECIES
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.pipeline import ROLES, FrameResult

DOSES = {"WS2": [5e3, 2e4, 1e5], "MoSe2": [2e3, 5e3, 2e4], "graphene": [1e5, 3e5, 1e6]}
PIXEL_NM = {"WS2": 0.0125, "MoSe2": 0.0125, "graphene": 0.0075}
EDGES = np.array([0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
PLAIN = 0.99
DRAWS = 400
NEIGHBOUR = ROLES.index("neighbour")


class Claims(NamedTuple):
    """What was said of the scored sites that got a class.

    Attributes
    ----------
    confidence : ndarray of shape (n,), float64
    true : ndarray of shape (n,), bool
        Its class is true.
    purest : ndarray of shape (n,), bool
        The same where each class is of one species only.
    defect : ndarray of shape (n,), bool
        It is called defect.
    """

    confidence: NDArray[np.float64]
    true: NDArray[np.bool_]
    purest: NDArray[np.bool_]
    defect: NDArray[np.bool_]


def claims(result: FrameResult, truth: dict[str, NDArray[Any]]) -> Claims:
    """What was said of the sites of a frame, and what of it is true."""
    inside = np.flatnonzero(truth["inside"])
    site, _ = sites_at(result, truth["positions_px"], MATCHED * nearest_px(truth["positions_px"]))
    inside = inside[site[inside] >= 0]
    at, species = site[inside], truth["species"][inside]
    class_id, role = np.asarray(result.sites.class_id)[at], np.asarray(result.sites.role)[at]
    told = class_id >= 0
    at, species, class_id, role = at[told], species[told], class_id[told], role[told]
    of = _commonest(class_id, species)
    purest = np.array([of[one] for one in class_id.tolist()], str) == species
    hosts, defect = np.isin(species, truth["host"]), role == DEFECT
    purest = np.where(role == NEIGHBOUR, hosts, purest)
    # a class of defects that most often is a host is wrong wherever it is said
    purest &= ~defect | ~hosts
    into = _commonest(species[defect], class_id[defect])
    own = np.array([into.get(one) for one in species.tolist()], object) == class_id
    true = purest | (defect & ~hosts & own)
    return Claims(np.asarray(result.sites.confidence, float)[at], true, purest, defect)


def _commonest(of: NDArray[Any], among: NDArray[Any]) -> dict[Any, Any]:
    """For each value what is most common beside it."""
    return {one: Counter(among[of == one].tolist()).most_common(1)[0][0] for one in set(of.tolist())}


def floor(confidence: NDArray[np.float64]) -> float | None:
    """Mean error of as many claims of which each is true with the probability that was said."""
    if not len(confidence):
        return None
    rng = np.random.default_rng(0)
    drawn = (error(confidence, rng.random(len(confidence)) < confidence) for _ in range(DRAWS))
    return float(np.mean([one for one in drawn if one is not None]))


def error(confidence: NDArray[np.float64], true: NDArray[np.bool_]) -> float | None:
    """Expected calibration error over the bins; None without claims."""
    if not len(confidence):
        return None
    total = sum(n * abs(said - share) for _, n, said, share in curve(confidence, true))
    return float(total) / len(confidence)


def curve(
    confidence: NDArray[np.float64], true: NDArray[np.bool_]
) -> Iterator[tuple[str, int, float, float]]:
    """Each bin that holds something: its name, number of claims, mean confidence, share that is true."""
    bins = np.clip(np.searchsorted(EDGES, confidence, side="left") - 1, 0, len(EDGES) - 2)
    for k in np.unique(bins):
        mine = bins == k
        yield (
            f"{EDGES[k]:.2f}–{EDGES[k + 1]:.2f}",
            int(mine.sum()),
            float(confidence[mine].mean()),
            float(true[mine].mean()),
        )


def measure(arguments: argparse.Namespace, material: str, dose: float) -> dict[str, Any]:
    """All seeds of a material at a dose."""
    pixel_nm, detector = arguments.pixel_nm or PIXEL_NM[material], Detector()
    parts, total, ideal = [], Found(0, 0, 0), []
    for seed in map(int, arguments.seeds):
        rng = np.random.default_rng([seed, 41])
        perfect = crystal(material, pixel_nm, arguments.size, rng)
        sites = int((perfect.inside(0) & (perfect.host == 0)).sum())
        kinds = {
            name: (kind, max(2, round(share * sites))) for name, (kind, share) in SPECIES[material].items()
        }
        margin = 2 * perfect.nearest_px
        specimen = planted(perfect, kinds, rng, margin)
        truth = truth_of(specimen, margin)
        images = exposures(specimen, dose, 1, rng, arguments.contamination)
        result = list(followed(images, AnalysisSettings(learning_frames=1, seed=seed), pixel_nm))[-1]
        parts.append(claims(result, truth))
        total += found(result, truth)
        level = arguments.contamination * float(truth["image"].mean())
        limits = Ideals(detector.spread, detector.read / detector.counts)
        ideal.append(observe(scene_templates(truth), dose * (10 * pixel_nm) ** 2, level, limits).f1)
    confidence, true, purest, defect = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    doubtful = confidence < PLAIN
    return {
        "material": material,
        "dose": dose,
        "F1": total.f1,
        "ideal": float(np.mean(ideal)),
        "sites": len(confidence),
        "ece": error(confidence, true),
        "defects": int(defect.sum()),
        "ece_defects": error(confidence[defect], true[defect]),
        "floor_defects": floor(confidence[defect]),
        "purest": error(confidence[defect], purest[defect]),
        "doubtful": int(doubtful.sum()),
        "ece_doubtful": error(confidence[doubtful], true[doubtful]),
        "floor_doubtful": floor(confidence[doubtful]),
        "curve": list(curve(confidence, true)),
        "curve_defects": list(curve(confidence[defect], true[defect])),
    }


COLUMNS = {
    "material": "",
    "dose": ".0e",
    "F1": ".3f",
    "ideal": ".3f",
    "sites": "",
    "ece": ".4f",
    "defects": "",
    "ece_defects": ".3f",
    "floor_defects": ".3f",
    "purest": ".3f",
    "doubtful": "",
    "ece_doubtful": ".3f",
    "floor_doubtful": ".3f",
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--material", default=",".join(DOSES))
    parser.add_argument(
        "--doses", type=numbers, help="e/Å²; without, those where the ideal observer hesitates"
    )
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2, 3])
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--pixel-nm", type=float, help="0.0125, for graphene 0.0075")
    parser.add_argument("--contamination", type=float, default=0.2, help="of the mean intensity")
    parser.add_argument("--curve", action="store_true", help="the bins, of all sites and of defects")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    unknown = set(arguments.material.split(",")) - set(DOSES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such material; give some of {', '.join(DOSES)}")
    if not arguments.json:
        sys.stdout.write(table(COLUMNS) + "\n")
    with threadpool_limits(limits=1, user_api="blas"):
        for material in arguments.material.split(","):
            for dose in arguments.doses or DOSES[material]:
                row = measure(arguments, material, dose)
                sys.stdout.write((json.dumps(row) if arguments.json else line(row, COLUMNS)) + "\n")
                if arguments.curve and not arguments.json:
                    for which in ("curve", "curve_defects"):
                        for name, n, said, share in row[which]:
                            sys.stdout.write(
                                f"    {which:14s} {name}  n {n:6d}  said {said:.3f}  true {share:.3f}\n"
                            )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
