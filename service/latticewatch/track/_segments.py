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
# Weight of a new frame in how the probability of a state is shared out to its classes, if it holds so much of it.
SHARE_GAIN = 0.2
MIN_SHARED = 1e-6


@njit(cache=True, nogil=True)
def independent_frames(frames, repeatability):
    """How many independent frames hold the evidence of some of which a share repeats."""
    return 1.0 / (repeatability + (1.0 - repeatability) / frames)


@njit(cache=True, nogil=True)
def evidence_of(log_likelihood, row, state, log_prior):
    """Log-likelihood of each state, the best of a site being 0.

    Parameters
    ----------
    log_likelihood : ndarray of shape (n, n_classes), float32
        log p(moments | class) + log prior of each site in one frame.
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
    n, classes = log_likelihood.shape
    states = log_prior.shape[1]
    value = np.full((n, states), -np.inf, np.float32)
    surplus = np.empty(states, np.float32)
    for i in range(n):
        r = row[i]
        for k in range(classes):
            if np.isfinite(log_likelihood[i, k]):
                value[i, state[k]] = max(value[i, state[k]], log_likelihood[i, k])
        surplus[:] = 0.0
        for k in range(classes):
            behind = log_likelihood[i, k] - value[i, state[k]]
            # The best class of a state is counted below.
            if NEGLIGIBLE < behind < 0.0:
                surplus[state[k]] += np.exp(behind)
        peak = np.float32(-np.inf)
        for s in range(states):
            if log_prior[r, s] == -np.inf:
                value[i, s] = -np.inf
            elif value[i, s] > -np.inf:
                value[i, s] += np.log1p(surplus[s]) - np.float32(log_prior[r, s])
            peak = max(peak, value[i, s])
        for s in range(states):
            value[i, s] = max(value[i, s] - peak, FLOOR) if peak > -np.inf else np.nan
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
        frames = independent_frames(run_frames[t], repeatability)
        own, lead = _leader(t, row[i], frames, base, run, log_prior)
        if lead < SETTLED:
            continue
        for s in range(states):
            means[row[i], own, s] += value[i, s] - value[i, own]
        means[row[i], own, states] += 1.0
        if own != NO_DEFECT or gap[i] != 1:
            continue
        for s in range(1, states - 1):
            now, then = value[i, s] - value[i, own], last[t, s] - last[t, own]
            moments[row[i], s, 0] += 1.0
            moments[row[i], s, 1] += now
            moments[row[i], s, 2] += then
            moments[row[i], s, 3] += now * now
            moments[row[i], s, 4] += then * then
            moments[row[i], s, 5] += now * then


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
    value, row, index, gap, state, log_prior
        As above.
    alone : ndarray of shape (n, n_classes), float32
        Posterior of each class by this frame alone.
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
    gained, mixed, later, belief = np.empty((4, states))
    shares, alike = np.empty((3, states)), np.zeros(states, np.int64)
    for s in state:
        alike[s] += 1
    for i in range(n):
        t, r = index[i], row[i]
        if np.isnan(value[i, 0]):
            continue
        if run_frames[t] == 0:
            for s in range(states):
                run[t, s] = value[i, s]
                if np.isnan(base[t, s]):
                    base[t, s] = log_prior[r, s]
            run_frames[t] = 1
            _believe(t, r, 1.0, base, run, log_prior, belief)
        else:
            frames = independent_frames(run_frames[t], repeatability)
            own, _ = _leader(t, r, frames, base, run, log_prior)
            best = own
            # What a site always showed is no change: its own deviation from its kind is taken off.
            share = repeatability * frames
            gained[own] = 0.0
            for s in range(states):
                if s == own or log_prior[r, s] == -np.inf:
                    gained[s] = 0.0
                    continue
                ahead = run[t, s] - run[t, own]
                # On average nothing speaks against what a site is, whatever the few of a rare state show.
                usual = typical[r, own, s] if known[r, own] else ahead
                more = excess[t, s] + value[i, s] - value[i, own] - share * (ahead - min(usual, 0.0))
                gained[s] = min(max(more, 0.0), HIGHEST)
                if gained[s] > gained[best]:
                    best = s
            if best != own and recent_frames[t] < window:
                if excess[t, best] == 0.0:
                    # What now seems to have come begins with this frame: those before it are of what was.
                    _absorb(t, window, run, run_frames, recent, recent_frames)
                recent_frames[t] += 1
                for s in range(states):
                    recent[t, s] += value[i, s]
                    excess[t, s] = gained[s]
                # Frames that repeat look the same whatever a site always was; others may tell that it was so all along.
                _believe(t, r, frames, base, run, log_prior, belief)
                stayed = 0.0
                for s in range(states):
                    stayed += belief[s] * np.exp((1.0 - share) * excess[t, s])
                odds = 0.0
                frames = independent_frames(recent_frames[t], repeatability)
                for s in range(states):
                    later[s] = -np.inf
                    if s != own and log_prior[r, s] > -np.inf:
                        odds += change * gap[i] / stayed * np.exp(log_prior[r, s] + excess[t, s])
                        # What it has become is told by the frames as they are: the deviation may have gone as well.
                        later[s] = log_prior[r, s] + frames * recent[t, s] / recent_frames[t]
                _normalise(later)
                changed = odds / (1.0 + odds)
                if changed > COMMIT:
                    begin(
                        t,
                        later.argmax(),
                        log_prior[r],
                        repeatability,
                        base,
                        run,
                        run_frames,
                        recent,
                        excess,
                        recent_frames,
                    )
                    for s in range(states):
                        belief[s] = later[s]
                else:
                    together = run_frames[t] + recent_frames[t]
                    frames = independent_frames(together, repeatability)
                    for s in range(states):
                        mean = (run_frames[t] * run[t, s] + recent[t, s]) / together
                        mixed[s] = base[t, s] + frames * mean if log_prior[r, s] > -np.inf else -np.inf
                    _normalise(mixed)
                    if changed < 0.5 and mixed.argmax() != own:
                        # It is something else, and has been all along.
                        _absorb(t, window, run, run_frames, recent, recent_frames)
                        excess[t, :] = 0.0
                    for s in range(states):
                        belief[s] = (1.0 - changed) * mixed[s] + changed * later[s]
            else:
                recent_frames[t] += 1
                for s in range(states):
                    recent[t, s] += value[i, s]
                    excess[t, s] = 0.0
                _absorb(t, window, run, run_frames, recent, recent_frames)
                frames = independent_frames(run_frames[t], repeatability)
                _believe(t, r, frames, base, run, log_prior, belief)
        for s in range(states):
            last[t, s] = value[i, s]
        _share(i, t, r, belief, alone, prior, state, alike, posterior, shares)


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
    weight, each = min(1.0, more / min(run_frames[t] + more, window)), 1.0 / more
    for s in range(run.shape[1]):
        run[t, s] += weight * (recent[t, s] * each - run[t, s])
        recent[t, s] = 0.0
    run_frames[t] = min(run_frames[t] + more, window)
    recent_frames[t] = 0


@njit(cache=True, nogil=True)
def _leader(t, r, frames, base, run, log_prior):
    """The most probable state of a track by its run, and how far it is ahead [nats]."""
    best, second, own = -np.inf, -np.inf, 0
    for s in range(run.shape[1]):
        if log_prior[r, s] == -np.inf:
            continue
        whole = base[t, s] + frames * run[t, s]
        if whole > best:
            second, best, own = best, whole, s
        elif whole > second:
            second = whole
    return own, best - second


@njit(cache=True, nogil=True)
def _believe(t, r, frames, base, run, log_prior, belief):
    """Probability of each state of a track by its run."""
    for s in range(len(belief)):
        belief[s] = base[t, s] + frames * run[t, s] if log_prior[r, s] > -np.inf else -np.inf
    _normalise(belief)


@njit(cache=True, nogil=True)
def _normalise(belief):
    """Probabilities in place of their logarithms, but for a constant."""
    peak, total = belief.max(), 0.0
    for s in range(len(belief)):
        behind = belief[s] - peak
        belief[s] = np.exp(behind) if behind > NEGLIGIBLE else 0.0
        total += belief[s]
    total = 1.0 / total
    for s in range(len(belief)):
        belief[s] *= total


@njit(cache=True, nogil=True)
def _share(i, t, r, belief, alone, prior, state, alike, posterior, shares):
    """Share the probability of each state out to its classes, as they were shared in the last few frames."""
    for s in range(len(belief)):
        shares[0, s] = shares[1, s] = shares[2, s] = 0.0
    for k in range(len(state)):
        s = state[k]
        if alike[s] > 1:
            shares[0, s] += posterior[t, k]
            shares[1, s] += alone[i, k]
            shares[2, s] += prior[r, k]
        else:
            posterior[t, k] = belief[s]
    for s in range(len(belief)):
        for row in range(3):
            if shares[row, s] > 0.0:
                shares[row, s] = 1.0 / shares[row, s]
    for k in range(len(state)):
        s = state[k]
        if alike[s] < 2:
            continue
        lately = 0.0 < shares[1, s] < 1.0 / MIN_SHARED
        if shares[0, s] > 0.0:
            share = posterior[t, k] * shares[0, s]
            if lately:
                share += SHARE_GAIN * (alone[i, k] * shares[1, s] - share)
        elif lately:
            share = alone[i, k] * shares[1, s]
        else:
            share = prior[r, k] * shares[2, s]
        posterior[t, k] = belief[s] * share
