"""Change under the beam: columns lose an atom now and then, and some time later they heal."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from latticewatch_simulator._defects import birth_species
from latticewatch_simulator._detector import Drift
from latticewatch_simulator._scene import Scene
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._specimen import Specimen

# Changed columns that are remembered; beyond this number the one that would heal first heals at once.
MAX_CHANGED = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """A column became another species between the frame before and this one."""

    id: int
    before: str
    after: str


class Dynamics:
    """Births at random eligible columns of the frame, and their healing.

    Parameters
    ----------
    settings : SimulatorSettings
        Rate, species and lifetime.
    specimen : Specimen
        Remembers the changes, so that a place left and visited again still shows them.
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

    def advance(self, frame: int, scene: Scene, drift: Drift) -> list[Change]:
        """What changed before a frame; the scene shows it afterwards.

        Parameters
        ----------
        frame : int
            Number of the frame.
        scene : Scene
            Patched where a column changes.
        drift : Drift
            Of the frame, for what is in view.
        """
        if not self._settings.births_per_frame:
            return []
        changes = []
        while self._healing and (self._healing[0][0] <= frame or len(self._healing) > MAX_CHANGED):
            _, column, original = heapq.heappop(self._healing)
            del self._specimen.changed[column]
            changes += self._show(scene, column, original)
        for _ in range(self._rng.poisson(self._settings.births_per_frame)):
            changes += self._birth(frame, scene, drift)
        return changes

    def _birth(self, frame: int, scene: Scene, drift: Drift) -> list[Change]:
        columns, shape = scene.columns, self._settings.shape
        seen = drift.seen_at(scene.positions_px(), shape[0])
        intact = np.isin(columns.sublattice, self._hosts) & (columns.species < self._specimen.n_hosts)
        eligible = np.flatnonzero(intact & np.all((seen >= 0) & (seen <= np.array(shape) - 1), axis=1))
        if len(eligible) == 0:
            return []
        at = int(self._rng.choice(eligible))
        column = int(columns.id[at])
        lifetime = int(self._rng.geometric(1 / self._settings.lifetime_frames))
        heapq.heappush(self._healing, (frame + lifetime, column, int(columns.species[at])))
        self._specimen.changed[column] = self._newborn
        return self._show(scene, column, self._newborn)

    def _show(self, scene: Scene, column: int, species: int) -> list[Change]:
        """Patch the scene where it holds the column."""
        at = int(np.searchsorted(scene.columns.id, column))
        if at == len(scene.columns) or scene.columns.id[at] != column:
            return []
        before = self._specimen.species[scene.columns.species[at]]
        scene.change(at, species)
        return [Change(column, before, self._specimen.species[species])]
