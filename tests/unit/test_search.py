"""Classes that no single frame shows are found in what tracks gather, beside a stream that goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.special import ndtri

from latticewatch.config import AnalysisSettings
from latticewatch.discover import Searched, SiteAverages, search, taken_up
from latticewatch.discover._again import (
    CHANCE_P,
    HIDDEN_SIGMA,
    _by_chance,
    _by_themselves,
    _Change,
    _times_larger,
)
from latticewatch.discover._gathered import LONGEST_FRAMES, MOST_FRAMES
from latticewatch.ingest import Frame
from latticewatch.model import Mixture, Model, Patches, named_change
from latticewatch.pipeline import ROLES, FrameResult, Learner, analyse
from latticewatch.pipeline._search import Search
from latticewatch_simulator import Microscope, SimulatorSettings

PIXEL_NM = 0.02
# So few electrons that a column without one of its two atoms is told from its host at d' of about one in a frame.
DOSE = 1e3
N_FRAMES = 30
SETTINGS = AnalysisSettings(learning_frames=4)
MARGIN_PX = 14
TOLERANCE_PX = 3.0
PATIENCE_S = 20.0


class Stream:
    """Frames of a specimen that does not change."""

    def __init__(self) -> None:
        settings = SimulatorSettings.checked(
            shape=(512, 512),
            pixel_size_nm=PIXEL_NM,
            births_per_frame=0.0,
            drift_nm_per_frame=(0.0, 0.0),
            defects={"S1": 0.03, "Mo": 0.02},
            dose_e_per_a2=DOSE,
            seed=5,
        )
        source = Microscope(settings, "specimen A")
        frames = [source.acquire() for _ in range(N_FRAMES)]
        truth = frames[0].truth
        self.images = [frame.image for frame in frames]
        self.defects = truth.positions_px()[truth.inside(MARGIN_PX) & truth.is_defect()]

    def frames(self) -> Iterable[Frame]:
        for n, image in enumerate(self.images):
            yield Frame(
                image, series_id="A", number=n, ordinal=n, t_received=1.7e9 + n, pixel_size_nm=PIXEL_NM
            )


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream()


def followed(stream: Stream, learner: Learner) -> list[FrameResult]:
    return [
        r
        for frame in stream.frames()
        for r in learner.fold(analyse(frame, learner.model, SETTINGS))
        if r.model_version
    ]


@pytest.fixture(scope="module")
def learner() -> Learner:
    return Learner(SETTINGS)


@pytest.fixture(scope="module")
def results(stream: Stream, learner: Learner) -> list[FrameResult]:
    # however busy the machine is, what is found is taken up after the same frame
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latticewatch.pipeline._search.PATIENCE_S", PATIENCE_S)
        return followed(stream, learner)


def scored(result: FrameResult, stream: Stream) -> tuple[float, float]:
    """Share of the true defects that are reported, and share of the reported ones that are true."""
    position = result.sites.position[result.sites.role == ROLES.index("defect")].astype(float)
    far = ((position > MARGIN_PX) & (position < 511 - MARGIN_PX)).all(1)
    if not far.any():
        return 0.0, 1.0
    recall = KDTree(position).query(stream.defects)[0] < TOLERANCE_PX
    precision = KDTree(stream.defects).query(position[far])[0] < TOLERANCE_PX
    return float(recall.mean()), float(precision.mean())


def test_what_frames_hide_is_found_as_they_gather(stream, results):
    after_learning, _ = scored(results[SETTINGS.learning_frames - 1], stream)
    recall, precision = scored(results[-1], stream)
    assert after_learning < 0.8
    assert recall > 0.9
    assert precision > 0.9


def test_a_class_found_in_averages_has_a_number_and_an_event_of_its_own(results):
    first = {entry.class_id for entry in results[SETTINGS.learning_frames - 1].classes}
    last = {entry.class_id for entry in results[-1].classes}
    told = [e.data.class_id for r in results for e in r.events if e.type == "class.discovered"]
    assert first < last
    assert last - first <= set(told)
    assert len(told) == len(set(told))


@pytest.mark.usefixtures("results")
def test_averages_that_lag_behind_move_no_class_that_every_frame_shows(learner):
    model = learner.model
    assert model is not None
    for s in range(model.n_columns):
        known = model.sublattices[s]
        away = (known.mixture.mean - known.mixture.mean[0]) / known.mixture.deviation[0]
        before = replace(
            known.mixture, mean=known.mixture.mean[0] + 1.2 * (known.mixture.mean - known.mixture.mean[0])
        )
        found = SimpleNamespace(mixture=before, filter=known.filter)
        change = _Change(model, 99)
        change.take_up(s, SimpleNamespace(found=SimpleNamespace(sublattices={s: found})))  # type: ignore[arg-type]
        moved = change.model.sublattices[s].mixture.mean != known.mixture.mean
        np.testing.assert_array_equal(moved[1:], 1.2 * np.abs(away[1:]) <= HIDDEN_SIGMA)
        assert moved[1:].any() or not (away[1:] < HIDDEN_SIGMA).any()


@pytest.mark.usefixtures("results")
def test_averages_in_which_all_is_higher_move_no_class(learner):
    def times_as_far(known, times):
        mixture = known.mixture
        return replace(mixture, mean=mixture.mean[0] + times * (mixture.mean - mixture.mean[0]))

    columns = learner.model.sublattices[: learner.model.n_columns]
    # a class that every frame shows on one sublattice, hidden ones on the others
    plain = max(columns, key=lambda known: np.ptp(known.mixture.mean))
    sublattices = tuple(
        replace(known, mixture=times_as_far(known, 4.0)) if known is plain else known
        for known in learner.model.sublattices
    )
    model = replace(learner.model, sublattices=sublattices)
    higher = [
        SimpleNamespace(mixture=times_as_far(known, 1.25), filter=known.filter)
        for known in model.sublattices[: model.n_columns]
    ]
    searched = SimpleNamespace(found=SimpleNamespace(sublattices=higher))
    times = _times_larger(model, searched)  # type: ignore[arg-type]
    assert times == pytest.approx(1.25)
    hidden = set()
    for s in range(model.n_columns):
        change = _Change(model, 99, times)
        change.take_up(s, searched)  # type: ignore[arg-type]
        hidden |= change.hidden
        now = change.model.sublattices[s].mixture.mean
        np.testing.assert_allclose(now, model.sublattices[s].mixture.mean, atol=1e-9)
    assert hidden


def test_averages_of_more_frames_than_were_searched_show_the_same_classes(stream, monkeypatch):
    taken = []

    def spied(*given):
        renewed = taken_up(*given)
        taken.append((given, renewed))
        return renewed

    monkeypatch.setattr("latticewatch.pipeline._following.taken_up", spied)
    followed(stream, Learner(SETTINGS, patient=True))
    (model, searched, patches, *rest), renewed = next(one for one in taken if one[1] is not None)
    best = renewed.posterior.argmax(1)
    # as if of sixteen times as many frames: what is of one class is nearer together
    moments = patches.moments.copy()
    for k, s in {*zip(best.tolist(), patches.sublattice.tolist(), strict=True)}:
        mine = (best == k) & (patches.sublattice == s)
        mean = moments[mine].mean(0)
        moments[mine] = mean + 0.25 * (moments[mine] - mean)
    again = taken_up(model, searched, replace(patches, moments=moments), *rest)
    assert again is not None
    defects = [k for k, entry in enumerate(renewed.model.classes) if entry.role == "defect"]
    known = np.isin(best, defects)
    assert known.sum() > 20
    same = again.posterior.argmax(1)[known] == best[known]
    assert same.mean() > 0.95


def test_a_slow_search_holds_nothing_up_and_is_taken_up_when_it_is_done(stream, monkeypatch):
    monkeypatch.setattr("latticewatch.pipeline._search.PATIENCE_S", 0.0)
    go = threading.Event()
    found: list[Searched | None] = []

    def slow(model: Model, patches: Patches, frames: float) -> Searched | None:
        assert go.wait(PATIENCE_S)
        found.append(search(model, patches, frames))
        return found[-1]

    learner = Learner(SETTINGS)
    learner._following.new_search = lambda: Search(slow)
    frames, results = list(stream.frames()), []
    for frame in frames[:25]:
        results = learner.fold(analyse(frame, learner.model, SETTINGS))
        assert results
    before = {entry.class_id for entry in results[-1].classes}
    assert not found
    go.set()
    assert learner._following.search._thread is not None
    learner._following.search._thread.join(PATIENCE_S)
    for frame in frames[25:]:
        results = learner.fold(analyse(frame, learner.model, SETTINGS))
    assert {entry.class_id for entry in results[-1].classes} >= before
    assert found


def test_a_patient_search_is_taken_up_after_the_same_frame_however_long_it_takes(stream, monkeypatch):
    monkeypatch.setattr("latticewatch.pipeline._search.PATIENCE_S", 0.0)
    noted: list[tuple[int, int, bool]] = []

    def slow(model: Model, patches: Patches, frames: float) -> Searched | None:
        threading.Event().wait(0.2)
        return search(model, patches, frames)

    class Noted(Search):
        def _finished(self, model: Model) -> Searched | None:
            found = super()._finished(model)
            noted.append((self._now, self._due, self._thread is None))
            return found

    learner = Learner(SETTINGS, patient=True)
    learner._following.new_search = lambda: Noted(slow, patient=True)
    for frame in list(stream.frames())[:25]:
        learner.fold(analyse(frame, learner.model, SETTINGS))
    assert noted
    assert all(now == due and done for now, due, done in noted)


def test_in_a_fast_stream_no_frame_waits_for_a_search(stream, monkeypatch):
    interval_s, later = 1.0 / 8, 8
    monkeypatch.setattr("latticewatch.pipeline._search.PATIENCE_S", 100 * PATIENCE_S)
    go = threading.Event()

    def slow(model: Model, patches: Patches, frames: float) -> None:
        go.wait()

    learner = Learner(SETTINGS)
    learner._following.new_search = lambda: Search(slow)
    threads = []
    for number, frame in enumerate(stream.frames()):
        if sum(thread is not None for thread in threads) == later:
            go.set()
        learner.fold(analyse(replace(frame, t_acquired=number * interval_s), learner.model, SETTINGS))
        threads.append(learner._following.search._thread)
        if go.is_set():
            break
    assert go.is_set()
    assert threads[-1] is not threads[-2]


@pytest.mark.parametrize(
    ("interval_s", "frames"), [(2.0, 4), (1 / 3, 4), (1 / 8, 8), (1 / 50, 16), (0.0, 4), (-1.0, 4), (None, 4)]
)
def test_a_search_is_due_after_a_second_of_acquisition_and_some_frames_but_never_many(interval_s, frames):
    search = Search()
    start = 1.8e9 + 0.1
    search._begun, search._begun_s, search._due = 7, start, 7 + 4

    def due(after: int) -> bool:
        search._now = 7 + after
        return search._waited_enough(None if interval_s is None else start + after * interval_s)

    assert next(n for n in range(100) if due(n)) == frames


def test_a_search_that_fails_leaves_the_classes_as_they_are(stream):
    def fails(*_) -> None:
        raise ValueError("made to fail")

    learner = Learner(SETTINGS)
    learner._following.new_search = lambda: Search(fails)
    results = followed(stream, learner)
    assert {e.class_id for e in results[-1].classes} == {
        e.class_id for e in results[SETTINGS.learning_frames].classes
    }
    assert results[-1].number == N_FRAMES - 1


LAST = """
import threading, time
from latticewatch.pipeline._search import Search
began = threading.Event()

def look(*_):
    began.set()
    time.sleep(0.2)
    print("done")

Search(look)._start(None, None, 1.0)
began.wait()
"""


def test_a_process_ends_after_the_search_that_it_began():
    # in compiled code when Python goes away, its thread would take the process with it: SIGABRT, after all was done
    done = subprocess.run([sys.executable, "-c", LAST], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


# What tracks gather


def naive_averages(frames: list[tuple]) -> dict[int, tuple[np.ndarray, int]]:
    """The same, a site at a time: what each frame's hosts do not have in common, and what they have on average."""
    gathered: dict[int, list[np.ndarray]] = {}
    was: dict[int, int] = {}
    levels = [level_of(*frame) for frame in frames]
    usual = np.mean(levels, axis=0)
    for (track, moments, state, confidence, usable, index, _), level in zip(frames, levels, strict=True):
        changed = set()
        for i, number in enumerate(track.tolist()):
            if number >= 0 and confidence[i] >= 0.99:
                if was.get(number, state[i]) != state[i]:
                    changed |= {i, *(j for j in index[i].tolist() if j >= 0)}
                was[number] = state[i]
        for i in changed:
            gathered.pop(int(track[i]), None)
        for i, number in enumerate(track.tolist()):
            if number >= 0 and usable[i]:
                gathered.setdefault(number, []).append(moments[i] - level + usual)
    return {number: (np.mean(rows, axis=0), len(rows)) for number, rows in gathered.items()}


def level_of(track, moments, state, confidence, usable, index, sublattice):
    """Mean moments of a frame's hosts."""
    return moments[usable & (state == -1)].mean(0)


def test_averages_are_those_of_the_frames_since_a_site_or_one_beside_it_changed(rng):
    averages, frames = SiteAverages(), []
    for _ in range(40):
        n = int(rng.integers(15, 25))
        track = rng.permutation(30)[:n].astype(np.int32)
        track[rng.random(n) < 0.05] = -1
        one = (
            track,
            rng.normal(size=(n, 4)).astype(np.float32),
            np.where(rng.random(n) < 0.05, 3, -1).astype(np.int16),
            np.where(rng.random(n) < 0.8, 1.0, 0.5).astype(np.float32),
            rng.random(n) < 0.9,
            rng.integers(-2, n, (n, 3)).astype(np.int32),
            np.zeros(n, np.int16),
        )
        averages.update(*one)
        frames.append(one)
    expected = naive_averages(frames)
    newest = frames[-1][0]
    moments, number = averages.of(newest, np.zeros(len(newest), np.int16)), averages.frames_of(newest)
    for i, track in enumerate(frames[-1][0].tolist()):
        mean, count = expected.get(track, (np.zeros(4), 0))
        assert number[i] == count
        np.testing.assert_allclose(moments[i], mean, atol=1e-5)


def test_old_frames_fade_and_tracks_long_gone_are_forgotten(rng):
    averages, track = SiteAverages(), np.arange(5, dtype=np.int32)
    still = np.ones(5, bool)
    blank = np.full((5, 1), -1, np.int32)
    for n in range(3 * MOST_FRAMES):
        track = track + 5
        track[0] = 0
        # one column that changes among hosts that do not
        moments = np.zeros((5, 2), np.float32)
        moments[0] = float(n >= MOST_FRAMES)
        state = np.array([3, -1, -1, -1, -1], np.int16)
        averages.update(track, moments, state, np.ones(5, np.float32), still, blank, np.zeros(5, np.int16))
        assert len(averages._track) < 600
    moments, frames = averages.of(track, np.zeros(5, np.int16)), averages.frames_of(track)
    assert frames[0] <= MOST_FRAMES
    assert moments[0, 0] > 0.8


def test_what_hosts_share_is_not_what_sites_differ_by(rng):
    """Contamination grows while half of the sites are not in view yet: their averages are alike all the same."""
    averages = SiteAverages()
    early, all_of_them = np.arange(10, dtype=np.int32), np.arange(20, dtype=np.int32)
    for n in range(60):
        track = early if n < 30 else all_of_them
        k = len(track)
        moments = np.full((k, 3), 0.1 * n, np.float32) + rng.normal(0, 0.01, (k, 3)).astype(np.float32)
        averages.update(
            track,
            moments,
            np.full(k, -1, np.int16),
            np.ones(k, np.float32),
            np.ones(k, bool),
            np.full((k, 1), -1, np.int32),
            np.zeros(k, np.int16),
        )
    found = averages.of(all_of_them, np.zeros(20, np.int16))
    np.testing.assert_allclose(found, np.broadcast_to(found.mean(0), found.shape), atol=0.02)
    np.testing.assert_allclose(found.mean(), 0.1 * 29.5, atol=0.02)


@pytest.mark.parametrize(("power", "most"), [(0.5, LONGEST_FRAMES), (0.0, MOST_FRAMES)])
def test_averages_become_longer_while_that_brings_hosts_together(power, most):
    averages = SiteAverages()
    frames = 6.0
    for _ in range(40):
        frames = min(1.4 * frames, 0.9 * averages.most_frames)
        averages.scattered(frames, frames**-power)
    assert averages.most_frames == most


def test_a_steady_stream_is_averaged_over_more_frames(stream, monkeypatch):
    monkeypatch.setattr("latticewatch.discover._gathered.MOST_FRAMES", 16)
    monkeypatch.setattr("latticewatch.pipeline._search.PATIENCE_S", PATIENCE_S)
    learner = Learner(SETTINGS)
    followed(stream, learner)
    assert learner._following.search._gathered.most_frames > 16


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("B −40 %", -0.4),
        ("A host +92 %", 0.92),
        ("B vacancy", -1.0),
        ("L27 +5 % (2)", 0.05),
        ("my atoms", None),
        ("A displaced ↗ 36 pm", None),
    ],
)
def test_only_names_that_say_a_change_of_height_are_read(name, change):
    assert named_change(name) == change


@pytest.mark.parametrize(("share_next_to", "alone"), [(0.0, True), (0.4, False)])
def test_what_larger_changes_leave_around_them_is_no_class(rng, share_next_to, alone):
    """Weak changes all around larger ones, most of them not next to one, are what is left of their light."""
    side, spacing = 40, 10.0
    position = spacing * np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2).astype(float)
    n = len(position)
    beside = np.full((n, 1), -1, np.int32)
    amplitude = np.zeros(n)
    large = rng.choice(n, n // 40, replace=False)
    apart = np.hypot(*(position[:, None] - position[large]).T).min(0)
    if alone:
        # as many near one as chance has it: a third
        near, far = apart < 2.5 * spacing, apart > 2.5 * spacing
        weak = np.concatenate(
            [
                rng.permutation(np.flatnonzero(near & (apart > 0)))[:7],
                rng.permutation(np.flatnonzero(far))[:13],
            ]
        )
    else:
        # in the second ring of the larger ones
        weak = rng.permutation(np.flatnonzero((apart > 1.5 * spacing) & (apart < 2.1 * spacing)))[:20]
    beside[weak[: round(share_next_to * len(weak))]] = large[0]
    amplitude[large], amplitude[weak] = 1.0, 0.01
    patches = SimpleNamespace(sublattice=np.zeros(n, np.int16), position=position, index=beside)
    searched = SimpleNamespace(found=SimpleNamespace(amplitude=amplitude), patches=patches)
    assert _by_themselves(searched, 0, 0.01, 0.002, 2.5 * spacing) is alone  # type: ignore[arg-type]


def hosts_and_alike(n: int, n_alike: int, away: float) -> Searched:
    """Averages of some hosts, and of sites that are alike, so many standard deviations below them."""
    score = np.concatenate(
        [ndtri((np.arange(n) + 0.5) / n), -away - 0.5 * ndtri((np.arange(n_alike) + 0.5) / n_alike)]
    )
    share = n_alike / len(score)
    mean, deviation = np.array([0.0, -max(away, 3.0)]), np.ones(2)
    mixture = Mixture(mean, deviation, np.array([1 - share, share]), 1e-5, 20.0)
    found = SimpleNamespace(
        sublattices=[SimpleNamespace(mixture=mixture, group=0)],
        score=score,
        effects=SimpleNamespace(shift=np.zeros((len(score), 2))),
    )
    return SimpleNamespace(found=found, patches=SimpleNamespace(sublattice=np.zeros(len(score), np.int16)))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("n", "n_alike", "away", "chance"),
    [(350, 7, 2.4, True), (350, 12, 3.3, False), (1700, 25, 3.1, False), (90, 5, 3.4, True)],
)
def test_as_few_sites_as_noise_brings_are_no_class(n, n_alike, away, chance):
    """Of 350 sites some two or three are 2.5 standard deviations off, and the few that are most so look alike.

    Of 1,700 sites twelve are beyond 2.5, but one or two beyond 3.1: 25 around there are a class. How far the tails of
    ninety hosts reach is not well known.
    """
    assert _by_chance(hosts_and_alike(n, n_alike, away), 0, 1) is chance


@pytest.mark.parametrize(("number", "chance"), [(1, False), (40, True)])
def test_what_one_search_would_hardly_find_by_chance_one_of_many_may(number, chance):
    searched = hosts_and_alike(228, 4, 4.1)
    assert _by_chance(searched, 0, 1, CHANCE_P / number) is chance
