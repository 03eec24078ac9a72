"""A path in; the images of one recording, one after another, with their scale and time, out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import FileError
from latticewatch.ingest.files._calibration import scale_of
from latticewatch.ingest.files._choose import listing, number_of, one_channel, taken_note
from latticewatch.ingest.files._errors import errors_of
from latticewatch.ingest.files._read import read_signals
from latticewatch.ingest.files._signal import Signal, doubts_of_axes, greyed, with_axes

# Frames of one file that are named for their missing pixels; a stack of thousands would say it for each.
MAX_SAID = 3


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
    frame_s : float or None
        Seconds from one frame to the next, where the file says it.
    t_start : float or None
        When the first frame was taken, seconds since 1970, where the file says it.
    axes : str
        A letter for each axis of the data, as it was taken: T, C, Y, X.
    notes : list of str
        What was chosen, not believed or mended, for people to see.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    n_frames: int
    pixel_size_nm: float | None
    metadata: dict[str, Any]
    frame_s: float | None = None
    t_start: float | None = None
    axes: str = "TYX"
    notes: list[str] = field(default_factory=list)
    _data: Any = None

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.frame(number) for number in range(self.n_frames))

    def t_acquired(self, number: int) -> float | None:
        """When a frame was taken.

        Parameters
        ----------
        number : int
            Of the frame, from 0.

        Returns
        -------
        float or None
            Seconds since 1970, or since the first frame where the file has no date [s]; None where it tells no times.
        """
        if self.frame_s is None:
            return None
        return (self.t_start or 0.0) + number * self.frame_s

    def frame(self, number: int) -> NDArray[Any]:
        """One image, native byte order, read-only.

        Parameters
        ----------
        number : int
            From zero.

        Returns
        -------
        ndarray of shape (height, width)
            The recorded dtype; pixels without a finite value are NaN, which the analysis takes for no specimen.

        Raises
        ------
        FileError
            It cannot be read, or none of its pixels has a value.
        """
        index = tuple(slice(None) if role in "YX" else number for role in self.axes)
        with errors_of(self.path):
            image = np.asarray(self._data[index])
            if self.axes.index("X") < self.axes.index("Y"):
                image = image.T
            image = np.array(image, dtype=_plain(self.dtype), order="C")
        if image.shape != self.shape:
            raise FileError(f"{self.path}: frame {number}: got {image.shape}, expected {self.shape}")
        if image.dtype.kind == "f":
            self._count_missing(image, number)
        image.flags.writeable = False
        return image

    def _count_missing(self, image: NDArray[Any], number: int) -> None:
        missing = ~np.isfinite(image)
        n_missing = int(missing.sum())
        if not n_missing:
            return
        if n_missing == image.size:
            raise FileError(
                f"{self.path}: frame {number}: no pixel has a finite value; export the image again"
            )
        image[missing] = np.nan
        note = (
            f"frame {number}: {n_missing} of {image.size} pixels have no finite value; not taken for specimen"
        )
        said = sum(text.endswith("not taken for specimen") for text in self.notes)
        if said < MAX_SAID and note not in self.notes:
            self.notes.append(note)


def read_frames(
    path: Path | str,
    channel: int | None = None,
    pixel_size_nm: float | None = None,
    *,
    image: str | int | None = None,
    axes: str | None = None,
    dataset: str | None = None,
) -> FileSeries:
    """Open a file of one image or a stack of images.

    Parameters
    ----------
    path : Path or str
        ``.npy``, ``.npz`` (key ``image`` or ``frames``, and ``pixel_size_nm``), TIFF, PNG, JPEG, Zarr, or whatever
        RosettaSciIO reads: dm3, dm4, emd, ser, mrc, hspy, zspy …
    channel : int, optional
        Which channel of an image that has a channel axis, from zero; of a file without one, which image.
    pixel_size_nm : float, optional
        Overrides what the file says [nm].
    image : str or int, optional
        Which image of a file that holds several, by number or name; without it, the largest, then the HAADF.
    axes : str, optional
        A letter for each axis (T, C, Z, Y, X), where the file does not say which is which, or says it wrong.
    dataset : str, optional
        Path of the data set in an HDF5 file of an unknown layout.

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
    signals = read_all(path, axes, dataset)
    signal = _chosen(path, signals, channel, image)
    scale = scale_of(path, signal, pixel_size_nm)
    notes = [*signal.notes, *(doubts_of_axes(signal) if axes is None else []), *scale.notes]
    roles = "".join(role if role in "YX" else "T" for role in signal.roles)
    series = FileSeries(
        path=path,
        name=signal.name,
        shape=signal.side_px,
        dtype=signal.data.dtype,
        n_frames=signal.data.shape[roles.index("T")] if "T" in roles else 1,
        pixel_size_nm=scale.pixel_size_nm,
        metadata=signal.metadata,
        frame_s=scale.frame_s if signal.axis("T") is not None else None,
        t_start=signal.t_start,
        axes=roles,
        notes=notes,
        _data=signal.data,
    )
    series.frame(0)  # what is wrong with the first frame is known before anything starts
    return series


def read_all(path: Path, axes: str | None = None, dataset: str | None = None) -> list[Signal]:
    """Everything in a file, colours that are grey made so, with the axes that somebody named.

    Parameters
    ----------
    path : Path
    axes : str, optional
        What each axis is, as for `read_frames`.
    dataset : str, optional
        The one to read, in a file that holds several.

    Returns
    -------
    list of Signal

    Raises
    ------
    FileError
        A file that cannot be read, or axes that do not fit it.
    """
    signals = [greyed(signal) if axes is None else signal for signal in read_signals(path, dataset)]
    return [with_axes(path, signal, axes) for signal in signals]


def _chosen(path: Path, signals: list[Signal], channel: int | None, image: str | int | None) -> Signal:
    in_axis = any("C" in signal.roles for signal in signals)
    if channel is not None and image is None and not in_axis:
        if not 0 <= channel < len(signals):
            raise FileError(f"{path}: no channel {channel}; there are {listing(signals)}")
        image = channel
    number = number_of(path, signals, image)
    chosen = signals[number]
    if problem := chosen.problem():
        more = f" (the file holds {listing(signals)})" if len(signals) > 1 else ""
        raise FileError(f"{path}: {problem}{more}")
    if note := taken_note(signals, number, image):
        chosen.notes.insert(0, note)
    return one_channel(path, chosen, channel)


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in native byte order; truth values as bytes, long doubles as doubles."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
