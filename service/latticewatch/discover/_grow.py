"""A mixture grown one class at a time, where outliers are densest, while the Bayesian information criterion improves.

A class closer to the host than `MIN_SEPARATION` cannot be told from a tail of it, and is not allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import stdtrit

from latticewatch.model import MIN_SEPARATION, Mixture
from latticewatch.model._local import densest
from latticewatch.model._mixture import NOTHING, ROOT_2PI, TAIL_SHARE, TAIL_WIDTH
from latticewatch.robust import NORMAL

# Spread of a class beside the noise, as a share of its distance from the host: gain, probe and neighbours differ.
RELATIVE_SPREAD = 0.04
MAX_RELATIVE_SPREAD = 0.1
PRIOR_STRENGTH = 4.0
MAX_CLASSES = 12
# Where the host is not the bulk of the sites, as in images that show no atoms, there are at most so many: alloys have
# fewer, and each one more takes longer to find than the one before.
MAX_WITHOUT_BULK = 6
BULK = 2 / 3
# Sites that fit no class, expected in a frame a priori: so few that a member four deviations out still counts as one.
EXPECTED_OUTLIERS = 0.01
# Fewer sites alike than this are not a class yet.
MIN_MEMBERS = 2.5
N_ITERATIONS = 60
# Chance that a whole sample of hosts brings one value so far out that it becomes a class.
LONE_CHANCE = 1e-3
# Share of the hosts whose distance tells whether their tails are those of a Gaussian, and what it is for one.
TAIL_QUANTILE = 0.99
TAIL_SIGMA = 2.576
# Of so many hosts one is far enough out to say something of their tails.
TAIL_SHARE_OF = 4
BIN_SIGMA = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Values in bins so narrow that the fit does not see them; its time does not grow with the number of sites."""

    value: NDArray[np.float64]
    count: NDArray[np.float64]

    @property
    def n(self) -> float:
        return float(self.count.sum())

    def log_likelihood(self, mixture: Mixture) -> float:
        return float((self.count * np.log(mixture.densities(self.value).sum(1))).sum())


def _binned(values: NDArray[np.float64], width: float) -> _Sample:
    """Mean value and number of the values in every bin that holds any."""
    bins, index, count = np.unique(np.rint(values / width), return_inverse=True, return_counts=True)
    total = np.bincount(index, weights=values, minlength=len(bins))
    return _Sample(total / count, count.astype(float))


def grow_mixture(values: NDArray[np.float64], least: float = MIN_SEPARATION) -> Mixture:
    """Fit host and classes to values whose bulk is the host.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        Matched-filter outputs.
    least : float, optional
        Distance below which a class is not told from the host, in standard deviations of the host.

    Returns
    -------
    Mixture
    """
    least = max(least, MIN_SEPARATION)
    centre = float(np.median(values))
    deviation = NORMAL * float(np.median(np.abs(values - centre))) or 1.0
    # of two populations of like size neither is the median
    centre, deviation = densest(values, centre, deviation)
    span = float(np.ptp(values)) + 6 * deviation
    background = EXPECTED_OUTLIERS / max(len(values), 2)
    sample = _binned(values, BIN_SIGMA * deviation)
    best = _fit(
        sample,
        Mixture(np.array([centre]), np.array([deviation]), np.array([1 - background]), background, span),
        least,
    )
    best_likelihood = sample.log_likelihood(best)
    while len(best.mean) < (MAX_CLASSES if best.weight[0] > BULK else MAX_WITHOUT_BULK):
        candidates = [_fit(sample, _with_class(best, seed, sample.n), least) for seed in _seeds(sample, best)]
        if least > MIN_SEPARATION:
            # a class that would rather be nearer is not one: the host itself varies by so much
            candidates = [c for c in candidates if not _at_bound(c, least)]
        if not candidates:
            break
        likelihoods = [sample.log_likelihood(candidate) for candidate in candidates]
        winner = int(np.argmax(likelihoods))
        # mean, width and weight: three parameters
        gain = likelihoods[winner] - best_likelihood
        members = sample.n * float(candidates[winner].weight[1:].min())
        if gain <= 1.5 * np.log(sample.n) or members < MIN_MEMBERS:
            break
        best, best_likelihood = candidates[winner], likelihoods[winner]
    return _ordered(_with_lone(values, _without_twins(sample, best, least), least))


def above_host(mixture: Mixture, least: float) -> Mixture:
    """The mixture without the classes that are not so many standard deviations of its host above it."""
    kept = mixture.mean >= mixture.mean[0] + least * mixture.deviation[0]
    kept[0] = True
    weight = mixture.weight * kept
    weight[0] += mixture.weight.sum() - weight.sum()
    return replace(mixture, mean=mixture.mean[kept], deviation=mixture.deviation[kept], weight=weight[kept])


def bonferroni(n: float, chance: float) -> float:
    """Standard deviations beyond which one of n values lies, on either side, by a chance at most.

    How long their tails are is known from them alone: the fewer they are, the longer they may be (Student's t).
    """
    return -float(stdtrit(tail_freedom(n), chance / max(n, 2) / 2))


def tail_freedom(n: float) -> float:
    """Degrees of freedom of the tails of n hosts: as many as are far enough out to say something of them."""
    return max(n / TAIL_SHARE_OF, 2.0)


def _with_lone(values: NDArray[np.float64], mixture: Mixture, least: float) -> Mixture:
    """The mixture with a class for each site, or group of alike ones, that chance does not bring in all these values.

    One is enough where the evidence is: the chance that the host brings any value as far out is that of one, times
    their number (Bonferroni).
    """
    host, width = float(mixture.mean[0]), float(mixture.deviation[0])
    mine = values[mixture.posteriors(values)[:, 0] > 0.5]
    if not len(mine):
        # without hosts nothing says what chance brings
        return mixture
    # where hosts have longer tails than a Gaussian, more is needed
    tail = max(1.0, float(np.quantile(np.abs(mine - host), TAIL_QUANTILE)) / (TAIL_SIGMA * width))
    needed = max(least, tail**2 * bonferroni(len(values), LONE_CHANCE))
    strange = np.sort(values[mixture.posteriors(values)[:, -1] > 0.5])
    strange = strange[np.abs(strange - host) > needed * width]
    while len(strange) and len(mixture.mean) < MAX_CLASSES:
        reach = 2 * np.hypot(width, RELATIVE_SPREAD * (strange - host))
        alike = np.searchsorted(strange, strange + reach) - np.searchsorted(strange, strange - reach)
        best = int(np.argmax(alike))
        members = np.abs(strange - strange[best]) <= reach[best]
        mean, weight = float(strange[members].mean()), float(members.sum()) / len(values)
        deviation = max(
            float(strange[members].std()), float(np.hypot(width, RELATIVE_SPREAD * (mean - host)))
        )
        mixture = Mixture(
            np.append(mixture.mean, mean),
            np.append(mixture.deviation, deviation),
            np.append(mixture.weight * (1 - weight), weight * (1 - mixture.background)),
            mixture.background,
            mixture.span,
        )
        strange = strange[~members]
    return mixture


def _at_bound(mixture: Mixture, least: float) -> bool:
    """Whether a class is held as near to the host as is allowed."""
    distance = np.abs(mixture.mean[1:] - mixture.mean[0]) / mixture.deviation[0]
    return bool((distance < 1.001 * least).any())


def _with_class(mixture: Mixture, seed: float, n: float) -> Mixture:
    host, width = mixture.mean[0], mixture.deviation[0]
    deviation = np.hypot(width, RELATIVE_SPREAD * (seed - host))
    return Mixture(
        np.append(mixture.mean, seed),
        np.append(mixture.deviation, deviation),
        np.append(mixture.weight, 3.0 / n),
        mixture.background,
        mixture.span,
    )


def _seeds(sample: _Sample, mixture: Mixture) -> list[float]:
    """Where sites that no class explains are densest, at most four places, and on either side of every class.

    A class beside the host may have swallowed two.
    """
    sides = [
        float(m + side * d)
        for m, d in zip(mixture.mean[1:], mixture.deviation[1:], strict=True)
        for side in (-1.5, 1.5)
    ]
    host, width = mixture.mean[0], mixture.deviation[0]
    scaled = np.abs(sample.value[:, None] - mixture.mean) / mixture.deviation
    far = (scaled > 2.5).all(1)
    outlier, count = sample.value[far], sample.count[far]
    if count.sum() < 2:
        return sides
    reach = np.hypot(width, RELATIVE_SPREAD * (outlier - host))
    density = np.exp(-0.5 * ((outlier[:, None] - outlier) / reach[:, None]) ** 2) @ count
    seeds: list[float] = []
    for k in np.argsort(-density):
        if all(abs(outlier[k] - seed) > 2 * reach[k] for seed in seeds):
            seeds.append(float(outlier[k]))
        if len(seeds) == 4:
            break
    return seeds + sides


def _fit(sample: _Sample, start: Mixture, least: float, iterations: int = N_ITERATIONS) -> Mixture:
    """Expectation maximisation under the bounds on separation and spread; the background keeps its weight."""
    mean, deviation, weight = start.mean.copy(), start.deviation.copy(), start.weight.copy()
    narrowest = BIN_SIGMA * float(start.deviation[0])
    uniform = start.background / start.span
    _maximise(
        sample.value,
        sample.count,
        mean,
        deviation,
        weight,
        start.background,
        uniform,
        least,
        narrowest,
        iterations,
    )
    return Mixture(mean, deviation, weight, start.background, start.span)


@njit(cache=True, nogil=True)
def _maximise(
    value, number, mean, deviation, weight, background, uniform, least, narrowest, iterations
):  # pragma: no cover - compiled
    """Move means, deviations and weights in place until the likelihood is at its highest, or for so many steps."""
    n, k = len(value), len(mean)
    side = np.sign(mean - mean[0])
    shared = np.empty((n, k))
    for _ in range(iterations):
        _share(value, number, mean, deviation, weight, uniform, shared)
        count, total = np.full(k, 1e-12), np.zeros(k)
        for i in range(n):
            for c in range(k):
                count[c] += shared[i, c]
                total[c] += shared[i, c] * value[i]
        change = 0.0
        for c in range(k):
            at = total[c] / count[c]
            change = max(change, abs(at - mean[c]))
            mean[c] = at
        square = np.zeros(k)
        for i in range(n):
            for c in range(k):
                square[c] += shared[i, c] * (value[i] - mean[c]) ** 2
        width = max(np.sqrt(square[0] / count[0]), narrowest)
        for c in range(1, k):
            if abs(mean[c] - mean[0]) < least * width:
                mean[c] = mean[0] + side[c] * least * width
            distance = abs(mean[c] - mean[0])
            expected = width**2 + (RELATIVE_SPREAD * distance) ** 2
            own = np.sqrt((square[c] + PRIOR_STRENGTH * expected) / (count[c] + PRIOR_STRENGTH))
            widest = np.hypot(width, MAX_RELATIVE_SPREAD * distance)
            deviation[c] = min(max(own, width), widest)
        deviation[0] = width
        everything = count.sum()
        for c in range(k):
            weight[c] = count[c] / everything * (1 - background)
        if change < 1e-4 * width:
            break


@njit(cache=True, nogil=True)
def _share(value, number, mean, deviation, weight, uniform, shared):  # pragma: no cover - compiled
    """Share the sites of each bin between the classes, by their densities there."""
    for i in range(len(value)):
        total = uniform
        for c in range(len(mean)):
            square = -0.5 * ((value[i] - mean[c]) / deviation[c]) ** 2
            shape = 0.0
            if c == 0 and square > NOTHING:
                shape = np.exp(square)
            elif c > 0 and square > NOTHING * TAIL_WIDTH**2:
                # as `Mixture.densities`, but with one exponential: that of the class is the fourth power of its tail's
                tail = np.exp(square / TAIL_WIDTH**2)
                shape = (1.0 - TAIL_SHARE) * (tail * tail) ** 2 + TAIL_SHARE / TAIL_WIDTH * tail
            shared[i, c] = weight[c] / (deviation[c] * ROOT_2PI) * shape
            total += shared[i, c]
        for c in range(len(mean)):
            shared[i, c] *= number[i] / total


def _without_twins(sample: _Sample, mixture: Mixture, least: float) -> Mixture:
    """Merge classes that cannot be told apart."""
    while len(mixture.mean) > 2:
        order = np.argsort(mixture.mean)
        gaps = np.diff(mixture.mean[order]) / np.maximum(
            mixture.deviation[order][1:], mixture.deviation[order][:-1]
        )
        # the host keeps its distance by construction
        pairs = [k for k in range(len(gaps)) if 0 not in (order[k], order[k + 1]) and gaps[k] < 2.0]
        if not pairs:
            break
        k = min(pairs, key=lambda pair: gaps[pair])
        drop, keep = order[k], order[k + 1]
        if mixture.weight[drop] > mixture.weight[keep]:
            drop, keep = keep, drop
        weight = mixture.weight.copy()
        weight[keep] += weight[drop]
        rest = np.arange(len(weight)) != drop
        mixture = _fit(
            sample,
            Mixture(
                mixture.mean[rest], mixture.deviation[rest], weight[rest], mixture.background, mixture.span
            ),
            least,
        )
    return mixture


def _ordered(mixture: Mixture) -> Mixture:
    order = np.argsort(np.abs(mixture.mean - mixture.mean[0]), kind="stable")
    return Mixture(
        mixture.mean[order], mixture.deviation[order], mixture.weight[order], mixture.background, mixture.span
    )
