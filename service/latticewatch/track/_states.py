"""What a site can be, for the evidence: one of the defects, unknown, or no defect at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import Role

NO_DEFECT = 0
# Columns whose heights differ by less than this share can be the same atom, on one sublattice and on another: what
# their neighbours add to it is up to a fifth.
SAME_HEIGHT = 0.3
# Log-likelihoods this far below the best of a site say no more than that: nothing.
FLOOR = -60.0
# What is this far behind adds nothing to a probability.
NEGLIGIBLE = -16.0


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Classes by what they say of a site.

    Host and neighbour are one state: a column beside a defect is looked at in another surrounding, but has not changed.
    Each class of role defect is a state of its own, and the classes of role unknown are one.

    Attributes
    ----------
    of_column : ndarray of shape (n_classes,), int64
        State of each class; 0 is no defect, the last one unknown.
    n : int
        Number of states.
    host : ndarray of shape (n_classes,), bool
        Classes whose prior is that of *no defect*: those of neighbours are already in it.
    member : ndarray of shape (n_classes, n_states), float64
        1 where a class belongs to a state, else 0.
    defects, unknown : ndarray, int64
        Columns of the classes of these roles; those of defects in the order of their states.
    """

    of_column: NDArray[np.int64]
    n: int
    host: NDArray[np.bool_]
    member: NDArray[np.float64]
    defects: NDArray[np.int64]
    unknown: NDArray[np.int64]

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, roles: tuple[Role, ...] | tuple[str, ...]) -> Self:
        """The states of classes with these roles."""
        defects, unknown, host = (
            np.array([role == wanted for role in roles]) for wanted in ("defect", "unknown", "host")
        )
        n = int(defects.sum()) + 2
        column = np.where(defects, np.cumsum(defects), np.where(unknown, n - 1, NO_DEFECT))
        return cls(column, n, host, np.eye(n)[column], np.flatnonzero(defects), np.flatnonzero(unknown))

    def ids(self, class_ids: NDArray[np.int16]) -> list[int]:
        """Class of each state of role defect; -2 for no defect, -1 for unknown."""
        return [-2, *class_ids[self.defects].tolist(), -1]

    def alike(self, height: NDArray[np.floating] | None) -> NDArray[np.bool_]:
        """Which classes can be one and the same defect, on one site and after a hop to another.

        Parameters
        ----------
        height : ndarray of shape (n_classes,), or None
            Of the column of each class; None where that is not known.

        Returns
        -------
        ndarray of shape (n_classes, n_classes), bool
        """
        out = np.eye(len(self.of_column), dtype=bool)
        if height is not None:
            size = np.maximum(np.abs(height), np.abs(height)[:, None])
            defect = (self.of_column != NO_DEFECT) & (self.of_column != self.n - 1)
            out |= (np.abs(height - height[:, None]) < SAME_HEIGHT * size) & defect & defect[:, None]
        return out

    def same(self, other: States | None) -> bool:
        """Whether classes have the same roles there."""
        return other is not None and np.array_equal(self.of_column, other.of_column)

    def priors(self, prior: NDArray[np.floating]) -> NDArray[np.float64]:
        """Prior of each state on each sublattice.

        Parameters
        ----------
        prior : ndarray of shape (n_rows, n_classes)
            Of the classes; 0 where a sublattice cannot have one.
        """
        out = prior @ self.member
        hosts = prior @ self.host
        out[:, NO_DEFECT] = np.where(hosts > 0, hosts, out[:, NO_DEFECT])
        return out / np.maximum(out.sum(axis=1, keepdims=True), 1e-30)
