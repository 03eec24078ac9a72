"""What is known of one sublattice: its host, the noise around it, and the classes found beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.learn._mixture import Mixture
from latticewatch.learn._oddities import Oddities
from latticewatch.learn._templates import SublatticeTemplates


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


def matched_filter(
    host: NDArray[np.float64] | None, templates: SublatticeTemplates, mean: NDArray[np.float64]
) -> tuple[MatchedFilter, NDArray[np.float64]]:
    """The filter that sees a change of the central column best, and the whitening it rests on.

    The covariance of the host is measured on the sites thought to be host, relative to the propagated pixel noise, and
    what the number of sites leaves uncertain in it is taken off (`spiked_covariance`). Before any site is known to be
    host, the pixel noise stands alone, and the neighbours, whose changes it does not know, are estimated along with
    the centre.

    Parameters
    ----------
    host : ndarray of shape (n, n_moments), float64, or None
        Moments of host patches, without what defects next to them add.
    templates : SublatticeTemplates
    mean : ndarray of shape (n_moments,), float64
        Moments of the host.
    """
    from latticewatch.learn._whitening import NoiseWhitening  # here: frames are analysed without it

    to_noise = NoiseWhitening.from_covariance(templates.noise).matrix_
    signal = templates.moments @ to_noise
    if host is None:
        normal = signal @ signal.T + np.diag(np.r_[0.0, np.ones(len(signal) - 1)])
        direction = np.linalg.solve(normal, signal)[0]
        whitening = to_noise
        spread = float(np.linalg.norm(direction))
    else:
        covariance = _trimmed_covariance((host - mean) @ to_noise)
        covariance = spiked_covariance(covariance, len(host))
        direction = np.linalg.solve(covariance, signal[0])
        power, vectors = np.linalg.eigh(covariance)
        whitening = to_noise @ (vectors / np.sqrt(power))
        spread = float(np.sqrt(direction @ covariance @ direction))
    gain = float(signal[0] @ direction)
    weights = to_noise @ direction / spread
    return MatchedFilter(mean, weights, spread / gain), whitening


def _trimmed_covariance(whitened: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance without the two in a hundred sites that lie farthest out."""
    distance = (whitened**2).sum(1)
    return np.cov(whitened[distance <= np.quantile(distance, 0.98)].T)


def spiked_covariance(covariance: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """A sample covariance, the estimation noise taken off its spectrum.

    Eigenvalues below the Marchenko-Pastur edge are one noise level; those above are shrunk to what they were before
    sampling spread them. Donoho, Gavish & Johnstone (2018), doi:10.1214/17-AOS1601.
    """
    power, vectors = np.linalg.eigh(covariance)
    ratio = len(power) / n
    level = float(np.median(power))
    for _ in range(8):
        below = power[power < level * (1 + np.sqrt(ratio)) ** 2]
        level = float(below.mean()) if len(below) else level
    spike = np.maximum(power / level, 1.0)
    above = spike > (1 + np.sqrt(ratio)) ** 2
    half = (spike + 1 - ratio) / 2
    clean = np.where(above, half + np.sqrt(np.maximum(half**2 - spike, 0.0)), 1.0)
    return (vectors * (clean * level)) @ vectors.T
