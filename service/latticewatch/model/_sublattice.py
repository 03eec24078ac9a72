"""What is known of one sublattice: its host, the noise around it, and the classes found beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._displacement import DisplacementFilter
from latticewatch.model._matched import MatchedFilter
from latticewatch.model._mixture import Mixture
from latticewatch.model._oddities import Oddities
from latticewatch.model._shifts import ShiftKinds
from latticewatch.model._templates import SublatticeTemplates


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
    displacement : DisplacementFilter
    gate : float
        Squared length of a displacement that chance does not bring in a frame [sigma²].
    shifts : ShiftKinds
        Kinds of displaced columns.
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
    displacement: DisplacementFilter
    gate: float
    shifts: ShiftKinds
    group: int = 0
