"""The live path as it is used: replayed frames, ZeroMQ, the service, clients on websockets."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from latticewatch.bench._commands import Command
from latticewatch.bench._listeners import dashboard, event_reader
from latticewatch.bench._results import Latency, Spread, Sustained
from latticewatch.errors import LatticewatchError
from latticewatch.messages import FrameCounts, Status

START_TIMEOUT_S = 120.0
# Discovering classes takes some seconds, compiling for the first time tens.
LEARN_TIMEOUT_S = 300.0
# What waited while it learnt is analysed before anything counts; a service that never catches up is measured as it is.
SETTLE_S = 1.0
CATCH_UP_TIMEOUT_S = 60.0
# No more than these in work or waiting: it has caught up.
FEW_FRAMES = 4
LOOK_S = 0.2
REQUEST_TIMEOUT_S = 30.0
# Faster than any service: PUSH waits for the receiver.
AS_FAST_AS_POSSIBLE = 5000.0
MIN_RATES = 3


def measure_latency(
    images: NDArray[np.uint16],
    pixel_size_nm: float,
    frames_per_s: float,
    seconds: float,
    executor: str = "threads",
) -> Latency:
    """Times from frame received to event readable at a set rate, with one dashboard open.

    Parameters
    ----------
    images : ndarray of shape (n, height, width)
        Replayed again and again.
    pixel_size_nm, frames_per_s : float
    seconds : float
        How long to watch, once the classes are learnt [s].
    executor : {"threads", "processes"}
        Where the service analyses.

    Returns
    -------
    Latency

    Raises
    ------
    LatticewatchError
        The service did not get ready, or did not find classes in time.
    """
    with _live_path(images, pixel_size_nm, frames_per_s, executor, lossless=False) as path:
        with event_reader(path.url) as events, dashboard(path.url) as pictures:
            before, start = path.counts(), time.monotonic()
            events.start()
            pictures.start()
            time.sleep(seconds)
            event_ms, picture_ms = events.taken(), pictures.taken()
            after, took = path.counts(), time.monotonic() - start
        path.check()
    analysed = after.analysed - before.analysed
    event_p50, event_p99 = _percentiles(event_ms)
    picture_p50, picture_p99 = _percentiles(picture_ms)
    return Latency(
        shape_px=images.shape[1:],
        asked_frames_per_s=frames_per_s,
        analysed_frames_per_s=analysed / took,
        seconds=took,
        analysed=analysed,
        dropped=sum(after.dropped.values()) - sum(before.dropped.values()),
        lost=after.lost_upstream - before.lost_upstream,
        events=len(event_ms),
        event_ms_p50=event_p50,
        event_ms_p99=event_p99,
        picture_ms_p50=picture_p50,
        picture_ms_p99=picture_p99,
    )


def measure_sustained(
    images: NDArray[np.uint16], pixel_size_nm: float, seconds: float, executor: str = "threads"
) -> Sustained:
    """The highest rate that the service keeps up: every frame analysed, the sender held back.

    Parameters
    ----------
    images : ndarray of shape (n, height, width), uint16
        Sent again and again.
    pixel_size_nm : float
    seconds : float
        How long it is measured once classes are learnt [s].
    executor : {"threads", "processes"}
        Where the service analyses.

    Returns
    -------
    Sustained

    Raises
    ------
    LatticewatchError
        As for `measure_latency`.
    """
    rates = []
    with _live_path(images, pixel_size_nm, AS_FAST_AS_POSSIBLE, executor, lossless=True) as path:
        count, at = path.counts().analysed, time.monotonic()
        end = at + seconds
        while at < end:
            time.sleep(min(1.0, seconds / MIN_RATES))
            analysed, now = path.counts().analysed, time.monotonic()
            rates.append((analysed - count) / (now - at))
            count, at = analysed, now
        path.check()
    return Sustained(images.shape[1:], Spread.of(rates))


@dataclass
class _LivePath:
    """A replay and a service, each a process, the classes learnt."""

    url: str
    commands: tuple[Command, ...]
    http: httpx.Client

    def status(self) -> Status:
        return Status.model_validate_json(self.http.get("/v1/status").raise_for_status().content)

    def counts(self) -> FrameCounts:
        return self.status().frames

    def check(self) -> None:
        for command in self.commands:
            command.check()

    def wait_until_learnt(self, *, catch_up: bool) -> None:
        """Wait for classes, and, if it is to catch up, until the frames that waited meanwhile are done.

        Raises
        ------
        LatticewatchError
            No classes in time, or a process has ended.
        """
        deadline = time.monotonic() + LEARN_TIMEOUT_S
        while (status := self.status()).phase != "live" or status.model_version < 1:
            self.check()
            if time.monotonic() > deadline:
                raise LatticewatchError(
                    f"no classes after {LEARN_TIMEOUT_S:g} s (phase {status.phase}); give a larger frame size"
                )
            time.sleep(LOOK_S)
        caught_up_by = time.monotonic() + CATCH_UP_TIMEOUT_S
        while catch_up and self.counts().in_flight > FEW_FRAMES and time.monotonic() < caught_up_by:
            time.sleep(LOOK_S)
        time.sleep(SETTLE_S)


@contextlib.contextmanager
def _live_path(
    images: NDArray[np.uint16], pixel_size_nm: float, frames_per_s: float, executor: str, *, lossless: bool
) -> Iterator[_LivePath]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latticewatch-bench-")))
        np.save(folder / "frames.npy", images)
        how = ["--lossless"] if lossless else []
        replay = stack.enter_context(
            Command(
                "replay", str(folder / "frames.npy"), "--bind", "tcp://127.0.0.1:0", "--loop", *how,
                "--fps", f"{frames_per_s:g}", "--pixel-size", f"{pixel_size_nm:g}",
            )
        )  # fmt: skip
        source = replay.said(r"replaying on (tcp://\S+)", START_TIMEOUT_S)
        how = ["--pull", "--lossless"] if lossless else ["--sub", "--latest"]
        serve = stack.enter_context(
            Command(
                "serve", "--source", source, *how, "--http", "127.0.0.1:0", "--data-dir", str(folder / "data"),
                "--executor", executor,
            )
        )  # fmt: skip
        url = serve.said(r"dashboard +(http://\S+)", START_TIMEOUT_S)
        http = stack.enter_context(httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S))
        path = _LivePath(url, (replay, serve), http)
        path.wait_until_learnt(catch_up=not lossless)
        if executor == "processes":
            serve.said(r"(frames are analysed in processes)", LEARN_TIMEOUT_S)
        yield path


def _percentiles(ms: list[float]) -> tuple[float, float] | tuple[None, None]:
    if not ms:
        return None, None
    p50, p99 = np.percentile(ms, (50, 99))
    return float(p50), float(p99)
