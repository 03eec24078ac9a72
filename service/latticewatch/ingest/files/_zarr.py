"""A Zarr store in; its arrays, with the axes that HyperSpy, OME-Zarr or their attributes name, out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import Axis, axis_of
from latticewatch.ingest.files._errors import errors_of
from latticewatch.ingest.files._signal import Signal, start_of

# One of these lies in every store, and one of the last two beside every array.
_MARKS = (".zgroup", ".zarray", "zarr.json", ".zmetadata")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return path.is_dir() and any((path / mark).exists() for mark in _MARKS)


def read_zarr(path: Path) -> list[Signal]:
    """Every signal of a HyperSpy store (zspy), every array of another; of each OME-Zarr image the full resolution.

    Notes
    -----
    RosettaSciIO reads zspy with Zarr 2 alone; the layout is the one that it writes.
    """
    with errors_of(path, "Zarr"):
        import zarr
        import zarr.storage

        store: Any = str(path) if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
        root: Any = zarr.open(store, mode="r")
        if not isinstance(root, zarr.Group):
            return [_signal(path.stem, root)]
        attributes: dict[str, Any] = dict(root.attrs)
        tree: Any = root
        if "Experiments" in root:
            found = [
                _hyperspy(path, name, group)
                for name, group in sorted(tree["Experiments"].groups(), key=_by_name)
                if "data" in group
            ]
            if found:
                return found
        scales = attributes.get("multiscales") or attributes.get("ome", {}).get("multiscales")
        if scales:
            return [_ome(path, root, one) for one in scales]
        found = [
            _signal(str(name), item)
            for name, item in sorted(root.members(max_depth=None), key=_by_name)
            if isinstance(item, zarr.Array)
        ]
        if not found:
            raise FileError(f"{path}: a Zarr store without an array; copy the folder whole, hidden files too")
        return found


def _by_name(member: tuple[str, Any]) -> str:
    """Zarr lists in an order that changes from one opening to the next; the number of an image must not."""
    return member[0]


def _signal(name: str, array: Any) -> Signal:
    attributes = dict(array.attrs)
    names = attributes.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None) or ()
    axes = [axis_of(size, names[k] if k < len(names) else None) for k, size in enumerate(array.shape)]
    size = attributes.get("pixel_size_nm")
    return Signal(name, array, axes, float(size) if isinstance(size, int | float) else None)


def _hyperspy(path: Path, name: str, group: Any) -> Signal:
    """One signal as HyperSpy writes it: ``data``, a group of attributes for each axis, and metadata."""
    array = group["data"]
    axes = [Axis(size) for size in array.shape]
    for k in range(array.ndim):
        if f"axis-{k}" in group:
            said = {
                key: None if value == "_None_" else value for key, value in group[f"axis-{k}"].attrs.items()
            }
            index = said.get("index_in_array")
            where = k if index is None else int(index)
            what = (said.get(key) for key in ("name", "scale", "units", "navigate"))
            axes[where] = axis_of(array.shape[where], *what)
    general = dict(group["metadata/General"].attrs) if "metadata/General" in group else {}
    title = general.get("title") or (path.stem if name == "__unnamed__" else name)
    return Signal(str(title), array, axes, metadata=general, t_start=start_of(general))


def _ome(path: Path, root: Any, scales: dict[str, Any]) -> Signal:
    """OME-Zarr, version 0.4 and 0.5: axes with names and units, a scale for each."""
    dataset = scales["datasets"][0]
    array = root[dataset["path"]]
    steps = [1.0] * array.ndim
    for transform in [
        *dataset.get("coordinateTransformations", []),
        *scales.get("coordinateTransformations", []),
    ]:
        if transform.get("type") == "scale":
            steps = [a * float(b) for a, b in zip(steps, transform["scale"], strict=True)]
    axes: list[Axis] = []
    for size, axis, step in zip(array.shape, scales.get("axes", [{}] * array.ndim), steps, strict=True):
        axis = {"name": axis} if isinstance(axis, str) else axis
        axes.append(axis_of(size, axis.get("name"), step if axis.get("unit") else None, axis.get("unit")))
    return Signal(str(scales.get("name") or path.stem), array, axes)
