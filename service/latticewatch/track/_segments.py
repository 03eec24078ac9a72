"""One frame's evidence for every site: is it still what it was, and if not, what has it become?"""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.track._states import FLOOR, NEGLIGIBLE, NO_DEFECT

# A site whose second most probable state is this many nats behind is settled, and a change can be told from doubt.
SETTLED = 4.6
# Probability of a change from which the past is forgotten, and the lead of the new state then [nats].
COMMIT = 0.999
SURE = 7.0
HIGHEST = 80.0
N_ROWS = 6
# Rows of what is known of a track, each with a column for every state; see `TrackMap.known`.
BASE, RUN, RECENT, EXCESS, LAST, MORE = range(N_ROWS)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def independent_frames(frames, repeatability):
    """How many independent frames hold the evidence of some of which a share repeats."""
    return 1.0 / (repeatability + (1.0 - repeatability) / frames)


@njit(cache=True, nogil=True, error_model="numpy")
def gather(value, row, index, now, last_seen, log_prior, repeatability, known, run_frames, moments, means):
    """Sums from which it is learnt how sites of a state look, and how their noise repeats.

    Parameters
    ----------
    value : ndarray of shape (n, n_states), float32
        Of `weigh`.
    row, index : ndarray of shape (n,), int64
        Row of the priors, and track; -1 for none.
    now : int
        Time of the frame.
    last_seen : ndarray of shape (n_tracks,), int64
        When each track was seen before.
    known, run_frames
        Columns of the map.
    moments : ndarray of shape (n_rows, n_states, 6), float64
        Sums over intact sites, for the repeatability: n, a, b, aa, bb, ab.
    means : ndarray of shape (n_rows, n_states, n_states + 1), float64
        Sums of log p(frame | state) - log p(frame | own state), and last how many sites they are of.
    """
    n, states = value.shape
    can, many = _possible(log_prior)
    for i in range(n):
        t, r = index[i], row[i]
        if t < 0 or run_frames[t] == 0 or np.isnan(value[i, 0]):
            continue
        frames = independent_frames(run_frames[t], repeatability)
        own, lead = _leader(t, frames, can, r, many[r], known)
        if lead < SETTLED:
            continue
        for s in range(states):
            means[r, own, s] += value[i, s] - value[i, own]
        means[r, own, states] += 1.0
        if own != NO_DEFECT or last_seen[t] != now - 1:
            continue
        for s in range(1, states - 1):
            new, old = value[i, s] - value[i, own], known[t, LAST, s] - known[t, LAST, own]
            moments[r, s, 0] += 1.0
            moments[r, s, 1] += new
            moments[r, s, 2] += old
            moments[r, s, 3] += new * new
            moments[r, s, 4] += old * old
            moments[r, s, 5] += new * old


@njit(cache=True, nogil=True, error_model="numpy")
def step(
    value,
    row,
    index,
    now,
    last_seen,
    log_prior,
    typical,
    change,
    repeatability,
    window,
    known,
    run_frames,
    recent_frames,
):
    """Take in one frame.

    Parameters
    ----------
    value, row, index, now, last_seen, log_prior
        As above.
    typical : ndarray of shape (n_rows, n_states, n_states), float64
        Mean of log p(frame | state) - log p(frame | own state) over sites of a state; NaN where it is not known.
    change, repeatability, window : float
        Chance that a site changes in a frame, share of the variance that repeats, frames averaged at most.
    known, run_frames, recent_frames
        Columns of the map, which are updated.

    Returns
    -------
    ndarray of shape (n, n_states), float32
        Probability of each state by all frames; all zero where this one says nothing.
    """
    n, states = value.shape
    can, many = _possible(log_prior)
    out = np.zeros((n, states), np.float32)
    gained, scratch, belief = np.empty(states), np.empty((2, states)), np.empty(states)
    for i in range(n):
        t, r = index[i], row[i]
        if t < 0 or np.isnan(value[i, 0]):
            continue
        m, doubtful = many[r], False
        if run_frames[t] == 0:
            for s in range(states):
                known[t, RUN, s] = value[i, s]
                if np.isnan(known[t, BASE, s]):
                    known[t, BASE, s] = log_prior[r, s]
            run_frames[t] = 1
        else:
            frames = independent_frames(run_frames[t], repeatability)
            own, _ = _leader(t, frames, can, r, m, known)
            best = own
            # What a site always showed is no change: its own deviation from its kind is taken off.
            share = repeatability * frames
            for s in range(states):
                gained[s] = 0.0
            for j in range(m):
                s = can[r, j]
                if s == own:
                    continue
                ahead = known[t, RUN, s] - known[t, RUN, own]
                # On average nothing speaks against what a site is, whatever the few of a rare state show.
                usual = ahead if np.isnan(typical[r, own, s]) else typical[r, own, s]
                more = known[t, EXCESS, s] + value[i, s] - value[i, own] - share * (ahead - min(usual, 0.0))
                gained[s] = min(max(more, 0.0), HIGHEST)
                if gained[s] > gained[best]:
                    best = s
            if best == own and recent_frames[t] == 0:
                # Nothing is new: the frame goes straight into the run.
                before = run_frames[t]
                run_frames[t] = min(before + 1, window)
                weight, left = 1.0 / run_frames[t], before / run_frames[t]
                for s in range(states):
                    known[t, RUN, s] += weight * (value[i, s] - known[t, RUN, s])
                    known[t, MORE, s] *= left
            else:
                doubtful = best != own and recent_frames[t] < window
                if doubtful and known[t, EXCESS, best] == 0.0:
                    # What now seems to have come begins with this frame: those before it are of what was.
                    _absorb(t, window, known, run_frames, recent_frames)
                recent_frames[t] += 1
                for s in range(states):
                    known[t, RECENT, s] += value[i, s]
                    known[t, EXCESS, s] = gained[s] if doubtful else 0.0
                if doubtful:
                    chance = change * (now - last_seen[t])
                    _doubt(
                        t,
                        r,
                        own,
                        frames,
                        chance,
                        repeatability,
                        window,
                        can,
                        m,
                        log_prior,
                        known,
                        run_frames,
                        recent_frames,
                        scratch,
                        belief,
                    )
                else:
                    _absorb(t, window, known, run_frames, recent_frames)
        if not doubtful:
            _believe(t, independent_frames(run_frames[t], repeatability), can, r, m, known, belief)
        for s in range(states):
            known[t, LAST, s] = value[i, s]
        for j in range(m):
            out[i, can[r, j]] = belief[can[r, j]]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _doubt(
    t,
    r,
    own,
    frames,
    chance,
    repeatability,
    window,
    can,
    m,
    log_prior,
    known,
    run_frames,
    recent_frames,
    scratch,
    belief,
):
    """Probability of each state of a track of which the last frames say that it has changed."""
    later, mixed = scratch[0], scratch[1]
    share, more = repeatability * frames, recent_frames[t]
    # Frames that repeat look the same whatever a site always was; others may tell that it was so all along.
    _believe(t, frames, can, r, m, known, belief)
    stayed, odds = 0.0, 0.0
    for j in range(m):
        s = can[r, j]
        stayed += belief[s] * np.exp((1.0 - share) * known[t, EXCESS, s])
    frames = independent_frames(more, repeatability)
    for j in range(m):
        s = can[r, j]
        later[s] = -np.inf
        if s != own:
            odds += chance / stayed * np.exp(log_prior[r, s] + known[t, EXCESS, s])
            # What it has become is told by the frames as they are: the deviation may have gone as well.
            later[s] = log_prior[r, s] + frames * known[t, RECENT, s] / more
    became = _normalise(later, can, r, m)
    changed = odds / (1.0 + odds)
    if changed > COMMIT:
        begin(t, became, log_prior, r, repeatability, known, run_frames, recent_frames)
        for j in range(m):
            s = can[r, j]
            belief[s] = later[s]
        return
    together = run_frames[t] + more
    frames = independent_frames(together, repeatability)
    for j in range(m):
        s = can[r, j]
        whole = run_frames[t] * (known[t, RUN, s] + known[t, MORE, s]) + known[t, RECENT, s]
        mixed[s] = known[t, BASE, s] + frames * whole / together
    if _normalise(mixed, can, r, m) != own and changed < 0.5:
        # It is something else, and has been all along.
        _absorb(t, window, known, run_frames, recent_frames)
        for s in range(len(belief)):
            known[t, EXCESS, s] = 0.0
    for j in range(m):
        s = can[r, j]
        belief[s] = (1.0 - changed) * mixed[s] + changed * later[s]


@njit(cache=True, nogil=True, error_model="numpy")
def begin(t, state, log_prior, r, repeatability, known, run_frames, recent_frames):
    """Forget what a track was before the last few frames: by these, and from now on by its prior, it is in a state."""
    if recent_frames[t] > 0:
        run_frames[t] = 0
        _absorb(t, recent_frames[t], known, run_frames, recent_frames)
    second = -np.inf
    frames = independent_frames(max(run_frames[t], 1), repeatability)
    for s in range(known.shape[2]):
        known[t, BASE, s] = max(log_prior[r, s], FLOOR)
        known[t, EXCESS, s] = known[t, MORE, s] = 0.0
        if s != state and log_prior[r, s] > -np.inf:
            second = max(second, known[t, BASE, s] + frames * known[t, RUN, s])
    lead = known[t, BASE, state] + frames * known[t, RUN, state] - second
    known[t, BASE, state] += max(0.0, SURE - lead)


@njit(cache=True, nogil=True, error_model="numpy")
def _absorb(t, window, known, run_frames, recent_frames):
    """Count the last few frames of a track to its run."""
    more = recent_frames[t]
    if more == 0:
        return
    together = min(run_frames[t] + more, window)
    weight, each, left = min(1.0, more / together), 1.0 / more, min(1.0, run_frames[t] / together)
    for s in range(known.shape[2]):
        known[t, RUN, s] += weight * (known[t, RECENT, s] * each - known[t, RUN, s])
        known[t, MORE, s] *= left
        known[t, RECENT, s] = 0.0
    run_frames[t] = together
    recent_frames[t] = 0


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _leader(t, frames, can, r, m, known):
    """The most probable state of a track by its run, and how far it is ahead [nats]."""
    best, second, own = -np.inf, -np.inf, 0
    for j in range(m):
        s = can[r, j]
        whole = known[t, BASE, s] + frames * (known[t, RUN, s] + known[t, MORE, s])
        if whole > best:
            second, best, own = best, whole, s
        elif whole > second:
            second = whole
    return own, best - second


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _believe(t, frames, can, r, m, known, belief):
    """Probability of each state of a track by its run."""
    for j in range(m):
        s = can[r, j]
        belief[s] = known[t, BASE, s] + frames * (known[t, RUN, s] + known[t, MORE, s])
    _normalise(belief, can, r, m)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _normalise(belief, can, r, m):
    """Probabilities in place of their logarithms, but for a constant; gives the most probable state."""
    best = can[r, 0]
    for j in range(m):
        s = can[r, j]
        if belief[s] > belief[best]:
            best = s
    peak, total = belief[best], 0.0
    for j in range(m):
        s = can[r, j]
        behind = belief[s] - peak
        belief[s] = 0.0
        if behind > NEGLIGIBLE:
            belief[s] = np.exp(behind)
            total += belief[s]
    total = 1.0 / total
    for j in range(m):
        s = can[r, j]
        belief[s] *= total
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def _possible(log_prior):
    """States that sites of each row of the priors can have, and how many these are."""
    rows, states = log_prior.shape
    can, many = np.zeros((rows, states), np.int64), np.zeros(rows, np.int64)
    for r in range(rows):
        for s in range(states):
            if log_prior[r, s] > -np.inf:
                can[r, many[r]] = s
                many[r] += 1
    return can, many
