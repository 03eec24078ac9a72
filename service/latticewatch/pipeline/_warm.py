"""Compiles the kernels before the first frame counts."""

from __future__ import annotations

import time

import numpy as np
from numba import njit

from latticewatch.config import AnalysisSettings
from latticewatch.discover import warm_oddities
from latticewatch.ingest import Frame
from latticewatch.pipeline._analyse import analyse
from latticewatch.pipeline._learner import Learner

SIDE_PX = 256
SPACING_PX = 20.0
COLUMN_SIGMA_PX = 3.0
COLUMN_COUNTS = (400.0, 150.0)
OFFSET_COUNTS = 20.0
VACANT_SHARE = 0.06


def warm(settings: AnalysisSettings | None = None) -> float:
    """Take a small synthetic frame all the way, so that every kernel is compiled, or loaded from its cache.

    Parameters
    ----------
    settings : AnalysisSettings, optional
        How frames will be analysed. The learning phase is cut down to one frame, and patches fit this one.

    Returns
    -------
    float
        How long it took [s]: tens of seconds at the first start on a machine, about one second later.
    """
    start = time.perf_counter()
    settings = _fitting(settings or AnalysisSettings())
    learner = Learner(settings)
    for frame in _frames(2):
        learner.fold(analyse(frame, learner.model, settings))
    # these frames have no odd sites
    warm_oddities()
    last_kernel()
    return time.perf_counter() - start


@njit(cache=True)
def last_kernel() -> bool:
    """Compiled after all others: where it is in the cache, they are."""
    return True


def warm_for_learning(settings: AnalysisSettings) -> None:
    """Take a small synthetic frame as far as frames go while they are gathered: a fifth of what `warm` does.

    Parameters
    ----------
    settings : AnalysisSettings
    """
    settings = _fitting(settings)
    for frame in _frames(1):
        analyse(frame, None, settings)


def _fitting(settings: AnalysisSettings) -> AnalysisSettings:
    return settings.model_copy(update={"learning_frames": 1, "patch_size": "auto"})


def _frames(n: int) -> list[Frame]:
    """Noisy frames of a honeycomb with two unlike columns, some of them vacant; 16 bit as cameras send them."""
    rng = np.random.default_rng(0)
    vectors = SPACING_PX * np.array([[0.0, 1.0], [np.sqrt(3) / 2, 0.5]])
    reach = np.arange(-2 * SIDE_PX // int(SPACING_PX), 2 * SIDE_PX // int(SPACING_PX))
    cells = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    axis = np.arange(SIDE_PX)
    scene = np.full((SIDE_PX, SIDE_PX), OFFSET_COUNTS)
    for counts, fraction in zip(COLUMN_COUNTS, (0.0, 1 / 3), strict=True):
        centre = (cells + fraction) @ vectors
        inside = np.all(np.abs(centre - SIDE_PX / 2) < SIDE_PX / 2 + 4 * COLUMN_SIGMA_PX, axis=1)
        centre = centre[inside]
        centre = centre[rng.random(len(centre)) >= VACANT_SHARE]
        # A Gaussian is a product of one along the rows and one along the columns.
        rows, cols = np.exp(-((axis[:, None, None] - centre) ** 2) / (2 * COLUMN_SIGMA_PX**2)).transpose(
            2, 0, 1
        )
        scene += counts * rows @ cols.T
    images = [rng.poisson(scene).astype(np.uint16) for _ in range(n)]
    return [Frame(image, series_id="warm", number=k, ordinal=k) for k, image in enumerate(images)]
