"""What is known of one sublattice: its host, the noise around it, and the classes found beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._displacement import DisplacementFilter
from latticewatch.model._matched import MatchedFilter
from latticewatch.model._mixture import Mixture
from latticewatch.model._oddities import Oddities
from latticewatch.model._parts import Part
from latticewatch.model._shifts import ShiftKinds
from latticewatch.model._templates import SublatticeTemplates


class ItSelf:
    """An array as the key of a cache: the same where it is the very same array.

    Parameters
    ----------
    value : ndarray
        Never changed.
    """

    __slots__ = ("value",)

    def __init__(self, value: NDArray[np.float64]) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItSelf) and other.value is self.value


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
    parts : tuple of Part
        What a person split off its classes, oldest first.
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
    parts: tuple[Part, ...] = ()

    @property
    def measured_ids(self) -> NDArray[np.int64]:
        """Class of each column of `SiteClasses`, as it is measured: shape (n_columns,), int64; -1 is none."""
        ids = [self.class_ids, self.odd_ids, self.shifts.class_ids, [self.shifts.loose_id, -1]]
        return np.concatenate(ids).astype(np.int64)

    def without_healed(self, alias: Mapping[int, int]) -> SublatticeModel:
        """The sublattice without parts that are of the class again which they were split off.

        Parameters
        ----------
        alias : mapping of int to int
            Class that each class which was merged is part of.

        Returns
        -------
        SublatticeModel
            The same where there are none.
        """
        divided_again = {source for part in self.parts for source in part.sources}
        kept = tuple(
            part
            for part in self.parts
            if part.class_id in divided_again
            or {alias.get(k, k) for k in part.sources} != {alias.get(part.class_id, part.class_id)}
        )
        return self if len(kept) == len(self.parts) else replace(self, parts=kept)
