"""``/v1/model`` and ``/v1/embedding``: what the classifier works with, now, and the model as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from latticewatch.errors import FileError
from latticewatch.execute import LiveState
from latticewatch.messages import (
    EmbeddingState,
    LoadedClass,
    LoadedModel,
    ModelState,
)
from latticewatch.serve._access import control_scope, read_scope
from latticewatch.serve._hub import Hub, TheHub, reply
from latticewatch.serve._space import classes_of, sublattices_of

if TYPE_CHECKING:
    from latticewatch.pipeline import LiveSpace

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(read_scope)])

MODEL_TYPE = "application/vnd.latticewatch.model+npz"
BINARY = {"schema": {"type": "string", "format": "binary"}}
FILE: dict[int | str, dict] = {200: {"content": {MODEL_TYPE: BINARY}}}
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
    return reply(
        ModelState(
            as_of_seq=state.as_of_seq,
            model_version=state.model_version,
            frame=view.frame,
            sublattices=sublattices_of(view),
            classes=classes_of(view, entries),
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


@router.get("/model/file", responses=NOTHING | FILE, response_class=Response)
def model_file(hub: TheHub) -> Response:
    """The model as a file, to start from on another day."""
    data = hub.engine.saved_model()
    if data is None:
        raise HTTPException(404, "nothing is learnt yet; wait until the phase in /v1/status is live")
    name = f"model-{hub.engine.state.model_version}.npz"
    return Response(
        data, media_type=MODEL_TYPE, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@router.put(
    "/model/file",
    response_model=LoadedModel,
    responses={422: {"description": "No model, or one that cannot work."}},
    openapi_extra={"requestBody": {"required": True, "content": {MODEL_TYPE: BINARY}}},
    dependencies=[Depends(control_scope)],
)
async def load_model(hub: TheHub, request: Request) -> Response:
    """Start from a model of another day. The one in force is remembered, and comes back with its lattice."""
    data = await request.body()
    loaded = await run_in_threadpool(_load, hub, data)
    return reply(loaded)


def _load(hub: Hub, data: bytes) -> LoadedModel:
    from latticewatch.pipeline import read_model

    try:
        saved = read_model(data)
    except FileError as error:
        raise HTTPException(422, f"nothing was changed: {error}") from error
    model = hub.engine.load_model(saved)
    classes = sorted(zip(saved.model.classes, model.classes, strict=True), key=lambda pair: pair[1].class_id)
    return LoadedModel(
        as_of_seq=hub.engine.state.as_of_seq,
        model_version=model.version,
        classes=[
            LoadedClass(class_id=now.class_id, class_id_in_file=then.class_id, name=now.name, role=now.role)
            for then, now in classes
        ],
    )


def _pairs(points: NDArray[np.float32]) -> list[tuple[float, float] | None]:
    rounded = np.round(points.astype(np.float64), 4)
    return [None if np.isnan(x) else (x, y) for x, y in rounded.tolist()]
