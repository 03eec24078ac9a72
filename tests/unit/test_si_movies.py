"""Streams made like movies of silicon in graphene: each Si is a defect in each frame, and a hop is one move."""

from __future__ import annotations

import numpy as np
import pytest

from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Frame
from latticewatch.pipeline import ROLES, Learner, analyse


def followed(folder, name, number):
    """Results of the first frames of a stream by their numbers, its events, and where its Si are."""
    with np.load(folder / "cases" / f"{name}.npz") as file:
        images, places = file["frames"][:number], file["si_positions_px"]
    settings = AnalysisSettings()
    learner, results, events = Learner(settings), {}, []
    for n, image in enumerate(images):
        for result in learner.fold(
            analyse(Frame(image=image, series_id="s", number=n), learner.model, settings)
        ):
            results[result.number] = result
            events += [event.type for event in result.events]
    return results, events, places


def found(result, places):
    """How many places have a defect, and how many defects are elsewhere."""
    role, position = np.array(ROLES)[result.sites.role], result.sites.position
    said = position[role == "defect"]
    apart = np.hypot(*(places[:, None] - said[None]).transpose(2, 0, 1))
    return int((apart.min(1, initial=np.inf) < 8).sum()), int((apart.min(0, initial=np.inf) >= 10).sum())


def test_frames_that_were_learnt_from_have_the_classes_found_among_their_tracks(shared_data):
    results, events, places = followed(shared_data, "graphene_si_three", 5)
    hits, false = np.transpose([found(results[n], places[n]) for n in results])
    assert hits.sum() >= 12
    assert false.sum() == 0
    assert events.count("class.discovered") == len(results[4].classes)
    # not told a second time
    assert events.count("defect.appeared") <= 3


@pytest.mark.slow
def test_each_hop_of_a_dopant_is_one_move(shared_data):
    results, events, places = followed(shared_data, "graphene_si_hops", 24)
    hits, false = np.transpose([found(results[n], places[n]) for n in results])
    assert hits.sum() >= 23
    assert false.sum() <= 3
    assert events.count("defect.moved") >= 9
    assert events.count("defect.appeared") + events.count("defect.disappeared") <= 3
