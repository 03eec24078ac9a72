"""Crystals from ASE, seen along z: atoms above each other are one column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene, mx2
from ase.io import read
from numpy.typing import NDArray

from latticewatch.errors import ConfigurationError, FileError
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._signal import column_name, column_signal

# Experimental lattice constant and distance between the chalcogen layers [angstrom].
DICHALCOGENIDES = {
    "WS2": (3.153, 3.14),
    "WSe2": (3.282, 3.34),
    "MoS2": (3.161, 3.13),
    "MoSe2": (3.289, 3.33),
}
# Elements A and B of a cubic (or nearly cubic) cell ABO3 and its length [angstrom].
PEROVSKITE_CELLS = {
    "SrTiO3": ("Sr", "Ti", 3.905),
    "SrRuO3": ("Sr", "Ru", 3.93),
    "PbTiO3": ("Pb", "Ti", 3.97),
}
SAME_COLUMN_NM = 0.03
MAX_ATOMS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Crystal:
    """A crystal projected along z.

    Attributes
    ----------
    name : str
        Material or formula.
    vectors_nm : ndarray of shape (2, 2)
        Lattice vectors a and b as rows (x, y).
    fractional : ndarray of shape (n, 2)
        Columns of the unit cell, in units of a and b.
    atoms : tuple of tuple of str
        Elements of each column.
    """

    name: str
    vectors_nm: NDArray[np.float64]
    fractional: NDArray[np.float64]
    atoms: tuple[tuple[str, ...], ...]

    @property
    def species(self) -> tuple[str, ...]:
        """Names of the columns, such as ``W`` and ``S2``."""
        return tuple(map(column_name, self.atoms))

    def columns_of(self, species: str) -> tuple[int, ...]:
        """Find the columns of one name.

        Parameters
        ----------
        species : str
            Name of a column, such as ``S2``.

        Returns
        -------
        tuple of int
            Numbers of the columns of this name; none where it has no such column.
        """
        return tuple(column for column, name in enumerate(self.species) if name == species)

    def brightest(self) -> int:
        """Number of the column that scatters most, the first of several."""
        return max(range(len(self.atoms)), key=lambda column: column_signal(self.atoms[column]))

    def nearest_nm(self) -> float:
        """Distance of nearest neighbours."""
        offsets = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        away = self.fractional[:, None, None] - self.fractional[None, :, None] + offsets
        distance = np.linalg.norm(away @ self.vectors_nm, axis=-1)
        return float(distance[distance > 1e-9].min())

    def hollow(self) -> NDArray[np.float64]:
        """Where the cell is emptiest, in units of a and b: adatoms sit there."""
        steps = np.arange(48) / 48
        grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        offsets = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        columns = (self.fractional[:, None] + offsets).reshape(-1, 2) @ self.vectors_nm
        nearest = np.full(len(grid), np.inf)
        for column in columns:
            nearest = np.minimum(nearest, np.linalg.norm(grid @ self.vectors_nm - column, axis=1))
        return grid[int(np.argmax(nearest))]


def load_crystal(settings: SimulatorSettings) -> Crystal:
    """The crystal that the settings name, or that of their structure file.

    Parameters
    ----------
    settings : SimulatorSettings

    Returns
    -------
    Crystal

    Raises
    ------
    FileError
        A structure file that ASE cannot read.
    ConfigurationError
        A structure that is not periodic in the image plane, or is too large.
    """
    if settings.structure is not None:
        return project(_read(settings.structure), settings.structure.name)
    if settings.material == "graphene":
        return project(graphene(a=2.46), settings.material)
    if settings.material == "hBN":
        return project(graphene("BN", a=2.504), settings.material)
    if settings.material in PEROVSKITE_CELLS:
        return project(_perovskite(*PEROVSKITE_CELLS[settings.material]), settings.material)
    a, thickness = DICHALCOGENIDES[settings.material]
    return project(mx2(settings.material, a=a, thickness=thickness), settings.material)


def _perovskite(a: str, b: str, length: float) -> Atoms:
    """One cell, seen along [001]."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms([a, b, "O", "O", "O"], scaled_positions=places, cell=[length] * 3, pbc=True)


def _read(path: Path) -> Atoms:
    try:
        atoms = read(path)
    except Exception as error:  # each of ASE's eighty readers raises errors of its own
        reason = str(error) or type(error).__name__
        raise FileError(
            f"{path}: ASE cannot read this structure ({reason}); give a CIF, XYZ or POSCAR file"
        ) from error
    if not isinstance(atoms, Atoms):
        raise FileError(f"{path}: holds several structures; give a file with one")
    return atoms


def project(atoms: Atoms, name: str) -> Crystal:
    """Project a periodic structure along z and group its atoms into columns.

    Raises
    ------
    ConfigurationError
        See `load_crystal`.
    """
    if not 0 < len(atoms) <= MAX_ATOMS:
        raise ConfigurationError(f"{name}: {len(atoms)} atoms in the unit cell; give 1 to {MAX_ATOMS}")
    cell = atoms.cell.array[:2] / 10
    vectors = cell[:, :2]
    if abs(np.linalg.det(vectors)) < 1e-3 or np.abs(cell[:, 2]).max() > 1e-6:
        raise ConfigurationError(
            f"{name}: lattice vectors a and b must span the xy plane; "
            "give a periodic structure with c along the beam"
        )
    fractional = atoms.positions[:, :2] / 10 @ np.linalg.inv(vectors)
    sites: list[NDArray[np.float64]] = []
    members: list[list[str]] = []
    for position, symbol in zip(fractional % 1.0, atoms.get_chemical_symbols(), strict=True):
        if sites:
            away = np.asarray(sites) - position
            distance = np.linalg.norm((away - np.rint(away)) @ vectors, axis=1)
            nearest = int(np.argmin(distance))
            if distance[nearest] < SAME_COLUMN_NM:
                members[nearest].append(symbol)
                continue
        sites.append(position)
        members.append([symbol])
    return Crystal(name, vectors, np.asarray(sites), tuple(map(tuple, members)))
