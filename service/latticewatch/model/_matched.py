"""The matched filter of the height of a column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFilter:
    """Change of the height of the column at the centre of a patch, with the least noise.

    Attributes
    ----------
    mean : ndarray of shape (n_moments,), float64
        Moments of the host.
    weights : ndarray of shape (n_moments,), float64
        ``(moments - mean) @ weights`` is the change of height in standard deviations of the host.
    height_of_sigma : float
        Height, in units of the flattened frame, that one standard deviation stands for.
    """

    mean: NDArray[np.float64]
    weights: NDArray[np.float64]
    height_of_sigma: float

    def __call__(self, moments: NDArray[np.floating]) -> NDArray[np.float64]:
        """Change of height of each patch [sigma]."""
        return (moments - self.mean) @ self.weights
