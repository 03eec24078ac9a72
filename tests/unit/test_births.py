"""Kinds of defects that begin while the stream is watched, taken through the pipeline as the service does it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import births

from latticewatch.model import named_change


@pytest.fixture(scope="module")
def watched() -> tuple[dict[str, births.Tally], float, Counter[str]]:
    """Four kinds that begin in the same frame, three frames before classes are looked for in what tracks have gathered.

    Two of the atoms off the lattice stand so near to one another that each is less certain for the light of the other.
    """
    settings = Namespace(counts=150.0, size=512, pixel_nm=0.0125, frames=30, born=15, drift="0,0")
    with births.threadpool_limits(limits=1, user_api="blas"), pytest.MonkeyPatch.context() as patch:
        # however busy the machine is, what is found is taken up after the same frame
        patch.setattr("latticewatch.pipeline._search.PATIENCE_S", 60.0)
        return births.scored(births.made(settings, "WS2", births.TOGETHER, 0))


def test_every_kind_that_begins_is_called_a_defect(watched):
    tallies, _, _ = watched
    assert set(tallies) == set(births.TOGETHER)
    for name, tally in tallies.items():
        assert tally.roles["defect"] >= 0.95 * sum(tally.roles.values()), (name, tally.roles)


def test_every_kind_is_told_within_a_few_frames(watched):
    tallies, _, _ = watched
    for name, tally in tallies.items():
        assert len(tally.heard) == tally.number, name
        assert np.median(tally.heard) <= 6, (name, tally.heard)


def test_columns_beside_what_began_stay_hosts(watched):
    # the averages of a site that is about to change hold its neighbours' light of before and of after
    _, false, called = watched
    assert false == 0.0, called


def test_atoms_off_the_lattice_are_of_one_class_however_near_to_one_another(watched):
    tallies, _, _ = watched
    assert len(tallies["hollow"].names) == 1, tallies["hollow"].names


def test_a_class_has_the_height_that_it_has_alone(watched):
    # hosts made less certain by what began beside them say nothing of the width of the noise
    tallies, _, _ = watched
    (name,) = tallies["vacancy"].names
    assert named_change(name) == pytest.approx(-0.42, abs=0.08)


def test_kinds_that_begin_at_a_tenth_of_all_sites_are_learnt():
    settings = Namespace(counts=80.0, size=400, pixel_nm=0.0125, frames=26, born=8, drift="0,0")
    with births.threadpool_limits(limits=1, user_api="blas"):
        stream = births.made(settings, "MoSe2", births.TOGETHER, 6)
    first = stream.results[min(stream.results)]
    tallies, false, called = births.scored(stream)
    assert sum(tally.number for tally in tallies.values()) > 0.1 * len(first.sites.role)
    assert false <= 0.5, called
    for name, tally in tallies.items():
        assert tally.roles["defect"] >= 0.9 * sum(tally.roles.values()), (name, tally.roles)
    assert np.median(tallies["displaced"].shift) < 0.2


@pytest.mark.parametrize(
    ("material", "kind"), [("WS2", "bridge"), ("graphene", "bridge"), ("graphene", "anywhere")]
)
def test_an_atom_off_the_lattice_is_one_defect_where_it_is(material, kind):
    settings = Namespace(counts=150.0, size=320, pixel_nm=0.0125, frames=21, born=6, drift="0,0")
    with births.threadpool_limits(limits=1, user_api="blas"):
        tallies, false, called = births.scored(births.made(settings, material, (kind,), 0))
    assert false == 0.0, called
    tally = tallies[kind]
    assert tally.roles["defect"] >= 0.95 * sum(tally.roles.values()), tally.roles
    assert np.median(tally.place_pm) < 10
    assert all(name.startswith("off lattice") for name in tally.names), tally.names
    if kind == "bridge":
        # whichever way the bond points
        assert len(tally.names) == 1, tally.names
