"""Files of microscopes in; their images, with axes, pixel size and times, out."""

from latticewatch.ingest.files._calibration import Scale, scale_of
from latticewatch.ingest.files._series import FileSeries, read_all, read_frames
from latticewatch.ingest.files._signal import Signal
from latticewatch.ingest.files._trial import check, refusals

__all__ = ["FileSeries", "Scale", "Signal", "check", "read_all", "read_frames", "refusals", "scale_of"]
