"""ZeroMQ messages and microscope files in; `Frame` objects out, every one of them accounted for."""

from latticewatch.ingest._frame import Frame

__all__ = ["Frame"]
