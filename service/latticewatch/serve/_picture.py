"""Pictures of frames and of average patches: binned, marked, encoded, and kept for whoever asks next."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from latticewatch.execute import LiveState
from latticewatch.messages import ROLES, LiveView, signs_of

T = TypeVar("T")
# Ends of the colour scale of differences.
UNKNOWN = "#ffffff"
# Longest side of the whole frame beside a part of it [px].
OVERVIEW_PX = 128
MORE, LESS = np.array([178.0, 24.0, 43.0]), np.array([33.0, 102.0, 172.0])


class PictureCache:
    """The few newest pictures, made once however many clients ask for them; safe in any thread.

    Parameters
    ----------
    kept : int
        Pictures beyond this number are forgotten, the one used longest ago first.
    """

    def __init__(self, kept: int = 8) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The picture of a key, made if it is not there; others wait while one is made."""
        with self._lock:
            if key not in self._pictures:
                self._pictures[key] = make()
            self._pictures.move_to_end(key)
            while len(self._pictures) > self._kept:
                self._pictures.popitem(last=False)
            return self._pictures[key]


def binned(picture: NDArray[np.uint8], max_size: int) -> tuple[NDArray[np.uint8], int]:
    """Average blocks of pixels so that the longest side has at most ``max_size``.

    Parameters
    ----------
    picture : ndarray of shape (height, width), uint8
    max_size : int
        Longest side wanted [px].

    Returns
    -------
    ndarray of shape (height // factor, width // factor), uint8
        Rows and columns that do not fill a block are left out.
    int
        Pixels of the frame to one of the picture, on either axis.
    """
    height, width = picture.shape
    factor = -(-max(height, width) // max_size)
    # A frame much narrower than long still needs a block on its short side.
    factor = min(factor, height, width)
    if factor <= 1:
        return picture, 1
    rows, columns = height // factor * factor, width // factor * factor
    total = np.zeros((rows // factor, columns // factor), np.uint32)
    for row in range(factor):
        for column in range(factor):
            total += picture[row:rows:factor, column:columns:factor]
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8), factor


def numbered(regions: Sequence[NDArray[np.bool_]], max_size: int) -> tuple[NDArray[np.uint8], int]:
    """Regions of a frame in small: which of them covers some of each block, a later one before an earlier one.

    Parameters
    ----------
    regions : sequence of ndarray of shape (height, width), bool
        At least one.
    max_size : int
        Longest side wanted [px].

    Returns
    -------
    ndarray of shape (ceil(height / factor), ceil(width / factor)), uint8
        0 for none, else the place of the region in the sequence, from 1.
    int
        Pixels of the frame to one of these, on either axis.
    """
    height, width = regions[0].shape
    factor = -(-max(height, width) // max_size)
    small = np.zeros((-(-height // factor), -(-width // factor)), np.uint8)
    for number, region in enumerate(regions, 1):
        rows = np.logical_or.reduceat(region, np.arange(0, height, factor), axis=0)
        small[np.logical_or.reduceat(rows, np.arange(0, width, factor), axis=1)] = number
    return small, factor


def part_of(
    picture: NDArray[np.uint8], view: LiveView, max_pixels: int | None = None
) -> tuple[NDArray[np.uint8], float, tuple[int, int]]:
    """The part of a picture that a page shows, no finer than the page can show it.

    Parameters
    ----------
    picture : ndarray of shape (height, width), uint8
    view : LiveView
        What is shown of it, and the room for it.
    max_pixels : int, optional
        Of the result.

    Returns
    -------
    ndarray of shape (h, w), uint8
        Areas averaged by a triangle filter, so that the lattice makes no moiré.
    float
        Pixels of the frame to one of the result, on either axis; never below 1.
    tuple of int
        Row, column of its corner in the frame.
    """
    height, width = picture.shape
    top, bottom = _span(view.top, view.rows, height)
    left, right = _span(view.left, view.columns, width)
    rows, columns = bottom - top, right - left
    scale = max(rows / view.height, columns / view.width, 1.0)
    if max_pixels is not None:
        scale = max(scale, float(np.sqrt(rows * columns / max(max_pixels, 1))))
    if scale == 1.0:
        return picture[top:bottom, left:right], 1.0, (top, left)
    # Whole pixels of one exact size: what does not fill the last one is left out.
    h, w = max(1, int(rows / scale)), max(1, int(columns / scale))
    box = (left, top, min(left + w * scale, width), min(top + h * scale, height))
    small = Image.fromarray(picture).resize((w, h), Image.Resampling.BILINEAR, box=box)
    return np.asarray(small), scale, (top, left)


def _span(start: float, size: float | None, limit: int) -> tuple[int, int]:
    """First and one past the last pixel of a part, inside the frame and never empty."""
    first = min(max(int(np.floor(start)), 0), limit - 1) if size is not None else 0
    last = min(int(np.ceil(start + size)), limit) if size is not None else limit
    return first, max(last, first + 1)


def frame_png(state: LiveState, max_size: int, overlay: bool) -> bytes:
    """The newest frame as PNG, with every defect ringed in the colour of its class if wanted."""
    if state.result is None:
        raise ValueError("no frame has been analysed yet")
    picture, factor = binned(state.result.picture, max_size)
    image = Image.fromarray(picture)
    if overlay:
        image = image.convert("RGB")
        _ring_defects(image, state, factor)
    return _encoded(image)


def _ring_defects(image: Image.Image, state: LiveState, factor: int) -> None:
    assert state.result is not None
    sites = state.result.sites
    radius = max(4.0, 0.45 * (state.result.lattice_constant_px or 20.0) / factor)
    signs = signs_of((entry.class_id, entry.name, entry.role) for entry in state.catalogue)
    draw = ImageDraw.Draw(image)
    for index in np.flatnonzero(sites.role == ROLES.index("defect")):
        row, column = (sites.position[index] + 0.5) / factor - 0.5
        draw.ellipse(
            (column - radius, row - radius, column + radius, row + radius),
            outline=signs[class_id].colour if (class_id := int(sites.class_id[index])) in signs else UNKNOWN,
            width=2,
        )


def patch_png(patch: NDArray[np.float32], size: int, levels: NDArray[np.float32] | None = None) -> bytes:
    """A patch as PNG, each of its pixels a square, the longest side about ``size``.

    Parameters
    ----------
    patch : ndarray of shape (height, width), float32
    size : int
        Longest side wanted [px].
    levels : ndarray, optional
        Patch whose darkest and brightest pixel are black and white; without it, this one.
    """
    finite = _finite(patch)
    of = finite if levels is None else _finite(levels)
    low, high = float(of.min()), float(of.max())
    scaled = (finite - low) * (255.0 / (high - low) if high > low else 0.0)
    return _encoded(Image.fromarray(_enlarged(np.round(np.clip(scaled, 0, 255)).astype(np.uint8), size)))


def signed_png(difference: NDArray[np.float32], limit: float, size: int) -> bytes:
    """A difference as PNG: white where there is none, red for more and blue for less, full at ± ``limit``."""
    share = np.clip(_finite(difference) / (limit or 1.0), -1.0, 1.0)[..., None]
    colour = np.where(share > 0, MORE, LESS)
    mixed = np.round(255.0 + np.abs(share) * (colour - 255.0)).astype(np.uint8)
    return _encoded(Image.fromarray(_enlarged(mixed, size)))


def _finite(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.isfinite(patch), patch, np.float32(0.0))


def _enlarged(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    factor = max(1, size // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    # Level 1: a noisy frame hardly gets smaller with more, only slower.
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()
