"""What a site can be, for the evidence: one of the defects, unknown, or no defect at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.messages import Role

NO_DEFECT = 0
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
    """

    of_column: NDArray[np.int64]
    n: int
    host: NDArray[np.bool_]

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, roles: tuple[Role, ...] | tuple[str, ...]) -> Self:
        """The states of classes with these roles."""
        defects = [k for k, role in enumerate(roles) if role == "defect"]
        column = np.zeros(len(roles), np.int64)
        column[defects] = 1 + np.arange(len(defects))
        column[[role == "unknown" for role in roles]] = len(defects) + 1
        return cls(column, len(defects) + 2, np.array([role == "host" for role in roles]))

    def ids(self, class_ids: NDArray[np.int16]) -> list[int]:
        """Class of each state of role defect; -2 for no defect, -1 for unknown."""
        inner = range(1, self.n - 1)
        return [-2, *(int(class_ids[int((self.of_column == state).argmax())]) for state in inner), -1]

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
        out = np.zeros((len(prior), self.n))
        for state in range(self.n):
            columns = self.of_column == state
            hosts = prior[:, columns & self.host].sum(axis=1)
            total = prior[:, columns].sum(axis=1)
            out[:, state] = np.where(hosts > 0, hosts, total) if state == NO_DEFECT else total
        return out / np.maximum(out.sum(axis=1, keepdims=True), 1e-30)

    def masses(self, posterior: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sum of posteriors of classes over each state, shape (n, n_states)."""
        out = np.zeros((len(posterior), self.n))
        for column, state in enumerate(self.of_column):
            out[:, state] += posterior[:, column]
        return out


@njit(cache=True, nogil=True)
def softmax(log_likelihood, row, n_rows):
    """Posterior of each site, its sum over each sublattice, and which classes are possible on any of its sites."""
    n, classes = log_likelihood.shape
    posterior = np.zeros((n, classes), np.float32)
    total = np.zeros((n_rows, classes), np.float64)
    possible = np.zeros((n_rows, classes), np.bool_)
    for i in range(n):
        peak = np.float32(-np.inf)
        for k in range(classes):
            if np.isfinite(log_likelihood[i, k]):
                peak = max(peak, log_likelihood[i, k])
        if not np.isfinite(peak):
            continue
        norm = np.float32(0.0)
        for k in range(classes):
            value = log_likelihood[i, k] - peak
            if value > FLOOR:
                possible[row[i], k] = True
                if value > NEGLIGIBLE:
                    posterior[i, k] = np.exp(value)
                    norm += posterior[i, k]
        for k in range(classes):
            posterior[i, k] /= norm
            total[row[i], k] += posterior[i, k]
    return posterior, total, possible
