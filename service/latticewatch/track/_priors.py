"""How often the classes are seen, and what is given of how often they are, in; the prior of each class out."""

from __future__ import annotations

import numpy as np
from numba import njit

# Weight of a new frame in the running estimates of priors and rates.
GAIN = 0.2
# A class that a site may have at all keeps this prior, so that it can come up.
MIN_PRIOR = 1e-6
# One site in so many is taken to be something unknown at least: what is a little odd in every frame is still known.
MIN_UNKNOWN = 1e-3


@njit(cache=True, nogil=True, error_model="numpy")
def follow_priors(total, given, unknown, possible, frequency, prior):  # pragma: no cover - compiled
    """Average the frequency of the classes over frames, and take the priors from it and from what is given.

    Parameters
    ----------
    total : ndarray of shape (n_rows, n_classes), float64
        Posteriors of a frame, summed over the sites of each sublattice; 0 where a class is impossible.
    given : ndarray of shape (n_classes,), float64
        Priors, but for a factor; empty where the frequencies are the priors. Unknown is no class and has no prior of
        its own: how often nothing fits is seen.
    unknown : ndarray of shape (n_classes,), bool
    possible : ndarray of shape (n_rows, n_classes), bool
        Classes that sites of a sublattice were seen to have; updated.
    frequency, prior : ndarray of shape (n_rows, n_classes), float64
        Updated. Rows sum to one, and are positive wherever a class is possible; all zero before the first frame.
    """
    rows, classes = total.shape
    seen = np.empty(classes)
    for r in range(rows):
        for k in range(classes):
            possible[r, k] |= total[r, k] > 0.0
            seen[k] = total[r, k]
        _normalise(seen, possible[r], unknown)
        left, known = 1.0, 0.0
        for k in range(classes):
            # Where a class was impossible till now there is nothing to average.
            if (frequency[r, k] > 0.0) == (seen[k] > 0.0):
                frequency[r, k] += GAIN * (seen[k] - frequency[r, k])
            else:
                frequency[r, k] = seen[k]
            prior[r, k] = frequency[r, k]
            if unknown[k]:
                left -= frequency[r, k]
            elif len(given) and possible[r, k]:
                known += given[k]
        if len(given):
            for k in range(classes):
                if not unknown[k]:
                    prior[r, k] = given[k] * left / max(known, 1e-30) if possible[r, k] else 0.0
            _normalise(prior[r], possible[r], unknown)


@njit(cache=True, nogil=True, error_model="numpy")
def _normalise(weight, possible, unknown):  # pragma: no cover - compiled
    """Make weights sum to one, and be positive wherever a class is possible."""
    whole, again = 0.0, 0.0
    for k in range(len(weight)):
        whole += weight[k]
    for k in range(len(weight)):
        least = MIN_UNKNOWN if unknown[k] else MIN_PRIOR
        weight[k] = max(weight[k] / max(whole, 1e-30), least) if possible[k] else 0.0
        again += weight[k]
    for k in range(len(weight)):
        weight[k] /= max(again, 1e-30)
