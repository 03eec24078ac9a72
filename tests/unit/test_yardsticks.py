"""The yardsticks of the benchmarks, on cases that can be counted by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import hybrid
import reliability
from _ideal import Detector as Ideals
from _ideal import observe, scene_templates
from _runs import Found, contamination, found, sites_at, truth_of
from _specimen import Detector, Kind, crystal, planted

from latticewatch.pipeline import ROLES


def result(position, roles, class_id=None, confidence=None):
    n = len(position)
    return SimpleNamespace(
        sites=SimpleNamespace(
            position=np.array(position, float),
            role=np.array([ROLES.index(role) for role in roles]),
            class_id=np.zeros(n, int) if class_id is None else np.array(class_id),
            confidence=np.ones(n) if confidence is None else np.array(confidence),
        )
    )


def truth(species):
    """A row of columns, ten pixels apart."""
    return {
        "positions_px": np.array([(10.0, 10.0 * k) for k in range(len(species))]),
        "species": np.array(species),
        "inside": np.ones(len(species), bool),
        "host": np.array(["W"]),
    }


def test_a_site_is_given_to_the_nearest_column_and_each_column_has_one():
    site, at = sites_at(
        result([(0, 0), (0, 2), (0, 50)], ["host"] * 3), np.array([(0.0, 1.5), (0.0, 9.0)]), 3
    )
    assert site.tolist() == [1, -1]
    assert at.tolist() == [-1, 0, -1]


def test_a_defect_said_twice_of_one_column_is_false_once():
    told = result([(10, 0), (10, 10), (10, 11.5), (10, 20)], ["host", "defect", "defect", "host"])
    assert found(told, truth(["W", "Fe", "W"])) == Found(right=1, false=1, missed=0)


def test_unknown_and_neighbour_are_no_defects():
    told = result([(10, 0), (10, 10), (10, 20)], ["unknown", "neighbour", "defect"])
    assert found(told, truth(["Fe", "Fe", "W"])) == Found(right=0, false=1, missed=2)


def test_frames_without_defects_in_which_none_is_said_score_as_one():
    assert Found(0, 0, 0).f1 == 1.0
    assert (Found(3, 1, 1) + Found(1, 0, 0)).f1 == pytest.approx(8 / 10)


def test_dirt_is_one_in_the_mean_and_smooth(rng):
    dirt = contamination(256, 0.0125, rng)
    assert dirt.mean() == pytest.approx(1.0, abs=1e-3)
    assert dirt.std() > 0.2
    assert np.abs(np.diff(dirt, axis=0)).max() < 0.05


def test_bright_pixels_are_given_a_gain_that_fits_into_16_bit():
    detector = Detector().unsaturated(1e4)
    assert detector.counts * 1e4 + detector.offset < 0.9 * 65535
    # the same in electrons
    assert detector.read / detector.counts == pytest.approx(Detector().read / Detector().counts)
    assert Detector().unsaturated(100.0) == Detector()


def test_the_ideal_observer_reads_a_specimen_that_was_made(rng):
    perfect = crystal("MoSe2", 0.02, 384, rng)
    specimen = planted(perfect, {"weak": (Kind(host=0, factor=0.9), 20)}, rng, 2 * perfect.nearest_px)
    made = truth_of(specimen, 2 * perfect.nearest_px)
    assert set(made["host"]) == {"host0", "host1"}
    assert (made["species"] == "weak").sum() == 20
    f1 = [observe(scene_templates(made), dose * 0.2**2, 0.0, Ideals(), seed=1).f1 for dose in (1e4, 1e5, 1e6)]
    assert f1[0] < f1[1] < f1[2]
    assert f1[2] > 0.99


def test_a_class_is_true_of_the_species_that_most_of_it_are_and_never_a_defect_of_hosts():
    told = result(
        [(10, 10 * k) for k in range(6)],
        ["defect"] * 3 + ["host", "neighbour", "defect"],
        class_id=[1, 1, 1, 0, 2, 3],
        confidence=[0.9, 0.8, 0.7, 1.0, 0.6, 0.5],
    )
    said = reliability.claims(told, truth(["Fe", "Fe", "W", "W", "W", "W"]))
    assert said.confidence.tolist() == [0.9, 0.8, 0.7, 1.0, 0.6, 0.5]
    assert said.true.tolist() == said.purest.tolist() == [True, True, False, True, True, False]
    assert said.defect.tolist() == [True, True, True, False, False, True]


def test_a_class_that_two_species_are_is_true_of_both_and_purely_of_one():
    told = result([(10, 10 * k) for k in range(6)], ["defect"] * 6, class_id=[1, 1, 1, 1, 1, 2])
    said = reliability.claims(told, truth(["Fe", "Fe", "Fe", "V", "V", "V"]))
    assert said.true.tolist() == [True] * 6
    assert said.purest.tolist() == [True, True, True, False, False, True]


def test_the_floor_is_what_so_many_claims_err_by_when_each_is_as_sure_as_was_said():
    few, many = (reliability.floor(np.full(n, 0.75)) for n in (20, 2000))
    # the mean of |share - .75| of a binomial share is its deviation times the root of 2/pi
    assert few == pytest.approx(np.sqrt(0.75 * 0.25 / 20 * 2 / np.pi), rel=0.15)
    assert many == pytest.approx(np.sqrt(0.75 * 0.25 / 2000 * 2 / np.pi), rel=0.15)
    assert reliability.floor(np.zeros(0)) is None


def test_the_calibration_error_is_nought_where_shares_are_as_said_and_their_difference_else():
    true = np.array([True] * 3 + [False])
    assert reliability.error(np.full(4, 0.75), true) == pytest.approx(0.0)
    assert reliability.error(np.full(4, 0.95), true) == pytest.approx(0.2)
    assert reliability.error(np.zeros(0), np.zeros(0, bool)) is None


def test_a_scaled_column_planted_twice_as_high_is_exactly_that_much_higher():
    base = SimpleNamespace(image=np.zeros((40, 40)), nearest=4.0)
    change = hybrid.scaling(100.0, 1.5, 2.0, 0.0, 0.0)
    image = hybrid.planted(base, np.array([(20.0, 18.0)]), change)
    assert image[20, 18] == pytest.approx(100.0)
    moved = hybrid.planted(base, np.array([(20.0, 18.0)]), hybrid.scaling(100.0, 1.5, 1.0, 2.0, 0.0))
    assert moved.sum() == pytest.approx(0.0, abs=1.0)
    assert np.unravel_index(moved.argmax(), moved.shape)[1] > 20
