"""Frames at full rate over a line that removes, doubles, reorders, truncates and damages them: the account is exact."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
import zmq

from _bad_line import bad_line, number_in, tally
from _fake_learner import SPACING, fake_analyse, grid_image
from _running import running
from latticewatch.config import IngestSettings
from latticewatch.ingest import Found, Frame, Gap, Receiver, SeriesEnded
from latticewatch.messages import SeriesEnd, encode_json

TIMEOUT = 30


@pytest.mark.parametrize(
    ("n_frames", "seed", "counted"),
    [
        pytest.param(1500, 1, True, id="1500, messages counted"),
        pytest.param(1500, 2, False, id="1500, frames counted alone"),
        *[
            pytest.param(
                10_000, seed, seed % 2 == 0, id=f"10000, seed {seed}", marks=[pytest.mark.slow] * bool(seed)
            )
            for seed in range(10)
        ],
    ],
)
def test_every_frame_of_a_bad_line_is_analysed_dropped_refused_or_lost_and_once(n_frames, seed, counted):
    line = list(bad_line(n_frames, 0.01, np.random.default_rng(seed), counted))
    did = tally(line)
    settings = IngestSettings(sources=("tcp://127.0.0.1:0",), socket="pull", bind=True, mode="lossless")
    with zmq.Context() as context, Receiver(settings) as source:
        socket = context.socket(zmq.PUSH)
        socket.connect(source.endpoints[0])

        def send() -> None:
            for _, parts in line:
                if parts:
                    socket.send_multipart(parts)
            socket.send(encode_json(SeriesEnd(series_id="scan 7", frames=n_frames)))

        sender = threading.Thread(target=send)
        sender.start()
        seen: Counter[str] = Counter()
        last = -1
        while not isinstance(item := source.get(TIMEOUT), SeriesEnded):
            assert item is not None, "nothing arrived in time"
            match item:
                case Frame():
                    # what is told of a frame is told of the right one
                    assert number_in(item.image) == item.number
                    assert item.number > last
                    last = item.number
                    source.done(item)
                case Gap():
                    seen["told lost"] += item.n
                case Found():
                    seen["told lost"] -= 1
        sender.join(TIMEOUT)
        socket.close()
        counts = source.counts()
    assert counts.in_flight == 0
    # the sender waits instead
    assert "queue full" not in counts.dropped
    assert counts.received == counts.analysed + sum(counts.dropped.values())
    assert counts.lost_upstream == seen["told lost"] == did["removed"]
    refused = sum(counts.rejected.values())
    assert refused >= did["truncated"]
    assert counts.received + refused + counts.lost_upstream == n_frames + did["doubled"]
    # the rest was sound
    wrong = sum(did[fault] for fault in ("removed", "truncated", "damaged", "reordered"))
    assert counts.analysed >= n_frames - wrong


COLUMNS = 16


@pytest.mark.parametrize("n_frames", [900, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_events_over_a_bad_line_are_those_of_its_good_frames(tmp_path, n_frames):
    together = -(-n_frames // COLUMNS**2)

    def defect_of(number: int) -> tuple[int, int]:
        """The defect that is there, until it is the turn of the next one."""
        return divmod(number // together, COLUMNS)

    def picture(number: int) -> np.ndarray:
        return grid_image(COLUMNS * SPACING, vacancies=[defect_of(number)])

    line = list(
        bad_line(n_frames, 0.01, np.random.default_rng(5), counted=True, picture=picture, in_pixels=False)
    )
    analysed: dict[int, tuple[int, int]] = {}

    def analyse(frame, model, settings):
        found = fake_analyse(frame, model, settings)
        ((row, column),) = np.argwhere(found.grid < found.grid.max() / 2).tolist()
        # in whatever order threads come to it
        analysed[frame.number] = row, column
        return found

    with running(tmp_path, analyse=analyse) as live:
        for _, parts in line:
            if parts:
                live.sender.message(parts)
        live.sender.message([encode_json(SeriesEnd(series_id="scan 7", frames=n_frames))])
        live.until(
            lambda: any(event.type == "series.ended" for event in live.engine.log.read(limit=10_000).events)
        )
        counts = live.engine.receiver.counts()
        events = live.engine.log.read(limit=10_000).events
    assert counts.dropped.keys() <= {"duplicate", "out of order", "damaged header", "other detector"}
    assert counts.analysed == len(analysed) >= n_frames - sum(tally(line).values())
    # a frame is the one that its number says
    assert analysed == {number: defect_of(number) for number in analysed}
    first: dict[tuple[int, int], int] = {}
    for number in sorted(analysed):
        first.setdefault(analysed[number], number)
    told = [event.data for event in events if event.type == "defect.appeared"]
    where = [(int(one["px"]["row"]) // SPACING, int(one["px"]["col"]) // SPACING) for one in told]
    assert {place: one["frame"] for place, one in zip(where, told, strict=True)} == first
    assert [one["frame"] for one in told] == sorted(first.values())
