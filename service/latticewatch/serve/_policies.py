"""Defects of the newest frame, ranked: which one a program should look at next."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

from latticewatch.execute import LiveState
from latticewatch.messages import Kind, Nanometres, Policy, Target, TargetRequest, TrackState, sign_of
from latticewatch.serve._tracks import tracks_of

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
    """Every defect in view that a request could mean, best first.

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
    found = tracks_of(state, "defect", MOST, stream)
    tracks = [track for track in found.tracks if track.track >= 0 and _fits(track, asked)]
    score = _score(asked, found.tracks, _middle(state, asked))
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
    asked: TargetRequest, all_: Iterable[TrackState], middle: tuple[float, float]
) -> Callable[[TrackState], float]:
    places = [(place_of(track), track.track) for track in all_]

    def farthest(track: TrackState) -> float:
        here = place_of(track)
        others = (math.dist(here, place) for place, other in places if other != track.track)
        return min(others, default=math.inf) if math.isfinite(here[0]) else -math.inf

    # A key asks for the same again; without one it is another each time.
    rng = random.Random(asked.key)
    scores: dict[Policy, Callable[[TrackState], float]] = {
        "nearest": lambda track: -math.dist(place_of(track), middle),
        "most-confident": lambda track: track.confidence,
        "most-uncertain": lambda track: -track.confidence,
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
