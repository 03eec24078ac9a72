"""``/v1/tracks``: the defects of the newest frame, where they are now."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Response

from latticewatch.execute import LiveState
from latticewatch.messages import ROLES, Nanometres, Pixel, Role, Tracks, TrackState
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import TheHub, reply

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(read_scope)])


@router.get("/tracks", response_model=Tracks)
def tracks(
    hub: TheHub,
    role: Annotated[Role, Query()] = "defect",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """Sites of one role in the newest frame, most confident first; then watch events after `as_of_seq`."""
    return reply(tracks_of(hub.engine.state, role, limit))


def tracks_of(state: LiveState, role: Role, limit: int) -> Tracks:
    """Sites of one role in the words of the protocol."""
    result = state.result
    if result is None:
        return Tracks(as_of_seq=state.as_of_seq, series_id=None, frame=None, n=0, tracks=[])
    sites, pixel_nm = result.sites, result.pixel_size_nm
    names = {entry.class_id: entry.name for entry in state.catalogue}
    of_role = np.flatnonzero(sites.role == ROLES.index(role))
    best = of_role[np.argsort(-sites.confidence[of_role], kind="stable")][:limit]
    found = []
    for index in best.tolist():
        row, col = (float(value) for value in sites.position[index])
        class_id = int(sites.class_id[index])
        found.append(
            TrackState(
                track=int(sites.track[index]),
                class_id=class_id,
                class_name=names.get(class_id, "unknown"),
                role=role,
                confidence=float(sites.confidence[index]),
                px=Pixel(row=row, col=col),
                nm=Nanometres(x=col * pixel_nm, y=row * pixel_nm) if pixel_nm is not None else None,
            )
        )
    return Tracks(
        as_of_seq=state.as_of_seq,
        series_id=result.series_id,
        frame=result.number,
        n=len(of_role),
        tracks=found,
    )
