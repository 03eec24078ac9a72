"""What a file says about the scale of its axes in; pixel size and time per frame, or why they are not believed, out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from latticewatch.errors import FileError
from latticewatch.ingest.files._axes import Axis
from latticewatch.ingest.files._signal import Signal

# The sides of a pixel may differ by this much before they are not called square.
MAX_ANISOTROPY = 0.02
# Where columns of atoms, 0.1 to 1 nm apart, can be seen at all, a pixel lies between these [nm]: two in the
# largest common lattice constant, and a hundredth of the smallest probe.
MIN_PIXEL_NM, MAX_PIXEL_NM = 5e-4, 1.0


@dataclass(frozen=True, slots=True)
class Scale:
    """What an image is worth in nanometres and seconds.

    Attributes
    ----------
    pixel_size_nm : float or None
    frame_s : float or None
        From one frame to the next.
    notes : tuple of str
        What the file says and is not taken.
    """

    pixel_size_nm: float | None
    frame_s: float | None
    notes: tuple[str, ...] = ()


def scale_of(path: Path, signal: Signal, pixel_size_nm: float | None = None) -> Scale:
    """Pixel size and time per frame of an image.

    Parameters
    ----------
    path : Path
    signal : Signal
    pixel_size_nm : float, optional
        Overrides what the file says [nm]; it is believed.

    Returns
    -------
    Scale

    Raises
    ------
    FileError
        A diffraction pattern, or pixels that are not square.
    """
    frame_s, notes = _frame_s(signal.axis("T"))
    if pixel_size_nm is not None:
        return Scale(pixel_size_nm, frame_s, tuple(notes))
    if signal.pixel_size_nm is not None:
        size = signal.pixel_size_nm
    else:
        size, more = _side(path, signal.axis("Y"), signal.axis("X"))
        notes += more
    if size is not None and not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:
        notes.append(
            f"the file gives a pixel of {size:.3g} nm, which no image of atomic columns has "
            f"({MIN_PIXEL_NM:g} to {MAX_PIXEL_NM:g} nm); not believed, give --pixel-size"
        )
        size = None
    return Scale(size, frame_s, tuple(notes))


def _side(path: Path, row: Axis | None, column: Axis | None) -> tuple[float | None, list[str]]:
    sides: list[float] = []
    notes: list[str] = []
    for axis in (row, column):
        if axis is None:
            continue
        unit = axis.unit
        if unit.kind in ("reciprocal", "angle"):
            raise FileError(
                f"{path}: calibrated in {axis.units}, a diffraction pattern; give --pixel-size if not"
            )
        usable = axis.scale is not None and math.isfinite(axis.scale) and axis.scale != 0
        if unit.kind == "length" and usable:
            assert axis.scale is not None
            sides.append(abs(axis.scale) * unit.factor)
        elif unit.kind == "length" and axis.scale is not None:
            notes.append(f"a pixel of {axis.scale:g} {axis.units} cannot be; give --pixel-size")
        elif unit.kind == "none" and usable and axis.scale not in (1.0, None):
            notes.append(f"a pixel of {axis.scale:g} without a unit; not taken, give --pixel-size in nm")
        elif unit.kind not in ("none", "length"):
            notes.append(f"calibrated in {axis.units!r}, which is no length; not taken, give --pixel-size")
    if len(sides) == 2 and abs(sides[0] - sides[1]) > MAX_ANISOTROPY * max(sides):
        raise FileError(
            f"{path}: pixels of {sides[0]:.4g} x {sides[1]:.4g} nm, not square; resample or give --pixel-size"
        )
    if len(sides) == 1:
        notes.append(f"only one side of a pixel is calibrated ({sides[0]:.4g} nm); taken as square")
    return (math.prod(sides) ** (1 / len(sides)) if sides else None), list(dict.fromkeys(notes))


def _frame_s(axis: Axis | None) -> tuple[float | None, list[str]]:
    if axis is None or axis.size < 2:
        return None, []
    unit = axis.unit
    if unit.kind == "none":
        return None, []
    if unit.kind != "time":
        return None, [f"time in {axis.units!r}, which is no unit of time; rates are per frame"]
    if axis.scale is None or not math.isfinite(axis.scale) or axis.scale <= 0:
        return None, [f"{axis.scale} {axis.units} from frame to frame cannot be; rates are per frame"]
    return axis.scale * unit.factor, []
