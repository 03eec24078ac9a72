"""Change at a set rate: columns lose an atom now and then, and some time later they heal."""

from __future__ import annotations

import heapq
from typing import Protocol

import numpy as np

from latticewatch_simulator._damage import BeamDamage
from latticewatch_simulator._defects import birth_species
from latticewatch_simulator._exposure import Exposure
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._specimen import MAX_CHANGED, Specimen


class Dynamics(Protocol):
    """What changes in the specimen from frame to frame."""

    def advance(self, exposure: Exposure) -> None:
        """Make the changes that a frame is the first to show."""
        ...


class Births:
    """Births at random eligible columns of the frame, and their healing.

    Parameters
    ----------
    settings : SimulatorSettings
        Rate, species and lifetime.
    specimen : Specimen
    """

    def __init__(self, settings: SimulatorSettings, specimen: Specimen) -> None:
        self._settings = settings
        self._specimen = specimen
        self._rng = np.random.default_rng([settings.seed, 2])
        self._healing: list[tuple[int, int, int]] = []
        if settings.births_per_frame:
            species = birth_species(settings, specimen.crystal)
            self._newborn = specimen.species.index(species)
            self._hosts = specimen.kinds[self._newborn - specimen.n_hosts].hosts

    def advance(self, exposure: Exposure) -> None:
        """Heal what is due, then let defects be born."""
        if not self._settings.births_per_frame:
            return
        while self._healing and (self._healing[0][0] <= exposure.ordinal or len(self._healing) > MAX_CHANGED):
            _, column, original = heapq.heappop(self._healing)
            exposure.set(column, original)
            exposure.tell("defect.disappeared", column, self._newborn, original)
        for _ in range(self._rng.poisson(self._settings.births_per_frame)):
            self._birth(exposure)

    def _birth(self, exposure: Exposure) -> None:
        columns = exposure.columns
        intact = np.isin(columns.sublattice, self._hosts) & (columns.species < self._specimen.n_hosts)
        eligible = np.flatnonzero(intact & exposure.inside)
        if len(eligible) == 0:
            return
        at = int(self._rng.choice(eligible))
        column, original = int(columns.id[at]), int(columns.species[at])
        lifetime = int(self._rng.geometric(1 / self._settings.lifetime_frames))
        heapq.heappush(self._healing, (exposure.ordinal + lifetime, column, original))
        exposure.set(column, self._newborn)
        exposure.tell("defect.appeared", column, original, self._newborn)


def dynamics(
    settings: SimulatorSettings, specimen: Specimen, dose_e_per_a2: float, before: Dynamics | None = None
) -> Dynamics:
    """The dynamics that the settings ask for; what goes on from one scan to the next is taken from ``before``."""
    if settings.dynamics == "beam":
        damage = BeamDamage(settings, specimen, dose_e_per_a2)
        if isinstance(before, BeamDamage):
            damage.go_on_from(before)
        return damage
    return before or Births(settings, specimen)
