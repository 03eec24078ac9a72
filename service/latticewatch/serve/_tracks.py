"""``/v1/tracks``: the defects of the newest frame and those beside it, where they are now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Response
from numpy.typing import NDArray

from latticewatch.execute import LiveState
from latticewatch.messages import ROLES, DefectKind, Displacement, Nanometres, Pixel, Role, Tracks, TrackState
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import TheHub, reply

if TYPE_CHECKING:
    from latticewatch.pipeline import FrameResult, SiteTable

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(read_scope)])


@router.get("/tracks", response_model=Tracks)
def tracks(
    hub: TheHub,
    role: Annotated[Role | Literal["all"], Query()] = "defect",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    out_of_view: Annotated[bool, Query()] = False,
) -> Response:
    """Sites of one role, or of all, in the newest frame, most confident first; then watch events after `as_of_seq`.

    With `out_of_view`, defects as well that were seen before and are beside the frame now.
    """
    return reply(tracks_of(hub.engine.state, role, limit, hub.engine.log.stream, out_of_view=out_of_view))


def tracks_of(
    state: LiveState,
    role: Role | Literal["all"],
    limit: int,
    stream: str | None = None,
    *,
    out_of_view: bool = False,
) -> Tracks:
    """Sites of one role in the words of the protocol."""
    found = [track for track, _ in states_of(state, role, limit, out_of_view=out_of_view)]
    result = state.result
    if result is None:
        return Tracks(stream=stream, as_of_seq=state.as_of_seq, series_id=None, frame=None, n=0, tracks=[])
    n = sum(len(_of_role(sites, role)) for sites in _tables(result, out_of_view=out_of_view))
    return Tracks(
        stream=stream,
        as_of_seq=state.as_of_seq,
        series_id=result.series_id,
        frame=result.number,
        n=n,
        epoch=result.epoch,
        tracks=found,
    )


def states_of(
    state: LiveState, role: Role | Literal["all"], limit: int, *, out_of_view: bool = False
) -> list[tuple[TrackState, float]]:
    """Sites of one role, most confident first; each with the factor by which a look would raise its evidence.

    Where that is not known it is infinite: all doubt may be taken by a look.
    """
    result = state.result
    if result is None:
        return []
    pixel_nm, calibration, shape = result.pixel_size_nm, result.calibration, result.shape
    names = {entry.class_id: entry.name for entry in state.catalogue}
    kinds: dict[int, DefectKind | None] = {entry.class_id: state.kind_of(entry) for entry in state.catalogue}
    tables = _tables(result, out_of_view=out_of_view)
    rows = [_of_role(table, role) for table in tables]
    of_table = np.repeat(np.arange(len(tables)), [len(some) for some in rows])
    confidence = np.concatenate([table.confidence[some] for table, some in zip(tables, rows, strict=True)])
    best = np.argsort(-confidence, kind="stable")[:limit]
    found = []
    for number, index in zip(of_table[best].tolist(), np.concatenate(rows)[best].tolist(), strict=True):
        sites, in_view = tables[number], number == 0
        row, col = (float(value) for value in sites.position[index])
        on_stage = calibration.to_stage(row, col, shape) if calibration is not None else None
        edge_px = min(row, col, shape[0] - 1 - row, shape[1] - 1 - col)
        class_id = int(sites.class_id[index])
        track = TrackState(
            track=int(sites.track[index]),
            class_id=class_id,
            class_name=names.get(class_id, "unknown"),
            role=ROLES[sites.role[index]],
            confidence=float(sites.confidence[index]),
            px=Pixel(row=row, col=col),
            nm=Nanometres(x=col * pixel_nm, y=row * pixel_nm) if pixel_nm is not None else None,
            stage_nm=Nanometres(x=on_stage[0], y=on_stage[1]) if on_stage is not None else None,
            sigma_nm=result.sigma_px * pixel_nm
            if result.sigma_px is not None and pixel_nm is not None and sites.track[index] >= 0
            else None,
            kind=kinds.get(class_id),
            displacement_nm=displacement_of(state, index) if in_view else None,
            edge_distance_nm=edge_px * pixel_nm if pixel_nm is not None and in_view else None,
            in_view=in_view,
        )
        found.append((track, math.inf if sites.prospect is None else float(sites.prospect[index])))
    return found


def _tables(result: FrameResult, *, out_of_view: bool) -> list[SiteTable]:
    return [result.sites, result.away] if out_of_view and result.away is not None else [result.sites]


def _of_role(sites: SiteTable, role: Role | Literal["all"]) -> NDArray[np.intp]:
    return np.arange(len(sites)) if role == "all" else np.flatnonzero(sites.role == ROLES.index(role))


def displacement_of(state: LiveState, site: int) -> Displacement | None:
    """How far a displaced column of the newest frame was found from its place; None for any other site."""
    result = state.result
    if result is None or result.calibration is None:
        return None
    shift = result.sites.displaced_by(site)
    if shift is None or result.kinds.get(int(result.sites.class_id[site])) != "displaced":
        return None
    return result.calibration.displacement(shift.tolist())
