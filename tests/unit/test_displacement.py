"""Columns that stand beside their places: how far, which way, and which are told."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import honeycomb, judged, learnt, nearest, oblique, render, square
from latticewatch.discover._displaced import displacement_gate, shift_kinds
from latticewatch.model._templates import ORDER, shift_terms, trial_shifts

SHAPE = (320, 320)
CRYSTALS = {
    "two": honeycomb(14.0).turned(11),
    "three": square(19.0, (1.0, 0.6)).turned(5),
    "one": oblique(11.0),
}


def frames(crystal, seed, n, **options):
    rng = np.random.default_rng(seed)
    settings = {"shape": SHAPE, "counts": 200, "clear": 30, **options}
    return [render(crystal, rng, shift=rng.uniform(0, 12, 2), **settings) for _ in range(n)]


@pytest.mark.parametrize("name", CRYSTALS)
def test_displaced_columns_are_a_class_that_says_how_far_and_which_way(name):
    crystal = CRYSTALS[name]
    scenes = frames(crystal, 0, 2, displaced=10, by=0.2)
    model = learnt(scenes)
    for scene in scenes:
        j = judged(model, scene)
        displaced = np.flatnonzero(j.kind == "displaced")
        assert (j.role[displaced] == "defect").all()
        names = {model.entry(int(c)).name for c in j.best[displaced]}
        assert len(names) == 1
        assert next(iter(names)).startswith("A displaced →")
        shift = j.verdict.shift[displaced]
        np.testing.assert_allclose(shift / crystal.spacing, np.tile([0, 0.2], (len(shift), 1)), atol=0.06)
        others = (j.kind != "displaced") & (j.role == "defect")
        assert others.sum() == 0


def test_one_displaced_column_in_twenty_is_not_taken_for_noise():
    crystal = CRYSTALS["two"]
    scenes = frames(crystal, 1, 2, displaced=28, by=0.2, clear=0)
    model = learnt(scenes)
    for scene in scenes:
        j = judged(model, scene)
        displaced = j.kind == "displaced"
        assert (j.role[displaced] == "defect").mean() > 0.9
        distance, _ = nearest(scene.position[scene.kind == "displaced"], j.survey.sites.position)
        assert (j.role[distance > 2.5 * crystal.spacing] == "defect").sum() == 0


def test_with_orientations_set_aside_displacements_are_one_class():
    crystal = CRYSTALS["two"]
    scenes = frames(crystal, 2, 2, displaced=10, by=0.2) + frames(crystal, 6, 2, displaced=10, by=-0.2)
    assert sum("displaced" in e.name for e in learnt(scenes).classes) == 2
    (one,) = [e.name for e in learnt(scenes, invariant=True).classes if "displaced" in e.name]
    assert "→" not in one
    assert "←" not in one


def test_hosts_are_in_their_places():
    model = learnt(frames(CRYSTALS["two"], 3, 2))
    sites = displaced = 0
    for scene in frames(CRYSTALS["two"], 4, 4):
        shift = judged(model, scene).verdict.shift
        sites, displaced = sites + len(shift), displaced + int(shift.any(1).sum())
    assert displaced <= sites / 2000


def test_what_the_filter_says_of_a_displacement_gives_it_back():
    known = learnt(frames(CRYSTALS["two"], 5, 1)).sublattices[0].displacement
    shift = trial_shifts(0.8 * known.farthest_px)
    np.testing.assert_allclose(known.shift(known.of(shift)), shift, atol=0.02 * known.farthest_px)


@pytest.mark.parametrize("order", [1, 2, 5, ORDER])
def test_terms_are_all_products_up_to_an_order(order):
    wanted = [2.0**i * 3.0 ** (n - i) for n in range(1, order + 1) for i in range(n, -1, -1)]
    terms = shift_terms(np.array([[2.0, 3.0]]), 1.0, len(wanted))
    np.testing.assert_allclose(terms[0], wanted)


def test_the_gate_lets_few_hosts_through_and_many_alike_do_not_raise_it(rng):
    hosts = rng.normal(size=(4000, 2))
    plain = displacement_gate(hosts)
    assert 25 < plain < 45
    crowd = np.concatenate([hosts, rng.normal((12.0, 5.0), 1.0, (200, 2))])
    assert displacement_gate(crowd) == pytest.approx(plain, rel=0.15)
    tailed = hosts * np.where(rng.random(4000) < 0.1, 2.5, 1.0)[:, None]
    assert displacement_gate(tailed) > 1.3 * plain


def test_kinds_are_told_apart_by_direction(rng):
    parts = [rng.normal(c, 0.05, (12, 2)) for c in ((2.0, 0.0), (-1.0, 1.7), (-1.0, -1.7))]
    kinds = shift_kinds(np.concatenate(parts), 0.05, 1000)
    assert len(kinds) == 3
    np.testing.assert_allclose(kinds.weight, 0.012)
    np.testing.assert_allclose(np.hypot(*kinds.centroid.T), 2.0, atol=0.1)
