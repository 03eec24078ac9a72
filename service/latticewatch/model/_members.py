"""The sites of one sublattice while a frame is classified."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._classes import site_classes
from latticewatch.model._judged import SURE, Around, displaced, judged, likely_of_height
from latticewatch.model._local import WINDOWS
from latticewatch.model._oddities import squared_lengths
from latticewatch.model._patches import Patches
from latticewatch.model._projection import Projection, doubt, project
from latticewatch.model._shared import SharedChange, shared_change
from latticewatch.model._shifts import ECHO_ERROR, GLARE_REACH, glare
from latticewatch.model._sources import Fitted, explanations_of, fitted, sureness
from latticewatch.model._sublattice import SublatticeModel
from latticewatch.model._templates import FARTHEST

# All places between the columns are looked at only where there are so many of them, beside columns of one sublattice.
MANY_VOIDS = 0.5


class Members:
    """Patches of one sublattice, projected, and what is thought of them.

    Parameters
    ----------
    patches : Patches
        Of the frame.
    sublattice : int
    known : SublatticeModel

    Attributes
    ----------
    rows : ndarray of shape (m,), intp
        Which of the patches they are.
    left_over : ndarray of shape (m, n_odd_axes + 1), float64
        Where it is along the axes of odd patches, see `Oddities.left_over`; without columns between the columns.
    score : ndarray of shape (m,), float64
        Change of the height of the central column [sigma].
    posterior : ndarray of shape (m, n_classes + 1), float64
        Probability of each component of the mixture, host first, and of none of them, by the height alone; of what is
        surely host, 1.
    amplitude : ndarray of shape (m,), float64
        Change of height to be expected from that, 0 for a host.
    corrected : bool
        Whether something was taken off the patches.
    z : ndarray of shape (m, 2), float64
        Displacement of the central column, in the units of its filter.
    scale : ndarray of shape (2,), float64
        Standard deviation of the hosts in these units.
    unsure : ndarray of shape (m,), float64
        Standard deviation of the error of the score, that of a host being 1.
    noise : float
        Standard deviation of the patches of this frame, that of the frames learnt from being 1. Of columns it is
        measured; between them, where only what is lit is looked at, it is to be told.
    """

    def __init__(self, patches: Patches, sublattice: int, known: SublatticeModel) -> None:
        self.rows = np.flatnonzero(patches.sublattice == sublattice)
        # the sites of a sublattice follow one another: then nothing is copied
        together = len(self.rows) > 0 and self.rows[-1] - self.rows[0] == len(self.rows) - 1
        self._piece = slice(self.rows[0], self.rows[-1] + 1) if together else self.rows
        self._patches, self._known = patches, known
        self._classes = site_classes(known)
        self.void = known.templates.void
        self._few = self.void and len(self.rows) < MANY_VOIDS * (patches.sublattice == 0).sum()
        self._moments, self.corrected = patches.moments[self._piece], False
        self._shared: SharedChange | None = None
        self._profile_doubt: NDArray[np.float64] | None = None
        self._projection = project(self._moments, self.rows, known)
        if not self.void:
            self._shared = shared_change(self._projection.residual, known.oddities)
            self._projection = self._without_shared(self._projection)
            self._doubt_profile()
        self.left_over = self._left_over(self._projection.residual, self._projection.squared)
        self._around = Around(
            self.rows,
            patches.position[self._piece],
            patches.frame[self._piece],
            patches.index,
            float(patches.shape[0]),
            float(patches.shape[1]),
            *WINDOWS,
            few=self._few,
        )
        self._host, self._wider = np.ones(len(self.rows), bool), np.ones(len(self.rows))
        self._echo = np.zeros(len(self.rows))
        self.score = self.amplitude = self.unsure = np.zeros(0)
        self.noise = 1.0 if self._shared is None else self._shared.scale
        self._gain = np.zeros(len(self.rows))
        self.posterior = np.zeros((0, 0))
        self.z, self.scale = np.zeros((0, 2)), np.ones(2)
        self.judge(np.zeros(len(patches.moments)))
        self._lit = np.flatnonzero(self.amplitude > 0.0)

    def judge(self, amplitude: NDArray[np.float64]) -> None:
        """Think again, now that something is known of the neighbours.

        Parameters
        ----------
        amplitude : ndarray of shape (n,), float64
            Change of height at every site of the frame.
        """
        if not len(self.rows):
            self.posterior = np.zeros((0, len(self._known.mixture.mean) + 1))
            return
        seen = self._projection
        self.score, self.posterior, self.amplitude, self._host, self._wider = judged(
            seen.height,
            seen.response,
            seen.gram,
            seen.doubt,
            amplitude,
            self._echo,
            self._host,
            self._around,
            self._classes.heights,
        )
        self.unsure = self._wider

    def classified(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each class that the sites may be of, in the order of `SiteClasses`.

        Parameters
        ----------
        shift : ndarray of shape (n, 2), float64
            Displacement of the columns of the frame [px]; those without one are in their place.

        Returns
        -------
        ndarray of shape (m, n_columns), float64
        """
        moved = np.asarray(shift[self.rows].any(1))
        height = np.maximum(self.score, self._classes.heights.least)
        return self._classes.of_sites(height, self._wider, self.left_over, self.z, self.scale, moved)

    def displace(self, amplitude: NDArray[np.float64]) -> None:
        """Measure how far the columns are from their places, and how odd they are beside what is known of the others.

        Parameters
        ----------
        amplitude : ndarray of shape (n,), float64
            Change of height at every site of the frame.
        """
        if not len(self.rows):
            return
        seen = self._projection
        self.z, self.scale, unsure = displaced(
            seen.shift,
            seen.doubt,
            amplitude,
            self._echo,
            self._host,
            float(self._known.gate),
            self._around,
        )
        if not self._few:
            self._doubt_oddity(amplitude, unsure)

    def _doubt_oddity(self, amplitude: NDArray[np.float64], unsure: NDArray[np.float64]) -> None:
        if self._profile_doubt is not None:
            # of oddness alone: the height of a class is what it was
            around = doubt(amplitude, self.rows, self._patches.index, self._profile_doubt)
            unsure = np.hypot(around, self._echo)
        some = np.flatnonzero(unsure > SURE)
        if len(some):
            residual, by = self._projection.residual[some], unsure[some]
            squared = self._projection.squared[some] / by**2
            self.left_over[some] = self._left_over(residual / by[:, None], squared)

    @property
    def lit(self) -> bool:
        """Whether something may stand at any of these places between the columns."""
        return self.void and len(self._lit) > 0

    def dazzle(self, extra: NDArray[np.float64]) -> None:
        """Be less sure of places between the columns near something bright.

        Parameters
        ----------
        extra : ndarray of shape (n,), float64
            Height of what stands at every place of the frame.
        """
        known = self._known
        reach = GLARE_REACH * known.templates.farthest_px / FARTHEST
        light = glare(self._patches.position, self.rows, extra, reach)
        self._echo = np.hypot(self._echo, light / known.filter.height_of_sigma)

    def sources(self) -> tuple[NDArray[np.intp], Fitted]:
        """An atom fitted to each place between the columns where something is, and the rows of these places."""
        lit, known = self._lit, self._known
        whitened = (self._moments[lit] - known.filter.mean) @ known.whitening
        found = fitted(whitened, explanations_of(known), np.hypot(self.noise, self._echo[lit]))
        self._gain[lit] = found.gain
        score = known.mixture.mean[0] + found.height / (self.noise * known.filter.height_of_sigma)
        there = likely_of_height(score, self._classes.heights)[:, 0] < 0.5
        return self.rows[lit], replace(found, height=np.where(there, found.height, 0.0))

    def settle(self, extra: NDArray[np.float64]) -> None:
        """Believe what stands at places between the columns, as high as it is where it is, and nothing else there.

        Parameters
        ----------
        extra : ndarray of shape (n,), float64
            Height of what stands at every place of the frame, 0 where nothing does.
        """
        known = self._known
        host, height = float(known.mixture.mean[0]), extra[self.rows]
        measured = host + height / known.filter.height_of_sigma
        self.score = np.where(height > 0.0, measured, np.minimum(self.score, host))
        self._wider = np.ones(len(self.rows))
        # noise is more beside a bright column than in the middle of a place, where its standard deviation is from
        sure = np.maximum(sureness(self._gain), 1.0)
        self.unsure = np.maximum(np.where(height > 0.0, (measured - host) / sure, 1.0), 1.0)
        self.posterior = likely_of_height(self.score, self._classes.heights)
        self.amplitude = height

    def correct(
        self, change: NDArray[np.float64], which: NDArray[np.intp], error: float = ECHO_ERROR
    ) -> None:
        """Take something off the moments of some of the sites, those that see what is displaced or off the lattice.

        Parameters
        ----------
        change : ndarray of shape (q, n_moments), float64
        which : ndarray of shape (q,), intp
            Rows among the members.
        error : float, optional
            Share of it that may be wrong.
        """
        if not self.corrected:
            self._moments, self.corrected = self._moments.copy(), True
        self._moments[which] -= change
        echo = error * np.linalg.norm(change @ self._known.whitening, axis=1)
        self._echo[which] = np.hypot(self._echo[which], echo)
        other = self._without_shared(project(self._moments[which], self.rows[which], self._known))
        mine = self._projection
        for name in ("height", "shift", "residual", "squared"):
            getattr(mine, name)[which] = getattr(other, name)
        self.left_over[which] = self._left_over(other.residual, other.squared)

    def _without_shared(self, projection: Projection) -> Projection:
        """What is left over without what all hosts of this frame have."""
        if self._shared is None:
            return projection
        residual = self._shared.taken_off(projection.residual)
        return replace(projection, residual=residual, squared=squared_lengths(residual))

    def _doubt_profile(self) -> None:
        """Columns look other than those learnt from by what hosts share: so do those that changed, next door."""
        if self._shared is None:
            return
        norm = np.sqrt(np.diag(self._projection.gram))
        share = float(np.linalg.norm(self._shared.offset)) / max(
            self._known.templates.height * float(norm[0]), 1e-12
        )
        self._profile_doubt = np.hypot(self._projection.doubt, share * norm)

    def _left_over(self, residual: NDArray[np.floating], squared: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.void:
            # whatever is there is told by its height
            return np.zeros((len(residual), 0))
        return self._known.oddities.left_over(residual, squared)
