"""The sites of one sublattice while a frame is classified."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._heights import expected_height
from latticewatch.model._local import standardise
from latticewatch.model._patches import Patches
from latticewatch.model._projection import project
from latticewatch.model._sublattice import SublatticeModel

# A host with less than this share of its sublattice is one of several populations.
CROWDED_HOST = 0.75


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
    oddity : ndarray of shape (m, n_odd_classes + 2), float64
        Probability of not being odd, of each class of odd sites, and of none of them.
    score : ndarray of shape (m,), float64
        Change of the height of the central column [sigma].
    posterior : ndarray of shape (m, n_classes + 1), float64
        Probability of each component of the mixture, host first, and of none of them.
    amplitude : ndarray of shape (m,), float64
        Change of height to be expected from that, 0 for a host.
    """

    def __init__(self, patches: Patches, sublattice: int, known: SublatticeModel) -> None:
        self.rows = np.flatnonzero(patches.sublattice == sublattice)
        # the sites of a sublattice follow one another: then nothing is copied
        together = len(self.rows) > 0 and self.rows[-1] - self.rows[0] == len(self.rows) - 1
        self._piece = slice(self.rows[0], self.rows[-1] + 1) if together else self.rows
        self._patches, self._known = patches, known
        self._projection = project(patches.moments[self._piece], self.rows, known)
        self.oddity = known.oddities.posteriors_of(self._projection.residual, self._projection.squared)
        self._host = np.ones(len(self.rows), bool)
        self.score = self.amplitude = np.zeros(0)
        self.posterior = np.zeros((0, 0))
        self.judge(np.zeros(len(patches.moments)))

    def judge(self, amplitude: NDArray[np.float64]) -> None:
        """Think again, now that something is known of the neighbours.

        Parameters
        ----------
        amplitude : ndarray of shape (n,), float64
            Change of height at every site of the frame.
        """
        patches, known, piece = self._patches, self._known, self._piece
        alone = self._projection.scores(amplitude, patches.index)
        self.score = standardise(
            alone,
            patches.position[piece],
            patches.frame[piece],
            self._host,
            patches.shape,
            crowded=known.mixture.weight[0] < CROWDED_HOST,
        )
        self.posterior = known.mixture.posteriors(self.score)
        self.amplitude = expected_height(self.score, self.posterior, known.mixture, known.filter)
        self._host = self.posterior[:, 0] > 0.5
