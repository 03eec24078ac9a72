"""DECTRIS detectors: the stream interface of SIMPLON, version 1 (JSON and binary parts) and version 2 (CBOR).

Sources: DECTRIS' documentation of Stream V2, of the CBOR tag 56500 for compressed byte strings, and RFC 8746
for typed arrays; for version 1 the SIMPLON API reference, and what published receivers expect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from latticewatch.config import VirtualDetector
from latticewatch.errors import WireError
from latticewatch.ingest._encodings import image_of, short
from latticewatch.ingest._scan import AnnularDetector, ScanImage
from latticewatch.ingest._wire import Message, WireFrame
from latticewatch.messages import FrameHeader, SeriesEnd, SeriesStart

# RFC 8746, table 2: the tags of typed arrays.
TYPED = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
MULTI_DIMENSIONAL, COMPRESSED = 40, 56500
SELF_DESCRIBED = b"\xd9\xd9\xf7"
MAX_CHANNELS = 16
REMEDY = (
    "give ingest.virtual_detector with the shape of the scan, or set ingest.images_are_frames "
    "if the images are no diffraction"
)


def is_stream2(parts: Sequence[memoryview]) -> bool:
    """Whether a message is a CBOR map, with or without the tag that says so."""
    if len(parts) != 1 or not parts[0].nbytes:
        return False
    first = bytes(parts[0][:4])
    return first.startswith(SELF_DESCRIBED) or first[0] >> 5 == 5


class Dectris:
    """Messages of either version of one detector in; frames and series out.

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
        self._series: str | None = None
        self._scans: dict[str, ScanImage] = {}
        self._detectors: dict[str, AnnularDetector] = {}

    def decode(self, parts: Sequence[memoryview]) -> Iterator[Message | WireError]:
        """Read one message.

        Yields
        ------
        WireFrame, SeriesStart, SeriesEnd or WireError
            The last for a picture of the scan of which too much is lost.

        Raises
        ------
        WireError
            The message cannot be read.
        """
        if is_stream2(parts):
            yield from self._stream2(parts[0])
        else:
            yield from self._stream1(parts)

    # Version 1

    def _stream1(self, parts: Sequence[memoryview]) -> Iterator[Message | WireError]:
        header = _json(parts[0])
        series, kind = str(header.get("series", ""))[:256], header.get("htype")
        if kind == "dheader-1.0":
            config = _json(parts[1]) if len(parts) > 1 and header.get("header_detail") != "none" else {}
            yield from self._begin(
                series, _number(config.get("nimages"), 0) * _number(config.get("ntrigger"), 1)
            )
        elif kind == "dseries_end-1.0":
            yield from self._end(series)
        elif kind == "dimage-1.0":
            if len(parts) < 3:
                raise WireError(f"DECTRIS image of {len(parts)} parts, expected three or more", "parts")
            image, encoding = _json(parts[1]), None
            shape, dtype = image.get("shape"), image.get("type")
            if not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
                raise WireError(f"DECTRIS image of shape {short(shape)}, expected [x, y]", "shape")
            encoding = _encoding(str(image.get("encoding", "")))
            # fastest axis first; a third one is one channel
            pixels = image_of(parts[2], str(dtype), tuple(shape[::-1]), encoding, self._max_frame_mib)
            yield from self._image(series, _number(header.get("frame"), None), "", pixels, None)
        else:
            raise WireError(f"htype {short(kind)} of DECTRIS' stream is not known", "htype")

    # Version 2

    def _stream2(self, part: memoryview) -> Iterator[Message | WireError]:
        try:
            data = bytes(part)
            message = cbor2.loads(data.removeprefix(SELF_DESCRIBED), tag_hook=_typed)
        except WireError:
            raise
        except Exception as error:
            raise WireError(f"not CBOR: {short(error)}", "header") from error
        if not isinstance(message, Mapping):
            raise WireError(f"CBOR {type(message).__name__}, expected a map", "header")
        series, kind = str(message.get("series_id", ""))[:256], message.get("type")
        if kind == "start":
            yield from self._begin(series, _number(message.get("number_of_images"), 0))
        elif kind == "end":
            yield from self._end(series)
        elif kind == "image":
            data = message.get("data")
            if not isinstance(data, Mapping) or not 0 < len(data) <= MAX_CHANNELS:
                raise WireError(f"image with data {short(data)}, expected channels", "header")
            stamp = _started(message)
            for channel, array in data.items():
                if not isinstance(array, _Array):
                    raise WireError(f"channel {short(channel)} holds no array", "dtype")
                pixels = image_of(array.data, array.dtype, array.shape, array.encoding, self._max_frame_mib)
                number = _number(message.get("image_id"), None)
                yield from self._image(series, number, str(channel)[:64], pixels, stamp)
        else:
            raise WireError(f"message of type {short(kind)}, expected start, image or end", "htype")

    # Both

    def _begin(self, series: str, n_images: int) -> Iterator[Message | WireError]:
        yield from self._finish()
        self._series = series
        frames = n_images or None
        if self._settings is not None and frames is not None:
            frames = -(-frames // (self._settings.scan[0] * self._settings.scan[1]))
        yield SeriesStart(series_id=series, frames=frames)

    def _end(self, series: str) -> Iterator[Message | WireError]:
        yield from self._finish()
        yield SeriesEnd(series_id=series)

    def _finish(self) -> Iterator[Message | WireError]:
        for scan in self._scans.values():
            yield from scan.finish()
        self._scans.clear()

    def _image(
        self, series: str, number: int | None, channel: str, pixels: NDArray[Any], stamp: float | None
    ) -> Iterator[Message | WireError]:
        name = f"DECTRIS {channel}".strip()
        if self._settings is None:
            if not self._images_are_frames:
                raise WireError(
                    f"image {number} of a DECTRIS detector, expected a scan: {REMEDY}", "diffraction"
                )
            header = FrameHeader(
                type=pixels.dtype.name,  # type: ignore[call-arg]
                shape=pixels.shape,
                frame=number,
                series_id=series,
                detector=name,
                timestamp=stamp,
            )
            yield WireFrame(header, pixels, None)
            return
        if number is None:
            raise WireError("image without a number cannot be put into the scan", "header")
        if series != self._series:
            yield from self._finish()
            self._series = series
        detector = self._detectors.get(channel)
        if detector is None or detector.shape != pixels.shape:
            detector = self._detectors[channel] = AnnularDetector(self._settings, pixels.shape)  # type: ignore[arg-type]
        if channel not in self._scans:
            self._scans[channel] = ScanImage(self._settings, series, name, timestamp=stamp)
        yield from self._scans[channel].put(number, detector.sum(pixels))


class _Array:
    """A typed array that is still packed."""

    def __init__(self, dtype: str, data: memoryview, encoding: str, shape: tuple[int, ...] = ()) -> None:
        self.dtype, self.data, self.encoding, self.shape = dtype, data, encoding, shape


def _typed(*args: Any) -> Any:
    # the tag comes first since cbor2 6, and second before
    tag = next(one for one in args if isinstance(one, cbor2.CBORTag))
    value = tag.value
    if tag.tag in TYPED:
        if isinstance(value, _Array):
            return _Array(TYPED[tag.tag], value.data, value.encoding)
        if isinstance(value, bytes):
            return _Array(TYPED[tag.tag], memoryview(value), "")
    elif (
        tag.tag == COMPRESSED
        and isinstance(value, (list, tuple))
        and len(value) == 3
        and isinstance(value[2], bytes)
    ):
        encoding = {"bslz4": "bslz4", "lz4": "lz4 in blocks"}.get(value[0])
        if encoding is None:
            raise WireError(f"compression {short(value[0])}, expected bslz4 or lz4", "encoding")
        return _Array("", memoryview(value[2]), encoding)
    elif tag.tag == MULTI_DIMENSIONAL and isinstance(value, (list, tuple)) and len(value) == 2:
        dims, array = value
        if isinstance(array, _Array) and all(isinstance(n, int) for n in dims):
            return _Array(array.dtype, array.data, array.encoding, tuple(dims))
    return tag


def _json(part: memoryview) -> dict[str, Any]:
    try:
        fields = json.loads(bytes(part))
    except (ValueError, RecursionError) as error:
        raise WireError(f"part of a DECTRIS message is not JSON: {short(error)}", "header") from error
    if not isinstance(fields, dict):
        raise WireError(f"part of a DECTRIS message is a JSON {type(fields).__name__}", "header")
    return fields


def _encoding(text: str) -> str:
    """``bs16-lz4<``, ``lz4<`` and ``<`` in our words; a big-endian detector has not been seen."""
    plain = text.rstrip("<")
    return "bslz4" if plain.startswith("bs") and plain.endswith("lz4") else plain


def _number(value: object, otherwise: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _started(message: Mapping[str, Any]) -> float | None:
    """When the image was taken: the date of the series and a rational number of seconds."""
    date, start = message.get("series_date"), message.get("start_time")
    if not isinstance(date, datetime):
        return None
    if (
        isinstance(start, (list, tuple))
        and len(start) == 2
        and all(isinstance(n, int) for n in start)
        and start[1]
    ):
        return date.timestamp() + float(np.float64(start[0]) / np.float64(start[1]))
    return date.timestamp()
