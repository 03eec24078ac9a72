"""The filter that sees a change of the central column best, and the noise of the host it rests on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch.model import MatchedFilter, SublatticeTemplates, normal_score
from latticewatch.robust import NORMAL

# Share of the sites that say what hosts are like, and how often they are chosen anew.
CORE = 0.75
CORE_STEPS = 3
# With fewer sites than so many for each moment the share is larger, up to this.
SITES_A_MOMENT = 5
FULL_CORE = 0.98
# Sites beyond so many standard deviations do not count: one in a thousand of Gaussian ones.
TRIM_SIGMA = 3.0
# Variance of the background between the columns, beside that of the noise of its pixels: as much as makes it any.
ANY_BACKGROUND = 1e4
# Of a few hosts, fewer than there are moments, no variance is left in some directions; pixel noise alone has one.
LEAST_VARIANCE = 1e-3


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
    from latticewatch.estimators import NoiseWhitening  # here: frames are analysed without it

    to_noise = NoiseWhitening.from_covariance(templates.noise).matrix_
    signal = templates.columns @ to_noise
    if host is None:
        normal = signal @ signal.T + np.diag(np.r_[0.0, np.ones(len(signal) - 1)])
        direction = np.linalg.solve(normal, signal)[0]
        whitening = to_noise
        spread = float(np.linalg.norm(direction))
    else:
        covariance = host_covariance((host - mean) @ to_noise)
        if templates.void and templates.flat is not None:
            # between the columns a brighter place is no atom: how bright the background is says nothing
            flat = templates.flat @ to_noise
            covariance = covariance + ANY_BACKGROUND * np.outer(flat, flat) / (flat @ flat)
        power, vectors = np.linalg.eigh(covariance)
        if power[0] < LEAST_VARIANCE:
            power = np.maximum(power, LEAST_VARIANCE)
            covariance = (vectors * power) @ vectors.T
        direction = np.linalg.solve(covariance, signal[0])
        whitening = to_noise @ (vectors / np.sqrt(power))
        spread = float(np.sqrt(direction @ covariance @ direction))
    gain = float(signal[0] @ direction)
    weights = to_noise @ direction / spread
    return MatchedFilter(mean, weights, spread / gain), whitening


def host_covariance(whitened: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of what hosts have in common, without the sites that have something of their own.

    What a few sites in a hundred share (a column that is displaced, say) must not become part of the noise: so three
    quarters of the sites, those nearest to the centre, say what is near, until they agree (the concentration steps of
    the minimum covariance determinant, Rousseeuw & Van Driessen 1999, doi:10.1080/00401706.1999.10485670). Then all
    count that are not farther out than noise carries hosts.

    Parameters
    ----------
    whitened : ndarray of shape (n, n_moments), float64
        In units of the pixel noise.
    """
    # of few sites none can be spared: a covariance of hardly more sites than moments makes all others odd
    core = max(CORE, min(FULL_CORE, SITES_A_MOMENT * whitened.shape[1] / len(whitened)))
    distance = (whitened**2).sum(1)
    kept = distance <= np.quantile(distance, core)
    for _ in range(CORE_STEPS):
        covariance = spiked_covariance(np.cov(whitened[kept].T), int(kept.sum()))
        distance = np.einsum("ij,ij->i", whitened @ np.linalg.inv(covariance), whitened)
        kept = distance <= np.quantile(distance, core)
    score = normal_score(distance * (whitened.shape[1] / np.median(distance)), whitened.shape[1])
    level = np.median(score)
    spread = NORMAL * np.median(np.abs(score - level))
    kept = score <= level + TRIM_SIGMA * spread
    return spiked_covariance(np.cov(whitened[kept].T), int(kept.sum()))


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
