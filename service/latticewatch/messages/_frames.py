"""Frames on the wire: a JSON header and the raw C-order buffer, as two parts of one ZeroMQ message.

The names are those of EPICS areaDetector's ``array-1.0``, so an ``NDPluginZMQ`` is understood as it is.
"""

from __future__ import annotations

import json
import zlib
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, Field, FiniteFloat

from latticewatch.messages._base import Read

Dimension = Annotated[int, Field(ge=1)]


class SeriesStart(Read):
    """Announces a series; every field but ``htype`` is optional."""

    htype: Literal["header", "series_start"] = "header"
    series_id: str = Field(default="", max_length=256)
    msg_number: int | None = Field(default=None, ge=0)
    frames: int | None = Field(default=None, ge=0, description="Planned number of frames, if known.")


class FrameHeader(Read):
    """Part 0 of a frame message."""

    htype: Literal["array-1.0"] = "array-1.0"
    dtype: str = Field(
        validation_alias=AliasChoices("type", "dtype"),
        serialization_alias="type",
        max_length=32,
        description="Numeric numpy dtype of the buffer.",
    )
    shape: tuple[Dimension, ...] = Field(
        min_length=2, max_length=3, description="Rows, columns; a leading axis of length one is dropped."
    )
    frame: int | None = Field(default=None, ge=0, description="Number of the frame in its series.")
    series_id: str = Field(default="", max_length=256)
    msg_number: int | None = Field(default=None, ge=0, description="Number of the message in its series.")
    timestamp: FiniteFloat | None = Field(
        default=None,
        validation_alias=AliasChoices("timeStamp", "timestamp"),
        serialization_alias="timeStamp",
        description="Time of acquisition, seconds since 1970 UTC.",
    )
    encoding: str = Field(default="", validation_alias=AliasChoices("encoding", "compression"), max_length=32)
    pixel_size_nm: FiniteFloat | None = Field(default=None, gt=0)
    fov_nm: FiniteFloat | None = Field(default=None, gt=0)
    rotation_deg: FiniteFloat | None = Field(
        default=None, description="Rotation of the scan, see `Calibration`."
    )
    flip_x: bool | None = Field(default=None, description="Columns count up against x of the stage.")
    flip_y: bool | None = Field(default=None, description="Rows count up against y of the stage.")
    calibration_id: str | None = Field(default=None, max_length=128)
    dwell_us: FiniteFloat | None = Field(default=None, gt=0)
    detector: str | None = Field(default=None, max_length=256)
    stage_nm: tuple[FiniteFloat, FiniteFloat] | None = Field(default=None, description="Stage position x, y.")
    dose_e_per_a2: FiniteFloat | None = Field(
        default=None, gt=0, description="Electrons per square angstrom that this frame costs the specimen."
    )
    partial: bool = Field(default=False, description="Still being scanned: shown, and not analysed.")
    scalars: dict[
        Annotated[str, Field(max_length=64)], FiniteFloat | Annotated[str, Field(max_length=256)]
    ] = Field(
        default_factory=dict,
        max_length=64,
        description="What else was measured or set while this frame was taken, such as ``temperature_K``, by name.",
    )


class SeriesEnd(Read):
    """Ends a series."""

    htype: Literal["series_end"] = "series_end"
    series_id: str = Field(default="", max_length=256)
    msg_number: int | None = Field(default=None, ge=0)
    frames: int | None = Field(default=None, ge=0, description="Number of frames that were sent.")


def encode_json(message: BaseModel) -> bytes:
    """JSON of a message with the names used on the wire; fields that are ``None`` are left out.

    Parameters
    ----------
    message : pydantic.BaseModel

    Returns
    -------
    bytes
        UTF-8.
    """
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def encode_frame(
    image: NDArray[Any], *, frame: int, series_id: str, msg_number: int, encoding: str = "", **fields: Any
) -> list[bytes | memoryview]:
    """Both parts of a frame message, ready for ``socket.send_multipart(parts, copy=False)``.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Any integer or floating-point dtype; copied only where it is not C-contiguous or of foreign byte order.
    frame, msg_number : int
        Number of the frame and of the message in the series.
    series_id : str
        Identifier of the series.
    encoding : {"", "zlib", "lz4"}
        ``lz4`` compresses with the LZ4 block format that areaDetector uses (needs ``lz4``).
    **fields
        Further fields of `FrameHeader` such as ``pixel_size_nm``, or of your own.

    Returns
    -------
    list of bytes or memoryview
        Header, then pixels.

    Raises
    ------
    ValueError
        An encoding that is not known.
    """
    image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    header = {
        "htype": "array-1.0",
        "type": image.dtype.name,
        "shape": list(image.shape),
        "frame": frame,
        "series_id": series_id,
        "msg_number": msg_number,
        "encoding": encoding,
        **fields,
    }
    buffer: bytes | memoryview = image.data.cast("B")
    if encoding == "lz4":
        import lz4.block

        buffer = lz4.block.compress(buffer, store_size=False)
    elif encoding == "zlib":
        buffer = zlib.compress(buffer, 1)
    elif encoding not in ("", "none"):
        raise ValueError(f"encoding {encoding!r}: expected '', 'zlib' or 'lz4'")
    return [json.dumps(header, separators=(",", ":"), allow_nan=False).encode(), buffer]
