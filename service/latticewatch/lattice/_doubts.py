"""What a lattice, as it was found, does not explain of its frame: told, since it cannot be followed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._spectrum import BraggPeaks, reciprocal_basis
from latticewatch.messages import Note

# Bragg peaks that no grain explains are another lattice from this share of the strongest, and this significance, on.
MIN_SHARE = 0.2
MIN_SIGNIFICANCE = 30.0
# So many of them at least, this far from any order of the lattices known [bins].
MIN_PEAKS = 3
MIN_BINS_AWAY = 2.0
# Peaks at fractions of the orders down to this one, to so many bins, are a larger cell of the same lattice; chance
# comes as near to them in this share of the cases at most.
LARGEST_FRACTION = 6
FRACTION_BINS = 1.0
MAX_CHANCE = 0.2
# Columns that are longer than wide are told where that takes off so much of the misfit.
MAX_MISFIT_LEFT = 0.7
# Twin peaks of an order: from this share of the strongest on, the weaker at least this share of the other, one of them
# within so many bins of the order and the other beyond so many; turned alike to this share of the angle.
MIN_TWIN_SHARE, MIN_TWIN_POWER = 0.1, 0.4
TWIN_BINS = (1.5, 2.4)
MAX_UNLIKE = 0.5
# Lattices whose constants differ by less than this share have an angle between them.
LIKE_SIZE = 0.1
# A cell of which this share of its range is left over by round columns; 0.01 to 0.03 is usual.
MAX_MISFIT = 0.05


class Beside(NamedTuple):
    """A lattice that lies over the one that is followed.

    Attributes
    ----------
    turned_deg : float
        By how much it is turned, at least.
    ratio : float
        Its lattice constant over that of the one that is followed.
    """

    turned_deg: float
    ratio: float


class Ellipse(NamedTuple):
    """Shape of columns that are not round.

    Attributes
    ----------
    ratio : float
        Long axis over short axis.
    angle_deg : float
        Of the long axis from the rows of the frame, counter-clockwise, 0 to 180.
    misfit : float
        Of such columns with the average cell, as `ColumnProfile.misfit`.
    """

    ratio: float
    angle_deg: float
    misfit: float


def lattice_beside(peaks: BraggPeaks, field: PhaseField) -> Beside | None:
    """Another lattice in the spectrum of a frame; None where the lattice that is known, with its grains, is all.

    Parameters
    ----------
    peaks : BraggPeaks
        Of the frame.
    field : PhaseField
        Of the lattice that is known, and of its other grains.
    """
    turned = _twins(peaks, field.basis)
    if turned is not None:
        return Beside(turned, 1.0)
    left = _unexplained(peaks, field)
    if len(left.frequency) < MIN_PEAKS:
        return None
    basis = reciprocal_basis(left)
    if basis is None:
        return None
    known, other = (np.linalg.inv(one).T for one in (field.basis, basis))
    size = [math.sqrt(abs(float(np.linalg.det(one)))) for one in (known, other)]
    return Beside(_turned_deg(field.basis, basis), size[1] / size[0])


def _twins(peaks: BraggPeaks, basis: NDArray[np.float64]) -> float | None:
    """By how much the same lattice once more is turned [degrees], where orders have two peaks each; None without.

    Layers turned by a few degrees show it in their outer orders, where the inner ones are one peak still.
    """
    strong = peaks.significance > max(MIN_TWIN_SHARE * peaks.significance.max(initial=0.0), MIN_SIGNIFICANCE)
    frequency, power = peaks.frequency[strong], peaks.significance[strong]
    order = np.rint(frequency @ np.linalg.inv(basis)).astype(int)
    away = frequency - order @ basis
    bins = np.hypot(*away.T) / peaks.resolution
    turns = []
    for one in np.unique(order[order.any(1)], axis=0):
        mine = np.flatnonzero((order == one).all(1))
        if len(mine) != 2:
            continue
        near, far = mine[np.argsort(bins[mine])]
        if bins[near] > TWIN_BINS[0] or bins[far] < TWIN_BINS[1] or power[far] < MIN_TWIN_POWER * power[near]:
            continue
        q, d = frequency[near], frequency[far] - frequency[near]
        turns.append(np.array([q[0] * d[1] - q[1] * d[0], q @ d]) / (q @ q))
    if len(turns) < MIN_PEAKS:
        return None
    angle, stretch = np.transpose(turns)
    least = abs(float(angle.mean()))
    # a strain moves peaks along their direction, too, and some more than others
    if max(float(np.ptp(angle)), float(np.abs(stretch).max())) > MAX_UNLIKE * least:
        return None
    return float(np.degrees(least))


def _unexplained(peaks: BraggPeaks, field: PhaseField) -> BraggPeaks:
    strong = peaks.significance > max(MIN_SHARE * peaks.significance.max(initial=0.0), MIN_SIGNIFICANCE)
    left = BraggPeaks(peaks.frequency[strong], peaks.significance[strong], peaks.resolution)
    bases = [grain.basis for grain in field.grains if grain is not None]
    for basis in bases:
        away = _away(left, basis, MIN_BINS_AWAY)
        left = BraggPeaks(left.frequency[away], left.significance[away], left.resolution)
    for basis in bases:
        for n in range(2, LARGEST_FRACTION + 1):
            # of a mesh so fine that chance comes near to it nothing can be said
            finest = abs(float(np.linalg.det(basis))) / n**2
            if np.pi * (2 * FRACTION_BINS * peaks.resolution) ** 2 > MAX_CHANCE * finest:
                break
            if not len(_away(left, basis / n, FRACTION_BINS)):
                return BraggPeaks(left.frequency[:0], left.significance[:0], left.resolution)
    return left


def _away(peaks: BraggPeaks, basis: NDArray[np.float64], bins: float) -> NDArray[np.intp]:
    """Peaks that are farther than so many bins from any order of a basis."""
    order = peaks.frequency @ np.linalg.inv(basis)
    whole = np.rint(order)
    miss = np.hypot(*((order - whole) @ basis).T)
    # an error of the basis grows with the order
    reach = bins * peaks.resolution * (1 + 0.25 * np.abs(whole).max(1, initial=0))
    return np.flatnonzero((miss > reach) | (np.abs(whole).max(1, initial=0) == 0))


def _turned_deg(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Smallest angle between short vectors of two reciprocal lattices."""
    signs = np.array([(1, 0), (0, 1), (1, 1), (1, -1)], float)
    angles = []
    for basis in (one, other):
        vectors = signs @ basis
        length = np.hypot(*vectors.T)
        vectors = vectors[length < 1.2 * np.sort(length)[1]]
        angles.append(np.degrees(np.arctan2(vectors[:, 0], vectors[:, 1])))
    apart = np.abs((angles[0][:, None] - angles[1][None] + 90) % 180 - 90)
    return float(apart.min())


def doubts(
    beside: tuple[float, ...],
    ellipse: tuple[float, ...],
    misfit: float,
    constant_px: float,
    *,
    overlaid: bool = False,
) -> tuple[Note, ...]:
    """What is to be said of a lattice that is not all there is, or whose columns are not round.

    Parameters
    ----------
    beside : tuple of float
        A `Beside`, or ().
    ellipse : tuple of float
        An `Ellipse`, or ().
    misfit : float
        `ColumnProfile.misfit`.
    constant_px : float
        Lattice constant [px].
    overlaid : bool, optional
        Whether the other lattice lies over the one that is followed, not beside it.
    """
    notes = []
    if beside:
        turned, ratio = beside
        # of layers whose waves are mixed up neither is known
        how = f", turned by {turned:.0f}°," if abs(ratio - 1) < LIKE_SIZE else ""
        if overlaid:
            what = (
                f"A second lattice{how} lies over the one of {constant_px:.1f} px: layers on top of one another "
                "(moiré). It is not followed. Changes by its columns cannot be told from defects, so no column is "
                "called a defect."
            )
        else:
            what = (
                f"A second lattice{how} lies over the one of {constant_px:.1f} px, or beside it: layers on top of "
                "one another (moiré), or a grain. It is not followed, and its columns disturb those that are."
            )
        notes.append(
            Note(
                code="second-lattice",
                text=what,
                remedy="Take the results with care; go to a single layer, or filter one lattice out first.",
            )
        )
    if ellipse:
        ratio, angle, _ = ellipse
        notes.append(
            Note(
                code="columns-not-round",
                text=f"Columns are {ratio:.2f} times as long as wide, the long axis at {angle:.0f}° from the rows: "
                "astigmatism, drift or vibration within a frame, or pairs of atoms that are not resolved.",
                remedy="Correct the astigmatism, or scan faster. The templates of defects assume round columns.",
            )
        )
    elif misfit > MAX_MISFIT:
        notes.append(
            Note(
                code="cell-misfit",
                text=f"Round columns miss the average cell by {misfit:.0%} of its range, where 1 to 3 % is "
                "usual: the cell may be a wrong one, or mixed from several patterns.",
                remedy="Look at the sites in the picture. Check focus and astigmatism, or take a part of the frame.",
            )
        )
    return tuple(notes)
