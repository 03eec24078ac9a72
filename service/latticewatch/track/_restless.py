"""The newest frame on its map in; the tracks of which something may have to be told out."""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.track._segments import EXCESS
from latticewatch.track._states import NO_DEFECT

# After so many frames without it, a site of the lattice is taken to be gone: a hole, or a site that never was.
ABSENT_FRAMES = 10


@njit(cache=True, nogil=True, error_model="numpy")
def find_restless(
    now,
    site,
    position,
    sublattice,
    posterior,
    known,
    class_ids,
    defects,
    unknown,
    alike,
    counts,
    announced,
    settled,
    held_since,
    thresholds,
    change,
    reach,
):  # pragma: no cover - compiled
    """Tracks that a transition may concern, and whether there is one, or a hop, to be looked for among them.

    Mostly there is none: then it is noted here when each track was as it is announced, which is all there is to do.

    Parameters
    ----------
    now : int
        Time of the frame.
    site : ndarray of shape (n_tracks,), int64
        Site of each track in the frame; -1 where the frame has none.
    position, sublattice, posterior, known, announced, settled, held_since
        Columns of the map, and `class_ids` its classes; the last two are updated.
    defects, unknown : ndarray, int64
        Columns of the classes of these roles.
    alike : ndarray of shape (n_classes, n_classes), bool
        Classes that one defect can be of, before and after a hop.
    counts : tuple of ndarray of shape (n_tracks,), int64
        Frames of the run, recent frames, all frames, and frames missed.
    thresholds : tuple of float
        Probabilities above which a defect appears, below which it disappears, above which it is of another class; and
        the chance to miss a peak.
    change : float
        Chance of a change between two frames.
    reach : float
        Farthest that a defect hops [px].

    Returns
    -------
    row : ndarray of shape (m,), int64
    busy : bool
    """
    run_frames, recent_frames, frames, missed = counts
    appear_above, disappear_below, reclassify_above, miss_probability = thresholds
    n = len(site)
    row, agrees = np.empty(n, np.int64), np.empty(n, np.bool_)
    going, coming, going_class = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    m, n_going, n_coming, busy = 0, 0, 0, False
    for t in range(n):
        seen, is_announced = site[t] >= 0, announced[t] >= 0
        if not seen and not (is_announced and missed[t] > 0):
            continue
        probability, best = np.float32(0.0), defects[0]
        for k in defects:
            probability += posterior[t, k]
            if posterior[t, k] > posterior[t, best]:
                best = k
        # From the first frame that speaks for a change a site is no longer quiet, which is what latency counts from.
        stirred = recent_frames[t] > 0
        if not is_announced and probability < disappear_below and not stirred:
            settled[t] = now
            held_since[t] = -1
            continue
        row[m], agrees[m] = t, False
        # What a site was before must be known: the doubts of its first frames are no change.
        changed = not stirred and run_frames[t] < frames[t]
        if is_announced:
            presence, own, announced_class = float(probability), np.float32(0.0), np.int64(-1)
            for k in unknown:
                presence += posterior[t, k]
            for k in range(len(class_ids)):
                if class_ids[k] == announced[t]:
                    own += posterior[t, k]
                    announced_class = np.int64(k)
            if not seen:
                presence *= miss_probability ** missed[t] if sublattice[t] < 0 else missed[t] < ABSENT_FRAMES
            other = class_ids[best] != announced[t] and posterior[t, best] > reclassify_above
            busy |= presence < disappear_below or (seen and other)
            agrees[m] = seen and own > 0.5
            nothing = 1.0 - probability
            for k in unknown:
                nothing -= posterior[t, k]
            gone = stirred and known[t, EXCESS, NO_DEFECT] > 0.0
            if seen and (gone or (changed and nothing > 0.5 * change)):
                going[n_going] = t
                going_class[n_going] = announced_class
                n_going += 1
        else:
            busy |= probability > appear_above
            if stirred or changed:
                coming[n_coming] = t
                n_coming += 1
        m += 1
    for g in range(n_going):
        here = going[g]
        for c in range(n_coming):
            there = coming[c]
            rows, cols = position[here, 0] - position[there, 0], position[here, 1] - position[there, 1]
            # a class that the other sublattice cannot have does not go there
            k = going_class[g]
            if k < 0 or rows * rows + cols * cols >= reach * reach:
                continue
            for other in range(len(class_ids)):
                busy |= alike[k, other] and posterior[there, other] > 0.0
    if not busy:
        for i in range(m):
            held_since[row[i]] = -1
            if agrees[i]:
                settled[row[i]] = now
    return row[:m], busy
