"""Frames that do not show their lattice one by one, added up: whatever the drift, their spectra are of one lattice.

Drift turns the phase of a wave and leaves its power. Of noise the power in one bin varies from frame to frame, and less
in a sum of many: what stays below the limit of one frame rises above that of the sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, gammainccinv

from latticewatch.lattice._spectrum import (
    MIN_PERIODS_IN_VIEW,
    MIN_SIGNIFICANCE,
    peaks_of,
    power_spectrum,
    reciprocal_basis,
    reduced,
    significance_of,
)
from latticewatch.lattice._supercell import CENTRINGS

# Bins that are summed for a peak hold about so many independent ones, since the window spreads each.
INDEPENDENT_BINS = 4.0
# Frames that count at most, so that what is long out of view is forgotten.
MOST_FRAMES = 64
# Waves between those known are real where their mean power is so many standard deviations above that of noise.
MIN_SIGMA = 6.0
MAX_ENLARGED = 2


class SpectrumSum:
    """The sum of the power spectra of frames of one shape; one array, however many there are.

    Attributes
    ----------
    frames : float
        That are in it, older ones less than wholly.
    """

    def __init__(self) -> None:
        self._sum: NDArray[np.float32] | None = None
        self._shape = (0, 0)
        self.frames = 0.0

    def add(self, image: NDArray[np.float32]) -> None:
        """Add a frame; one of another shape begins anew.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
        """
        power = power_spectrum(image)
        # a brighter frame counts as much as any other
        power /= max(float(np.median(power)), float(np.finfo(np.float32).tiny))
        if self._sum is None or self._shape != image.shape:
            self._sum, self.frames = power, 1.0
            self._shape = (image.shape[0], image.shape[1])
            return
        kept = 1.0 if self.frames < MOST_FRAMES else 1 - 1 / MOST_FRAMES
        self._sum *= np.float32(kept)
        self._sum += power
        self.frames = kept * self.frames + 1

    def basis(self) -> NDArray[np.float64] | None:
        """Reciprocal vectors of the lattice that all frames together show.

        Returns
        -------
        ndarray of shape (2, 2), float64, or None
            As `reciprocal_basis`; None without a lattice.
        """
        if self._sum is None or self.frames < 2:
            return None
        basis = reciprocal_basis(peaks_of(self._sum, min(self._shape), least_significance(self.frames)))
        if basis is None:
            return None
        # the strongest waves alone may be those of a smaller cell
        for _ in range(MAX_ENLARGED):
            larger = self._larger(basis)
            if larger is None:
                break
            basis = larger
        return basis

    def _larger(self, basis: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """A cell twice or three times as large, whose waves between those known stand out of noise all together."""
        assert self._sum is not None
        seen = significance_of(self._sum)
        best, most = None, MIN_SIGMA
        for denominator, between in CENTRINGS:
            order = _orders_between(denominator, between)
            wave = order @ basis
            length = np.hypot(*wave.T)
            wave = wave[
                (length < 1.2 * np.hypot(*basis.T).max())
                & (length > MIN_PERIODS_IN_VIEW / min(self._shape))
                & (wave[:, 1] >= 0)
            ]
            if not len(wave):
                continue
            at = np.rint(wave * len(seen)).astype(int)
            value = seen[at[:, 0] % len(seen), np.minimum(at[:, 1], seen.shape[1] - 1)]
            sigma = (float(value.mean()) - 1) * np.sqrt(INDEPENDENT_BINS * self.frames * len(value))
            if sigma > most:
                between_waves = (between[0] * basis[0] + between[1] * basis[1]) / denominator
                larger = reduced(np.array([between_waves, basis[1 if between[0] else 0]]))
                best, most = (larger, sigma) if larger is not None else (best, most)
        return best


def _orders_between(denominator: int, between: tuple[int, int]) -> NDArray[np.float64]:
    """Low orders of the waves that a larger cell has and the one known has not."""
    whole = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3), indexing="ij"), -1).reshape(-1, 2)
    return np.concatenate(
        [whole + np.array(between) * times / denominator for times in range(1, denominator)]
    )


def least_significance(frames: float) -> float:
    """Power over the mean that noise reaches in a sum over frames as rarely as `MIN_SIGNIFICANCE` in one of them.

    Parameters
    ----------
    frames : float

    Returns
    -------
    float
    """
    chance = gammaincc(INDEPENDENT_BINS, INDEPENDENT_BINS * MIN_SIGNIFICANCE)
    degrees = INDEPENDENT_BINS * frames
    return float(gammainccinv(degrees, chance) / degrees)
