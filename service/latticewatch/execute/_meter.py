"""How fast frames go through, and how long each of them takes."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from latticewatch.messages import LatencyMs

# Upper bounds of the cumulative histogram; one more bucket holds everything above.
LATENCY_BOUNDS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Meter:
    """Latency and rate of frames; written by one thread, read by any.

    Parameters
    ----------
    window_s : float
        The rate is that of the frames of this long a time [s].
    kept : int
        Percentiles are those of this many newest frames.
    clock : callable
        Monotonic time [s].
    """

    def __init__(
        self, window_s: float = 5.0, kept: int = 512, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._ended: deque[float] = deque(maxlen=4096)
        self._latency_s: deque[float] = deque(maxlen=kept)
        self._buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._stages: dict[str, tuple[int, float]] = {}

    def add(self, latency_s: float) -> None:
        """Count one frame.

        Parameters
        ----------
        latency_s : float
            From received to readable [s]; a clock set back counts as 0.
        """
        latency_s = max(0.0, latency_s)
        with self._lock:
            self._ended.append(self._clock())
            self._latency_s.append(latency_s)
            self._buckets[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
            self._sum_s += latency_s

    def add_stages(self, timings_ms: Mapping[str, float]) -> None:
        """Add the wall time of each stage of one frame.

        Parameters
        ----------
        timings_ms : mapping of str to float
            By stage [ms].
        """
        with self._lock:
            for stage, ms in timings_ms.items():
                n, total_s = self._stages.get(stage, (0, 0.0))
                self._stages[stage] = n + 1, total_s + 1e-3 * ms

    def stages(self) -> dict[str, tuple[int, float]]:
        """Frames and seconds in all, by stage."""
        with self._lock:
            return dict(self._stages)

    @property
    def fps(self) -> float | None:
        """Frames per second over the window; ``None`` before the second frame, 0 once frames have stopped."""
        with self._lock:
            now, seen = self._clock(), len(self._ended)
            recent = [t for t in self._ended if now - t <= self._window_s]
        if seen < 2:
            return None
        if len(recent) < 2 or recent[-1] == recent[0]:
            return 0.0
        # Up to now when the next frame is overdue, so that the rate falls as soon as the stream slows down.
        mean_gap = (recent[-1] - recent[0]) / (len(recent) - 1)
        overdue = max(0.0, now - recent[-1] - mean_gap)
        return (len(recent) - 1) / (recent[-1] - recent[0] + overdue)

    def latency_ms(self) -> LatencyMs:
        """Median and 99th percentile of the newest frames [ms]."""
        with self._lock:
            kept = list(self._latency_s)
        if not kept:
            return LatencyMs()
        p50, p99 = np.percentile(np.asarray(kept) * 1e3, (50, 99))
        return LatencyMs(p50=round(float(p50), 2), p99=round(float(p99), 2))

    def histogram(self) -> tuple[list[int], float]:
        """Frames at or below each of `LATENCY_BOUNDS_S` and in all, and the sum of their latencies [s]."""
        with self._lock:
            return np.cumsum(self._buckets).tolist(), self._sum_s
