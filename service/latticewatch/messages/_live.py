"""The live view: one binary message a frame, ``u32 header length (little endian), JSON header, payload``.

The payload is the sections of the header one after another, each at an offset that is a multiple of eight.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latticewatch.messages._api import ClassSummary, Counts, Status
from latticewatch.messages._base import Read, Written
from latticewatch.messages._events import Displacement
from latticewatch.messages._model import ClassSpace, SublatticeSpace


class LiveView(Read):
    """The part of the frame that a page shows, and the room that it has for it."""

    top: float = Field(default=0.0, ge=-1e5, le=1e5, description="First row [frame px].")
    left: float = Field(default=0.0, ge=-1e5, le=1e5, description="First column [frame px].")
    rows: float | None = Field(
        default=None, gt=0, le=1e5, description="Rows of the part; the whole frame without [frame px]."
    )
    columns: float | None = Field(default=None, gt=0, le=1e5, description="Columns of the part [frame px].")
    width: int = Field(ge=16, le=8192, description="Room for it on the screen [device px].")
    height: int = Field(ge=16, le=8192, description="Room for it on the screen [device px].")
    max_bytes: int | None = Field(
        default=None,
        ge=16_384,
        le=2**27,
        description="Of the message: hosts are left out and the picture is made coarser to keep to it.",
    )


class LiveRequest(Read):
    """What a page sends: its credit for one more frame, given after it has drawn the last one."""

    type: Literal["next"] = "next"
    max_size: int = Field(default=1024, ge=64, le=4096, description="Longest side of the picture [px].")
    after: int | None = Field(default=None, ge=0, description="Ordinal of the last live message drawn.")
    model_version: int | None = Field(
        default=None, description="Version whose classes and embedding the page has."
    )
    view: LiveView | None = Field(
        default=None, description="Part and size of the picture; takes the place of ``max_size``."
    )
    again: bool = Field(
        default=False, description="Answer at once, though the frame may be the same: the view has changed."
    )
    plane: bool = Field(
        default=False, description="Whether variances, centroids and points of the plane are wanted, too."
    )
    layout: int | None = Field(default=None, description="Layout whose pool the page has.")
    track: int | None = Field(default=None, ge=0, description="Track of which ``site`` is wanted.")
    key: str | None = Field(
        default=None, max_length=512, repr=False, description="Needed once where there are keys."
    )


class LivePlane(Written):
    """What the classifier works with, as of its newest frame, for a page that draws it."""

    frame: int | None = Field(description="Newest frame that this has seen.")
    layout: int | None = Field(
        description="Number of the layout; while it is the same, the pool stands still. Absent before there is one."
    )
    sublattices: list[SublatticeSpace]
    classes: list[ClassSpace]


class ClassChance(Written):
    """How probable it is that a site is of a class."""

    class_id: int = Field(description="-1: *unknown*.")
    probability: float


class LiveSite(Written):
    """What is known of the site that a page asked about, beside what is sent of every site."""

    track: int
    classes: list[ClassChance] = Field(
        description="Its own class first, then those worth a mention; what is missing to 1 is of all others."
    )
    displacement_nm: Displacement | None = Field(
        default=None, description="Only of a displaced column; see ``/v1/tracks``."
    )


class LiveSection(Written):
    """A C-order array in the payload."""

    name: str
    dtype: Literal["uint8", "int16", "int32", "float32"]
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class LiveHeader(Written):
    """Header of a live message.

    Sections: ``image`` uint8 (h, w), the picture, ``image_scale`` frame pixels to one of its pixels, the corner of the
    first one at ``image_origin``; ``overview`` uint8, the whole frame in small, where the picture is a part of it;
    ``positions`` float32 (n, 2), row and column in frame pixels; ``class_id`` int16 (n,);
    ``role`` uint8 (n,), 0 host, 1 defect, 2 neighbour, 3 unknown; ``track`` int32 (n,); ``confidence``
    float32 (n,); and, when the page's model is older, ``embedding`` float32 (m, 2) and ``embedding_class``
    int16 (m,), the force-relaxed layout of the sites that were learnt from. A page that asks for the ``plane`` gets, at
    most four times a second, ``plane`` in the header with ``plane`` float32 (k, 2), where sites of the newest frame
    lie in it, ``plane_class`` int16 (k,) and ``plane_site`` int32 (k,), which of them they are; and, when its layout is
    another one, ``pool`` float32 (m, 2) and ``pool_class`` int16 (m,). Where there are ``regions``, uint8 (h, w): 0, or
    the place in that list, from 1, of what covers some of a square of ``regions_scale`` frame pixels.
    """

    ordinal: int = Field(description="Number of this live frame; give it back as ``after``.")
    series_id: str | None
    frame: int | None
    shape: tuple[int, int] | None = Field(default=None, description="Rows and columns of the frame.")
    image_scale: float = 1.0
    image_origin: tuple[float, float] = Field(
        default=(0.0, 0.0), description="Row, column of the picture's corner in the frame [frame px]."
    )
    overview_scale: float | None = Field(default=None, description="Frame pixels to one of ``overview``.")
    hosts_left_out: int = Field(default=0, description="Host sites that had no room in the message.")
    pixel_size_nm: float | None = None
    t_received: float | None = None
    age_s: float | None = None
    drift_nm: tuple[float, float] | None = Field(
        default=None, description="x, y since the start of the series."
    )
    status: Status
    counts: Counts
    classes: list[ClassSummary] | None = Field(
        default=None, description="Only when the page's model is older."
    )
    regions: list[str] = Field(
        default_factory=list,
        description="Where no defects are told: ``no-specimen``, ``dirt``, ``odd-sites``; readers pass over others.",
    )
    regions_scale: int = Field(default=1, description="Frame pixels to one of ``regions``.")
    site: LiveSite | None = Field(
        default=None, description="Only for a page that asked for its ``track``, while the frame shows it."
    )
    plane: LivePlane | None = Field(
        default=None, description="Only for a page that asked for it, and only now and then."
    )
    sections: list[LiveSection] = Field(default_factory=list)


def pack_live(header: LiveHeader, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """One message of a header and its arrays; fills in the header's ``sections``.

    Parameters
    ----------
    header : LiveHeader
    arrays : mapping of str to ndarray
        By name; uint8, int16, int32 or float32.

    Returns
    -------
    bytes
        ``u32 header length (little endian), JSON header, payload``.
    """
    sections, chunks, offset = [], [], 0
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        padding = -array.nbytes % 8
        sections.append(
            LiveSection.model_validate(
                {
                    "name": name,
                    "dtype": array.dtype.name,
                    "shape": array.shape,
                    "offset": offset,
                    "nbytes": array.nbytes,
                }
            )
        )
        chunks += [array.tobytes(), b"\0" * padding]
        offset += array.nbytes + padding
    head = header.model_copy(update={"sections": sections}).model_dump_json().encode()
    head += b" " * (-(len(head) + 4) % 8)
    return b"".join([struct.pack("<I", len(head)), head, *chunks])


def unpack_live(message: bytes) -> tuple[LiveHeader, dict[str, NDArray[Any]]]:
    """The header and the arrays of a message; the arrays are views of it.

    Parameters
    ----------
    message : bytes
        As `pack_live` makes it.

    Returns
    -------
    tuple of LiveHeader and dict of str to ndarray
    """
    (length,) = struct.unpack_from("<I", message)
    header = LiveHeader.model_validate_json(message[4 : 4 + length])
    start = 4 + length
    return header, {
        s.name: np.frombuffer(
            message, s.dtype, count=s.nbytes // np.dtype(s.dtype).itemsize, offset=start + s.offset
        ).reshape(s.shape)
        for s in header.sections
    }
