"""``/v1/history``: counts, events, lifetimes and distances over time, of bounded size."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Response
from numpy.typing import NDArray

from latticewatch.execute import LiveState
from latticewatch.messages import (
    ROLES,
    ClassCourse,
    Course,
    DistanceSummary,
    DriftCourse,
    History,
    LifetimeSummary,
    Rate,
    ScalarCourse,
)
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import TheHub, reply
from latticewatch.statistics import HistoryView, Survival, pair_distances

# Ages in the curve of lifetimes; of more, some are left out evenly.
MAX_AGES = 200
# Sites beyond which the distances between them are not worth their time.
MAX_DEFECTS = 20_000

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(read_scope)])


@router.get("/history", response_model=History)
def history(
    hub: TheHub,
    points: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 300,
    since: Annotated[
        float | None, Query(allow_inf_nan=False, description="Only after this time, seconds since 1970 UTC.")
    ] = None,
    class_id: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Only this class.")] = None,
) -> Response:
    """Counts, events and rates over time; lifetimes so far; distances between defects of the newest frame.

    The newest 1024 frames are kept one by one, those before them coarser and coarser. Points are of one width, the
    finest that is kept for all of the time asked for.
    """
    state = hub.engine.state
    return reply(history_of(state, hub.engine.history.view(points, since, class_id), class_id))


def history_of(state: LiveState, view: HistoryView, class_id: int | None) -> History:
    """A history in the words of the protocol."""
    entries = {entry.class_id: entry for entry in state.catalogue}
    return History(
        as_of_seq=state.as_of_seq,
        start=view.start.tolist(),
        end=view.end.tolist(),
        frames=view.frames.tolist(),
        by_role={role: Course(**_course(view.roles[role])) for role in ROLES},
        by_class=[
            ClassCourse(
                class_id=one,
                name=entries[one].name if one in entries else None,
                role=entries[one].role if one in entries else None,
                **_course(course),
            )
            for one, course in view.classes.items()
        ],
        scalars={name: ScalarCourse(**_scalar(course)) for name, course in view.scalars.items()},
        events={kind: n.tolist() for kind, n in view.events.items()},  # type: ignore[misc]
        rates={
            kind: Rate(
                n=rate.n,
                n_low=rate.n_low,
                n_high=rate.n_high,
                per_minute=rate.per_minute,
                per_nm2_per_minute=rate.per_nm2_per_minute,
                per_nm2_per_dose=rate.per_nm2_per_dose,
            )
            for kind, rate in view.rates.items()
        },  # type: ignore[misc]
        seconds=view.seconds,
        watched_s=np.round(view.watched_s, 4).tolist(),
        area_nm2=view.area_nm2,
        dose_e_per_a2=view.dose_e_per_a2,
        drift_nm=None
        if np.isnan(view.drift_nm).all()
        else DriftCourse(x=_with_gaps(view.drift_nm[0]), y=_with_gaps(view.drift_nm[1])),
        doses_e_per_a2=None if np.isnan(view.doses_e_per_a2).all() else _with_gaps(view.doses_e_per_a2),
        lifetimes=_lifetimes(view.lifetimes),
        distances=_distances(state, class_id),
    )


def _course(course: NDArray[np.float32]) -> dict[str, list[float]]:
    low, mean, high = np.round(course.astype(np.float64), 3)
    return {"min": low.tolist(), "mean": mean.tolist(), "max": high.tolist()}


def _scalar(course: NDArray[np.float64]) -> dict[str, list[float | None]]:
    return dict(zip(("min", "mean", "max"), map(_with_gaps, course), strict=True))


def _with_gaps(course: NDArray[np.float64]) -> list[float | None]:
    # seven figures are what is kept
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in course]


def _lifetimes(found: Survival) -> LifetimeSummary:
    kept = np.unique(np.linspace(0, len(found.time_s) - 1, min(len(found.time_s), MAX_AGES)).astype(int))
    return LifetimeSummary(
        n_ended=found.n_ended,
        exposure_s=found.exposure_s,
        mean_s=found.mean_s,
        mean_low_s=found.mean_low_s,
        mean_high_s=found.mean_high_s,
        median_s=found.median_s,
        n_followed=found.n_followed,
        age_s=found.time_s[kept].tolist(),
        share=found.share[kept].tolist(),
    )


def _distances(state: LiveState, class_id: int | None) -> DistanceSummary | None:
    result = state.result
    if result is None:
        return None
    sites = result.sites
    chosen = sites.role == ROLES.index("defect") if class_id is None else sites.class_id == class_id
    if chosen.sum() > MAX_DEFECTS:
        return None
    scale = result.pixel_size_nm or 1.0
    found = pair_distances(sites.position * scale, sites.sublattice, chosen)
    if found is None:
        return None
    return DistanceSummary(
        unit="px" if result.pixel_size_nm is None else "nm",
        n=found.n,
        edges=found.edges.tolist(),
        observed=found.observed.tolist(),
        expected=found.expected.tolist(),
        mean=found.mean,
        expected_mean=found.expected_mean,
        ratio=found.ratio,
        z=found.z,
    )
