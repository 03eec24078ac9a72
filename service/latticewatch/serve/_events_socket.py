"""``WS /v1/events/ws``: the log of events, pushed."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, WebSocket

from latticewatch.messages import Subscribe
from latticewatch.serve._feed import Filter, GoneError, read_page, start_of
from latticewatch.serve._hub import Hub, TheHub
from latticewatch.serve._news import woken
from latticewatch.serve._socket import (
    BAD_MESSAGE,
    GONE,
    MAX_REASON,
    CloseError,
    Inbox,
    conversation,
    first_message,
)

HEARTBEAT_S = 10.0
PAGE = 256

router = APIRouter(prefix="/v1")


@router.websocket("/events/ws")
async def events_socket(hub: TheHub, socket: WebSocket) -> None:
    """Push each event after the cursor of the first message; an empty page now and then is the heartbeat."""
    async with conversation(socket, hub) as (inbox, wake):
        wish = await first_message(hub, inbox, wake, Subscribe)
        try:
            wanted = Filter.parse(wish.types)
        except ValueError as error:
            raise CloseError(BAD_MESSAGE, str(error)[:MAX_REASON]) from error
        try:
            await _push(hub, socket, inbox, wake, start_of(hub, wish.after, wish.stream), wanted)
        except GoneError as gone:
            await socket.send_text(gone.body.model_dump_json())
            raise CloseError(GONE, gone.body.detail[:MAX_REASON]) from gone


async def _push(
    hub: Hub, socket: WebSocket, inbox: Inbox, wake: asyncio.Event, cursor: int, wanted: Filter
) -> None:
    # The first page is sent even if it is empty: it tells that the subscription stands.
    heartbeat = True
    while not hub.news.closing:
        wake.clear()
        # Later messages change nothing, but the end of the socket is heard here.
        inbox.newest(Subscribe)
        page = await read_page(hub, cursor, PAGE, wanted)
        if heartbeat and not page.events:
            await socket.send_text(page.json())
        for event in page.events:
            await socket.send_text(event.json())
        cursor, heartbeat = page.next, False
        if cursor >= hub.engine.log.last_seq:
            heartbeat = not await woken(wake, HEARTBEAT_S)
