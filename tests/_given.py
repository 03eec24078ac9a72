"""A source of frames for an engine, without sockets."""

from __future__ import annotations

import threading

from latticewatch.messages import FrameCounts


class Given:
    """A source that gives what it was given, and keeps account."""

    endpoints = ()
    last_frame_age_s = 0.0

    def __init__(self, items):
        self.items = list(items)
        self.finished = []
        self.held = []
        self.empty = threading.Event()

    def start(self):
        pass

    def close(self):
        pass

    def get(self, timeout):
        if self.items:
            return self.items.pop(0)
        self.empty.wait(min(timeout, 0.02))
        return None

    def done(self, frame):
        self.finished.append((frame.ordinal, "done"))

    def dropped(self, frame, reason):
        self.finished.append((frame.ordinal, reason))

    def hold(self, holding):
        self.held.append(holding)

    def counts(self):
        return FrameCounts()
