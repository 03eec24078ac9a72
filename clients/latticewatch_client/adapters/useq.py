"""Targets in; events of a multi-dimensional acquisition out, as pymmcore-plus and others take them (extra ``useq``)."""

from __future__ import annotations

from typing import Any

from useq import MDAEvent

from latticewatch.messages import Target


def mda_event(target: Target, exposure_ms: float | None = None, **index: int) -> MDAEvent:
    """An acquisition at the place of a target.

    Parameters
    ----------
    target : Target
        With a place on the stage.
    exposure_ms : float, optional
        Of the acquisition [ms].
    **index
        Where it stands in a sequence, such as ``p=3``.

    Returns
    -------
    useq.MDAEvent
        Its ``x_pos`` and ``y_pos`` are micrometres, as useq has them. ``metadata["latticewatch"]`` says what was seen.

    Raises
    ------
    ValueError
        The target has no place on the stage.
    """
    track = target.track
    if track.stage_nm is None:
        raise ValueError(
            f"target {target.id}: no place on the stage; give stage position and pixel size in the headers"
        )
    seen: dict[str, Any] = {
        "target": target.id,
        "class_name": track.class_name,
        "kind": target.kind,
        "confidence": track.confidence,
        "series_id": target.series_id,
        "frame": target.frame,
        "x_nm": track.stage_nm.x,
        "y_nm": track.stage_nm.y,
    }
    return MDAEvent(
        index=index,  # type: ignore[arg-type]
        x_pos=track.stage_nm.x / 1000,
        y_pos=track.stage_nm.y / 1000,
        exposure=exposure_ms,
        pos_name=f"{track.class_name} {track.track}",
        metadata={"latticewatch": seen},
    )
