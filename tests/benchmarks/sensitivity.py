"""What each constant that decides does: all of them at half and at double their value, and the scores that move.

``python tests/benchmarks/sensitivity.py [--only NAME,…] [--tests ws2,mose2,…]``
copies the service, writes another value into the copy, and scores it in a process of its own. A score that moves by
more than 0.02, or a false defect more in a frame, is printed; ``–`` says that nothing moved. What moves much must be
derived instead, or be defended where the constant is. ``docs/reference/constants.md`` has the list.

Scores, of specimens made afresh: ``ws2``, ``mose2``, ``graphene``: F1 of defects in one frame at doses where the ideal
observer hesitates; ``weak``: of a change by 5 %; ``displaced``: of columns displaced by 35 pm; ``lone``: of two lone
defects; ``stream``: of the last ten frames of a stream in which two kinds are born; ``heard``: frames until they are
told; ``perfect``: false defects in a frame of a perfect crystal; ``strained``: in one that is strained.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _constants import CONSTANTS, SERVICE, Constant

MOVED, MOVED_FALSE = 0.02, 1.0
# Scores that count false defects; all others are better the larger they are.
COUNTS = ("perfect", "strained", "heard")


def scores(names: list[str]) -> dict[str, float]:
    """All scores of the service that this process imports."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return {name: SCORES[name]() for name in names}


def _f1(material: str, dose: float, pixel_nm: float, size: int = 512) -> float:
    from _runs import Found, exposures, followed, found, truth_of
    from _specimen import crystal, planted
    from gather import SPECIES

    from latticewatch.config import AnalysisSettings

    total = Found(0, 0, 0)
    for seed in (0, 1):
        rng = np.random.default_rng([seed, 61])
        perfect = crystal(material, pixel_nm, size, rng)
        sites = int((perfect.inside(0) & (perfect.host == 0)).sum())
        kinds = {
            name: (kind, max(3, round(2 * share * sites)))
            for name, (kind, share) in SPECIES[material].items()
        }
        margin = 2 * perfect.nearest_px
        specimen = planted(perfect, kinds, rng, margin)
        images = exposures(specimen, dose, 1, rng, 0.2)
        result = list(followed(images, AnalysisSettings(learning_frames=1), pixel_nm))[-1]
        total += found(result, truth_of(specimen, margin))
    return total.f1


def _planted_f1(kinds: dict[str, Any], material: str, dose: float, seeds: tuple[int, ...] = (0, 1)) -> float:
    from _runs import Found, exposures, followed, found, truth_of
    from _specimen import crystal, planted

    from latticewatch.config import AnalysisSettings

    total = Found(0, 0, 0)
    for seed in seeds:
        rng = np.random.default_rng([seed, 62])
        perfect = crystal(material, 0.02, 512, rng)
        specimen = planted(perfect, kinds, rng, 3 * perfect.nearest_px)
        images = exposures(specimen, dose, 1, rng)
        result = list(followed(images, AnalysisSettings(learning_frames=1), 0.02))[-1]
        total += found(result, truth_of(specimen, 2 * perfect.nearest_px))
    return total.f1


def _weak() -> float:
    from _specimen import Kind

    return _planted_f1({"weak": (Kind(host=0, factor=0.95), 38)}, "MoSe2", 1e6)


def _displaced() -> float:
    from _specimen import KINDS

    return _planted_f1({"displaced": (KINDS["WS2"]["displaced"], 20)}, "WS2", 1e5)


def _lone() -> float:
    from _specimen import KINDS

    return _planted_f1(
        {name: (KINDS["WS2"][name], 1) for name in ("height", "vacancy")}, "WS2", 1e5, (0, 1, 2)
    )


def _false(*, strained: bool) -> float:
    from _runs import DEFECT, exposures, followed
    from _specimen import crystal
    from births import _bump

    from latticewatch.config import AnalysisSettings

    total = 0
    for seed in (0, 1):
        rng = np.random.default_rng([seed, 63])
        specimen = crystal("WS2", 0.02, 512, rng)
        if strained:
            specimen = specimen.strained(_bump(specimen))
        images = exposures(specimen, 1e5, 1, rng, 0.2)
        result = list(followed(images, AnalysisSettings(learning_frames=1), 0.02))[-1]
        total += int((np.asarray(result.sites.role) == DEFECT).sum())
    return total / 2


_streams: list[tuple[float, float]] = []


def _born() -> tuple[float, float]:
    """F1 and delay of a stream, made once."""
    if not _streams:
        import births

        words = argparse.Namespace(
            pixel_nm=0.02, size=320, drift="0.003,-0.002", frames=30, born=12, counts=150.0
        )
        stream = births.made(words, "WS2", ("height", "vacancy"), 0)
        tallies, false, _ = births.scored(stream)
        right = sum(t.roles["defect"] for t in tallies.values()) / births.SCORED
        number = sum(t.number for t in tallies.values())
        heard = [n for t in tallies.values() for n in t.heard]
        # what is never told is told after the last frame
        heard += [18] * (number - len(heard))
        _streams.append((2 * right / (right + false + number), float(np.mean(heard))))
    return _streams[0]


SCORES: dict[str, Callable[[], float]] = {
    "ws2": lambda: _f1("WS2", 2e4, 0.0125),
    "mose2": lambda: _f1("MoSe2", 5e3, 0.0125),
    "graphene": lambda: _f1("graphene", 3e5, 0.0075),
    "weak": _weak,
    "displaced": _displaced,
    "lone": _lone,
    "perfect": lambda: _false(strained=False),
    "strained": lambda: _false(strained=True),
    "stream": lambda: _born()[0],
    "heard": lambda: _born()[1],
}


def copied(folder: Path, constant: Constant | None, value: float) -> Path:
    """The service with another value; compiled kernels come along where they do not hold it."""
    root = folder / "service"
    kernels = constant is not None and constant.in_kernel()
    ignored = shutil.ignore_patterns("*.nbi", "*.nbc") if kernels else None
    shutil.copytree(SERVICE, root / "latticewatch", ignore=ignored)
    if constant is not None:
        path = root / "latticewatch" / constant.file
        text, n = re.subn(
            rf"^({constant.name}(?::[^=\n]*)? = ).*$", rf"\g<1>{value!r}", path.read_text(), flags=re.M
        )
        if n != 1:
            sys.exit(f"{constant.file}: {constant.name} is not one line of its own; give it one")
        path.write_text(text)
    return root


def scored(constant: Constant | None, value: float, names: list[str]) -> dict[str, float] | str:
    """Scores with another value, or the last line of what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder), constant, value)
        here = Path(__file__).resolve().parent
        search = os.pathsep.join([str(root), str(here)])
        done = subprocess.run(
            [sys.executable, __file__, "--score", ",".join(names)],
            env=os.environ | {"PYTHONPATH": search},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def moves(before: dict[str, float], after: dict[str, float] | str) -> str:
    """What moved, in words."""
    if isinstance(after, str):
        return f"stops: {after}"
    said = []
    for name, was in before.items():
        by = after[name] - was
        if abs(by) > (MOVED_FALSE if name in COUNTS else MOVED):
            said.append(f"{name} {was:.2f} → {after[name]:.2f}")
    return ", ".join(said) or "–"


def main() -> None:
    """Score each value, and print what moved."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names of constants, with commas")
    parser.add_argument("--tests", default=",".join(SCORES), help="names of scores, with commas")
    parser.add_argument("--score", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        sys.stdout.write(json.dumps(scores(arguments.score.split(","))) + "\n")
        return
    names = arguments.tests.split(",")
    unknown = set(names) - set(SCORES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such score; give some of {', '.join(SCORES)}")
    wanted = None if arguments.only is None else set(arguments.only.split(","))
    chosen = [one for one in CONSTANTS if wanted is None or one.name in wanted]
    if not chosen:
        parser.error(
            f"{arguments.only}: no such constant; give some of {', '.join(c.name for c in CONSTANTS)}"
        )
    before = scored(None, 0.0, names)
    if isinstance(before, str):
        sys.exit(f"the service as it is: {before}")
    sys.stdout.write(
        "as it is: " + ", ".join(f"{name} {value:.2f}" for name, value in before.items()) + "\n\n"
    )
    sys.stdout.write("| constant | value | at half | at double |\n|---|---|---|---|\n")
    for one in chosen:
        value = one.value()
        half, double = (
            moves(before, scored(one, new, names)) for new in (value / 2, min(2 * value, one.most))
        )
        sys.stdout.write(f"| `{one.name}` | {value:g} | {half} | {double} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
