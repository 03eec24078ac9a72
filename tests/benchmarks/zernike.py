"""Zernike moments of the patches around sites: ours in place, motif-learn, and one float32 matrix product.

``python tests/benchmarks/zernike.py [--repeats 9] [--sites 3200]`` prints a table; nothing is asserted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from mtflearn.features._keypoint import KeyPoints
from mtflearn.features._zps import ZPs

from latticewatch.features import ZernikeMoments

FRAME = 1024
# The threads of OpenBLAS spin for some 30 ms after a product, on the core that the next call needs.
SPIN_S = 0.05
SIZES = (36, 128)
THREADS = 2


def median_seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median duration and processor time of each call, taken in turn: what else runs then hits all of them."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            time.sleep(SPIN_S)
            start = time.perf_counter(), time.process_time()
            call()
            if repeat:  # the first round warms caches
                spent[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {name: tuple(np.median(values, axis=0)) for name, values in spent.items()}


def measure(size: int, sites: int, repeats: int) -> None:
    """Print the rows of one patch size."""
    rng = np.random.default_rng(0)
    image = rng.random((FRAME, FRAME), np.float32)
    # As the sites of a lattice come: row after row.
    side = np.linspace(size, FRAME - size, round(sites**0.5))
    between = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2) + rng.random()
    centres = between.astype(np.int64)
    sites = len(centres)
    zm = ZernikeMoments(patch_size=size).warm()
    zps = ZPs(10, size)
    patches = KeyPoints(centres[:, ::-1], image, size).extract_patches().reshape(sites, -1)
    weights = np.ascontiguousarray(zm.basis.reshape(len(zm.n_), -1).T / (np.pi * size**2 / 4), np.float32)

    pool = ThreadPoolExecutor(THREADS)

    def ours(positions: np.ndarray) -> None:
        zm.at(image, positions)

    def ours_threads(positions: np.ndarray) -> None:
        list(pool.map(lambda part: zm.at(image, part), np.array_split(positions, THREADS)))

    def motif_learn() -> None:
        zps.fit_transform(KeyPoints(centres[:, ::-1], image, size).extract_patches())

    seconds = median_seconds(
        {
            "ours, one thread": lambda: ours(centres),
            "ours, one thread, between pixels": lambda: ours(between),
            f"ours, {THREADS} threads": lambda: ours_threads(centres),
            f"ours, {THREADS} threads, between pixels": lambda: ours_threads(between),
            "motif-learn, patches and moments": motif_learn,
            "float32 product, patches given": lambda: patches @ weights,
        },
        repeats,
    )
    theirs = seconds["motif-learn, patches and moments"]
    product = seconds["float32 product, patches given"]
    for name, (duration, processor) in seconds.items():
        sys.stdout.write(
            f"{size:5d} {name:39s}{duration / sites * 1e6:8.2f}{processor / sites * 1e6:8.2f}"
            f"{sites / duration:12,.0f}{theirs[0] / duration:9.1f}{theirs[1] / processor:9.1f}"
            f"{product[0] / duration:9.1f}\n"
        )


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sites", type=int, default=3200)
    arguments = parser.parse_args()
    columns = ("us", "cpu us", "patches/s", "x motif", "x (cpu)", "x product")
    widths = (8, 8, 12, 9, 9, 9)
    titles = "".join(f"{column:>{width}s}" for column, width in zip(columns, widths, strict=True))
    sys.stdout.write(f"{'px':>5s} {'':39s}{titles}\n")
    for size in SIZES:
        measure(size, arguments.sites, arguments.repeats)


if __name__ == "__main__":
    main()
