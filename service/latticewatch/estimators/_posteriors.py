"""Probabilities of classes, each a normal distribution about its centroid: all that are told of a frame come from here.

While heights are learnt, `Mixture` has posteriors of its own, from the densities whose likelihood it grows by.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ROOT_2PI = float(np.sqrt(2 * np.pi))
# Exponentials of less than this are nothing in single precision. Tracks tell what is rare from what cannot be.
NOTHING = -104.0


@njit(cache=True, nogil=True)
def posteriors(
    x, error, offset, centroids, spreads, stretch, log_reach, log_prior, into, width
):  # pragma: no cover - compiled
    """Posterior of each class, by Bayes' rule.

    Parameters
    ----------
    x : ndarray of shape (n, n_axes), float64
        Rows; NaN where an axis was not measured: it decides nothing then.
    error : ndarray of shape (n,) or (0,), float64
        Standard deviation of what is not known of the first axis, beside the spread of every class.
    offset : ndarray of shape (n, k) or (0, 0), float64
        Added to the logarithm of each density: what of it depends on the row.
    centroids : ndarray of shape (k, n_axes), float64
        NaN along the last axes where a class says nothing of them: it is there as those are that do.
    spreads : ndarray of shape (k, n_axes), float64
        Standard deviations; infinite where the class may be anywhere.
    stretch : ndarray of shape (k,), float64
        What the error of a row is multiplied by, where members of a class lie far out with their errors.
    log_reach : ndarray of shape (k,), float64
        Logarithm of the length, area or volume of this *anywhere*.
    log_prior : ndarray of shape (k,), float64
    into : ndarray of shape (k,), int64
        Column that each is added to.
    width : int
        Number of columns.

    Returns
    -------
    ndarray of shape (n, width), float64
        Rows sum to one.
    """
    (n, n_axes), k = x.shape, len(centroids)
    depth, levels = _depths(centroids)
    inverse, size = 1 / spreads, np.log(spreads * ROOT_2PI)
    usual = np.array([_log_sum(log_prior, depth, level) for level in levels])
    start = log_prior - log_reach
    out = np.zeros((n, width))
    value, seen = np.empty(k), np.empty(n_axes, np.bool_)
    for i in range(n):
        for f in range(n_axes):
            seen[f] = not np.isnan(x[i, f])
        unsure = error[i] if len(error) > 0 else 0.0
        # from the last axes, of which the fewest classes say anything, to the first
        beyond = 0.0
        for step in range(len(levels)):
            upper = levels[step]
            lower = levels[step + 1] if step + 1 < len(levels) else 0
            for c in range(k):
                if depth[c] < upper:
                    continue
                log = beyond + start[c] if depth[c] == upper else value[c]
                for f in range(lower, upper):
                    # anywhere: an infinite spread
                    if not seen[f] or inverse[c, f] == 0.0:
                        continue
                    apart = x[i, f] - centroids[c, f]
                    if f == 0 and unsure > 0.0:
                        wide = np.sqrt(spreads[c, f] ** 2 + (stretch[c] * unsure) ** 2)
                        log -= 0.5 * (apart / wide) ** 2 + np.log(wide * ROOT_2PI)
                    else:
                        log -= 0.5 * (apart * inverse[c, f]) ** 2 + size[c, f]
                value[c] = log
            if lower > 0:
                beyond = _log_sum(value, depth, upper) - usual[step]
        largest = -np.inf
        for c in range(k):
            if len(offset) > 0:
                value[c] += offset[i, c]
            largest = max(largest, value[c])
        total = 0.0
        for c in range(k):
            if value[c] - largest > NOTHING:
                share = np.exp(value[c] - largest)
                out[i, into[c]] += share
                total += share
        for c in range(width):
            out[i, c] /= total
    return out


@njit(cache=True, nogil=True)
def _depths(centroids):  # pragma: no cover - compiled
    """Of how many of the first axes each class says something, and these numbers, largest first, each once."""
    k, n_axes = centroids.shape
    depth = np.zeros(k, np.int64)
    for c in range(k):
        while depth[c] < n_axes and not np.isnan(centroids[c, depth[c]]):
            depth[c] += 1
    return depth, np.unique(depth)[::-1]


@njit(cache=True, nogil=True)
def _log_sum(values, depth, least):  # pragma: no cover - compiled
    """Logarithm of the sum of the exponentials of the values of classes that say something of so many axes."""
    largest = -np.inf
    for c in range(len(values)):
        if depth[c] >= least:
            largest = max(largest, values[c])
    total = 0.0
    for c in range(len(values)):
        if depth[c] >= least and values[c] - largest > NOTHING:
            total += np.exp(values[c] - largest)
    return largest + np.log(total)
