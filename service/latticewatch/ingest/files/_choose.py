"""Everything in a file in; the image that is taken, and what is said of the others, out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import Axis
from latticewatch.ingest.files._signal import Signal

# Of images of one size, the detector that shows columns of atoms most directly.
_PREFERRED = (r"haadf", r"\badf|adf\b|adf\d", r"annular dark|dark.?field|\bdf\d?", r"stem")
MAX_LISTED = 12


def listing(signals: list[Signal]) -> str:
    """Every image with its number and size, on one line."""
    said = [f"{number}: {signal}" for number, signal in enumerate(signals[:MAX_LISTED])]
    if len(signals) > MAX_LISTED:
        said.append(f"and {len(signals) - MAX_LISTED} more")
    return ", ".join(said)


def number_of(path: Path, signals: list[Signal], wanted: str | int | None) -> int:
    """Which image is taken.

    The one that is asked for by number or name; else, of those that are images, the largest; of several of that
    size the one whose name says HAADF, then another dark field, then the first.

    Raises
    ------
    FileError
        There is none, or none of that name.
    """
    if not signals:
        raise FileError(f"{path}: holds no data; check that the file is complete")
    if wanted is None:
        images = [k for k, signal in enumerate(signals) if not signal.problem()]
        if not images:
            return 0
        return min(images, key=lambda k: (-_area(signals[k]), _rank(signals[k].name), k))
    text = str(wanted).strip()
    if text.isdecimal():
        if int(text) < len(signals):
            return int(text)
    else:
        names = [signal.name.casefold() for signal in signals]
        for match in (
            [k for k, name in enumerate(names) if name == text.casefold()],
            [k for k, name in enumerate(names) if text.casefold() in name],
        ):
            if len(match) == 1:
                return match[0]
            if match:
                raise FileError(f"{path}: several images are called {text}; there are {listing(signals)}")
    raise FileError(f"{path}: no image {text}; there are {listing(signals)}")


def taken_note(signals: list[Signal], number: int, wanted: str | int | None) -> str:
    """What is said where a file holds more than one image; empty where there was no choice."""
    others = [k for k, signal in enumerate(signals) if k != number and not signal.problem()]
    if wanted is not None or not others:
        return ""
    named = ", ".join(f"{k}: {signals[k]}" for k in others[:MAX_LISTED])
    more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
    return f"took image {number}: {signals[number]}; also in the file: {named}{more} (--image N or NAME)"


def one_channel(path: Path, signal: Signal, channel: int | None) -> Signal:
    """One channel of an image that has several.

    Raises
    ------
    FileError
        There is no channel of that number.
    """
    roles = signal.roles
    if "C" not in roles:
        return signal
    where = roles.index("C")
    count = signal.axes[where].size
    named = [f"{k}: {name}" if name else str(k) for k, name in enumerate(_padded(signal.channels, count))]
    if channel is None:
        number = min(range(count), key=lambda k: (_rank(_padded(signal.channels, count)[k]), k))
    elif channel < count:
        number = channel
    else:
        raise FileError(f"{path}: no channel {channel}; there are {', '.join(named)}")
    notes = list(signal.notes)
    if channel is None and count > 1:
        notes.append(f"took channel {named[number]} of {', '.join(named)} (--channel N)")
    axes: list[Axis] = [axis for k, axis in enumerate(signal.axes) if k != where]
    name = _padded(signal.channels, count)[number]
    return replace(
        signal,
        data=_Channel(signal.data, where, number),
        axes=axes,
        notes=notes,
        name=f"{signal.name} {name}".strip() if count > 1 else signal.name,
    )


class _Channel:
    """One index of one axis of an array, without reading the others."""

    def __init__(self, data, where: int, number: int) -> None:
        self._data, self._where, self._number = data, where, number
        self.dtype = data.dtype
        self.shape = tuple(size for k, size in enumerate(data.shape) if k != where)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *(slice(None),) * (len(self.shape) - len(index)))
        return self._data[(*index[: self._where], self._number, *index[self._where :])]


def _padded(names: list[str], count: int) -> list[str]:
    return [*names, *[""] * count][:count]


def _area(signal: Signal) -> int:
    rows, columns = signal.side_px
    return rows * columns


def _rank(name: str) -> int:
    lowered = name.casefold()
    return next((k for k, pattern in enumerate(_PREFERRED) if re.search(pattern, lowered)), len(_PREFERRED))
