"""Defects that are known, ranked: which one a program should look at next."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from latticewatch.execute import LiveState
from latticewatch.messages import Kind, Nanometres, Policy, Target, TargetRequest, TrackState, sign_of
from latticewatch.serve._tracks import states_of

# Beyond this the distances between defects are not worth their time.
MOST = 10_000
KIND_OF_SHAPE: dict[str, Kind] = {
    "circle": "vacancy",
    "down": "lower",
    "up": "higher",
    "diamond": "displaced",
    "square": "added",
    "hexagon": "odd",
}


def candidates(state: LiveState, asked: TargetRequest, stream: str) -> list[Target]:
    """Every defect that a request could mean, best first.

    Parameters
    ----------
    state : LiveState
        The newest frame.
    asked : TargetRequest
        Its filters and its policy.
    stream : str
        Of the log.

    Returns
    -------
    list of Target
        Whether or not somebody has them or had them.
    """
    result = state.result
    if result is None:
        return []
    found = states_of(state, "defect", MOST, out_of_view=asked.out_of_view)
    tracks = [track for track, _ in found if track.track >= 0 and _fits(track, asked)]
    score = _score(asked, found, _middle(state, asked), result.shape)
    targets = [
        Target(
            id=f"{stream}/{track.track}",
            track=track,
            kind=_kind(track),
            series_id=result.series_id,
            frame=result.number,
            model_version=result.model_version,
            epoch=result.epoch,
            specimen_nm=_on_specimen(state, track),
            score=score(track),
        )
        for track in tracks
    ]
    return sorted(targets, key=lambda target: -target.score)


def expected_gains(defects: Sequence[tuple[TrackState, float]], shape: tuple[int, int]) -> dict[int, float]:
    """How much more certain a look at each of some defects is expected to make it and all around it.

    Doubt falls exponentially with the evidence: what a look leaves of it is ``doubt ** prospect``. So little is
    expected of what is sure, and nothing of what is unsure although as many frames were averaged as count, such as two
    defects that lie too near to each other to be told apart. A frame with one defect in its middle shows others, whose
    doubt it takes as well.

    Parameters
    ----------
    defects : sequence of tuple
        What is known of each, and by what factor a look raises the evidence.
    shape : tuple of int
        Rows and columns of a frame [px].

    Returns
    -------
    dict of int to float
        By track: the sum over all that a frame with it in the middle would show.
    """
    if not defects:
        return {}
    doubt = 1.0 - np.clip([track.confidence for track, _ in defects], 0.0, 1.0)
    gain = doubt - doubt ** np.array([prospect for _, prospect in defects])
    place, half = np.array([(track.px.row, track.px.col) for track, _ in defects]), np.array(shape) / 2
    found = {}
    for at, (track, _) in enumerate(defects):
        shown = np.all(np.abs(place - place[at]) <= half, axis=1)
        found[track.track] = float(gain @ shown)
    return found


def kind_of(name: str) -> Kind:
    """What kind of change a class is, from the name that it was given by itself; one that a person named is "named"."""
    return KIND_OF_SHAPE.get(sign_of(name, "defect").shape, "named")


def _kind(track: TrackState) -> Kind:
    """What kind of change it is by the model, and by its name where the model has none for it."""
    return track.kind or kind_of(track.class_name)


def _fits(track: TrackState, asked: TargetRequest) -> bool:
    edge = track.edge_distance_nm
    return (
        (not asked.classes or track.class_name in asked.classes)
        and (not asked.kinds or _kind(track) in asked.kinds)
        and track.confidence >= asked.min_confidence
        and (edge is None or edge >= asked.min_edge_nm)
    )


def _score(
    asked: TargetRequest,
    all_: Sequence[tuple[TrackState, float]],
    middle: tuple[float, float],
    shape: tuple[int, int],
) -> Callable[[TrackState], float]:
    places = [(place_of(track), track.track) for track, _ in all_]

    def farthest(track: TrackState) -> float:
        here = place_of(track)
        others = (math.dist(here, place) for place, other in places if other != track.track)
        return min(others, default=math.inf) if math.isfinite(here[0]) else -math.inf

    gains = expected_gains(all_, shape) if asked.policy == "most-uncertain" else {}
    # A key asks for the same again; without one it is another each time.
    rng = random.Random(asked.key)
    scores: dict[Policy, Callable[[TrackState], float]] = {
        "nearest": lambda track: -math.dist(place_of(track), middle),
        "most-confident": lambda track: track.confidence,
        "most-uncertain": lambda track: gains[track.track],
        # Numbers of tracks are given in the order in which they are first seen.
        "newest": lambda track: float(track.track),
        "farthest": farthest,
        "random": lambda _: rng.random(),
    }
    score = scores[asked.policy]
    return lambda track: value if math.isfinite(value := score(track)) else -1e300 if value < 0 else 1e300


def place_of(track: TrackState) -> tuple[float, float]:
    """x, y on the stage, or in the frame where that is not known: nanometres, or else pixels."""
    place = track.stage_nm or track.nm
    return (track.px.col, track.px.row) if place is None else (place.x, place.y)


def _middle(state: LiveState, asked: TargetRequest) -> tuple[float, float]:
    result = state.result
    if asked.x_nm is not None and asked.y_nm is not None:
        return asked.x_nm, asked.y_nm
    assert result is not None
    row, col = ((n - 1) / 2 for n in result.shape)
    if result.calibration is not None and (at := result.calibration.to_stage(row, col, result.shape)):
        return at
    scale = result.pixel_size_nm or 1.0
    return col * scale, row * scale


def _on_specimen(state: LiveState, track: TrackState) -> Nanometres | None:
    result = state.result
    if result is None or result.calibration is None:
        return None
    place = result.calibration.to_stage(track.px.row, track.px.col, result.shape, result.specimen_drift_px)
    return None if place is None else Nanometres(x=place[0], y=place[1])
