"""From the bytes of a buffer to an image: dtypes and compressions, each checked before anything is allocated."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import lz4.block
import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import FrameTooLargeError, WireError

MAX_SIDE_PX = 65536
# Bitshuffle's default block, the smallest that its authors recommend, and one that LZ4 can count in an int.
DEFAULT_BLOCK_BYTES = 8192
MIN_BLOCK_ELEMENTS = 128
MAX_BLOCK_BYTES = 2**26

_KINDS = {"u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}
_DTYPES = {"bool": np.dtype("u1"), "b1": np.dtype("u1")}
for _kind, _sizes in _KINDS.items():
    for _size in _sizes:
        _dtype = np.dtype(f"{_kind}{_size}")
        _DTYPES |= {_dtype.name: _dtype, f"{_kind}{_size}": _dtype}


def image_of(
    buffer: memoryview, dtype: str, shape: tuple[int, ...], encoding: str, max_frame_mib: int
) -> NDArray[Any]:
    """The image that a buffer holds.

    Parameters
    ----------
    buffer : memoryview of bytes
    dtype : str
        Name of a numeric dtype, with or without byte order.
    shape : tuple of int
        Rows, columns; a leading axis of length one is dropped.
    encoding : str
        One of ``""``, ``none``, ``lz4``, ``bslz4`` and ``zlib``.
    max_frame_mib : int
        Largest image that is accepted, decompressed [MiB].

    Returns
    -------
    ndarray of shape (height, width)
        Read-only; a view of the buffer where that was not compressed.

    Raises
    ------
    WireError
        With the reason ``dtype``, ``shape``, ``size``, ``encoding`` or ``compressed``.
    """
    numeric = _numeric(dtype)
    rows_cols = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(rows_cols) != 2:
        raise WireError(f"shape {short(list(shape))}, expected (rows, columns)", "shape")
    if max(rows_cols) > MAX_SIDE_PX or min(rows_cols) < 1:
        raise WireError(f"shape {short(list(rows_cols))}, expected 1 to {MAX_SIDE_PX} pixels a side", "shape")
    nbytes = math.prod(rows_cols) * numeric.itemsize
    if nbytes > max_frame_mib * 2**20:
        raise FrameTooLargeError(
            f"frame of {nbytes / 2**20:.1f} MiB, limit {max_frame_mib}; raise ingest.max_frame_mib"
        )
    unpack = _ENCODINGS.get(encoding.lower())
    if unpack is None:
        raise WireError(f"encoding {short(encoding)}, expected one of {sorted(_ENCODINGS)}", "encoding")
    image = np.frombuffer(unpack(buffer, nbytes, numeric), numeric).reshape(rows_cols)
    if not image.flags.aligned:  # ZeroMQ packs small messages back to back
        image = image.copy()
    image.flags.writeable = False
    return image


def _numeric(name: str) -> np.dtype[Any]:
    """The dtype of that name; anything but plain numbers is refused, objects above all."""
    order = name[:1] if name[:1] in ("<", ">", "=", "|") else ""
    dtype = _DTYPES.get(name[len(order) :].lower())
    if dtype is None:
        raise WireError(f"dtype {short(name)}, expected integers of 8-64 or floats of 16-64 bits", "dtype")
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
        raise WireError(f"LZ4 block of {block.nbytes} bytes: {short(error)}", "compressed") from error
    if len(unpacked) != nbytes:
        raise WireError(f"LZ4 block holds {len(unpacked)} bytes, expected {nbytes}", "compressed")
    return unpacked


def _lz4_blocks(buffer: memoryview, nbytes: int, _dtype: np.dtype[Any]) -> bytes:
    """LZ4 blocks as HDF5 frames them: total size (u64) and size of a block (u32), then each behind its length (u32)."""
    total, block = int.from_bytes(buffer[:8], "big"), int.from_bytes(buffer[8:12], "big")
    if total != nbytes or not 0 < block <= MAX_BLOCK_BYTES:
        raise WireError(f"LZ4 of {total} bytes in blocks of {block}, expected {nbytes} bytes", "compressed")
    start, out = 12, []
    for first in range(0, nbytes, block):
        unpacked = min(block, nbytes - first)
        length = int.from_bytes(buffer[start : start + 4], "big")
        start += 4
        if length > buffer.nbytes - start:
            raise WireError(f"LZ4 block of {length} bytes, {buffer.nbytes - start} are left", "compressed")
        packed = buffer[start : start + length]
        out.append(bytes(packed) if length == unpacked else _lz4_block(packed, unpacked))
        start += length
    return b"".join(out)


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
        raise WireError(f"bslz4 of {buffer.nbytes} bytes: {short(error)}", "compressed") from error


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


def _zlib(buffer: memoryview, nbytes: int, _dtype: np.dtype[Any]) -> bytes:
    # Deflate cannot expand by more than 1032, so a short buffer cannot ask for a large allocation.
    if buffer.nbytes * 1032 < nbytes:
        raise WireError(f"{buffer.nbytes} bytes of zlib cannot hold {nbytes}", "compressed")
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(buffer, nbytes + 1)
    except zlib.error as error:
        raise WireError(f"zlib of {buffer.nbytes} bytes: {short(error)}", "compressed") from error
    if len(unpacked) != nbytes or not stream.eof:
        raise WireError(
            f"zlib holds {'more' if len(unpacked) > nbytes else 'less'} than {nbytes} bytes", "compressed"
        )
    return unpacked


_ENCODINGS: dict[str, Callable[[memoryview, int, np.dtype[Any]], bytes | memoryview]] = {
    "": _raw,
    "none": _raw,
    "lz4": _lz4,
    "bslz4": _bslz4,
    "zlib": _zlib,
    "lz4 in blocks": _lz4_blocks,
}


def short(value: object) -> str:
    """A value as text that fits into one line of a log."""
    text = repr(value) if not isinstance(value, Exception) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
