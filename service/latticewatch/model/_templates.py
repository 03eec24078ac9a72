"""What one column more or less does to the moments of the patches that see it.

A change of occupancy adds a multiple of the column profile to the frame, at the site or at one of its neighbours. Its
moments are the template of a matched filter; together they span every point defect that sits on the lattice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.features import ZernikeDisk
from latticewatch.lattice import ColumnProfile, Lattice, PixelNoise, columns_around, void_places

# A neighbour counts while its centre is in the patch, or at most so many widths of the column profile out of it: it
# shines in.
REACH_WIDTHS = 2.5
# What the profile leaves over in the average cell, times this, is how wrong it may be for a column of another kind.
PROFILE_TRUST = 2.0
# The misfit of a cell averaged from few frames is mostly noise: no profile is as wrong as this.
WORST_PROFILE = 0.03
# A column farther from its place than this share of the shortest distance between columns is another column.
FARTHEST = 0.35
# And an atom between the columns stands no farther than this share of it from one of the places there: what is half a
# bond from a column of a honeycomb is half a bond from the nearest of them.
FARTHEST_BETWEEN = 0.5
# Distances and directions at which it is looked at, and the order up to which what it adds is written as a polynomial:
# within 1 % of a column's light out to two widths of its profile.
RINGS, DIRECTIONS = 6, 16
ORDER = 7
N_TERMS = ORDER * (ORDER + 3) // 2


@dataclass(frozen=True, slots=True, eq=False)
class SublatticeTemplates:
    """Templates and noise of the patches on one sublattice.

    Attributes
    ----------
    neighbour : ndarray of shape (k, 3), int32
        Sublattice, and cell relative to the site's own, of each neighbour in reach.
    offset : ndarray of shape (k, 2), float64
        Where it is, relative to the site (row, column) [px].
    moments : ndarray of shape (k + 1, n_moments), float64
        Moments of a column profile of height 1 at the site itself, then at each neighbour.
    moved : ndarray of shape (k + 1, n_terms, n_moments), float64
        What the host column at the site itself, then at each neighbour, adds when it is displaced: the factors of
        `shift_terms`. Of a neighbour that is a place between the columns: a column of height 1.
    farthest_px : float
        Displacements of columns up to which that holds [px].
    n_columns : int
        Neighbours that are columns of the crystal; those behind them are places between the columns.
    noise : ndarray of shape (n_moments, n_moments), float64
        Covariance of the moments from independent pixel noise.
    radius : float
        Of the patch [px].
    height : float
        Height of the host column, in units of the flattened frame; between the columns that of the highest one.
    flat : ndarray of shape (n_moments,), float64, or None
        Moments of a patch of the intensity 1 everywhere.
    void : bool
        It is a place between the columns, whose host is nothing.
    around : tuple of int
        Columns, counted within the grain, that surround a place between them: two are a bond, more a hollow. Places
        that are surrounded by the same columns are of one kind.
    heights : ndarray of shape (k + 1,), float64
        Height of the host column at the site itself, then at each neighbour; 0 between the columns. Empty in models
        that were kept before it was known.
    profile_error : float
        Share of a column's height by which the profile may be wrong.
    between_px : float
        The same of what is between the columns; 0 in models that were kept when it was one number.
    grain : int
        Which grain of the frame the sublattice belongs to.
    directions_deg : tuple of float
        Directions of the two lattice vectors, counter-clockwise from the x axis as displayed [degrees].
    resampling : ndarray of shape (2, n_moments), float64, or None
        How the moments of the host change with the blur of resampling, see `resampling_slopes`; None while unknown.
    """

    neighbour: NDArray[np.int32]
    offset: NDArray[np.float64]
    moments: NDArray[np.float64]
    moved: NDArray[np.float64]
    farthest_px: float
    n_columns: int
    noise: NDArray[np.float64]
    radius: float
    height: float
    flat: NDArray[np.float64] | None = None
    void: bool = False
    around: tuple[int, ...] = ()
    heights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    profile_error: float = 0.0
    between_px: float = 0.0
    grain: int = 0
    directions_deg: tuple[float, float] = (0.0, 90.0)
    resampling: NDArray[np.float64] | None = None

    @property
    def columns(self) -> NDArray[np.float64]:
        """Moments of a column of height 1 at the site itself and at each neighbour that is a column of the crystal."""
        return self.moments[: self.n_columns + 1]

    @property
    def away_px(self) -> float:
        """How far an atom between the columns may be from the middle of its place [px]."""
        return self.between_px or self.farthest_px

    def without_voids(self) -> SublatticeTemplates:
        """The same, as if nothing could be between the columns."""
        n = self.n_columns
        return replace(
            self,
            neighbour=self.neighbour[:n],
            offset=self.offset[:n],
            moments=self.moments[: n + 1],
            moved=self.moved[: n + 1],
            heights=self.heights[: n + 1],
        )


def sublattice_templates(
    lattice: Lattice, scale: float, noise: PixelNoise, zernike: ZernikeDisk
) -> tuple[SublatticeTemplates, ...]:
    """Templates of every sublattice of a lattice, those of one grain after those of another.

    Behind them those of the places between the columns, which count as sublattices without a column.

    Parameters
    ----------
    lattice : Lattice
    scale : float
        Counts that are 1 in the flattened frame.
    noise : PixelNoise
        Pixel noise of the flattened frame.
    zernike : ZernikeDisk

    Returns
    -------
    tuple of SublatticeTemplates
    """
    n_columns = [len(grain.cell.columns) for grain in lattice.grains]
    n_voids = [len(void_places(grain)) for grain in lattice.grains]
    found: list[SublatticeTemplates] = []
    between: list[SublatticeTemplates] = []
    for number, grain in enumerate(lattice.grains):
        first = sum(n_columns[:number]), sum(n_columns) + sum(n_voids[:number])
        own = [replace(t, grain=number) for t in _of_grain(grain, first, scale, noise, zernike)]
        found += own[: n_columns[number]]
        between += own[n_columns[number] :]
    return tuple(found + between)


def _of_grain(
    lattice: Lattice, first: tuple[int, int], scale: float, noise: PixelNoise, zernike: ZernikeDisk
) -> list[SublatticeTemplates]:
    """Of the columns of a grain, then of the places between them; first: their numbers."""
    size = zernike.patch_size
    axis = np.arange(size, dtype=float) - size // 2
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    vectors, cell, profile = lattice.field.vectors, lattice.cell, lattice.profile
    to_cell = np.linalg.inv(vectors)
    reach = size / 2 + REACH_WIDTHS * profile.narrow
    span = int(np.ceil(reach / np.abs(np.linalg.det(vectors)) * np.hypot(*vectors.T).max())) + 1
    shifts = [(i, j) for i in range(-span, span + 1) for j in range(-span, span + 1)]
    perfect = (cell.mean - cell.mean.min()) / scale
    first_deg, second_deg = np.degrees(np.arctan2(-vectors[:, 0], vectors[:, 1])).tolist()

    farthest = FARTHEST * lattice.nearest_neighbour_px
    between = FARTHEST_BETWEEN * lattice.nearest_neighbour_px

    places = np.concatenate([cell.columns, void_places(lattice)])
    n = len(cell.columns)
    number = [first[0] + k for k in range(n)] + [first[1] + k for k in range(len(places) - n)]
    # an atom between the columns is looked at as high as the highest of them
    tall = np.append(profile.height, np.full(len(places) - n, profile.height.max())) / scale
    own = np.append(profile.height, np.zeros(len(places) - n)) / scale

    found = []
    for index, column in enumerate(places):
        neighbours = []
        for other in range(len(places)):
            for i, j in shifts:
                offset = (places[other] - column + (i, j)) @ vectors
                distance = float(np.hypot(*offset))
                # an atom between the columns shines in from nearer than the middle of its place
                nearer = between if index < n <= other else 0.0
                if 1e-6 < distance <= reach + nearer:
                    neighbours.append((other >= n, distance, number[other], other, i, j, *offset))
        neighbours.sort()
        around = np.array(neighbours, float).reshape(-1, 8)
        centres = np.concatenate([np.zeros((1, 2)), around[:, 6:8]])
        which = [index, *around[:, 3].astype(int)]
        heights = np.where(own[which] > 0.0, own[which], 1.0)
        heights[0] = tall[index]
        shapes = _shapes(profile, grid, centres)
        trials = trial_shifts(1.0)
        inverse = np.linalg.pinv(shift_terms(trials, 1.0))
        reaches = np.where(own[which] > 0.0, farthest, between)
        moved = [
            inverse @ _moments(zernike, h * (_shapes(profile, grid, centre + far * trials) - shape))
            for h, far, centre, shape in zip(heights, reaches, centres, shapes, strict=True)
        ]
        at = (column + grid @ to_cell) * cell.mean.shape
        expected = ndimage.map_coordinates(perfect, np.moveaxis(at, -1, 0), order=1, mode="grid-wrap")
        found.append(
            SublatticeTemplates(
                neighbour=around[:, [2, 4, 5]].astype(np.int32),
                offset=around[:, 6:8],
                moments=_moments(zernike, shapes),
                moved=np.stack(moved),
                farthest_px=farthest,
                n_columns=int((around[:, 0] == 0).sum()),
                flat=_moments(zernike, np.ones((1, size, size)))[0],
                void=index >= n,
                around=columns_around(column, cell.columns, vectors) if index >= n else (),
                heights=own[which],
                noise=np.asarray(zernike.noise_covariance(noise.variance(expected)), np.float64),
                radius=size / 2,
                height=float(tall[index]),
                profile_error=min(PROFILE_TRUST * profile.residual, WORST_PROFILE),
                between_px=between,
                directions_deg=(first_deg, second_deg),
            )
        )
    return found


def trial_shifts(farthest_px: float) -> NDArray[np.float64]:
    """Displacements (row, column) at which a column is looked at, shape (n, 2) [px]."""
    radius = farthest_px * np.arange(1, RINGS + 1) / RINGS
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    r, a = (x.ravel() for x in np.meshgrid(radius, angle, indexing="ij"))
    return np.stack([r * np.sin(a), r * np.cos(a)], 1)


def shift_terms(
    shift: NDArray[np.float64], farthest_px: float, n_terms: int = N_TERMS
) -> NDArray[np.float64]:
    """The products of a displacement's two parts up to the order `ORDER`, shape (n, n_terms).

    Parameters
    ----------
    shift : ndarray of shape (n, 2), float64
        Row and column [px].
    farthest_px : float
        Length that counts as one.
    n_terms : int, optional
        Fewer in models that were kept when the order was lower.
    """
    out = np.empty((len(shift), n_terms))
    terms_of(np.asarray(shift, np.float64) / farthest_px, out)
    return out


@njit(cache=True, nogil=True)
def terms_of(shift, out):  # pragma: no cover - compiled
    """See `shift_terms`; the products of each order are those of the order before, times one part.

    shift (n, 2): in units of the farthest; out (n, n_terms): filled in.
    """
    for m in range(len(shift)):
        a, b = shift[m, 0], shift[m, 1]
        out[m, 0], out[m, 1] = a, b
        first, n = 0, 1
        while first + n + 1 < out.shape[1]:
            n += 1
            k = first + n
            for i in range(n):
                out[m, k + i] = a * out[m, first + i]
            out[m, k + n] = b * out[m, k - 1]
            first = k


def _shapes(
    profile: ColumnProfile, grid: NDArray[np.float64], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Columns of height 1 at some places of a patch, shape (n, size, size)."""
    row, col = grid[:, 0, 0] - centres[:, :1], grid[0, :, 1] - centres[:, 1:]
    return profile.at(row[:, :, None] ** 2 + col[:, None, :] ** 2)


def _moments(zernike: ZernikeDisk, patches: NDArray[np.float64]) -> NDArray[np.float64]:
    return zernike.of(patches.astype(np.float32)).astype(np.float64)
