"""The client for programs that do something else while they wait: the same calls, awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, Self, TypeVar

import httpx

from latticewatch.errors import CursorGoneError, ServiceUnreachableError
from latticewatch.messages import (
    Annotation,
    ClassDetail,
    ClassSummary,
    Counts,
    EmbeddingState,
    Event,
    EventPage,
    FrameInfo,
    History,
    Kind,
    Lease,
    LoadedModel,
    ModelState,
    Outcome,
    Policy,
    Role,
    Status,
    Targets,
    Tracks,
)
from latticewatch_client import _calls
from latticewatch_client._calls import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, DEFAULT_URL, Call
from latticewatch_client._cursor_file import CursorFile
from latticewatch_client._follow import WAIT_S, After, AsyncWatch, Cursor, EventWalk, OnGap

T = TypeVar("T")


class AsyncClient:
    """A connection to a Latticewatch service, for asyncio.

    Parameters
    ----------
    url : str
        Address of the service.
    key : str, optional
        Read or control key, where the service has keys.
    timeout : float
        Longest wait for any answer [s]; a long-poll has its own wait on top.
    retries : int
        How often a call that may be made twice is made again, after a lost connection, 429 or 5xx.
    transport : httpx.AsyncBaseTransport, optional
        Takes the place of the network, for tests.

    Attributes
    ----------
    cursor : Cursor or None
        The last event that `events` gave out.
    last_frame_age_s : float or None
        Age of the newest frame when the service last answered `events` [s]; the heartbeat renews it.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=url, headers=_calls.headers_of(key), timeout=timeout, transport=transport
        )
        self.cursor: Cursor | None = None
        self.last_frame_age_s: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, call: Call[T]) -> T:
        if not call.repeatable:
            return await self._once(call)
        async for attempt in _calls.attempts(self._retries):
            with attempt:
                return await self._once(call)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, call: Call[T]) -> T:
        request = call.request(self._http, self._timeout)
        try:
            response = await self._http.send(request)
        except httpx.TransportError as error:
            raise _calls.unreachable(request.url, error, self._timeout + call.extra_wait_s) from error
        return call.result(response)

    async def events(
        self,
        after: After = None,
        types: Sequence[str] | None = None,
        follow: bool = True,
        on_gap: OnGap = "raise",
        cursor_file: str | os.PathLike[str] | None = None,
    ) -> AsyncIterator[Event]:
        """Events in order, at least once, over lost connections and restarts of the service.

        Parameters
        ----------
        after : None, "now", int, str or Cursor
            The oldest event that is kept; only those to come; those after a sequence number; or those after a
            cursor, which is the only one that notices another log.
        types : sequence of str, optional
            Types wanted; ``defect.*`` is a family.
        follow : bool
            Wait for more at the end, and come back when the service is away. Otherwise stop at the end.
        on_gap : {"raise", "latest", "oldest"} or callable
            What happens when events were missed because the cursor is gone: an error that names them; or the walk
            goes on with the next event to come, or with the oldest that is left, and the log says what was missed. A
            callable is called with the error, and the walk goes on with the oldest.
        cursor_file : str or Path, optional
            Where the cursor is kept, so that the next start of a program goes on where this one ended; where there is
            one it wins over ``after``. An event counts as handled when the next one is asked for.

        Yields
        ------
        Event

        Raises
        ------
        CursorGoneError
            Events were missed, and ``on_gap`` is "raise". ``lost`` of the error says which.
        ServiceUnreachableError
            No answer, where ``follow`` is false.
        UnauthorizedError
            The key is missing or wrong.
        """
        file = None if cursor_file is None else CursorFile(cursor_file)
        if file is not None:
            after = file.read() or after
        async for page in self.event_pages(after, types, follow, on_gap):
            for event in page.events:
                self.cursor = Cursor(event.stream, event.seq)
                yield event
                if file is not None:
                    file.write(self.cursor)
            if file is not None and page.next > 0:
                file.write(Cursor(page.stream, page.next), durable=bool(page.events))

    async def event_pages(
        self,
        after: After = None,
        types: Sequence[str] | None = None,
        follow: bool = True,
        on_gap: OnGap = "raise",
        wait: Callable[[], float] = lambda: WAIT_S,
    ) -> AsyncIterator[EventPage]:
        """The same, page by page: all that happened since the last look; an empty page is the heartbeat.

        Parameters
        ----------
        after, types, follow, on_gap
            As for `events`.
        wait : callable
            Says before each request how long the service may wait for an event [s].

        Yields
        ------
        EventPage

        Raises
        ------
        CursorGoneError, ServiceUnreachableError, UnauthorizedError
            As for `events`.
        """
        walk = EventWalk(after, types, follow)
        while not walk.finished:
            try:
                page = await self._send(walk.next_call(wait()))
            except CursorGoneError as gone:
                self.cursor = walk.resume(gone, on_gap)
            except ServiceUnreachableError as error:
                if not follow:
                    raise
                await asyncio.sleep(walk.pause_s(error))
            else:
                self.last_frame_age_s = page.last_frame_age_s
                yield page
                self.cursor = walk.take(page)

    async def watch(
        self,
        role: Role | Literal["all"] = "defect",
        types: Sequence[str] | None = None,
        on_gap: OnGap = "raise",
    ) -> AsyncWatch:
        """What is there now, and every event from then on: list, then watch, without a gap between.

        Parameters
        ----------
        role : str
            Of the sites that are listed; "all" for every role.
        types, on_gap
            As for `events`.

        Returns
        -------
        AsyncWatch
            ``tracks``, ``as_of_seq``, and ``events`` after it.
        """
        stream = (await self.status()).stream
        tracks = await self.tracks(role, _calls.MAX_TRACKS)
        after = Cursor(tracks.stream or stream, tracks.as_of_seq)
        return AsyncWatch(tracks, tracks.as_of_seq, self.events(after, types, on_gap=on_gap))

    async def sites(self, role: Role | Literal["all"] = "all") -> dict[str, list[Any]]:
        """Sites of the newest frame as a table that pandas reads: ``pandas.DataFrame(await client.sites())``.

        Parameters
        ----------
        role : str
            Only sites of this role; "all" for every role.

        Returns
        -------
        dict of str to list
            Columns ``frame``, ``track``, ``class_id``, ``class_name``, ``role``, ``confidence``, ``row_px``,
            ``col_px``, ``x_nm``, ``y_nm``, ``stage_x_nm``, ``stage_y_nm``, ``sigma_nm``; None where not known.
        """
        return _calls.columns_of(await self.tracks(role, _calls.MAX_TRACKS))

    async def status(self) -> Status:
        """State of the stream."""
        return await self._send(_calls.status())

    async def counts(self) -> Counts:
        """Sites of the newest frame, by role and by class."""
        return await self._send(_calls.counts())

    async def classes(self) -> list[ClassSummary]:
        """Every class of the catalogue."""
        return await self._send(_calls.classes())

    async def class_(self, class_id: int) -> ClassDetail:
        """One class with its average patch.

        Parameters
        ----------
        class_id : int

        Returns
        -------
        ClassDetail
        """
        return await self._send(_calls.one_class(class_id))

    async def model(self) -> ModelState:
        """What the classifier works with: variances of the hosts, and centroids with their counts and drift."""
        return await self._send(_calls.model())

    async def saved_model(self) -> bytes:
        """The model as a file, to start from on another day: see ``latticewatch model show``."""
        return await self._send(_calls.saved_model())

    async def load_model(self, data: bytes) -> LoadedModel:
        """Start from a saved model; needs the control key. The model in force is remembered.

        Parameters
        ----------
        data : bytes
            As `saved_model` gave it.

        Returns
        -------
        LoadedModel
        """
        return await self._send(_calls.load_model(data))

    async def embedding(self) -> EmbeddingState:
        """Sites of the newest frame in the plane, among a pool laid out by forces."""
        return await self._send(_calls.embedding())

    async def rename(self, class_id: int, name: str) -> ClassSummary:
        """Give a class a name; needs the control scope.

        Parameters
        ----------
        class_id : int
        name : str

        Returns
        -------
        ClassSummary
        """
        return await self._send(_calls.edit_class(class_id, name=name))

    async def set_role(self, class_id: int, role: Role) -> ClassSummary:
        """Say what a class is; needs the control scope.

        Parameters
        ----------
        class_id : int
        role : {"host", "defect", "neighbour", "unknown"}

        Returns
        -------
        ClassSummary
        """
        return await self._send(_calls.edit_class(class_id, role=role))

    async def merge(self, class_id: int, others: Sequence[int]) -> ClassSummary:
        """Let a class take in others; needs the control scope.

        Parameters
        ----------
        class_id : int
            Keeps its number and its name.
        others : sequence of int

        Returns
        -------
        ClassSummary
        """
        return await self._send(_calls.edit_class(class_id, merge=list(others)))

    async def relearn(self) -> Status:
        """Throw the classes away and learn again; needs the control scope."""
        return await self._send(_calls.relearn())

    async def tracks(
        self, role: Role | Literal["all"] = "defect", limit: int = 1000, out_of_view: bool = False
    ) -> Tracks:
        """Sites of one role in the newest frame, most confident first.

        Parameters
        ----------
        role : str
            "all" for every role.
        limit : int
            Most sites.
        out_of_view : bool
            Also defects that were seen before and are beside the frame now.

        Returns
        -------
        Tracks
        """
        return await self._send(_calls.tracks(role, limit, out_of_view))

    async def targets(
        self,
        policy: Policy = "most-confident",
        limit: int = 20,
        classes: Sequence[str] = (),
        kinds: Sequence[Kind] = (),
        min_confidence: float = 0.0,
        out_of_view: bool = False,
    ) -> Targets:
        """What could be looked at next, best first: advice, nothing is leased.

        Parameters
        ----------
        policy : str
            What is best, as for `next_target`.
        limit : int
            Most targets.
        classes : sequence of str
            Only of classes with these names; empty for all.
        kinds : sequence of str
            Only these kinds of change; empty for all.
        min_confidence : float
            Only those that are at least so sure, 0 to 1.
        out_of_view : bool
            Also those that were seen before and are beside the newest frame.

        Returns
        -------
        Targets
        """
        return await self._send(_calls.targets(policy, limit, classes, kinds, min_confidence, out_of_view))

    async def next_target(
        self,
        holder: str,
        policy: Policy = "most-confident",
        ttl_s: float = 60.0,
        key: str | None = None,
        **wanted: Any,
    ) -> Lease:
        """Lease the defect that a policy ranks first, among those that nobody has and nobody visited.

        Needs the control scope.

        Parameters
        ----------
        holder : str
            Who asks: a name of its own for each loop.
        policy : str
            ``nearest``, ``most-confident``, ``most-uncertain``, ``newest``, ``farthest`` or ``random``.
        ttl_s : float
            For how long the target is its own [s].
        key : str, optional
            The same request with the same key gets the same target; made up where none is given.
        **wanted
            ``classes``, ``kinds``, ``min_confidence``, ``min_edge_nm``, ``out_of_view``, ``x_nm``, ``y_nm``,
            ``apart_nm``, as in `latticewatch.messages.TargetRequest`.

        Returns
        -------
        Lease
            Its ``target`` is None where there is none; ``reason`` says why.
        """
        fields = {"holder": holder, "policy": policy, "ttl_s": ttl_s, "key": key, **wanted}
        return await self._send(_calls.next_target(fields))

    async def annotate(
        self, target: str, holder: str, outcome: Outcome, detail: str | None = None, **facts: Any
    ) -> Annotation:
        """Say what became of a target: it is in the log when this returns. Needs the control scope.

        Parameters
        ----------
        target : str
            ``id`` of the target.
        holder : str
            Who had it.
        outcome : {"done", "failed", "refused", "released", "note"}
            After the first three it is not given out again.
        detail : str, optional
            In words.
        **facts
            ``series_id``, ``first``, ``last`` of frames that were acquired of it, ``offset_nm``, ``dose_e_per_a2``,
            ``key``.

        Returns
        -------
        Annotation
        """
        fields = {"target": target, "holder": holder, "outcome": outcome, "detail": detail, **facts}
        return await self._send(_calls.annotate(fields))

    async def history(
        self, points: int = 300, since: float | None = None, class_id: int | None = None
    ) -> History:
        """Counts, events and rates over time, lifetimes, and distances between defects.

        Parameters
        ----------
        points : int
            Points over time at most, up to 1000.
        since : float, optional
            Only after this time, seconds since 1970 UTC, such as ``end[-1]`` of the last reply.
        class_id : int, optional
            Only this class.

        Returns
        -------
        History
        """
        return await self._send(_calls.history(points, since, class_id))

    async def latest_frame(self) -> FrameInfo:
        """What is known of the newest frame."""
        return await self._send(_calls.latest_frame())

    async def latest_png(self, overlay: bool = True, max_size: int = 1024) -> bytes:
        """The newest frame as PNG.

        Parameters
        ----------
        overlay : bool
            Ring its defects.
        max_size : int
            Longest side of the picture [px].

        Returns
        -------
        bytes
        """
        return await self._send(_calls.latest_png(overlay, max_size))
