"""``/v1/model`` and ``/v1/embedding``: what the classifier works with, now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Response
from numpy.typing import NDArray

from latticewatch.execute import LiveState
from latticewatch.messages import ClassSpace, EmbeddingState, ModelState, SublatticeSpace
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import TheHub, reply

if TYPE_CHECKING:
    from latticewatch.pipeline import LiveSpace

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(read_scope)])

NOTHING: dict[int | str, dict] = {404: {"description": "Nothing is learnt yet."}}


def _space(state: LiveState) -> LiveSpace:
    if state.result is None or state.result.space is None or not state.catalogue:
        raise HTTPException(404, "nothing is learnt yet; wait until the phase in /v1/status is live")
    return state.result.space


@router.get("/model", response_model=ModelState, responses=NOTHING)
def model(hub: TheHub) -> Response:
    """Variances of the hosts beside what noise reaches by chance, and centroids with their counts and drift."""
    state = hub.engine.state
    view = _space(state).variances()
    entries = {entry.class_id: entry for entry in state.catalogue}
    sublattices = [
        SublatticeSpace(
            sublattice=one.sublattice,
            rows=round(one.rows, 1),
            variances=np.round(one.variances, 5).tolist(),
            edge=one.edge if np.isfinite(one.edge) else None,
            n_components=len(one.since),
            since=list(one.since),
        )
        for one in view.sublattices
    ]
    classes = [
        ClassSpace(
            class_id=entry.class_id,
            name=entry.name,
            role=entry.role,
            sublattice=entry.sublattice,
            prior=entry.prior,
            total=entry.total,
            separation=entry.separation,
            rows=round(of.rows, 1),
            since=of.since,
            distance=of.distance,
            drift=of.drift,
        )
        for of in view.centroids
        if (entry := entries.get(of.class_id)) is not None
    ]
    return reply(
        ModelState(
            as_of_seq=state.as_of_seq,
            model_version=state.model_version,
            frame=view.frame,
            sublattices=sublattices,
            classes=classes,
        )
    )


@router.get("/embedding", response_model=EmbeddingState, responses=NOTHING)
def embedding(hub: TheHub) -> Response:
    """The newest frame's sites in the plane, among a pool of sites laid out by forces."""
    state = hub.engine.state
    view = _space(state).plane()
    if view is None:
        raise HTTPException(404, "too few sites were seen to lay them out; wait for more frames")
    return reply(
        EmbeddingState(
            as_of_seq=state.as_of_seq,
            model_version=state.model_version,
            layout=view.layout,
            frame=view.frame,
            pool=_pairs(view.pool),  # type: ignore[arg-type]
            pool_class=view.pool_class.tolist(),
            sites=_pairs(view.sites),
            site_class=view.site_class.tolist(),
        )
    )


def _pairs(points: NDArray[np.float32]) -> list[tuple[float, float] | None]:
    rounded = np.round(points.astype(np.float64), 4)
    return [None if np.isnan(x) else (x, y) for x, y in rounded.tolist()]
