"""``WS /v1/live``: the newest frame with its sites, for people; one message for each one asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, WebSocket
from numpy.typing import NDArray

from latticewatch.execute import LiveState, counts_of
from latticewatch.messages import ROLES, ClassChance, LiveHeader, LiveRequest, LiveSite, LiveView, pack_live
from latticewatch.serve._classes import summaries_of
from latticewatch.serve._hub import Hub, TheHub
from latticewatch.serve._news import woken
from latticewatch.serve._picture import OVERVIEW_PX, binned, numbered, part_of
from latticewatch.serve._socket import conversation, first_message
from latticewatch.serve._space import PlaneFeed, with_plane
from latticewatch.serve._tracks import displacement_of

if TYPE_CHECKING:
    from latticewatch.pipeline import FrameResult

router = APIRouter(prefix="/v1")

LOOK_S = 0.05  # a page that waits for its turn and asks for another view is answered within this
ROOM_STEP = 16_384  # bytes by which the room for a picture grows
SECTIONS_BYTES = 1500  # of the header, for the list of sections and for padding


@router.websocket("/live")
async def live(hub: TheHub, socket: WebSocket) -> None:
    """Answer each `LiveRequest` with the newest state, as soon as there is one newer than ``after``.

    A request that comes while the last one still waits takes its place: there is one answer, to the newest. Where there
    are many pages none gets every frame, and those that show the same get the same message; see `Pace`.
    """
    async with conversation(socket, hub) as (inbox, wake):
        request: LiveRequest | None = await first_message(hub, inbox, wake, LiveRequest)
        sent, catalogue, feed, beat = None, None, PlaneFeed(), -1
        while not hub.news.closing:
            # Not woken by each frame meanwhile: with many pages that alone would cost more than they may.
            while (early_s := hub.pace.left_s(beat)) > 0 and not (request is not None and request.again):
                await asyncio.sleep(min(early_s, LOOK_S))
                request = inbox.newest(LiveRequest) or request
            wake.clear()
            request = inbox.newest(LiveRequest) or request
            state = hub.engine.state
            # A page that has drawn nothing yet does not get the same empty state again and again.
            if request is None or _seen(request, state.number, sent):
                await woken(wake, None)
                continue
            # A class can grow without a new version of the model: what is told of classes is sent whenever it changed.
            names = tuple((entry.class_id, entry.name, entry.role, entry.total) for entry in state.catalogue)
            stale = request.model_version != state.model_version or names != catalogue
            beat = hub.pace.take()
            message = await _packed(hub, state, request, stale, feed)
            sent, catalogue, request = state.number, names, None
            await socket.send_bytes(message)


def _seen(request: LiveRequest, number: int, sent: int | None) -> bool:
    return not request.again and number == (sent if request.after is None else request.after)


def _age_s(result: FrameResult | None) -> float | None:
    """Time since a frame was received; by the monotonic clock where it was received by this process [s]."""
    if result is None:
        return None
    if result.received_at is not None:
        return time.monotonic() - result.received_at
    return max(0.0, time.time() - result.t_received)


async def _packed(
    hub: Hub, state: LiveState, request: LiveRequest, with_model: bool, feed: PlaneFeed
) -> bytes:
    """A message; the same for all pages that show the same at the same moment."""
    took: list[float] = []

    def pack() -> bytes:
        began = time.thread_time()
        message = _message(hub, state, request, with_model, feed if due else None)
        took.append(time.thread_time() - began)
        return message

    # What a page has of the plane is a matter of its own; whether it gets any is decided here, once.
    due = feed.due(request)
    alone = (id(feed), request.layout) if due else None
    view = None if request.view is None else request.view.model_dump_json()
    key = (state.number, request.max_size, view, with_model, alone, request.track)
    message = await hub.messages.get(key, pack)
    if took:
        hub.pace.packed(took[0])
    return message


def _message(
    hub: Hub, state: LiveState, request: LiveRequest, with_model: bool, feed: PlaneFeed | None
) -> bytes:
    result = state.result
    header = LiveHeader(
        ordinal=state.number,
        series_id=state.series_id,
        frame=result.number if result else None,
        shape=result.shape if result else None,
        pixel_size_nm=result.pixel_size_nm if result else None,
        t_received=result.t_received if result else None,
        age_s=_age_s(result),
        drift_nm=_drift_nm(state),
        status=hub.engine.status(state),
        counts=counts_of(state),
        classes=summaries_of(state) if with_model else None,
        site=None if request.track is None else _site(state, request.track),
    )
    if result is None:
        return pack_live(header, {})
    covered, regions = _regions(hub, state)
    header = header.model_copy(update=covered)
    plane, points = (None, {}) if feed is None else feed.take(state, request)
    header = with_plane(header, plane)
    model: dict[str, NDArray[Any]] = {}
    if with_model:
        model["embedding"] = np.asarray(result.embedding, np.float32)
        model["embedding_class"] = np.asarray(result.embedding_class, np.int16)
    if request.view is None:
        key = (result.ordinal, state.partials, request.max_size)
        image, factor = hub.pictures.get(key, lambda: binned(result.picture, request.max_size))
        header = header.model_copy(update={"image_scale": float(factor)})
        return pack_live(header, {"image": image} | _sites(state) | model | points | regions)
    return _viewed(hub, state, request.view, header, model, points, regions)


def _viewed(
    hub: Hub,
    state: LiveState,
    view: LiveView,
    header: LiveHeader,
    model: dict[str, NDArray[Any]],
    points: dict[str, NDArray[Any]],
    regions: dict[str, NDArray[Any]],
) -> bytes:
    """A message of what a page shows; what it has no room for is left out: layout, hosts, fineness, in this order."""
    result = state.result
    assert result is not None
    room = None if view.max_bytes is None else view.max_bytes - len(header.model_dump_json()) - SECTIONS_BYTES
    model = _thinned(model, None if room is None else room // 4)
    sites, left_out = _sites(state), 0
    if room is not None:
        points = _thinned(points, room // 4)
        room -= _nbytes(model) + _nbytes(points) + _nbytes(regions)
        hosts = np.asarray(result.sites.role) == ROLES.index("host")
        # A picture coarser than two pixels of the screen is worse than hosts that cannot be pointed at.
        if _nbytes(sites) > room - view.width * view.height // 4 and hosts.any():
            sites = {name: values[~hosts] for name, values in sites.items()}
            left_out = int(hosts.sum())
        room -= _nbytes(sites) + OVERVIEW_PX**2
        # The length of the header differs by some bytes from one page to the next: their picture does not.
        room -= room % ROOM_STEP
    key = (result.ordinal, state.partials, view.model_dump_json(), room)
    image, scale, origin = hub.pictures.get(key, lambda: part_of(result.picture, view, room))
    arrays = {"image": image} | sites | model | points | regions
    changes: dict[str, Any] = {"image_scale": scale, "image_origin": origin, "hosts_left_out": left_out}
    if view.rows is not None:
        overview, factor = hub.pictures.get(
            (result.ordinal, state.partials, "overview"), lambda: binned(result.picture, OVERVIEW_PX)
        )
        arrays["overview"] = overview
        changes["overview_scale"] = float(factor)
    return pack_live(header.model_copy(update=changes), arrays)


def _nbytes(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(values.nbytes for values in arrays.values())


def _thinned(model: dict[str, NDArray[Any]], room: int | None) -> dict[str, NDArray[Any]]:
    """A layout, every n-th point of it where there is no room for more: a phone never has room for all."""
    step = 1 if room is None else max(1, -(-_nbytes(model) // max(room, 1)))
    return {name: values[::step] for name, values in model.items()}


def _sites(state: LiveState) -> dict[str, NDArray[Any]]:
    assert state.result is not None
    sites = state.result.sites
    return {
        "positions": np.asarray(sites.position, np.float32),
        "class_id": np.asarray(sites.class_id, np.int16),
        "role": np.asarray(sites.role, np.uint8),
        "track": np.asarray(sites.track, np.int32),
        "confidence": np.asarray(sites.confidence, np.float32),
    }


def _site(state: LiveState, track: int) -> LiveSite | None:
    """What a page that follows a track wants to know beside what is sent of every site."""
    if state.result is None:
        return None
    sites = state.result.sites
    found = np.flatnonzero(sites.track == track)
    if not len(found):
        return None
    chances = [
        ClassChance(class_id=one, probability=round(share, 5))
        for one, share in sites.probabilities(int(found[0])).items()
    ]
    return LiveSite(track=track, classes=chances, displacement_nm=displacement_of(state, int(found[0])))


def _regions(hub: Hub, state: LiveState) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Where nothing is looked for: for the header, and its section; both empty where there is none."""
    result = state.result
    assert result is not None
    if not result.regions:
        return {}, {}
    small, factor = hub.pictures.get(
        (result.ordinal, "regions"), lambda: numbered(list(result.regions.values()), OVERVIEW_PX)
    )
    return {"regions": list(result.regions), "regions_scale": factor}, {"regions": small}


def _drift_nm(state: LiveState) -> tuple[float, float] | None:
    if state.result is None or state.result.pixel_size_nm is None:
        return None
    row, col = state.result.drift_px
    return col * state.result.pixel_size_nm, row * state.result.pixel_size_nm
