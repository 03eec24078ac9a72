"""A result in the words of the statistics over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latticewatch.messages import DefectEventData
from latticewatch.statistics import FrameRecord, Happening

if TYPE_CHECKING:
    from latticewatch.pipeline import FrameResult


def record_of(
    result: FrameResult, dose_e_per_a2: float | None = None, time: float | None = None
) -> FrameRecord:
    """What the statistics need of a classified frame.

    Parameters
    ----------
    result : FrameResult
    dose_e_per_a2 : float, optional
        Of the frame [electrons/Å²].
    time : float, optional
        Takes the place of the times at which it was acquired and received [s].

    Returns
    -------
    FrameRecord
    """
    rows, cols = result.shape
    pixel = result.pixel_size_nm
    happenings = [
        Happening(draft.type.removeprefix("defect."), d.track, d.class_id, d.latency_frames or 0)  # type: ignore[arg-type]
        for draft in result.events
        if isinstance(d := draft.data, DefectEventData)
    ]
    return FrameRecord(
        result.series_id,
        result.t_received if time is None else time,
        result.sites.class_id,
        result.sites.role,
        result.sites.track,
        happenings,
        result.t_acquired if time is None else None,
        rows * cols * pixel**2 if pixel is not None else None,
        dose_e_per_a2,
        {name: value for name, value in result.scalars.items() if not isinstance(value, str)},
        (result.drift_px[1] * pixel, result.drift_px[0] * pixel) if pixel is not None else None,
    )
