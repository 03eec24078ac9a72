"""Where every frame is: received = analysed + dropped + in flight, at all times."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from latticewatch.messages import FrameCounts, SourceCounts

# Names of fields that are counted apart.
MAX_IGNORED = 64


@dataclass(slots=True)
class _Account:
    """Of one source, or of all together."""

    received: int = 0
    analysed: int = 0
    in_flight: int = 0
    lost_upstream: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        return {
            "received": self.received,
            "analysed": self.analysed,
            "in_flight": self.in_flight,
            "lost_upstream": self.lost_upstream,
            "dropped": dict(self.dropped),
            "rejected": dict(self.rejected),
        }


class FrameLedger:
    """Counts of frames and messages; each method is one step that keeps the sum.

    Any thread may call any method. Where a ``source`` is given, it has an account of its own beside that of all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = _Account()
        self._by_source: dict[str, _Account] = {}
        # Ordinals of the frames that were handed out, with their sources.
        self._handed_out: dict[int, str | None] = {}
        self._ignored: Counter[str] = Counter()
        self._pixels_lost = 0

    def receive(self, source: str | None = None) -> None:
        """A frame has arrived and waits."""
        with self._lock:
            for account in self._accounts(source):
                account.received += 1
                account.in_flight += 1

    def drop_waiting(self, reason: str, source: str | None = None) -> int:
        """A waiting frame will not be analysed; returns how many were dropped for this reason."""
        with self._lock:
            for account in self._accounts(source):
                account.in_flight -= 1
                account.dropped[reason] += 1
            return self._total.dropped[reason]

    def hand_out(self, ordinal: int, source: str | None = None) -> None:
        """A waiting frame was given to whoever analyses it."""
        with self._lock:
            self._handed_out[ordinal] = source

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
            for account in self._accounts(self._handed_out.pop(ordinal)):
                account.in_flight -= 1
                if dropped is None:
                    account.analysed += 1
                else:
                    account.dropped[dropped] += 1

    def reject(self, reason: str, source: str | None = None) -> int:
        """A message could not be read; returns how many were rejected for this reason."""
        with self._lock:
            for account in self._accounts(source):
                account.rejected[reason] += 1
            return self._total.rejected[reason]

    def ignore(self, fields: Iterable[str]) -> int:
        """Fields of a header were left out; returns how many headers lacked one of these, at least."""
        with self._lock:
            for name in fields:
                # A peer that invents names fills no memory.
                known = name in self._ignored or len(self._ignored) < MAX_IGNORED
                self._ignored[name if known else "other"] += 1
            return max((self._ignored[name] for name in fields), default=0)

    def lose(self, n: int, source: str | None = None) -> None:
        """Frames that the sender numbered did not arrive; negative when some turn up after all."""
        with self._lock:
            for account in self._accounts(source):
                account.lost_upstream += n

    def lose_pixels(self, n: int) -> None:
        """Diffraction frames of a scan did not arrive."""
        with self._lock:
            self._pixels_lost += n

    def counts(self) -> FrameCounts:
        """All counts at one instant."""
        with self._lock:
            return FrameCounts(
                **self._total.counts(),
                ignored=dict(self._ignored),
                pixels_lost=self._pixels_lost,
                by_source={
                    source: SourceCounts(**account.counts()) for source, account in self._by_source.items()
                },
            )

    def _accounts(self, source: str | None) -> list[_Account]:
        if source is None:
            return [self._total]
        return [self._total, self._by_source.setdefault(source, _Account())]
