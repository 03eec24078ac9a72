"""``.npy``, ``.npz`` and pictures in; the arrays in them out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import Axis, axis_of
from latticewatch.ingest.files._errors import errors_of
from latticewatch.ingest.files._signal import Signal

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
KEYS = ("image", "frames")
_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")


def read_npy(path: Path) -> list[Signal]:
    """The array of a ``.npy`` file, mapped into memory."""
    with errors_of(path), path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise FileError(f"{path}: not a NumPy file; give it the ending of its true format")
    with errors_of(path):
        return [Signal(path.stem, np.load(path, mmap_mode="r", allow_pickle=False))]


def read_npz(path: Path) -> list[Signal]:
    """The arrays ``image`` and ``frames``, with the pixel size of both."""
    with errors_of(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileError(f"{path}: not an .npz archive; save it with numpy.savez")
        with archive:
            keys = [key for key in KEYS if key in archive.files]
            if not keys:
                held = ", ".join(archive.files) or "nothing"
                raise FileError(
                    f"{path}: no key 'image' or 'frames' (it holds {held}); save it under one of them"
                )
            size = float(archive["pixel_size_nm"]) if "pixel_size_nm" in archive.files else None
            if size is not None and not (math.isfinite(size) and size > 0):
                raise FileError(
                    f"{path}: pixel_size_nm is {size}, expected a positive number; give --pixel-size"
                )
            found = {key: archive[key] for key in keys}
            frame_s = float(archive["frame_s"]) if "frame_s" in archive.files else None
    unread = [name for name in archive.files if name.startswith("pixel") and name != "pixel_size_nm"]
    notes = [f"the key {name} is not read; the pixel size is expected under pixel_size_nm" for name in unread]
    signals = []
    for key, data in found.items():
        axes = [Axis(n) for n in data.shape]
        if key == "frames" and data.ndim == 3 and frame_s is not None:
            axes[0] = axis_of(data.shape[0], "time", frame_s, "s", True)
        name = path.stem if len(found) == 1 else f"{path.stem} {key}"
        signals.append(Signal(name, data, axes, pixel_size_nm=size, notes=list(notes)))
    return signals


def read_picture(path: Path) -> list[Signal]:
    """A picture that Pillow reads, with the colours as a last axis."""
    from PIL import Image

    with errors_of(path), Image.open(path) as picture:
        if picture.mode not in _GREY_MODES:
            # palettes and the like become what they show
            mode = picture.mode if picture.mode in ("RGB", "RGBA", "LA") else "RGBA"
            values: Any = np.asarray(picture.convert(mode))
            return [
                Signal(
                    path.stem, values, [Axis(n) for n in values.shape[:2]] + [axis_of(values.shape[2], "S")]
                )
            ]
        return [Signal(path.stem, np.asarray(picture))]
