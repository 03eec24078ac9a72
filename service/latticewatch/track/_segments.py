"""One frame's evidence for every site: is it still what it was, and if not, what has it become?"""

from __future__ import annotations

import numpy as np
from numba import njit

from latticewatch.track._states import FLOOR, NO_DEFECT

# A site whose second most probable state is this many nats behind is settled, and a change can be told from doubt.
SETTLED = 4.6
# Probability of a change from which the past is forgotten, and the lead of the new state then [nats].
COMMIT = 0.999
SURE = 7.0
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
def evidence_of(alone, row, state, log_prior):
    """Log-likelihood of each state, the best of a site being 0.

    Parameters
    ----------
    alone : ndarray of shape (n, n_classes), float32
        Posterior of each site by one frame alone; all zero where it says nothing.
    row : ndarray of shape (n,), int64
        Row of the priors.
    state : ndarray of shape (n_classes,), int64
        State of each class.
    log_prior : ndarray of shape (n_rows, n_states), float64
        Of the states; -inf where a sublattice cannot have one.

    Returns
    -------
    ndarray of shape (n, n_states), float32
        NaN where the frame says nothing about a site.
    """
    n, classes = alone.shape
    states = log_prior.shape[1]
    value = np.zeros((n, states), np.float32)
    for i in range(n):
        here, mine = log_prior[row[i]], value[i]
        for k in range(classes):
            mine[state[k]] += alone[i, k]
        peak = np.float32(-np.inf)
        for s in range(states):
            mine[s] = np.log(mine[s]) - here[s] if mine[s] > 0.0 and here[s] > -np.inf else -np.inf
            peak = max(peak, mine[s])
        for s in range(states):
            mine[s] = max(mine[s] - peak, FLOOR) if peak > -np.inf else np.nan
    return value


@njit(cache=True, nogil=True)
def gather(value, row, index, gap, log_prior, repeatability, base, run, run_frames, last, moments, means):
    """Sums from which it is learnt how sites of a state look, and how their noise repeats.

    Parameters
    ----------
    value : ndarray of shape (n, n_states), float32
        Of `evidence_of`.
    row, index, gap : ndarray of shape (n,), int64
        Row of the priors, track, and frames since the site was last seen.
    base, run, run_frames, last
        Columns of the map.
    moments : ndarray of shape (n_rows, n_states, 6), float64
        Sums over intact sites, for the repeatability: n, a, b, aa, bb, ab.
    means : ndarray of shape (n_rows, n_states, n_states + 1), float64
        Sums of log p(frame | state) - log p(frame | own state), and last how many sites they are of.
    """
    n, states = value.shape
    for i in range(n):
        t = index[i]
        if run_frames[t] == 0 or np.isnan(value[i, 0]):
            continue
        own, lead = _leader(
            base[t], run[t], independent_frames(run_frames[t], repeatability), log_prior[row[i]]
        )
        if lead < SETTLED:
            continue
        for s in range(states):
            means[row[i], own, s] += value[i, s] - value[i, own]
        means[row[i], own, states] += 1.0
        if own != NO_DEFECT or gap[i] != 1:
            continue
        for s in range(1, states - 1):
            now, then = value[i, s] - value[i, own], last[t, s] - last[t, own]
            sums = moments[row[i], s]
            sums[0] += 1.0
            sums[1] += now
            sums[2] += then
            sums[3] += now * now
            sums[4] += then * then
            sums[5] += now * then


@njit(cache=True, nogil=True)
def step(
    value,
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
):
    """Take in one frame.

    Parameters
    ----------
    value, alone, row, index, gap, state, log_prior
        As above.
    prior : ndarray of shape (n_rows, n_classes), float32
        Of the classes; 0 where a sublattice cannot have one.
    typical : ndarray of shape (n_rows, n_states, n_states), float64
        Mean of log p(frame | state) - log p(frame | own state) over sites of a state.
    known : ndarray of shape (n_rows, n_states), bool
        Where that mean is known.
    change, repeatability, window : float
        Chance that a site changes in a frame, share of the variance that repeats, frames averaged at most.
    posterior, base, run, run_frames, recent, excess, recent_frames, last
        Columns of the map, which are updated.
    """
    n, states = value.shape
    gained = np.empty(states, np.float64)
    belief, later = np.empty(states, np.float64), np.empty(states, np.float64)
    for i in range(n):
        t, here, now = index[i], log_prior[row[i]], value[i]
        if np.isnan(now[0]):
            continue
        if run_frames[t] == 0:
            for s in range(states):
                run[t, s] = now[s]
                if np.isnan(base[t, s]):
                    base[t, s] = here[s]
            run_frames[t] = 1
            _believe(base[t], run[t], 1.0, here, belief)
        else:
            frames = independent_frames(run_frames[t], repeatability)
            own, _ = _leader(base[t], run[t], frames, here)
            best = own
            # What a site always showed is no change: its own deviation from its kind is taken off.
            share = repeatability * frames if known[row[i], own] else 0.0
            gained[own] = 0.0
            for s in range(states):
                if s == own or here[s] == -np.inf:
                    gained[s] = 0.0
                    continue
                deviation = share * (run[t, s] - run[t, own] - typical[row[i], own, s])
                more = excess[t, s] + now[s] - now[own] - deviation
                gained[s] = min(max(more, 0.0), HIGHEST)
                if gained[s] > gained[best]:
                    best = s
            if best != own and recent_frames[t] < window:
                if excess[t, best] == 0.0:
                    # What now seems to have come begins with this frame: those before it are of what was.
                    _absorb(t, window, run, run_frames, recent, recent_frames)
                recent_frames[t] += 1
                for s in range(states):
                    recent[t, s] += now[s]
                    excess[t, s] = gained[s]
                # Frames that repeat look the same whatever a site always was; others may tell that it was so all along.
                _believe(base[t], run[t], frames, here, belief)
                stayed = 0.0
                for s in range(states):
                    stayed += belief[s] * np.exp((1.0 - share) * excess[t, s])
                _doubt(own, excess[t], here, change * gap[i] / stayed, belief)
                changed = 1.0 - belief[own]
                if changed > COMMIT:
                    begin(t, best, here, repeatability, base, run, run_frames, recent, excess, recent_frames)
                    belief[own] = 0.0
                else:
                    total = run_frames[t] + recent_frames[t]
                    for s in range(states):
                        gained[s] = (run_frames[t] * run[t, s] + recent[t, s]) / total
                        later[s] = belief[s] if s != own else 0.0
                    _believe(base[t], gained, independent_frames(total, repeatability), here, belief)
                    if changed < 0.5 and belief.argmax() != own:
                        # It is something else, and has been all along.
                        _absorb(t, window, run, run_frames, recent, recent_frames)
                        excess[t, :] = 0.0
                    for s in range(states):
                        belief[s] = (1.0 - changed) * belief[s] + later[s]
            else:
                recent_frames[t] += 1
                for s in range(states):
                    recent[t, s] += now[s]
                    excess[t, s] = 0.0
                _absorb(t, window, run, run_frames, recent, recent_frames)
                _believe(base[t], run[t], independent_frames(run_frames[t], repeatability), here, belief)
        for s in range(states):
            last[t, s] = now[s]
        _share(belief, alone[i], prior[row[i]], state, posterior[t])


@njit(cache=True, nogil=True)
def begin(t, state, here, repeatability, base, run, run_frames, recent, excess, recent_frames):
    """Forget what a track was before the last few frames: by these, and from now on by its prior, it is in a state."""
    states = run.shape[1]
    if recent_frames[t] > 0:
        run_frames[t] = 0
        _absorb(t, recent_frames[t], run, run_frames, recent, recent_frames)
    second = -np.inf
    frames = independent_frames(max(run_frames[t], 1), repeatability)
    for s in range(states):
        base[t, s] = max(here[s], FLOOR)
        excess[t, s] = 0.0
        if s != state and here[s] > -np.inf:
            second = max(second, base[t, s] + frames * run[t, s])
    lead = base[t, state] + frames * run[t, state] - second
    base[t, state] += max(0.0, SURE - lead)


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
def _leader(base, run, frames, here):
    """The most probable state, and how far it is ahead [nats]."""
    best, second, own = -np.inf, -np.inf, 0
    for s in range(len(here)):
        if here[s] == -np.inf:
            continue
        whole = base[s] + frames * run[s]
        if whole > best:
            second, best, own = best, whole, s
        elif whole > second:
            second = whole
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
