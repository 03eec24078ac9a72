"""The event log: every event once, in order, whatever happens to the process."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticewatch.errors import ConfigurationError, LatticewatchError
from latticewatch.execute._publisher import Publisher
from latticewatch.messages import EVENT_TYPES, DefectEventData, Event, Pixel, StreamEventData
from latticewatch.record import EventLog, _event_log

SOURCE = "/latticewatch/test"


def drafts(n: int, kind: str = "series.started", start: int = 0) -> list:
    return [(kind, StreamEventData(series_id="s", frame=start + i)) for i in range(n)]


def open_log(folder: Path, **options) -> EventLog:
    return EventLog(folder / "events.sqlite", SOURCE, **options)


def test_an_event_carries_stream_number_and_time_in_utc(tmp_path: Path) -> None:
    with open_log(tmp_path / "new" / "folder") as log:
        assert (log.first_seq, log.last_seq) == (1, 0)
        (event,) = log.append(drafts(1))
        assert (event.seq, event.id, event.source) == (1, f"{log.stream}:1", SOURCE)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.time)
        assert event.data == {"series_id": "s", "frame": 0}
        assert log.read().events == [event]
        assert log.append([]) == []


def test_data_is_written_as_text_once_and_read_by_nobody_on_its_way(tmp_path, monkeypatch) -> None:
    written, dump = [], StreamEventData.model_dump_json

    def counted(self, **options):
        written.append(self)
        return dump(self, **options)

    monkeypatch.setattr(StreamEventData, "model_dump_json", counted)
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("parsed again"))
    with open_log(tmp_path) as log:
        data = StreamEventData(series_id='a "b" µ\n', frame=3)
        (event,) = log.append([("series.started", data)])
        texts = {event.json(), log.read().events[0].json(), log.recent(0, 1).events[0].json()}
        assert written == [data]
    (text,) = texts
    expected = Event(
        type="series.started",
        source=SOURCE,
        id=event.id,
        stream=log.stream,
        seq=1,
        time=event.time,
        data={"series_id": 'a "b" µ\n', "frame": 3},
    )
    assert text == expected.model_dump_json()


def test_when_an_event_was_told_is_set_by_who_tells_it(tmp_path) -> None:
    known = {"series_id": "s", "frame": 1, "t_received": 5.0, "model_version": 1, "track": 1, "sigma_px": 0.1}
    data = DefectEventData(
        **known, class_id=1, class_name="V", role="defect", confidence=0.9, px=Pixel(row=1, col=2)
    )
    assert data.t_emitted is None
    with open_log(tmp_path) as log:
        publisher, began = Publisher(log), time.time()
        publisher.publish(publisher.newest, [("defect.appeared", data)])
        (event,) = log.read().events
    assert began <= event.data["t_emitted"] <= time.time()


@given(
    batches=st.lists(st.lists(st.sampled_from(EVENT_TYPES[:4]), max_size=6), max_size=8),
    limits=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    types=st.none() | st.sets(st.sampled_from(EVENT_TYPES[:4]), max_size=3),
    restart_after=st.integers(0, 8),
    scan=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_any_partition_of_reads_gives_each_event_once_in_order(
    batches, limits, types, restart_after, scan
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_event_log, "SCAN_ROWS", scan)
        log = open_log(Path(folder))
        written = []
        for i, batch in enumerate(batches):
            if i == restart_after:
                stream = log.stream
                log.close()
                log = open_log(Path(folder))
                assert log.stream == stream
            written += log.append([(kind, StreamEventData(series_id="s", frame=i)) for kind in batch])
        seen, cursor, reads = [], 0, 0
        while cursor < log.last_seq:
            page = log.read(cursor, limits[reads % len(limits)], types)
            assert page.next > cursor
            assert len(page.events) <= limits[reads % len(limits)]
            seen, cursor, reads = seen + page.events, page.next, reads + 1
        log.close()
    assert [event.seq for event in written] == list(range(1, len(written) + 1))
    assert seen == [event for event in written if types is None or event.type in types]


def test_the_oldest_events_are_dropped_beyond_the_limit(tmp_path: Path) -> None:
    with open_log(tmp_path, max_events=10) as log:
        for start in range(0, 24, 4):
            log.append(drafts(4, start=start))
        assert (log.first_seq, log.last_seq) == (15, 24)
        page = log.read(0)
        assert [event.seq for event in page.events] == list(range(15, 25))
        assert (page.first_seq, page.last_seq, page.next) == (15, 24, 24)
        log.append(drafts(30))
        assert (log.first_seq, log.last_seq) == (45, 54)
    with open_log(tmp_path, max_events=10) as log:
        assert (log.first_seq, log.last_seq) == (45, 54)


@given(
    batches=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    after=st.integers(0, 40),
    limit=st.integers(1, 9),
    types=st.none() | st.sets(st.sampled_from(EVENT_TYPES[:4]), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_what_is_in_memory_is_what_is_on_disk(batches, after, limit, types) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_event_log, "RECENT", 10)
        with open_log(Path(folder), max_events=12) as log:
            for k, n in enumerate(batches):
                log.append(drafts(n, kind=EVENT_TYPES[k % 4], start=k))
            found = log.recent(after, limit, types)
            if found is None:
                assert after < max(log.last_seq - 10, log.first_seq - 1) or after > log.last_seq
            else:
                assert found == log.read(after, limit, types)


def test_a_log_that_is_opened_again_has_nothing_in_memory_and_says_so(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(drafts(3))
        assert len(log.recent(0, 10).events) == 3
    with open_log(tmp_path) as log:
        assert log.recent(0, 10) is None
        assert log.recent(3, 10).events == []
        log.append(drafts(1))
        assert [event.seq for event in log.recent(3, 10).events] == [4]


def test_who_follows_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(drafts(2))
        # As while an append waits for the disk.
        with log._lock, log._read_lock:
            assert len(log.recent(0, 10).events) == 2


def test_events_older_than_the_limit_are_dropped_and_the_newest_is_not(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(drafts(10))
    with sqlite3.connect(tmp_path / "events.sqlite") as database:
        database.execute("UPDATE event SET time = '2020-01-01T00:00:00.000000Z' WHERE seq <= 6")
    with open_log(tmp_path, max_age_days=1.0) as log:
        log.append(drafts(1))
        assert (log.first_seq, log.last_seq) == (7, 11)
        assert [event.seq for event in log.read(0).events] == [7, 8, 9, 10, 11]
    with sqlite3.connect(tmp_path / "events.sqlite") as database:
        database.execute("UPDATE event SET time = '2020-01-01T00:00:00.000000Z'")
    with open_log(tmp_path, max_age_days=1.0) as log:
        log.append([], {"tracks": b"x"})
        assert (log.first_seq, log.last_seq) == (11, 11)


def test_the_oldest_events_go_when_the_log_holds_more_than_it_may(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for start in range(0, 20_000, 1000):
            log.append(drafts(1000, start=start))
    before = (tmp_path / "events.sqlite").stat().st_size
    with open_log(tmp_path, max_mib=1.0) as log:
        log.append(drafts(1))
        assert log.first_seq > 5000
        assert log.last_seq == 20_001
        kept = log.last_seq - log.first_seq + 1
        assert kept * before / 20_000 < 1.0 * 2**20
        # Not again at once, and never more than there has to be.
        log.append(drafts(1))
        assert log.last_seq - log.first_seq + 1 == kept + 1


def test_a_log_that_is_made_much_smaller_drops_bit_by_bit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("latticewatch.record._retention.MOST_DROPPED", 30)
    with open_log(tmp_path) as log:
        log.append(drafts(100))
    with open_log(tmp_path, max_events=20) as log:
        firsts = []
        for _ in range(4):
            log.append(drafts(1))
            firsts.append(log.first_seq)
        assert firsts == [31, 61, 84, 85]


def test_a_note_of_where_the_log_ends_that_was_shorter_is_read_and_written_over(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        stream = log.stream
        log.append(drafts(2))
    note = tmp_path / "events.sqlite.seal"
    note.write_text(f'{{"stream": "{stream}", "seq": 2}}')
    with open_log(tmp_path) as log:
        log.append(drafts(1))
    assert json.loads(note.read_text()) == {"stream": stream, "seq": 3}
    note.write_text(f'{{"stream": "{stream}", "seq": 9}}')
    with pytest.raises(ConfigurationError, match="an older copy"):
        open_log(tmp_path)


def test_a_cursor_in_the_future_stays_where_it_is(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(drafts(3))
        assert log.read(99) == ([], 99, 1, 3)
        assert log.read(3) == ([], 3, 1, 3)


KILLED = """
import os, sys
from pathlib import Path
from latticewatch.messages import StreamEventData
from latticewatch.record import EventLog
log = EventLog(Path(sys.argv[1]), "/latticewatch/test")
for i in range(int(sys.argv[2])):
    log.append([("series.started", StreamEventData(series_id="s", frame=i))] * 2)
print(log.stream, flush=True)
os._exit(9)
"""


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), "25"], capture_output=True, text=True, timeout=60
    )
    assert killed.returncode == 9
    with EventLog(path, SOURCE) as log:
        assert log.stream == killed.stdout.strip()
        assert [event.data["frame"] for event in log.read().events] == [i // 2 for i in range(50)]
        assert log.append(drafts(1))[0].seq == 51


HOLDING = """
import sys
from pathlib import Path
from latticewatch.record import EventLog
log = EventLog(Path(sys.argv[1]), "/latticewatch/test")
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(ConfigurationError, match="in use by another process"):
            EventLog(path, SOURCE)
        holder.kill()
        holder.wait(30)
    with EventLog(path, SOURCE) as log:
        assert log.last_seq == 0
        with pytest.raises(ConfigurationError, match="in use"):
            EventLog(path, SOURCE)


def write_other_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
    database.close()


def write_later_version(path: Path) -> None:
    EventLog(path, SOURCE).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=7")
    database.close()


def write_damaged(path: Path) -> None:
    with EventLog(path, SOURCE) as log:
        log.append(drafts(2000))
    path.write_bytes(path.read_bytes()[:4096] + b"\x55" * 8192)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("a text file, and not a short one: " * 40), "not a database"),
        (write_other_database, "another program's database"),
        (write_later_version, "version 7, expected 2"),
        (write_damaged, "malformed"),
        (lambda path: path.mkdir(), "choose a writable place"),
    ],
)
def test_a_file_that_is_no_event_log_stops_the_start(tmp_path: Path, write, message: str) -> None:
    path = tmp_path / "events.sqlite"
    write(path)
    with pytest.raises(ConfigurationError, match=message) as caught:
        EventLog(path, SOURCE)
    assert str(path) in str(caught.value)
    # Nothing is left open that would refuse the next attempt.
    with pytest.raises(ConfigurationError, match=message):
        EventLog(path, SOURCE)


def test_a_failed_append_writes_nothing_and_uses_no_number(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(drafts(2))
        log._writer.execute("PRAGMA max_page_count=1")
        with pytest.raises(LatticewatchError, match="not written"):
            log.append(drafts(3000))
        assert log.last_seq == 2
        log._writer.execute("PRAGMA max_page_count=1000000")
        assert log.append(drafts(1))[0].seq == 3
        assert [event.seq for event in log.read().events] == [1, 2, 3]


def test_a_new_log_has_large_pages_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    def page(folder: Path) -> int:
        with contextlib.closing(sqlite3.connect(folder / "events.sqlite")) as database:
            return database.execute("PRAGMA page_size").fetchone()[0]

    with open_log(tmp_path) as log:
        log.append(drafts(3), {"tracks": bytes(200_000)})
    assert page(tmp_path) == 32_768
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as database:
        database.executescript("PRAGMA journal_mode=DELETE; PRAGMA page_size=4096; VACUUM")
    with open_log(tmp_path) as log:
        log.append(drafts(2), {"tracks": bytes(200_000)})
        assert [event.seq for event in log.read().events] == [1, 2, 3, 4, 5]
    assert page(tmp_path) == 4096


def test_many_threads_append_and_read_without_loss(tmp_path: Path) -> None:
    with open_log(tmp_path) as log, ThreadPoolExecutor(6) as pool:

        def follow() -> list[int]:
            numbers: list[int] = []
            while len(numbers) < 80:
                cursor = numbers[-1] if numbers else 0
                assert log.wait(cursor, 30)
                numbers += [event.seq for event in log.read(cursor, 7).events]
            return numbers

        readers = [pool.submit(follow) for _ in range(2)]
        writers = [pool.submit(lambda: [log.append(drafts(2)) for _ in range(10)]) for _ in range(4)]
        for writer in writers:
            writer.result(30)
        assert all(reader.result(30) == list(range(1, 81)) for reader in readers)


def test_waiting_ends_with_an_event_a_timeout_or_the_end_of_the_log(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    assert not log.wait(0, 0.01)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.wait, 0, 30)
        log.append(drafts(1))
        assert waiting.result(30)
        waiting = pool.submit(log.wait, 1, 30)
        log.close()
        assert not waiting.result(30)


def test_a_subscriber_hears_of_each_append_until_it_stops(tmp_path: Path) -> None:
    heard: list[int] = []

    def fail(_: int) -> None:
        raise RuntimeError("a fault of the subscriber")

    with open_log(tmp_path) as log:
        stop_failing = log.subscribe(fail)
        stop = log.subscribe(heard.append)
        log.append(drafts(2))
        log.append(drafts(1))
        stop()
        stop()
        stop_failing()
        log.append(drafts(1))
    assert heard == [2, 3]
