"""``WS /v1/live``: the newest frame with its sites, for people; one message for each one asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, WebSocket
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from latticewatch.execute import LiveState, counts_of
from latticewatch.messages import LiveHeader, LiveRequest, pack_live
from latticewatch.serve._classes import summaries_of
from latticewatch.serve._hub import Hub, TheHub
from latticewatch.serve._news import woken
from latticewatch.serve._picture import binned
from latticewatch.serve._socket import conversation, first_message

router = APIRouter(prefix="/v1")


@router.websocket("/live")
async def live(hub: TheHub, socket: WebSocket) -> None:
    """Answer each `LiveRequest` with the newest state, as soon as there is one newer than ``after``.

    A request that comes while the last one still waits takes its place: there is one answer, to the newest.
    """
    async with conversation(socket, hub) as (inbox, wake):
        request: LiveRequest | None = await first_message(hub, inbox, wake, LiveRequest)
        sent, catalogue = None, None
        while not hub.news.closing:
            wake.clear()
            request = inbox.newest(LiveRequest) or request
            state = hub.engine.state
            # A page that has drawn nothing yet does not get the same empty state again and again.
            if request is None or state.number == (sent if request.after is None else request.after):
                await woken(wake, None)
                continue
            # A class can be renamed without a new version of the model; names are sent whenever they changed.
            names = tuple((entry.class_id, entry.name, entry.role) for entry in state.catalogue)
            stale = request.model_version != state.model_version or names != catalogue
            message = await run_in_threadpool(_message, hub, state, request.max_size, stale)
            sent, catalogue, request = state.number, names, None
            await socket.send_bytes(message)


def _message(hub: Hub, state: LiveState, max_size: int, with_model: bool) -> bytes:
    result = state.result
    header = LiveHeader(
        ordinal=state.number,
        series_id=state.series_id,
        frame=result.number if result else None,
        shape=result.shape if result else None,
        pixel_size_nm=result.pixel_size_nm if result else None,
        t_received=result.t_received if result else None,
        age_s=max(0.0, time.time() - result.t_received) if result else None,
        drift_nm=_drift_nm(state),
        status=hub.engine.status(state),
        counts=counts_of(state),
        classes=summaries_of(state) if with_model else None,
    )
    arrays: dict[str, NDArray[Any]] = {}
    if result is not None:
        key = (result.ordinal, state.partials, max_size)
        arrays["image"], factor = hub.pictures.get(key, lambda: binned(result.picture, max_size))
        header = header.model_copy(update={"image_scale": float(factor)})
        arrays |= _sites(state)
        if with_model:
            arrays["embedding"] = np.asarray(result.embedding, np.float32)
            arrays["embedding_class"] = np.asarray(result.embedding_class, np.int16)
    return pack_live(header, arrays)


def _sites(state: LiveState) -> Mapping[str, NDArray[Any]]:
    assert state.result is not None
    sites = state.result.sites
    return {
        "positions": np.asarray(sites.position, np.float32),
        "class_id": np.asarray(sites.class_id, np.int16),
        "role": np.asarray(sites.role, np.uint8),
        "track": np.asarray(sites.track, np.int32),
        "confidence": np.asarray(sites.confidence, np.float32),
    }


def _drift_nm(state: LiveState) -> tuple[float, float] | None:
    if state.result is None or state.result.pixel_size_nm is None:
        return None
    row, col = state.result.drift_px
    return col * state.result.pixel_size_nm, row * state.result.pixel_size_nm
