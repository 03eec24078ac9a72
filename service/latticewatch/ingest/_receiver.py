"""ZeroMQ sockets in; frames, and what happens between them, out of one bounded queue."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any, Self

import structlog
import zmq
from threadpoolctl import threadpool_limits

from latticewatch.config import IngestSettings
from latticewatch.errors import ConfigurationError, WireError
from latticewatch.ingest._curve import curve_of
from latticewatch.ingest._formats import Formats
from latticewatch.ingest._frame import Frame
from latticewatch.ingest._inlets import Inlet, open_inlet
from latticewatch.ingest._items import Found, Gap, Item, Partial, SeriesEnded, SeriesStarted
from latticewatch.ingest._ledger import FrameLedger
from latticewatch.ingest._probe import probe, silence_note
from latticewatch.ingest._refusals import Refusals
from latticewatch.ingest._series import Discarded, SeriesTracker
from latticewatch.ingest._wire import Message, WireFrame
from latticewatch.messages import FrameCounts, Note

# Starts, ends and gaps that may wait. They are never dropped; when so many wait, reception pauses.
MAX_MARKERS = 256
# A frame whose numbers leap waits for the next one: at least so long [s], and so many of the usual intervals.
HOLD_S = 0.5
HOLD_INTERVALS = 3
# When a source has given nothing for so long after the start, it is looked at [s].
SILENT_AFTER_S = 3.0

log = structlog.get_logger(__name__)


class Receiver:
    """Receives frames from one or several sources in a thread of its own.

    All of them are of one microscope; see `latticewatch.microscopes` for several.

    *latest*: the queue holds ``queue_frames`` frames and drops the oldest, counted as ``queue full``; see `hold`.
    *lossless*: a full queue stops reception, and ZeroMQ holds the sender back (with PUSH and PULL; a PUB
    socket drops instead, and the gaps are counted as lost upstream).

    Parameters
    ----------
    settings : IngestSettings
    context : zmq.Context, optional
        Left open when the receiver is closed; without one the receiver makes its own.

    Raises
    ------
    ConfigurationError
        From `start`: an endpoint that cannot be bound or connected.

    Examples
    --------
    >>> with Receiver(settings) as receiver:                    # doctest: +SKIP
    ...     while (item := receiver.get(timeout=1.0)) is not None:
    ...         if isinstance(item, Frame):
    ...             analyse(item)
    ...             receiver.done(item)
    """

    def __init__(self, settings: IngestSettings, context: zmq.Context | None = None) -> None:
        self.settings = settings
        self._context = context
        self._owned: zmq.Context | None = None
        self._ledger = FrameLedger()
        self._tracker = SeriesTracker(
            settings.pixel_size_nm,
            settings.dose_e_per_a2,
            settings.rotation_deg,
            settings.flip_x,
            settings.flip_y,
            settings.detector,
        )
        self._formats = [Formats(settings) for _ in settings.sources]
        self._refusals = Refusals(settings.sources)
        self._silence: dict[int, Note] = {}
        self._prober: threading.Thread | None = None
        # When the last message of each source came, and the usual time between two [s].
        self._pace: dict[int, tuple[float, float]] = {}
        self._changed = threading.Condition()
        self._queue: deque[Item] = deque()
        self._frames_waiting = 0
        self._holding = False
        self._room = settings.queue_frames
        self._next_ordinal = 0
        self._last_frame: float | None = None
        self._closing = False
        self._error: BaseException | None = None
        # A pair of our own, through which `close` wakes the thread.
        self._sockets: list[zmq.Socket] = []
        self._inlets: list[Inlet] = []
        # Asks which keys are known, where senders connect to us and encrypt.
        self._authenticator: Any = None
        # In how many seconds each source wants to be looked after, if it wants to.
        self._due: dict[int, float | None] = {}
        self._thread: threading.Thread | None = None
        self.endpoints: tuple[str, ...] = ()

    def start(self) -> Self:
        """Open the sockets and start to receive; ``endpoints`` then holds the addresses, ports resolved.

        Raises
        ------
        ConfigurationError
            It was started before.
        """
        if self._thread is not None or self._closing:
            raise ConfigurationError("a receiver starts once; make a new one")
        if self._context is None:
            self._context = self._owned = zmq.Context()
        try:
            for use in ("bind", "connect"):
                self._sockets.append(self._context.socket(zmq.PAIR))
                getattr(self._sockets[-1], use)(f"inproc://latticewatch-receiver-{id(self)}")
            curve = curve_of(self.settings)
            if curve is not None and self.settings.bind:
                self._authenticator = curve.serve(self._context)
            for source in self.settings.sources:
                self._inlets.append(open_inlet(self.settings, self._context, source, curve))
            self.endpoints = tuple(inlet.endpoint for inlet in self._inlets)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._run, name="latticewatch-ingest", daemon=True)
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, timeout: float | None = None) -> Item | None:
        """Take the next item, in the order in which it happened.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; without it, until there is one.

        Returns
        -------
        Frame or SeriesStarted or SeriesEnded or Gap or None
            None after the timeout, or when the receiver is closed. A `Frame` has its ``ordinal`` now, and
            must be given to `done` or `dropped`.

        Raises
        ------
        BaseException
            What ended the receiving thread, if something did.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error or self._closing, timeout)
            if not self._queue:
                if self._error is not None:
                    raise self._error
                return None
            item = self._queue.popleft()
            if isinstance(item, Frame):
                item = replace(item, ordinal=self._next_ordinal)
                self._ledger.hand_out(self._next_ordinal, self._apart(item.address))
                self._next_ordinal += 1
                self._frames_waiting -= 1
                if not self._holding:
                    self._give_way()
            self._changed.notify_all()
            return item

    def done(self, frame: Frame) -> None:
        """The frame was analysed.

        Parameters
        ----------
        frame : Frame
        """
        self._ledger.finish(frame.ordinal)

    def dropped(self, frame: Frame, reason: str) -> None:
        """The frame will not be analysed, for this reason.

        Parameters
        ----------
        frame : Frame
        reason : str
            Short word under which it is counted, such as ``too slow``.
        """
        self._ledger.finish(frame.ordinal, dropped=reason)

    def hold(self, holding: bool) -> None:
        """Let ``backlog_mib`` of frames wait, because no frame is taken for some time; or no longer.

        Afterwards the frames that wait are worked off; nothing is dropped for having waited. In the *lossless* mode the
        sender waits instead.

        Parameters
        ----------
        holding : bool
        """
        with self._changed:
            self._holding = holding
            self._room = self._frames_waiting + self.settings.queue_frames

    def counts(self) -> FrameCounts:
        """Where every frame is; ``received = analysed + dropped + in_flight`` in every reply."""
        return self._ledger.counts()

    def notes(self) -> tuple[Note, ...]:
        """What comes and does not fit, source by source, and what to do about it."""
        return (*self._refusals.notes(), *self._silence.values())

    @property
    def formats(self) -> tuple[str | None, ...]:
        """In which format each source sends; None while that is not known."""
        return tuple(one.name for one in self._formats)

    @property
    def last_frame_age_s(self) -> float | None:
        """Seconds since the last frame arrived; None before the first."""
        return None if self._last_frame is None else time.monotonic() - self._last_frame

    def close(self) -> None:
        """Stop receiving; frames that still wait are dropped as ``shutdown``. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if self._thread is not None and not self._sockets[0].closed:
                self._sockets[0].send(b"", zmq.NOBLOCK)
        if self._thread is not None:
            self._thread.join()
        self._close_all()
        if self._authenticator is not None:
            with contextlib.suppress(zmq.ZMQError):  # the owner of the context has ended it
                self._authenticator.stop()
            self._authenticator = None
        if self._owned is not None:
            self._owned.term()
        with self._changed:
            while self._queue:
                if isinstance(item := self._queue.popleft(), Frame):
                    self._ledger.drop_waiting("shutdown", self._apart(item.address))
            self._frames_waiting = 0

    def _run(self) -> None:
        try:
            # bitshuffle uses OpenMP; beside threads that analyse, its spinning team is slower than one thread.
            with threadpool_limits(1, user_api="openmp"):
                self._receive()
        except zmq.ContextTerminated:
            pass  # the owner of the context has ended everything
        except BaseException as error:
            log.exception("receiving has stopped")
            with self._changed:
                self._error = error
        finally:
            with self._changed:
                self._closing = True
                self._close_all()
                self._changed.notify_all()

    def _close_all(self) -> None:
        for socket in self._sockets:
            socket.close(linger=0)
        for inlet in self._inlets:
            inlet.close()

    def _receive(self) -> None:
        woken = self._sockets[1]
        poller = zmq.Poller()
        poller.register(woken, zmq.POLLIN)
        polled: dict[int, Any] = {}
        started = time.monotonic()
        while True:
            self._look_into_silence(started)
            for number, inlet in enumerate(self._inlets):
                self._due[number] = inlet.tick()
                if polled.get(number) is not inlet.pollable:
                    if polled.get(number) is not None:
                        poller.unregister(polled[number])
                    polled[number] = inlet.pollable
                    if inlet.pollable is not None:
                        poller.register(inlet.pollable, zmq.POLLIN)
            ready = dict(poller.poll(self._patience_ms()))
            if woken in ready:
                return
            for number, inlet in enumerate(self._inlets):
                target = inlet.pollable
                if target is not None and (target in ready or getattr(target, "fileno", int)() in ready):
                    if not self._take(number, inlet):
                        return
                elif self._patience_s(number) == 0:
                    for item in list(self._tracker.release(number)):
                        self._put(number, item)

    def _patience_s(self, source: int) -> float | None:
        """For how long a frame that is held still waits for the next one; None where none is held."""
        if not self._tracker.holding(source):
            return None
        last, interval = self._pace[source]
        wait = min(max(HOLD_S, HOLD_INTERVALS * interval), max(HOLD_S, self.settings.stall_after_s))
        return max(0.0, last + wait - time.monotonic())

    def _patience_ms(self) -> int | None:
        waits = [wait for n in range(len(self._inlets)) if (wait := self._patience_s(n)) is not None]
        waits += [wait for wait in self._due.values() if wait is not None]
        if len(self._pace) < len(self._inlets) and self._prober is None and not self.settings.bind:
            waits.append(SILENT_AFTER_S)
        return int(1000 * min(waits)) + 1 if waits else None

    def _wait_for_space(self) -> bool:
        """Wait until the queue may take what one message brings; false when the receiver is being closed."""
        lossless = self.settings.mode == "lossless"

        def has_space() -> bool:
            frames = self._frames_waiting
            full = lossless and frames >= self.settings.queue_frames
            return not full and len(self._queue) - frames < MAX_MARKERS

        with self._changed:
            self._changed.wait_for(lambda: self._closing or has_space())
            return not self._closing

    def _take(self, source: int, inlet: Inlet) -> bool:
        """Read what has come; whatever is wrong with it is counted, logged and forgotten. False when being closed."""
        if not self._wait_for_space():
            return False
        try:
            for parts in inlet.receive():
                self._keep_pace(source)
                self._read(source, parts)
                if not self._wait_for_space():
                    return False
        except WireError as error:
            self._refuse(source, error)
        return True

    def _read(self, source: int, parts: list[memoryview]) -> None:
        now = time.time()
        try:
            for message in self._formats[source].decode(parts):
                if isinstance(message, WireError):
                    self._refuse(source, message)
                else:
                    self._accept(source, message, now)
        except WireError as error:
            self._refuse(source, error)
        except Exception:
            self._ledger.reject("internal", self._apart(self.endpoints[source]))
            for item in list(self._tracker.refuse(source, {})):
                self._put(source, item)
            log.exception("message rejected", source=self.settings.sources[source], reason="internal")

    def _accept(self, source: int, message: Message, now: float) -> None:
        if isinstance(message, WireFrame):
            self._ledger.lose_pixels(message.pixels_lost)
            if message.ignored:
                count = self._ledger.ignore(message.ignored)
                self._note(count, "header fields ignored", source, "unreadable", ", ".join(message.ignored))
        # All of it before any of it is queued, so that a fault of ours leaves no half message behind.
        for item in list(self._tracker.accept(source, message, now)):
            self._put(source, item)

    def _refuse(self, source: int, error: WireError) -> None:
        self._refusals.add(source, error)
        count = self._ledger.reject(error.reason, self._apart(self.endpoints[source]))
        self._note(count, "message rejected", source, error.reason, str(error))
        for item in list(self._tracker.refuse(source, error.fields)):
            self._put(source, item)

    def _look_into_silence(self, started: float) -> None:
        """Where a source has given nothing at all for some time, find out what is there, in a thread of its own."""
        silent = [n for n in range(len(self._inlets)) if n not in self._pace]
        if not silent or self.settings.bind or time.monotonic() < started + SILENT_AFTER_S:
            return
        if self._prober is None:
            self._prober = threading.Thread(target=self._probe, args=(silent,), name="probe", daemon=True)
            self._prober.start()

    def _probe(self, silent: list[int]) -> None:
        for number in silent:
            peer = probe(self.endpoints[number])
            note = silence_note(
                self.endpoints[number],
                self.settings.socket,
                peer,
                encrypts=self.settings.curve_key is not None,
            )
            if note is not None and number not in self._pace:
                log.warning(
                    "nothing comes", source=self.endpoints[number], detail=note.text, remedy=note.remedy
                )
                self._silence[number] = note

    def _keep_pace(self, source: int) -> None:
        now = time.monotonic()
        self._silence.pop(source, None)
        last, interval = self._pace.get(source, (now, 0.0))
        self._pace[source] = now, interval + 0.2 * (now - last - interval)

    def _put(self, source: int, item: Item | Discarded) -> None:
        account = self._apart(self.endpoints[source])
        match item:
            case Frame():
                item = replace(item, address=self.endpoints[source])
                self._refusals.good(source)
                self._ledger.receive(account)
            case Gap():
                self._ledger.lose(item.n, account)
            case Found():
                self._ledger.lose(-1, account)
            case Discarded():
                self._ledger.receive(account)
                count = self._ledger.drop_waiting(item.reason, account)
                self._note(
                    count, "frame discarded", source, item.reason, f"{item.series_id} frame {item.number}"
                )
                return
        match item:
            case Gap():
                log.debug("frames lost", series=item.series_id, first=item.first, last=item.last)
            case Found():
                log.debug("frame found", series=item.series_id, frame=item.number)
            case SeriesStarted():
                item = replace(item, address=self.endpoints[source])
                log.info("series started", series=item.series_id, reason=item.reason)
            case SeriesEnded():
                log.info("series ended", series=item.series_id, frames=item.frames, reason=item.reason)
            case Frame():
                self._last_frame = time.monotonic()
        with self._changed:
            if isinstance(item, Partial):
                # Only the newest one is worth a look.
                for older in [waiting for waiting in self._queue if isinstance(waiting, Partial)]:
                    self._queue.remove(older)
            if isinstance(item, Frame):
                if self._holding:
                    fitting = self.settings.backlog_mib * 2**20 // item.image.nbytes
                    self._room = max(self.settings.queue_frames, fitting)
                # A message may bring several, that which was held and its own; where nothing may be lost they all wait.
                while self._frames_waiting >= self._room and self.settings.mode == "latest":
                    self._drop_oldest()
                self._frames_waiting += 1
            self._queue.append(item)
            self._changed.notify_all()

    def _apart(self, address: str) -> str | None:
        """The source under which something is counted apart; None where there is one alone."""
        return address if len(self.endpoints) > 1 else None

    def _give_way(self) -> None:
        """Room for a backlog shrinks with it, and by a frame for two that are taken where it does not shrink."""
        queue_frames = self.settings.queue_frames
        room = min(self._room - self._next_ordinal % 2, self._frames_waiting + queue_frames)
        self._room = max(queue_frames, room)

    def _drop_oldest(self) -> None:
        oldest = next(waiting for waiting in self._queue if isinstance(waiting, Frame))
        self._queue.remove(oldest)
        self._frames_waiting -= 1
        self._ledger.drop_waiting("queue full", self._apart(oldest.address))

    def _note(self, count: int, event: str, source: int, reason: str, detail: str) -> None:
        # The first, second, fourth, eighth … of a kind: a broken sender fills no disk.
        if count & (count - 1) == 0:
            log.warning(
                event, source=self.settings.sources[source], reason=reason, detail=detail, count=count
            )
