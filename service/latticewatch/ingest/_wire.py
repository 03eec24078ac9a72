"""Bytes of one ZeroMQ message in; a checked header and a view of its pixels out.

Every length that a sender states is compared with what it sent, and with the limits, before anything is
allocated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from latticewatch.errors import WireError
from latticewatch.ingest._encodings import image_of, short
from latticewatch.messages import FrameHeader, Note, SeriesEnd, SeriesStart

MAX_HEADER_BYTES = 64 * 1024
MIN_PIXEL_NM, MAX_PIXEL_NM = 1e-6, 1e6
# Pixel size and field of view are said to disagree above this; (width - 1) instead of width is far below.
SIZES_AGREE = 0.02
# EPICS counts seconds from 1990; a number below this (November 2023 in UNIX time) was counted from there.
EPICS_EPOCH_S = 631_152_000
EPICS_BEFORE_S = 1_700_000_000

Model = TypeVar("Model", bound=BaseModel)

# Without these there is no image; every other field that cannot be read is left out.
_NEEDED = {"type", "dtype", "shape", "encoding", "compression", "htype"}


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
    ignored : tuple of str
        Fields of the header that could not be read.
    notes : tuple of Note
        What in the header cannot all be right.
    pixels_lost : int
        Of the picture that a virtual detector made: places whose diffraction frame did not arrive.
    """

    header: FrameHeader
    image: NDArray[Any]
    pixel_size_nm: float | None
    ignored: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    pixels_lost: int = 0


Message = WireFrame | SeriesStart | SeriesEnd


def decode(parts: Sequence[bytes | memoryview], *, max_frame_mib: int = 256) -> Message:
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
        ``size``, ``encoding`` and ``compressed``, and ``fields`` holds what the header said, if it could be read.

    Notes
    -----
    EPICS areaDetector's ``NDPluginZMQ`` is recognised by its field ``ndattr``; it counts time from 1990. Before its
    release 1.4 (December 2022) it sent ``htype`` as a list and its shape with the fastest axis first; since then
    ``htype`` is a string and the shape has the slowest axis first, as everybody else's. ``chunk-1.0``, which its first
    documentation names, has the fastest axis first.
    """
    if not 1 <= len(parts) <= 2:
        raise WireError(f"message of {len(parts)} parts, expected a header and a buffer", "parts")
    fields, ignored = _read_json(parts[0])
    try:
        return _decode(fields, ignored, parts, max_frame_mib)
    except WireError as error:
        error.fields = fields
        raise


def _decode(
    fields: dict[str, Any], ignored: list[str], parts: Sequence[bytes | memoryview], max_frame_mib: int
) -> Message:
    htype = fields.get("htype", "array-1.0")
    listed = isinstance(htype, list) and len(htype) == 1
    if listed:
        htype = htype[0]
    if htype in ("header", "series_start", "series_end"):
        if len(parts) == 2 and memoryview(parts[1]).nbytes:
            raise WireError(f"htype {htype!r} with a buffer, expected the header alone", "parts")
        fields["htype"] = htype
        return _validate(SeriesEnd if htype == "series_end" else SeriesStart, fields, ignored)
    chunk = htype == "chunk-1.0"
    if chunk:
        htype = "array-1.0"
    if htype != "array-1.0":
        raise WireError(f"htype {short(htype)}, expected 'array-1.0', 'header' or 'series_end'", "htype")
    if len(parts) != 2:
        raise WireError("frame header without a buffer, expected two parts", "parts")
    fields["htype"] = htype
    if "ndattr" in fields:
        _from_areadetector(fields, fastest_first=listed or chunk)
    elif chunk:
        _fastest_first(fields)
    _in_the_forms_of_others(fields)
    header = _validate(FrameHeader, fields, ignored)
    buffer = memoryview(parts[1]).cast("B")
    image = image_of(buffer, header.dtype, header.shape, header.encoding, max_frame_mib)
    header = header.model_copy(update={"shape": image.shape})
    size_nm, notes = _pixel_size_nm(header, ignored)
    return WireFrame(header, image, size_nm, tuple(ignored), notes)


def _read_json(part: bytes | memoryview) -> tuple[dict[str, Any], list[str]]:
    """The header, and what of it was left out because it is no JSON."""
    raw = memoryview(part)
    if raw.nbytes > MAX_HEADER_BYTES:
        raise WireError(f"header of {raw.nbytes} bytes, limit {MAX_HEADER_BYTES}", "header")
    ignored: list[str] = []
    try:
        text = str(raw, "utf-8")
        try:
            fields = json.loads(text)
        except ValueError:
            # areaDetector prints attributes as C++ does, nan and undefined ones included, and prints them last.
            before = re.match(r'(.*?),\s*"ndattr"\s*:\s*\{', text, re.DOTALL)
            if before is None:
                raise
            fields = json.loads(before[1] + ', "ndattr": {}}')
            ignored.append("ndattr")
    except (ValueError, RecursionError) as error:
        raise WireError(f"header is not JSON: {short(error)}", "header") from error
    if not isinstance(fields, dict):
        raise WireError(f"header is a JSON {type(fields).__name__}, expected an object", "header")
    return fields, ignored


def _fastest_first(fields: dict[str, Any]) -> None:
    if isinstance(shape := fields.get("shape"), list):
        fields["shape"] = shape[::-1]


def _from_areadetector(fields: dict[str, Any], fastest_first: bool) -> None:
    if fastest_first:
        _fastest_first(fields)
    stamp = fields.get("timeStamp")
    if isinstance(stamp, int | float) and 0 < stamp < EPICS_BEFORE_S:
        fields["timeStamp"] = stamp + EPICS_EPOCH_S


def _in_the_forms_of_others(fields: dict[str, Any]) -> None:
    """Values in another form than ours: a date as text, a number as a name, a size for each axis."""
    for name in ("timeStamp", "timestamp"):
        if isinstance(stamp := fields.get(name), str) and not stamp.strip().replace(".", "").isdigit():
            try:
                date = datetime.fromisoformat(stamp)
            except ValueError:
                continue
            if date.tzinfo is not None:  # without a zone it may be hours off
                fields[name] = date.timestamp()
    for name in ("pixel_size_nm", "fov_nm"):
        if isinstance(sizes := fields.get(name), list) and sizes and all(size == sizes[0] for size in sizes):
            shape = fields.get("shape")
            square = isinstance(shape, list) and len(shape) > 1 and shape[-2] == shape[-1]
            if name == "pixel_size_nm" or square:
                fields[name] = sizes[0]
    if isinstance(number := fields.get("series_id"), int) and not isinstance(number, bool):
        fields["series_id"] = str(number)[:256]


def _validate(model: type[Model], fields: dict[str, Any], ignored: list[str]) -> Model:
    """The header; a field that cannot be read is left out and named, unless there is no image without it."""
    left = {name: value for name, value in fields.items() if not _unprintable(name, value, ignored)}
    while True:
        try:
            return model.model_validate(left)
        except ValidationError as error:
            for wrong in error.errors(include_url=False, include_context=False):
                _leave_out(wrong, left, ignored, error)
        except ValueError as error:  # a lone surrogate cannot be encoded, so pydantic cannot say where it is
            raise WireError(f"header holds text that is not Unicode: {short(error)}", "header") from error


def _leave_out(wrong: Any, left: dict[str, Any], ignored: list[str], error: ValidationError) -> None:
    name, *inside = wrong["loc"] or ("header",)
    if name == "scalars" and inside and isinstance(left.get(name), dict):
        left[name] = {key: value for key, value in left[name].items() if key != inside[0]}
        name = f"scalars.{short(inside[0])}"
    elif name in _NEEDED or (name not in left and name not in ignored):
        reason = {"type": "dtype", "dtype": "dtype", "shape": "shape"}.get(str(name), "header")
        raise WireError(
            f"header field {short(name)}: {wrong['msg']} (got {short(wrong['input'])})", reason
        ) from error
    else:
        left.pop(name, None)
    if name not in ignored:
        ignored.append(name)


def _unprintable(name: str, value: object, ignored: list[str]) -> bool:
    # These go into logs, events and file names.
    if (
        name in ("series_id", "detector", "calibration_id")
        and isinstance(value, str)
        and not value.isprintable()
    ):
        ignored.append(name)
        return True
    return False


def _pixel_size_nm(header: FrameHeader, ignored: list[str]) -> tuple[float | None, tuple[Note, ...]]:
    sizes = {"pixel_size_nm": header.pixel_size_nm}
    sizes["fov_nm"] = None if header.fov_nm is None else header.fov_nm / header.shape[1]
    for name, size in sizes.items():
        if size is not None and not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:
            ignored.append(name)
            sizes[name] = None
    stated, derived = sizes.values()
    if stated is None or derived is None or math.isclose(stated, derived, rel_tol=SIZES_AGREE):
        return stated or derived, ()
    note = Note(
        code="pixel-size-disagrees",
        text=f"The header gives a pixel size of {stated:.4g} nm, but its field of view of {header.fov_nm:.4g} nm "
        f"makes it {derived:.4g} nm. The pixel size is used.",
        remedy="Correct the sender; leave one of pixel_size_nm and fov_nm out if it is not known.",
    )
    return stated, (note,)
