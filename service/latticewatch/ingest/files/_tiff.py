"""A TIFF in; each image or stack in it, with the axes that ImageJ, OME or a camera's program wrote, out."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import axis_of
from latticewatch.ingest.files._errors import errors_of
from latticewatch.ingest.files._signal import Signal
from latticewatch.ingest.files._units import unit_of

# Larger images are read a page at a time.
LAZY_BYTES = 64 * 2**20
# What tifffile calls axes that are none of ours: a sequence of pages, and what it cannot name.
_NAME = {"I": "frames", "Q": "", "L": "wavelength", "E": "wavelength", "A": "angle"}


def read_tiff(path: Path) -> list[Signal]:
    """Every series of pages of a TIFF."""
    import tifffile

    said: list[str] = []
    with errors_of(path, "TIFF"):
        with _listening(said):
            tiff = tifffile.TiffFile(path)
            series = list(tiff.series)
        ome = _ome_images(tiff)
        signals = []
        for number, one in enumerate(series):
            with _listening(said):
                data = _data(path, tiff, number, one)
            if tuple(data.shape) != tuple(one.shape):
                raise FileError(f"{path}: pages of {one.shape} hold {data.shape}; the file is damaged")
            axes = [
                axis_of(size, _NAME.get(code, code)) for code, size in zip(one.axes, one.shape, strict=True)
            ]
            name = one.name if one.name and not one.name.startswith("Series ") else path.stem
            signal = Signal(str(name), data, axes, metadata={"kind": one.kind})
            if one.kind == "ome" and number < len(ome):
                _apply_ome(signal, ome[number])
            elif tiff.imagej_metadata is not None and number == 0:
                _apply_imagej(signal, tiff)
            signals.append(signal)
        missing = _missing_pages(tiff)
        described = str(tiff.pages.first.description or "")
        unread = ("OME" in described and not ome) or ("ImageJ" in described and tiff.imagej_metadata is None)
    if not any(axis.scale is not None for signal in signals for axis in signal.axes):
        _apply_vendor(path, signals)
    for signal in signals:
        if missing:
            signal.notes.append(missing)
        if unread and not any(axis.scale is not None for axis in signal.axes):
            signal.notes.append("its description cannot be read: no pixel size, no names of axes")
        signal.notes += [f"the TIFF reader says: {text}" for text in dict.fromkeys(said)][:2]
    return signals


def _data(path: Path, tiff: Any, number: int, series: Any) -> Any:
    import tifffile

    if series.nbytes <= LAZY_BYTES:
        return tiff.asarray(series=number)
    if series.dataoffset is not None and not path.name.endswith(".gz"):
        with contextlib.suppress(ValueError):
            return tifffile.memmap(path, series=number, mode="r")
    import zarr

    return zarr.open(series.aszarr(), mode="r")


@contextlib.contextmanager
def _listening(said: list[str]) -> Iterator[None]:
    """What tifffile logs, which is how it tells of pages that it leaves out."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split())[:160])

    logger, handler = logging.getLogger("tifffile"), Handler(logging.ERROR)
    before, propagate = logging.root.manager.disable, logger.propagate
    logging.disable(logging.NOTSET)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logging.disable(before)


def _missing_pages(tiff: Any) -> str:
    """Said where fewer pages are in the file than were written."""
    wanted = None
    if tiff.imagej_metadata is not None:
        wanted = tiff.imagej_metadata.get("images")
        page = tiff.pages.first
        if wanted and len(tiff.pages) == 1 and page.dataoffsets:
            # one page stands for the whole stack, whose values follow each other
            held = (tiff.filehandle.size - page.dataoffsets[0]) // max(page.nbytes, 1)
            return f"{wanted} images were written, {held} are in the file" if held < wanted else ""
    elif tiff.shaped_metadata:
        shapes = [entry.get("shape") for entry in tiff.shaped_metadata if entry.get("shape")]
        wanted = sum(_pages(shape) for shape in shapes) if shapes else None
        held = sum(_pages(one.shape) for one in tiff.series)
        return f"{wanted} images were written, {held} are in the file" if wanted and held < wanted else ""
    if not isinstance(wanted, int) or len(tiff.pages) >= wanted:
        return ""
    return f"{wanted} images were written, {len(tiff.pages)} are in the file"


def _pages(shape: Any) -> int:
    count = 1
    for size in tuple(shape)[:-2]:
        count *= int(size)
    return count


def _scaled(signal: Signal, role: str, scale: Any, units: Any) -> None:
    for k, axis in enumerate(signal.axes):
        if axis.role == role and scale is not None:
            signal.axes[k] = axis_of(axis.size, axis.name or role, scale, units, axis.navigate)


def _ome_images(tiff: Any) -> list[dict[str, Any]]:
    import tifffile

    if not tiff.ome_metadata:
        return []
    images = tifffile.xml2dict(tiff.ome_metadata).get("OME", {}).get("Image", [])
    return images if isinstance(images, list) else [images]


def _apply_ome(signal: Signal, image: dict[str, Any]) -> None:
    pixels = image.get("Pixels", {})
    pixels = pixels[0] if isinstance(pixels, list) else pixels
    signal.name = str(image.get("Name") or signal.name)
    for letter in "XYZ":
        # the schema's default
        _scaled(
            signal, letter, pixels.get(f"PhysicalSize{letter}"), pixels.get(f"PhysicalSize{letter}Unit", "µm")
        )
    _scaled(signal, "T", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    signal.channels = [str(channel.get("Name") or "") for channel in channels]
    with contextlib.suppress(ValueError, KeyError):
        signal.t_start = datetime.fromisoformat(str(image["AcquisitionDate"])).timestamp()


def _apply_imagej(signal: Signal, tiff: Any) -> None:
    said = tiff.imagej_metadata
    tags = tiff.pages.first.tags
    for letter, tag, unit in (("X", "XResolution", "unit"), ("Y", "YResolution", "yunit")):
        units = said.get(unit) or said.get("unit")
        value = tags[tag].value if tag in tags else None
        if not value or not all(value):
            continue
        pixels, length = value
        if units is not None:
            _scaled(signal, letter, length / pixels, units)
        elif pixels != length:
            signal.notes.append(f"{pixels / length:.6g} pixels a unit along {letter}, but no unit: not taken")
    interval = said.get("finterval") or (1 / said["fps"] if said.get("fps") else None)
    if interval:
        units = said.get("tunit") or "s"
        _scaled(signal, "T", interval, units if unit_of(units).kind == "time" else "s")
    labels = said.get("Labels")
    size = next((axis.size for axis in signal.axes if axis.role == "C"), 0)
    if isinstance(labels, list) and len(labels) >= size:
        signal.channels = [
            re.sub(r"^c:\d+/\d+\s*(?:[zt]:\d+/\d+\s*)*-?\s*", "", str(text)) for text in labels[:size]
        ]


def _apply_vendor(path: Path, signals: list[Signal]) -> None:
    """The scale that a microscope's own program wrote; RosettaSciIO knows their tags."""
    try:
        with errors_of(path, "TIFF"):
            from rsciio.tiff import file_reader

            found = file_reader(str(path), lazy=True)
    except FileError:
        return
    if len(found) != len(signals):
        return
    for signal, other in zip(signals, found, strict=True):
        described = {str(axis.get("name")): axis for axis in other["axes"]}
        for letter, name in (("Y", "height"), ("X", "width"), ("T", "time")):
            axis = described.get(name, {})
            units = axis.get("units")
            if isinstance(units, str) and units and not units.startswith("<"):
                _scaled(signal, letter, axis.get("scale"), units)
