"""Each of two domains as if it went on beyond its boundary: what a patch beside the boundary is to be compared with.

A column beside a boundary has columns of the other domain around it, in other places than those of its own crystal. All
columns in reach have known places, so that their heights follow from the frame by least squares; those of the other
domain are then taken off, and the own lattice is put where it would go on.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import lsqr
from scipy.spatial import KDTree

from latticewatch.lattice._grains import grain_sites
from latticewatch.lattice._lattice import Lattice
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._profile import ColumnProfile
from latticewatch.lattice._sites import Sites, predict_sites

# A profile is drawn to this many of its broad widths, and fitted over so many of its narrow ones.
DRAWN, FITTED = 3.5, 2.0
# How much the height of a column is held to that of its host, in pixels of its own light: two columns in one place
# share the light instead of taking from each other.
HELD = 0.05
# Which of two domains has a place is looked at within this distance of a boundary [lattice constants]. A column is
# there where this share of its usual light is found; whose a place is that has none, the columns around say that belong
# to one domain alone, weighted by a Gaussian of this width.
SETTLED = 2.5
LIT = 0.5
VOTE_CELLS = 1.0
# A place that has none and that both domains may claim, by the difference of their votes, is no site.
LEAST_SIDE = 0.06
# Columns of two domains are in one place, or cannot both be there, nearer than these shares of the shortest distance.
SAME, CROWDED = 0.35, 0.6


def settled(image: NDArray[np.float32], main: PhaseField, lattice: Lattice) -> Sites:
    """Columns of the domains of a lattice, beside a boundary those of the domain that the columns around belong to.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Flattened: the brightest column of the lattice is near 1.
    main : PhaseField
        Where the domains lie in it.
    lattice : Lattice

    Returns
    -------
    Sites
        Numbered as in `grain_sites`; a little beyond the edges of the frame, too.
    """
    shape = image.shape[0], image.shape[1]
    drawn = DRAWN * lattice.profile.broad
    owned = grain_sites(main, lattice.columns, shape, -drawn)
    if sum(field is not None for field in main.grains) < 2:
        return owned
    near = lattice.nearest_neighbour_px
    both = [
        _everywhere(field, lattice, g, shape, drawn)
        for g, field in enumerate(main.grains)
        if field is not None
    ]
    all_sites = both[0].joined(both[1])
    grain = _grain(lattice, all_sites.sublattice)
    mine = _rows_of(all_sites, owned)
    # only where both domains are: near to a site of either
    of_owned = _grain(lattice, owned.sublattice)
    limit = SETTLED * lattice.constant_px
    near_to = [
        _within(all_sites.position, KDTree(owned.position[of_owned == g]), limit) for g in np.unique(of_owned)
    ]
    band = np.logical_and.reduce(near_to) & (len(near_to) == 2)
    if not band.any():
        return owned
    # two columns in one place are one: that of the domain that owns it
    pairs = KDTree(all_sites.position).query_pairs(SAME * near, output_type="ndarray")
    common = np.zeros(len(grain), bool)
    common[pairs.ravel()] = True
    other = np.zeros(len(grain), bool)
    other[np.where(mine[pairs[:, 0]], pairs[:, 1], pairs[:, 0])] = True
    fitted = (band | mine) & ~other
    usual = _heights(lattice)[all_sites.sublattice]
    which = np.flatnonzero(fitted)
    found = np.zeros(len(grain))
    in_band = band[which]
    expected = np.where(in_band, 0.0, usual[which])
    found[which] = expected
    found[which[in_band]] += _changes(
        image - np.float32(_base(lattice)), all_sites.position[which], expected, in_band, lattice.profile
    )
    lit = found > LIT * usual
    votes = np.flatnonzero(fitted & lit & ~common)
    if not len(votes):
        return owned
    side = np.zeros(len(grain))
    side[band] = _voted(
        all_sites.position[band],
        all_sites.position[votes],
        grain[votes] == 0,
        VOTE_CELLS * lattice.constant_px,
    )
    own = np.where(grain == 0, side, -side) > np.where(fitted & ~lit & ~common, LEAST_SIDE, 0.0)
    kept = np.where(band, own | (fitted & lit & ~common), mine)
    # what is lit is there; of two that are too near to each other, the brighter
    kept[band] &= ~_crowded(all_sites.position, kept, found / usual, own, CROWDED * near)[band]
    return all_sites.take(kept)


def continued(
    image: NDArray[np.float32],
    main: PhaseField,
    lattice: Lattice,
    there: Sites,
    sites: Sites,
    reach: float,
) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Sites that have columns of another domain in reach, and the frame as if their own went on; domain by domain.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Flattened: the brightest column of the lattice is near 1.
    main : PhaseField
        Where the domains lie in it.
    lattice : Lattice
    there : Sites
        All columns, see `settled`.
    sites : Sites
        Those of the columns that are wanted, and places between them numbered behind.
    reach : float
        How far around a site the frame counts [px].

    Returns
    -------
    list of tuple of (ndarray of shape (m,), intp, ndarray of shape (height, width), float32)
        Empty where one domain alone is in view.
    """
    shape = image.shape[0], image.shape[1]
    profile = lattice.profile
    drawn = DRAWN * profile.broad
    grain, of_site = _grain(lattice, there.sublattice), _grain(lattice, sites.sublattice)
    found = _heights(lattice)[there.sublattice]
    fitted = _beside(there.position, grain, there.position, grain, 2 * (reach + drawn))
    if not fitted.any():
        return []
    level = image - np.float32(_base(lattice))
    found[fitted] += _changes(level, there.position, found, fitted, profile)
    wanted = _beside(sites.position, of_site, there.position, grain, reach + drawn)
    out = []
    for g, field in enumerate(main.grains):
        rows = np.flatnonzero((of_site == g) & wanted)
        if field is None or not len(rows):
            continue
        near = KDTree(sites.position[rows])
        on = _everywhere(field, lattice, g, shape, drawn)
        on = on.take(~_rows_of(on, there))
        seen = image.copy()
        for position, height in (
            (there.position[grain != g], -found[grain != g]),
            (on.position, _heights(lattice)[on.sublattice]),
        ):
            in_reach = _within(position, near, reach + drawn)
            _draw(seen, position[in_reach], height[in_reach], profile, drawn)
        out.append((rows, seen))
    return out


def _heights(lattice: Lattice) -> NDArray[np.float64]:
    """Height of a column of each sublattice in the flattened frame."""
    return np.concatenate([one.profile.height for one in lattice.grains]) / lattice.profile.height[0]


def _base(lattice: Lattice) -> float:
    """What a flattened frame has between the columns, without their tails."""
    return (lattice.profile.base - float(lattice.cell.mean.min())) / float(lattice.profile.height[0])


def _beside(
    position: NDArray[np.float64],
    grain: NDArray[np.intp],
    columns: NDArray[np.float64],
    of_column: NDArray[np.intp],
    limit: float,
) -> NDArray[np.bool_]:
    """Places with a column of a domain that is not their own within a limit."""
    out = np.zeros(len(position), bool)
    for g in np.unique(of_column):
        others = np.flatnonzero(grain != g)
        out[others] |= _within(position[others], KDTree(columns[of_column == g]), limit)
    return out


def _within(position: NDArray[np.float64], columns: KDTree, limit: float) -> NDArray[np.bool_]:
    """Places with a column within a limit."""
    return np.isfinite(columns.query(position, distance_upper_bound=limit)[0])


def _voted(
    position: NDArray[np.float64], voter: NDArray[np.float64], yes: NDArray[np.bool_], width: float
) -> NDArray[np.float64]:
    """What the voters around a place say of it, from -1 to 1: the plane through their votes, weighted by a Gaussian."""
    apart = (voter[None] - position[:, None]) / width
    weight = np.exp(-0.5 * (apart**2).sum(-1))
    terms = np.concatenate([np.ones((*apart.shape[:2], 1)), apart], -1)
    square = np.einsum("nmi,nm,nmj->nij", terms, weight, terms)
    square += 1e-3 * (weight.sum(1) + np.finfo(float).tiny)[:, None, None] * np.eye(3)
    right = np.einsum("nmi,nm->ni", terms, weight * np.where(yes, 1.0, -1.0))
    return np.linalg.solve(square, right[..., None])[:, 0, 0]


def _crowded(
    position: NDArray[np.float64],
    kept: NDArray[np.bool_],
    light: NDArray[np.float64],
    own: NDArray[np.bool_],
    limit: float,
) -> NDArray[np.bool_]:
    """Of two that are kept too near to each other, the one that is dark, or else the one that is not at home."""
    out = np.zeros(len(position), bool)
    which = np.flatnonzero(kept)
    for a, b in which[KDTree(position[which]).query_pairs(limit, output_type="ndarray")]:
        first = (light[a] > LIT, own[a], light[a]) >= (light[b] > LIT, own[b], light[b])
        out[b if first else a] = True
    return out


def _everywhere(
    field: PhaseField, lattice: Lattice, grain: int, shape: tuple[int, int], drawn: float
) -> Sites:
    """Columns of a domain as if it covered the frame."""
    whole = PhaseField(field.basis, field.phase, np.ones_like(field.amplitude), field.origin, field.step)
    sites = predict_sites(whole, lattice.columns[grain], shape, -drawn, may_be_cut=False)
    return Sites(sites.position, sites.sublattice + np.int16(_first(lattice, grain)), sites.cell)


def _rows_of(sites: Sites, others: Sites) -> NDArray[np.bool_]:
    """Which of some sites are among others."""
    known = {(s, a, b) for s, (a, b) in zip(others.sublattice.tolist(), others.cell.tolist(), strict=True)}
    ours = zip(sites.sublattice.tolist(), sites.cell.tolist(), strict=True)
    return np.array([(s, a, b) in known for s, (a, b) in ours], bool)


def _first(lattice: Lattice, grain: int) -> int:
    return sum(len(columns) for columns in lattice.columns[:grain])


def _grain(lattice: Lattice, sublattice: NDArray[np.int16]) -> NDArray[np.intp]:
    """The grain of each site; of places between the columns, too, which are numbered behind all columns."""
    from latticewatch.lattice._voids import void_places  # here: it needs the lattice, too

    columns = [len(own) for own in lattice.columns]
    voids = [len(void_places(one)) for one in lattice.grains]
    of_sublattice = np.repeat(np.tile(np.arange(len(columns)), 2), columns + voids)
    return np.asarray(of_sublattice[sublattice], np.intp)


def _changes(
    image: NDArray[np.float32],
    position: NDArray[np.float64],
    usual: NDArray[np.float64],
    fitted: NDArray[np.bool_],
    profile: ColumnProfile,
) -> NDArray[np.float64]:
    """By how much the heights of some columns differ from the usual ones, by least squares."""
    left = image.copy()
    _draw(left, position, -usual, profile, DRAWN * profile.broad)
    which = np.flatnonzero(fitted)
    pixel, column, value = _design(position[which], profile, FITTED * profile.narrow, image.shape)
    rows, of_row = np.unique(pixel, return_inverse=True)
    design = sparse.csr_matrix((value, (of_row.ravel(), column)), shape=(len(rows), len(which)))
    light = float(profile.at(np.zeros(1))[0]) ** 2 * np.pi * profile.narrow**2
    target = left.reshape(-1)[rows].astype(float)
    return np.asarray(lsqr(design, target, damp=np.sqrt(HELD * light), atol=1e-6, btol=1e-6)[0])


def _design(
    position: NDArray[np.float64], profile: ColumnProfile, reach: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Profile of every column at the pixels in reach: pixel, column, value."""
    side = int(np.ceil(reach))
    down, across = (x.ravel() for x in np.mgrid[-side : side + 1, -side : side + 1])
    whole = np.rint(position).astype(np.intp)
    row, col = whole[:, :1] + down, whole[:, 1:] + across
    squared = (row - position[:, :1]) ** 2 + (col - position[:, 1:]) ** 2
    kept = (squared < reach**2) & (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    column = np.broadcast_to(np.arange(len(position))[:, None], kept.shape)
    return (row * shape[1] + col)[kept], column[kept], profile.at(squared[kept])


def _draw(
    image: NDArray[np.float32],
    position: NDArray[np.float64],
    height: NDArray[np.float64],
    profile: ColumnProfile,
    reach: float,
) -> None:
    """Add columns to a frame, in place."""
    _add(image, position, height, profile.narrow, profile.broad, profile.share, reach)


@njit(cache=True, nogil=True)
def _add(image, position, height, narrow, broad, share, reach):  # pragma: no cover - compiled
    """Add two concentric Gaussians for each column, up to a distance."""
    n_rows, n_cols = image.shape
    for k in range(len(position)):
        row, col = position[k, 0], position[k, 1]
        for r in range(max(int(np.ceil(row - reach)), 0), min(int(row + reach), n_rows - 1) + 1):
            for c in range(max(int(np.ceil(col - reach)), 0), min(int(col + reach), n_cols - 1) + 1):
                squared = (r - row) ** 2 + (c - col) ** 2
                if squared < reach**2:
                    value = (1 - share) * np.exp(-0.5 * squared / narrow**2)
                    value += share * np.exp(-0.5 * squared / broad**2)
                    image[r, c] += height[k] * value
