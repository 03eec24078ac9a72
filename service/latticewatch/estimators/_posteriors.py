"""Probabilities from squared distances to centroids, in units of sigma."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def shares(squared, log_prior, contamination, spread, n_coordinates):  # pragma: no cover - compiled
    """Posterior of each class and, last, of none of them.

    Parameters
    ----------
    squared : ndarray of shape (n, n_classes), float64
        Squared distances from the centroids [sigma²].
    log_prior : ndarray of shape (n_classes,), float64
        Logarithms of the priors.
    contamination : float
        Share of rows that are of no class; with 0 the last column is 0.
    spread : float
        How many times as widely those are scattered about the same centroids.
    n_coordinates : int
        Number of coordinates that the distances were measured in.

    Returns
    -------
    ndarray of shape (n, n_classes + 1), float64
        Rows sum to one.
    """
    n, k = squared.shape
    out = np.empty((n, k + 1))
    for i in range(n):
        nearest = -np.inf
        for c in range(k):
            out[i, c] = log_prior[c] - squared[i, c] / 2
            nearest = max(nearest, out[i, c])
        out[i, k] = 0.0
        if contamination > 0.0:
            # those of no class are scattered more widely about the same centroids
            widest = -np.inf
            for c in range(k):
                widest = max(widest, log_prior[c] - squared[i, c] / (2 * spread**2))
            total = 0.0
            for c in range(k):
                total += np.exp(log_prior[c] - squared[i, c] / (2 * spread**2) - widest)
            none = np.log(contamination) + widest + np.log(total) - n_coordinates * np.log(spread)
            rest = np.log1p(-contamination)
            nearest = max(nearest + rest, none)
            for c in range(k):
                out[i, c] += rest
            out[i, k] = np.exp(none - nearest)
        total = out[i, k]
        for c in range(k):
            out[i, c] = np.exp(out[i, c] - nearest)
            total += out[i, c]
        for c in range(k + 1):
            out[i, c] /= total
    return out
