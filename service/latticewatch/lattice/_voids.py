"""Places between the columns: where an atom that belongs to no column of the crystal has the most room."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.lattice._grains import grain_sites
from latticewatch.lattice._lattice import Lattice
from latticewatch.lattice._light import light_at
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._sites import Sites, nearest_neighbour_px
from latticewatch.robust import median_and_spread

# A hollow nearer to a column than this share of the shortest distance between columns is part of it, and so is the
# middle of a bond; two places nearer to each other than this are one.
MIN_ROOM, MIN_BOND_ROOM = 0.55, 0.45
SAME_PLACE = 0.45
MAX_VOIDS = 12
# Columns as far from a place as the nearest one, within this share, surround it.
AS_NEAR = 0.05
# An empty place is brighter than this by chance once in some thousand; fewer places of a kind are all looked at.
LIT_SIGMA = 3.5
MIN_PLACES = 16


@lru_cache(maxsize=16)
def void_places(lattice: Lattice) -> NDArray[np.float64]:
    """Places between the columns: the hollows, which are farthest from all of them, and the middles of the bonds.

    Hollows are vertices of the Voronoi diagram of the columns; bonds cross its edges, and no third column is as near to
    their middle as their ends. An atom anywhere else is near enough to one of these places to be seen from there,
    unless a hollow is much wider than the shortest bond is long.

    Parameters
    ----------
    lattice : Lattice
        Of one grain.

    Returns
    -------
    ndarray of shape (n_voids, 2), float64
        Cell coordinates, hollows before bonds, the roomiest first; at most `MAX_VOIDS`.
    """
    from scipy.spatial import Voronoi  # here: once for each lattice

    vectors, columns = lattice.field.vectors, lattice.cell.columns
    spacing = nearest_neighbour_px(vectors, columns)
    shifts = np.array([(i, j) for i in range(-2, 4) for j in range(-2, 4)], float)
    points = (columns[:, None] + shifts).reshape(-1, 2)
    diagram = Voronoi(points @ vectors)
    hollows = diagram.vertices @ np.linalg.inv(vectors)
    ends = points[diagram.ridge_points]
    bonds, reach = ends.mean(1), np.hypot(*((ends[:, 0] - ends[:, 1]) @ vectors).T) / 2
    # where a third column is nearer to the middle, the two are no neighbours
    bonds = bonds[_room(bonds, points, vectors) > (1 - AS_NEAR) * reach]
    kept: list[NDArray[np.float64]] = []
    for candidates, least in ((hollows, MIN_ROOM), (bonds, MIN_BOND_ROOM)):
        # those of the middle cell, and a little more, so that rounding loses none at its edge
        places = candidates[((candidates > -1e-6) & (candidates < 1 + 1e-6)).all(1)] % 1.0
        room = _room(places, points, vectors)
        for k in np.argsort(-np.round(room, 6), kind="stable"):
            if room[k] < least * spacing or len(kept) == MAX_VOIDS:
                break
            if _apart(places[k], kept, vectors) > SAME_PLACE * spacing:
                kept.append(places[k])
    return np.array(kept).reshape(-1, 2)


def _room(
    places: NDArray[np.float64], points: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of each place from the nearest column [px]."""
    return np.asarray(np.hypot(*((places[:, None] - points) @ vectors).transpose(2, 0, 1)).min(1))


def _apart(
    place: NDArray[np.float64], kept: list[NDArray[np.float64]], vectors: NDArray[np.float64]
) -> float:
    """Distance of a place from the nearest of some others, in any cell [px]."""
    around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], float)
    apart = [np.hypot(*((place - other + around) @ vectors).T).min() for other in kept]
    return float(min(apart, default=np.inf))


def columns_around(
    place: NDArray[np.float64], columns: NDArray[np.float64], vectors: NDArray[np.float64]
) -> tuple[int, ...]:
    """Columns that surround a place between them: two are a bond, more a hollow.

    Parameters
    ----------
    place : ndarray of shape (2,), float64
        Cell coordinates.
    columns : ndarray of shape (n, 2), float64
        Cell coordinates.
    vectors : ndarray of shape (2, 2), float64
        Of the lattice, as rows [px].

    Returns
    -------
    tuple of int
        Which of the columns are about as near as the nearest, once for each cell that they are so near in, in order.
    """
    shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)], float)
    distance = np.hypot(*((columns[:, None] + shifts - place % 1.0) @ vectors).transpose(2, 0, 1))
    which, _ = np.nonzero(distance <= (1 + AS_NEAR) * distance.min())
    return tuple(which.tolist())


def void_sites(main: PhaseField, lattice: Lattice, shape: tuple[int, int], margin: float) -> Sites:
    """Every place between the columns inside a frame, numbered behind the sublattices that have a column.

    Parameters
    ----------
    main : PhaseField
        Where the lattice lies in the frame.
    lattice : Lattice
    shape : tuple of int
        Rows and columns of the frame.
    margin : float
        Places nearer than this to the edge of the frame are left out [px].

    Returns
    -------
    Sites
    """
    places = tuple(void_places(grain) for grain in lattice.grains)
    if not any(len(own) for own in places):
        return Sites.none()
    found = grain_sites(main, places, shape, margin)
    first = sum(len(columns) for columns in lattice.columns)
    return Sites(found.position, (found.sublattice + np.int16(first)).astype(np.int16), found.cell)


def lit(image: NDArray[np.float32], sites: Sites, width: float, sigma: float = LIT_SIGMA) -> NDArray[np.intp]:
    """Those of some places between the columns that are brighter than chance makes an empty one.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Background-corrected.
    sites : Sites
    width : float
        Standard deviation of a column's profile [px].
    sigma : float, optional
        Standard deviations above the usual brightness.

    Returns
    -------
    ndarray of shape (m,), intp
        Rows of `sites`.
    """
    light = light_at(image, sites.position, float(width))
    return np.flatnonzero(_stand_out(light, sites.sublattice, float(sigma)))


@njit(cache=True, nogil=True)
def _stand_out(light, sublattice, sigma):  # pragma: no cover - compiled
    """Which places are brighter than is usual for their kind: the middle of a bond has more light than a hollow."""
    n = len(light)
    seen = np.ones(n, np.bool_)
    mine, which = np.empty(n), np.empty(n, np.intp)
    for s in np.unique(sublattice):
        m = 0
        for i in range(n):
            if sublattice[i] == s:
                mine[m], which[m] = light[i], i
                m += 1
        if m < MIN_PLACES:
            continue
        level, spread = median_and_spread(mine[:m])
        for k in range(m):
            seen[which[k]] = mine[k] > level + sigma * spread
    return seen
