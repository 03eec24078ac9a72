"""One frame's posteriors in; what they say of the state of each site, with its prior taken off, out."""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.track._states import FLOOR

# A probability up to this says that a class is impossible; no state is taken to be less probable than the second one.
IMPOSSIBLE = 1e-26
LEAST_MASS = 1e-30


@njit(cache=True, nogil=True)
def add_up(posterior, row, state, n_rows, n_states):  # pragma: no cover - compiled
    """Sums of the posteriors of one frame over states, and over sites.

    Parameters
    ----------
    posterior : ndarray of shape (n, n_classes), float32
        Rows sum to one; one of zeros or NaN says nothing.
    row : ndarray of shape (n,), int64
        Row of the priors, one for each sublattice.
    state : ndarray of shape (n_classes,), int64
        State of each class.

    Returns
    -------
    mass : ndarray of shape (n, n_states), float32
        Probability of each state; all zero where the frame says nothing.
    total : ndarray of shape (n_rows, n_classes), float64
        Sum over the sites of each sublattice; 0 where a class is impossible on all of them.
    evident : ndarray of shape (n,), bool
        Probably a defect.
    """
    n, classes = posterior.shape
    zero = np.float32(0.0)
    mass = np.zeros((n, n_states), np.float32)
    total = np.zeros((n_rows, classes))
    evident = np.zeros(n, np.bool_)
    for i in range(n):
        r = row[i]
        for k in range(classes):
            share = posterior[i, k]
            if share > zero:  # and no NaN
                mass[i, state[k]] += share
                if share > IMPOSSIBLE:
                    total[r, k] += share
        defect = np.float32(0.0)
        for s in range(1, n_states - 1):
            defect += mass[i, s]
        evident[i] = defect > 0.5
    return mass, total, evident


@njit(cache=True, nogil=True)
def weigh(mass, row, log_prior):  # pragma: no cover - compiled
    """Log-likelihood of each state in place of its probability, the best of a site being 0.

    Parameters
    ----------
    mass : ndarray of shape (n, n_states), float32
        Of `add_up`; overwritten. NaN then where the frame says nothing about a site.
    row : ndarray of shape (n,), int64
        Row of the priors.
    log_prior : ndarray of shape (n_rows, n_states), float64
        Of the states; -inf where a sublattice cannot have one.
    """
    n, states = mass.shape
    least, floor, never = np.float32(LEAST_MASS), np.float32(FLOOR), np.float32(-np.inf)
    for i in range(n):
        r = row[i]
        whole, peak = np.float32(0.0), never
        for s in range(states):
            whole += mass[i, s]
            value = never
            if log_prior[r, s] > -np.inf:
                value = np.log(max(mass[i, s], least)) - np.float32(log_prior[r, s])
            mass[i, s] = value
            peak = max(peak, value)
        for s in range(states):
            mass[i, s] = max(mass[i, s] - peak, floor) if whole > 0.0 else np.nan
