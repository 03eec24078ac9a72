"""Synthetic observations for the tracker: a two-column crystal with defects, drift and noise of a set d'."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from latticewatch.track import Observation

CLASS_IDS = np.array([0, 1, 2, 3, 4, -1], np.int16)
ROLES = ("host", "host", "defect", "defect", "neighbour", "unknown")
HOSTS, VACANCY, PAIR, NEIGHBOUR, UNKNOWN = (0, 1), 2, 3, 4, 5
# Classes 0 and 4 are of sublattice 0; 1, 2 and 3 of sublattice 1.
SUBLATTICE = np.array([0, 1, 1, 1, 0, -1])
PRIOR = np.array([0.97, 0.96, 0.02, 0.01, 0.02, 1e-3])
SPACING = 24.0
VECTORS = SPACING * np.array([[0.0, 1.0], [np.sqrt(3) / 2, 0.5]])


def softmax(value):
    """Probabilities in place of their logarithms, but for a constant."""
    posterior = np.exp(value - value.max(axis=1, keepdims=True, initial=-1e3))
    return (posterior / posterior.sum(axis=1, keepdims=True)).astype(np.float32)


def without(observation, columns):
    """What an observation would be if its model had no other classes than those of some columns."""
    posterior = observation.posterior[:, columns].astype(float)
    return dataclasses.replace(
        observation,
        posterior=(posterior / posterior.sum(axis=1, keepdims=True)).astype(np.float32),
        class_ids=observation.class_ids[columns],
        roles=tuple(observation.roles[k] for k in columns),
        log_prior=observation.log_prior[columns],
    )


@dataclass
class Scene:
    """A crystal, its defects, and where the frame lies on it."""

    rng: np.random.Generator
    shape: tuple[int, int] = (512, 512)
    separation: float = 3.0
    n_defects: int = 20
    margin: float = 20.0
    cells: int = 90
    series_id: str = "s"
    jitter_px: float = 0.3
    repeated: float = 0.0
    drift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    stage: tuple[float, float] | None = None
    axes: np.ndarray | None = None
    number: int = 0

    def __post_init__(self):
        i, j = np.meshgrid(
            np.arange(-self.cells, self.cells), np.arange(-self.cells, self.cells), indexing="ij"
        )
        origin = np.stack([i.ravel(), j.ravel()], axis=1) @ VECTORS + np.array(self.shape) / 2
        self.specimen = np.concatenate([origin, origin + VECTORS.sum(axis=0) / 3])
        self.sublattice = np.repeat(np.array([0, 1], np.int16), len(origin))
        self.state = np.where(self.sublattice == 0, 0, 1)
        self.deviation = self.rng.normal(size=(len(self.state), len(PRIOR))) if self.repeated else None
        if self.n_defects:
            # The set number in a frame's area, as many per area elsewhere.
            area = np.prod(self.shape) / abs(np.linalg.det(VECTORS))
            chance = self.n_defects / area
            sites = (self.sublattice == 1) & (self.rng.random(len(self.state)) < chance)
            self.state[sites] = self.rng.choice([VACANCY, PAIR], sites.sum(), p=[0.7, 0.3])

    def visible(self, margin=None):
        """Sites in the frame."""
        margin = self.margin if margin is None else margin
        at = self.specimen + self.drift
        inside = (at > margin) & (at < np.array(self.shape) - margin)
        return np.flatnonzero(inside.all(axis=1))

    def defects(self, margin=None):
        """Defects in the frame."""
        seen = self.visible(margin)
        return seen[np.isin(self.state[seen], (VACANCY, PAIR))]

    def site_of(self, position):
        """The site of the crystal that is nearest to a position in the frame."""
        return int(np.hypot(*(self.specimen + self.drift - np.asarray(position)).T).argmin())

    def likelihood(self, sites):
        """log p of Gaussian classes, ``separation`` sigma apart along an axis of their own.

        Of the variance, the share ``repeated`` is the same in every frame.
        """
        state = self.state[sites]
        feature = self.rng.normal(size=(len(state), len(PRIOR)))
        if self.deviation is not None:
            feature = np.sqrt(1 - self.repeated) * feature + np.sqrt(self.repeated) * self.deviation[sites]
        feature[np.arange(len(state)), state] += np.where(state < 2, 0.0, self.separation)
        # log N(x; centre_k) − log N(x; 0): the host sits at the origin, each defect on its own axis.
        value = self.separation * feature - self.separation**2 / 2
        value[:, :2] = 0.0
        value[:, UNKNOWN] = -6.0
        return value

    def frame(self, likelihood=None, order=None):
        """The next observation, its sites in random order, and which site of the crystal each of them is."""
        seen = self.rng.permutation(self.visible()) if order is None else order
        value = self.likelihood(seen) if likelihood is None else likelihood
        value = value + np.log(PRIOR)
        other = (SUBLATTICE >= 0) & (self.sublattice[seen][:, None] != SUBLATTICE)
        value = np.where(other, -np.inf, value)
        self.number += 1
        position = self.specimen[seen] + self.drift
        position = position + self.rng.normal(size=position.shape) * self.jitter_px
        observation = Observation(
            self.series_id,
            self.number,
            self.number,
            self.shape,
            np.zeros(self.shape, np.float32),
            VECTORS.copy(),
            position,
            self.sublattice[seen],
            softmax(value),
            CLASS_IDS,
            ROLES,
            self.stage,
            np.log(PRIOR),
            axes=self.axes,
        )
        return observation, seen
