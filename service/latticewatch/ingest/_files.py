"""A microscope file in; its images, one after another, with their pixel size in nanometres, out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import FileError
from latticewatch.ingest._readers import Signal, errors_of, pixel_size_nm_of, read_signals

# Share of pixels without a value up to which a frame is mended with its median.
MAX_MISSING = 0.05


@dataclass(slots=True, eq=False)
class FileSeries:
    """The images of one file, read one at a time; iterate over it.

    Attributes
    ----------
    path : Path
    name : str
        Title of the image in the file, else the name of the file.
    shape : tuple of int
        Rows and columns.
    dtype : dtype
        As recorded.
    n_frames : int
    pixel_size_nm : float or None
    metadata : dict
        What the reader found beside the pixels.
    notes : list of str
        What was mended in frames read so far, for people to see.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    n_frames: int
    pixel_size_nm: float | None
    metadata: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    _data: Any = None

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.frame(number) for number in range(self.n_frames))

    def frame(self, number: int) -> NDArray[Any]:
        """One image, native byte order, read-only.

        Parameters
        ----------
        number : int
            From zero.

        Returns
        -------
        ndarray of shape (height, width)
            The recorded dtype; pixels without a finite value are replaced by the median of the others.

        Raises
        ------
        FileError
            It cannot be read, or more than 5 % of its pixels have no value.
        """
        with errors_of(self.path):
            image = np.array(self._data[number], dtype=_plain(self.dtype), order="C")
        if image.dtype.kind == "f":
            self._mend(image, number)
        image.flags.writeable = False
        return image

    def _mend(self, image: NDArray[Any], number: int) -> None:
        missing = ~np.isfinite(image)
        n_missing = int(missing.sum())
        if not n_missing:
            return
        share = f"frame {number}: {n_missing} of {image.size} pixels are not finite"
        if n_missing > MAX_MISSING * image.size:
            raise FileError(f"{self.path}: {share}, limit {MAX_MISSING:.0%}; export the image again")
        image[missing] = np.median(image[~missing])
        note = f"{share}; replaced by the median"
        if note not in self.notes:
            self.notes.append(note)


def read_frames(
    path: Path | str, channel: int | None = None, pixel_size_nm: float | None = None
) -> FileSeries:
    """Open a file of one image or a stack of images.

    Parameters
    ----------
    path : Path or str
        ``.npy``, ``.npz`` (key ``image`` or ``frames``, and ``pixel_size_nm``), TIFF, PNG, JPEG, or whatever
        RosettaSciIO reads: dm3, dm4, emd, ser, mrc, hspy …
    channel : int, optional
        Which dataset of a file that holds several, from zero; without it, the first one that is an image.
    pixel_size_nm : float, optional
        Overrides what the file says [nm].

    Returns
    -------
    FileSeries

    Raises
    ------
    FileError
        One line that names the file, what is wrong and what to do.
    ModuleNotFoundError
        RosettaSciIO or Pillow is not installed.
    """
    path = Path(path)
    if pixel_size_nm is not None and not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise FileError(f"{path}: pixel size {pixel_size_nm} nm, expected a positive number")
    if path.is_dir():
        raise FileError(f"{path}: a folder; give the files in it")
    if not path.exists():
        raise FileError(f"{path}: no such file; check the name")
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(f"{path}: an empty file; copy or record it again")
    signals = read_signals(path)
    signal = _choose(path, signals, channel)
    size = pixel_size_nm or signal.pixel_size_nm
    if size is None and signal.axes:
        size = pixel_size_nm_of(path, signal.axes)
    stack = signal.data if signal.data.ndim == 3 else signal.data[None]
    series = FileSeries(
        path=path,
        name=signal.name,
        shape=(stack.shape[1], stack.shape[2]),
        dtype=stack.dtype,
        n_frames=stack.shape[0],
        pixel_size_nm=size,
        metadata=signal.metadata,
        _data=stack,
    )
    series.frame(0)  # what is wrong with the first frame is known before anything starts
    return series


def _choose(path: Path, signals: list[Signal], channel: int | None) -> Signal:
    if not signals:
        raise FileError(f"{path}: holds no data; check that the file is complete")
    listing = ", ".join(f"{i}: {signal}" for i, signal in enumerate(signals))
    if channel is None:
        chosen = next((signal for signal in signals if not signal.problem()), signals[0])
    elif 0 <= channel < len(signals):
        chosen = signals[channel]
    else:
        raise FileError(f"{path}: no channel {channel}; there are {listing}")
    if problem := chosen.problem():
        more = f" (the file holds {listing})" if len(signals) > 1 else ""
        raise FileError(f"{path}: {problem}{more}")
    return chosen


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in native byte order; truth values as bytes, long doubles as doubles."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
