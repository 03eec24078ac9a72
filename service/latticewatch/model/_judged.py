"""What the sites of one sublattice are by their height, and how far they are from their place: a kernel each.

Each does what a chain of array operations would, without the interpreter in between: two sublattices are judged side by
side only as long as neither waits for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.estimators import posteriors
from latticewatch.model._heights import expected
from latticewatch.model._local import standardised, unit_of
from latticewatch.model._projection import doubt, scores_alone

# Where what is measured is less certain by more than this, oddness is measured anew.
SURE = 1.05
# Hosts beside nothing doubtful give the width of the noise where there are so many of them, and this share of all.
FEWEST_TELLING, LEAST_TELLING = 30, 0.25
# Displacements are measured locally only where one, on the scale of the frames learnt from, is this near to the gate.
NEAR_GATE = 0.6


class Around(NamedTuple):
    """The sites of one sublattice in their frames.

    Attributes
    ----------
    rows : ndarray of shape (m,), intp
        Which of the sites they are.
    position : ndarray of shape (m, 2), float64
        Row and column [px].
    frame : ndarray of shape (m,), int32
    neighbours : ndarray of shape (n, k), int32
        Of every site.
    height, width : float
        Of the frames [px].
    near, wider : ndarray, float64
        Windows of level and spread.
    few : bool
        Whether they are a few of their kind, which say nothing of the others.
    """

    rows: NDArray[np.intp]
    position: NDArray[np.float64]
    frame: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    height: float
    width: float
    near: NDArray[np.float64]
    wider: NDArray[np.float64]
    few: bool


class Heights(NamedTuple):
    """The classes of one sublattice by their height alone.

    Attributes
    ----------
    centroids, spreads : ndarray of shape (n_places, 1), float64
        As in `ClassTable`.
    stretches, log_reaches, log_priors : ndarray of shape (n_places,), float64
    into : ndarray of shape (n_places,), int64
        Column of each place.
    low, high : float
        Between them a site is host.
    deviation : float
        Standard deviation of the host [sigma].
    least : float
        What is less is taken for this.
    change : ndarray of shape (n_components,), float64
        Height of each component beside the host's.
    height_of_sigma : float
    crowded : bool
        Whether the host is one of several populations.
    """

    centroids: NDArray[np.float64]
    spreads: NDArray[np.float64]
    stretches: NDArray[np.float64]
    log_reaches: NDArray[np.float64]
    log_priors: NDArray[np.float64]
    into: NDArray[np.int64]
    low: float
    high: float
    deviation: float
    least: float
    change: NDArray[np.float64]
    height_of_sigma: float
    crowded: bool


@njit(cache=True, nogil=True)
def judged(
    height, response, gram, doubts, amplitude, echo, host, around, classes
):  # pragma: no cover - compiled
    """What sites are by the height of their column.

    Parameters
    ----------
    height : ndarray of shape (m, k + 2), float32
        As in `Projection`, and so are response (k + 1,), gram (k + 1, k + 1) and doubts (k + 1,).
    amplitude : ndarray of shape (n,), float64
        Change of height at every site of the frame.
    echo : ndarray of shape (m,), float64
        Standard deviation of what may be wrong in what was taken off.
    host : ndarray of shape (m,), bool
        Sites thought to be host.
    around : Around
    classes : Heights

    Returns
    -------
    score : ndarray of shape (m,), float64
        Change of height [sigma].
    posterior : ndarray of shape (m, n_components + 1), float64
        See `likely_of_height`.
    amplitude : ndarray of shape (m,), float64
        Height to be expected, beside the host's.
    host : ndarray of shape (m,), bool
    wider : ndarray of shape (m,), float64
        Standard deviation of the error of those that are less certain and no host, 1 of all others.
    """
    m = len(around.rows)
    unsure = _unsure(amplitude, doubts, echo, around)
    score = scores_alone(height, amplitude, around.rows, around.neighbours, response, gram)
    for i in range(m):
        score[i] /= unsure[i]
    if not around.few:
        score = _standard(score, _telling(host, unsure), around, classes.crowded)
    posterior = likely_of_height(score, classes)
    # what is no host is compared with the classes at its whole height: what is not known of the light around makes it
    # less certain, and not smaller
    wider = np.ones(m)
    n = 0
    some = np.empty(m, np.intp)
    for i in range(m):
        if unsure[i] > SURE and posterior[i, 0] < 0.5:
            wider[i] = unsure[i]
            score[i] *= unsure[i]
            some[n] = i
            n += 1
    if n > 0:
        some = some[:n]
        again = of_height(score[some], wider[some], classes)
        for k in range(n):
            posterior[some[k]] = again[k]
    amplitude = expected(score, posterior, classes.change, classes.height_of_sigma)
    return score, posterior, amplitude, posterior[:, 0] > 0.5, wider


@njit(cache=True, nogil=True)
def displaced(shift, doubts, amplitude, echo, host, gate, around):  # pragma: no cover - compiled
    """How far sites are from their place.

    Parameters
    ----------
    shift : ndarray of shape (m, 2), float32
        Output of the filters of the displacement [sigma].
    doubts, amplitude, echo, host, around
        As for `judged`.
    gate : float
        Squared length that chance does not bring [sigma²].

    Returns
    -------
    z : ndarray of shape (m, 2), float64
        Displacement, its local level taken off; nothing where no site is near the gate.
    scale : ndarray of shape (2,), float64
        Standard deviation of the hosts.
    unsure : ndarray of shape (m,), float64
        Standard deviation of what is measured, that of noise being 1.
    """
    m = len(around.rows)
    unsure = _unsure(amplitude, doubts, echo, around)
    z, scale = np.zeros((m, 2)), np.ones(2)
    raw = np.empty((2, m))
    most = 0.0
    for i in range(m):
        raw[0, i], raw[1, i] = shift[i, 0] / unsure[i], shift[i, 1] / unsure[i]
        most = max(most, raw[0, i] ** 2 + raw[1, i] ** 2)
    if around.few:
        for i in range(m):
            z[i, 0], z[i, 1] = raw[0, i], raw[1, i]
    elif most > NEAR_GATE * gate:
        telling = _telling(host, unsure)
        hosts = np.flatnonzero(host)
        for k in range(2):
            standard = _standard(raw[k], telling, around, False)
            if len(hosts) > 0:
                scale[k] = unit_of(raw[k][hosts], standard[hosts])
            for i in range(m):
                z[i, k] = standard[i] * scale[k]
    return z, scale, unsure


@njit(cache=True, nogil=True)
def likely_of_height(score, classes):  # pragma: no cover - compiled
    """Probability of each component of the mixture and, last, of none, where only the height is looked at.

    What is surely host is host with certainty: one only asks of what a site is.

    Parameters
    ----------
    score : ndarray of shape (m,), float64
        Change of height [sigma].
    classes : Heights

    Returns
    -------
    ndarray of shape (m, n_components + 1), float64
        Rows sum to one.
    """
    m = len(score)
    out = np.zeros((m, len(classes.change) + 1))
    some = np.empty(m, np.intp)
    n = 0
    for i in range(m):
        at = max(score[i], classes.least)
        if classes.low < at < classes.high:
            out[i, 0] = 1.0
        else:
            some[n] = i
            n += 1
    if n > 0:
        some = some[:n]
        found = of_height(score[some], np.ones(n), classes)
        for k in range(n):
            out[some[k]] = found[k]
    return out


@njit(cache=True, nogil=True)
def of_height(score, unsure, classes):  # pragma: no cover - compiled
    """The same without a short way.

    Parameters
    ----------
    score : ndarray of shape (m,), float64
    unsure : ndarray of shape (m,), float64
        Standard deviation of its error, at least 1 [sigma].
    classes : Heights
    """
    at = np.empty((len(score), 1))
    for i in range(len(score)):
        at[i, 0] = max(score[i], classes.least)
    return posteriors(
        at,
        error_of(unsure, classes.deviation),
        np.zeros((0, 0)),
        classes.centroids,
        classes.spreads,
        classes.stretches,
        classes.log_reaches,
        classes.log_priors,
        classes.into,
        len(classes.change) + 1,
    )


@njit(cache=True, nogil=True)
def error_of(unsure, deviation):  # pragma: no cover - compiled
    """Standard deviation of what is not known beside the noise, (m,).

    unsure (m,): of noise and that together, the noise of a host being 1; deviation: of the host [sigma].
    """
    return np.sqrt(np.maximum(unsure**2 - 1.0, 0.0)) * deviation


@njit(cache=True, nogil=True)
def _unsure(amplitude, doubts, echo, around):  # pragma: no cover - compiled
    """Standard deviation of what is measured, that of noise being 1: the changes around are known only so well."""
    out = doubt(amplitude, around.rows, around.neighbours, doubts)
    for i in range(len(out)):
        if echo[i] != 0.0:
            out[i] = np.hypot(out[i], echo[i])
    return out


@njit(cache=True, nogil=True)
def _telling(host, unsure):  # pragma: no cover - compiled
    """Hosts that say how wide the noise is, as nothing makes them less certain; all where these are few."""
    telling = np.empty(len(host), np.bool_)
    hosts = sure = 0
    for i in range(len(host)):
        telling[i] = host[i] and unsure[i] <= SURE
        hosts += host[i]
        sure += telling[i]
    return telling if sure >= max(FEWEST_TELLING, LEAST_TELLING * hosts) else host


@njit(cache=True, nogil=True)
def _standard(values, telling, around, crowded):  # pragma: no cover - compiled
    return standardised(
        values,
        around.position,
        around.frame,
        telling,
        around.height,
        around.width,
        around.near,
        around.wider,
        crowded,
    )
