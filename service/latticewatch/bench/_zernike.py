"""Zernike moments of many patches: ours on the frame in place, one matrix product, motif-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latticewatch.bench._results import Spread, ZernikeTimes
from latticewatch.bench._script import Script
from latticewatch.bench._turns import in_turn
from latticewatch.features import ZernikeMoments
from latticewatch.parallel import cores, working

FRAME_PX = 1024
SITES = 3400
# On whole pixels, and interpolated between them.
OURS = "ours, one thread"
OURS_BETWEEN = "ours, one thread, interpolated"
OURS_CORES = "ours, all cores"
OURS_BETWEEN_CORES = "ours, all cores, interpolated"
# Patches given as rows of a matrix, and with the extraction of the patches.
PRODUCT = "float32 product, all cores"
MOTIF_LEARN = "motif-learn, all cores"


def measure_zernike(
    patch_px: int, script: Script | None, seconds: float, seed: int = 0
) -> list[ZernikeTimes]:
    """Times of every way to get the moments of the patches of a frame.

    Parameters
    ----------
    patch_px : int
        Side of the patches.
    script : Script or None
        Brings motif-learn, where it is installed.
    seconds : float
        How long to measure in all [s].
    seed : int, optional
        Decides the pixels, which do not matter.

    Returns
    -------
    list of ZernikeTimes
    """
    rng = np.random.default_rng(seed)
    image = rng.random((FRAME_PX, FRAME_PX), np.float32)
    # As the sites of a lattice come: row after row.
    side = np.linspace(patch_px, FRAME_PX - patch_px - 2, round(SITES**0.5))
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    between, centres = grid + rng.random(grid.shape), np.floor(grid)
    zernike = ZernikeMoments(patch_size=patch_px).warm()
    weights = zernike.basis.reshape(len(zernike.n_), -1).T / (np.pi * patch_px**2 / 4)
    weights = np.ascontiguousarray(weights, np.float32)
    corners = centres.astype(np.int64) - patch_px // 2
    patches = np.stack([image[r : r + patch_px, c : c + patch_px] for r, c in corners]).reshape(len(grid), -1)

    def alone(positions: np.ndarray) -> object:
        with working(cores()):
            return zernike.at(image, positions)

    calls: dict[str, Callable[[], object]] = {
        OURS: lambda: alone(centres),
        OURS_BETWEEN: lambda: alone(between),
        OURS_CORES: lambda: zernike.at(image, centres),
        OURS_BETWEEN_CORES: lambda: zernike.at(image, between),
        PRODUCT: lambda: patches @ weights,
    }
    if script is not None:
        calls[MOTIF_LEARN] = lambda: script.moments(image, centres, patch_px)
    taken = in_turn(calls, seconds)
    return [
        ZernikeTimes(name, patch_px, one := Spread.of(times, 1e6 / len(grid)), 1e6 / one.median)
        for name, times in taken.items()
    ]
