"""A path in, whatever its format; every dataset in it, whether an image or not, out."""

from __future__ import annotations

from pathlib import Path

from latticewatch.errors import FileError
from latticewatch.ingest.files._hdf5 import read_dataset
from latticewatch.ingest.files._numpy import PICTURES, read_npy, read_npz, read_picture
from latticewatch.ingest.files._rosetta import read_rosetta
from latticewatch.ingest.files._signal import Signal
from latticewatch.ingest.files._tiff import read_tiff
from latticewatch.ingest.files._zarr import is_zarr, read_zarr

# HyperSpy stores may be one zip file instead of a folder.
ZARR = (".zspy", ".zarr")
_TIFFS = ("tif", "tiff", "btf", "tf8", "ome")


def _is_folder_of_parts(path: Path) -> bool:
    from latticewatch.ingest.files.recording import is_part, is_recording

    return is_recording(path) and not is_part(path)


def read_signals(path: Path, dataset: str | None = None) -> list[Signal]:
    """Everything that a file, or a folder that is one recording, holds.

    Parameters
    ----------
    path : Path
    dataset : str, optional
        Path of one data set in an HDF5 file.

    Raises
    ------
    FileError
        It cannot be read.
    """
    if not path.exists():
        raise FileError(f"{path}: no such file; check the name")
    suffix = path.suffix.lower()
    if path.is_dir():
        if _is_folder_of_parts(path):
            raise FileError(f"{path}: a recording of several parts; give one of the folders in it")
        if is_zarr(path) or suffix in ZARR:
            return read_zarr(path)
        raise FileError(f"{path}: a folder; give the files in it")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: an empty file; copy or record it again")
    if dataset is not None:
        return [read_dataset(path, dataset)]
    if suffix in ZARR:
        return read_zarr(path)
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix in PICTURES:
        return read_picture(path)
    if suffix.lstrip(".") in _TIFFS:
        return read_tiff(path)
    return read_rosetta(path, suffix.lstrip("."))
