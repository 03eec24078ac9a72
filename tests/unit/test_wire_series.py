"""Series of one shape and one counter out of untidy streams; what is missing is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticewatch.ingest import Found, Frame, Gap, SeriesEnded, SeriesStarted
from latticewatch.ingest._ledger import FrameLedger
from latticewatch.ingest._run import MAX_GAP
from latticewatch.ingest._series import MAX_OPEN, Discarded, SeriesTracker
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
            return ("gap", item.series_id, item.first, item.last, item.n)
        case Found():
            return ("found", item.series_id, item.number)
        case SeriesStarted():
            return ("start", item.series_id, item.reason)
        case SeriesEnded():
            return ("end", item.series_id, item.frames, item.reason)
        case Discarded():
            return ("discard", item.series_id, item.number, item.reason)


def follow(
    *messages, tracker: SeriesTracker | None = None, source: int = 0, quiet: bool = True
) -> list[tuple]:
    """What follows from the messages and, if it stays ``quiet`` afterwards, from that."""
    tracker = tracker or SeriesTracker()
    items = [short(item) for message in messages for item in tracker.accept(source, message, 1e9)]
    return items + [short(item) for item in tracker.release(source)] if quiet else items


def test_a_whole_series_is_followed_from_start_to_end() -> None:
    assert follow(
        SeriesStart(series_id="a", msg_number=0),
        frame(0, msg_number=1),
        frame(1, msg_number=2),
        SeriesEnd(series_id="a", msg_number=3, frames=2),
    ) == [("start", "a", "announced"), ("frame", "a", 0), ("frame", "a", 1), ("end", "a", 2, "ended")]


def test_a_gap_is_reported_before_the_frame_behind_it() -> None:
    assert follow(frame(4), frame(7)) == [
        ("start", "a", "first frame"), ("frame", "a", 4), ("gap", "a", 5, 6, 2), ("frame", "a", 7),
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
        ("gap", "a", first, first + 1, 2),
        ("gap", "a", first + 3, first + 4, 2),
    ]
    counted = follow(SeriesStart(series_id="a"), frame(first), SeriesEnd(series_id="a", frames=4))
    assert counted[2:] == [("gap", "a", first + 1, first + 3, 3), ("end", "a", 1, "ended")]


def test_an_announced_series_without_a_single_frame_lost_them_all() -> None:
    assert follow(SeriesStart(series_id="a", msg_number=0), SeriesEnd(series_id="a", msg_number=4))[1:] == [
        ("gap", "a", 0, 2, 3), ("end", "a", 0, "ended"),
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
    assert follow(frame(3), tracker=tracker) == [("found", "a", 3), ("discard", "a", 3, "out of order")]
    assert follow(frame(3), tracker=tracker) == [("discard", "a", 3, "duplicate")]


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
    for series in ("left", "right"):
        assert [item[2] for item in items if item[:2] == ("frame", series)] == list(range(20))
    assert len([item for item in items if item[0] == "start"]) == 2
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
        ("frame", "a", 4), ("gap", "a", 5, 5, 1), ("frame", "a", 6),
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
    items += tracker.release(0)
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
    quiet = [(source, None) for source in (0, 1)]
    for source, message in [*messages, *quiet]:
        for item in tracker.release(source) if message is None else tracker.accept(source, message, 0.0):
            match item:
                case SeriesStarted():
                    assert item.series_id not in open_series.keys() | ended
                    open_series[item.series_id] = -1
                case SeriesEnded():
                    del open_series[item.series_id]
                    ended.add(item.series_id)
                case Gap():
                    assert open_series[item.series_id] < item.first <= item.last
                    assert 0 < item.n <= item.last - item.first + 1 <= MAX_GAP
                    open_series[item.series_id] = item.last
                    lost += item.n
                case Frame():
                    assert item.number > open_series[item.series_id]
                    open_series[item.series_id] = item.number
                case Found():
                    lost -= 1
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
    assert len(gaps) == sum(item[4] for item in items if item[0] == "gap")
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


def damaged(good: WireFrame, **header) -> WireFrame:
    """The same image; its header was damaged on the way."""
    return WireFrame(good.header.model_copy(update=header), good.image, good.pixel_size_nm)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame": 905},
        {"frame": 7},
        {"frame": 0, "timestamp": 5.0},
        {"frame": 99_999_999},
        {"series_id": "b"},
        {"series_id": "b", "frame": 3},
    ],
)
@pytest.mark.parametrize("counted", [True, False], ids=["messages counted", "frames counted alone"])
def test_a_damaged_digit_makes_neither_a_loss_nor_a_series(wrong: dict, counted: bool) -> None:
    good = [frame(n, msg_number=n + 1 if counted else None, timestamp=float(n)) for n in range(10)]
    items = follow(*good[:5], damaged(good[5], **wrong), *good[6:])
    assert [item for item in items if item[0] in ("gap", "found", "end")] == []
    assert len([item for item in items if item[0] == "start"]) == 1
    assert [item[2] for item in items if item[0] == "frame"] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [item[3] for item in items if item[0] == "discard"] == ["damaged header"]


def test_a_damaged_pixel_size_does_not_break_the_series() -> None:
    sizes = [0.01, 0.01, 0.91, 0.01, 0.01]
    items = follow(*[frame(n, pixel_size_nm=size) for n, size in enumerate(sizes)])
    assert [item[2] for item in items if item[0] == "frame"] == [0, 1, 3, 4]
    assert items.count(("discard", "a", 2, "damaged header")) == 1
    assert len(items) == 6


def test_a_leap_is_believed_when_the_next_frame_agrees_and_when_nothing_follows() -> None:
    assert follow(frame(4), frame(7), quiet=False) == [("start", "a", "first frame"), ("frame", "a", 4)]
    expected = [("gap", "a", 5, 6, 2), ("frame", "a", 7)]
    assert follow(frame(4), frame(7))[2:] == expected
    assert follow(frame(4), frame(7), frame(8), quiet=False)[2:] == [*expected, ("frame", "a", 8)]


def test_a_leap_that_the_number_of_the_message_confirms_is_believed_at_once() -> None:
    items = follow(frame(4, msg_number=9), frame(7, msg_number=12), quiet=False)
    assert items[2:] == [("gap", "a", 5, 6, 2), ("frame", "a", 7)]


def test_two_frames_that_changed_places_are_put_right() -> None:
    items = follow(*[frame(n) for n in (0, 2, 1, 3)])
    assert items[1:] == [("frame", "a", n) for n in range(4)]


def test_a_frame_received_twice_after_a_loss_does_not_hide_the_loss() -> None:
    items = follow(frame(4), frame(6), frame(6), frame(7))
    assert [item for item in items if item[0] == "gap"] == [("gap", "a", 5, 5, 1)]
    assert [item for item in items if item[0] == "discard"] == [("discard", "a", 6, "duplicate")]


@pytest.mark.parametrize("fields", [{}, {"series_id": "a", "frame": 5}, {"series_id": "a"}, {"frame": "?"}])
def test_a_refused_frame_is_not_lost_as_well(fields: dict) -> None:
    tracker = SeriesTracker()
    follow(frame(3), frame(4), tracker=tracker)
    assert list(tracker.refuse(0, fields)) == []
    assert follow(frame(6), tracker=tracker, quiet=False) == [("frame", "a", 6)]
    # and excuses no other one
    assert follow(frame(9), frame(10), tracker=tracker)[0] == ("gap", "a", 7, 8, 2)


def test_of_a_gap_with_a_refused_frame_in_it_the_others_are_lost() -> None:
    tracker = SeriesTracker()
    follow(frame(4, msg_number=0), tracker=tracker)
    list(tracker.refuse(0, {"series_id": "a", "frame": 6}))
    assert follow(frame(8, msg_number=4), tracker=tracker)[0] == ("gap", "a", 5, 7, 2)
    list(tracker.refuse(0, {"series_id": "a", "frame": 5}))
    assert follow(frame(7), tracker=tracker) == [("found", "a", 7), ("discard", "a", 7, "out of order")]


def test_a_refused_frame_that_came_late_is_taken_back() -> None:
    tracker = SeriesTracker()
    follow(frame(4), frame(6), frame(7), tracker=tracker)
    assert [short(item) for item in tracker.refuse(0, {"series_id": "a", "frame": 5})] == [("found", "a", 5)]


@pytest.mark.parametrize("counted", ["alike", "together"])
def test_two_detectors_in_one_stream_lose_nothing_and_the_first_one_is_analysed(counted: str) -> None:
    messages = [
        frame(n if counted == "alike" else 2 * n + i, detector=name, msg_number=2 * n + i)
        for n in range(6)
        for i, name in enumerate(("HAADF", "ADF"))
    ]
    tracker = SeriesTracker()
    items = [item for message in messages for item in tracker.accept(0, message, 1e9)]
    assert [item for item in items if isinstance(item, Gap | Found)] == []
    frames = [item for item in items if isinstance(item, Frame)]
    assert {item.detector for item in frames} == {"HAADF"}
    assert len(frames) == 6
    assert [note.code for note in frames[-1].notes] == ["several-detectors"]
    assert "ADF" in frames[-1].notes[0].text
    discarded = [item for item in items if isinstance(item, Discarded)]
    assert [item.reason for item in discarded] == ["other detector"] * 6


def test_the_configured_detector_is_the_one_that_is_analysed() -> None:
    tracker = SeriesTracker(detector="ADF")
    messages = [frame(n, detector=name) for n in range(4) for name in ("HAADF", "ADF")]
    frames = [item for m in messages for item in tracker.accept(0, m, 1e9) if isinstance(item, Frame)]
    assert [(item.detector, item.number) for item in frames] == [("ADF", n) for n in range(4)]


def test_a_turned_scan_starts_another_series() -> None:
    items = follow(frame(0), frame(1), frame(2, rotation_deg=30.0), frame(3, rotation_deg=30.0))
    assert [item[2] for item in items if item[0] == "start"] == ["first frame", "scan rotation changed"]


@given(
    seed=st.integers(0, 10_000),
    counted=st.booleans(),
    rates=st.tuples(*[st.sampled_from([0.0, 0.01, 0.03])] * 5),
)
@settings(max_examples=120, deadline=None)
def test_each_frame_sent_is_received_refused_or_lost_whatever_happens_on_the_way(
    seed, counted, rates
) -> None:
    rng = np.random.default_rng(seed)
    sent = [frame(n, msg_number=n + 1 if counted else None, timestamp=n / 7) for n in range(120)]
    removed, doubled, swapped, refused, digits = (rng.random((120, 5)) < rates).T
    queue: list[tuple[int, str]] = []
    n = 0
    while n < 120:
        # faults two frames apart, so that no two of them make up for each other
        kinds = [removed[n], doubled[n], swapped[n] and n < 118, refused[n], digits[n]]
        kind = kinds.index(True) if any(kinds) and 0 < n < 117 else -1
        here = [[], [(n, ""), (n, "")], [(n + 1, ""), (n, "")], [(n, "refused")], [(n, "digits")], [(n, "")]][
            kind
        ]
        queue += here
        after = n + 2 if kind == 2 else n + 1
        if kind >= 0:
            queue += [(after, ""), (after + 1, "")]
            after += 2
        n = after
    tracker = SeriesTracker()
    received = n_refused = lost = 0
    for n, fault in queue:
        message = sent[n]
        if fault == "refused":
            n_refused += 1
            items = list(tracker.refuse(0, {"series_id": "a", "frame": n} if rng.random() < 0.5 else {}))
        else:
            if fault == "digits":
                message = damaged(message, frame=int(rng.integers(10 ** rng.integers(1, 6))))
            items = list(tracker.accept(0, message, 1e9))
        for item in items:
            assert not isinstance(item, SeriesEnded)
            received += isinstance(item, Frame | Discarded)
            lost += item.n if isinstance(item, Gap) else -isinstance(item, Found)
    for item in tracker.release(0):
        received += isinstance(item, Frame | Discarded)
    twice = len(queue) - len({n for n, _ in queue})
    assert received == len(queue) - n_refused
    assert lost == 120 - len({n for n, _ in queue})
    assert received + n_refused + lost == 120 + twice
