"""The client for programs that wait for each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self, TypeVar

import httpx

from latticewatch.errors import CursorGoneError, ServiceUnreachableError
from latticewatch.messages import (
    ClassDetail,
    ClassSummary,
    Counts,
    EmbeddingState,
    Event,
    EventPage,
    FrameInfo,
    History,
    ModelState,
    Role,
    Status,
    Tracks,
)
from latticewatch_client import _calls
from latticewatch_client._calls import DEFAULT_TIMEOUT_S, DEFAULT_URL, Call
from latticewatch_client._follow import WAIT_S, After, Cursor, Follower

T = TypeVar("T")


class Client:
    """A connection to a Latticewatch service.

    Parameters
    ----------
    url : str
        Address of the service.
    key : str, optional
        Read or control key, where the service has keys.
    timeout : float
        Longest wait for any answer [s]; a long-poll has its own wait on top.
    transport : httpx.BaseTransport, optional
        Takes the place of the network, for tests.

    Attributes
    ----------
    cursor : Cursor or None
        The last event that `events` gave out. ``str(client.cursor)`` can be kept, and given to `events` as
        ``after`` in another process.

    Examples
    --------
    >>> with Client() as client:                                             # doctest: +SKIP
    ...     for event in client.events(after="now", types=["defect.appeared"]):
    ...         print(event.data["class_name"], event.data["stage_nm"])
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=url, headers=_calls.headers_of(key), timeout=timeout, transport=transport
        )
        self.cursor: Cursor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: Call[T]) -> T:
        request = call.request(self._http, self._timeout)
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise _calls.unreachable(request.url, error, self._timeout + call.extra_wait_s) from error
        return call.result(response)

    def events(
        self,
        after: After = None,
        types: Sequence[str] | None = None,
        follow: bool = True,
        on_gap: Callable[[CursorGoneError], None] | None = None,
    ) -> Iterator[Event]:
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
        on_gap : callable, optional
            Called when events were missed because the cursor is gone; the walk goes on from the oldest event.

        Yields
        ------
        Event

        Raises
        ------
        CursorGoneError
            Events were missed, and there is no ``on_gap``.
        ServiceUnreachableError
            No answer, where ``follow`` is false.
        UnauthorizedError
            The key is missing or wrong.
        """
        for page in self.event_pages(after, types, follow, on_gap):
            for event in page.events:
                self.cursor = Cursor(event.stream, event.seq)
                yield event

    def event_pages(
        self,
        after: After = None,
        types: Sequence[str] | None = None,
        follow: bool = True,
        on_gap: Callable[[CursorGoneError], None] | None = None,
        wait: Callable[[], float] = lambda: WAIT_S,
    ) -> Iterator[EventPage]:
        """The same, page by page: all that happened since the last look; an empty page is the heartbeat.

        ``wait`` says before each request how long the service may wait for an event [s].
        """
        follower = Follower(after, types, follow)
        while not follower.finished:
            try:
                page = self._send(follower.next_call(wait()))
            except CursorGoneError as gone:
                if on_gap is None:
                    raise
                self.cursor = follower.resume(gone)
                on_gap(gone)
            except ServiceUnreachableError:
                if not follow:
                    raise
                time.sleep(follower.backoff.next())
            else:
                yield page
                self.cursor = follower.take(page)

    def status(self) -> Status:
        """State of the stream."""
        return self._send(_calls.status())

    def counts(self) -> Counts:
        """Sites of the newest frame, by role and by class."""
        return self._send(_calls.counts())

    def classes(self) -> list[ClassSummary]:
        """Every class of the catalogue."""
        return self._send(_calls.classes())

    def class_(self, class_id: int) -> ClassDetail:
        """One class with its average patch."""
        return self._send(_calls.one_class(class_id))

    def model(self) -> ModelState:
        """What the classifier works with: variances of the hosts, and centroids with their counts and drift."""
        return self._send(_calls.model())

    def embedding(self) -> EmbeddingState:
        """Sites of the newest frame in the plane, among a pool laid out by forces."""
        return self._send(_calls.embedding())

    def rename(self, class_id: int, name: str) -> ClassSummary:
        """Give a class a name; needs the control scope."""
        return self._send(_calls.edit_class(class_id, name=name))

    def set_role(self, class_id: int, role: Role) -> ClassSummary:
        """Say what a class is; needs the control scope."""
        return self._send(_calls.edit_class(class_id, role=role))

    def merge(self, class_id: int, others: Sequence[int]) -> ClassSummary:
        """Let a class take in others; needs the control scope."""
        return self._send(_calls.edit_class(class_id, merge=list(others)))

    def relearn(self) -> Status:
        """Throw the classes away and learn again; needs the control scope."""
        return self._send(_calls.relearn())

    def tracks(self, role: Role = "defect", limit: int = 1000) -> Tracks:
        """Sites of one role in the newest frame, most confident first."""
        return self._send(_calls.tracks(role, limit))

    def history(self, points: int = 300, since: float | None = None, class_id: int | None = None) -> History:
        """Counts, events and rates over time, lifetimes, and distances between defects.

        Parameters
        ----------
        points : int
            Points over time at most, up to 1000.
        since : float, optional
            Only after this time, seconds since 1970 UTC, such as ``end[-1]`` of the last reply.
        class_id : int, optional
            Only this class.
        """
        return self._send(_calls.history(points, since, class_id))

    def latest_frame(self) -> FrameInfo:
        """What is known of the newest frame."""
        return self._send(_calls.latest_frame())

    def latest_png(self, overlay: bool = True, max_size: int = 1024) -> bytes:
        """The newest frame as PNG, with its defects ringed if wanted."""
        return self._send(_calls.latest_png(overlay, max_size))
