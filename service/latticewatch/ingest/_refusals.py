"""Messages that do not fit, in words for people: what comes from each source, and what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from latticewatch.errors import WireError
from latticewatch.messages import Note

# Good frames in a row after which what was refused before is no longer worth a note.
FORGIVEN_AFTER = 100

REMEDIES = {
    "parts": "Send two parts: a JSON header and the raw buffer.",
    "header": "Correct the header at the sender; the page on frames on the wire lists its fields.",
    "htype": "Send htype 'array-1.0', or nothing.",
    "dtype": "Send one of the numeric dtypes, such as uint16 or float32.",
    "shape": "Send two-dimensional images, shape [rows, columns].",
    "size": "Send as many bytes as shape and type say, or raise ingest.max_frame_mib.",
    "encoding": "Send the buffer raw, or with lz4, bslz4 or zlib.",
    "compressed": "Look for what damages messages on the way, or send the buffer raw.",
    "diffraction": "Give ingest.virtual_detector with the shape of the scan.",
    "scan": "Check ingest.virtual_detector.scan: it has to be the shape of the scan.",
    "format": "Send the raw buffer behind a JSON header.",
}


@dataclass(slots=True)
class _Refused:
    n: int = 0
    good: int = 0
    reason: str = ""
    detail: str = ""


class Refusals:
    """Counts what each source sends in vain; any thread may call any method.

    Parameters
    ----------
    sources : sequence of str
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._sources = tuple(sources)
        self._refused: dict[int, _Refused] = {}

    def add(self, source: int, error: WireError) -> None:
        """A message was refused."""
        with self._lock:
            one = self._refused.setdefault(source, _Refused())
            one.n += 1
            one.reason, one.detail, one.good = error.reason, str(error), 0

    def good(self, source: int) -> None:
        """A frame was read."""
        with self._lock:
            one = self._refused.get(source)
            if one is not None:
                one.good += 1
                if one.good >= FORGIVEN_AFTER:
                    del self._refused[source]

    def notes(self) -> tuple[Note, ...]:
        """One note for each source whose messages are refused."""
        with self._lock:
            return tuple(
                Note(
                    code="messages-refused",
                    text=_said(one, self._sources[source]),
                    remedy=REMEDIES.get(one.reason, "See the log of the service."),
                )
                for source, one in sorted(self._refused.items())
            )


def _said(refused: _Refused, source: str) -> str:
    several = "1 message" if refused.n == 1 else f"{refused.n} messages"
    return f"{several} of {source} refused; the last: {refused.detail}."[:600]
