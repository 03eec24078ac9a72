"""A class that is divided over the API of a service, with the real pipeline behind it."""

from __future__ import annotations

import itertools

import httpx
import numpy as np

from _crystal import honeycomb, render
from _running import Running, running
from latticewatch.config import AnalysisSettings
from latticewatch.pipeline import Learner, analyse

LEARNT, SIDE = 3, 256


def test_sites_drawn_round_become_a_class_of_their_own_and_go_back(tmp_path):
    settings = AnalysisSettings(learning_frames=LEARNT)
    with running(
        tmp_path, learner=Learner(settings), analyse=analyse, analysis={"learning_frames": LEARNT}
    ) as live:
        divide_and_put_together(live)


def divide_and_put_together(live: Running) -> None:
    rng, http, numbers = np.random.default_rng(5), live.http, itertools.count(1)
    defects = (("gone", 0, 0.06, 0.3),)
    clean = render(
        honeycomb(18.0), np.random.default_rng(7), counts=None, shape=(SIDE, SIDE), defects=defects
    ).clean

    def send(n: int) -> None:
        for _ in range(n):
            live.sender.send(rng.poisson(300 * clean).astype(np.uint16))
            live.analysed(next(numbers))

    send(LEARNT + 4)

    def counts() -> dict[int, int]:
        return {one["class_id"]: one["n"] for one in http.get("/v1/counts").json()["by_class"]}

    def split(class_id: int, **body) -> httpx.Response:
        return http.post(f"/v1/classes/{class_id}/split", json=body)

    classes = {one["name"]: one for one in http.get("/v1/classes").json()}
    host = classes["A host"]["class_id"]
    defect = next(one["class_id"] for one in classes.values() if one["role"] == "defect")
    before = counts()
    plane = http.get("/v1/embedding").json()
    points = np.array([p for p, c in zip(plane["pool"], plane["pool_class"], strict=True) if c == defect])
    (left, low), (right, high) = points.min(0) - 0.3, points.max(0) + 0.3
    line = [[left, low], [right, low], [right, high], [left, high]]

    # what is judged one class by a person is still two in what is measured
    http.patch(f"/v1/classes/{host}", json={"merge": [defect]}).raise_for_status()
    assert counts()[host] == before[host] + before[defect]
    layout = http.get("/v1/embedding").json()["layout"]
    answer = split(host, layout=layout, line=line, name="not the host")
    assert answer.status_code == 200, answer.text
    part = answer.json()
    assert (part["name"], part["role"], part["count"]) == ("not the host", "host", before[defect])
    send(3)
    after = counts()
    assert (after[part["class_id"]], after[host]) == (before[defect], before[host])
    page = http.get("/v1/events", params={"types": "class.split"}).json()
    (event,) = page["events"]
    assert (event["data"]["class_id"], event["data"]["split_from"]) == (part["class_id"], host)

    http.patch(f"/v1/classes/{host}", json={"merge": [part["class_id"]]}).raise_for_status()
    send(1)
    assert counts()[host] == before[host] + before[defect]
    assert part["class_id"] not in counts()

    layout = http.get("/v1/embedding").json()["layout"]
    everything = [[-1e3, -1e3], [1e3, -1e3], [1e3, 1e3], [-1e3, 1e3]]
    refused = split(host, layout=layout, line=everything)
    assert (refused.status_code, "draw it round at least" in refused.json()["detail"]) == (409, True)
    assert split(host, layout=10_000, line=line).status_code == 409
    assert split(999, layout=layout, line=line).status_code == 404
    assert split(host, layout=layout, line=line[:2]).status_code == 422
