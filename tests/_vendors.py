"""What detectors and control systems send, written as their documentation says."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime

import cbor2
import lz4.block
import numpy as np
import pytest

DATE = datetime(2026, 3, 1, 10, 0, 0, tzinfo=UTC)
TAGS = {"uint8": 64, "uint16": 69, "uint32": 70, "float32": 85}


def hdf5_blocks(image: np.ndarray, algorithm: str) -> bytes:
    """Compressed as HDF5's filters do it: sizes in front, then blocks."""
    raw, size = image.tobytes(), image.dtype.itemsize
    if algorithm == "bslz4":
        bitshuffle = pytest.importorskip("bitshuffle", reason="published for some platforms only")
        block = 8192 // size
        packed = bitshuffle.compress_lz4(np.frombuffer(raw, f"u{size}"), block).tobytes()
        return struct.pack(">QI", len(raw), block * size) + packed
    block, out = 1 << 12, struct.pack(">QI", len(raw), 1 << 12)
    for start in range(0, len(raw), block):
        piece = raw[start : start + block]
        packed = lz4.block.compress(piece, store_size=False)
        packed = packed if len(packed) < len(piece) else piece
        out += struct.pack(">I", len(packed)) + packed
    return out


def dectris1_start(series: int, n_images: int, detail: str = "basic") -> list[bytes]:
    head = {"header_detail": detail, "htype": "dheader-1.0", "series": series}
    config = {"nimages": n_images, "ntrigger": 1, "bit_depth_image": 16}
    return [json.dumps(head).encode(), *([json.dumps(config).encode()] if detail != "none" else [])]


def dectris1_image(series: int, frame: int, image: np.ndarray, encoding: str = "<") -> list[bytes]:
    blob = image.tobytes()
    if encoding == "lz4<":
        blob = lz4.block.compress(blob, store_size=False)
    elif encoding.startswith("bs"):
        blob = hdf5_blocks(image, "bslz4")
    head = {"frame": frame, "hash": "0", "htype": "dimage-1.0", "series": series}
    data = {
        "encoding": encoding,
        "htype": "dimage_d-1.0",
        "shape": list(image.shape[::-1]),
        "size": len(blob),
        "type": image.dtype.name,
    }
    times = {"htype": "dconfig-1.0", "real_time": 1000, "start_time": 1, "stop_time": 2}
    return [json.dumps(head).encode(), json.dumps(data).encode(), blob, json.dumps(times).encode()]


def dectris1_end(series: int) -> list[bytes]:
    return [json.dumps({"htype": "dseries_end-1.0", "series": series}).encode()]


def stream2_start(series: int, n_images: int, channels: list[str]) -> list[bytes]:
    return [
        cbor2.dumps(
            cbor2.CBORTag(
                55799,
                {
                    "type": "start",
                    "series_id": series,
                    "series_unique_id": "01",
                    "number_of_images": n_images,
                    "channels": channels,
                    "arm_date": DATE,
                    "threshold_energy": dict.fromkeys(channels, 10000.0),
                },
            )
        )
    ]


def stream2_image(
    series: int, number: int, data: dict[str, np.ndarray], compression: str | None = None
) -> list[bytes]:
    arrays = {}
    for name, image in data.items():
        content = image.tobytes()
        if compression is not None:
            modifier = image.dtype.itemsize if compression == "bslz4" else None
            content = cbor2.CBORTag(56500, [compression, modifier, hdf5_blocks(image, compression)])
        typed = cbor2.CBORTag(TAGS[image.dtype.name], content)
        arrays[name] = cbor2.CBORTag(40, [list(image.shape), typed])
    message = {
        "type": "image",
        "series_id": series,
        "series_unique_id": "01",
        "image_id": number,
        "data": arrays,
        "series_date": DATE,
        "start_time": [number * 1000, 1_000_000],
    }
    return [cbor2.dumps(cbor2.CBORTag(55799, message))]


def stream2_end(series: int) -> list[bytes]:
    return [cbor2.dumps({"type": "end", "series_id": series, "series_unique_id": "01"})]


def merlin(payload: bytes) -> bytes:
    """The comma behind the digits counts."""
    return b"MPX,%010d," % (len(payload) + 1) + payload


def merlin_start(n_frames: int) -> bytes:
    text = "HDR,\nTime and Date Stamp (day, mnth, yr, hr, min, s):\t01/03/2026 10:00:00\r\n"
    text += f"Frames in Acquisition (Number):\t{n_frames}\r\nEnd\t"
    return merlin(text.encode().ljust(2044))


def merlin_image(number: int, image: np.ndarray) -> bytes:
    """A frame, numbered from one."""
    depth = {1: "U08", 2: "U16", 4: "U32"}[image.dtype.itemsize]
    head = f"MQ1,{number:06d},00384,01,{image.shape[1]:04d},{image.shape[0]:04d},{depth},   1x1,01,"
    head += (
        "2026-03-01 10:00:00.000000,0.001000,0,0,0,1.2E+2,MQ1A,2026-03-01T10:00:00.000000000Z,1000000ns,12,"
    )
    return merlin(head.encode().ljust(384) + image.astype(image.dtype.newbyteorder(">")).tobytes())


def diffraction(value: int, shape: tuple[int, int] = (24, 32), dtype: str = "uint16") -> np.ndarray:
    """A bright beam in the middle, and ``value`` in each pixel between 5 and 9 px from it."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    radius = np.hypot(rows - (shape[0] - 1) / 2, cols - (shape[1] - 1) / 2)
    image = np.where(radius < 4, 200, 0)
    image[(radius >= 5) & (radius < 9)] = value
    return image.astype(dtype)


def ring_pixels(shape: tuple[int, int] = (24, 32)) -> int:
    """Pixels between 5 and 9 px from the middle."""
    return int((diffraction(1, shape) == 1).sum())
