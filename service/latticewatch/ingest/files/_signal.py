"""One dataset of a file with its axes in; whether it is an image, and what it would be taken as, out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import Axis, looks_time_last, roles_of

MIN_SIDE_PX = 16


@dataclass(slots=True, eq=False)
class Signal:
    """A dataset in a file, before it is known to be an image.

    Attributes
    ----------
    name : str
    data : array
        Anything with a shape and a dtype that gives a part of itself for an index: NumPy, HDF5, Dask, Zarr.
    axes : list of Axis
        As many as `data` has; empty where the file says nothing of them.
    pixel_size_nm : float or None
        Where the file says it outright.
    metadata : dict
    notes : list of str
        What is to be told about it.
    channels : list of str
        Names along the channel axis, where the file has them.
    t_start : float or None
        When the first frame was taken, seconds since 1970.
    refusal : str
        Why it is no image, where the reader knows it already.
    """

    name: str
    data: Any
    axes: list[Axis] = field(default_factory=list)
    pixel_size_nm: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    t_start: float | None = None
    refusal: str = ""

    def __post_init__(self) -> None:
        if not self.axes:
            self.axes = [Axis(size) for size in self.data.shape]
        if len(self.axes) != len(self.data.shape):
            self.notes.append(f"{len(self.axes)} axes are described, the data has {len(self.data.shape)}")
            self.axes = [Axis(size) for size in self.data.shape]

    def __str__(self) -> str:
        kind = "colour" if self.data.dtype.names else self.data.dtype
        # rows before columns, what is before them first, as it would be taken
        order = sorted(range(len(self.axes)), key=lambda k: "YXS".find(self.roles[k]))
        size = " x ".join(str(self.axes[k].size) for k in order)
        return f"{self.name} ({size or 'no axes'}, {kind})"

    @property
    def named(self) -> bool:
        """Whether anything is known of the axes."""
        return any(axis.role or axis.units or axis.navigate is not None for axis in self.axes)

    @property
    def roles(self) -> str:
        """A letter for each axis, as it would be taken."""
        return roles_of(self.axes)

    @property
    def side_px(self) -> tuple[int, int]:
        """Rows and columns of a frame; zeros where it is no image."""
        roles = self.roles
        if "Y" not in roles or "X" not in roles:
            return 0, 0
        return self.axes[roles.index("Y")].size, self.axes[roles.index("X")].size

    def axis(self, role: str) -> Axis | None:
        """The axis that is taken as this.

        Parameters
        ----------
        role : str
            A letter as in `roles`: Y and X are rows and columns.

        Returns
        -------
        Axis or None
            None where no axis is taken as this.
        """
        roles = self.roles
        return self.axes[roles.index(role)] if role in roles else None

    def problem(self) -> str:
        """Why this is not an image or a stack of images; empty where it is."""
        return self.refusal or self._problem_of_values() or self._problem_of_axes()

    def _problem_of_values(self) -> str:
        dtype = self.data.dtype
        if dtype.names:
            return "a colour image; convert it to grey values"
        if dtype.kind == "c":
            return "complex numbers; export the amplitude or the phase"
        if dtype.kind not in "buif":
            return f"values of type {dtype}, not numbers; export the image again"
        return ""

    def _problem_of_axes(self) -> str:
        shape, roles = self.data.shape, self.roles
        size = " x ".join(map(str, shape))
        hint = "; --axes tells which is which, such as --axes TYX" if len(shape) > 2 else ""
        wanted = "expected an image, or a stack of images with time first"
        energy = next((axis for axis in self.axes if axis.role == "E"), None)
        if energy is not None and len(shape) > 1:
            return f"spectra: {energy} beside {size} values; {wanted}"
        if len(shape) < 2 or self._is_spectrum():
            return f"data of {size or 'no'} values; {wanted}{hint}"
        if "S" in roles:
            return "a colour image; convert it to grey values"
        if "Y" not in roles or "X" not in roles:
            named = ", ".join(map(str, self.axes))
            return f"axes {named}: no rows and columns among them; {wanted}{hint}"
        if (
            any(role in "?E" for role in roles)
            or roles.count("T") > 1
            or sum(role in "TZA" for role in roles) > 1
        ):
            return f"data of {size} values, with more than one axis beside rows and columns; {wanted}{hint}"
        if min(self.side_px) < MIN_SIDE_PX:
            rows, columns = self.side_px
            return f"an image of {rows} x {columns} pixels; {MIN_SIDE_PX} a side or more are needed{hint}"
        return "a stack without frames; record it again" if 0 in shape else ""

    def _is_spectrum(self) -> bool:
        flags = [axis.navigate for axis in self.axes]
        return False in flags and flags.count(False) < 2


def with_axes(path: Path, signal: Signal, letters: str | None) -> Signal:
    """The signal with the axes that somebody named, else as its file names them, and without what is single.

    Raises
    ------
    FileError
        The letters do not fit the data.
    """
    if letters is None:
        return _without_single(signal)
    letters = letters.upper()
    if not set(letters) <= set("TCZYX") or not {"Y", "X"} <= set(letters) or len(set(letters)) < len(letters):
        raise FileError(
            f"{path}: --axes {letters}: expected each of Y and X once, and T, C or Z, such as TYX, YXT or TCYX"
        )
    for candidate in (signal, _without_single(signal)):
        if len(candidate.axes) == len(letters):
            axes = [
                replace(axis, role=letter, navigate=None)
                for axis, letter in zip(candidate.axes, letters, strict=True)
            ]
            return replace(candidate, axes=axes, refusal="")
    shape = " x ".join(map(str, signal.data.shape))
    raise FileError(f"{path}: --axes {letters} names {len(letters)} axes, the data has {shape}")


def _without_single(signal: Signal) -> Signal:
    """Without axes of length one beside rows and columns."""
    data, axes = signal.data, list(signal.axes)
    while len(axes) > 2:
        single = [k for k, axis in enumerate(axes) if axis.size == 1]
        # a named axis of rows that is one long stays: it is no image, and that is said
        k = next((k for k in single if axes[k].role not in ("Y", "X")), None)
        if k is None:
            break
        data = data[(slice(None),) * k + (0,)]
        del axes[k]
    return signal if len(axes) == len(signal.axes) else replace(signal, data=data, axes=axes)


def greyed(signal: Signal) -> Signal:
    """A colour image whose channels are equal, as the grey image that it is; else the signal as it was."""
    data = signal.data
    names = data.dtype.names
    if names and 2 <= len(names) <= 4 and all(data.dtype[name] == data.dtype[0] for name in names):
        whole = np.asarray(data)
        planes = [whole[name] for name in names]
        axes = signal.axes
    else:
        where = _colour_axis(signal)
        if where is None or data.dtype.kind not in "uif":
            return signal
        whole = np.asarray(data)
        planes = [np.take(whole, k, axis=where) for k in range(whole.shape[where])]
        axes = [axis for k, axis in enumerate(signal.axes) if k != where]
    colours = planes[: 1 if len(planes) == 2 else 3]
    if any(not np.array_equal(colours[0], other) for other in colours[1:]):
        text = "a colour image; convert it to grey values"
        return replace(signal, refusal=text)
    note = f"saved as colour ({len(planes)} channels), all colours equal: taken as grey values"
    return replace(signal, data=np.ascontiguousarray(planes[0]), axes=axes, notes=[*signal.notes, note])


def _colour_axis(signal: Signal) -> int | None:
    """Which axis holds the samples of a colour; a nameless last one of three or four is taken for it."""
    for k, axis in enumerate(signal.axes):
        if axis.role == "S" and 2 <= axis.size <= 4:
            return k
    sizes = [axis.size for axis in signal.axes]
    if not signal.named and len(sizes) == 3 and sizes[2] in (3, 4) and min(sizes[:2]) >= MIN_SIDE_PX:
        return 2
    return None


def doubts_of_axes(signal: Signal) -> list[str]:
    """What is to be said of the axes as they are taken."""
    said = []
    sizes = [axis.size for axis in signal.axes]
    if looks_time_last(signal.axes):
        said.append(
            f"axes without names, {' x '.join(map(str, sizes))}: taken as {sizes[0]} frames of {sizes[1]} x "
            f"{sizes[2]}; if time is the last axis, give --axes YXT (and --axes TYX if it is the first)"
        )
    other = next((axis for axis, role in zip(signal.axes, signal.roles, strict=True) if role in "ZA"), None)
    if other is not None:
        said.append(
            f"the axis {other} is no time: its {other.size} images are taken as frames, without times"
        )
    return said


def start_of(general: dict[str, Any]) -> float | None:
    """Date and time of the recording, seconds since 1970; local time where no zone is given."""
    date, clock = str(general.get("date") or ""), str(general.get("time") or "00:00:00")
    with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = datetime.fromisoformat(f"{date}T{clock}")
        if moment.tzinfo is None and (zone := general.get("time_zone")):
            with contextlib.suppress(ZoneInfoNotFoundError, ValueError, TypeError):
                moment = moment.replace(tzinfo=ZoneInfo(str(zone)))
        return moment.timestamp()
    return None
