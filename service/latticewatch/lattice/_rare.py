"""Atoms in the same place of a few cells: what they leave in the average cell is no column of the lattice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice._cell import UnitCell
from latticewatch.lattice._light import light_at
from latticewatch.lattice._outliers import filled, near_places
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._profile import ColumnProfile
from latticewatch.lattice._sites import nearest_neighbour_px, predict_sites

# The light of a place is usual within these quantiles, which hold this many standard deviations of a normal one.
USUAL, USUAL_WIDTH = (0.2, 0.8), 1.6832
# Atoms stand out of it by this many standard deviations.
STANDS_OUT = 6.0
# A column of the average cell of which such atoms make up more than this share is none.
MOST_OF_IT = 0.6
# So few cells do not tell one from the other.
FEWEST_CELLS = 40
# Around an atom a frame is filled with what other cells have there [shortest distances between columns].
REACH = 1.2


def without_rare(
    image: NDArray[np.float32],
    flat: NDArray[np.float32],
    field: PhaseField,
    cell: UnitCell,
    profile: ColumnProfile,
) -> NDArray[np.float32] | None:
    """A frame without the atoms of a column that is there in few cells only.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    flat : ndarray of shape (height, width), float32
        The same `without_slow`.
    field : PhaseField
    cell : UnitCell
        Of this frame.
    profile : ColumnProfile
        Of its columns.

    Returns
    -------
    ndarray of shape (height, width), float32, or None
        What other cells have in the place of these atoms; None where all columns are columns.

    Notes
    -----
    A column that is missing in many cells stays one: the light of most cells is between that of its atoms and none.
    """
    shape = (image.shape[0], image.shape[1])
    sites = predict_sites(field, cell.columns, shape, profile.narrow)
    light = light_at(flat, sites.position, float(profile.narrow))
    rare = [
        sites.position[rows[which]]
        for s, height in enumerate(profile.height)
        for rows in (np.flatnonzero(sites.sublattice == s),)
        for which in (_rare_at(light[rows], float(height) * _light_of_one(profile)),)
        if len(which)
    ]
    if not rare:
        return None
    reach = REACH * nearest_neighbour_px(field.vectors, cell.columns)
    return _as_in_other_cells(image, field, np.concatenate(rare), reach)


def _light_of_one(profile: ColumnProfile) -> float:
    """Light of a column of height 1 in its own place, through a Gaussian as wide as its narrow one."""
    share, ratio = profile.share, (profile.broad / profile.narrow) ** 2
    return (1 - share) / 2 + share * ratio / (1 + ratio)


def _rare_at(light: NDArray[np.float64], of_column: float) -> NDArray[np.intp]:
    """Which places of a column stand out, where these make most of it up; none where it is a column."""
    if len(light) < FEWEST_CELLS:
        return np.zeros(0, np.intp)
    low, high = np.quantile(light, USUAL)
    usual, spread = (low + high) / 2, (high - low) / USUAL_WIDTH
    if spread <= 0:
        return np.zeros(0, np.intp)
    above = light - usual
    # what dirt and noise do goes both ways
    share = float(above[np.abs(above) > STANDS_OUT * spread].sum()) / len(light)
    return (
        np.flatnonzero(above > STANDS_OUT * spread)
        if share > MOST_OF_IT * of_column
        else np.zeros(0, np.intp)
    )


def _as_in_other_cells(
    image: NDArray[np.float32], field: PhaseField, places: NDArray[np.float64], reach: float
) -> NDArray[np.float32]:
    """A frame, the pixels around some places as whole cells away from them."""
    left = near_places(image.shape, places, reach)
    around, out = left.copy(), image.copy()
    for down, across in _whole_cells(field.vectors):
        rows, cols = np.nonzero(left)
        to = np.stack([rows + down, cols + across], 1)
        inside = ((to >= 0) & (to < image.shape)).all(1)
        rows, cols, to = rows[inside], cols[inside], to[inside]
        whole = ~around[to[:, 0], to[:, 1]]
        rows, cols, to = rows[whole], cols[whole], to[whole]
        out[rows, cols] = image[to[:, 0], to[:, 1]]
        left[rows, cols] = False
    return filled(out, left, reach) if left.any() else out


def _whole_cells(vectors: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Steps of whole cells [px], the shortest first, and of these those nearest to whole pixels."""
    steps = np.array([(i, j) for i in range(-3, 4) for j in range(-3, 4) if i or j], float) @ vectors
    whole = np.rint(steps)
    shell = np.rint(2 * np.hypot(*steps.T) / np.hypot(*steps.T).min())
    for k in np.lexsort((np.hypot(*(steps - whole).T), shell)):
        yield int(whole[k, 0]), int(whole[k, 1])
