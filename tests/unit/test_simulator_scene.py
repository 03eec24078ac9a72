"""The rendered scene, against slow sums and against multislice simulations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from latticewatch.errors import ConfigurationError
from latticewatch_simulator import SimulatorSettings
from latticewatch_simulator._scene import Scene, add_spots
from latticewatch_simulator._signal import FITTED_PROBE_FWHM_NM, Spot, atom_signal, column_name, column_signal
from latticewatch_simulator._specimen import Specimen


def make(centre=(0.0, 0.0), **values) -> tuple[SimulatorSettings, Specimen, Scene]:
    settings = SimulatorSettings.checked(**{"shape": (96, 128), "births_per_frame": 0, **values})
    specimen = Specimen(settings)
    return settings, specimen, Scene(settings, specimen, np.array(centre))


def at_columns(scene: Scene) -> np.ndarray:
    where = (scene.positions_px() + scene.margin_px) * scene.oversampling
    return map_coordinates(scene.image, where.T, order=1, mode="constant", cval=np.nan)


def test_the_scene_is_the_sum_of_two_gaussians_a_column():
    settings, specimen, scene = make()
    spot = Spot.of_probe(settings.probe_fwhm_nm, settings.source_sigma_nm)
    rows, cols = np.mgrid[: scene.image.shape[0], : scene.image.shape[1]]
    expected = np.zeros(scene.image.shape)
    for (row, col), species in zip(
        scene.positions_px() + scene.margin_px, scene.columns.species, strict=True
    ):
        away = ((rows - row) ** 2 + (cols - col) ** 2) * settings.pixel_size_nm**2
        for sigma, amplitude in ((spot.narrow_nm, spot.narrow), (spot.wide_nm, spot.wide)):
            expected += specimen.signal[species] * amplitude * np.exp(-away / (2 * sigma**2))
    np.testing.assert_allclose(scene.image, expected, atol=3e-5 * expected.max())


@pytest.mark.parametrize("position", [(0.0, 0.0), (-3.2, 10.7), (31.0, 40.4), (-50.0, 5.0), (20.5, 300.0)])
def test_a_spot_across_or_beyond_the_edge_is_cut_there(position):
    image = np.zeros((32, 41), np.float32)
    add_spots(image, np.array([position]), np.array([2.0]), 1.5, 8)
    rows, cols = np.mgrid[:32, :41]
    expected = 2 * np.exp(-((rows - position[0]) ** 2 + (cols - position[1]) ** 2) / (2 * 1.5**2))
    np.testing.assert_allclose(image, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("file", "limit"), [("ws2_1024_r0", 0.0040), ("mose2_1024_r0", 0.0048), ("graphene_1024_r0", 0.0035)]
)
def test_two_gaussians_render_a_multislice_scene_within_half_a_percent(shared_data: Path, file, limit):
    with np.load(shared_data / "truth" / f"{file}.npz", allow_pickle=False) as truth:
        expected = truth["image"] * float(truth["electrons_fraction"])
        positions, species = truth["positions_px"].astype(float), truth["species"].astype(str)
        pixel_nm = float(truth["pixel_size_nm"])
    atoms = {"S2": "SS", "S1": "S", "Se2": ("Se", "Se"), "Se1": ("Se",), "Te+S": ("Te", "S")}
    signal = {s: 0.0 if s.startswith("V_") else column_signal(atoms.get(s, (s,))) for s in set(species)}
    weights = np.array([signal[s] for s in species])
    image = np.zeros((1024, 1024), np.float32)
    spot = Spot.of_probe(FITTED_PROBE_FWHM_NM, 0.02)
    for sigma, amplitude in ((spot.narrow_nm, spot.narrow), (spot.wide_nm, spot.wide)):
        add_spots(image, positions, amplitude * weights, sigma / pixel_nm, math.ceil(5 * sigma / pixel_nm))
    # Columns beyond the edge are not in the file.
    middle = (slice(64, -64), slice(64, -64))
    residual = (image - expected)[middle]
    assert np.sqrt((residual**2).mean()) / np.ptp(expected) < limit


def test_columns_are_as_bright_relative_to_tungsten_as_in_multislice():
    """The intensities at the columns of WS2, tails of the neighbours included."""
    _, specimen, scene = make(shape=(512, 512))
    names, bright = np.array(specimen.species)[scene.columns.species], at_columns(scene)
    tungsten = np.nanmedian(bright[names == "W"])
    for species, expected in {"Te+S": 0.83, "Fe": 0.26, "S2": 0.22, "S1": 0.13, "V_S2": 0.02}.items():
        assert np.nanmedian(bright[names == species]) / tungsten == pytest.approx(expected, abs=0.01)


def test_signal_grows_with_atomic_number_and_is_named_by_atoms():
    elements = ["H", "B", "C", "N", "O", "Si", "S", "Ti", "Fe", "Se", "Mo", "Te", "W", "Au", "U"]
    signals = [atom_signal(element) for element in elements]
    assert signals == sorted(signals)
    assert column_signal(("O", "Ti")) == pytest.approx(atom_signal("O") + atom_signal("Ti"))
    assert column_name(("S", "S")) == "S2"
    assert column_name(("S", "Te")) == "Te+S"


def test_a_wider_probe_spreads_the_same_signal():
    sharp, blurred = (Spot.of_probe(fwhm, source) for fwhm, source in ((0.06, 0.0), (0.15, 0.05)))
    assert blurred.narrow < 0.5 * sharp.narrow
    assert sharp.integral_nm2 == pytest.approx(blurred.integral_nm2)


def test_a_change_patches_the_scene_as_if_it_were_rendered_anew():
    settings, specimen, scene = make()
    at = int(np.flatnonzero(scene.columns.species == specimen.species.index("W"))[80])
    specimen.changed[int(scene.columns.id[at])] = specimen.species.index("Fe")
    before = scene.image.copy()
    scene.change(at, specimen.species.index("Fe"))
    anew = Scene(settings, specimen, np.zeros(2))
    np.testing.assert_array_equal(scene.columns.species, anew.columns.species)
    np.testing.assert_allclose(scene.image, anew.image, atol=1e-5 * anew.image.max())
    assert np.abs(scene.image - before).max() > 0.5 * before.max()


@pytest.mark.parametrize("contamination", [0.0, 0.5])
def test_two_scenes_agree_where_they_overlap(contamination):
    settings, _, here = make(contamination=contamination, shape=(256, 256))
    shift = 40
    _, _, there = make((shift * settings.pixel_size_nm, 0.0), contamination=contamination, shape=(256, 256))
    a, b = here.image[:, shift:], there.image[:, :-shift]
    np.testing.assert_allclose(a, b, atol=1e-5 * a.max())


def test_contamination_is_uneven_positive_and_of_the_level_asked_for():
    clean, dirty = (
        make(contamination=level, shape=(768, 768), pixel_size_nm=0.05, probe_fwhm_nm=0.4)[2]
        for level in (0, 0.5)
    )
    dirt = (dirty.image - clean.image) / clean.image.mean()
    assert dirt.min() > 0
    assert dirt.mean() == pytest.approx(0.5, rel=0.15)
    assert 0.4 < dirt.std() / dirt.mean() < 0.9


def test_coarse_pixels_are_sampled_from_a_finer_scene():
    _, _, fine = make(pixel_size_nm=0.012, shape=(400, 400))
    _, _, coarse = make(pixel_size_nm=0.04, shape=(120, 120))
    assert (fine.oversampling, coarse.oversampling) == (1, 3)
    assert np.nanmax(at_columns(coarse)) == pytest.approx(np.nanmax(at_columns(fine)), rel=0.02)


def test_the_middle_of_the_frame_is_the_stage_position():
    _, specimen, scene = make((3.0, -2.0), origin_nm=(3.0, -2.0), shape=(101, 151), defects={})
    metal = scene.columns.sublattice == specimen.species.index("W")
    positions = scene.positions_px()[metal]
    away = np.linalg.norm(positions - [50, 75], axis=1)
    assert away.min() == pytest.approx(0, abs=1e-6)


def test_a_scene_that_does_not_fit_in_memory_is_refused():
    with pytest.raises(ConfigurationError, match="fewer or smaller pixels"):
        make(shape=(8192, 8192), pixel_size_nm=0.04)
