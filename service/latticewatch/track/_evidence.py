"""What the frames together say about each site: an average that sharpens, and a change-point test that forgets."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from latticewatch.track import _reading, _segments
from latticewatch.track._map import TrackMap
from latticewatch.track._priors import follow_priors
from latticewatch.track._shares import share_out
from latticewatch.track._states import FLOOR, States

# Frames averaged at most: more would hold on to a slow distortion of the scan longer.
WINDOW_FRAMES = 30
# Repeatability and the typical look of a state are forgotten by this factor a frame, and known from so many sites.
FADE = 0.98
MIN_SITES = 30
# Correlations of this size are within the error of their estimate.
MIN_REPEATABILITY = 0.02
# Frames that a further look is reckoned to bring.
LOOK_FRAMES = 10
# Chance that a site changes between two frames, whatever the setting of false events asks for.
LEAST_CHANGE, MOST_CHANGE = 1e-12, 1e-2


class Evidence:
    """Priors of the classes, how much of a frame's evidence is new, and what every site was and may have become.

    Notes
    -----
    The frames of a site are cut into segments within which it does not change: Bayesian change-point detection (Adams
    and MacKay 2007, arXiv:0710.3742) with two hypotheses kept of all. Either it is what it was: then the frames of
    its *run* are averaged and the posterior sharpens with their number. Or it has changed lately: since the moment that
    makes this likeliest, log-likelihood ratios against what it was are summed up (the cumulative sum of Page 1954), and
    the odds of a change are ε × prior × exp(sum), ε being the chance that a site changes between two frames. When a
    change is sure, the run starts anew with the frames that spoke for it. For sites that do not change, the sum exceeds
    h in a share of exp(−h) of the frames at most (Lorden 1971), which is what makes ε a rate of false alarms.

    Frames are not quite independent: strain, contamination and neighbours move a site's moments by the same amount in
    each of them, and a recorded frame that is sent again brings nothing new at all. If a share ρ of the variance of the
    log-likelihood ratios repeats, then T frames hold the evidence of T′ = 1 / (ρ + (1 − ρ)/T) independent ones, and
    their mean counts T′ times. What repeats is no change either: of the deviation of a site from its kind, the share
    ρT′ is expected to go on, and is taken off the sum. ρ is the correlation between successive frames over sites that
    are intact.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the priors and the repeatability, as at a new series."""
        self._prior = self._frequency = np.zeros((0, 0))
        self._possible = np.zeros((0, 0), bool)
        self._class_ids: NDArray[np.int16] | None = None
        self._states: States | None = None
        self._moments = np.zeros((0, 0, 6))
        self._means = np.zeros((0, 0, 0))
        self._state_prior = self._log_prior = np.zeros((0, 0))
        self._repeatability = 0.0
        self.change = LEAST_CHANGE

    @property
    def states(self) -> States:
        """States of the classes of the newest frame."""
        assert self._states is not None
        return self._states

    @property
    def repeatability(self) -> float:
        """Share ρ of the variance of the log-likelihood ratios that repeats from frame to frame, 0 to 1."""
        shares = []
        for n, a, b, aa, bb, ab in self._moments.reshape(-1, 6).tolist():
            if n >= MIN_SITES:
                spread = math.sqrt(max(aa - a * a / n, 0.0) * max(bb - b * b / n, 0.0))
                if spread > 1e-6 * n:
                    shares.append((ab - a * b / n) / spread)
        if not shares:
            return self._repeatability  # the classes are new ones: what was measured before
        value = sum(shares) / len(shares)
        return 0.0 if value < MIN_REPEATABILITY else min(value, 1.0)

    def single_frame(
        self,
        posterior: NDArray[np.float32],
        row: NDArray[np.int64],
        class_ids: NDArray[np.int16],
        roles: tuple[str, ...],
        log_prior: NDArray[np.floating] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What one frame says by itself; the priors follow it.

        Parameters
        ----------
        posterior : ndarray of shape (n, n_classes), float32
            As observed.
        row : ndarray of shape (n,), int64
            Sublattice of each site + 1.
        log_prior : ndarray of shape (n_classes,) or None
            As observed.

        Returns
        -------
        value : ndarray of shape (n, n_states), float32
            Log-likelihood of each state, the best of a site being 0; NaN where the frame says nothing.
        evident : ndarray of shape (n,), bool
            Probably a defect.
        """
        states = States.of(roles)
        rows = int(row.max(initial=0)) + 1
        value, total, evident = _reading.add_up(posterior, row, states.of_column, rows, states.n)
        if not (
            states.same(self._states)
            and np.array_equal(class_ids, self._class_ids)  # type: ignore[arg-type]
            and self._prior.shape == total.shape
        ):
            self._class_ids = class_ids
            self._possible = np.zeros(total.shape, bool)
            self._frequency, self._prior = np.zeros((2, *total.shape))
            self._moments = np.zeros((rows, states.n, 6))
            self._means = np.zeros((rows, states.n, states.n + 1))
        given = np.zeros(0) if log_prior is None else np.exp(log_prior - np.max(log_prior)).astype(float)
        unknown = states.of_column == states.n - 1
        follow_priors(total, given, unknown, self._possible, self._frequency, self._prior)
        self._state_prior = states.priors(self._prior)
        with np.errstate(divide="ignore"):
            self._log_prior = np.log(self._state_prior)
        self._states = states
        _reading.weigh(value, row, self._log_prior)
        return value, evident

    def priors(self, sublattice: NDArray[np.int16], state: int) -> NDArray[np.float64]:
        """Prior of a state on each of some sublattices, 0 where it cannot be.

        Nor can it be on sublattices that the newest frame has no more: their tracks are of another lattice.
        """
        row, n = sublattice.astype(np.int64) + 1, len(self._state_prior)
        return np.where(row < n, self._state_prior[np.minimum(row, n - 1), state], 0.0)

    def expected_defects(self, row: NDArray[np.int64]) -> float:
        """How many defects the priors let expect on sites of these sublattices + 1."""
        sites = np.bincount(row, minlength=len(self._state_prior))
        return float(sites @ self._state_prior[:, 1:-1].sum(axis=1))

    def fold(
        self,
        tracks: TrackMap,
        index: NDArray[np.int64],
        value: NDArray[np.float32],
        posterior: NDArray[np.float32],
        row: NDArray[np.int64],
        now: int,
    ) -> None:
        """Take in a frame: what is known of its sites is known of their tracks afterwards.

        Parameters
        ----------
        index : ndarray of shape (n,), int64
            Track of each site, as a row of the map; -1 for none.
        value : ndarray of shape (n, n_states), float32
            Of `single_frame`.
        posterior : ndarray of shape (n, n_classes), float32
            As observed.
        row : ndarray of shape (n,), int64
            Sublattice of each site + 1.
        now : int
            Time of the frame, later than those at which the tracks were last seen.
        """
        log_prior = self._log_prior
        self._moments *= FADE
        self._means *= FADE
        _segments.gather(
            value,
            row,
            index,
            now,
            tracks.last_seen,
            log_prior,
            self._repeatability,
            tracks.known,
            tracks.run_frames,
            self._moments,
            self._means,
        )
        self._repeatability = repeated = self.repeatability
        count = self._means[..., -1:]
        typical = np.where(count < MIN_SITES, np.nan, self._means[..., :-1] / np.maximum(count, 1e-9))
        belief = _segments.step(
            value,
            row,
            index,
            now,
            tracks.last_seen,
            log_prior,
            typical,
            self.change,
            repeated,
            self._window(repeated),
            tracks.known,
            tracks.run_frames,
            tracks.recent_frames,
        )
        share_out(belief, posterior, row, index, self.states.of_column, self._prior, tracks.posterior)

    def inform(
        self,
        tracks: TrackMap,
        rows: NDArray[np.intp],
        posterior: NDArray[np.float32],
        states: States,
        log_prior: NDArray[np.floating],
        new: NDArray[np.bool_],
    ) -> None:
        """Take over what the frames of some tracks say together, where nothing speaks for a change.

        What the frames said one by one stays known, since it tells how a site stands from its kind; what they say
        together beyond that is added to what each of them says. Of a state that is new, they have not said anything.

        Parameters
        ----------
        rows : ndarray of shape (n,), intp
            Rows of the map.
        posterior : ndarray of shape (n, n_classes), float32
        states : States
            Of these classes.
        log_prior : ndarray of shape (n_classes,)
        new : ndarray of shape (n_states,), bool
            States of classes that the frames before were not judged by.
        """
        row = tracks.sublattice[rows].astype(np.int64) + 1
        n_rows = int(row.max(initial=0)) + 1
        value, total, _ = _reading.add_up(posterior, row, states.of_column, n_rows, states.n)
        prior, frequency = np.zeros(total.shape), np.zeros(total.shape)
        given = np.exp(log_prior - np.max(log_prior)).astype(float)
        unknown = states.of_column == states.n - 1
        follow_priors(total, given, unknown, np.zeros(total.shape, bool), frequency, prior)
        with np.errstate(divide="ignore"):
            state_prior = np.log(states.priors(prior))
        _reading.weigh(value, row, state_prior)
        sure = (tracks.recent_frames[rows] == 0) & (tracks.run_frames[rows] > 0) & ~np.isnan(value[:, 0])
        rows, value = rows[sure], value[sure]
        frames = _segments.independent_frames(tracks.run_frames[rows], self._repeatability)
        each = value / frames[:, None]
        run = np.where(new, each, tracks.known[rows, _segments.RUN])
        tracks.known[rows, _segments.RUN] = run
        # For each frame, so that it counts as much as they do when it turns out that they repeat more, or less. What
        # neither they nor their average hold for likely is not raised: a little that later frames say otherwise, times
        # their number, would make it so.
        more = each - run
        tracks.known[rows, _segments.MORE] = np.where(value > -_segments.SETTLED, more, np.minimum(more, 0.0))
        tracks.known[rows, _segments.BASE] = np.maximum(state_prior[row[sure]], FLOOR)

    def prospect(self, run_frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """By what factor `LOOK_FRAMES` more frames would raise the evidence of sites that have been seen in some.

        Parameters
        ----------
        run_frames : ndarray of shape (n,), int64
            Of the map.

        Returns
        -------
        ndarray of shape (n,), float32
            1 for a site of which as many frames are averaged as count.
        """
        seen = np.maximum(run_frames, 1)
        later = np.maximum(np.minimum(seen + LOOK_FRAMES, self._window(self._repeatability)), seen)
        factor = _segments.independent_frames(later, self._repeatability) / _segments.independent_frames(
            seen, self._repeatability
        )
        return factor.astype(np.float32)

    def settle(self, tracks: TrackMap, row: int, state: int, certainty: float) -> None:
        """Take a change of one track for certain: from here on it is what the last frames said."""
        sublattice_row = int(tracks.sublattice[row]) + 1
        _segments.begin(
            row,
            state,
            self._log_prior,
            sublattice_row,
            self._repeatability,
            tracks.known,
            tracks.run_frames,
            tracks.recent_frames,
        )
        belief = np.full(self.states.n, (1 - certainty) / (self.states.n - 1))
        belief[state] = certainty
        columns = self.states.of_column
        share = tracks.posterior[row].astype(float)
        for s in range(self.states.n):
            mine = columns == s
            total = share[mine].sum()
            share[mine] = belief[s] * (share[mine] / total if total > 0 else 1 / max(mine.sum(), 1))
        tracks.posterior[row] = share

    @staticmethod
    def _window(repeated: float) -> int:
        return max(WINDOW_FRAMES, int(1 / repeated)) if repeated else WINDOW_FRAMES


def false_alarm_change(false_per_frame: float, defects: float, appear_above: float) -> float:
    """Chance of a change ε with which so many false events are expected in a frame.

    Parameters
    ----------
    false_per_frame : float
    defects : float
        Expected on the sites in view: a site turns into one, or a defect into no defect, by mistake in a share of
        ε × prior × (1 / appear_above − 1) of the frames at most, in either direction.
    appear_above : float
        Probability from which a change is reported.
    """
    doubt = 1 / appear_above - 1
    return min(max(false_per_frame / (2 * max(defects, 1.0) * doubt), LEAST_CHANGE), MOST_CHANGE)
