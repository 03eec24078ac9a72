"""Probabilities of the states of each site in, and how its classes shared them lately; those of its classes out."""

from __future__ import annotations

import numpy as np
from numba import njit

# Weight of a new frame in how the probability of a state is shared out to its classes, if it holds so much of it.
SHARE_GAIN = np.float32(0.2)
MIN_SHARED = np.float32(1e-6)


@njit(cache=True, nogil=True, error_model="numpy")  # pragma: no cover - compiled
def share_out(belief, alone, row, index, state, prior, posterior):
    """Share the probability of each state out to its classes, as they were shared in the last few frames.

    Parameters
    ----------
    belief : ndarray of shape (n, n_states), float32
        Probability of each state; its sum is 0 where nothing is new.
    alone : ndarray of shape (n, n_classes), float32
        Posterior of each class by this frame alone.
    row, index : ndarray of shape (n,), int64
        Row of the priors, and track; -1 for none.
    state : ndarray of shape (n_classes,), int64
        State of each class.
    prior : ndarray of shape (n_rows, n_classes), float64
        Of the classes; 0 where a sublattice cannot have one.
    posterior : ndarray of shape (n_tracks, n_classes), float32
        Probability of each class of each track, which is updated.
    """
    n, states = belief.shape
    rows, classes = prior.shape
    zero, one = np.float32(0.0), np.float32(1.0)
    member, only = np.zeros((rows, states, classes), np.float32), np.empty((rows, states), np.int64)
    for r in range(rows):
        for s in range(states):
            only[r, s], many = -1, 0
            for k in range(classes):
                if state[k] == s and prior[r, k] > zero:
                    member[r, s, k] = one
                    only[r, s] = k
                    many += 1
            if many > 1:
                only[r, s] = -1
    fresh = np.empty(classes, np.float32)
    for i in range(n):
        t, r = index[i], row[i]
        whole = zero
        for s in range(states):
            whole += belief[i, s]
        if t < 0 or whole == zero:
            continue
        for k in range(classes):
            fresh[k] = zero
        for s in range(states):
            if belief[i, s] == zero:
                continue
            if only[r, s] >= 0:
                fresh[only[r, s]] = belief[i, s]
                continue
            before, now, usual = zero, zero, zero
            for k in range(classes):
                before += member[r, s, k] * posterior[t, k]
                now += member[r, s, k] * alone[i, k]
                usual += member[r, s, k] * np.float32(prior[r, k])
            gain = SHARE_GAIN if before > zero else one
            old, new, rest = zero, zero, zero
            if now > MIN_SHARED:
                new = belief[i, s] * gain / now
                old = belief[i, s] * (one - gain) / before if before > zero else zero
            elif before > zero:
                old = belief[i, s] / before
            else:
                rest = belief[i, s] / usual
            for k in range(classes):
                part = old * posterior[t, k] + new * alone[i, k] + rest * np.float32(prior[r, k])
                fresh[k] += member[r, s, k] * part
        for k in range(classes):
            posterior[t, k] = fresh[k]
