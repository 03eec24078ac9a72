"""Crystals, defects by name, and the endless specimen."""

from __future__ import annotations

from pathlib import Path

import ase.build
import numpy as np
import pytest
from ase import Atoms
from scipy.spatial import cKDTree

from latticewatch.errors import ConfigurationError, FileError
from latticewatch_simulator import DEFAULT_DENSITIES, Microscope, SimulatorSettings, load_crystal
from latticewatch_simulator._crystal import project
from latticewatch_simulator._defects import ADATOM, defect_kinds
from latticewatch_simulator._specimen import Specimen, uniform_hash

LOW, HIGH = np.array([-8.0, -8.0]), np.array([8.0, 8.0])


def settings(**values: object) -> SimulatorSettings:
    return SimulatorSettings.checked(**values)


@pytest.mark.parametrize(
    ("material", "species", "spacing_nm"),
    [
        ("WS2", {"W", "S2"}, 0.3153),
        ("WSe2", {"W", "Se2"}, 0.3282),
        ("MoS2", {"Mo", "S2"}, 0.3161),
        ("MoSe2", {"Mo", "Se2"}, 0.3289),
        ("graphene", {"C"}, 0.246),
        ("hBN", {"B", "N"}, 0.2504),
    ],
)
def test_a_material_has_its_columns_and_lattice_constant(material, species, spacing_nm):
    crystal = load_crystal(settings(material=material))
    assert len(crystal.atoms) == 2
    assert set(crystal.species) == species
    assert np.linalg.norm(crystal.vectors_nm, axis=1) == pytest.approx([spacing_nm] * 2)
    columns = crystal.fractional @ crystal.vectors_nm
    nearest = cKDTree(
        (crystal.fractional[1] + [[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ crystal.vectors_nm
    )
    assert nearest.query(columns[0])[0] == pytest.approx(spacing_nm / np.sqrt(3))


def test_a_structure_file_gives_the_crystal_that_it_holds(tmp_path: Path):
    path = tmp_path / "ws2.cif"
    ase.build.mx2("WS2", a=3.153, thickness=3.14, vacuum=5).repeat((2, 1, 1)).write(path)
    crystal = load_crystal(settings(structure=path))
    assert sorted(crystal.species) == ["S2", "S2", "W", "W"]
    frame = Microscope(settings(structure=path, shape=(128, 128), births_per_frame=0)).acquire()
    assert {frame.truth.names[k] for k in frame.truth.species} == {"S2", "W"}


def test_atoms_across_the_edge_of_the_cell_are_one_column():
    crystal = project(Atoms("S2", positions=[(0.01, 0, 0), (3.99, 0, 3)], cell=[4, 4, 10], pbc=True), "edge")
    assert crystal.species == ("S2",)


@pytest.mark.parametrize("kind", ["text", "missing", "molecule", "tilted", "huge"])
def test_a_structure_that_cannot_be_imaged_is_refused_with_a_reason(kind, tmp_path: Path):
    path = tmp_path / ("structure.txt" if kind == "text" else "structure.xyz")
    if kind == "text":
        path.write_text("not a structure")
    elif kind == "molecule":
        ase.build.molecule("H2O").write(path)
    elif kind == "tilted":
        Atoms("W", cell=[(3, 0, 1), (0, 3, 0), (0, 0, 9)], pbc=True).write(path, format="extxyz")
    elif kind == "huge":
        ase.build.graphene(size=(50, 50, 1), vacuum=5).write(path, format="extxyz")
    with pytest.raises((FileError, ConfigurationError), match=r"structure.*;"):
        load_crystal(settings(structure=path))


@pytest.mark.parametrize(
    ("material", "name", "hosts", "ratio"),
    [
        ("WS2", "Fe", {"W"}, 0.26),
        ("WS2", "Fe_W", {"W"}, 0.26),
        ("WS2", "Te+S", {"S2"}, 0.82),
        ("WS2", "S1", {"S2"}, 0.11),
        ("WS2", "V_S2", {"S2"}, 0.0),
        ("WS2", "V_W", {"W"}, 0.0),
        ("WS2", "Te2", {"S2"}, 1.41),
        ("WS2", "Mo", {"W"}, 0.52),
        ("hBN", "C_B", {"B"}, None),
        ("hBN", "C_N", {"N"}, None),
        ("graphene", "Si", {"C"}, None),
    ],
)
def test_a_defect_replaces_the_columns_that_its_name_says(material, name, hosts, ratio):
    chosen = settings(material=material, defects={name: 0.1}, births_per_frame=0)
    crystal = load_crystal(chosen)
    (kind,) = defect_kinds(chosen, crystal)
    assert {crystal.species[host] for host in kind.hosts} == hosts
    if ratio is not None:
        specimen = Specimen(chosen)
        assert kind.signal / specimen.signal[specimen.species.index("W")] == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(
    ("defects", "reason"),
    [
        ({"Xx": 0.1}, "not an element"),
        ({"fe": 0.1}, "such as Fe"),
        ({"Se1": 0.1}, "has no column"),
        ({"V_Mo": 0.1}, "its columns are"),
        ({"Fe": 1.5}, "0 to 1"),
        ({"Fe": -0.1}, "0 to 1"),
        ({"Fe": float("nan")}, "finite"),
        ({"S1": 0.6, "V_S2": 0.6}, "sum to 1.2"),
    ],
)
def test_a_defect_that_does_not_fit_is_refused_with_a_reason(defects, reason):
    with pytest.raises(ConfigurationError, match=reason):
        Specimen(settings(defects=defects, births_per_frame=0))


def test_an_element_that_fits_two_columns_must_name_one():
    with pytest.raises(ConfigurationError, match="C_B or C_N"):
        Specimen(settings(material="hBN", defects={"C": 0.1}))


def test_adatoms_are_not_born():
    with pytest.raises(ConfigurationError, match="adatoms are not born"):
        Specimen(settings(birth_species="ad-Mo"))


@pytest.mark.parametrize("material", list(DEFAULT_DENSITIES))
@pytest.mark.parametrize("seed", [0, 7])
def test_a_default_frame_has_enough_of_each_defect_and_some_are_isolated(material, seed):
    specimen = Specimen(settings(material=material, seed=seed, births_per_frame=0))
    half = np.array([1024, 1024]) * 0.012 / 2
    columns = specimen.columns(-half, half)
    defect = columns.species >= specimen.n_hosts
    away = cKDTree(columns.xy_nm[defect]).query(columns.xy_nm[defect], k=2)[0][:, 1]
    assert set(specimen.species[specimen.n_hosts :]) == set(DEFAULT_DENSITIES[material])
    for number in range(specimen.n_hosts, len(specimen.species)):
        mine = columns.species[defect] == number
        assert mine.sum() >= 8
        assert (away[mine] > 0.5).any()


def test_the_same_place_shows_the_same_defects_from_wherever_it_is_looked_at():
    specimen = Specimen(settings(rotation_deg=17))
    here = specimen.columns(LOW, HIGH)
    shifted = specimen.columns(LOW + 3, HIGH + 3)
    common, a, b = np.intersect1d(here.id, shifted.id, return_indices=True)
    assert len(common) > 1000
    np.testing.assert_array_equal(here.species[a], shifted.species[b])
    np.testing.assert_allclose(here.xy_nm[a], shifted.xy_nm[b])
    other = Specimen(settings(rotation_deg=17, seed=1)).columns(LOW, HIGH)
    np.testing.assert_array_equal(here.id, other.id)
    assert (here.species != other.species).mean() > 0.05


def test_densities_are_fractions_of_the_eligible_columns():
    specimen = Specimen(settings(defects={"Fe": 0.1, "S1": 0.2, "V_S2": 0.05, "ad-Mo": 0.3}))
    columns = specimen.columns(3 * LOW, 3 * HIGH)
    names = np.array(specimen.species)[columns.species]
    metals, chalcogens = (names == "W") | (names == "Fe"), np.isin(names, ["S2", "S1", "V_S2"])
    for name, eligible, density in (("Fe", metals, 0.1), ("S1", chalcogens, 0.2), ("V_S2", chalcogens, 0.05)):
        n = eligible.sum()
        assert (names == name).sum() == pytest.approx(density * n, abs=4 * np.sqrt(density * n))
    assert (names == "ad-Mo").sum() == pytest.approx(0.3 * metals.sum(), rel=0.1)


def test_an_adatom_sits_in_the_hollow_off_the_lattice():
    columns = Specimen(settings(defects={"ad-Mo": 0.5})).columns(LOW, HIGH)
    added = columns.sublattice == ADATOM
    away, _ = cKDTree(columns.xy_nm[~added]).query(columns.xy_nm[added])
    middle = np.all(np.abs(columns.xy_nm[added]) < 7, axis=1)
    np.testing.assert_allclose(away[middle], 0.3153 / np.sqrt(3), atol=1e-3)


def test_rotation_turns_lattice_vector_a_from_x_towards_y():
    def first_neighbour_angle(rotation):
        specimen = Specimen(settings(defects={}, rotation_deg=rotation))
        metal = specimen.columns(LOW, HIGH)
        xy = metal.xy_nm[metal.sublattice == 0]
        away = xy - xy[np.argmin(np.linalg.norm(xy, axis=1))]
        near = away[(np.linalg.norm(away, axis=1) < 0.33) & (np.linalg.norm(away, axis=1) > 0.1)]
        return np.sort(np.rad2deg(np.arctan2(near[:, 1], near[:, 0])) % 60)[0]

    assert first_neighbour_angle(20) == pytest.approx(20, abs=1e-6)


def test_hashed_numbers_are_uniform_and_independent_of_their_neighbours():
    u = uniform_hash(np.arange(200_000), 3)
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, 100, (0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 160
    for lag in (1, 2, 4096):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 0.01
    assert abs(np.corrcoef(u, uniform_hash(np.arange(200_000), 4))[0, 1]) < 0.01


def test_a_field_of_view_with_too_many_columns_is_refused():
    with pytest.raises(ConfigurationError, match="2 million"):
        Specimen(settings()).columns(np.array([-200.0, -200.0]), np.array([200.0, 200.0]))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"shape": (10, 1024)}, "64 to 8192"),
        ({"material": "WO3"}, "WS2"),
        ({"drift_nm_per_frame": (2, 0)}, "1 nm at most"),
        ({"stage_nm": (600, 0)}, "within plus and minus 500"),
        ({"pixel_size_nm": -1}, "greater than"),
        ({"seed": -1}, "greater than"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_with_its_limit(values, reason):
    with pytest.raises(ConfigurationError, match=reason):
        settings(**values)
