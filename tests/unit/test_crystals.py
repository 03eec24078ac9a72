"""Crystals with one, two and four columns in the cell: each column is a site, and what changed is told."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import (
    dumbbells,
    graphene,
    honeycomb,
    judged,
    learnt,
    nearest,
    oblique,
    perovskite,
    render,
    square,
)

CRYSTALS = {
    "one": oblique(12.0).turned(7),
    "honeycomb": honeycomb(16.0).turned(11),
    "centred": square(18.0, (1.0, 0.6)).turned(5),
    "graphene": graphene(16.0).turned(3),
    "perovskite": perovskite(24.0).turned(8),
    "dumbbells": dumbbells(44.0).turned(4),
}


def scenes(name, seed, n=2):
    rng = np.random.default_rng([seed, *name.encode()])
    crystal = CRYSTALS[name]
    defects = (("vacancy", 0, 0.04, 0.0),)
    return [
        render(
            crystal,
            rng,
            shape=(340, 340),
            counts=400,
            defects=defects,
            clear=2.2 * crystal.spacing,
            shift=rng.uniform(0, 10, 2),
        )
        for _ in range(n)
    ]


@pytest.fixture(scope="module", params=CRYSTALS)
def judgement(request):
    frames = scenes(request.param, 1)
    model = learnt(frames)
    return request.param, model, [(scene, judged(model, scene)) for scene in frames]


def test_every_column_is_a_site_and_no_site_is_elsewhere(judgement):
    name, model, frames = judgement
    crystal = CRYSTALS[name]
    assert model.n_columns in (len(crystal.columns), len(crystal.columns) // 2)
    for scene, j in frames:
        inside = scene.position[scene.inside(1.2 * model.patch_px)]
        distance, _ = nearest(j.survey.sites.position, inside)
        assert distance.max() < 0.25 * crystal.spacing
        on_lattice = j.survey.sites.sublattice < model.n_columns
        assert j.distance[on_lattice].max() < 0.25 * crystal.spacing


def test_vacancies_are_defects_and_nothing_else_is(judgement):
    _, _, frames = judgement
    for _, j in frames:
        gone = j.kind == "vacancy"
        assert gone.sum() >= 3
        assert (j.role[gone] == "defect").all()
        assert (j.role[~gone] == "defect").sum() == 0
        assert (j.role == "unknown").mean() < 0.01
