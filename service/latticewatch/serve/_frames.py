"""``/v1/frames/latest``: what is known of the newest frame, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response

from latticewatch.execute import LiveState
from latticewatch.messages import FrameInfo, Nanometres, Pixel
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import TheHub, reply
from latticewatch.serve._picture import frame_png

if TYPE_CHECKING:
    from latticewatch.pipeline import FrameResult

router = APIRouter(prefix="/v1/frames", tags=["state"], dependencies=[Depends(read_scope)])

NO_FRAME: dict[int | str, dict] = {404: {"description": "No frame has been analysed yet."}}


def _newest(state: LiveState) -> FrameResult:
    if state.result is None:
        raise HTTPException(404, "no frame has been analysed yet; start the source, or wait for /readyz")
    return state.result


def _stage_drift(result: FrameResult) -> Nanometres | None:
    if result.calibration is None or result.calibration.stage_nm is None:
        return None
    row, col = result.specimen_drift_px
    x, y = result.calibration.turn(*result.calibration.to_nm(row, col))
    return Nanometres(x=x, y=y)


@router.get("/latest", response_model=FrameInfo, responses=NO_FRAME)
async def latest(hub: TheHub) -> Response:
    """The newest frame: number, shape, pixel size, stage, drift, lattice, and how long each step took."""
    state = hub.engine.state
    result = _newest(state)
    info = FrameInfo(
        as_of_seq=state.as_of_seq,
        series_id=result.series_id,
        frame=result.number,
        shape=result.shape,
        t_received=result.t_received,
        t_acquired=result.t_acquired,
        pixel_size_nm=result.pixel_size_nm,
        stage_nm=Nanometres(x=result.stage_nm[0], y=result.stage_nm[1]) if result.stage_nm else None,
        drift_px=Pixel(row=result.drift_px[0], col=result.drift_px[1]),
        stage_drift_nm=_stage_drift(result),
        lattice_found=result.lattice_found,
        lattice_constant_px=result.lattice_constant_px,
        n_sites=len(result.sites),
        model_version=result.model_version,
        timings_ms=result.timings_ms,
        notes=result.notes,
    )
    return reply(info)


@router.get(
    "/latest.png", responses=NO_FRAME | {200: {"content": {"image/png": {}}}}, response_class=Response
)
def latest_png(
    hub: TheHub,
    overlay: Annotated[bool, Query(description="Ring every defect in the colour of its class.")] = False,
    max_size: Annotated[int, Query(ge=64, le=4096, description="Longest side [px]")] = 1024,
) -> Response:
    """The newest frame as a picture; `X-Frame` is its number."""
    state = hub.engine.state
    result = _newest(state)
    # An edit changes the rings without a new frame, so they are kept by the number of the state.
    key = (state.number if overlay else -result.ordinal - 1, state.partials, max_size, overlay)
    png = hub.encoded.get(key, lambda: frame_png(state, max_size, overlay))
    return Response(png, media_type="image/png", headers={"X-Frame": str(result.number)})
