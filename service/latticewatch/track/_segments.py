"""One frame's evidence for every site: is it still what it was, and if not, what has it become?"""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.track._states import FLOOR, NO_DEFECT

# A site whose second most probable state is this many nats behind is settled, and a change can be told from doubt.
SETTLED = 4.6
# Probability of a change from which the past is forgotten.
COMMIT = 0.999
# Nothing below this probability is told apart from nothing.
NEGLIGIBLE = -16.0
HIGHEST = 80.0
# Weight of a new frame in how the probability of a state is shared out to its classes, if it holds so much of it.
SHARE_GAIN = 0.2
MIN_SHARED = 1e-6


@njit(cache=True, nogil=True)
def independent_frames(frames, repeatability):
    """How many independent frames hold the evidence of some of which a share repeats."""
    return 1.0 / (repeatability + (1.0 - repeatability) / frames)


@njit(cache=True, nogil=True)
def step(
    alone,
    row,
    index,
    gap,
    state,
    prior,
    log_prior,
    typical,
    known,
    change,
    repeatability,
    window,
    posterior,
    base,
    run,
    run_frames,
    recent,
    excess,
    recent_frames,
    last,
    moments,
    means,
):
    """Take in one frame.

    Parameters
    ----------
    alone : ndarray of shape (n, n_classes), float32
        Posterior of each site by this frame alone; all zero where it says nothing.
    row : ndarray of shape (n,), int64
        Row of the priors.
    index : ndarray of shape (n,), int64
        Track of each site.
    gap : ndarray of shape (n,), int64
        Frames since the site was last seen.
    state : ndarray of shape (n_classes,), int64
        State of each class.
    prior : ndarray of shape (n_rows, n_classes), float32
        Of the classes; 0 where a sublattice cannot have one.
    log_prior : ndarray of shape (n_rows, n_states), float64
        Of the states; -inf where a sublattice cannot have a state.
    typical : ndarray of shape (n_rows, n_states, n_states), float64
        Mean of log p(frame | state) - log p(frame | own state) over sites of a state.
    known : ndarray of shape (n_rows, n_states), bool
        Where that mean is known.
    change, repeatability, window : float
        Chance that a site changes in a frame, share of the variance that repeats, frames averaged at most.
    posterior, base, run, run_frames, recent, excess, recent_frames, last
        Columns of the map, which are updated.
    moments : ndarray of shape (n_rows, n_states, 6), float64
        Sums over intact sites, for the repeatability: n, a, b, aa, bb, ab.
    means : ndarray of shape (n_rows, n_states, n_states + 1), float64
        Sums for ``typical``, and last how many sites they are of.
    """
    n, classes = alone.shape
    states = log_prior.shape[1]
    value = np.empty(states, np.float64)
    whole = np.empty(states, np.float64)
    gained = np.empty(states, np.float64)
    belief = np.empty(states, np.float64)
    for i in range(n):
        t, here = index[i], log_prior[row[i]]
        value[:] = 0.0
        for k in range(classes):
            value[state[k]] += alone[i, k]
        peak = -np.inf
        for s in range(states):
            if value[s] > 0.0 and here[s] > -np.inf:
                value[s] = np.log(value[s]) - here[s]
                peak = max(peak, value[s])
            else:
                value[s] = -np.inf
        if peak == -np.inf:
            continue
        for s in range(states):
            value[s] = max(value[s] - peak, FLOOR)
        if run_frames[t] == 0:
            for s in range(states):
                run[t, s] = value[s]
                if np.isnan(base[t, s]):
                    base[t, s] = here[s]
            run_frames[t] = 1
            _believe(base[t], run[t], 1.0, here, belief)
        else:
            frames = independent_frames(run_frames[t], repeatability)
            own, lead = _leader(base[t], run[t], frames, here, whole)
            if lead > SETTLED:
                _gather(value, last[t], row[i], own, gap[i], moments, means)
            best = own
            if lead > SETTLED:
                # What a site always showed is no change: its own deviation from its kind is taken off.
                share = repeatability * frames if known[row[i], own] else 0.0
                for s in range(states):
                    gained[s] = 0.0
                    if here[s] > -np.inf and s != own:
                        deviation = share * (run[t, s] - run[t, own] - typical[row[i], own, s])
                        more = excess[t, s] + value[s] - value[own] - deviation
                        gained[s] = min(max(more, 0.0), HIGHEST)
                        if gained[s] > gained[best]:
                            best = s
            if best != own and recent_frames[t] < window:
                if excess[t, best] == 0.0:
                    # What now seems to have come begins with this frame: those before it are of what was.
                    _absorb(t, window, run, run_frames, recent, recent_frames)
                recent_frames[t] += 1
                for s in range(states):
                    recent[t, s] += value[s]
                    excess[t, s] = gained[s]
                _doubt(own, excess[t], here, change * gap[i], belief)
                if 1.0 - belief[own] > COMMIT:
                    belief[own] = 0.0
                    begin(t, belief, repeatability, base, run, run_frames, recent, excess, recent_frames)
            else:
                recent_frames[t] += 1
                for s in range(states):
                    recent[t, s] += value[s]
                    excess[t, s] = 0.0
                _absorb(t, window, run, run_frames, recent, recent_frames)
                _believe(base[t], run[t], independent_frames(run_frames[t], repeatability), here, belief)
        for s in range(states):
            last[t, s] = value[s]
        _share(belief, alone[i], prior[row[i]], state, posterior[t])


@njit(cache=True, nogil=True)
def begin(t, belief, repeatability, base, run, run_frames, recent, excess, recent_frames):
    """Forget what a track was before the frames that spoke for a change, and believe what is given."""
    frames = max(recent_frames[t], 1)
    weight = independent_frames(frames, repeatability)
    total = belief.sum()
    for s in range(len(belief)):
        belief[s] /= total
        run[t, s] = recent[t, s] / frames
        recent[t, s] = 0.0
        excess[t, s] = 0.0
        base[t, s] = max(np.log(max(belief[s], 1e-12)), NEGLIGIBLE) - weight * run[t, s]
    run_frames[t] = frames
    recent_frames[t] = 0


@njit(cache=True, nogil=True)
def _absorb(t, window, run, run_frames, recent, recent_frames):
    """Count the last few frames of a track to its run."""
    more = recent_frames[t]
    if more == 0:
        return
    weight = min(1.0, more / min(run_frames[t] + more, window))
    for s in range(run.shape[1]):
        run[t, s] += weight * (recent[t, s] / more - run[t, s])
        recent[t, s] = 0.0
    run_frames[t] = min(run_frames[t] + more, window)
    recent_frames[t] = 0


@njit(cache=True, nogil=True)
def _leader(base, run, frames, here, whole):
    """The most probable state, and how far it is ahead [nats]."""
    best, second, own = -np.inf, -np.inf, 0
    for s in range(len(here)):
        if here[s] == -np.inf:
            continue
        whole[s] = base[s] + frames * run[s]
        if whole[s] > best:
            second, best, own = best, whole[s], s
        elif whole[s] > second:
            second = whole[s]
    return own, best - second


@njit(cache=True, nogil=True)
def _believe(base, run, frames, here, belief):
    """Probability of each state by the frames of a run."""
    peak = -np.inf
    for s in range(len(here)):
        belief[s] = base[s] + frames * run[s] if here[s] > -np.inf else -np.inf
        peak = max(peak, belief[s])
    total = 0.0
    for s in range(len(here)):
        belief[s] = np.exp(belief[s] - peak) if belief[s] - peak > NEGLIGIBLE else 0.0
        total += belief[s]
    for s in range(len(here)):
        belief[s] /= total


@njit(cache=True, nogil=True)
def _doubt(own, excess, here, change, belief):
    """Probability of each state when the last few frames speak for a change."""
    total = 1.0
    for s in range(len(here)):
        belief[s] = 0.0
        if s != own and here[s] > -np.inf:
            belief[s] = change * np.exp(here[s] + excess[s])
            total += belief[s]
    belief[own] = 1.0
    for s in range(len(here)):
        belief[s] /= total


@njit(cache=True, nogil=True)
def _gather(value, before, row, own, gap, moments, means):
    """Sums from which it is learnt how sites of a state look, and how their noise repeats."""
    states = len(value)
    for s in range(states):
        means[row, own, s] += value[s] - value[own]
    means[row, own, states] += 1.0
    if own != NO_DEFECT or gap != 1:
        return
    for s in range(1, states - 1):
        now, then = value[s] - value[own], before[s] - before[own]
        moments[row, s, 0] += 1.0
        moments[row, s, 1] += now
        moments[row, s, 2] += then
        moments[row, s, 3] += now * now
        moments[row, s, 4] += then * then
        moments[row, s, 5] += now * then


@njit(cache=True, nogil=True)
def _share(belief, alone, prior, state, posterior):
    """Share the probability of each state out to its classes, as they were shared in the last few frames."""
    before, now, usual = np.zeros(len(belief)), np.zeros(len(belief)), np.zeros(len(belief))
    for k in range(len(state)):
        before[state[k]] += posterior[k]
        now[state[k]] += alone[k]
        usual[state[k]] += prior[k]
    for k in range(len(state)):
        s = state[k]
        if before[s] > 0.0:
            share = posterior[k] / before[s]
            if now[s] > MIN_SHARED:
                share += SHARE_GAIN * (alone[k] / now[s] - share)
        elif now[s] > MIN_SHARED:
            share = alone[k] / now[s]
        elif usual[s] > 0.0:
            share = prior[k] / usual[s]
        else:
            share = 0.0
        posterior[k] = belief[s] * share
