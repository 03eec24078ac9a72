"""Drafts of events in; events with dense sequence numbers out, kept on disk and read from any cursor."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import structlog
from pydantic import BaseModel

from latticewatch.errors import ConfigurationError, LatticewatchError
from latticewatch.messages import EventType
from latticewatch.record._logged import LoggedEvent
from latticewatch.record._retention import Limits, Retention, written
from latticewatch.record._seal import Seal

APPLICATION_ID = 0x4C574C47  # "LWLG", in the header of our files
SCHEMA_VERSION = 2
# What is kept with the events is written whole each time, some MB at the most: large pages make that two to three times
# as fast, and cost a single event nothing. A log that is there already keeps its own.
PAGE_BYTES = 32_768
# Written ahead until it goes to its place in the file.
AHEAD_BYTES = 4 * 2**20
# A read looks at no more rows than this, so that a rare type in a long log cannot hold a reader for seconds.
SCAN_ROWS = 50_000
MAX_LIMIT = 10_000
# Newest events that are also in memory, for those who follow: they are read with no wait for the disk or for a lock
# that is held while one writes.
RECENT = 1024

_SCHEMA = """
CREATE TABLE stream (id TEXT NOT NULL) STRICT;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    time TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
"""
# What goes with the newest events: in one transaction with them, so that after a crash both are there or neither.
_KEPT = "CREATE TABLE kept (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, data BLOB NOT NULL) STRICT"

log = structlog.get_logger(__name__)


class LogPage(NamedTuple):
    """What one read gives.

    ``next`` is the cursor for the following read: the last sequence number looked at, whether or not its type
    was wanted. ``first_seq`` and ``last_seq`` are the ends of the log at that moment; a cursor below
    ``first_seq - 1`` has missed events that are no longer kept.
    """

    events: list[LoggedEvent]
    next: int
    first_seq: int
    last_seq: int


class EventLog:
    """The log of events of one instrument, in a SQLite file.

    Any thread may call any method. One process has the file at a time.

    Parameters
    ----------
    path : Path
        The database; made with its folder where it does not exist.
    source : str
        ``source`` of the events, such as ``/latticewatch/stem``.
    max_events : int
        The oldest events beyond this number are dropped.
    max_age_days : float, optional
        Older ones are dropped [days].
    max_mib : float, optional
        The oldest are dropped while the log holds more than this [MiB].

    Attributes
    ----------
    stream : str
        Identifier of the log, new for every new file.

    Raises
    ------
    ConfigurationError
        The file cannot be written, is in use, is not an event log, or is damaged.

    Notes
    -----
    Write-ahead logging with ``synchronous=FULL``: an append returns when the events are on the disk. With
    ``NORMAL`` a power failure could take back the newest events, and their sequence numbers, which clients
    have seen, would come again with another meaning.
    """

    def __init__(
        self,
        path: Path,
        source: str,
        max_events: int = 10_000_000,
        max_age_days: float | None = None,
        max_mib: float | None = None,
    ) -> None:
        self._path = path
        self._source = source
        self._retention = Retention(Limits(max_events, max_age_days, max_mib))
        self._lock = threading.Lock()  # the writer, and the numbers
        self._read_lock = threading.Lock()
        self._recent_lock = threading.Lock()  # never held while anything is waited for
        self._recent: deque[LoggedEvent] = deque(maxlen=RECENT)
        self._grown = threading.Condition(self._lock)
        self._callbacks: list[Callable[[int], None]] = []
        self._closed = False
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._guard = stack.enter_context(contextlib.closing(_take(path)))
                was_empty = path.exists() and path.stat().st_size == 0
                self._writer = stack.enter_context(contextlib.closing(_connect(path)))
                self.stream = _prepare(self._writer, path)
                self._inode = _inode(path)
                self._reader = stack.enter_context(contextlib.closing(_connect(path)))
                self._reader.execute("PRAGMA query_only=ON")
                self._first_seq, self._last_seq = _ends(self._writer)
                self._seal = Seal(path)
                self._seal.check(self.stream, self._last_seq, was_empty)
                self._seal.write(self.stream, self._last_seq)
            except (OSError, sqlite3.OperationalError) as error:
                raise ConfigurationError(
                    f"{path}: cannot keep the event log: {error}; choose a writable place"
                ) from error
            except sqlite3.DatabaseError as error:
                raise ConfigurationError(
                    f"{path}: {error}; move the file away to start a new event log"
                ) from error
            self._resources = stack.pop_all()

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest event that is kept; 1 in an empty log."""
        return self._first_seq

    @property
    def last_seq(self) -> int:
        """Sequence number of the newest event; 0 in an empty log."""
        return self._last_seq

    @property
    def size_bytes(self) -> int:
        """What the log takes on disk, with what is written ahead [bytes]; 0 where its files are gone."""
        total = 0
        for end in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self._path.with_name(self._path.name + end).stat().st_size
        return total

    def append(
        self, drafts: Sequence[tuple[EventType, BaseModel]], kept: Mapping[str, bytes] | None = None
    ) -> list[LoggedEvent]:
        """Write events, all of them or none, and give them their numbers.

        Parameters
        ----------
        drafts : sequence of (type, data)
            Type of each event and the model that belongs to it.
        kept : mapping of str to bytes, optional
            What is to be on disk with these events, or not at all; it takes the place of what had the same name.

        Returns
        -------
        list of LoggedEvent

        Raises
        ------
        LatticewatchError
            The disk is full or failed, or the file was deleted; nothing was written.
        """
        if not drafts and not kept:
            return []
        texts = [data.model_dump_json(exclude_none=True) for _, data in drafts]
        with self._lock:
            moment = datetime.now(UTC)
            now = written(moment)
            numbers = range(self._last_seq + 1, self._last_seq + 1 + len(drafts))
            rows = [
                (seq, kind, now, text) for seq, (kind, _), text in zip(numbers, drafts, texts, strict=True)
            ]
            last = self._last_seq + len(rows)
            if _inode(self._path) != self._inode:
                raise LatticewatchError(
                    f"{self._path}: deleted or replaced while in use; put it back and restart the service"
                )
            try:
                with self._writer:
                    self._writer.execute("BEGIN IMMEDIATE")
                    self._writer.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
                    first = self._retention.first(self._writer, self._first_seq, last, moment)
                    if first > self._first_seq:
                        self._writer.execute("DELETE FROM event WHERE seq < ?", (first,))
                    self._writer.executemany(
                        "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)",
                        [(name, last, data) for name, data in (kept or {}).items()],
                    )
            except sqlite3.Error as error:
                raise LatticewatchError(f"{self._path}: events were not written: {error}") from error
            events = [self._event(*row) for row in rows]
            with self._recent_lock:
                self._recent.extend(events)
                self._first_seq, self._last_seq = first, last
            self._seal.write(self.stream, last)
            self._grown.notify_all()
            callbacks = list(self._callbacks) if rows else []
        for callback in callbacks:
            try:
                callback(last)
            except Exception:  # a subscriber's fault must not stop the stream
                log.exception("subscriber to the event log failed")
        return events

    def kept(self, name: str) -> bytes | None:
        """What was kept under a name with the newest events that brought any; None where nothing was.

        Parameters
        ----------
        name : str

        Returns
        -------
        bytes or None
        """
        with self._read_lock:
            row = self._reader.execute("SELECT data FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def keeps(self, name: str) -> bool:
        """Whether something was kept under a name; it is not read.

        Parameters
        ----------
        name : str

        Returns
        -------
        bool
        """
        with self._read_lock:
            return self._reader.execute("SELECT 1 FROM kept WHERE name = ?", (name,)).fetchone() is not None

    def read(self, after: int = 0, limit: int = 1000, types: Iterable[str] | None = None) -> LogPage:
        """Read events behind a cursor, oldest first.

        Parameters
        ----------
        after : int
            Cursor: the last sequence number already seen.
        limit : int
            Most events to give, 10,000 at the utmost.
        types : iterable of str, optional
            Only these types.

        Returns
        -------
        LogPage
            Without events, but with ``next`` moved on, where a long stretch holds none of these types.
        """
        limit = min(limit, MAX_LIMIT)
        wanted = None if types is None else sorted(set(types))
        query = "SELECT seq, type, time, data FROM event WHERE seq > ? AND seq <= ?"
        if wanted is not None:
            query += f" AND type IN ({','.join('?' * len(wanted))})"
        query += " ORDER BY seq LIMIT ?"
        # One transaction, so that the ends of the log are those of the rows.
        with self._read_lock, self._reader:
            self._reader.execute("BEGIN")
            first_seq, last_seq = _ends(self._reader)
            after = max(after, first_seq - 1)
            upto = min(last_seq, after + SCAN_ROWS)
            rows = self._reader.execute(query, (after, upto, *(wanted or ()), limit)).fetchall()
        cursor = rows[-1][0] if len(rows) == limit and rows else max(after, upto)
        return LogPage([self._event(*row) for row in rows], cursor, first_seq, last_seq)

    def recent(self, after: int, limit: int, types: Iterable[str] | None = None) -> LogPage | None:
        """The same, from memory and at once: for those who follow closely.

        Parameters
        ----------
        after, limit, types
            As for `read`.

        Returns
        -------
        LogPage or None
            None where older events are asked for than are in memory.
        """
        with self._recent_lock:
            first, last, newest = self._first_seq, self._last_seq, list(self._recent)
        if after < last - len(newest) or after < first - 1 or after > last:
            return None
        limit = min(limit, MAX_LIMIT)
        wanted = None if types is None else set(types)
        found = [
            event
            for event in newest[len(newest) - (last - after) :]
            if wanted is None or event.type in wanted
        ][:limit]
        cursor = found[-1].seq if found and len(found) == limit else last
        return LogPage(found, cursor, first, last)

    def wait(self, after: int, timeout: float | None = None) -> bool:
        """Wait until there is an event behind the cursor.

        Parameters
        ----------
        after : int
            Sequence number of the cursor.
        timeout : float, optional
            Longest wait [s]; endless where none is given.

        Returns
        -------
        bool
            Whether there is one; false after ``timeout`` seconds or when the log is closed.
        """
        with self._grown:
            self._grown.wait_for(lambda: self._last_seq > after or self._closed, timeout)
            return self._last_seq > after

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Have a function called with the newest sequence number after each append; returns how to stop it.

        It is called in the thread that appends and must return at once; for asyncio give
        ``lambda seq: loop.call_soon_threadsafe(wake, seq)``.

        Parameters
        ----------
        callback : callable
            ``callback(seq)``.

        Returns
        -------
        callable
            Ends it, when called without arguments.
        """
        with self._lock:
            self._callbacks.append(callback)

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._callbacks.remove(callback)

        return stop

    def close(self) -> None:
        """Release the file; whoever waits is woken."""
        with self._grown, self._read_lock:
            self._closed = True
            self._grown.notify_all()
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _event(self, seq: int, kind: Any, time: str, text: str) -> LoggedEvent:
        return LoggedEvent(seq, kind, time, text, self.stream, self._source)


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by us; locks of ours keep the threads apart.
    return sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)


def _ends(database: sqlite3.Connection) -> tuple[int, int]:
    """First and last sequence number; two queries, because SQLite looks up one end at a time in no time."""
    first, last = database.execute(
        "SELECT (SELECT MIN(seq) FROM event), (SELECT MAX(seq) FROM event)"
    ).fetchone()
    return first or 1, last or 0


def _take(path: Path) -> sqlite3.Connection:
    """Hold the file for this process.

    An open transaction on a database beside it ends with the process, however that ends, on every platform.
    """
    guard = sqlite3.connect(
        path.with_name(path.name + ".lock"), timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        guard.close()
        if "locked" not in str(error):
            raise
        raise ConfigurationError(
            f"{path}: in use by another process; stop it or choose another data directory"
        ) from error
    return guard


def _prepare(database: sqlite3.Connection, path: Path) -> str:
    """Make the tables of a new file, or check those of an old one; returns the identifier of the log."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise ConfigurationError(f"{path}: another program's database; choose another data directory")
    if tables and version not in (1, SCHEMA_VERSION):
        raise ConfigurationError(
            f"{path}: event log of version {version}, expected {SCHEMA_VERSION}; move the file away or update"
        )
    if not tables:
        database.execute(f"PRAGMA page_size={PAGE_BYTES}")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    (page,) = database.execute("PRAGMA page_size").fetchone()
    database.execute(f"PRAGMA wal_autocheckpoint={AHEAD_BYTES // page}")
    if not tables:
        with database:
            database.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";")[:-1]:
                database.execute(statement)
            database.execute("INSERT INTO stream VALUES (?)", (str(uuid.uuid4()),))
            database.execute(f"PRAGMA application_id={APPLICATION_ID}")
    if not tables or version == 1:
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_KEPT)
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    rows = database.execute("SELECT id FROM stream").fetchall()
    if len(rows) != 1:
        raise ConfigurationError(
            f"{path}: damaged: {len(rows)} identifiers of the log, expected 1; move the file away to start a new "
            "event log"
        )
    return rows[0][0]


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
