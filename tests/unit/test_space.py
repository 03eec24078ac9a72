"""What the classifier works with is followed frame by frame, and its picture does not jump."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.estimators import IncrementalPCA, SteadyLayout, noise_edge
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, _plane, _space, analyse
from latticewatch.pipeline._plane import Plane, PooledSite

SIDE = 320
SETTINGS = AnalysisSettings(learning_frames=3)


def clusters(rng, n=40):
    """Three clusters of rows, ten sigma apart."""
    centre = 10 * np.eye(5)[:3]
    return np.concatenate([rng.normal(size=(n, 5)) + c for c in centre]), np.repeat(np.arange(3), n)


def test_pure_noise_stays_below_the_edge_though_the_whitening_was_learnt_from_few_rows(rng):
    p, learnt, rows = 30, 400, 20_000
    values, vectors = np.linalg.eigh(np.cov(rng.normal(size=(learnt, p)).T))
    whitening = vectors / np.sqrt(values)
    largest = np.linalg.eigvalsh(np.cov((rng.normal(size=(rows, p)) @ whitening).T))[-1]
    assert largest < 1.05 * noise_edge(p, rows, learnt)
    # the edge of an exact whitening would take several axes of noise for components
    assert largest > 1.2 * noise_edge(p, rows)


def test_the_edge_of_an_exact_whitening_is_that_of_marchenko_and_pastur():
    assert noise_edge(25, 100) == pytest.approx((1 + 0.5) ** 2)
    assert noise_edge(25, 1e12) == pytest.approx(1.0, abs=1e-4)
    assert noise_edge(25, 100, 25) == np.inf


def test_a_pool_laid_out_anew_stands_where_it_stood(rng):
    rows, kind = clusters(rng)
    layout = SteadyLayout(seed=1)
    before = layout.fit(rows, keys=np.arange(len(rows))).embedding_
    centres = np.array([before[kind == k].mean(0) for k in range(3)])
    # a fifth of the rows are others now
    changed = rows.copy()
    other = rng.choice(len(rows), len(rows) // 5, replace=False)
    changed[other] += 0.5 * rng.normal(size=(len(other), 5))
    keys = np.arange(len(rows))
    keys[other] += 1000
    layout.seed = 2
    after = layout.fit(changed, keys=keys).embedding_
    moved = np.array([after[kind == k].mean(0) for k in range(3)]) - centres
    apart = np.linalg.norm(centres[0] - centres[1])
    assert np.linalg.norm(moved, axis=1).max() < 0.15 * apart
    assert layout.n_layouts_ == 2


def test_without_shared_rows_a_layout_is_free_to_turn(rng):
    rows, _ = clusters(rng)
    fresh = SteadyLayout(seed=3).fit(rows).embedding_
    again = SteadyLayout(seed=3).fit(rows, keys=np.arange(len(rows)))
    assert np.allclose(fresh, again.embedding_)


def test_a_new_row_is_placed_among_its_own(rng):
    rows, kind = clusters(rng)
    layout = SteadyLayout().fit(rows)
    placed = layout.transform(rng.normal(size=(30, 5)) + 10 * np.eye(5)[1])
    centres = np.array([layout.embedding_[kind == k].mean(0) for k in range(3)])
    assert (np.linalg.norm(placed[:, None] - centres, axis=2).argmin(1) == 1).all()
    # a row of the pool is drawn on itself
    assert np.allclose(layout.transform(rows[:5]), layout.embedding_[:5], atol=1e-3)


def test_keys_that_come_twice_are_refused(rng):
    rows, _ = clusters(rng)
    with pytest.raises(ValueError, match="all different"):
        SteadyLayout().fit(rows, keys=np.zeros(len(rows)))


def stream(rng, n, share=0.04, width=0.2):
    for _ in range(n):
        scene = render(
            honeycomb(18.0),
            np.random.default_rng(7),
            counts=None,
            shape=(SIDE, SIDE),
            width=width,
            defects=(("gone", 0, share, 0.3),),
        )
        yield rng.poisson(300 * scene.clean).astype(np.uint16)


def followed(learner, images, start=0):
    result = None
    for number, image in enumerate(images, start):
        frame = Frame(image, series_id="s", number=number, ordinal=number, t_received=float(number))
        result = learner.fold(analyse(frame, learner.model, SETTINGS))[-1]
    return result


def test_every_frame_adds_to_variances_and_centroids_and_the_edge_falls(rng):
    learner = Learner(SETTINGS)
    first = followed(learner, stream(rng, 4)).space.variances()
    last = followed(learner, stream(rng, 12), start=4).space.variances()
    assert last.frame == 15
    for before, after in zip(first.sublattices, last.sublattices, strict=True):
        assert after.rows > 2 * before.rows
        assert after.edge < before.edge
        assert (before.variances[:5] != after.variances[:5]).all()
    rows = {c.class_id: c.rows for c in first.centroids}
    grown = [c for c in last.centroids if c.class_id in rows and c.rows > rows[c.class_id]]
    assert len(grown) >= 3
    names = {entry.name: entry.class_id for entry in learner.model.classes if entry.role == "defect"}
    defect = next(c for c in last.centroids if c.class_id in names.values())
    assert defect.distance > 5
    assert defect.since == 0


def test_hosts_that_differ_from_those_learnt_from_show_as_components_and_say_since_when(rng):
    learner = Learner(SETTINGS)
    still = followed(learner, stream(rng, 25)).space.variances()
    assert [one.since for one in still.sublattices] == [(), ()]

    # lines of the scan begin to jitter
    def jittered():
        for image in stream(rng, 25):
            yield np.stack(
                [
                    np.roll(row, int(k))
                    for row, k in zip(image, rng.choice([-1, 0, 0, 0, 0, 0, 0, 1], SIDE), strict=True)
                ]
            )

    shaken = followed(learner, jittered(), start=25).space.variances()
    assert all(one.since and min(one.since) >= 25 for one in shaken.sublattices)
    assert all(len(one.since) == (one.variances > one.edge).sum() for one in shaken.sublattices)


def test_a_site_is_among_hosts_where_all_its_neighbours_are(rng):
    is_host = rng.random(200) < 0.9
    index = rng.integers(-1, 200, (200, 6)).astype(np.int32)
    expected = [is_host[i] and all(j < 0 or is_host[j] for j in index[i]) for i in range(200)]
    assert 20 < sum(expected) < 180
    assert _space._among_hosts(is_host, index).tolist() == expected


def test_a_centroid_that_moves_says_how_far_and_one_that_stays_does_not():
    rng = np.random.default_rng(3)
    still, moved = (_space._Centroid(0, np.zeros(20)) for _ in range(2))

    def add(centroid, rows):
        centroid.add(len(rows), rows.sum(0), float(np.square(rows).sum()), 0.99)

    for k in range(400):
        rows = rng.normal(size=(5, 20))
        add(still, rows)
        add(moved, rows + 0.02 * k * np.eye(20)[0])
    assert still.drift() < 0.2
    # the mean lies behind by the time in which it fades
    assert moved.drift() == pytest.approx(0.02 * (400 - 100 - 20), rel=0.15)


def test_what_is_kept_is_bounded_however_long_the_stream(rng):
    learner = Learner(SETTINGS)
    followed(learner, stream(rng, 30))
    space = learner.model and learner._following.space
    for pool in space._pool.values():
        assert len(pool) <= _space.POOLED_HOSTS
    view = space.plane()
    assert len(view.pool) <= _space.MOST_LAID_OUT + _space.FEWEST_OF_A_CLASS * len(space._pool)
    assert len(view.sites) == len(followed(learner, stream(rng, 1), start=30).sites.role)
    assert np.isfinite(view.sites).all()


def test_watching_decides_nothing(rng, monkeypatch):
    images = list(stream(rng, 8))
    watched, unwatched = Learner(SETTINGS), Learner(SETTINGS)
    one = followed(watched, images)
    monkeypatch.setattr(_space.LiveSpace, "take", lambda *_: None)
    other = followed(unwatched, images)
    assert (one.sites.class_id == other.sites.class_id).all()
    assert (one.sites.confidence == other.sites.confidence).all()


def test_a_copy_of_a_learner_goes_on_by_itself(rng):
    learner = Learner(SETTINGS)
    space = followed(learner, stream(rng, 5)).space
    copied = copy.deepcopy(learner)
    followed(copied, stream(rng, 2), start=5)
    assert space.variances().frame == 4
    assert copied._following.space.variances().frame == 6


def pooled(rng, first, n=60):
    return [
        PooledSite(first + k, k % 2, 0, (rng.normal(size=6) + 8 * (k % 2)).astype(np.float32))
        for k in range(n)
    ]


def test_a_layout_that_takes_long_holds_nobody_up(rng, monkeypatch):
    plane, begun, go_on = Plane(), threading.Event(), threading.Event()
    classes = np.zeros(3, np.int16)
    space = lambda s, rows: np.zeros((len(rows), 6), np.float32)  # noqa: E731
    view = lambda pool, frames, wait=True: plane.view(  # noqa: E731
        pool, frames, frames, np.zeros(3, np.int16), classes, space, {}, wait
    )
    assert view(pooled(rng, 0), 1).layout == 1
    laid_out = Plane._laid_out

    def slow(self, *arguments):
        begun.set()
        assert go_on.wait(10)
        return laid_out(self, *arguments)

    monkeypatch.setattr(Plane, "_laid_out", slow)
    renewed = pooled(rng, 1000)
    assert view(renewed, 100).layout == 1
    assert begun.wait(10)
    assert view(renewed, 101).layout == 1
    go_on.set()
    thread = next((t for t in threading.enumerate() if t.name == "layout"), None)
    if thread is not None:
        thread.join(10)
    assert view(renewed, 102).layout == 2


def test_a_layout_is_not_made_anew_while_the_pool_stays(rng):
    plane, pool = Plane(), pooled(rng, 0)
    space = lambda s, rows: np.zeros((len(rows), 6), np.float32)  # noqa: E731
    for frames in (1, 100, 1000):
        view = plane.view(pool, frames, frames, np.zeros(1, np.int16), np.zeros(1, np.int16), space, {})
        assert view.layout == 1
    merged = plane.view(pool, 1001, 1001, np.zeros(1, np.int16), np.ones(1, np.int16), space, {1: 0})
    assert set(merged.pool_class) == {0}
    assert merged.site_class.tolist() == [0]


def test_the_pool_s_own_components_are_the_coordinates(rng):
    places = rng.normal(size=(50, 6)).astype(np.float32)
    places[:25, 0] += 12
    components = IncrementalPCA(n_components="noise", noise_variance=1.0).fit(places)
    out = _plane._coordinates(places, components, 2)
    assert out.shape == (50, _plane.COMPONENTS + 1)
    assert (out[:, -1] == 2 * _plane.APART).all()
    assert np.ptp(out[:, 0]) > 10
