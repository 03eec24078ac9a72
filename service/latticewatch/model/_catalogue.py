"""The catalogue of classes: what each is called, what role it plays, and what it looks like on average."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.messages import Role

# A column that lost at least this share of its height is vacant.
VACANT = 0.85
ARROWS = "→↗↑↖←↙↓↘"
PATCHES_AVERAGED = 200


@dataclass(frozen=True, slots=True, eq=False)
class CatalogueEntry:
    """A class, as people and programs see it.

    Attributes
    ----------
    class_id : int
        Never used again for another class while the service runs.
    name : str
        Sublattice by brightness (A, B …) and change of the column's height, until a person renames it.
    role : {"host", "defect", "neighbour", "unknown"}
    sublattice : int
    host_class : int or None
        The host class of the same sublattice; between the columns, the first one of the grain.
    total : int
        Sites seen in this class since the model was learnt.
    prior : float
        Share of the sublattice's sites.
    separation : float or None
        d' from the host of the same sublattice, between the columns from nothing [sigma].
    average : ndarray of shape (patch_px, patch_px), float32
        Average patch, background removed, host columns near 1.
    template : str or None
        Best matching simulated class; None where none matches, or nothing was compared.
    score : float or None
        How well the nearest simulated class matches, 0 to 1; None where nothing was compared.
    runner_up : tuple of (str, float) or None
        The next best one and its score; where none matches, the nearest.
    template_patch : ndarray of shape (patch_px, patch_px), float32, or None
        Simulated patch of the nearest class, on the scale of `average`.
    averaged : int
        Patches in `average`; 0 where they were not counted.
    """

    class_id: int
    name: str
    role: Role
    sublattice: int
    host_class: int | None
    total: int
    prior: float
    separation: float | None
    average: NDArray[np.float32]
    template: str | None = None
    score: float | None = None
    runner_up: tuple[str, float] | None = None
    template_patch: NDArray[np.float32] | None = None
    averaged: int = 0

    def with_total(self, total: int, prior: float) -> CatalogueEntry:
        """The same class, counted on.

        Parameters
        ----------
        total : int
            Sites seen in it since the model was learnt.
        prior : float
            Share of the sublattice's sites.

        Returns
        -------
        CatalogueEntry
        """
        return replace(self, total=total, prior=prior)


def letter(sublattice: int) -> str:
    """Name of a sublattice: A is the brightest.

    Parameters
    ----------
    sublattice : int

    Returns
    -------
    str
        ``A`` to ``Z``, then ``L26`` and so on.
    """
    return chr(ord("A") + sublattice) if sublattice < 26 else f"L{sublattice}"


def defect_name(sublattice: int, change: float) -> str:
    """Name of a class from the change of its column's height, as a share of the host's.

    Parameters
    ----------
    sublattice : int
    change : float
        -1 for a column that is gone.

    Returns
    -------
    str
        ``A vacancy``, ``B −43 %``.
    """
    if change <= -VACANT:
        return f"{letter(sublattice)} vacancy"
    return f"{letter(sublattice)} {100 * change:+.0f} %".replace("-", "−")


def named_change(name: str) -> float | None:
    """Change of height that the name of a class says.

    Parameters
    ----------
    name : str
        As `defect_name` and `host_name` make them, such as ``A −43 %``.

    Returns
    -------
    float or None
        Relative to the host: -1 for a vacancy. None for any other name.
    """
    found = re.fullmatch(r"[A-Z]\d* (?:(vacancy)|(?:host )?([−+]\d+) %)(?: \(\d+\))?", name)
    if found is None:
        return None
    return -1.0 if found[1] else float(found[2].replace("−", "-")) / 100


def host_name(sublattice: int, change: float) -> str:
    """Name of a second population of a sublattice, as in an alloy, from the change of its columns' height.

    Parameters
    ----------
    sublattice : int
    change : float
        As a share of the host's height.

    Returns
    -------
    str
    """
    return f"{letter(sublattice)} host {100 * change:+.0f} %".replace("-", "−")


def displaced_name(
    sublattice: int, shift: NDArray[np.float64], pixel_size_nm: float | None, *, directed: bool = True
) -> str:
    """Name of displaced columns, from how far (row, column) [px] they are from their places.

    Parameters
    ----------
    sublattice : int
    shift : ndarray of shape (2,), float64
        Row, column [px].
    pixel_size_nm : float or None
        In picometres with it, in pixels without.
    directed : bool, optional
        With an arrow.

    Returns
    -------
    str
        ``A displaced → 35 pm``.
    """
    length = float(np.hypot(*shift))
    far = f"{length:.1f} px" if pixel_size_nm is None else f"{1000 * length * pixel_size_nm:.0f} pm"
    return (
        f"{letter(sublattice)} displaced {arrow(shift)} {far}"
        if directed
        else f"{letter(sublattice)} displaced {far}"
    )


def loose_name(sublattice: int) -> str:
    """Name of columns that are displaced each in its own way.

    Parameters
    ----------
    sublattice : int

    Returns
    -------
    str
    """
    return f"{letter(sublattice)} displaced"


def off_lattice_name(share: float, around: tuple[int, ...] = ()) -> str:
    """Name of columns where none belongs, by their height as a share of that of the highest column.

    Parameters
    ----------
    share : float
    around : tuple of int, optional
        The columns around; where they are two, it stands in their bond.

    Returns
    -------
    str
        ``off lattice, A +33 %``, ``off lattice A–B, A +33 %``.
    """
    bond = f" {letter(around[0])}–{letter(around[1])}" if len(around) == 2 else ""
    return f"off lattice{bond}, A {100 * share:+.0f} %".replace("-", "−")


def neighbour_name(sublattice: int, defect: str, offset: NDArray[np.float64] | None) -> str:
    """Name of a host column beside a defect, with an arrow towards it where orientations are kept apart.

    Parameters
    ----------
    sublattice : int
    defect : str
        Name of the defect.
    offset : ndarray of shape (2,), float64, or None
        From the host to the defect, row and column.

    Returns
    -------
    str
    """
    if offset is None:
        return f"{letter(sublattice)} beside {defect}"
    return f"{letter(sublattice)} beside {defect} {arrow(offset)}"


def arrow(offset: NDArray[np.float64]) -> str:
    """The arrow nearest to a direction (row, column) in the picture.

    Parameters
    ----------
    offset : ndarray of shape (2,), float64
        Rows count downwards.

    Returns
    -------
    str
        One of eight.
    """
    return ARROWS[round(float(np.degrees(np.arctan2(-offset[0], offset[1]))) / 45) % 8]


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken; adds it to the taken ones.

    Parameters
    ----------
    name : str
    taken : set of str
        Changed.

    Returns
    -------
    str
    """
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name} ({number})", number + 1
    taken.add(candidate)
    return candidate


def average_patch(
    image: NDArray[np.float32], position: NDArray[np.float64], size: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Average of the patches around some sites, resampled bilinearly at their sub-pixel centres.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    position : ndarray of shape (n, 2), float64
        Row and column [px]; at most `PATCHES_AVERAGED` of them are used.
    size : int
        Side of the patch [px].
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (size, size), float32
        Zeros where there are no sites.
    """
    if not len(position):
        return np.zeros((size, size), np.float32)
    if len(position) > PATCHES_AVERAGED:
        position = rng.choice(position, PATCHES_AVERAGED, replace=False)
    axis = np.arange(size) - size // 2
    rows = position[:, 0, None, None] + axis[:, None]
    cols = position[:, 1, None, None] + axis[None, :]
    rows, cols = np.broadcast_arrays(rows, cols)
    return ndimage.map_coordinates(image, [rows, cols], order=1, mode="nearest").mean(0).astype(np.float32)
