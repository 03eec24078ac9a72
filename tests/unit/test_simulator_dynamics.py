"""What the beam does to the specimen, how the specimen drifts, and the events that are written of it."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from latticewatch.cli._simulate import _cross_sections, _jump
from latticewatch.errors import ConfigurationError
from latticewatch.messages import EVENT_TYPES
from latticewatch_simulator import Microscope, SimulatorSettings, TruthWriter, read_truth
from latticewatch_simulator._drift import DriftPath
from latticewatch_simulator._scene import Scene
from latticewatch_simulator._specimen import Specimen

QUIET = {"drift_nm_per_frame": (0.0, 0.0), "line_jitter_px": 0.0, "flicker": 0.0}
NOTHING = dict.fromkeys(
    ("creation_a2", "hop_a2", "healing_a2", "substitution_a2", "replacement_a2", "adatom_hop_a2"), 0.0
)
DOSE = 1e4


def microscope(**values) -> Microscope:
    given = {"shape": (256, 256), "settle_s": 0.0, "dynamics": "beam", "dose_e_per_a2": DOSE, **QUIET}
    return Microscope(SimulatorSettings.checked(**{**given, **values}))


def truths(scope: Microscope, frames: int):
    return [scope.acquire().truth for _ in range(frames)]


def events(frames):
    return [event for truth in frames for event in truth.events]


@pytest.mark.parametrize("material", ["WS2", "MoSe2", "graphene", "hBN"])
def test_the_events_tell_every_change(material):
    scope = microscope(
        material=material,
        creation_a2=1e-7,
        hop_a2=2e-6,
        healing_a2=4e-6,
        substitution_a2=3e-7,
        replacement_a2=2e-8,
    )
    frames = truths(scope, 40)
    names = set()
    for before, after in itertools.pairwise(frames):
        known = dict(zip(before.id.tolist(), before.species.tolist(), strict=True))
        told = {}
        for event in after.events:
            assert event.type in EVENT_TYPES
            assert event.frame == after.number
            names.add(event.type)
            if event.type == "defect.moved":
                told[event.from_site] = after.names[known[event.site]]
                assert after.names[known[event.from_site]] == event.before
            else:
                assert after.names[known[event.site]] == event.before
            told[event.site] = event.after
            at = np.searchsorted(after.id, event.site)
            np.testing.assert_allclose(event.px, after.positions_px()[at], atol=1e-6)
        now = {int(i): after.names[s] for i, s in zip(after.id, after.species, strict=True)}
        assert told == {i: now[i] for i in now if after.names[known[i]] != now[i]}
        assert {change.id for change in after.changes} == set(told)
    assert len(names) == 4 or (material != "WS2" and {"defect.appeared", "defect.moved"} <= names)


def test_a_process_is_as_frequent_as_its_cross_section_says():
    n_frames, dose = 60, 5e4
    made = microscope(**{**NOTHING, "creation_a2": 4e-9}, defects={}, dose_e_per_a2=dose)
    frames = truths(made, n_frames)
    columns = (frames[0].inside() & (frames[0].sublattice == 1)).sum()
    expected = columns * n_frames * 4e-9 * dose
    assert len(events(frames)) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    for process, kind in (
        ("healing_a2", "disappeared"),
        ("hop_a2", "moved"),
        ("substitution_a2", "reclassified"),
    ):
        scope = microscope(
            **{**NOTHING, process: 2e-6},
            defects={"S1": 0.1},
            dose_e_per_a2=dose,
            attraction=1,
            shape=(512, 512),
        )
        first, then = truths(scope, 2)
        vacancies = (first.inside() & (first.species == first.names.index("S1"))).sum()
        assert vacancies > 20
        happened = Counter(event.type for event in then.events)
        expected = vacancies * -np.expm1(-2e-6 * dose)
        assert happened[f"defect.{kind}"] == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_the_scene_shows_what_was_changed_as_if_it_were_rendered_anew():
    scope = microscope(
        defects={"S1": 0.1, "ad-Mo": 0.1},
        creation_a2=1e-6,
        hop_a2=1e-5,
        adatom_hop_a2=3e-5,
        replacement_a2=1e-6,
    )
    frames = truths(scope, 12)
    assert {"ad-Mo", "S1"} <= {event.before for event in events(frames) if event.type == "defect.moved"}
    anew = Scene(scope.settings, scope.specimen, np.zeros(2))
    np.testing.assert_array_equal(scope._scene.columns.id, anew.columns.id)
    np.testing.assert_array_equal(scope._scene.columns.species, anew.columns.species)
    np.testing.assert_allclose(scope._scene.image, anew.image, atol=1e-5 * anew.image.max())


def test_attraction_gathers_vacancies():
    def beside(attraction):
        scope = microscope(
            **{**NOTHING, "hop_a2": 3e-5}, defects={"S1": 0.05}, attraction=attraction, shape=(384, 384)
        )
        for _ in range(150):
            truth = scope.acquire().truth
        lost = {"S1": 1, "V_S2": 2}
        vacant = {
            int(i): lost[truth.names[s]]
            for i, s in zip(truth.id, truth.species, strict=True)
            if truth.names[s] in lost
        }
        return sum(
            n * (n - 1) + sum(vacant.get(int(near), 0) for near in scope.specimen.neighbours(i))
            for i, n in vacant.items()
        ) / sum(vacant.values())

    assert beside(50.0) > 1.5 * beside(1.0)


def test_a_vacancy_that_hops_onto_another_makes_a_double_one_and_hops_keep_the_number():
    scope = microscope(**{**NOTHING, "hop_a2": 2e-5}, defects={"S1": 0.15})
    frames = truths(scope, 30)
    merged = [event for event in events(frames) if (event.before, event.after) == ("S1", "V_S2")]
    assert merged
    lost = {"S1": 1, "V_S2": 2}
    numbers = {sum(lost.get(truth.names[s], 0) for s in truth.species) for truth in frames}
    assert len(numbers) == 1


def test_adatoms_hop_between_hollows_and_keep_their_number():
    scope = microscope(**NOTHING | {"adatom_hop_a2": 2e-5}, defects={"ad-Mo": 0.1})
    frames = truths(scope, 20)
    moved = events(frames)
    assert len(moved) > 10
    assert {(event.type, event.before) for event in moved} == {("defect.moved", "ad-Mo")}
    assert len({int((truth.sublattice == -1).sum()) for truth in frames}) == 1
    for truth in frames:
        assert (np.diff(truth.id) > 0).all()
        for event in truth.events:
            assert event.site in truth.id
            assert event.from_site not in truth.id or event.from_site in {e.site for e in truth.events}


@pytest.mark.parametrize(
    ("material", "filled"), [("WS2", "C+S"), ("MoSe2", "C+Se"), ("graphene", "N"), ("hBN", "C_B")]
)
def test_a_filled_vacancy_is_of_another_element(material, filled):
    scope = microscope(material=material, **NOTHING | {"creation_a2": 1e-6, "substitution_a2": 1e-5})
    turned = {event.after for event in events(truths(scope, 10)) if event.type == "defect.reclassified"}
    assert filled in turned


def test_the_beam_takes_atoms_away_and_no_other_newborn_is_accepted():
    with pytest.raises(ConfigurationError, match="give a vacancy"):
        microscope(birth_species="Fe")


def test_the_same_seed_gives_the_same_events_and_they_are_read_as_written(tmp_path: Path):
    first, again = (
        truths(microscope(adatom_hop_a2=1e-5, defects={"S1": 0.1, "ad-Mo": 0.1}), 12) for _ in "ab"
    )
    assert events(first) == events(again)
    assert events(first)
    with TruthWriter(
        tmp_path / "truth.jsonl", microscope().description() | {"species": first[0].names}
    ) as writer:
        for truth in first:
            writer.write(truth)
    for got, expected in zip(read_truth(tmp_path / "truth.jsonl"), first, strict=True):
        np.testing.assert_array_equal(got.id, expected.id)
        np.testing.assert_array_equal(got.species, expected.species)
        assert [(e.type, e.site, e.from_site, e.after) for e in got.events] == [
            (e.type, e.site, e.from_site, e.after) for e in expected.events
        ]


def test_births_and_healing_are_told_as_events():
    scope = microscope(dynamics="births", births_per_frame=1.0, lifetime_frames=5, defects={})
    frames = truths(scope, 30)
    assert {(e.type, e.before, e.after) for e in events(frames)} == {
        ("defect.appeared", "S2", "S1"),
        ("defect.disappeared", "S1", "S2"),
    }
    assert [e.site for e in events(frames)] == [c.id for truth in frames for c in truth.changes]


def test_what_is_remembered_of_places_out_of_view_is_bounded(monkeypatch):
    monkeypatch.setattr("latticewatch_simulator._damage.MAX_CHANGED", 20)
    scope = microscope(creation_a2=3e-6, drift_nm_per_frame=(0.9, 0.0), defects={})
    for _ in range(30):
        truth = scope.acquire().truth
    assert 20 < len(scope.specimen.changed) <= 20 + truth.is_defect().sum()


def test_neighbours_are_the_nearest_columns_of_the_same_sublattice():
    settings = SimulatorSettings.checked(rotation_deg=23, defects={"ad-Mo": 0.1})
    specimen = Specimen(settings)
    columns = specimen.columns(np.array([-2.0, -2.0]), np.array([2.0, 2.0]))
    for column, xy in zip(columns.id.tolist(), columns.xy_nm, strict=True):
        np.testing.assert_allclose(specimen.position_nm(column), xy)
        near = [specimen.position_nm(int(c)) for c in specimen.neighbours(column)]
        np.testing.assert_allclose(np.linalg.norm(np.array(near) - xy, axis=1), [0.3153] * 6)


def path(frames=200, moves=None, **values):
    settings = SimulatorSettings.checked(
        **{"drift_nm_per_frame": (0.0, 0.0), "pixel_size_nm": 0.01, **values}
    )
    drift = DriftPath(settings)
    return [drift.next(frame, (moves or {}).get(frame, (0.0, 0.0))) for frame in range(frames)]


def test_drift_goes_on_where_the_frame_before_ended():
    drifts = path(drift_nm_per_frame=(0.01, -0.02), drift_walk_nm=0.02)
    for before, after in itertools.pairwise(drifts):
        np.testing.assert_allclose(after.start_px, np.add(before.start_px, before.step_px))
    steps = np.array([drift.step_px for drift in drifts])
    np.testing.assert_allclose(steps.mean(axis=0), [1, -2], atol=5 * 2 / np.sqrt(200))
    np.testing.assert_allclose(steps.std(axis=0), [2, 2], rtol=0.2)


def test_the_specimen_creeps_on_after_a_stage_move_and_settles():
    drifts = path(moves={5: (10.0, -20.0)}, settling_fraction=0.1, settling_frames=8.0)
    start = np.array([drift.start_px for drift in drifts])
    assert not start[:6].any()
    np.testing.assert_allclose(start[-1], [-200, 100], rtol=1e-6)
    left = 1 - start[:, 1] / 100
    np.testing.assert_allclose(left[5 + 8], np.exp(-1), rtol=1e-6)


def test_a_jump_comes_between_two_frames():
    drifts = path(drift_jumps_nm={3: (5.0, 0.0), 6: (-5.0, 0.0)})
    assert [round(drift.start_px[0]) for drift in drifts[:8]] == [0, 0, 0, 500, 500, 500, 0, 0]
    scope = microscope(drift_jumps_nm={2: (3.0, 1.0)}, **NOTHING)
    first, _, third = truths(scope, 3)
    _, a, b = np.intersect1d(first.id, third.id, return_indices=True)
    moved = third.positions_px()[b] - first.positions_px()[a]
    np.testing.assert_allclose(moved, np.tile([-250, -83.333], (len(a), 1)), atol=0.01)
    with pytest.raises(ConfigurationError, match="drift jumps"):
        microscope(drift_jumps_nm={2: (3000.0, 1.0)})


def test_the_command_line_reads_cross_sections_and_jumps():
    assert _cross_sections("creation=2e-9,adatom_hop=1") == {"creation_a2": 2e-9, "adatom_hop_a2": 1.0}
    assert _jump("40:5,-2.5") == (40, (5.0, -2.5))
    with pytest.raises(ConfigurationError, match="no such process"):
        _cross_sections("hops=1")
    with pytest.raises(ConfigurationError, match="hop=1e-7"):
        _cross_sections("hop=x")
    for wrong in ("40", "x:1,2", "40:1,y"):
        with pytest.raises(ConfigurationError, match="FRAME:ROW,COLUMN"):
            _jump(wrong)
