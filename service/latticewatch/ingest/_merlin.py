"""Quantum Detectors' Merlin: the data port of its TCP interface, ``MPX,<ten digits>,<header or frame>``.

Sources: the Merlin manual's description of the acquisition and frame headers, and what published receivers read: the
length counts the comma behind it, frames are numbered from one, pixels are big-endian.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from latticewatch.config import VirtualDetector
from latticewatch.errors import WireError
from latticewatch.ingest._encodings import image_of, short
from latticewatch.ingest._scan import AnnularDetector, ScanImage
from latticewatch.ingest._wire import Message, WireFrame
from latticewatch.messages import FrameHeader, SeriesEnd, SeriesStart

PREFIX_BYTES = 15
DTYPES = {"U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_PREFIX = re.compile(rb"MPX,(\d{10}),")


class MerlinStream:
    """Bytes of a TCP connection in; payloads out.

    Parameters
    ----------
    max_bytes : int
        A payload that says it is longer ends the connection.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Take what has arrived, and give each payload that is whole.

        Raises
        ------
        WireError
            The bytes are no Merlin stream, or a payload is too long; the connection has to be made anew.
        """
        self._buffer += data
        while len(self._buffer) >= PREFIX_BYTES:
            match = _PREFIX.match(self._buffer)
            if match is None:
                raise WireError(
                    f"{short(bytes(self._buffer[:16]))} is no Merlin header, expected MPX,…", "header"
                )
            # the comma behind the digits is counted
            length = int(match[1]) - 1
            if length > self._max_bytes:
                raise WireError(f"Merlin message of {length} bytes, limit {self._max_bytes}", "size")
            if len(self._buffer) < PREFIX_BYTES + length:
                return
            payload = bytes(self._buffer[PREFIX_BYTES : PREFIX_BYTES + length])
            del self._buffer[: PREFIX_BYTES + length]
            yield memoryview(payload)


class Merlin:
    """Payloads of one detector in; frames and series out.

    Parameters
    ----------
    detector : VirtualDetector or None
        Makes pictures of the scan out of diffraction frames.
    images_are_frames : bool
        Without a virtual detector, take each image for a frame.
    max_frame_mib : int
    """

    def __init__(self, detector: VirtualDetector | None, images_are_frames: bool, max_frame_mib: int) -> None:
        self._settings, self._images_are_frames = detector, images_are_frames
        self._max_frame_mib = max_frame_mib
        self._series, self._n_series = "", 0
        self._frames: int | None = None
        self._scan: ScanImage | None = None
        self._detector: AnnularDetector | None = None

    def decode(self, payload: memoryview) -> Iterator[Message | WireError]:
        """Read one payload; a header of an acquisition starts a series, its last frame ends it."""
        if bytes(payload[:4]) == b"HDR,":
            yield from self._begin(bytes(payload).decode("latin1"))
            return
        if bytes(payload[:4]) != b"MQ1,":
            raise WireError(f"Merlin payload {short(bytes(payload[:16]))}, expected HDR or MQ1", "htype")
        fields = bytes(payload[:128]).decode("latin1").split(",")
        try:
            number, size, width, height = (int(fields[i]) for i in (1, 2, 4, 5))
            pixels_are = fields[6]
        except (IndexError, ValueError) as error:
            raise WireError(f"Merlin frame header {short(fields[:7])} cannot be read", "header") from error
        dtype = DTYPES.get(pixels_are)
        if dtype is None:
            raise WireError(
                f"Merlin pixels {short(pixels_are)}, expected U08, U16 or U32; do not send raw (R64)", "dtype"
            )
        pixels = image_of(payload[size:], dtype, (height, width), "", self._max_frame_mib)
        yield from self._image(number - 1, pixels)
        if self._frames is not None and number == self._frames:
            yield from self._end()

    def _begin(self, text: str) -> Iterator[Message | WireError]:
        yield from self._end()
        self._n_series += 1
        stamp = re.search(r"Time and Date Stamp[^:]*:\s*([^\r\n\t]+)", text)
        self._series = stamp[1].strip()[:200] if stamp else f"merlin {self._n_series}"
        frames = re.search(r"Frames in Acquisition[^:]*:\s*(\d+)", text)
        self._frames = int(frames[1]) if frames else None
        yield SeriesStart(series_id=self._series)

    def _end(self) -> Iterator[Message | WireError]:
        if self._scan is not None:
            yield from self._scan.finish()
        self._scan = None
        if self._series:
            yield SeriesEnd(series_id=self._series)
        self._series, self._frames = "", None

    def _image(self, number: int, pixels: Any) -> Iterator[Message | WireError]:
        if self._settings is None:
            if not self._images_are_frames:
                raise WireError(
                    f"image {number} of a Merlin detector, expected a scan: give ingest.virtual_detector with the "
                    "shape of the scan, or set ingest.images_are_frames if the images are no diffraction",
                    "diffraction",
                )
            header = FrameHeader(
                type=pixels.dtype.name,  # type: ignore[call-arg]
                shape=pixels.shape,
                frame=max(0, number),
                series_id=self._series,
                detector="Merlin",
            )
            yield WireFrame(header, pixels, None)
            return
        if self._detector is None or self._detector.shape != pixels.shape:
            self._detector = AnnularDetector(self._settings, pixels.shape)
        if self._scan is None:
            self._scan = ScanImage(self._settings, self._series, "Merlin")
        yield from self._scan.put(max(0, number), self._detector.sum(pixels))
