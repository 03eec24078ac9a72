"""An HDF5 file of a layout that nobody describes in; the images among its data sets out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import Axis, axis_of
from latticewatch.ingest.files._errors import errors_of
from latticewatch.ingest.files._signal import MIN_SIDE_PX, Signal

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".hspy", ".emd", ".h5py", ".de5", ".nx5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Listed in a message; more are counted.
MAX_LISTED = 8


def is_hdf5(path: Path) -> bool:
    """Whether the file begins as HDF5 does, at 0 or behind a block of the writer's."""
    with path.open("rb") as file:
        for offset in (0, 512, 1024, 2048):
            file.seek(offset)
            if file.read(8) == SIGNATURE:
                return True
    return False


def read_dataset(path: Path, dataset: str) -> Signal:
    """One data set by its path in the file.

    Raises
    ------
    FileError
        It is not there.
    """
    import h5py

    with errors_of(path, "HDF5"):
        file = h5py.File(path, "r")
        found = file.get(dataset)
        if not isinstance(found, h5py.Dataset):
            file.close()
            raise FileError(f"{path}: no data set {dataset!r}; {listed(images_in(path))}")
        return _signal(found)


def images_in(path: Path) -> list[Signal]:
    """The numeric data sets of two or three axes that are large enough for an image, in the file's order."""
    import h5py

    found: list[Signal] = []

    def look(_: str, item: Any) -> None:
        if (
            isinstance(item, h5py.Dataset)
            and item.dtype.kind in "buif"
            and item.ndim in (2, 3)
            and sorted(item.shape)[-2] >= MIN_SIDE_PX
        ):
            found.append(_signal(item))

    with errors_of(path, "HDF5"):
        h5py.File(path, "r").visititems(look)
    return found


def listed(signals: list[Signal]) -> str:
    """The data sets on one line, and how to choose among them."""
    if not signals:
        return f"it holds no data set of two or three axes of {MIN_SIDE_PX} or more"
    names = ", ".join(f"{one.name} ({' x '.join(map(str, one.data.shape))})" for one in signals[:MAX_LISTED])
    more = f" and {len(signals) - MAX_LISTED} more" if len(signals) > MAX_LISTED else ""
    return f"it holds {names}{more}; choose one with --dataset PATH"


def _signal(dataset: Any) -> Signal:
    """A data set with what its attributes and dimension scales say."""
    attributes = {key: _plain(value) for key, value in dataset.attrs.items() if key != "DIMENSION_LIST"}
    axes = []
    # `dims[k].label` ends the process where a damaged file has numbers for labels
    labels = attributes.pop("DIMENSION_LABELS", None)
    for k in range(dataset.ndim):
        name: Any = labels[k] if isinstance(labels, np.ndarray) and len(labels) == dataset.ndim else None
        name = _plain(name) if isinstance(name, str | bytes) else None
        scale = units = None
        beside = _dim_beside(dataset, k)
        if beside is not None:
            name = _plain(beside.attrs.get("name"))
        if beside is not None or len(dataset.dims[k]):
            steps = dataset.dims[k][0] if beside is None else beside
            name = name or steps.name.rsplit("/", 1)[-1]
            units = _plain(steps.attrs.get("units"))
            if steps.ndim == 1 and len(steps) > 1 and steps.dtype.kind in "iuf":
                scale = float(np.mean(np.diff(steps[:].astype(float))))
        axes.append(axis_of(dataset.shape[k], name or None, scale, units))
    size = attributes.get("pixel_size_nm")
    # what ilastik and the HDF5 plugin of ImageJ write: one length for each axis
    elements = attributes.get("element_size_um")
    if elements is not None and np.size(elements) >= 2 and not any(axis.scale for axis in axes):
        lengths = np.ravel(elements)[-dataset.ndim :]
        axes[-len(lengths) :] = [
            Axis(axis.size, axis.name, float(length), "um" if k >= len(lengths) - 2 else "", role=axis.role)
            for k, (axis, length) in enumerate(zip(axes[-len(lengths) :], lengths, strict=True))
        ]
    named = dataset.name.lstrip("/")
    return Signal(
        named,
        dataset,
        axes,
        float(size) if isinstance(size, int | float | np.number) else None,
        {key: value for key, value in attributes.items() if isinstance(value, str | int | float)},
        [f"a layout of its own: taken from the data set {named}"],
    )


def _dim_beside(dataset: Any, k: int) -> Any:
    """The axis of Berkeley's layout, ``dim1`` … or ``dim0`` … beside the data set; None without it."""
    first = 0 if "dim0" in dataset.parent else 1
    found = dataset.parent.get(f"dim{k + first}")
    return found if found is not None and getattr(found, "shape", None) else None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        return _plain(value.reshape(-1)[0].item())
    return value.item() if isinstance(value, np.generic) else value
