"""Classes that a person divided: a plane through the space of the patches, and on which side of it each site lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What was split off classes of one sublattice.

    The sites that were meant and the rest have a centroid each, with the same scatter. Between two such classes the
    logarithm of the odds is linear in the moments.

    Attributes
    ----------
    class_id : int
        Of the part.
    sources : tuple of int
        Classes as they are measured that it is a part of, not those that people merged them into.
    direction : ndarray of shape (n_moments,), float64
        From the rest to the part.
    level : float
        Logarithm of the odds where the moments are zero.
    prior : float
        Share of the sites that are of the part.
    """

    class_id: int
    sources: tuple[int, ...]
    direction: NDArray[np.float64]
    level: float
    prior: float

    def share(self, moments: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability that a site of the sources is of the part.

        Parameters
        ----------
        moments : ndarray of shape (n, n_moments)

        Returns
        -------
        ndarray of shape (n,), float64
        """
        return np.asarray(expit(moments @ self.direction + self.level), np.float64)


def with_parts(
    posterior: NDArray[np.float64],
    class_ids: NDArray[np.int64],
    parts: tuple[Part, ...],
    moments: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Posteriors of the sites of a sublattice, what was split off classes in columns of its own.

    Parameters
    ----------
    posterior : ndarray of shape (n, n_columns), float64
        Of each class as it is measured.
    class_ids : ndarray of shape (n_columns,), int64
        Class of each column; -1 for none.
    parts : tuple of Part
        In the order in which they were split off; a part may be divided again.
    moments : ndarray of shape (n, n_moments)

    Returns
    -------
    ndarray of shape (n, n_columns + n_parts), float64
        Rows have the same sum.
    """
    if not parts:
        return posterior
    n = posterior.shape[1]
    out = np.concatenate([posterior, np.zeros((len(posterior), len(parts)))], 1)
    ids = np.concatenate([class_ids, [part.class_id for part in parts]])
    for k, part in enumerate(parts):
        mine = np.flatnonzero(np.isin(ids[: n + k], part.sources))
        taken = part.share(moments)[:, None] * out[:, mine]
        out[:, mine] -= taken
        out[:, n + k] = taken.sum(1)
    return out


def parts_of(class_id: int, parts: tuple[Part, ...]) -> list[int]:
    """Classes that were split off a class, and off these.

    Parameters
    ----------
    class_id : int
        As it is measured.
    parts : tuple of Part

    Returns
    -------
    list of int
    """
    found = [class_id]
    for part in parts:
        if part.class_id not in found and not set(found).isdisjoint(part.sources):
            found.append(part.class_id)
    return found[1:]
