"""Classes as centroids with spreads and priors, and the posteriors that follow: what decides, without what learns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.estimators._posteriors import posteriors

NONE, NOTHING = np.zeros(0), np.zeros((0, 0))


@dataclass(frozen=True, slots=True, eq=False)
class ClassTable:
    """Where classes are in a space of whitened axes.

    Attributes
    ----------
    centroids : ndarray of shape (k, n_axes), float64
        NaN along the last axes where a class says nothing of them: it is there as those are that do.
    spreads : ndarray of shape (k, n_axes), float64
        Standard deviations; infinite where a class may be anywhere.
    reaches : ndarray of shape (k,), float64
        Length, area or volume of this *anywhere*.
    stretches : ndarray of shape (k,), float64
        What the error of a row is multiplied by for each class.
    priors : ndarray of shape (k,), float64
        Not negative.
    """

    centroids: NDArray[np.float64]
    spreads: NDArray[np.float64]
    reaches: NDArray[np.float64]
    stretches: NDArray[np.float64]
    priors: NDArray[np.float64]

    @classmethod
    def of(
        cls, centroids: NDArray[np.float64], priors: NDArray[np.float64], spread: float = 1.0
    ) -> ClassTable:
        """Classes that all scatter alike.

        Parameters
        ----------
        centroids : ndarray of shape (k, n_axes), float64
        priors : ndarray of shape (k,), float64
        spread : float, optional
            Standard deviation along every axis.

        Returns
        -------
        ClassTable
        """
        k = len(centroids)
        return cls(centroids, np.full(centroids.shape, spread), np.ones(k), np.ones(k), priors)

    def __len__(self) -> int:
        return len(self.centroids)

    def joined(self, other: ClassTable) -> ClassTable:
        """The classes of both, these first.

        Parameters
        ----------
        other : ClassTable
            On the same axes.

        Returns
        -------
        ClassTable
        """
        return ClassTable(
            np.concatenate([self.centroids, other.centroids]),
            np.concatenate([self.spreads, other.spreads]),
            np.concatenate([self.reaches, other.reaches]),
            np.concatenate([self.stretches, other.stretches]),
            np.concatenate([self.priors, other.priors]),
        )

    def rescaled(self, axes: slice, scale: NDArray[np.float64]) -> ClassTable:
        """The same where the unit along some axes is another.

        Parameters
        ----------
        axes : slice
        scale : ndarray
            The new unit along each of them, in old ones.

        Returns
        -------
        ClassTable
        """
        centroids = self.centroids.copy()
        centroids[:, axes] /= scale
        return replace(self, centroids=centroids)

    @property
    def logarithms(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of reaches and of priors, as the kernel takes them; that of no prior is minus infinity."""
        with np.errstate(divide="ignore"):
            return np.log(self.reaches), np.log(self.priors)

    def posteriors(
        self,
        x: NDArray[np.float64],
        *,
        error: NDArray[np.float64] | None = None,
        offset: NDArray[np.float64] | None = None,
        into: NDArray[np.int64] | None = None,
        width: int = 0,
    ) -> NDArray[np.float64]:
        """Posterior of each class, by Bayes' rule for normal distributions about the centroids.

        Parameters
        ----------
        x : ndarray of shape (n, n_axes), float64
            Whitened. NaN where an axis was not measured: it decides nothing there.
        error : ndarray of shape (n,), float64, optional
            Standard deviation of what is not known of the first axis, beside the spread of every class.
        offset : ndarray of shape (n, k), float64, optional
            Added to the logarithm of each density: what of it depends on the row.
        into : ndarray of shape (k,), int64, optional
            Column that each class is added to; one of its own if not given.
        width : int, optional
            Number of columns, with `into`.

        Returns
        -------
        ndarray of shape (n, k) or (n, width), float64
            Rows sum to one.
        """
        return posteriors(
            x,
            NONE if error is None else error,
            NOTHING if offset is None else offset,
            self.centroids,
            self.spreads,
            self.stretches,
            *self.logarithms,
            np.arange(len(self)) if into is None else into,
            len(self) if into is None else width,
        )
