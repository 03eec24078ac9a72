"""``/v1/classes``: the catalogue, read by everyone and edited with the control key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from latticewatch.errors import UnknownClassError
from latticewatch.execute import LiveState
from latticewatch.messages import ClassDetail, ClassPatch, ClassSplit, ClassSummary, Sign, signs_of
from latticewatch.serve._access import control_scope, read_scope
from latticewatch.serve._hub import TheHub, reply
from latticewatch.serve._picture import patch_png, signed_png

if TYPE_CHECKING:
    from latticewatch.pipeline import CatalogueEntry

router = APIRouter(prefix="/v1/classes", tags=["classes"], dependencies=[Depends(read_scope)])

ClassId = Annotated[int, Path(ge=0, le=2**31 - 1)]
Size = Annotated[int, Query(ge=16, le=1024, description="Side [px]")]
NOT_FOUND: dict[int | str, dict] = {404: {"description": "The catalogue does not hold this class."}}
PICTURE = NOT_FOUND | {200: {"content": {"image/png": {}}}}


def catalogue_signs(state: LiveState) -> dict[int, Sign]:
    """Colour and shape of every class of the catalogue, by its id."""
    return signs_of((entry.class_id, entry.name, entry.role) for entry in state.catalogue)


def summary_of(state: LiveState, entry: CatalogueEntry, sign: Sign | None = None) -> ClassSummary:
    """A class in the words of the protocol, counted in the newest frame."""
    sign = sign or catalogue_signs(state)[entry.class_id]
    return ClassSummary(
        class_id=entry.class_id,
        name=entry.name,
        role=entry.role,
        kind=state.kind_of(entry),
        sublattice=entry.sublattice,
        host_class=entry.host_class,
        count=state.class_counts.get(entry.class_id, 0),
        total=entry.total,
        prior=entry.prior,
        separation=entry.separation,
        colour=sign.colour,
        shape=sign.shape,
        template=entry.template,
        score=entry.score,
        runner_up=entry.runner_up,
    )


def summaries_of(state: LiveState) -> list[ClassSummary]:
    """Every class of the catalogue, in the order of the ids."""
    signs = catalogue_signs(state)
    return [summary_of(state, entry, signs[entry.class_id]) for entry in state.catalogue]


def _entry(state: LiveState, class_id: int) -> CatalogueEntry:
    for entry in state.catalogue:
        if entry.class_id == class_id:
            return entry
    known = [entry.class_id for entry in state.catalogue]
    raise UnknownClassError(f"class {class_id}: not in the catalogue, which holds {known}")


@router.get("")
async def classes(hub: TheHub) -> list[ClassSummary]:
    """Every class, in the order of the ids."""
    return summaries_of(hub.engine.state)


@router.get("/{class_id}", response_model=ClassDetail, responses=NOT_FOUND)
async def one_class(hub: TheHub, class_id: ClassId) -> Response:
    """One class with its average patch and the simulated one that comes nearest."""
    state = hub.engine.state
    entry = _entry(state, class_id)
    template = entry.template_patch
    detail = ClassDetail(
        **summary_of(state, entry).model_dump(),
        patch_px=max(entry.average.shape),
        pixel_size_nm=state.result.pixel_size_nm if state.result else None,
        average=entry.average.astype(float).tolist(),
        template_patch=None if template is None else template.astype(float).tolist(),
        difference=None if template is None else (entry.average - template).astype(float).tolist(),
    )
    return reply(detail)


@router.get("/{class_id}/average.png", responses=PICTURE, response_class=Response)
def average_png(hub: TheHub, class_id: ClassId, size: Size = 128) -> Response:
    """The average patch as a picture, stretched from its darkest to its brightest pixel."""
    return Response(patch_png(_entry(hub.engine.state, class_id).average, size), media_type="image/png")


@router.get("/{class_id}/template.png", responses=PICTURE, response_class=Response)
def template_png(hub: TheHub, class_id: ClassId, size: Size = 128) -> Response:
    """The simulated patch that comes nearest, in the grey levels of the average patch."""
    entry = _entry(hub.engine.state, class_id)
    return Response(patch_png(_template(entry), size, entry.average), media_type="image/png")


@router.get("/{class_id}/difference.png", responses=PICTURE, response_class=Response)
def difference_png(hub: TheHub, class_id: ClassId, size: Size = 128) -> Response:
    """Average less simulated patch: red is more, blue is less, full at half the range of the average patch."""
    entry = _entry(hub.engine.state, class_id)
    limit = float(np.ptp(entry.average)) / 2
    return Response(signed_png(entry.average - _template(entry), limit, size), media_type="image/png")


def _template(entry: CatalogueEntry) -> NDArray[np.float32]:
    if entry.template_patch is None:
        raise HTTPException(
            404,
            f"class {entry.class_id}: compared with no simulated class, because no site of it was averaged",
        )
    return entry.template_patch


@router.patch(
    "/{class_id}",
    responses=NOT_FOUND | {409: {"description": "The edit contradicts itself or the catalogue."}},
    dependencies=[Depends(control_scope)],
)
async def edit_class(hub: TheHub, class_id: ClassId, patch: ClassPatch) -> ClassSummary:
    """Rename a class, set its role, or merge other classes into it."""
    try:
        entry = await run_in_threadpool(hub.engine.edit, class_id, patch)
    except ValueError as error:
        raise HTTPException(409, str(error)) from error
    return summary_of(hub.engine.state, entry)


@router.post(
    "/{class_id}/split",
    responses=NOT_FOUND
    | {409: {"description": "The layout has gone, or a frame cannot tell these sites from the others."}},
    dependencies=[Depends(control_scope)],
)
async def split_class(hub: TheHub, class_id: ClassId, wanted: ClassSplit) -> ClassSummary:
    """Make the sites within a line in the plane a class of their own; merging it back undoes it."""
    try:
        entry = await run_in_threadpool(hub.engine.split, class_id, wanted)
    except ValueError as error:
        raise HTTPException(409, str(error)) from error
    return summary_of(hub.engine.state, entry)
