"""Axes of an array, named in whatever way, in; which of them is time, channel, row and column, out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latticewatch.ingest.files._units import Unit, unit_of

# What an axis may be: time, channel, depth (focus, slice), row, column, samples of a colour, energy, angle.
LETTERS = "TCZYXSEA"
_NAMES = {
    "T": {"t", "time", "times", "timepoint", "timepoints", "timeseries", "frame", "frames", "acquisition"},
    "C": {"c", "channel", "channels", "detector", "detectors", "segment", "segments", "wavelengthchannel",
          "coloremwavelengthchannel"},
    "Z": {"z", "depth", "slice", "slices", "focus", "defocus", "height3d", "plane", "sectionz"},
    "Y": {"y", "height", "row", "rows", "line", "lines", "ydirection", "yaxis", "scany", "imagey", "ypixel",
          "ypixels", "ypos", "yposition", "axisy", "ry", "ycoordinate", "slow", "slowaxis"},
    "X": {"x", "width", "col", "cols", "column", "columns", "xdirection", "xaxis", "scanx", "imagex", "xpixel",
          "xpixels", "xpos", "xposition", "axisx", "rx", "xcoordinate", "fast", "fastaxis"},
    "S": {"s", "rgb", "rgba", "sample", "samples", "color", "colour"},
    "E": {"e", "energy", "energyloss", "eloss", "energyaxis", "wavelength", "xrayenergy"},
    "A": {"angle", "tilt", "theta", "alpha", "qx", "qy", "kx", "ky"},
}  # fmt: skip
_ROLE = {name: role for role, names in _NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an array, as its file describes it.

    Attributes
    ----------
    size : int
    name : str
        Empty where the file gives none.
    scale : float or None
        Length of one step, in `units`.
    units : str
        As they are written.
    navigate : bool or None
        Whether the file calls it an axis over which images (or spectra) are taken.
    role : str
        One letter of `LETTERS`; empty where neither name nor unit tells.
    """

    size: int
    name: str = ""
    scale: float | None = None
    units: str = ""
    navigate: bool | None = None
    role: str = ""

    @property
    def unit(self) -> Unit:
        """What the units are."""
        return unit_of(self.units)

    def __str__(self) -> str:
        name = {"T": "time", "C": "channel", "S": "colour"}.get(self.role, self.name or "axis")
        return f"{name} ({self.size}{f', in {self.units}' if self.units else ''})"


def axis_of(size: int, name: Any = None, scale: Any = None, units: Any = None, navigate: Any = None) -> Axis:
    """An axis as a reader describes it; its role from its name, else from its unit.

    A unit says more than a name: an axis called x in seconds is time.
    """
    name = "" if name is None or str(name).startswith("<") else str(name).strip().strip("\0")
    units = "" if units is None or str(units).startswith("<") else str(units).strip()
    try:
        scale = None if scale is None else float(scale)
    except (TypeError, ValueError):
        scale = None
    kind = unit_of(units).kind
    role = _ROLE.get(re.sub(r"[^a-z0-9]", "", name.lower()), "")
    if kind == "time":
        role = "T"
    elif kind == "energy":
        role = "E"
    elif kind == "angle" and role not in ("Y", "X"):
        role = "A"
    elif kind in ("length", "reciprocal") and role in ("T", "C", "S", "E"):
        role = ""
    return Axis(int(size), name, scale, units, None if navigate is None else bool(navigate), role)


def roles_of(axes: Sequence[Axis]) -> str:
    """One letter for each axis; ``?`` where nothing tells which it is.

    Names and units first. What they leave open is settled by the order: of the axes that the file calls those
    of the image, or of the last ones, rows come before columns; an axis before them is time.
    """
    roles = [axis.role for axis in axes]
    missing = [role for role in "YX" if role not in roles]
    free = [k for k, role in enumerate(roles) if not role]
    signal = [k for k in free if axes[k].navigate is False]
    lengths = [k for k in free if axes[k].unit.kind in ("length", "reciprocal")]
    for pool in (signal, lengths, free):
        if missing and len(pool) >= len(missing):
            for k, role in zip(pool[-len(missing) :], missing, strict=True):
                roles[k] = role
            break
    free = [k for k, role in enumerate(roles) if not role]
    if len(free) == 1 and "T" not in roles:
        roles[free[0]] = "Z" if axes[free[0]].unit.kind == "length" else "T"
    return "".join(role or "?" for role in roles)


def looks_time_last(axes: Sequence[Axis]) -> bool:
    """Whether an array of three nameless axes is more likely rows, columns, time than time, rows, columns."""
    if len(axes) != 3 or any(axis.role or axis.units or axis.navigate is not None for axis in axes):
        return False
    first, second, third = (axis.size for axis in axes)
    # square frames are the rule; without them, one short axis at the end is the number of frames
    return third < min(first, second) / 2 and (
        first == second or max(first, second) <= 2 * min(first, second)
    )
