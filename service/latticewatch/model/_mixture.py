"""A one-dimensional mixture: the host, the classes beside it, and a thin background of outliers.

Grown one component at a time from where outliers are densest, while the Bayesian information criterion improves. A
component closer to the host than `MIN_SEPARATION` cannot be told from a tail of it, and is not allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Distance d' from the host below which a class cannot be told from it, site by site: half the misclassification of
# two equally frequent classes at 3 sigma is 7 %, and beside a host a hundred times as frequent it is most of the class.
MIN_SEPARATION = 3.0
TAIL_SHARE = 0.05
TAIL_WIDTH = 2.0
# Logarithm of what is nothing beside the density of outliers.
NOTHING = -100.0
ROOT_2PI = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Host first, then the other classes by their distance from it.

    Attributes
    ----------
    mean, deviation, weight : ndarray of shape (n_classes,), float64
        In units of the host's standard deviation, the host near 0.
    background : float
        Weight of the uniform background.
    span : float
        Width of the uniform background.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    weight: NDArray[np.float64]
    background: float
    span: float

    def densities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted density of each class and, last, of the background: shape (n, n_classes + 1).

        Parameters
        ----------
        values : ndarray of shape (n,), float64
            [sigma]

        Returns
        -------
        ndarray of shape (n, n_classes + 1), float64
        """
        return _densities(
            np.asarray(values, np.float64),
            self.mean,
            self.deviation,
            self.weight,
            float(self.background / self.span),
        )

    def posteriors(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each class and, last, of none of them.

        Parameters
        ----------
        values : ndarray of shape (n,), float64
            [sigma]

        Returns
        -------
        ndarray of shape (n, n_classes + 1), float64
            Rows sum to one.
        """
        density = self.densities(values)
        _normalise(density)
        return density


@njit(cache=True, nogil=True)
def _densities(values, mean, deviation, weight, uniform):  # pragma: no cover - compiled
    n, k = len(values), len(mean)
    out = np.empty((n, k + 1))
    for c in range(k):
        height = weight[c] / (deviation[c] * ROOT_2PI)
        for i in range(n):
            out[i, c] = height * _shape(-0.5 * ((values[i] - mean[c]) / deviation[c]) ** 2, c > 0)
    for i in range(n):
        out[i, k] = uniform
    return out


@njit(cache=True, nogil=True)
def _shape(square, tailed):  # pragma: no cover - compiled
    """Density of a class beside that in its middle, from minus half the squared distance.

    Members of a class, other than the host, differ among themselves too: some lie far out.
    """
    far = TAIL_SHARE / TAIL_WIDTH if tailed else 0.0
    near = 1.0 - TAIL_SHARE if tailed else 1.0
    shape = near * np.exp(square) if square > NOTHING else 0.0
    if far > 0.0 and square > NOTHING * TAIL_WIDTH**2:
        shape += far * np.exp(square / TAIL_WIDTH**2)
    return shape


@njit(cache=True, nogil=True)
def _normalise(density):  # pragma: no cover - compiled
    for i in range(len(density)):
        total = 0.0
        for k in range(density.shape[1]):
            total += density[i, k]
        for k in range(density.shape[1]):
            density[i, k] /= total


def rescaled(mixture: Mixture, ratio: float, values: NDArray[np.float64]) -> Mixture:
    """The same classes where the noise is another.

    Parameters
    ----------
    mixture : Mixture
    ratio : float
        Standard deviation of the host here, over what it is there, in heights.
    values : ndarray of shape (n,), float64
        Matched-filter outputs there.

    Returns
    -------
    Mixture
    """
    noise = mixture.deviation[0]
    own = np.sqrt(np.maximum(mixture.deviation**2 - noise**2, 0.0))
    mean = mixture.mean[0] + ratio * (mixture.mean - mixture.mean[0])
    span = float(np.ptp(values)) + 6 * noise if len(values) else mixture.span
    return Mixture(mean, np.hypot(noise, ratio * own), mixture.weight, mixture.background, span)
