"""The benchmark of births itself: what it plants is where it says, and a perfect report scores as one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import KDTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import births
from _specimen import KINDS, Detector, crystal, frames, planted, separation

PIXEL_NM, SIZE = 0.0125, 384


def specimen(rng, *names, material="WS2", number=3):
    perfect = crystal(material, PIXEL_NM, SIZE, rng)
    kinds = {name: (KINDS[material][name], number) for name in names}
    return perfect, planted(perfect, kinds, rng, 2 * perfect.constant_px)


@pytest.mark.parametrize("material", list(KINDS))
def test_an_atom_in_the_hollow_is_as_far_from_its_columns_as_can_be(material, rng):
    perfect, made = specimen(rng, "hollow", material=material)
    distance = KDTree(perfect.site).query(made.position[made.defects("hollow")])[0]
    # the centre of a honeycomb's hexagon is one bond length from each of its corners
    assert np.allclose(distance, perfect.nearest_px, rtol=1e-3)


def test_an_atom_anywhere_is_no_nearer_to_a_column_than_a_bridge(rng):
    perfect, made = specimen(rng, "anywhere")
    distance = KDTree(perfect.site).query(made.position[made.defects("anywhere")])[0]
    assert (distance >= perfect.nearest_px / 2).all()
    assert np.ptp(distance) > 0.01 * perfect.nearest_px


def test_a_bridge_is_half_way_between_two_columns(rng):
    perfect, made = specimen(rng, "bridge")
    distance = KDTree(perfect.site).query(made.position[made.defects("bridge")], k=2)[0]
    assert np.allclose(distance, perfect.nearest_px / 2, rtol=1e-3)


def test_displaced_columns_stand_35_pm_from_their_sites_in_one_direction_or_in_six(rng):
    _, made = specimen(rng, "displaced", "scattered", number=6)
    for name, directions in (("displaced", 1), ("scattered", 6)):
        k = made.defects(name)
        shift = (made.position - made.site)[k] * PIXEL_NM
        assert np.allclose(np.hypot(*shift.T), 0.035)
        assert len(np.unique(np.round(shift, 5), axis=0)) == directions


def test_the_ideal_observer_s_separation_grows_as_the_root_of_the_electrons(rng):
    perfect, made = specimen(rng, "height", "vacancy")
    quiet = Detector(spread=0.0, read=0.0)
    once, four = (separation(perfect, made, n, quiet) for n in (1e3, 4e3))
    assert four["height"] == pytest.approx(2 * once["height"], rel=1e-6)
    assert once["height"] > once["vacancy"] > 0


def test_a_frame_has_the_columns_where_the_truth_has_them(rng):
    perfect, _ = specimen(rng)
    scenes = iter([(perfect.image(), 5e3)] * 2)
    quiet = Detector(jitter_px=0.0, read=0.0, offset=0.0)
    (_, still), (image, shift) = frames(scenes, SIZE, quiet, rng, (1.0, -2.0))
    assert (still == 0).all()
    assert (shift == [1.0, -2.0]).all()
    bright = np.flatnonzero((perfect.host == 0) & perfect.inside(20))
    place = np.rint(perfect.site[bright] - shift).astype(int)
    columns = image[place[:, 0], place[:, 1]].astype(float)
    assert columns.min() > 5 * np.median(image)


def reported(stream, what):
    """Results that call every true defect what they are told to, at its site."""
    after = stream.after
    sites = np.concatenate([after.site[after.host >= 0], after.position[after.host < 0]])
    kind = np.concatenate([after.kind[after.host >= 0], after.kind[after.host < 0]])
    role = np.array([births.ROLES.index(what if k else "host") for k in kind])
    table = SimpleNamespace(position=sites, role=role, class_id=np.where(kind != "", 1, 0))
    classes = (SimpleNamespace(class_id=0, name="A"), SimpleNamespace(class_id=1, name="A −70 %"))
    return {n: SimpleNamespace(sites=table, classes=classes, events=()) for n in range(3)}


@pytest.mark.parametrize(("what", "share"), [("defect", 1.0), ("unknown", 0.0)])
def test_a_perfect_report_scores_as_one_and_unknown_scores_nothing(what, share, rng):
    perfect, made = specimen(rng, "height", "hollow")
    distance = {"height": 1.0, "hollow": 1.0}
    stream = births.Stream(perfect, made, 0, distance, [np.zeros(2)] * 3, {}, 0.0)
    stream.results.update(reported(stream, what))
    tallies, false, _ = births.scored(stream)
    assert false == 0
    for tally in tallies.values():
        assert tally.roles["defect"] / sum(tally.roles.values()) == share
        assert tally.roles[what] == sum(tally.roles.values())
