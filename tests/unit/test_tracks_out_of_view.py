"""What the tracker knows of defects beside the frame, and of what a further look would bring."""

from __future__ import annotations

import numpy as np
from _track_scene import Scene

from latticewatch.track import Tracker


def frames(tracker, scene, n):
    """The last of some frames, and which site of the crystal each of its sites is."""
    for _ in range(n - 1):
        tracker.update(scene.frame()[0])
    observation, seen = scene.frame()
    return tracker.update(observation), seen


def test_defects_that_were_seen_before_are_known_where_moves_of_the_stage_have_brought_them(rng):
    scene, tracker = Scene(rng, separation=6.0, n_defects=25), Tracker()
    scene.stage = (100.0, 7.0)
    result, seen = frames(tracker, scene, 7)
    assert result.away is None
    track = dict(zip(seen.tolist(), result.track.tolist(), strict=True))
    before = {site: track[site] for site in scene.defects().tolist()}
    scene.drift, scene.stage = np.array([700.0, 650.0]), (-600.0, -643.0)
    result, _ = frames(tracker, scene, 2)
    away = result.away
    assert away is not None
    found = {scene.site_of(place): track for place, track in zip(away.position, away.track, strict=True)}
    assert found == before
    assert np.any((away.position < 0) | (away.position > 511), axis=1).all()
    # Seven frames of those, two of what is in view: a look brings this more.
    assert result.prospect is not None
    assert np.median(away.prospect) < np.median(result.prospect)


def test_a_look_brings_nothing_where_as_many_frames_were_averaged_as_count(rng):
    scene, tracker = Scene(rng, separation=4.0, n_defects=5, shape=(256, 256)), Tracker()
    prospects = []
    for _ in range(35):
        result, _ = frames(tracker, scene, 1)
        assert result.prospect is not None
        prospects.append(float(np.median(result.prospect)))
    assert prospects[0] > 5 > prospects[5] > prospects[15] > 1.0
    assert prospects[-1] == 1.0
