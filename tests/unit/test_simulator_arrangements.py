"""Specimens as they are: how the simulator puts a crystal together, what lies on it, and what its truth says."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy.spatial import KDTree

from latticewatch.errors import ConfigurationError
from latticewatch_simulator import Microscope, SimulatorSettings, SpecimenName, TruthWriter, read_truth
from latticewatch_simulator._specimen import Specimen

LOW, HIGH = np.array([-3.0, -3.0]), np.array([3.0, 3.0])


def microscope(name, **values):
    given = {"shape": (160, 160), "drift_nm_per_frame": (0.0, 0.0), "seed": 3, **values}
    if name != "few":
        given["pixel_size_nm"] = 0.03
    return Microscope(SimulatorSettings.checked(specimen=name, **given))


def seen(scope):
    """Image, places, and what each is called, of one frame."""
    frame = scope.acquire()
    inside = frame.truth.inside(4)
    return frame.image, frame.truth.positions_px()[inside], frame.truth.species[inside], frame.truth


@pytest.mark.parametrize("name", get_args(SpecimenName))
def test_every_specimen_gives_the_same_frame_again_and_nothing_is_born(name):
    first, second = microscope(name).acquire(), microscope(name).acquire()
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image.max() > first.image.min()
    assert first.truth.inside().sum() > 40
    if name != "crystal":
        assert microscope(name).settings.births_per_frame == 0


@pytest.mark.parametrize("name", get_args(SpecimenName))
def test_a_column_is_found_again_by_its_number(name):
    specimen = microscope(name).specimen
    table = specimen.columns(LOW, HIGH)
    assert (np.diff(table.id) > 0).all()
    for k in range(0, len(table), max(1, len(table) // 20)):
        shift = specimen.shift_nm[table.species[k]]
        np.testing.assert_allclose(specimen.position_nm(int(table.id[k])) + shift, table.xy_nm[k], atol=1e-9)
        assert specimen.height(int(table.id[k])) == pytest.approx(table.height[k])


@pytest.mark.parametrize("name", [n for n in get_args(SpecimenName) if n != "few"])
def test_the_same_place_shows_the_same_wherever_one_looks_from(name):
    specimen = microscope(name).specimen
    whole, part = specimen.columns(LOW, HIGH), specimen.columns(LOW, np.array([1.0, 2.0]))
    # away from the edges, where of two columns without room one may be out of sight
    inner = np.all((part.xy_nm > LOW + 0.4) & (part.xy_nm < np.array([1.0, 2.0]) - 0.4), axis=1)
    assert set(part.id[inner]) <= set(whole.id)


def test_domains_share_a_lattice_and_differ_in_their_cells():
    specimen = microscope("domains", material="MoSe2").specimen
    table = specimen.columns(LOW, HIGH)
    metal = table.xy_nm[table.species == specimen.species.index("Mo")]
    other = table.of(table.species == specimen.species.index("Se2"))
    # from a metal column to the nearest of the others: three directions in one domain, the opposite ones beyond
    tree = KDTree(other.xy_nm)
    inner = metal[np.all(np.abs(metal) < 2.4, axis=1)]
    towards = other.xy_nm[tree.query(inner)[1]] - inner
    sense = np.exp(3j * np.arctan2(towards[:, 1], towards[:, 0]))
    turned = (sense * sense[0].conj()).real < 0
    assert 0.2 < turned.mean() < 0.8
    assert KDTree(table.xy_nm).query(table.xy_nm, k=2)[0][:, 1].min() > 0.6 * specimen.crystal.nearest_nm()


def test_a_step_and_a_wedge_are_as_thick_as_asked():
    step = microscope("step", amount=2.5).specimen.columns(LOW, HIGH)
    assert set(np.unique(step.height)) == {1.0, 2.5}
    wedge = microscope("wedge", amount=4.0).specimen.columns(2 * LOW, 2 * HIGH)
    assert wedge.height.min() == 1.0
    assert wedge.height.max() == 4.0
    assert len(np.unique(wedge.height)) > 20


def test_the_brightness_of_a_column_follows_the_thickness():
    image, place, _, truth = seen(
        microscope("step", amount=3.0, defects={}, dose_e_per_a2=1e6, counts_per_electron=1.0)
    )
    metal = truth.sublattice[truth.inside(4)] == 0
    row, col = np.rint(place[metal]).astype(int).T
    bright = np.sort(image[row, col].astype(float) - 600)
    assert np.median(bright[-20:]) / np.median(bright[:20]) == pytest.approx(3.0, rel=0.2)


def test_an_alloy_has_both_elements_as_hosts():
    scope = microscope("alloy", amount=0.4)
    _, _, species, truth = seen(scope)
    assert truth.names[: truth.n_hosts] == ("W", "S2", "Mo")
    of = [truth.names[k] for k in species]
    assert of.count("Mo") / (of.count("Mo") + of.count("W")) == pytest.approx(0.4, abs=0.1)


def test_around_a_dislocation_the_rows_go_up_by_one():
    specimen = microscope("dislocation", material="graphene", defects={}).specimen
    shift = specimen._arrangement.shift
    angle = 0.01 + np.linspace(0, 2 * np.pi, 2001)
    ring = 20.0 * np.stack([np.cos(angle), np.sin(angle)], 1)
    along = np.diff(shift(ring), axis=0)
    small = np.linalg.norm(along, axis=1) < 0.05
    # one jump by a lattice vector, where the half plane ends; else smooth
    assert (~small).sum() == 1
    assert np.linalg.norm(along[~small]) == pytest.approx(0.246, rel=0.02)
    assert KDTree(specimen.columns(LOW, HIGH).xy_nm).query_pairs(0.07) == set()


def test_a_bilayer_has_two_lattices_turned_against_each_other():
    single, double = microscope("crystal").specimen, microscope("bilayer", amount=7.0).specimen
    assert len(double.columns(LOW, HIGH)) == pytest.approx(2 * len(single.columns(LOW, HIGH)), rel=0.05)
    a, b = (layer.vectors_nm[0] for layer in double._arrangement.layers)
    assert np.degrees(np.arctan2(b[1], b[0]) - np.arctan2(a[1], a[0])) == pytest.approx(7.0)


def test_in_bright_field_columns_are_dark():
    image, place, _, _ = seen(microscope("dark"))
    row, col = np.rint(place).astype(int).T
    assert np.median(image[row, col]) < np.median(image)
    assert image.max() < 65535


@pytest.mark.parametrize(
    ("name", "species"), [("weak", "W*0.95"), ("displaced", "W@40"), ("hollow", "ad-Mo")]
)
def test_some_specimens_have_defects_of_their_own(name, species):
    _, _, found, truth = seen(microscope(name))
    assert {truth.names[k] for k in found[found >= truth.n_hosts]} == {species}


def test_a_displaced_column_stands_beside_its_place():
    moved, still = microscope("displaced", amount=40.0), microscope("crystal", defects={})
    there, where = moved.specimen.columns(LOW, HIGH), still.specimen.columns(LOW, HIGH)
    np.testing.assert_array_equal(there.id, where.id)
    away = there.xy_nm - where.xy_nm
    defect = there.species >= moved.specimen.n_hosts
    assert defect.any()
    np.testing.assert_allclose(away[defect], [[0.04, 0.0]] * defect.sum(), atol=1e-9)
    assert not away[~defect].any()


def test_a_lone_defect_is_one_of_each():
    _, _, species, truth = seen(microscope("lone"))
    assert sorted(truth.names[k] for k in species[species >= truth.n_hosts]) == ["Fe", "S1"]


def test_what_is_no_specimen_is_in_the_frame_and_hides_columns(tmp_path: Path):
    hot = microscope("hot", amount=7).acquire().image
    assert (hot == 65535).sum() == 7
    scope = microscope("border", amount=0.2)
    frame = scope.acquire()
    assert not frame.image[:32].any()
    assert frame.image[32:, 16:].any()
    assert frame.truth.positions_px()[frame.truth.inside()][:, 0].min() >= 32
    scope = microscope("dirt")
    frame = scope.acquire()
    assert frame.truth.hidden.any()
    with TruthWriter(tmp_path / "truth.jsonl", scope.description()) as writer:
        writer.write(frame.truth)
    (again,) = read_truth(tmp_path / "truth.jsonl")
    np.testing.assert_array_equal(again.hidden, frame.truth.hidden)


def test_elliptic_columns_are_longer_than_wide():
    image, place, _, _ = seen(
        microscope("elliptic", amount=1.8, defects={}, dose_e_per_a2=1e7, counts_per_electron=0.5)
    )
    rows, cols = np.rint(place).astype(int).T
    near = np.all((place > 12) & (place < 148), axis=1)
    patch = sum(
        image[r - 3 : r + 4, c - 3 : c + 4].astype(float) for r, c in zip(rows[near], cols[near], strict=True)
    )
    patch = np.clip(patch - np.median(patch), 0, None)
    y, x = np.indices(patch.shape) - 3.0
    spread = np.cov(np.stack([y.ravel(), x.ravel()]), aweights=patch.ravel())
    low, high = np.linalg.eigvalsh(spread)
    assert high / low > 1.5


def test_few_cells_fill_the_frame_and_line_jitter_is_as_asked():
    few = microscope("few", amount=6)
    assert few.settings.fov_nm == pytest.approx((1.98, 1.98))
    assert microscope("jitter", amount=0.9).settings.line_jitter_px == 0.9
    # what is given counts
    assert microscope("jitter", line_jitter_px=0.1).settings.line_jitter_px == 0.1


@pytest.mark.parametrize("material", ["SrRuO3", "SrTiO3", "PbTiO3"])
def test_a_perovskite_has_four_columns_a_cell(material):
    crystal = Specimen(SimulatorSettings.checked(specimen="perovskite", material=material)).crystal
    assert len(crystal.atoms) == 4
    assert crystal.species.count("O") == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"specimen": "quasicrystal"}, "specimen"),
        ({"specimen": "crystal", "amount": 2.0}, "takes no amount"),
        ({"specimen": "step", "amount": 1000.0}, r"give 0\.05 to 20"),
        ({"specimen": "perovskite", "material": "WS2"}, "SrRuO3"),
        ({"specimen": "alloy", "material": "graphene"}, "MoSe2"),
        ({"specimen": "alloy", "material": "WS2", "defects": {"Mo": 0.1}}, "leave those out"),
        ({"defects": {"Xy*0.5": 0.1}}, "no column Xy"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(values, words):
    with pytest.raises(ConfigurationError, match=words):
        Specimen(SimulatorSettings.checked(**values))
