"""Frames to measure with: WS2 from the simulated microscope, coarse for 512 px, fine for larger frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator import Microscope, SimulatorSettings

# A generator's 512 px survey frames show 8,000 sites; from 1024 px on, 3,400 for every 1024² pixels.
COARSE_PX, COARSE_NM, FINE_NM = 512, 0.0363, 0.012
DOSE_E_PER_A2 = 5e4
# More than in any specimen, so that the live path has events to carry.
BIRTHS_PER_FRAME, LIFETIME_FRAMES = 3.0, 60.0
# Enough pixels that successive frames differ, and few enough to have them in memory.
MOST_PIXELS = 1 << 26


def few(side: int) -> int:
    """How many frames of a size to make for timing them one at a time."""
    return int(np.clip(MOST_PIXELS // side**2, 3, 16))


def frames_of(side: int, n: int, seed: int) -> tuple[NDArray[np.uint16], float]:
    """Successive frames of a specimen with defects that drifts.

    Returns
    -------
    images : ndarray of shape (n, side, side), uint16
    pixel_size_nm : float
    """
    pixel_size_nm = COARSE_NM if side == COARSE_PX else FINE_NM
    microscope = Microscope(
        SimulatorSettings.checked(
            shape=(side, side),
            pixel_size_nm=pixel_size_nm,
            dose_e_per_a2=DOSE_E_PER_A2,
            births_per_frame=BIRTHS_PER_FRAME,
            lifetime_frames=LIFETIME_FRAMES,
            seed=seed,
        )
    )
    return np.stack([microscope.acquire().image for _ in range(n)]), pixel_size_nm
