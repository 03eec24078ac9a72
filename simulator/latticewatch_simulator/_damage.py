"""What the beam does to a specimen: atoms are knocked out, vacancies hop, gather and heal, adatoms diffuse.

Every process has a cross-section σ: in a frame of dose D (electrons per area) it happens to a column with the
probability 1 − exp(−σD). The hops of vacancies are Kawasaki dynamics: a vacancy with n others beside it, in its own
column or on the nearest sites of its sublattice, is bound by n·ln(attraction) in units of kT, and a hop that changes n
by Δn goes attraction^(Δn/2) times as fast as one that does not, so that pairs and lines form and dissolve in balance.

Orders of magnitude: displacement of chalcogens at 60 to 80 kV takes 0.1 to 2 barn (1 barn = 1e-8 Å²; Komsa et al. 2012,
doi:10.1103/PhysRevLett.109.035503), and vacancies are seen to migrate and gather into lines under the same beam (Komsa
et al. 2013, doi:10.1103/PhysRevB.88.035301), at rates that depend on residual gas and
temperature as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from latticewatch_simulator._defects import ADATOM, substitute_species, vacancy_steps
from latticewatch_simulator._exposure import Exposure
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._specimen import MAX_CHANGED, Specimen


class BeamDamage:
    """The processes that the beam drives in the columns of a frame.

    Parameters
    ----------
    settings : SimulatorSettings
        Cross-sections and attraction.
    specimen : Specimen
    dose_e_per_a2 : float
        Of one frame.
    """

    def __init__(self, settings: SimulatorSettings, specimen: Specimen, dose_e_per_a2: float) -> None:
        self._settings, self._specimen, self._dose = settings, specimen, dose_e_per_a2
        self._rng = np.random.default_rng([settings.seed, 4])
        steps = vacancy_steps(settings, specimen.crystal)
        first = specimen.species.index(steps[0])
        self._hosts = specimen.kinds[first - specimen.n_hosts].hosts
        host = specimen.species.index(specimen.crystal.species[self._hosts[0]])
        # Species of a column by the atoms that it has lost.
        self._chain = [host, *map(specimen.species.index, steps)]
        self._substitute = None
        if settings.substitution_a2 or settings.replacement_a2:
            self._substitute = specimen.species.index(substitute_species(settings, specimen.crystal))

    def advance(self, exposure: Exposure) -> None:
        """Let one frame's dose act; a column changes once at most."""
        columns, touched = exposure.columns, set[int]()
        mine = np.isin(columns.sublattice, self._hosts) & exposure.inside
        vacant = columns.id[mine & np.isin(columns.species, self._chain[1:])].tolist()
        adatoms = columns.id[(columns.sublattice == ADATOM) & exposure.inside].tolist()
        whole = columns.id[mine & (columns.species == self._chain[0])].tolist()
        for column in vacant:
            if column not in touched:
                touched.update(self._vacancy(exposure, column, touched))
        self._knock_out(exposure, [*whole, *vacant], touched)
        self._replace(exposure, whole, touched)
        for column in adatoms:
            self._diffuse(exposure, column)
        self._forget(exposure)

    def go_on_from(self, before: BeamDamage) -> None:
        """Take up the random numbers of the scan before."""
        self._rng = before._rng

    def strike(self, exposure: Exposure, doses: Mapping[int, float]) -> None:
        """Let the standing beam act.

        Parameters
        ----------
        exposure : Exposure
            The next frame, which is the first to show it.
        doses : mapping of int to float
            Dose of each column that was hit, by its identity [e/A^2].
        """
        frame_dose, touched = self._dose, set[int]()
        try:
            for column, self._dose in doses.items():
                lost = self._lost(exposure, column)
                if column in touched or lost is None:
                    continue
                if lost:
                    touched.update(self._vacancy(exposure, column, touched))
                self._knock_out(exposure, [column], touched)
                if lost == 0:
                    self._replace(exposure, [column], touched)
        finally:
            self._dose = frame_dose

    def _vacancy(self, exposure: Exposure, column: int, touched: set[int]) -> Iterable[int]:
        """One of the things that a vacancy may do in a frame; the columns that it changed."""
        settings, lost = self._settings, self._lost(exposure, column)
        assert lost is not None
        targets = [
            (target, level)
            for target in self._specimen.neighbours(column).tolist()
            if target not in touched
            and (level := self._lost(exposure, target)) is not None
            and level + 1 < len(self._chain)
        ]
        bound = self._beside(exposure, column) + lost - 1
        hop = lost * settings.hop_a2 / len(self._specimen.neighbours(column))
        hops = [
            hop * settings.attraction ** ((self._beside(exposure, t) - 1 + n - bound) / 2) for t, n in targets
        ]
        fill = settings.substitution_a2 if lost == 1 else 0.0
        rates = np.array([lost * settings.healing_a2, fill, *hops])
        if not self._happens(float(rates.sum())):
            return ()
        what = int(self._rng.choice(len(rates), p=rates / rates.sum()))
        if what == 0:
            self._turn(exposure, column, lost, lost - 1)
        elif what == 1:
            assert self._substitute is not None
            exposure.set(column, self._substitute)
            exposure.tell("defect.reclassified", column, self._chain[1], self._substitute)
        else:
            target, level = targets[what - 2]
            self._hop(exposure, column, lost, target, level)
            return column, target
        return (column,)

    def _hop(self, exposure: Exposure, column: int, lost: int, target: int, level: int) -> None:
        """A vacancy goes to a neighbouring column: a move, unless either of the two holds another one as well."""
        if (lost, level) != (1, 0):
            self._turn(exposure, column, lost, lost - 1)
            self._turn(exposure, target, level, level + 1)
            return
        exposure.set(column, self._chain[0])
        exposure.set(target, self._chain[1])
        exposure.tell("defect.moved", target, self._chain[1], self._chain[1], origin=column)

    def _turn(self, exposure: Exposure, column: int, lost: int, then: int) -> None:
        """A column loses an atom, or gets one back."""
        before, after = self._chain[lost], self._chain[then]
        exposure.set(column, after)
        kind = (
            "defect.appeared" if lost == 0 else "defect.disappeared" if then == 0 else "defect.reclassified"
        )
        exposure.tell(kind, column, before, after)

    def _knock_out(self, exposure: Exposure, columns: list[int], touched: set[int]) -> None:
        for column in self._chosen(columns, self._settings.creation_a2):
            lost = self._lost(exposure, column)
            if column not in touched and lost is not None and lost + 1 < len(self._chain):
                self._turn(exposure, column, lost, lost + 1)
                touched.add(column)

    def _replace(self, exposure: Exposure, columns: list[int], touched: set[int]) -> None:
        for column in self._chosen(columns, self._settings.replacement_a2):
            if column not in touched:
                assert self._substitute is not None
                exposure.set(column, self._substitute)
                exposure.tell("defect.appeared", column, self._chain[0], self._substitute)

    def _diffuse(self, exposure: Exposure, column: int) -> None:
        """An adatom may hop to a hollow beside it that is free."""
        if not self._happens(self._settings.adatom_hop_a2):
            return
        free = [c for c in self._specimen.neighbours(column).tolist() if exposure.columns.find(c) is None]
        at = exposure.columns.find(column)
        assert at is not None
        species = int(exposure.columns.species[at])
        if free:
            hollow = int(self._rng.choice(free))
            exposure.move_adatom(column, hollow, species)
            exposure.tell("defect.moved", hollow, species, species, origin=column)

    def _lost(self, exposure: Exposure, column: int) -> int | None:
        """Atoms that a column of the chain has lost; None for any other column."""
        at = exposure.columns.find(column)
        if at is None or int(exposure.columns.species[at]) not in self._chain:
            return None
        return self._chain.index(int(exposure.columns.species[at]))

    def _beside(self, exposure: Exposure, column: int) -> int:
        """Vacancies on the nearest sites of the same sublattice."""
        return sum(self._lost(exposure, c) or 0 for c in self._specimen.neighbours(column).tolist())

    def _happens(self, cross_section_a2: float) -> bool:
        return bool(self._rng.random() < -math.expm1(-cross_section_a2 * self._dose))

    def _chosen(self, columns: list[int], cross_section_a2: float) -> list[int]:
        """Those of some columns to which a process happens."""
        if not columns or not cross_section_a2:
            return []
        n = self._rng.binomial(len(columns), -math.expm1(-cross_section_a2 * self._dose))
        return self._rng.choice(columns, n, replace=False).tolist()

    def _forget(self, exposure: Exposure) -> None:
        """Bound what is remembered of places out of view; the oldest changes go first."""
        changed = self._specimen.changed
        surplus = len(changed) - MAX_CHANGED
        for column in list(changed)[: max(surplus, 0)]:
            if exposure.columns.find(column) is None:
                del changed[column]
