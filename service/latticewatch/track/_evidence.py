"""What the frames together say about each site: a hidden Markov model of its class, one forward step a frame."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Weight of a new frame in the running estimates of priors and repeatability.
GAIN = 0.2
# A class that a site may have at all keeps this prior, so that it can come up.
MIN_PRIOR = 1e-6
# Frames averaged where their evidence repeats: more let a change through later, fewer let noise through.
WINDOW_FRAMES = 10
# Sites that are this surely of the most frequent class of their sublattice show how noise repeats.
SURE = 0.99
MIN_SURE_SITES = 30
# Correlations of this size are within the error of their estimate.
MIN_REPEATABILITY = 0.02


class Evidence:
    """Priors of the classes, and how much of a frame's evidence is new.

    Notes
    -----
    The forward step is posterior_t ∝ likelihood_t × ((1 − ε) posterior_{t−1} + ε prior), ε being the chance that a site
    changes between two frames. It sharpens as independent frames do, and its floor of ε prior lets a real change
    through within a few frames.

    Frames are not quite independent: strain, contamination and neighbours move a site's moments by the same amount in
    each of them, and a recorded frame that is sent again brings nothing new at all. If a share ρ of the variance of the
    log-likelihoods repeats, then T frames hold the evidence of T′ = 1 / (ρ + (1 − ρ)/T) independent ones, and the sum
    of their log-likelihoods is to be multiplied by T′/T. Step by step: the new one has the weight a_T = T′/T, and the
    past, as odds over the prior, the power a_T / a_{T−1}. T stops at a window of ``WINDOW_FRAMES`` (or 1/ρ, if
    that is longer), from where on the past has the power 1 − 1/T. ρ is the correlation between successive frames over
    the host sites.
    """

    def __init__(self, change_probability: float) -> None:
        self.change_probability = change_probability
        self.clear()

    def clear(self) -> None:
        """Forget the priors and the repeatability, as at a new series."""
        self._prior: NDArray[np.float32] | None = None
        self._class_ids: NDArray[np.int16] | None = None
        self._repeatability: float | None = None

    @property
    def repeatability(self) -> float:
        """Share ρ of the variance of the log-likelihoods that repeats from frame to frame, 0 to 1."""
        value = self._repeatability or 0.0
        return 0.0 if value < MIN_REPEATABILITY else min(value, 1.0)

    def single_frame(
        self,
        log_likelihood: NDArray[np.float32],
        sublattice: NDArray[np.int16],
        class_ids: NDArray[np.int16],
        log_prior: NDArray[np.floating] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posteriors of one frame by itself, and its log-likelihoods without the prior.

        Returns
        -------
        posterior : ndarray of shape (n, n_classes), float32
            All zero for a site that the frame says nothing about.
        likelihood : ndarray of shape (n, n_classes), float32
            log p(moments | class), up to a constant for each site.
        """
        row = sublattice.astype(np.int64) + 1
        posterior, total, possible = _softmax(log_likelihood, row, int(row.max(initial=0)) + 1)
        if log_prior is not None:
            prior = np.where(possible, np.exp(np.asarray(log_prior, float) - np.max(log_prior)), 0.0)
            self._prior = self._normalised(prior, possible)
        else:
            self._follow(self._normalised(total, possible), class_ids)
        self._class_ids = class_ids
        assert self._prior is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = log_likelihood - np.log(self._prior)[row]
        return posterior, likelihood

    def measure(
        self,
        contrast: NDArray[np.float32],
        before: NDArray[np.float32],
        posterior: NDArray[np.float32],
        sublattice: NDArray[np.int16],
    ) -> None:
        """Measure how the log-likelihoods of the same sites repeat from one frame to the next.

        Parameters
        ----------
        contrast, before : ndarray of shape (n, n_classes), float32
            Log-likelihoods of sites in this frame and in the one before.
        posterior : ndarray of shape (n, n_classes), float32
            What was known about them before this frame.
        """
        assert self._prior is not None
        assert self._class_ids is not None
        correlation = []
        for index in np.unique(sublattice[sublattice >= 0]):
            prior = self._prior[index + 1]
            host = int(prior.argmax())
            sites = (sublattice == index) & (posterior[:, host] > SURE)
            # Unknown is no class: its likelihood is the same everywhere.
            columns = np.flatnonzero((prior > 0) & (self._class_ids != -1))
            columns = columns[columns != host]
            if not len(columns):
                continue
            now, then = (
                values[np.ix_(sites, columns)] - values[sites, host][:, None] for values in (contrast, before)
            )
            fine = (np.isfinite(now) & np.isfinite(then)).all(axis=1)
            if np.count_nonzero(fine) < MIN_SURE_SITES:
                continue
            now, then = now[fine] - now[fine].mean(axis=0), then[fine] - then[fine].mean(axis=0)
            spread = np.sqrt((now**2).sum(axis=0) * (then**2).sum(axis=0))
            correlation.extend((now * then).sum(axis=0)[spread > 0] / spread[spread > 0])
        if correlation:
            value = float(np.mean(correlation))
            old = self._repeatability
            self._repeatability = value if old is None else (1 - GAIN) * old + GAIN * value

    def fold(
        self,
        likelihood: NDArray[np.float32],
        sublattice: NDArray[np.int16],
        before: NDArray[np.float32],
        gap: NDArray[np.int64],
        frames: NDArray[np.int64],
        *,
        afresh: bool = False,
    ) -> NDArray[np.float32]:
        """Posterior of each site after a frame.

        Parameters
        ----------
        likelihood : ndarray of shape (n, n_classes), float32
            log p(moments | class) in this frame.
        before : ndarray of shape (n, n_classes), float32
            Posterior up to the frame before; all zero for a site that is new.
        gap : ndarray of shape (n,), int64
            Frames since the site was last seen, at least 1.
        frames : ndarray of shape (n,), int64
            Frames that had the site before.
        afresh : bool
            The classes are new ones, so that what was known counts half.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        assert self._prior is not None
        change = 0.5 if afresh else self.change_probability
        stay = (1.0 - change) ** np.minimum(gap, 1_000_000)
        row = sublattice.astype(np.int64) + 1
        return _forward(likelihood, self._prior, row, before, stay, *self._weights(frames))

    def _weights(self, frames: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Power of the past, and weight of a new frame, for sites that so many frames had before."""
        repeated = self.repeatability
        if not repeated:
            return np.ones(len(frames)), np.ones(len(frames))
        window = max(WINDOW_FRAMES, 1 / repeated)
        number = np.minimum(frames + 1.0, window)
        weight = 1 / (repeated * number + 1 - repeated)
        ramp = weight * (repeated * (number - 1) + 1 - repeated)
        return np.where(frames < window, ramp, 1 - 1 / window), weight

    def _follow(self, frequency: NDArray[np.float32], class_ids: NDArray[np.int16]) -> None:
        """Average the frequency of the classes over frames, where they are those of the frame before."""
        old, ids = self._prior, self._class_ids
        if (
            old is not None
            and ids is not None
            and np.array_equal(ids, class_ids)
            and old.shape == frequency.shape
        ):
            # Where a class was impossible till now there is nothing to average.
            frequency = np.where((old > 0) == (frequency > 0), (1 - GAIN) * old + GAIN * frequency, frequency)
        self._prior = frequency.astype(np.float32)

    @staticmethod
    def _normalised(weight: NDArray[np.floating], possible: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Rows that sum to one, positive wherever a class is possible."""
        weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-30)
        weight = np.where(possible, np.maximum(weight, MIN_PRIOR), 0.0)
        return (weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-30)).astype(np.float32)


@njit(cache=True, nogil=True)
def _softmax(log_likelihood, row, n_rows):
    """Posterior of each site, its sum over each sublattice, and which classes a sublattice can have."""
    n, classes = log_likelihood.shape
    posterior = np.zeros((n, classes), np.float32)
    total = np.zeros((n_rows, classes), np.float64)
    possible = np.zeros((n_rows, classes), np.bool_)
    for i in range(n):
        peak = -np.inf
        for k in range(classes):
            if np.isfinite(log_likelihood[i, k]):
                possible[row[i], k] = True
                peak = max(peak, log_likelihood[i, k])
        if not np.isfinite(peak):
            continue
        norm = 0.0
        for k in range(classes):
            if np.isfinite(log_likelihood[i, k]):
                posterior[i, k] = np.exp(log_likelihood[i, k] - peak)
                norm += posterior[i, k]
        for k in range(classes):
            posterior[i, k] /= norm
            total[row[i], k] += posterior[i, k]
    return posterior, total, possible


@njit(cache=True, nogil=True)
def _forward(likelihood, prior, row, before, stay, power, weight):
    """One step of the hidden Markov model for every site."""
    n, classes = likelihood.shape
    posterior = np.zeros((n, classes), np.float32)
    expected = np.empty(classes, np.float64)
    for i in range(n):
        here = prior[row[i]]
        known = 0.0
        for k in range(classes):
            expected[k] = 0.0
            if here[k] > 0.0 and before[i, k] > 0.0:
                if power[i] == 1.0:
                    expected[k] = before[i, k]
                else:
                    expected[k] = here[k] * np.exp(np.float32(power[i]) * np.log(before[i, k] / here[k]))
                known += expected[k]
        keep = stay[i] / known if known > 0.0 else 0.0
        fresh = 1.0 - stay[i] if known > 0.0 else 1.0
        peak = np.float32(-np.inf)
        for k in range(classes):
            expected[k] = keep * expected[k] + fresh * here[k]
            if here[k] > 0.0 and np.isfinite(likelihood[i, k]):
                peak = max(peak, likelihood[i, k])
        norm = 0.0
        for k in range(classes):
            if np.isfinite(peak):
                if here[k] > 0.0 and np.isfinite(likelihood[i, k]):
                    expected[k] *= np.exp(np.float32(weight[i]) * (likelihood[i, k] - peak))
                else:
                    expected[k] = 0.0
            norm += expected[k]
        for k in range(classes):
            posterior[i, k] = expected[k] / norm if norm > 0.0 else here[k]
    return posterior
