"""What the lattice that is followed does not explain is told: a second one, columns that are not round."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.lattice import _profile, find_lattice
from latticewatch.pipeline import ROLES, Learner, analyse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import specimens
from _specimen import Detector, crystal, frames

SIDE = 300


def seen(scene, rng, electrons=2400.0):
    """A frame of a scene with room around it, with its noise."""
    detector = Detector().unsaturated(float(scene.max()) * electrons)
    return next(frames(iter([(scene, electrons)]), SIDE, detector, rng))[0].astype(np.float32)


def longer(scene, length_px, degrees):
    """A scene whose columns are drawn out along a direction, counter-clockwise from the rows."""
    angle, at = np.radians(degrees), np.arange(-12, 13)
    rows, cols = np.meshgrid(at, at, indexing="ij")
    along, across = (
        cols * np.cos(angle) - rows * np.sin(angle),
        cols * np.sin(angle) + rows * np.cos(angle),
    )
    kernel = np.exp(-0.5 * (along / length_px) ** 2 - 0.5 * (across / 0.4) ** 2)
    return ndimage.convolve(scene, (kernel / kernel.sum()).astype(np.float32))


@pytest.mark.parametrize(
    ("material", "twist"), [("WSe2", 10.0), pytest.param("MoS2", 28.0, marks=pytest.mark.slow)]
)
def test_a_second_layer_is_told_with_its_angle(rng, material, twist):
    layers = [crystal(material, 0.02, SIDE, rng, degrees).image() for degrees in (7.0, 7.0 + twist)]
    image = seen(layers[0] + layers[1], rng)
    beside = find_lattice(image).beside
    assert abs(beside[0] - twist) < 1.5
    assert abs(beside[1] - 1) < 0.02
    analysis = analyse(Frame(image=image, series_id="s", number=0), None, AnalysisSettings())
    assert "second-lattice" in [note.code for note in analysis.notes]


@pytest.mark.parametrize(("material", "seed"), [("WS2", 2), ("MoSe2", 0)])
def test_nothing_is_called_a_defect_where_two_layers_turned_by_five_degrees_lie_over_one_another(
    material, seed
):
    rng = np.random.default_rng(seed)
    layers = [
        crystal(material, 0.02, SIDE, rng, degrees).image() for degrees in (11.0 * seed, 11.0 * seed + 5.0)
    ]
    image = seen(layers[0] + layers[1], rng)
    settings = AnalysisSettings(learning_frames=1)
    analysis = analyse(Frame(image=image, series_id="s", number=0), None, settings)
    assert abs(analysis.lattice.beside[0] - 5.0) < 1.5
    assert analysis.lattice.overlaid
    result = Learner(settings).fold(analysis)[-1]
    codes = [note.code for note in result.notes]
    assert "second-lattice" in codes
    assert not {"step", "thickness-varies", "too-few-sites"} & set(codes)
    assert "defect" not in np.array(ROLES)[result.sites.role]


def test_columns_that_are_longer_than_wide_are_told_and_not_split(rng):
    scene = longer(crystal("graphene", 0.012, SIDE, rng).image(), 3.0, 100.0)
    lattice = find_lattice(seen(scene, rng, 17_000.0))
    assert len(lattice.cell.columns) == 2
    ratio, angle, misfit = lattice.ellipse
    assert 1.2 < ratio < 1.6
    assert abs(angle - 100) < 5
    assert misfit < lattice.profile.misfit
    assert [note.code for note in lattice.doubts] == ["columns-not-round"]


@pytest.mark.parametrize("name", ["perfect", "dislocation", "step"])
def test_nothing_is_told_of_one_lattice_of_round_columns(name):
    image, _ = specimens.made(name, "WS2", 1)
    assert find_lattice(image.astype(np.float32)).doubts == ()


def test_a_shape_that_cannot_be_fitted_is_round(rng, monkeypatch):
    image = seen(crystal("WSe2", 0.02, SIDE, rng).image(), rng)
    lattice = find_lattice(image)

    def singular(*_args):
        raise np.linalg.LinAlgError("Singular matrix")

    fit = _profile._CellFit(lattice.cell, lattice.field)
    before = fit._square.copy()
    monkeypatch.setattr(fit, "_misfit", singular)
    assert fit.ellipse(lattice.cell.columns, lattice.profile)[0] == 1.0
    assert np.array_equal(fit._square, before)
