"""``/v1/events``: the log of events, by long-poll and as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator

from latticewatch.messages import CursorGone, EventPage
from latticewatch.serve._access import read_scope
from latticewatch.serve._feed import Filter, GoneError, start_of, wait_page
from latticewatch.serve._hub import Hub, TheHub, reply

MAX_SEQ = 2**63 - 1
HEARTBEAT_S = 10.0
PAGE = 256

router = APIRouter(prefix="/v1", tags=["events"], dependencies=[Depends(read_scope)])


def _cursor(value: object) -> object:
    return value if value == "now" else _integer(value)


def _integer(value: object) -> object:
    return (
        int(value)
        if isinstance(value, str) and value.isascii() and len(value) < 20 and value.isdigit()
        else value
    )


# ge and le make a number that SQLite cannot hold a 422.
Seq = Annotated[int, Query(ge=0, le=MAX_SEQ)]
After = Annotated[
    Annotated[int, Query(ge=0, le=MAX_SEQ)] | Literal["now"] | None,
    BeforeValidator(_cursor),
    Query(description="Sequence number of the last event handled, or `now`; without it, from the oldest."),
]
Stream = Annotated[str | None, Query(max_length=64, description="Log that the cursor belongs to.")]
Types = Annotated[
    list[str] | None,
    Query(max_length=64, description="Types wanted, with commas or repeated; `defect.*` is a family."),
]
GONE: dict[int | str, dict] = {
    410: {"model": CursorGone, "description": "The cursor is too old, in the future, or of another log."}
}


def parse_filter(types: list[str] | None) -> Filter:
    """Types as a filter; 422 for one that does not exist."""
    try:
        return Filter.parse(types)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


@router.get("/events", response_model=EventPage, responses=GONE)
async def events(
    hub: TheHub,
    request: Request,
    after: After = None,
    stream: Stream = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    wait: Annotated[float, Query(ge=0, le=3600, allow_inf_nan=False)] = 0,
    types: Types = None,
) -> Response:
    """Events after a cursor that the client owns, at least once and in order.

    Give `next` of the reply as `after` of the next call, with `stream`. With `wait` the reply comes as soon
    as there is an event, or empty after that many seconds (at most `serve.max_wait_s`): the heartbeat.
    """
    wanted = parse_filter(types)
    try:
        cursor = start_of(hub, after, stream)
        page = await wait_page(hub, cursor, limit, wanted, wait, request.is_disconnected)
    except GoneError as gone:
        return reply(gone.body, 410)
    return Response(page.json(), media_type="application/json")


@router.get(
    "/events/stream", responses=GONE | {200: {"content": {"text/event-stream": {}}}}, response_class=Response
)
async def stream_events(
    hub: TheHub,
    after: After = None,
    stream: Stream = None,
    types: Types = None,
    last_event_id: Annotated[str | None, Header(max_length=128)] = None,
) -> Response:
    """The same log as server-sent events; `Last-Event-ID` (`stream:seq`) wins over `after` and `stream`."""
    wanted = parse_filter(types)
    if last_event_id:
        stream, _, seq = last_event_id.rpartition(":")
        after = int(seq) if seq.isascii() and seq.isdigit() and len(seq) < 19 else None
        if after is None or not stream:
            raise HTTPException(422, f"Last-Event-ID {last_event_id[:100]!r}: expected stream:seq")
    try:
        cursor = start_of(hub, after, stream)
    except GoneError as gone:
        return reply(gone.body, 410)
    return StreamingResponse(_server_sent(hub, cursor, wanted), media_type="text/event-stream")


async def _server_sent(hub: Hub, cursor: int, wanted: Filter) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    while not hub.news.closing:
        try:
            page = await wait_page(hub, cursor, PAGE, wanted, HEARTBEAT_S)
        except GoneError as gone:
            yield f"event: gone\ndata: {gone.body.model_dump_json()}\n\n"
            return
        cursor = page.next
        if not page.events:
            yield ": still here\n\n"
        for event in page.events:
            yield f"id: {event.id}\nevent: {event.type}\ndata: {event.json()}\n\n"
