"""An endless specimen: any part of it can be looked at, and the same place always shows the same defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.errors import ConfigurationError
from latticewatch_simulator._arrangement import Layer, arrange
from latticewatch_simulator._crystal import load_crystal
from latticewatch_simulator._defects import ADATOM, DefectKind, defect_kinds, lone_species
from latticewatch_simulator._settings import PARTNERS, SimulatorSettings
from latticewatch_simulator._signal import column_signal

# An id packs the cell (two numbers of 20 bits) and the site in it (13 bits): below 2^53, exact in any JSON.
CELL_BITS, SITE_BITS = 20, 13
HALF = 1 << (CELL_BITS - 1)
MAX_COLUMNS = 2_000_000
SITE_MASK = (1 << SITE_BITS) - 1
# Of the numbers that mix an alloy and place lone defects: apart from those of other defects.
ALLOY_SEED, LONE_STREAM = 0xA110, 9
# How far from the middle lone defects lie, in fields of view, and how far round about a column is looked for.
LONE_DISTANCE, LONE_REACH_NM = 0.2, 0.6
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
    height : ndarray of shape (n,), float64
        How thick the specimen is there: what the column scatters, in what one of its species does.
    """

    id: NDArray[np.int64]
    xy_nm: NDArray[np.float64]
    species: NDArray[np.int16]
    sublattice: NDArray[np.int16]
    height: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.id)

    def find(self, column: int) -> int | None:
        """Where a column is in the table; None where it is not in it."""
        at = int(np.searchsorted(self.id, column))
        return at if at < len(self.id) and self.id[at] == column else None

    def of(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> ColumnTable:
        """A table of some of the columns."""
        return ColumnTable(
            self.id[which], self.xy_nm[which], self.species[which], self.sublattice[which], self.height[which]
        )

    def without(self, at: int) -> ColumnTable:
        """A table without one of the columns."""
        return self.of(np.arange(len(self)) != at)

    def with_one(
        self, column: int, xy_nm: NDArray[np.float64], species: int, sublattice: int, height: float
    ) -> ColumnTable:
        """A table with one column more."""
        at = int(np.searchsorted(self.id, column))
        return ColumnTable(
            np.insert(self.id, at, column),
            np.insert(self.xy_nm, at, xy_nm, axis=0),
            np.insert(self.species, at, species),
            np.insert(self.sublattice, at, sublattice),
            np.insert(self.height, at, height),
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
    shift_nm : ndarray of shape (n_species, 2), float64
        How far a column of each species stands from its place (x, y).
    changed : dict of int to int
        Species of columns, by id, that are not what they were made as; a column without an entry is.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.crystal = load_crystal(settings)
        self.kinds = defect_kinds(settings, self.crystal)
        hosts = dict(zip(self.crystal.species, self.crystal.atoms, strict=True))
        self._mixed: tuple[tuple[int, ...], int, float] | None = None
        if settings.specimen == "alloy":
            partner, replaced = PARTNERS[settings.material]
            self._mixed = self.crystal.columns_of(replaced), len(hosts), settings.of_specimen
            hosts[partner] = (partner,)
        self.species = (*hosts, *(kind.species for kind in self.kinds))
        if len(set(self.species)) < len(self.species):
            raise ConfigurationError(f"an alloy of {', '.join(hosts)}: leave those out of the defects")
        self.n_hosts = len(hosts)
        self.signal = np.array([*map(column_signal, hosts.values()), *(kind.signal for kind in self.kinds)])
        self.shift_nm = np.zeros((len(self.species), 2))
        self.shift_nm[self.n_hosts :, 0] = [kind.shift_nm for kind in self.kinds]
        self.changed: dict[int, int] = {}
        self._seed = settings.seed
        self._host_of = [self.species.index(name) for name in self.crystal.species]
        sites = self.crystal.fractional
        if any(ADATOM in kind.hosts for kind in self.kinds):
            sites = np.vstack([sites, self.crystal.hollow()])
        self._n_sites = len(sites)
        self._arrangement = arrange(settings, self.crystal, sites)
        if len(sites) * len(self._arrangement.layers) > SITE_MASK + 1:
            raise ConfigurationError(
                f"{self.crystal.name}: {len(sites)} columns in the unit cell; give at most "
                f"{(SITE_MASK + 1) // 2} for specimen {settings.specimen}"
            )
        self._steps = [_shortest_translations(layer.vectors_nm) for layer in self._arrangement.layers]
        if settings.specimen == "lone":
            self._place_lone(settings)

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
        reach = self._arrangement.reach_nm
        parts = [
            self._columns_of_layer(number, layer, np.asarray(low_nm) - reach, np.asarray(high_nm) + reach)
            for number, layer in enumerate(self._arrangement.layers)
        ]
        identity, xy = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(identity, kind="stable")
        identity, xy = identity[order], xy[order]
        site = (identity & SITE_MASK) % self._n_sites
        species = self._species(identity, site)
        for column, now in self.changed.items():
            at = int(np.searchsorted(identity, column))
            if at < len(identity) and identity[at] == column:
                species[at] = now
        sublattice = np.where(site < len(self._host_of), site, ADATOM).astype(np.int16)
        table = ColumnTable(identity, self._moved(xy), species, sublattice, self._heights(xy)).of(
            species >= 0
        )
        if reach:
            table = table.of(np.all((table.xy_nm >= low_nm) & (table.xy_nm < high_nm), axis=1))
        table = self._uncrowded(table)
        # displaced columns last: whether there is room for a column is a matter of where it belongs
        table.xy_nm += self.shift_nm[table.species]
        return table

    def set(self, column: int, species: int) -> None:
        """Make a column another species; -1 takes an adatom away."""
        identity = np.array([column])
        if species == self._species(identity, (identity & SITE_MASK) % self._n_sites)[0]:
            self.changed.pop(column, None)
        else:
            self.changed[column] = species

    def neighbours(self, column: int) -> NDArray[np.int64]:
        """Identity of the nearest columns of the same sublattice, or of the nearest hollows of a hollow."""
        steps = self._steps[(column & SITE_MASK) // self._n_sites]
        return column + (steps[:, 0] << (CELL_BITS + SITE_BITS)) + (steps[:, 1] << SITE_BITS)

    def position_nm(self, column: int) -> NDArray[np.float64]:
        """Specimen coordinates (x, y) of a column or a hollow."""
        cell = np.array([column >> (CELL_BITS + SITE_BITS), (column >> SITE_BITS) & (2 * HALF - 1)]) - HALF
        layer, site = divmod(column & SITE_MASK, self._n_sites)
        piece = self._arrangement.layers[layer]
        return self._moved(((cell + piece.fractional[site]) @ piece.vectors_nm + piece.origin_nm)[None])[0]

    def height(self, column: int) -> float:
        """How thick the specimen is at a column or a hollow, in thicknesses of the crystal."""
        return float(self._heights(self.position_nm(column)[None])[0])

    def crystal_mean(self) -> float:
        """Signal of the perfect crystal per square nanometre."""
        signal = sum(float(self.signal[host]) for host in self._host_of)
        return signal / abs(float(np.linalg.det(self.crystal.vectors_nm)))

    def _species(self, identity: NDArray[np.int64], site: NDArray[np.int64]) -> NDArray[np.int16]:
        """What each column was made as; -1 for a hollow without an adatom."""
        species = np.array([*self._host_of, -1], np.int16)[site]
        if self._mixed is not None:
            columns, partner, share = self._mixed
            chosen = uniform_hash(identity, self._seed ^ ALLOY_SEED) < share
            species[np.isin(site, columns) & chosen] = partner
        chance = uniform_hash(identity, self._seed)
        taken = np.zeros(len(identity))
        for number, kind in enumerate(self.kinds, start=self.n_hosts):
            eligible = np.isin(site, self._sites_of(kind))
            chosen = eligible & (chance >= taken) & (chance < taken + kind.density)
            species[chosen] = number
            taken[eligible] += kind.density
        return species

    def _columns_of_layer(
        self, number: int, layer: Layer, low_nm: NDArray[np.float64], high_nm: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Identity and place of the columns and hollows of one layer in a rectangle, nothing moved yet."""
        corners = np.array([(x, y) for x in (low_nm[0], high_nm[0]) for y in (low_nm[1], high_nm[1])])
        cells = (corners - layer.origin_nm) @ np.linalg.inv(layer.vectors_nm)
        # columns of a cell may lie up to two cells away from its corner, where a domain is turned
        first, last = np.floor(cells.min(0)).astype(int) - 2, np.ceil(cells.max(0)).astype(int) + 1
        n = self._n_sites * int(np.prod(last - first + 1))
        if n > MAX_COLUMNS:
            raise ConfigurationError(
                f"field of view with {n} columns; give smaller pixels or fewer, for 2 million"
            )
        if max(-int(first.min()), int(last.max())) >= HALF:
            raise ConfigurationError(
                f"specimen at {low_nm.round()} nm: more than {HALF} unit cells from its origin"
            )
        i, j, site = (
            axis.ravel()
            for axis in np.meshgrid(
                np.arange(first[0], last[0] + 1),
                np.arange(first[1], last[1] + 1),
                np.arange(self._n_sites),
                indexing="ij",
            )
        )
        xy = (np.stack([i, j], axis=1) + layer.fractional[site]) @ layer.vectors_nm + layer.origin_nm
        there = np.all((xy >= low_nm) & (xy < high_nm), axis=1)
        if layer.fills is not None:
            there &= layer.fills(xy)
        place = (number * self._n_sites + site)[there]
        cell = ((i[there] + HALF) << (CELL_BITS + SITE_BITS)) | ((j[there] + HALF) << SITE_BITS)
        return cell | place, xy[there]

    def _moved(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where columns of a perfect crystal stand in this one."""
        shift = self._arrangement.shift
        return xy if shift is None else xy + shift(xy)

    def _heights(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        height = self._arrangement.height
        return np.ones(len(xy)) if height is None else height(xy)

    def _uncrowded(self, table: ColumnTable) -> ColumnTable:
        """Of two columns for which there is no room, one: that of the first layer, else that with the lower number."""
        closest = self._arrangement.closest_nm
        if not closest or len(table) < 2:
            return table
        pairs = KDTree(table.xy_nm).query_pairs(closest, output_type="ndarray")
        layer = (table.id & SITE_MASK) // self._n_sites
        goes = np.where(layer[pairs[:, 0]] > layer[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
        kept = np.ones(len(table), bool)
        kept[goes] = False
        return table.of(kept)

    def _place_lone(self, settings: SimulatorSettings) -> None:
        """One of each, well inside the first frame."""
        rng = np.random.default_rng([settings.seed, LONE_STREAM])
        middle, field = np.array(settings.stage_nm), min(settings.fov_nm)
        angle = rng.uniform(0, 2 * np.pi)
        for number, name in enumerate(lone_species(settings, self.crystal)):
            species = self.species.index(name)
            turned = angle + number * np.pi
            place = middle + LONE_DISTANCE * field * np.array([np.cos(turned), np.sin(turned)])
            around = self.columns(place - LONE_REACH_NM, place + LONE_REACH_NM)
            hosts = np.isin(around.sublattice, self.kinds[species - self.n_hosts].hosts)
            around = around.of(hosts & (around.species < self.n_hosts))
            nearest = np.argmin(np.linalg.norm(around.xy_nm - place, axis=1))
            self.set(int(around.id[nearest]), species)

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
