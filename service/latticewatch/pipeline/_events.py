"""Transitions of tracks, as events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from latticewatch.ingest import Frame
from latticewatch.messages import ClassEventData, DefectEventData, ModelEventData, Nanometres, Pixel
from latticewatch.model import CatalogueEntry, Model, kinds_of
from latticewatch.pipeline._results import EventDraft, SiteTable
from latticewatch.track import Transition


def defect_events(
    transitions: Sequence[Transition],
    frame: Frame,
    model: Model,
    drift_px: tuple[float, float],
    sites: SiteTable,
    epoch: int = 1,
) -> list[EventDraft]:
    """Events of the transitions that a frame brought.

    Parameters
    ----------
    transitions : sequence of Transition
    frame : Frame
    model : Model
        That classified the frame.
    drift_px : tuple of float
        Row, column: how far the specimen has moved since the series started [px].
    sites : SiteTable
        Of the frame.
    epoch : int, optional
        Of the tracks.
    """
    return [EventDraft(t.type, _data(t, frame, model, drift_px, sites, epoch)) for t in transitions]


def _data(
    t: Transition, frame: Frame, model: Model, drift_px: tuple[float, float], sites: SiteTable, epoch: int
) -> DefectEventData:
    names = {entry.class_id: entry.name for entry in model.classes}
    (row, col), calibration = t.position, frame.calibration
    height, width = frame.image.shape[-2:]
    kind = kinds_of(model).get(t.class_id)
    place = on_specimen = drift = edge = sigma = displacement = None
    if calibration is not None:
        place = _nanometres(calibration.to_nm(row, col))
        drift = _nanometres(calibration.to_nm(*drift_px))
        sigma = t.sigma_px * calibration.pixel_size_nm
        edge = min(row, col, height - 1 - row, width - 1 - col) * calibration.pixel_size_nm
        shift = sites.displaced_by(t.site)
        if shift is not None and kind == "displaced" and t.type != "defect.disappeared":
            displacement = calibration.displacement(shift.tolist())
        on_specimen = _nanometres(calibration.to_stage(row, col, (height, width)))
    return DefectEventData(
        series_id=frame.series_id,
        frame=frame.number,
        t_acquired=frame.t_acquired,
        t_received=frame.t_received,
        model_version=model.version,
        track=t.track,
        epoch=epoch,
        class_id=t.class_id,
        class_name=names.get(t.class_id, "unknown"),
        role=model.entry(t.class_id).role if t.class_id in names else "unknown",
        kind=kind,
        confidence=min(max(t.confidence, 0.0), 1.0),
        alternatives={names.get(k, "unknown"): round(float(p), 4) for k, p in t.alternatives.items()},
        previous_class_id=t.previous_class_id,
        previous_class_name=None
        if t.previous_class_id is None
        else names.get(t.previous_class_id, "unknown"),
        px=Pixel(row=row, col=col),
        sigma_px=t.sigma_px,
        nm=place,
        stage_nm=on_specimen,
        stage_sigma_nm=sigma if on_specimen is not None else None,
        drift_nm=drift,
        displacement_nm=displacement,
        edge_distance_nm=edge,
        address=frame.address or None,
        detector=frame.detector,
        scalars=dict(frame.scalars),
        latency_frames=t.latency_frames,
    )


@overload
def _nanometres(point: tuple[float, float]) -> Nanometres: ...
@overload
def _nanometres(point: None) -> None: ...
def _nanometres(point: tuple[float, float] | None) -> Nanometres | None:
    return None if point is None else Nanometres(x=point[0], y=point[1])


def model_event(model: Model, frame: int | None, reason: str) -> EventDraft:
    """A new version of the model is in force, and why."""
    data = ModelEventData(
        model_version=model.version, frame=frame, n_classes=len(model.classes), reason=reason
    )
    return EventDraft("model.updated", data)


def discovered(model: Model, class_id: int) -> EventDraft:
    """A class was found."""
    return class_event("class.discovered", model.entry(class_id), model.version)


def class_event(
    kind: Literal["class.discovered", "class.renamed", "class.merged", "class.split"],
    entry: CatalogueEntry,
    version: int,
    *,
    previous_name: str | None = None,
    merged: tuple[int, ...] = (),
    split_from: int | None = None,
) -> EventDraft:
    """Something happened to a class.

    Parameters
    ----------
    kind : str
    entry : CatalogueEntry
        The class as it is now.
    version : int
        Of the model.
    previous_name : str, optional
    merged : tuple of int, optional
        Classes that became part of it.
    split_from : int, optional
        Class that it was a part of.
    """
    data = ClassEventData(
        model_version=version,
        class_id=entry.class_id,
        class_name=entry.name,
        role=entry.role,
        count=entry.total,
        previous_name=previous_name,
        merged=merged,
        split_from=split_from,
    )
    return EventDraft(kind, data)
