"""What height of column is to be expected at a site, from what is thought of it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.model._matched import MatchedFilter
from latticewatch.model._mixture import Mixture


def expected_height(
    score: NDArray[np.float64], posterior: NDArray[np.float64], mixture: Mixture, matched: MatchedFilter
) -> NDArray[np.float64]:
    """Expected change of height of the column at each site; a stranger's is what was measured.

    Parameters
    ----------
    score : ndarray of shape (n,), float64
        Output of the filter [sigma].
    posterior : ndarray of shape (n, n_classes + 1), float64
        Of the mixture, host first, last none of them.
    mixture : Mixture
    matched : MatchedFilter

    Returns
    -------
    ndarray of shape (n,), float64
        0 for a host.
    """
    change = (mixture.mean - mixture.mean[0]) * matched.height_of_sigma
    return expected(score, posterior, change, float(matched.height_of_sigma))


@njit(cache=True, nogil=True)
def expected(score, posterior, change, height_of_sigma):  # pragma: no cover - compiled
    """See `expected_height`; change (n_classes,): height of each class beside the host's."""
    n, last = len(score), posterior.shape[1] - 1
    out = np.zeros(n)
    for i in range(n):
        if posterior[i, 0] > 0.5:
            continue
        for k in range(1, last):
            out[i] += posterior[i, k] * change[k]
        out[i] += posterior[i, last] * score[i] * height_of_sigma
    return out
