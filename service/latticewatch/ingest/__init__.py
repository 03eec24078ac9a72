"""ZeroMQ messages and microscope files in; `Frame` objects out, every one of them accounted for."""

from latticewatch.ingest._frame import Frame
from latticewatch.ingest._items import Gap, Item, SeriesEnded, SeriesStarted
from latticewatch.ingest._receiver import Receiver

__all__ = ["Frame", "Gap", "Item", "Receiver", "SeriesEnded", "SeriesStarted"]
