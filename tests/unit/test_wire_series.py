"""Series of one shape and one counter out of untidy streams; what is missing is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticewatch.ingest import Frame, Gap, SeriesEnded, SeriesStarted
from latticewatch.ingest._ledger import FrameLedger
from latticewatch.ingest._series import MAX_GAP, MAX_OPEN, Discarded, SeriesTracker
from latticewatch.ingest._wire import WireFrame
from latticewatch.messages import FrameHeader, SeriesEnd, SeriesStart

IMAGE = np.zeros((4, 8), np.uint8)


def frame(number: int | None = None, series: str = "a", **fields) -> WireFrame:
    header = FrameHeader(
        type="uint8", shape=fields.pop("shape", (4, 8)), frame=number, series_id=series, **fields
    )
    return WireFrame(header, IMAGE, fields.get("pixel_size_nm"))


def short(item) -> tuple:
    match item:
        case Frame():
            return ("frame", item.series_id, item.number)
        case Gap():
            return ("gap", item.series_id, item.first, item.last)
        case SeriesStarted():
            return ("start", item.series_id, item.reason)
        case SeriesEnded():
            return ("end", item.series_id, item.frames, item.reason)
        case Discarded():
            return ("discard", item.series_id, item.number, item.reason)


def follow(*messages, tracker: SeriesTracker | None = None, source: int = 0) -> list[tuple]:
    tracker = tracker or SeriesTracker()
    return [short(item) for message in messages for item in tracker.accept(source, message, 1e9)]


def test_a_whole_series_is_followed_from_start_to_end() -> None:
    assert follow(
        SeriesStart(series_id="a", msg_number=0),
        frame(0, msg_number=1),
        frame(1, msg_number=2),
        SeriesEnd(series_id="a", msg_number=3, frames=2),
    ) == [("start", "a", "announced"), ("frame", "a", 0), ("frame", "a", 1), ("end", "a", 2, "ended")]


def test_a_gap_is_reported_before_the_frame_behind_it() -> None:
    assert follow(frame(4), frame(7)) == [
        ("start", "a", "first frame"), ("frame", "a", 4), ("gap", "a", 5, 6), ("frame", "a", 7),
    ]  # fmt: skip


def test_a_series_joined_late_has_lost_nothing() -> None:
    assert follow(frame(17), frame(18))[1:] == [("frame", "a", 17), ("frame", "a", 18)]
    assert follow(SeriesEnd(series_id="a", frames=9)) == []


@pytest.mark.parametrize("first", [0, 1])
def test_frames_lost_at_either_end_of_an_announced_series_are_known(first: int) -> None:
    numbered = follow(
        SeriesStart(series_id="a", msg_number=0),
        frame(first + 2, msg_number=3),
        SeriesEnd(series_id="a", msg_number=6, frames=5),
    )
    assert [item for item in numbered if item[0] == "gap"] == [
        ("gap", "a", first, first + 1),
        ("gap", "a", first + 3, first + 4),
    ]
    counted = follow(SeriesStart(series_id="a"), frame(first), SeriesEnd(series_id="a", frames=4))
    assert counted[2:] == [("gap", "a", first + 1, first + 3), ("end", "a", 1, "ended")]


def test_an_announced_series_without_a_single_frame_lost_them_all() -> None:
    assert follow(SeriesStart(series_id="a", msg_number=0), SeriesEnd(series_id="a", msg_number=4))[1:] == [
        ("gap", "a", 0, 2), ("end", "a", 0, "ended"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (frame(6, shape=(8, 4), pixel_size_nm=0.01), "shape changed"),
        (frame(6, pixel_size_nm=0.02), "pixel size changed"),
        (frame(0, pixel_size_nm=0.01), "counter restarted"),
        (frame(1, pixel_size_nm=0.01), "counter restarted"),
        (frame(4, pixel_size_nm=0.01, timestamp=12.0), "counter restarted"),
        (frame(MAX_GAP + 99, pixel_size_nm=0.01), "counter restarted"),
    ],
)
def test_a_change_that_breaks_the_series_starts_another_one(second: WireFrame, reason: str) -> None:
    items = follow(frame(5, pixel_size_nm=0.01, timestamp=10.0), second)
    assert items[2:] == [
        ("end", "a", 1, reason), ("start", "a~2", reason), ("frame", "a~2", second.header.frame),
    ]  # fmt: skip


def test_a_restart_far_back_is_a_restart_and_a_step_back_is_a_duplicate() -> None:
    assert follow(frame(100), frame(50))[-1] == ("frame", "a~2", 50)
    assert follow(frame(100), frame(95))[-1] == ("discard", "a", 95, "duplicate")
    assert follow(frame(100), frame(100))[-1] == ("discard", "a", 100, "duplicate")


def test_a_frame_that_comes_late_is_found_again_but_not_used() -> None:
    tracker = SeriesTracker()
    follow(frame(2), frame(5), tracker=tracker)
    (late,) = tracker.accept(0, frame(3), 0.0)
    assert isinstance(late, Discarded)
    assert (late.reason, late.found) == ("out of order", True)
    (again,) = tracker.accept(0, frame(3), 0.0)
    assert isinstance(again, Discarded)
    assert (again.reason, again.found) == ("duplicate", False)


def test_an_aborted_series_ends_when_the_next_one_is_announced() -> None:
    assert follow(SeriesStart(series_id="a"), frame(0), SeriesStart(series_id="b"), frame(0, "b"))[2:] == [
        ("end", "a", 1, "aborted"), ("start", "b", "announced"), ("frame", "b", 0),
    ]  # fmt: skip
    assert follow(SeriesStart(series_id="a"), frame(0), SeriesStart(series_id="a"), frame(0))[2:] == [
        ("end", "a", 1, "aborted"), ("start", "a~2", "announced"), ("frame", "a~2", 0),
    ]  # fmt: skip


def test_an_announcement_said_twice_is_one() -> None:
    assert follow(SeriesStart(series_id="a"), SeriesStart(series_id="a")) == [("start", "a", "announced")]


def test_series_that_alternate_on_one_source_are_kept_side_by_side() -> None:
    messages = [frame(n, series) for n in range(20) for series in ("left", "right")]
    items = follow(*messages)
    assert [item[2] for item in items if item[0] == "frame"] == [n // 2 for n in range(40)]
    assert len([item for item in items if item[0] == "start"]) == 3
    assert not [item for item in items if item[0] == "gap"]


def test_equal_identifiers_of_two_sources_are_kept_apart() -> None:
    tracker = SeriesTracker()
    items = [follow(frame(n), tracker=tracker, source=source) for n in range(3) for source in (0, 1)]
    assert [item for group in items for item in group if item[0] != "start"] == [
        ("frame", name, n) for n in range(3) for name in ("a", "a~2")
    ]


def test_frames_without_numbers_are_numbered_here() -> None:
    assert [item[2] for item in follow(*[frame() for _ in range(3)])[1:]] == [0, 1, 2]
    assert follow(*[frame(msg_number=n) for n in (4, 6)])[1:] == [
        ("frame", "a", 4), ("gap", "a", 5, 5), ("frame", "a", 6),
    ]  # fmt: skip


def test_a_series_without_a_name_gets_one() -> None:
    assert follow(frame(3, ""), frame(0, "")) == [
        ("start", "unnamed-20010909T014640Z", "first frame"),
        ("frame", "unnamed-20010909T014640Z", 3),
        ("end", "unnamed-20010909T014640Z", 1, "counter restarted"),
        ("start", "unnamed-20010909T014640Z~2", "counter restarted"),
        ("frame", "unnamed-20010909T014640Z~2", 0),
    ]


def test_the_configured_pixel_size_is_used_where_the_sender_gives_none() -> None:
    tracker = SeriesTracker(pixel_size_nm=0.04)
    items = list(tracker.accept(0, frame(0), 0.0)) + list(
        tracker.accept(0, frame(1, pixel_size_nm=0.02), 0.0)
    )
    assert [item.pixel_size_nm for item in items if isinstance(item, Frame)] == [0.04, 0.02]


MESSAGES = st.one_of(
    st.builds(
        frame,
        st.none() | st.integers(0, 40) | st.integers(0, 2**62),
        st.sampled_from("abc"),
        msg_number=st.none() | st.integers(0, 60),
        timestamp=st.none() | st.floats(0, 100),
        shape=st.sampled_from([(4, 8), (8, 4)]),
    ),
    st.builds(SeriesStart, series_id=st.sampled_from("abc"), msg_number=st.none() | st.integers(0, 60)),
    st.builds(
        SeriesEnd,
        series_id=st.sampled_from("abc"),
        msg_number=st.none() | st.integers(0, 2**62),
        frames=st.none() | st.integers(0, 2**62),
    ),
)


@given(st.lists(st.tuples(st.integers(0, 1), MESSAGES), max_size=60))
@settings(max_examples=150, deadline=None)
def test_whatever_is_sent_series_are_unique_ordered_and_framed(messages: list) -> None:
    tracker = SeriesTracker()
    open_series: dict[str, int] = {}
    ended: set[str] = set()
    frames = lost = 0
    for source, message in messages:
        for item in tracker.accept(source, message, 0.0):
            match item:
                case SeriesStarted():
                    assert item.series_id not in open_series.keys() | ended
                    open_series[item.series_id] = -1
                case SeriesEnded():
                    del open_series[item.series_id]
                    ended.add(item.series_id)
                case Gap():
                    assert open_series[item.series_id] < item.first <= item.last
                    assert item.n <= MAX_GAP
                    open_series[item.series_id] = item.last
                    lost += item.n
                case Frame():
                    assert item.number > open_series[item.series_id]
                    open_series[item.series_id] = item.number
                case Discarded():
                    lost -= item.found
            frames += isinstance(item, Frame | Discarded)
        assert lost >= 0
        assert len(open_series) <= 2 * MAX_OPEN
    assert frames == sum(isinstance(message, WireFrame) for _, message in messages)


@given(lost=st.sets(st.integers(0, 60)), base=st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_received_and_lost_add_up_to_what_was_sent(lost: set[int], base: int) -> None:
    sent = [SeriesStart(series_id="a", msg_number=0)]
    sent += [frame(base + n, msg_number=1 + n) for n in range(50) if n not in lost]
    items = follow(*sent, SeriesEnd(series_id="a", msg_number=51, frames=50))
    gaps = [n for item in items if item[0] == "gap" for n in range(item[2], item[3] + 1)]
    frames = [item[2] for item in items if item[0] == "frame"]
    assert len(gaps) + len(frames) == 50
    if frames:
        assert sorted(gaps + frames) == list(range(base, base + 50))


def test_the_ledger_adds_up_at_every_step_and_refuses_a_second_end() -> None:
    ledger = FrameLedger()

    def total() -> None:
        counts = ledger.counts()
        assert counts.received == counts.analysed + sum(counts.dropped.values()) + counts.in_flight

    for ordinal in range(4):
        ledger.receive()
        total()
        ledger.hand_out(ordinal)
        total()
    ledger.receive()
    ledger.drop_waiting("queue full")
    total()
    ledger.finish(0)
    ledger.finish(1, dropped="too small")
    total()
    with pytest.raises(ValueError, match="not in flight"):
        ledger.finish(0)
    assert ledger.counts().dropped == {"queue full": 1, "too small": 1}
    assert ledger.counts().in_flight == 2
