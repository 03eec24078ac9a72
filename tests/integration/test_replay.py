"""Recorded frames, replayed over real sockets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from latticewatch.config import IngestSettings
from latticewatch.errors import ConfigurationError, FileError
from latticewatch.ingest import Frame, Item, Receiver, Replayer, SeriesEnded, SeriesStarted, read_frames

TIMEOUT = 30


def save(folder: Path, name: str, array: np.ndarray, pixel_size_nm: float | None = 0.01):
    np.save(folder / name, array)
    return read_frames(folder / name, pixel_size_nm=pixel_size_nm)


def stack(n: int, shape: tuple[int, int] = (32, 40), dtype: str = ">u4") -> np.ndarray:
    return np.arange(n * shape[0] * shape[1], dtype=dtype).reshape(n, *shape)


def receive(replayer: Replayer, **settings) -> tuple[list[Item], Receiver, int]:
    """Run the replayer against a lossless receiver until it ends."""
    options = {"sources": (replayer.endpoint,), "socket": "pull", "mode": "lossless", "queue_frames": 2}
    items: list[Item] = []
    sent: list[int] = []
    with Receiver(IngestSettings(**(options | settings))) as receiver:
        assert replayer.wait_for_receiver(TIMEOUT)
        thread = threading.Thread(target=lambda: sent.append(replayer.run()))
        thread.start()
        while thread.is_alive() or not items or not isinstance(items[-1], SeriesEnded):
            item = receiver.get(TIMEOUT)
            assert item is not None
            items.append(item)
            if isinstance(item, Frame):
                receiver.done(item)
            if isinstance(item, SeriesEnded):
                thread.join(1)
        return items, receiver, sent[0]


def test_what_was_recorded_arrives_unchanged_at_a_slow_receiver(tmp_path: Path) -> None:
    recorded = stack(200)
    with Replayer(
        [save(tmp_path, "a.npy", recorded)], bind="tcp://127.0.0.1:0", fps=1e4, lossless=True
    ) as replayer:
        before = time.time()
        items, receiver, sent = receive(replayer)
    frames = [item for item in items if isinstance(item, Frame)]
    assert sent == len(frames) == 200
    for n, frame in enumerate(frames):
        assert frame.number == n
        assert frame.image.dtype == np.uint32
        assert np.array_equal(frame.image, recorded[n])
        assert frame.pixel_size_nm == 0.01
        assert frame.t_acquired is not None
        assert before <= frame.t_acquired <= frame.t_received
    assert isinstance(items[0], SeriesStarted)
    assert items[-1] == SeriesEnded(frames[0].series_id, 200, "ended")
    counts = receiver.counts()
    assert (counts.analysed, counts.lost_upstream, counts.dropped, counts.rejected) == (200, 0, {}, {})


def test_a_subscriber_that_was_waited_for_gets_every_frame_of_a_short_replay(tmp_path: Path) -> None:
    with Replayer([save(tmp_path, "a.npy", stack(5))], bind="tcp://127.0.0.1:0", fps=200) as replayer:
        items, receiver, _ = receive(replayer, socket="sub")
    assert [item.number for item in items if isinstance(item, Frame)] == [0, 1, 2, 3, 4]
    assert receiver.counts().lost_upstream == 0


def test_a_loop_goes_on_in_the_same_series_until_the_limit(tmp_path: Path) -> None:
    one, two = save(tmp_path, "a.npy", stack(2)), save(tmp_path, "b.npy", stack(1)[0])
    with Replayer(
        [one, two], bind="tcp://127.0.0.1:0", fps=1e4, loop=True, lossless=True, frames=8
    ) as replayer:
        items, _, sent = receive(replayer)
    frames = [item for item in items if isinstance(item, Frame)]
    assert sent == 8
    assert [frame.number for frame in frames] == list(range(8))
    assert len({frame.series_id for frame in frames}) == 1
    assert len([item for item in items if isinstance(item, SeriesStarted)]) == 1


def test_another_shape_or_pixel_size_is_another_series(tmp_path: Path) -> None:
    files = [
        save(tmp_path, "a.npy", stack(2)),
        save(tmp_path, "b.npy", stack(2, (40, 32))),
        save(tmp_path, "c.npy", stack(1, (40, 32)), 0.02),
    ]
    with Replayer(files, bind="tcp://127.0.0.1:0", fps=1e4, lossless=True) as replayer:
        items: list[Item] = []
        with Receiver(
            IngestSettings(sources=(replayer.endpoint,), socket="pull", mode="lossless")
        ) as receiver:
            thread = threading.Thread(target=replayer.run)
            thread.start()
            while sum(isinstance(item, SeriesEnded) for item in items) < 3:
                item = receiver.get(TIMEOUT)
                assert item is not None
                items.append(item)
            thread.join(TIMEOUT)
            assert receiver.counts().lost_upstream == 0
    ends = [(item.frames, item.reason) for item in items if isinstance(item, SeriesEnded)]
    assert ends == [(2, "ended"), (2, "ended"), (1, "ended")]


def test_frames_keep_to_their_deadlines(tmp_path: Path) -> None:
    with Replayer([save(tmp_path, "a.npy", stack(11))], bind="tcp://127.0.0.1:0", fps=50) as replayer:
        start = time.monotonic()
        assert replayer.run() == 11
        # Ten periods lie between eleven frames; how late the machine is cannot be asserted.
        assert time.monotonic() - start >= 10 / 50


def test_frames_say_when_they_were_due_the_same_in_every_replay(tmp_path: Path) -> None:
    with Replayer(
        [save(tmp_path, "a.npy", stack(8))], bind="tcp://127.0.0.1:0", fps=40, lossless=True
    ) as replayer:
        items, _, _ = receive(replayer)
    times = [item.t_acquired for item in items if isinstance(item, Frame)]
    np.testing.assert_allclose(np.diff(np.array(times, float)), 1 / 40, atol=1e-5)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_replay_can_be_stopped_while_it_waits(tmp_path: Path, lossless: bool) -> None:
    series = save(tmp_path, "a.npy", stack(1))
    with Replayer([series], bind="tcp://127.0.0.1:0", lossless=lossless) as replayer:
        assert not replayer.wait_for_receiver(0)
        waiting = threading.Thread(target=replayer.wait_for_receiver)
        waiting.start()
        replayer.stop()
        waiting.join(TIMEOUT)
        assert not waiting.is_alive()
        assert replayer.run() == 0


def test_a_replay_can_be_stopped_between_two_frames(tmp_path: Path) -> None:
    with Replayer(
        [save(tmp_path, "a.npy", stack(1))], bind="tcp://127.0.0.1:0", fps=0.001, loop=True
    ) as replayer:
        sent = threading.Event()
        running = threading.Thread(target=lambda: replayer.run(lambda _: sent.set()))
        running.start()
        assert sent.wait(TIMEOUT)
        replayer.stop()
        running.join(TIMEOUT)
        assert not running.is_alive()


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    series = save(tmp_path, "a.npy", stack(1))
    with Replayer([series], bind="tcp://127.0.0.1:0") as replayer:
        replayer.stop()
        with pytest.raises(ConfigurationError, match=f"--bind {replayer.endpoint}.*a free"):
            Replayer([series], bind=replayer.endpoint)


def test_a_context_of_the_caller_stays_open(tmp_path: Path) -> None:
    with zmq.Context() as context:
        with Replayer(
            [save(tmp_path, "a.npy", stack(1))], bind="tcp://127.0.0.1:0", context=context
        ) as replayer:
            replayer.stop()
        assert not context.closed


def test_a_frame_that_cannot_be_read_ends_the_replay_and_the_series(tmp_path: Path) -> None:
    recorded = stack(3, dtype="f4")
    recorded[1] = np.nan
    with Replayer([save(tmp_path, "a.npy", recorded)], bind="tcp://127.0.0.1:0", fps=1e4) as replayer:
        with pytest.raises(FileError, match="frame 1"):
            replayer.run()
        assert replayer._open == {}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from latticewatch.cli import main; main()", "replay", *map(str, arguments)]


def test_the_command_replays_to_a_receiver_and_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", stack(4))
    arguments = command(tmp_path / "a.npy", "--bind", "tcp://127.0.0.1:0", "--fps", 100, "--pixel-size", 0.02)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        endpoint = re.search(r"tcp://[\d.:]+", process.stdout.readline())
        assert endpoint is not None
        with Receiver(IngestSettings(sources=(endpoint[0],), mode="lossless")) as receiver:
            items = [receiver.get(TIMEOUT)]
            while items[-1] is not None and not isinstance(items[-1], SeriesEnded):
                items.append(receiver.get(TIMEOUT))
        rest = process.stdout.read()
        assert process.wait(TIMEOUT) == 0
        assert process.stderr.read() == ""
    assert "a.npy: a, 4 x 32 x 40 >u4, 0.02 nm/px" in rest
    assert rest.endswith("sent 4 frames\n")
    assert [item.pixel_size_nm for item in items if isinstance(item, Frame)] == [0.02] * 4


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_the_command_ends_cleanly_when_interrupted(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", stack(1))
    arguments = command(tmp_path / "a.npy", "--bind", "tcp://127.0.0.1:0", "--loop")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "waiting for a receiver" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
        assert process.stdout.read() == "sent 0 frames\n"
        assert process.stderr.read() == ""


def test_the_command_says_in_one_line_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("text")
    done = subprocess.run(command(tmp_path / "a.npy"), capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "a.npy") in done.stderr


def test_a_real_frame_is_replayed_with_its_pixel_size(shared_data: Path) -> None:
    series = read_frames(shared_data / "real" / "TiWSe2_1028_2" / "1028_ADF1_2.dm4")
    with Replayer(
        [series], bind="tcp://127.0.0.1:0", fps=100, loop=True, lossless=True, frames=3
    ) as replayer:
        items, _, _ = receive(replayer)
    frames = [item for item in items if isinstance(item, Frame)]
    assert len(frames) == 3
    for frame in frames:
        assert np.array_equal(frame.image, series.frame(0))
        assert frame.pixel_size_nm == pytest.approx(0.0398793, rel=1e-5)
