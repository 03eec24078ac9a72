"""One counter of one sender: which numbers have come, which are missing, and how a new frame relates to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from latticewatch.ingest._wire import WireFrame
from latticewatch.messages import FrameHeader

# A jump further ahead than this is a counter that started elsewhere, not that many lost frames.
MAX_GAP = 100_000
# A frame at most this far behind the newest one came late or twice; further behind, the counter restarted.
LATE_WINDOW = 16


@dataclass(slots=True)
class Run:
    """A series that is open: the newest numbers of one counter of one sender."""

    series_id: str
    announced: bool = False
    first: int = 0
    last: int = -1
    last_msg: int | None = None
    last_stamp: float | None = None
    # What msg_number exceeds frame by, where both are sent: a second witness for each.
    offset: int | None = None
    shape: tuple[int, ...] = ()
    pixel_size_nm: float | None = None
    turned: tuple[float | None, ...] = ()
    detectors: set[str | None] = field(default_factory=set)
    received: int = 0
    lost: int = 0
    missing: set[int] = field(default_factory=set)
    # Numbers after the last one whose messages were refused: they are not lost.
    refused: set[int] = field(default_factory=set)

    def number_of(self, header: FrameHeader) -> int:
        """The frame's number, by its sender's count or else by ours."""
        if header.frame is not None:
            return header.frame
        if header.msg_number is not None:
            return header.msg_number if self.offset is None else max(0, header.msg_number - self.offset)
        return self.last + 1

    def broken_by(self, header: FrameHeader, number: int, pixel_size_nm: float | None) -> str:
        """Why this frame cannot continue the series; empty where it can."""
        if not self.received:
            return ""
        if header.shape != self.shape:
            return "shape changed"
        if not _same(pixel_size_nm, self.pixel_size_nm):
            return "pixel size changed"
        if _turned(header) != self.turned:
            return "scan rotation changed"
        behind = self.last - number
        if behind > LATE_WINDOW or -behind > MAX_GAP + 1:
            return "counter restarted"
        if behind >= 0 and self._newer(header):
            return "counter restarted"
        if behind > 0 and number <= 1 and number not in self.missing:
            return "counter restarted"
        return ""

    def _newer(self, header: FrameHeader) -> bool:
        stamp, message = header.timestamp, header.msg_number
        if stamp is not None and self.last_stamp is not None:
            return stamp > self.last_stamp
        return message is not None and self.last_msg is not None and message > self.last_msg

    def other_detector(self, header: FrameHeader, number: int) -> bool:
        """Whether this is the frame of another detector that counts like the ones seen."""
        known = header.detector is None or not self.detectors or header.detector in self.detectors
        return not known and 0 <= self.last - number <= LATE_WINDOW

    def vouched(self, header: FrameHeader, number: int) -> bool:
        """Whether the number of the message says the same as the number of the frame."""
        if header.frame is None or header.msg_number is None or self.offset is None:
            return False
        return header.msg_number - number == self.offset

    def take(self, message: WireFrame, number: int, lost: int, pixel_size_nm: float | None) -> None:
        """The frame is one of the series, and so many before it are lost."""
        header = message.header
        if not self.received:
            self.first = number - lost
        gap = range(max(self.last + 1, number - LATE_WINDOW), number) if self.received else range(0)
        self.missing = {n for n in self.missing if n >= number - LATE_WINDOW}
        self.missing.update(n for n in gap if n not in self.refused)
        self.refused = {n for n in self.refused if n > number}
        self.last, self.last_stamp, self.lost = number, header.timestamp, self.lost + lost
        if header.msg_number is not None:
            offset = header.msg_number - number
            # A number of a message that alone is out of line is not believed either, until the next one is, too.
            believed = self.offset is None or offset == self.offset or self.last_msg is None
            self.last_msg = header.msg_number if believed else None
            self.offset = offset if believed else self.offset
        self.shape, self.pixel_size_nm, self.turned = header.shape, pixel_size_nm, _turned(header)
        self.detectors.add(header.detector)
        self.received += 1

    def lost_before_first(self, number: int, msg_number: int | None) -> int:
        """Frames between the announcement of the series and its first frame that arrived."""
        if not self.announced:
            return 0  # joined late: what was sent before we listened is not lost
        if self.last_msg is not None and msg_number is not None:
            return max(0, min(msg_number - self.last_msg - 1, number, MAX_GAP))
        # Some count from one, so a first frame of that number lacks nothing.
        return number if 1 < number <= MAX_GAP else 0

    def lost_at_end(self, msg_number: int | None, frames: int | None) -> int | None:
        """Frames that were sent after the newest one and before the end; None where that cannot be known."""
        if msg_number is not None and self.last_msg is not None:
            return msg_number - self.last_msg - 1
        if frames is not None and self.announced:
            return frames + self.first - 1 - self.last
        return None


def same_message(a: WireFrame, b: WireFrame) -> bool:
    """Whether one is the other, received twice."""
    return a.header == b.header and a.image.tobytes() == b.image.tobytes()


def _turned(header: FrameHeader) -> tuple[float | None, ...]:
    return header.rotation_deg, header.flip_x, header.flip_y


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6))
