"""How odd a patch is: what changes of occupancy leave unexplained in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from latticewatch.estimators import NearestCentroid

# Share of sites that are odd a priori, and how far the standardised χ² of odd sites may reach.
ODD_PRIOR = 1e-6
ODD_REACH = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Oddities:
    """How odd the patches of one sublattice are, and the classes of odd ones.

    Attributes
    ----------
    mean : ndarray of shape (n_moments,), float64
        Moments of the host.
    projection : ndarray of shape (n_moments, n_axes), float64
        From moments to axes on which hosts have unit variance and changes of occupancy leave nothing.
    level, spread : float
        Median and robust standard deviation of the hosts' normal score of χ².
    axes : ndarray of shape (n_axes, n_classes), float64
        Directions of the classes, orthonormal.
    classifier : NearestCentroid or None
        On those directions: 0 is the host, 1 … the classes; None where there is no class.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    level: float
    spread: float
    axes: NDArray[np.float64]
    classifier: NearestCentroid | None

    @property
    def n_classes(self) -> int:
        """Number of classes of odd sites."""
        return 0 if self.classifier is None else self.axes.shape[1]

    @property
    def usual_square(self) -> float:
        """Median of the squared length of what hosts leave unexplained [sigma²]."""
        n = self.projection.shape[1]
        return n * (1 - 2 / (9 * n) + self.level * math.sqrt(2 / (9 * n))) ** 3

    def residual(self, moments: NDArray[np.floating]) -> NDArray[np.float64]:
        """What changes of occupancy leave unexplained, shape (n, n_axes) [sigma].

        Parameters
        ----------
        moments : ndarray of shape (n, n_moments)

        Returns
        -------
        ndarray of shape (n, n_axes), float64
            [sigma]
        """
        return (moments - self.mean) @ self.projection

    def oddness(self, residual: NDArray[np.floating]) -> NDArray[np.float64]:
        """Normal score of the squared length of residuals, hosts near 0 with standard deviation 1.

        Parameters
        ----------
        residual : ndarray of shape (n, n_axes)
            [sigma]

        Returns
        -------
        ndarray of shape (n,), float64
        """
        return self._oddness(squared_lengths(residual))

    def _oddness(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        return (normal_score(squared, self.projection.shape[1]) - self.level) / self.spread

    def left_over(self, residual: NDArray[np.floating], squared: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where a patch is along the axes on which odd ones differ from hosts.

        Parameters
        ----------
        residual : ndarray of shape (n, n_axes)
            What is left unexplained [sigma].
        squared : ndarray of shape (n,), float64
            Its squared length [sigma²].

        Returns
        -------
        ndarray of shape (n, n_directions + 1), float64
            Along the directions of the classes, and how odd it is as a whole; less odd than usual is 0.
        """
        odd = np.maximum(self._oddness(squared), 0.0)
        return np.concatenate([residual @ self.axes, odd[:, None]], 1)


def normal_score(squared: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Squared length of standard normal rows as a standard normal variable.

    Parameters
    ----------
    squared : ndarray of shape (m,), float64
        Squared length of each row.
    n : int
        Numbers in a row.

    Returns
    -------
    ndarray of shape (m,), float64
        Zero where `n` is.

    Notes
    -----
    Wilson & Hilferty (1931), The distribution of chi-square, doi:10.1073/pnas.17.12.684.
    """
    if n == 0:
        return np.zeros(len(squared))
    return (np.cbrt(squared / n) - (1 - 2 / (9 * n))) / np.sqrt(2 / (9 * n))


def squared_lengths(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Squared length of each row, shape (n,).

    Parameters
    ----------
    rows : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (n,), float64
    """
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
