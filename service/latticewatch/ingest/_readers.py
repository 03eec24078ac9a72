"""Bytes of a file in, in whatever format; the datasets that it holds, with their axes, out."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latticewatch.errors import FileError

MIN_SIDE_PX = 16
# The sides of a pixel may differ by this much before they are not called square.
MAX_ANISOTROPY = 0.02
# Larger files are read frame by frame.
LAZY_BYTES = 512 * 2**20

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")

_NM = {
    "nm": 1.0, "nanometer": 1.0, "nanometre": 1.0,
    "å": 0.1, "a": 0.1, "ang": 0.1, "angstrom": 0.1, "ångström": 0.1,
    "pm": 1e-3, "µm": 1e3, "um": 1e3, "micron": 1e3, "mm": 1e6, "m": 1e9,
}  # fmt: skip
_RECIPROCAL = ("1/", "^-1", "-1", "⁻¹", "rad", "deg", "°")


@dataclass(slots=True, eq=False)
class Signal:
    """A dataset in a file, before it is known to be an image."""

    name: str
    data: Any
    axes: list[dict[str, Any]] = field(default_factory=list)
    pixel_size_nm: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        kind = "colour" if self.data.dtype.names else self.data.dtype
        return f"{self.name} ({' x '.join(map(str, self.data.shape))}, {kind})"

    def problem(self) -> str:
        """Why this is not an image or a stack of images; empty where it is."""
        shape, dtype = self.data.shape, self.data.dtype
        size = " x ".join(map(str, shape))
        if dtype.names or (len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) >= MIN_SIDE_PX):
            return "a colour image; convert it to grey values"
        if dtype.kind == "c":
            return "complex numbers; export the amplitude or the phase"
        if dtype.kind not in "buif":
            return f"values of type {dtype}, not numbers; export the image again"
        if len(shape) not in (2, 3) or self._is_spectrum():
            return f"data of {size or 'no'} values; expected an image, or a stack of images with time first"
        if min(shape[-2:]) < MIN_SIDE_PX:
            return f"an image of {shape[-2]} x {shape[-1]} pixels; {MIN_SIDE_PX} a side or more are needed"
        return "a stack without frames; record it again" if shape[0] == 0 else ""

    def _is_spectrum(self) -> bool:
        return any(axis.get("navigate") for axis in self.axes[-2:])


def read_signals(path: Path) -> list[Signal]:
    """Everything that a file holds, whether an image or not.

    Raises
    ------
    FileError
        It cannot be read.
    """
    return [_squeezed(signal) for signal in _read(path)]


def _read(path: Path) -> list[Signal]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy(path)
    if suffix == ".npz":
        return _read_npz(path)
    if suffix in PICTURES:
        return _read_picture(path)
    return _read_rosetta(path, suffix.lstrip("."))


def _read_npy(path: Path) -> list[Signal]:
    with errors_of(path), path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise FileError(f"{path}: not a NumPy file; give it the ending of its true format")
    with errors_of(path):
        return [Signal(path.stem, np.load(path, mmap_mode="r", allow_pickle=False))]


def _read_npz(path: Path) -> list[Signal]:
    with errors_of(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileError(f"{path}: not an .npz archive; save it with numpy.savez")
        with archive:
            key = next((key for key in ("image", "frames") if key in archive.files), None)
            if key is None:
                held = ", ".join(archive.files) or "nothing"
                raise FileError(
                    f"{path}: no key 'image' or 'frames' (it holds {held}); save it under one of them"
                )
            size = float(archive["pixel_size_nm"]) if "pixel_size_nm" in archive.files else None
            if size is not None and not (math.isfinite(size) and size > 0):
                raise FileError(
                    f"{path}: pixel_size_nm is {size}, expected a positive number; give --pixel-size"
                )
            return [Signal(path.stem, archive[key], pixel_size_nm=size)]


def _read_picture(path: Path) -> list[Signal]:
    from PIL import Image

    with errors_of(path), Image.open(path) as picture:
        if picture.mode not in GREY_MODES:
            raise FileError(f"{path}: a colour image ({picture.mode}); convert it to grey values")
        return [Signal(path.stem, np.asarray(picture))]


def _read_rosetta(path: Path, extension: str) -> list[Signal]:
    from rsciio import IO_PLUGINS

    readers = [plugin for plugin in IO_PLUGINS if extension in map(str.lower, plugin["file_extensions"])]
    if not readers:
        raise FileError(f"{path}: no reader for '.{extension}' files; export it as dm4, emd, tif or npy")
    failure: FileError | None = None
    for plugin in readers:  # several formats share an ending such as .h5
        try:
            with errors_of(path, plugin["name"]):
                reader = importlib.import_module(plugin["api"]).file_reader
                found = reader(str(path), lazy=path.stat().st_size > LAZY_BYTES)
                return [_from_rosetta(path, signal, extension) for signal in found]
        except FileError as error:
            if failure is None or isinstance(failure.__cause__, ModuleNotFoundError):
                failure = error
    assert failure is not None
    raise failure


def _from_rosetta(path: Path, signal: dict[str, Any], extension: str) -> Signal:
    general = signal.get("metadata", {}).get("General", {})
    axes = sorted(signal["axes"], key=lambda axis: axis.get("index_in_array") or 0)
    size = _imagej_pixel_size_nm(path) if extension in ("tif", "tiff") else None
    return Signal(str(general.get("title") or path.stem), signal["data"], axes, size, dict(general))


def _imagej_pixel_size_nm(path: Path) -> float | None:
    """Of a stack that ImageJ wrote, whose unit RosettaSciIO does not pass on."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        scale = _NM.get(str((tiff.imagej_metadata or {}).get("unit", "")).lower())
        tag = tiff.pages.first.tags.get("XResolution")
        if scale is None or tag is None or not all(tag.value):
            return None
        pixels, units = tag.value
        return scale * units / pixels


def _squeezed(signal: Signal) -> Signal:
    while signal.data.ndim > 2 and signal.data.shape[0] == 1:
        signal.data, signal.axes = signal.data[0], signal.axes[1:]
    return signal


def pixel_size_nm_of(path: Path, axes: list[dict[str, Any]]) -> float | None:
    """Side of a pixel from the calibration of the last two axes; None where they have none."""
    sides = []
    for axis in axes[-2:]:
        units, scale = str(axis.get("units") or "").strip().lower().replace("μ", "µ"), axis.get("scale")
        if any(mark in units for mark in _RECIPROCAL):
            raise FileError(
                f"{path}: calibrated in {axis['units']}, a diffraction pattern; give --pixel-size if not"
            )
        if units not in _NM or scale is None or not math.isfinite(scale) or scale == 0:
            return None
        sides.append(abs(float(scale)) * _NM[units])
    if abs(sides[0] - sides[1]) > MAX_ANISOTROPY * max(sides):
        raise FileError(
            f"{path}: pixels of {sides[0]:.4g} x {sides[1]:.4g} nm, not square; resample or give --pixel-size"
        )
    return math.sqrt(sides[0] * sides[1])


@contextlib.contextmanager
def errors_of(path: Path, format_name: str | None = None) -> Iterator[None]:
    """Turn whatever a reader raises into one line; silence what it says on standard error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FileError:
        raise
    except ModuleNotFoundError as error:
        raise FileError(
            f"{path}: reading it needs the package {error.name}; pip install {error.name}"
        ) from error
    except Exception as error:  # readers of binary formats raise anything on a damaged file
        kind = f" as {format_name}" if format_name else ""
        said = " ".join(str(error).split())[:120]
        raise FileError(
            f"{path}: cannot be read{kind} ({type(error).__name__}{': ' if said else ''}{said}); "
            "the file is damaged, incomplete, or of another format than its name says"
        ) from error
    finally:
        logging.disable(disabled)
