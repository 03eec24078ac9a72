"""What a class may be: simulated patches of every simple point defect, at a site and at each of its neighbours.

No material is known here. The columns have the shape and the heights that the frames themselves show; a point defect
changes the height of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice import Lattice
from latticewatch.model import SublatticeTemplates, arrow

# Changes of height for which there is no simpler reading, as shares of the host's. Whatever lies between two steps is
# explained by the nearer one to nine parts in ten.
STEPS = (-0.75, -0.25, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
# Two changes that differ by less than this share are one and the same to any measurement; the simpler reading stays.
INDISTINCT = 0.05
# A step of height says nothing of its own: it gives way to a reading within half of the smallest step.
STEP_APART = 0.125
# A neighbour this much farther away than the nearest is named with its distance.
NEXT_SHELL = 1.2
# Columns beyond the corner of a patch still shine into it over so many widths of the broad Gaussian.
REACH_WIDTHS = 3.0


@dataclass(frozen=True, slots=True)
class Substitution:
    """One column that is not as in the perfect crystal.

    Attributes
    ----------
    name : str
    change : float
        Of the column's height, in units of the flattened frame.
    by_height : bool
        Only the height is known, or matches another column by chance: in a known material, an atomic number follows.
    """

    name: str
    change: float
    by_height: bool


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """Simulated classes of one sublattice; the host is the first.

    Attributes
    ----------
    names : tuple of str
    changes : ndarray of shape (n, k + 1), float64
        Change of height of the site's own column, then of each of its neighbours.
    by_height : ndarray of shape (n,), bool
        See `Substitution`.
    """

    names: tuple[str, ...]
    changes: NDArray[np.float64]
    by_height: NDArray[np.bool_]


def substitutions(
    sublattice: int, heights: Sequence[float], names: Sequence[str], halves: Sequence[str | None]
) -> list[Substitution]:
    """Everything simple that may stand in the place of a column.

    Parameters
    ----------
    sublattice : int
    heights : sequence of float
        Of the host column of each sublattice, in units of the flattened frame.
    names : sequence of str
        Of each sublattice's column.
    halves : sequence of str or None
        Name of a column of each sublattice that lost half of its height; None where it cannot be halved.
    """
    own, name = heights[sublattice], names[sublattice]
    wanted = [Substitution(f"{name} vacancy", -own, False)]
    half = halves[sublattice]
    wanted.append(Substitution(half or _step_name(name, -0.5), -own / 2, half is None))
    for other, height in enumerate(heights):
        if other != sublattice:
            wanted.append(Substitution(f"{names[other]} on {name}", height - own, True))
    for other, height in enumerate(heights):
        wanted.append(Substitution(f"{name} with {names[other]} on top", height, True))
    steps = [Substitution(_step_name(name, step), step * own, True) for step in STEPS]
    kept = [Substitution(name, 0.0, False)]
    for one, apart in [(one, INDISTINCT) for one in wanted] + [(one, STEP_APART) for one in steps]:
        if all(abs(one.change - k.change) > apart * max(abs(k.change), own) for k in kept):
            kept.append(one)
    return kept[1:]


def _step_name(name: str, step: float) -> str:
    return f"{name} {100 * step:+.0f} %".replace("-", "−")


def library(
    sublattice: int,
    templates: SublatticeTemplates,
    choices: Mapping[int, Sequence[Substitution]],
    name: str,
    *,
    invariant: bool,
) -> Library:
    """Every simulated class of a sublattice.

    Parameters
    ----------
    sublattice : int
    templates : SublatticeTemplates
        Of this sublattice.
    choices : mapping of int to sequence of Substitution
        What may stand in the place of the columns of each sublattice of the grain.
    name : str
        Of the sublattice's column.
    invariant : bool
        The neighbours at one distance change by turns, so that the patch is the mean over the orientations.
    """
    distance = np.hypot(*templates.offset.T)
    within = np.flatnonzero(distance <= templates.radius)
    nearest = float(distance.min(initial=np.inf))
    shells: list[list[int]] = []
    for k in within:
        alike = [
            shell
            for shell in shells
            if invariant
            and templates.neighbour[shell[0], 0] == templates.neighbour[k, 0]
            and distance[k] < (1 + INDISTINCT) * distance[shell[0]]
        ]
        if alike:
            alike[0].append(int(k))
        else:
            shells.append([int(k)])

    size = len(templates.moments)
    names, changes, by_height = [f"{name} host"], [np.zeros(size)], [False]
    for one in choices[sublattice]:
        names.append(one.name)
        changes.append(one.change * np.eye(size)[0])
        by_height.append(one.by_height)
    for shell in shells:
        where = "" if invariant else f" {arrow(templates.offset[shell[0]])}"
        if distance[shell[0]] > NEXT_SHELL * nearest:
            where += f" at {distance[shell[0]] / nearest:.1f} spacings"
        for one in choices[templates.neighbour[shell[0], 0]]:
            change = np.zeros(size)
            change[np.add(shell, 1)] = one.change / len(shell)
            names.append(f"{name} beside {one.name}{where}")
            changes.append(change)
            by_height.append(one.by_height)
    return Library(tuple(names), np.array(changes), np.array(by_height))


def perfect_patch(
    lattice: Lattice, sublattice: int, heights: Sequence[float], size: int
) -> NDArray[np.float64]:
    """Simulated patch of the perfect crystal, centred on a column; zero where there are no columns.

    Parameters
    ----------
    lattice : Lattice
        One grain.
    sublattice : int
        Of this grain.
    heights : sequence of float
        Of the host column of each sublattice of this grain.
    size : int
        Side of the patch [px].
    """
    field, profile = lattice.field, lattice.profile
    reach = size / np.sqrt(2) + REACH_WIDTHS * profile.broad
    span = int(np.ceil(reach * np.linalg.norm(np.linalg.inv(field.vectors), 2))) + 1
    shifts = np.stack(np.meshgrid(*[np.arange(-span, span + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    patch = np.zeros((size, size))
    for height, place in zip(heights, lattice.cell.columns, strict=True):
        offsets = (place - lattice.cell.columns[sublattice] + shifts) @ field.vectors
        patch += height * columns_at(lattice, offsets[np.hypot(*offsets.T) < reach], size).sum(0)
    return patch


def columns_at(lattice: Lattice, offsets: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Patches of single columns of height 1.

    Parameters
    ----------
    lattice : Lattice
    offsets : ndarray of shape (n, 2), float64
        Their places, relative to the centre of the patch (row, column) [px].
    size : int
        Side of the patch [px].

    Returns
    -------
    ndarray of shape (n, size, size), float64
    """
    axis = np.arange(size) - size // 2
    rows = (axis - offsets[:, :1]) ** 2
    cols = (axis - offsets[:, 1:]) ** 2
    return lattice.profile.at(rows[:, :, None] + cols[:, None, :])
