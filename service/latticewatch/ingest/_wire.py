"""Bytes of one ZeroMQ message in; a checked header and a view of its pixels out.

Every length that a sender states is compared with what it sent, and with the limits, before anything is
allocated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import lz4.block
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from latticewatch.errors import FrameTooLargeError, WireError
from latticewatch.messages import FrameHeader, SeriesEnd, SeriesStart

MAX_HEADER_BYTES = 64 * 1024
MAX_SIDE_PX = 65536
MIN_PIXEL_NM, MAX_PIXEL_NM = 1e-6, 1e6
# Bitshuffle's default block, the smallest that its authors recommend, and one that LZ4 can count in an int.
DEFAULT_BLOCK_BYTES = 8192
MIN_BLOCK_ELEMENTS = 128
MAX_BLOCK_BYTES = 2**26
# EPICS counts seconds from 1990; a number below this (November 2023 in UNIX time) was counted from there.
EPICS_EPOCH_S = 631_152_000
EPICS_BEFORE_S = 1_700_000_000

Model = TypeVar("Model", bound=BaseModel)
Header = TypeVar("Header", SeriesStart, FrameHeader, SeriesEnd)

_KINDS = {"u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}
_DTYPES = {"bool": np.dtype("u1"), "b1": np.dtype("u1")}
for _kind, _sizes in _KINDS.items():
    for _size in _sizes:
        _dtype = np.dtype(f"{_kind}{_size}")
        _DTYPES |= {_dtype.name: _dtype, f"{_kind}{_size}": _dtype}


@dataclass(frozen=True, slots=True, eq=False)
class WireFrame:
    """A frame as it was sent.

    Attributes
    ----------
    header : FrameHeader
        ``shape`` is rows, columns.
    image : ndarray of shape (height, width)
        Read-only; a view of the received buffer where that was not compressed.
    pixel_size_nm : float or None
        From the header's pixel size, else from its field of view along a row.
    """

    header: FrameHeader
    image: NDArray[Any]
    pixel_size_nm: float | None


def decode(
    parts: Sequence[bytes | memoryview], *, max_frame_mib: int = 256
) -> WireFrame | SeriesStart | SeriesEnd:
    """Read one message.

    Parameters
    ----------
    parts : sequence of buffers
        Parts of the message: a JSON header and the pixels, or a header alone that starts or ends a series.
    max_frame_mib : int
        Largest frame that is accepted, decompressed [MiB].

    Returns
    -------
    WireFrame, SeriesStart or SeriesEnd

    Raises
    ------
    WireError
        Whatever is wrong; ``reason`` is one of ``parts``, ``header``, ``htype``, ``dtype``, ``shape``,
        ``size``, ``encoding`` and ``compressed``.

    Notes
    -----
    EPICS areaDetector's ``NDPluginZMQ`` is recognised by its field ``ndattr``: it sends ``htype`` as a list,
    its shape with the fastest axis first, and counts time from 1990.
    """
    if not 1 <= len(parts) <= 2:
        raise WireError(f"message of {len(parts)} parts, expected a header and a buffer", "parts")
    fields = _read_json(parts[0])
    htype = fields.get("htype", "array-1.0")
    if isinstance(htype, list) and len(htype) == 1:
        htype = htype[0]
    if htype in ("header", "series_start", "series_end"):
        if len(parts) == 2 and memoryview(parts[1]).nbytes:
            raise WireError(f"htype {htype!r} with a buffer, expected the header alone", "parts")
        fields["htype"] = htype
        if htype == "series_end":
            return _printable(_validate(SeriesEnd, fields))
        return _printable(_validate(SeriesStart, fields))
    if htype != "array-1.0":
        raise WireError(f"htype {_short(htype)}, expected 'array-1.0', 'header' or 'series_end'", "htype")
    if len(parts) != 2:
        raise WireError("frame header without a buffer, expected two parts", "parts")
    fields["htype"] = htype
    if "ndattr" in fields:
        _from_areadetector(fields)
    header = _printable(_validate(FrameHeader, fields))
    return _decode_frame(header, memoryview(parts[1]).cast("B"), max_frame_mib)


def _read_json(part: bytes | memoryview) -> dict[str, Any]:
    raw = memoryview(part)
    if raw.nbytes > MAX_HEADER_BYTES:
        raise WireError(f"header of {raw.nbytes} bytes, limit {MAX_HEADER_BYTES}", "header")
    try:
        fields = json.loads(str(raw, "utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"header is not JSON: {_short(error)}", "header") from error
    if not isinstance(fields, dict):
        raise WireError(f"header is a JSON {type(fields).__name__}, expected an object", "header")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _from_areadetector(fields: dict[str, Any]) -> None:
    if isinstance(shape := fields.get("shape"), list):
        fields["shape"] = shape[::-1]
    stamp = fields.get("timeStamp")
    if isinstance(stamp, int | float) and 0 < stamp < EPICS_BEFORE_S:
        fields["timeStamp"] = stamp + EPICS_EPOCH_S


def _validate(model: type[Model], fields: dict[str, Any]) -> Model:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "header"
        reason = {"type": "dtype", "dtype": "dtype", "shape": "shape"}.get(name, "header")
        raise WireError(
            f"header field {_short(name)}: {first['msg']} (got {_short(first['input'])})", reason
        ) from error
    except ValueError as error:  # a lone surrogate cannot be encoded, so pydantic cannot say where it is
        raise WireError(f"header holds text that is not Unicode: {_short(error)}", "header") from error


def _printable(header: Header) -> Header:
    # The identifier goes into logs, events and file names.
    if not header.series_id.isprintable():
        raise WireError(f"series_id {_short(header.series_id)} holds control characters", "header")
    return header


def _decode_frame(header: FrameHeader, buffer: memoryview, max_frame_mib: int) -> WireFrame:
    dtype = _numeric(header.dtype)
    shape = header.shape[1:] if len(header.shape) == 3 and header.shape[0] == 1 else header.shape
    if len(shape) != 2:
        raise WireError(f"shape {_short(list(header.shape))}, expected (rows, columns)", "shape")
    if max(shape) > MAX_SIDE_PX:
        raise WireError(f"shape {_short(list(shape))}, limit {MAX_SIDE_PX} pixels a side", "shape")
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > max_frame_mib * 2**20:
        raise FrameTooLargeError(
            f"frame of {nbytes / 2**20:.1f} MiB, limit {max_frame_mib}; raise ingest.max_frame_mib"
        )
    unpack = _ENCODINGS.get(header.encoding.lower())
    if unpack is None:
        raise WireError(
            f"encoding {_short(header.encoding)}, expected one of {sorted(_ENCODINGS)}", "encoding"
        )
    image = np.frombuffer(unpack(buffer, nbytes, dtype), dtype).reshape(shape)
    if not image.flags.aligned:  # ZeroMQ packs small messages back to back
        image = image.copy()
    image.flags.writeable = False
    return WireFrame(header.model_copy(update={"shape": shape}), image, _pixel_size_nm(header, shape[1]))


def _pixel_size_nm(header: FrameHeader, width: int) -> float | None:
    size = header.pixel_size_nm
    if size is None and header.fov_nm is not None:
        size = header.fov_nm / width
    if size is not None and not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:
        raise WireError(f"pixel size {size:g} nm, expected {MIN_PIXEL_NM:g} to {MAX_PIXEL_NM:g}", "header")
    return size


def _numeric(name: str) -> np.dtype[Any]:
    """The dtype of that name; anything but plain numbers is refused, objects above all."""
    order = name[:1] if name[:1] in ("<", ">", "=", "|") else ""
    dtype = _DTYPES.get(name[len(order) :].lower())
    if dtype is None:
        raise WireError(f"dtype {_short(name)}, expected integers of 8-64 or floats of 16-64 bits", "dtype")
    if order == ">":
        return dtype.newbyteorder(">")
    return dtype.newbyteorder("<") if order == "<" else dtype


def _raw(buffer: memoryview, nbytes: int, _dtype: np.dtype[Any]) -> memoryview:
    if buffer.nbytes != nbytes:
        raise WireError(f"buffer of {buffer.nbytes} bytes, shape and dtype need {nbytes}", "size")
    return buffer


def _lz4(buffer: memoryview, nbytes: int, _dtype: np.dtype[Any]) -> bytes:
    """One LZ4 block, or one behind its size (u32, little endian) as python-lz4 writes it by default."""
    try:
        return _lz4_block(buffer, nbytes)
    except WireError:
        if int.from_bytes(buffer[:4], "little") != nbytes:
            raise
    return _lz4_block(buffer[4:], nbytes)


def _lz4_block(block: memoryview, nbytes: int) -> bytes:
    # LZ4 cannot expand by more than 255, so a short block cannot ask for a large allocation.
    if block.nbytes * 255 < nbytes:
        raise WireError(f"LZ4 block of {block.nbytes} bytes cannot hold {nbytes}", "compressed")
    try:
        unpacked = lz4.block.decompress(block, uncompressed_size=nbytes)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
        raise WireError(f"LZ4 block of {block.nbytes} bytes: {_short(error)}", "compressed") from error
    if len(unpacked) != nbytes:
        raise WireError(f"LZ4 block holds {len(unpacked)} bytes, expected {nbytes}", "compressed")
    return unpacked


def _bslz4(buffer: memoryview, nbytes: int, dtype: np.dtype[Any]) -> memoryview:
    """Bitshuffled LZ4 blocks, each behind its length (u32, big endian).

    HDF5 and Dectris put the total size (u64) and the size of a block (u32) in front, areaDetector does not.
    The two cannot be confused: without them the first number is the length of a block, which is not zero.
    """
    try:
        import bitshuffle
    except ModuleNotFoundError as error:
        # it is published for some platforms and versions of Python only
        raise WireError(
            "bslz4 needs the package bitshuffle, which is not installed here", "encoding"
        ) from error
    size = dtype.itemsize
    n_elements = nbytes // size
    shuffled = n_elements // 8 * 8  # what is left over is not compressed
    start, block = 0, DEFAULT_BLOCK_BYTES // size
    stated = int.from_bytes(buffer[:8], "big") if buffer.nbytes >= 12 else None
    if stated == nbytes and (shuffled or buffer.nbytes > nbytes):
        start, block = 12, int.from_bytes(buffer[8:12], "big") // size or block
        if block % 8 or not MIN_BLOCK_ELEMENTS <= block <= MAX_BLOCK_BYTES // size:
            raise WireError(
                f"bslz4 blocks of {block} elements, expected {MIN_BLOCK_ELEMENTS} to {MAX_BLOCK_BYTES // size}",
                "compressed",
            )
    if (buffer.nbytes - start) * 255 < nbytes:
        raise WireError(f"{buffer.nbytes} bytes of bslz4 cannot hold {nbytes}", "compressed")
    end = _end_of_blocks(buffer, start, shuffled, block, size) + (n_elements - shuffled) * size
    # areaDetector sends the whole of its buffer, so there may be padding up to the size of the raw frame.
    if buffer.nbytes != end and not end < buffer.nbytes == nbytes:
        raise WireError(f"bslz4 of {buffer.nbytes} bytes, its blocks end after {end}", "compressed")
    try:
        # Whole numbers of the same size: the shuffle moves bits and knows neither floats nor byte order.
        packed = np.frombuffer(buffer[start:end], np.uint8)
        return bitshuffle.decompress_lz4(packed, (n_elements,), np.dtype(f"u{size}"), block).data
    except (RuntimeError, ValueError) as error:
        raise WireError(f"bslz4 of {buffer.nbytes} bytes: {_short(error)}", "compressed") from error


def _end_of_blocks(buffer: memoryview, start: int, shuffled: int, block: int, size: int) -> int:
    """Where the last block ends; bitshuffle trusts the lengths of the blocks, so they are checked here."""
    for first in range(0, shuffled, block):
        unpacked = min(block, shuffled - first) * size
        length = int.from_bytes(buffer[start : start + 4], "big")
        start += 4
        if length > min(buffer.nbytes - start, unpacked + unpacked // 255 + 16):
            left = max(buffer.nbytes - start, 0)
            raise WireError(f"bslz4 block of {length} bytes for {unpacked}, {left} are left", "compressed")
        start += length
    return start


_ENCODINGS: dict[str, Callable[[memoryview, int, np.dtype[Any]], bytes | memoryview]] = {
    "": _raw,
    "none": _raw,
    "lz4": _lz4,
    "bslz4": _bslz4,
}


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, Exception) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
