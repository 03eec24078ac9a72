"""The karabo bridge of European XFEL, protocol 2.2: pairs of a msgpack header and data, for each source and array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from latticewatch.errors import WireError
from latticewatch.ingest._encodings import image_of, short
from latticewatch.ingest._wire import WireFrame
from latticewatch.messages import FrameHeader

REQUEST = b"next"
MAX_PARTS = 512


def is_karabo(parts: Sequence[memoryview]) -> bool:
    """Whether a message begins with a msgpack map that names a source."""
    if not parts or not parts[0].nbytes or not (parts[0][0] >> 4 == 8 or parts[0][0] in (0xDE, 0xDF)):
        return False
    return b"source" in bytes(parts[0][:64]) or len(parts) == 1


def decode_karabo(parts: Sequence[memoryview], path: str | None, max_frame_mib: int) -> WireFrame:
    """The image of one train.

    Parameters
    ----------
    parts : sequence of memoryview
    path : str or None
        ``SOURCE`` or ``SOURCE[KEY]``: which array is the image; without it, the only two-dimensional one.
    max_frame_mib : int

    Returns
    -------
    WireFrame
        Numbered by the train; the plain numbers beside the image are its scalars.

    Raises
    ------
    WireError
        No such image, or several.
    """
    if len(parts) % 2 or len(parts) > MAX_PARTS:
        raise WireError(
            f"karabo message of {len(parts)} parts, expected pairs of protocol 2.2; protocol 1.0 is not read",
            "parts",
        )
    images: dict[str, tuple[dict[str, Any], memoryview]] = {}
    meta: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, Any]] = {}
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        header = _unpacked(head)
        source = str(header.get("source", ""))
        if header.get("content") == "msgpack":
            meta[source] = header["metadata"] if isinstance(header.get("metadata"), dict) else {}
            values[source] = _unpacked(body)
        elif header.get("content") in ("array", "ImageData"):
            shape = header.get("shape")
            if isinstance(shape, list) and sum(isinstance(n, int) and n > 1 for n in shape) == 2:
                images[f"{source}[{header.get('path')}]"] = header, body
    wanted = [name for name in images if path is None or name == path or name.startswith(f"{path}[")]
    if len(wanted) != 1:
        raise WireError(
            f"{len(wanted)} images of {short(sorted(images))} fit ingest.karabo_path {short(path)}, expected one",
            "header",
        )
    header, body = images[wanted[0]]
    source = str(header.get("source", ""))
    shape = tuple(n for n in header["shape"] if n > 1)
    image = image_of(body.cast("B"), str(header.get("dtype")), shape, "", max_frame_mib)
    train, stamp = meta.get(source, {}).get("timestamp.tid"), meta.get(source, {}).get("timestamp")
    scalars = {
        str(name)[:64]: float(value)
        for name, value in list(values.get(source, {}).items())
        if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
    }
    frame = FrameHeader(
        type=image.dtype.name,  # type: ignore[call-arg]
        shape=image.shape,
        frame=train if isinstance(train, int) and train >= 0 else None,
        series_id=source[:256],
        timestamp=float(stamp) if isinstance(stamp, (int, float)) and np.isfinite(stamp) else None,
        scalars=dict(list(scalars.items())[:64]),
    )
    return WireFrame(frame, image, None)


def _unpacked(part: memoryview) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(part, raw=False, strict_map_key=False)
    except Exception as error:
        raise WireError(f"karabo part is not msgpack: {short(error)}", "header") from error
    if not isinstance(fields, dict):
        raise WireError(f"karabo part is a {type(fields).__name__}, expected a map", "header")
    return fields
