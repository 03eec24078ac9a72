"""Where every frame is: received = analysed + dropped + in flight, at all times."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from latticewatch.messages import FrameCounts

# Names of fields that are counted apart.
MAX_IGNORED = 64


class FrameLedger:
    """Counts of frames and messages; each method is one step that keeps the sum.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._analysed = 0
        self._waiting = 0
        self._handed_out: set[int] = set()
        self._dropped: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._ignored: Counter[str] = Counter()
        self._lost_upstream = 0
        self._pixels_lost = 0
        self._by_source: Counter[str] = Counter()

    def receive(self, source: str | None = None) -> None:
        """A frame has arrived and waits; from a source, where there are several."""
        with self._lock:
            self._received += 1
            self._waiting += 1
            if source is not None:
                self._by_source[source] += 1

    def drop_waiting(self, reason: str) -> int:
        """A waiting frame will not be analysed; returns how many were dropped for this reason."""
        with self._lock:
            self._waiting -= 1
            self._dropped[reason] += 1
            return self._dropped[reason]

    def hand_out(self, ordinal: int) -> None:
        """A waiting frame was given to whoever analyses it."""
        with self._lock:
            self._waiting -= 1
            self._handed_out.add(ordinal)

    def finish(self, ordinal: int, dropped: str | None = None) -> None:
        """A frame that was handed out was analysed, or dropped for a reason.

        Raises
        ------
        ValueError
            It was not handed out, or was finished before.
        """
        with self._lock:
            if ordinal not in self._handed_out:
                raise ValueError(f"frame with ordinal {ordinal} is not in flight; finish each frame once")
            self._handed_out.remove(ordinal)
            if dropped is None:
                self._analysed += 1
            else:
                self._dropped[dropped] += 1

    def reject(self, reason: str) -> int:
        """A message could not be read; returns how many were rejected for this reason."""
        with self._lock:
            self._rejected[reason] += 1
            return self._rejected[reason]

    def ignore(self, fields: Iterable[str]) -> int:
        """Fields of a header were left out; returns how many headers lacked one of these, at least."""
        with self._lock:
            for name in fields:
                # A peer that invents names fills no memory.
                known = name in self._ignored or len(self._ignored) < MAX_IGNORED
                self._ignored[name if known else "other"] += 1
            return max((self._ignored[name] for name in fields), default=0)

    def lose(self, n: int) -> None:
        """Frames that the sender numbered did not arrive; negative when some turn up after all."""
        with self._lock:
            self._lost_upstream += n

    def lose_pixels(self, n: int) -> None:
        """Diffraction frames of a scan did not arrive."""
        with self._lock:
            self._pixels_lost += n

    def counts(self) -> FrameCounts:
        """All counts at one instant."""
        with self._lock:
            return FrameCounts(
                received=self._received,
                analysed=self._analysed,
                dropped=dict(self._dropped),
                in_flight=self._waiting + len(self._handed_out),
                lost_upstream=self._lost_upstream,
                rejected=dict(self._rejected),
                ignored=dict(self._ignored),
                pixels_lost=self._pixels_lost,
                by_source=dict(self._by_source),
            )
