"""A stream that goes on and on: whether classes hold, nothing wanders and memory stays.

``python tests/benchmarks/soak.py [--frames 20000] [--drifts none,focus,dose,dirt,all] [--material WS2] [--renew 500]``
takes small frames through the pipeline, in the order that the service does, and prints a row for each twentieth of the
stream: ``F1`` of defects, ``false`` ones a frame, ``classes`` in the catalogue, those ``born`` and ``merged`` since the
row before, the ``version`` of the model, resident memory and milliseconds of a frame.

Focus, dose and contamination drift slowly, two to four times there and back in the whole stream; ``none`` drifts not at
all. Every ``--renew`` frames the defects are others of the same kinds at other sites. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _runs import Found, contamination, found, line, table, truth_of
from _specimen import Detector, Specimen, crystal, frames, planted
from gather import SPECIES
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse

DRIFTS = ("none", "focus", "dose", "dirt", "all")
ROWS = 20
# The scene is blurred and covered anew after so many frames.
SLOW_FRAMES = 50


@dataclass(frozen=True, slots=True)
class Waves:
    """How far each thing drifts, and how often it comes back in the whole stream.

    Attributes
    ----------
    focus_nm : float
        Standard deviation that is added to the probe.
    dose : float
        Change of the dose, both ways, as a share.
    dirt : float
        Contamination, as a share of the mean signal.
    """

    focus_nm: float = 0.03
    focus_times: float = 2.9
    dose: float = 0.4
    dose_times: float = 4.0
    dirt: float = 0.5
    dirt_times: float = 2.2


def specimens(arguments: argparse.Namespace) -> Iterator[Specimen]:
    """The same crystal with defects at other sites each time."""
    rng = np.random.default_rng([arguments.seed, 51])
    perfect = crystal(arguments.material, arguments.pixel_nm, arguments.size, rng)
    sites = int((perfect.inside(0) & (perfect.host == 0)).sum())
    # more of each than in a large frame, so that five frames show them
    kinds = {
        name: (kind, max(3, round(2 * share * sites)))
        for name, (kind, share) in SPECIES[arguments.material].items()
    }
    while True:
        yield planted(perfect, kinds, rng, 2 * perfect.nearest_px)


def scenes(
    arguments: argparse.Namespace, drift: str, waves: Waves, seen: list[dict[str, NDArray[Any]]]
) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Scene and electrons of each frame; the truth of the newest one is the last of ``seen``."""
    rng = np.random.default_rng([arguments.seed, 52])
    dirt = contamination(arguments.size, arguments.pixel_nm, rng)
    electrons = arguments.dose * (10 * arguments.pixel_nm) ** 2
    renewed = specimens(arguments)
    clean = scene = np.zeros((0, 0), np.float32)
    for number in range(arguments.frames):
        if number % arguments.renew == 0:
            specimen = next(renewed)
            clean = specimen.image()
            seen[:] = [truth_of(specimen, 2 * specimen.nearest_px)]
        if number % min(SLOW_FRAMES, arguments.renew) == 0:
            scene = clean
            if drift in ("focus", "all"):
                added = (
                    waves.focus_nm * _rise(waves.focus_times * number / arguments.frames) / arguments.pixel_nm
                )
                scene = gaussian_filter(scene, added)
            if drift in ("dirt", "all"):
                level = waves.dirt * _rise(waves.dirt_times * number / arguments.frames) * float(clean.mean())
                scene = scene + np.float32(level) * dirt
        swing = 0.0
        if drift in ("dose", "all"):
            swing = waves.dose * float(np.sin(2 * np.pi * waves.dose_times * number / arguments.frames))
        yield scene, electrons * (1 + swing)


def _rise(times: float) -> float:
    """From 0 to 1 and back, once for each whole number."""
    return 0.5 - 0.5 * float(np.cos(2 * np.pi * times))


def resident_mb() -> float:
    """Memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def rows(arguments: argparse.Namespace, drift: str, waves: Waves | None = None) -> Iterator[dict[str, Any]]:
    """A row for each part of the stream."""
    settings = AnalysisSettings(learning_frames=5, seed=arguments.seed)
    learner, seen = Learner(settings), [{}]
    stream = scenes(arguments, drift, waves or Waves(), seen)
    rng = np.random.default_rng([arguments.seed, 53])
    # the brightest pixel of the largest dose
    detector = Detector(counts=20.0, read=6.0)
    part = max(1, arguments.frames // ROWS)
    total, said, spent = Found(0, 0, 0), {"class.discovered": 0, "class.merged": 0}, 0.0
    for number, (image, _) in enumerate(frames(stream, arguments.size, detector, rng)):
        frame = Frame(
            image,
            series_id=drift,
            number=number,
            ordinal=number,
            t_acquired=0.1 * number,
            t_received=0.1 * number,
            pixel_size_nm=arguments.pixel_nm,
        )
        start = time.perf_counter()
        results = learner.fold(analyse(frame, learner.model, settings))
        spent += time.perf_counter() - start
        for result in results:
            for event in result.events:
                if event.type in said:
                    said[event.type] += 1
        if learner.model is not None:
            total += found(results[-1], seen[0])
        if (number + 1) % part == 0:
            yield {
                "drift": drift,
                "frame": number + 1,
                "F1": total.f1,
                "false": total.false / part,
                "classes": 0 if learner.model is None else len(learner.model.classes),
                "born": said["class.discovered"],
                "merged": said["class.merged"],
                "version": 0 if learner.model is None else learner.model.version,
                "memory_mb": resident_mb(),
                "ms": 1e3 * spent / part,
            }
            total, said, spent = Found(0, 0, 0), dict.fromkeys(said, 0), 0.0


COLUMNS = {
    "drift": "",
    "frame": "",
    "F1": ".4f",
    "false": ".3f",
    "classes": "",
    "born": "",
    "merged": "",
    "version": "",
    "memory_mb": ".0f",
    "ms": ".1f",
}


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--drifts", default="none,all", help=f"of {', '.join(DRIFTS)}, with commas")
    parser.add_argument("--material", default="WS2", choices=list(SPECIES))
    parser.add_argument("--dose", type=float, default=1.5e4, help="electrons per Å² and frame")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pixel-nm", type=float, default=0.02)
    parser.add_argument(
        "--renew", type=int, default=500, help="frames after which defects are at other sites"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    unknown = set(arguments.drifts.split(",")) - set(DRIFTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such drift; give some of {', '.join(DRIFTS)}")
    return arguments


def main() -> None:
    """Run, and print the table."""
    arguments = parsed()
    if not arguments.json:
        sys.stdout.write(table(COLUMNS) + "\n")
    with threadpool_limits(limits=1, user_api="blas"):
        for drift in arguments.drifts.split(","):
            for row in rows(arguments, drift):
                sys.stdout.write((json.dumps(row) if arguments.json else line(row, COLUMNS)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
