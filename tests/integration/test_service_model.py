"""What the classifier works with, as the API tells it of a real stream, frame after frame."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from websockets.sync.client import connect

from _crystal import honeycomb, render
from _running import PATIENCE_S, Running, running
from latticewatch.config import AnalysisSettings
from latticewatch.errors import LatticewatchError
from latticewatch.messages import unpack_live
from latticewatch.pipeline import Learner, analyse
from latticewatch.serve._space import MOST_POINTS, thinned
from latticewatch_client import AsyncClient, Client

LEARNT, SIDE = 3, 256


class Stream:
    """Frames of one crystal, some columns of which are darker."""

    def __init__(self, running: Running) -> None:
        self.running, self.rng, self.sent = running, np.random.default_rng(5), 0
        crystal = honeycomb(18.0)
        self.clean = render(
            crystal,
            np.random.default_rng(7),
            counts=None,
            shape=(SIDE, SIDE),
            defects=(("gone", 0, 0.06, 0.3),),
        ).clean

    def send(self, n: int) -> None:
        """Send frames, and wait until they are analysed."""
        for _ in range(n):
            self.running.sender.send(self.rng.poisson(300 * self.clean).astype(np.uint16))
            self.sent += 1
            self.running.analysed(self.sent)


@pytest.fixture
def stream(tmp_path):
    settings = AnalysisSettings(learning_frames=LEARNT)
    with running(
        tmp_path, learner=Learner(settings), analyse=analyse, analysis={"learning_frames": LEARNT}
    ) as live:
        yield Stream(live)


def test_before_anything_is_learnt_the_reply_says_so(stream):
    for resource in ("model", "embedding"):
        reply = stream.running.http.get(f"/v1/{resource}")
        assert reply.status_code == 404
        assert "nothing is learnt yet" in reply.json()["detail"]
    with Client(stream.running.url) as client, pytest.raises(LatticewatchError, match="nothing is learnt"):
        client.model()


def test_components_variances_and_centroids_change_with_every_frame(stream):
    stream.send(LEARNT + 1)
    with Client(stream.running.url) as client:
        before = client.model()
        stream.send(1)
        after = client.model()
        stream.send(8)
        last = client.model()
        counts = client.counts()
    assert [state.frame for state in (before, after, last)] == [LEARNT, LEARNT + 1, LEARNT + 9]
    assert {one.sublattice for one in before.sublattices} == {0, 1}
    for old, new, newest in zip(before.sublattices, after.sublattices, last.sublattices, strict=True):
        assert new.variances != old.variances
        assert old.rows < new.rows < newest.rows
        assert newest.edge < new.edge < old.edge
        assert newest.n_components == sum(v > newest.edge for v in newest.variances) == len(newest.since)
        assert newest.variances == sorted(newest.variances, reverse=True)
    old = {one.class_id: one for one in before.classes}
    for one in after.classes:
        if one.role in ("host", "defect"):
            assert one.rows > old[one.class_id].rows
            assert one.distance != old[one.class_id].distance
    defect = next(one for one in last.classes if one.role == "defect")
    assert defect.distance > 5
    assert defect.total >= counts.by_role["defect"] * LEARNT
    # nothing moves in this stream
    assert defect.drift < 1


def test_the_newest_frame_s_sites_stand_with_their_own_in_the_plane(stream):
    stream.send(LEARNT + 4)
    with Client(stream.running.url) as client:
        plane = client.embedding()
        stream.send(1)
        next_plane = client.embedding()
        frame = client.latest_frame()
        classes = {one.class_id: one for one in client.classes()}
    # between two layouts the pool stands still, while the sites are those of the new frame
    assert next_plane.layout == plane.layout
    assert next_plane.pool == plane.pool
    assert next_plane.frame == frame.frame == plane.frame + 1
    assert next_plane.sites != plane.sites
    assert len(next_plane.sites) == len(next_plane.site_class) == frame.n_sites
    assert len(plane.pool) == len(plane.pool_class)
    centre = {
        k: np.mean([p for p, c in zip(plane.pool, plane.pool_class, strict=True) if c == k], axis=0)
        for k in set(plane.pool_class)
    }
    defect = next(k for k, one in classes.items() if one.role == "defect" and k in centre)
    host = classes[defect].host_class
    at = np.array([p for p, c in zip(next_plane.sites, next_plane.site_class, strict=True) if c == defect])
    assert len(at) >= 3
    to_own, to_host = (np.linalg.norm(at - centre[k], axis=1) for k in (defect, host))
    assert (to_own < to_host).mean() > 0.9


def ask(socket, **request):
    """Ask for the newest state until the message holds the space."""
    for _ in range(10_000):
        socket.send(json.dumps({"type": "next", "again": True, "plane": True} | request))
        header, arrays = unpack_live(socket.recv(timeout=PATIENCE_S))
        if header.plane is not None and header.plane.layout is not None:
            return header, arrays
    raise AssertionError("no layout came")


def test_a_page_that_asks_sees_components_centroids_and_points_change_live(stream):
    stream.send(LEARNT + 4)
    with connect(f"{stream.running.ws}/v1/live") as socket:
        header, arrays = ask(socket)
        assert arrays["pool"].shape == (*arrays["pool_class"].shape, 2)
        assert arrays["plane"].shape == (*arrays["plane_class"].shape, 2)
        # the points are those of the sites that the same message lists
        np.testing.assert_array_equal(arrays["plane_class"], arrays["class_id"][arrays["plane_site"]])
        before = header.plane
        stream.send(1)
        header, later = ask(socket, layout=before.layout)
        after = header.plane
        assert after.frame == before.frame + 1
        assert after.layout == before.layout
        # the pool stands still, and does not come again
        assert "pool" not in later
        assert not np.array_equal(later["plane"], arrays["plane"])
        for old, new in zip(before.sublattices, after.sublattices, strict=True):
            assert new.variances != old.variances
        centroids = [{one.class_id: one.distance for one in view.classes} for view in (before, after)]
        assert centroids[0].keys() == centroids[1].keys()
        assert centroids[0] != centroids[1]


def test_the_space_comes_only_to_those_who_ask_and_not_with_every_message(stream):
    stream.send(LEARNT + 1)
    with connect(f"{stream.running.ws}/v1/live") as socket:
        socket.send(json.dumps({"type": "next", "again": True}))
        header, arrays = unpack_live(socket.recv(timeout=PATIENCE_S))
        assert header.plane is None
        assert not {"plane", "pool"} & arrays.keys()
        ask(socket)
        socket.send(json.dumps({"type": "next", "again": True, "plane": True, "view": VIEW}))
        header, arrays = unpack_live(socket.recv(timeout=PATIENCE_S))
        assert len(header.model_dump_json()) + sum(a.nbytes for a in arrays.values()) < VIEW["max_bytes"]


VIEW = {"width": 64, "height": 64, "max_bytes": 65536}


def test_of_many_points_rare_classes_are_whole():
    class_id = np.r_[np.zeros(50_000), np.full(20, 3), np.ones(30_000)].astype(np.int16)
    kept = thinned(class_id)
    assert len(kept) <= MOST_POINTS
    assert (class_id[kept] == 3).sum() == 20
    assert (class_id[kept] == 1).sum() > 1000


def test_relearning_begins_a_space_of_its_own(stream):
    stream.send(LEARNT + 3)
    stream.running.http.post("/v1/model:relearn")
    assert stream.running.http.get("/v1/model").status_code == 404
    stream.send(LEARNT)
    again = stream.running.http.get("/v1/model").json()
    assert again["frame"] == 2 * LEARNT + 2
    assert min(one["since"] for one in again["classes"]) >= LEARNT + 3


def test_the_async_client_reads_the_same(stream):
    stream.send(LEARNT + 1)

    async def read():
        async with AsyncClient(stream.running.url) as client:
            return await client.model(), await client.embedding()

    model, plane = asyncio.run(read())
    with Client(stream.running.url) as client:
        assert client.model() == model
        assert client.embedding().pool == plane.pool
