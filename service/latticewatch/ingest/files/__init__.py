"""Files of microscopes in; their images, with axes, pixel size and times, out."""

from latticewatch.ingest.files._calibration import Scale, scale_of
from latticewatch.ingest.files._series import FileSeries, read_all, read_frames
from latticewatch.ingest.files._signal import Signal

__all__ = ["FileSeries", "Scale", "Signal", "read_all", "read_frames", "scale_of"]
