"""A microscope's format in; what RosettaSciIO finds in it, its faults mended, out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from latticewatch.errors import FileError
from latticewatch.ingest.files import _hdf5
from latticewatch.ingest.files._axes import Axis, axis_of
from latticewatch.ingest.files._errors import errors_of
from latticewatch.ingest.files._signal import Signal, start_of

# Larger files are read frame by frame.
LAZY_BYTES = 256 * 2**20
# Endings of HDF5 files that one format alone has.
_OWN = (".emd", ".hspy", ".nxs")
# Readers that would take a foreign file for theirs, or spectra alone, come last or not at all.
_NOT_FOR_IMAGES = ("numpy", "Impulse", "Protochips", "JobinYvon")


def read_rosetta(path: Path, extension: str) -> list[Signal]:
    """What the first reader for files of this ending finds.

    Raises
    ------
    FileError
        No reader knows the ending, or none can read the file.
    """
    from rsciio import IO_PLUGINS

    readers = [
        plugin
        for plugin in IO_PLUGINS
        if extension in map(str.lower, plugin["file_extensions"]) and plugin["name"] not in _NOT_FOR_IMAGES
    ]
    hdf5 = f".{extension}" in _hdf5.SUFFIXES
    if not readers and not hdf5:
        raise FileError(f"{path}: no reader for '.{extension}' files; export it as dm4, emd, tif or npy")
    failures: list[tuple[str, FileError]] = []
    for plugin in readers:  # several formats share an ending such as .h5
        try:
            found = _by(plugin, path)
        except FileError as error:
            failures.append((plugin["name"], error))
            continue
        # a reader that reads another format's file finds nothing, or something that is no image
        if len(readers) == 1 and not hdf5:
            return found
        if any(not signal.problem() for signal in found) or (found and not hdf5):
            return found
        failures.append((plugin["name"], FileError(f"{path}: no image in it, as {plugin['name']}")))
        if found and f".{extension}" in _OWN:
            return found
    if hdf5 and not path.is_dir() and _hdf5.is_hdf5(path):
        return _foreign(path, failures)
    # a package that is missing is worth a word only where no other reader knows better
    raise next((e for _, e in failures if not isinstance(e.__cause__, ImportError)), failures[0][1])


def _foreign(path: Path, failures: list[tuple[str, FileError]]) -> list[Signal]:
    """The only image of an HDF5 file; with several, they are named."""
    images = _hdf5.images_in(path)
    missing = next((e for _, e in failures if isinstance(e.__cause__, ImportError)), None)
    if len(images) == 1:
        if missing is not None and path.suffix.lower() in _OWN:
            # the format's own reader would have known the pixel size
            images[0].notes.append(f"without its calibration: {str(missing).removeprefix(f'{path}: ')}")
        return images
    if missing is not None and not images:
        raise missing
    tried = ", ".join(name for name, _ in failures) or "none"
    raise FileError(f"{path}: HDF5 of none of the layouts that were tried ({tried}); {_hdf5.listed(images)}")


def _by(plugin: dict[str, Any], path: Path) -> list[Signal]:
    with errors_of(path, plugin["name"]):
        reader = importlib.import_module(plugin["api"]).file_reader
        options: dict[str, Any] = {"lazy": _bytes(path) > LAZY_BYTES}
        other: list[str] = []
        if plugin["name"] == "EMD" and (other := _velox_groups(path)):
            # spectra beside an image are many times its size, and nothing here needs them
            if "Image" not in other:
                raise FileError(f"{path}: no image in it, only {', '.join(other)}; export an image")
            options["select_type"] = "images"
        elif plugin["name"] == "EMD":
            # it would stack images of unlike detectors whose names begin alike
            options["stack_group"] = False
        if plugin["name"] == "Delmic":
            options["signal"] = "all"
        try:
            found = reader(str(path), **options)
        except NotImplementedError:
            found = reader(str(path), **options | {"lazy": False})
        signals = [_signal(path, plugin["name"], one) for one in found]
        if plugin["name"] == "EMD" and not other:
            signals = [_file_order(path, signal) for signal in signals]
        for group in other:
            if group != "Image":
                for signal in signals:
                    signal.notes.append(f"{group} in the same file was not read")
    return signals


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size


def _signal(path: Path, reader: str, found: dict[str, Any]) -> Signal:
    general = dict(found.get("metadata", {}).get("General", {}))
    data = found["data"]
    listed = found["axes"]
    if all(axis.get("index_in_array") is not None for axis in listed):
        listed = sorted(listed, key=lambda axis: axis["index_in_array"])
    axes = [
        axis_of(
            size,
            axis.get("name"),
            axis.get("scale"),
            axis.get("units"),
            axis.get("navigate"),
        )
        for axis, size in zip(listed, data.shape, strict=False)
    ]
    if data.dtype.names and len(axes) == data.ndim + 1:
        axes = axes[: data.ndim]
    if reader in ("NeXus", "EMD"):
        # their flags say nothing of images: all axes of one are alike
        axes = [Axis(a.size, a.name, a.scale, a.units, None, a.role) for a in axes]
    title = str(general.get("title") or path.stem)
    said = [axis.get("size") or size for axis, size in zip(listed, data.shape, strict=False)]
    notes = [
        f"the file says {length} for an axis on which the data has {size}: the data's is taken"
        for length, size in zip(said, data.shape, strict=False)
        if length != size
    ]
    about = {**general, "reader": reader}
    return Signal(title, data, axes, metadata=about, notes=notes, t_start=start_of(general))


def _velox_groups(path: Path) -> list[str]:
    """What a Velox file holds, by its groups; nothing where it is another kind of EMD."""
    import h5py

    if not _hdf5.is_hdf5(path):
        return []
    with h5py.File(path, "r") as file:
        data = file.get("Data")
        if not isinstance(data, h5py.Group) or "Version" not in file:
            return []
        return [name for name, group in data.items() if isinstance(group, h5py.Group) and len(group)]


def _file_order(path: Path, signal: Signal) -> Signal:
    """A Berkeley EMD whose axes have no names, in the order of the file.

    RosettaSciIO transposes every such file, because its own writer does. Others (ncempy, py4DSTEM, Prismatic)
    write rows before columns; names tell, and without any the file's order holds, but for files of RosettaSciIO.
    """
    import h5py

    if any(axis.role in ("Y", "X", "T") for axis in signal.axes):
        return signal
    transposed: set[tuple[int, ...]] = set()

    def look(name: str, item: Any) -> None:
        is_data = isinstance(item, h5py.Dataset) and name.rsplit("/", 1)[-1].startswith("data")
        group: Any = item.parent
        if is_data and "dim0" not in group:
            transposed.add(item.shape)

    with h5py.File(path, "r") as file:
        if "signals" in file:
            return signal
        file.visititems(look)
    if tuple(signal.data.shape)[::-1] in transposed:
        signal.data, signal.axes = signal.data.T, signal.axes[::-1]
    return signal
