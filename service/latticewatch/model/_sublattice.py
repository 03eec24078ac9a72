"""What is known of one sublattice: its host, the noise around it, and the classes found beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._mixture import Mixture
from latticewatch.model._oddities import Oddities
from latticewatch.model._templates import SublatticeTemplates


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


@dataclass(frozen=True, slots=True, eq=False)
class SublatticeModel:
    """One sublattice of a learnt model.

    Attributes
    ----------
    templates : SublatticeTemplates
    filter : MatchedFilter
    whitening : ndarray of shape (n_moments, rank), float64
        Host patches, multiplied by it, have unit covariance.
    mixture : Mixture
        Of the filter's output, host first.
    class_ids : ndarray of shape (n_classes,), int16
        Class of each component of the mixture.
    oddities : Oddities
        What changes of occupancy do not explain.
    odd_ids : ndarray of shape (n_odd_classes,), int16
        Class of each kind of oddity.
    group : int
        First sublattice that symmetry maps onto this one.
    neighbour_class : dict
        ``(direction, class of the neighbour) -> class``: host columns whose neighbour in that direction is a defect.
    """

    templates: SublatticeTemplates
    filter: MatchedFilter
    whitening: NDArray[np.float64]
    mixture: Mixture
    class_ids: NDArray[np.int16]
    neighbour_class: dict[tuple[int, int], int]
    oddities: Oddities
    odd_ids: NDArray[np.int16]
    group: int = 0
