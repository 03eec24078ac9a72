"""An endless specimen: any part of it can be looked at, and the same place always shows the same defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError
from latticewatch_simulator._crystal import load_crystal
from latticewatch_simulator._defects import ADATOM, DefectKind, defect_kinds
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._signal import column_signal

# An id packs the cell (two numbers of 20 bits) and the site in it (13 bits): below 2^53, exact in any JSON.
CELL_BITS, SITE_BITS = 20, 13
HALF = 1 << (CELL_BITS - 1)
MAX_COLUMNS = 2_000_000
# Changed columns that are remembered out of view.
MAX_CHANGED = 4096


@dataclass(slots=True, eq=False)
class ColumnTable:
    """Columns of a part of the specimen.

    Attributes
    ----------
    id : ndarray of shape (n,), int64
        Identity, ascending: the same in every frame, at every stage position and in every run of one crystal.
    xy_nm : ndarray of shape (n, 2), float64
        Specimen coordinates.
    species : ndarray of shape (n,), int16
        Index into `Specimen.species`.
    sublattice : ndarray of shape (n,), int16
        Number of the column in the unit cell; -1 for an adatom.
    """

    id: NDArray[np.int64]
    xy_nm: NDArray[np.float64]
    species: NDArray[np.int16]
    sublattice: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.id)

    def find(self, column: int) -> int | None:
        """Where a column is in the table; None where it is not in it."""
        at = int(np.searchsorted(self.id, column))
        return at if at < len(self.id) and self.id[at] == column else None

    def without(self, at: int) -> ColumnTable:
        """A table without one of the columns."""
        return ColumnTable(
            np.delete(self.id, at),
            np.delete(self.xy_nm, at, axis=0),
            np.delete(self.species, at),
            np.delete(self.sublattice, at),
        )

    def with_one(self, column: int, xy_nm: NDArray[np.float64], species: int, sublattice: int) -> ColumnTable:
        """A table with one column more."""
        at = int(np.searchsorted(self.id, column))
        return ColumnTable(
            np.insert(self.id, at, column),
            np.insert(self.xy_nm, at, xy_nm, axis=0),
            np.insert(self.species, at, species),
            np.insert(self.sublattice, at, sublattice),
        )


class Specimen:
    """Crystal and defects.

    Parameters
    ----------
    settings : SimulatorSettings
        Material or structure, defects, rotation, origin and seed.

    Attributes
    ----------
    crystal : Crystal
        One unit cell.
    kinds : tuple of DefectKind
        Every kind of defect.
    species : tuple of str
        Every species that a column can be: the hosts, then the defects.
    n_hosts : int
        How many of those are hosts.
    signal : ndarray of shape (n_species,), float64
        Fraction of the beam that a column of each species sends to the detector.
    changed : dict of int to int
        Species of columns, by id, that are not what they were made as; a column without an entry is.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.crystal = load_crystal(settings)
        self.kinds = defect_kinds(settings, self.crystal)
        hosts = dict(zip(self.crystal.species, self.crystal.atoms, strict=True))
        self.species = (*hosts, *(kind.species for kind in self.kinds))
        self.n_hosts = len(hosts)
        self.signal = np.array([*map(column_signal, hosts.values()), *(kind.signal for kind in self.kinds)])
        self.changed: dict[int, int] = {}
        self._seed = settings.seed
        angle = np.deg2rad(settings.rotation_deg)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self._vectors = self.crystal.vectors_nm @ turn
        self._origin = np.asarray(settings.origin_nm, float)
        self._host_of = [self.species.index(name) for name in self.crystal.species]
        self._sites = self.crystal.fractional
        if any(ADATOM in kind.hosts for kind in self.kinds):
            self._sites = np.vstack([self._sites, self.crystal.hollow()])
        self._steps = _shortest_translations(self._vectors)

    def columns(self, low_nm: NDArray[np.float64], high_nm: NDArray[np.float64]) -> ColumnTable:
        """Every column in a rectangle, as it is now.

        Parameters
        ----------
        low_nm, high_nm : ndarray of shape (2,), float64
            Opposite corners (x, y).

        Raises
        ------
        ConfigurationError
            More than two million columns, or a place too far from the origin.
        """
        corners = np.array([(x, y) for x in (low_nm[0], high_nm[0]) for y in (low_nm[1], high_nm[1])])
        cells = (corners - self._origin) @ np.linalg.inv(self._vectors)
        first, last = np.floor(cells.min(0)).astype(int) - 1, np.ceil(cells.max(0)).astype(int)
        n = len(self._sites) * int(np.prod(last - first + 1))
        if n > MAX_COLUMNS:
            raise ConfigurationError(
                f"field of view with {n} columns; give smaller pixels or fewer, for 2 million"
            )
        if max(-int(first.min()), int(last.max())) >= HALF:
            raise ConfigurationError(
                f"specimen at {low_nm.round()} nm: more than {HALF} unit cells from its origin"
            )
        i, j, site = np.meshgrid(
            np.arange(first[0], last[0] + 1),
            np.arange(first[1], last[1] + 1),
            np.arange(len(self._sites)),
            indexing="ij",
        )
        i, j, site = i.ravel(), j.ravel(), site.ravel()
        xy = (np.stack([i, j], axis=1) + self._sites[site]) @ self._vectors + self._origin
        inside = np.all((xy >= low_nm) & (xy < high_nm), axis=1)
        i, j, site, xy = i[inside], j[inside], site[inside], xy[inside]
        identity = ((i + HALF) << (CELL_BITS + SITE_BITS)) | ((j + HALF) << SITE_BITS) | site
        species = self._species(identity, site)
        for column, now in self.changed.items():
            at = int(np.searchsorted(identity, column))
            if at < len(identity) and identity[at] == column:
                species[at] = now
        there = species >= 0
        sublattice = np.where(site < len(self._host_of), site, ADATOM).astype(np.int16)
        return ColumnTable(identity[there], xy[there], species[there], sublattice[there])

    def set(self, column: int, species: int) -> None:
        """Make a column another species; -1 takes an adatom away."""
        identity = np.array([column])
        if species == self._species(identity, identity & ((1 << SITE_BITS) - 1))[0]:
            self.changed.pop(column, None)
        else:
            self.changed[column] = species

    def neighbours(self, column: int) -> NDArray[np.int64]:
        """Identity of the nearest columns of the same sublattice, or of the nearest hollows of a hollow."""
        steps = self._steps
        return column + (steps[:, 0] << (CELL_BITS + SITE_BITS)) + (steps[:, 1] << SITE_BITS)

    def position_nm(self, column: int) -> NDArray[np.float64]:
        """Specimen coordinates (x, y) of a column or a hollow."""
        cell = np.array([column >> (CELL_BITS + SITE_BITS), (column >> SITE_BITS) & (2 * HALF - 1)]) - HALF
        return (cell + self._sites[column & ((1 << SITE_BITS) - 1)]) @ self._vectors + self._origin

    def crystal_mean(self) -> float:
        """Signal of the perfect crystal per square nanometre."""
        signal = sum(float(self.signal[host]) for host in self._host_of)
        return signal / abs(float(np.linalg.det(self._vectors)))

    def _species(self, identity: NDArray[np.int64], site: NDArray[np.int64]) -> NDArray[np.int16]:
        """What each column was made as; -1 for a hollow without an adatom."""
        species = np.array([*self._host_of, -1], np.int16)[site]
        chance = uniform_hash(identity, self._seed)
        taken = np.zeros(len(identity))
        for number, kind in enumerate(self.kinds, start=self.n_hosts):
            eligible = np.isin(site, self._sites_of(kind))
            chosen = eligible & (chance >= taken) & (chance < taken + kind.density)
            species[chosen] = number
            taken[eligible] += kind.density
        return species

    def _sites_of(self, kind: DefectKind) -> list[int]:
        return [len(self._host_of) if host == ADATOM else host for host in kind.hosts]


def _shortest_translations(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Lattice translations to the nearest equivalent columns, in cells."""
    cells = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) != (0, 0)])
    length = np.linalg.norm(cells @ vectors, axis=1)
    return cells[length < 1.05 * length.min()]


def uniform_hash(key: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key and seed: two rounds of splitmix64 (Steele et al. 2014)."""
    state = key.astype(np.uint64)
    for salt in (np.uint64(0x9E3779B97F4A7C15), np.uint64(seed)):
        state = state + salt
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
