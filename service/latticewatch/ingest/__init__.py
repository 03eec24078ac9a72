"""ZeroMQ messages and microscope files in; `Frame` objects out, every one of them accounted for."""

from latticewatch.ingest._doctor import Diagnosis, Heard, examine
from latticewatch.ingest._frame import Frame
from latticewatch.ingest._items import Found, Gap, Item, Partial, SeriesEnded, SeriesStarted
from latticewatch.ingest._receiver import Receiver
from latticewatch.ingest._replay import Replayer
from latticewatch.ingest.files import FileSeries, read_frames
from latticewatch.ingest.files.recording import Recording, is_recording

__all__ = [
    "Diagnosis",
    "FileSeries",
    "Found",
    "Frame",
    "Gap",
    "Heard",
    "Item",
    "Partial",
    "Receiver",
    "Recording",
    "Replayer",
    "SeriesEnded",
    "SeriesStarted",
    "examine",
    "is_recording",
    "read_frames",
]
