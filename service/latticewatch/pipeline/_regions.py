"""Regions of odd sites: contamination, another phase or a fold is one thing, and not hundreds of defects.

A point defect is alone, or beside others of its kind that are told apart from the host as it is. Where most columns of
a neighbourhood differ from the host, and many of them fit no class, it is the place that is odd, and not the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, KDTree

from latticewatch.lattice import touched
from latticewatch.messages import Note, OddRegion
from latticewatch.model import DISPLACED, REGION, Model, Patches, Verdict
from latticewatch.pipeline._withheld import Line, without_lines

# What is around a site: this many distances of nearest neighbours.
REACH = 2.0
# So many sites tell how many columns are usual there.
SITES_ASKED = 200
# A site is inside where at least this share of the columns around it, itself included, is not as the host. Vacancies at
# random, one in four of the columns, hardly ever lie so densely; a line of defects has two neighbours in six.
SHARE_AROUND = 0.5
# As many sites side by side, at least, are a region: fewer are a cluster of defects, and told one by one.
FEWEST_SITES = 20
# And this share of them, at least, fits no class of changed heights: what does is a defect, however many are together.
SHARE_ODD = 0.3
# More of the sites of a frame than this are no place in it: the frame as a whole is odd.
MOST_SHARE = 0.5
# Corners of an outline that are told at most.
MOST_CORNERS = 32
MOST_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Sites side by side that are not of the crystal, or not to be seen as such.

    Attributes
    ----------
    rows : ndarray of shape (n,), intp
        Which of the frame's sites they are.
    outline : ndarray of shape (k, 2), float64
        Corners of the convex polygon around them, half a neighbour's distance out: row, column [px].
    """

    rows: NDArray[np.intp]
    outline: NDArray[np.float64]

    @property
    def area_px(self) -> float:
        """Area within the outline [px²]."""
        row, col = self.outline.T
        return float(abs(row @ np.roll(col, 1) - col @ np.roll(row, 1)) / 2)

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the area within the outline: row, column [px]."""
        row, col = self.outline.T
        after, below = np.roll(row, -1), np.roll(col, -1)
        twice = row * below - after * col
        return float(((row + after) @ twice) / (3 * twice.sum())), float(
            ((col + below) @ twice) / (3 * twice.sum())
        )

    def told(self) -> OddRegion:
        """The region in the words of the protocol."""
        row, col = self.centre
        corners = tuple((round(r, 1), round(c, 1)) for r, c in self.outline.tolist())
        return OddRegion(
            row=round(row, 1),
            col=round(col, 1),
            n_sites=len(self.rows),
            area_px=round(self.area_px, 1),
            outline=corners,
        )


def find_regions(
    verdict: Verdict,
    patches: Patches,
    model: Model,
    lines: Sequence[Line],
    mask: NDArray[np.bool_] | None = None,
) -> tuple[Region, ...]:
    """Regions of odd sites in a frame, the largest first.

    Parameters
    ----------
    verdict : Verdict
    patches : Patches
        Of the same sites.
    model : Model
    lines : sequence of Line
        Steps, boundaries and dislocations: what is odd beside one is explained by it.
    mask : ndarray of shape (height, width), bool, optional
        What is no specimen.

    Returns
    -------
    tuple of Region
    """
    spacing_px = model.lattice.nearest_neighbour_px
    strange, odd = _strange(verdict, patches, model)
    for line in lines:
        row, col = np.rint(patches.position).astype(int).T
        last_row, last_col = np.array(line.mask.shape) - 1
        strange &= ~line.mask[np.clip(row, 0, last_row), np.clip(col, 0, last_col)]
    column = (patches.sublattice >= 0) & (patches.sublattice < model.n_columns)
    if np.count_nonzero(strange & odd) < SHARE_ODD * FEWEST_SITES:
        return ()
    if np.count_nonzero(_crowded(strange, patches, model)) < FEWEST_SITES / 2:
        return ()
    label = np.full(len(strange), -1)
    label[strange] = _grouped(patches, model, strange, column, mask)
    number = np.bincount(label[strange])
    share = np.bincount(label[strange & odd], minlength=len(number)) / np.maximum(number, 1)
    found = np.flatnonzero((number >= FEWEST_SITES) & (share >= SHARE_ODD))
    found = found[np.argsort(-number[found], kind="stable")]
    if number[found].sum() > MOST_SHARE * len(strange):
        return ()
    label = _with_rim(label, strange, found, patches.position, REACH * spacing_px)
    members = [_with_voids(label == k, patches, column) for k in found.tolist()]
    return tuple(Region(rows, _outline(patches.position[rows], spacing_px / 2)) for rows in members)


def region_mask(
    regions: Sequence[Region], position: NDArray[np.float64], shape: tuple[int, ...], reach_px: float
) -> NDArray[np.bool_] | None:
    """Pixels near the sites of regions; None where there is no region.

    Parameters
    ----------
    regions : sequence of Region
    position : ndarray of shape (n, 2), float64
        Of the frame's sites [px].
    shape : tuple of int
        Rows and columns of the frame.
    reach_px : float
        How near.

    Returns
    -------
    ndarray of shape (height, width), bool, or None
    """
    if not regions:
        return None
    out = np.zeros(shape, bool)
    for row, col in position[np.concatenate([region.rows for region in regions])].tolist():
        top, left = max(int(row - reach_px), 0), max(int(col - reach_px), 0)
        part = out[top : int(row + reach_px) + 2, left : int(col + reach_px) + 2]
        down, across = np.ogrid[: part.shape[0], : part.shape[1]]
        part |= (down + top - row) ** 2 + (across + left - col) ** 2 <= reach_px**2
    return out


def without_regions(
    verdict: Verdict, patches: Patches, model: Model, regions: Sequence[Region], lines: Sequence[Line]
) -> Verdict:
    """A verdict in which the sites of regions are of no class, and all other columns are judged without them.

    Parameters
    ----------
    verdict : Verdict
    patches : Patches
        Of the same sites.
    model : Model
    regions : sequence of Region
    lines : sequence of Line
        As for `find_regions`.

    Returns
    -------
    Verdict
        The same object where there is no region.
    """
    if not regions:
        return verdict
    rows = np.concatenate([region.rows for region in regions])
    rest = np.setdiff1d(np.arange(len(patches.position)), rows)
    seen = patches.take(rest)
    again = without_lines(model.classify(seen), seen, model, list(lines))
    # what stands between the columns has been put where it was found
    column = (seen.sublattice >= 0) & (seen.sublattice < model.n_columns)
    out = verdict.with_rows(rest[column], again.take(np.flatnonzero(column)))
    out.posterior[rows], out.shift[rows] = 0.0, 0.0
    out.posterior[rows, -1], out.component[rows] = 1.0, REGION
    return out


def region_note(regions: Sequence[Region], n_sites: int) -> list[Note]:
    """One note for all regions of a frame; none where there is none.

    Parameters
    ----------
    regions : sequence of Region
    n_sites : int
        Sites of the frame.

    Returns
    -------
    list of Note
    """
    if not regions:
        return []
    places = [region.centre for region in regions[:MOST_NAMED]]
    named = "; ".join(f"row {row:.0f}, column {col:.0f}" for row, col in places)
    more = "" if len(regions) <= MOST_NAMED else f", and {len(regions) - MOST_NAMED} more"
    number = sum(len(region.rows) for region in regions)
    what = "a region" if len(regions) == 1 else f"{len(regions)} regions"
    text = (
        f"{number} sites ({number / max(n_sites, 1):.1%}) lie side by side in {what} in which most columns fit neither "
        f"the host nor one another ({named}{more}): contamination, another phase or a fold. They are not point defects."
    )
    return [
        Note(
            code="odd-region",
            text=text,
            remedy="Look at the picture there; count defects per area of the rest of the frame.",
        )
    ]


def _strange(verdict: Verdict, patches: Patches, model: Model) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Sites that are not as the host, and those among them that fit no class of changed heights."""
    best = verdict.posterior.argmax(1)
    ordinary = {int(k) for known in model.sublattices for k in known.class_ids}
    for part in (part for known in model.sublattices for part in known.parts):
        ordinary |= {part.class_id} if ordinary.intersection(part.sources) else set()
    usual = np.array([e.role in ("host", "neighbour") for e in model.classes] + [False])
    of_height = np.array([e.class_id in ordinary for e in model.classes] + [False])
    column = (patches.sublattice >= 0) & (patches.sublattice < model.n_columns)
    strange = column & ~usual[best]
    return strange, strange & (~of_height[best] | (verdict.component == DISPLACED))


def _crowded(strange: NDArray[np.bool_], patches: Patches, model: Model) -> NDArray[np.bool_]:
    """Those of the strange sites, in their order, around which there may be so many that they are a region."""
    rows = np.flatnonzero(strange)
    around = patches.index[rows]
    of_column = np.zeros(around.shape, bool)
    for s, known in enumerate(model.sublattices):
        of_column[patches.sublattice[rows] == s, : known.templates.n_columns] = True
    # a column that has no site may be gone
    like = of_column & ((around < 0) | strange[np.maximum(around, 0)])
    return np.asarray(like.sum(1) >= SHARE_AROUND / 2 * of_column.sum(1))


def _beside_nothing(
    position: NDArray[np.float64], shape: tuple[int, int], mask: NDArray[np.bool_] | None, reach_px: float
) -> NDArray[np.bool_]:
    """Sites so near to the edge of the frame, or to what is no specimen, that columns beside them have no site."""
    last = np.array(shape) - 1 - reach_px
    beside = np.asarray(((position < reach_px) | (position > last)).any(1), bool)
    return beside if mask is None else beside | touched(position, mask, reach_px)


def _with_rim(
    label: NDArray[np.intp],
    strange: NDArray[np.bool_],
    found: NDArray[np.intp],
    position: NDArray[np.float64],
    reach_px: float,
) -> NDArray[np.intp]:
    """Groups of the sites, those found taking in what is odd within reach: what they are fades out, and has no edge."""
    members = np.flatnonzero(np.isin(label, found))
    rim = np.flatnonzero(strange & ~np.isin(label, found))
    if not len(members) or not len(rim):
        return label
    away, nearest = KDTree(position[members]).query(position[rim])
    near = np.asarray(away) <= reach_px
    out = label.copy()
    out[rim[near]] = label[members[np.asarray(nearest)[near]]]
    return out


def _with_voids(member: NDArray[np.bool_], patches: Patches, column: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Rows of the members, and of what seems to stand between the columns among them."""
    beside = patches.index
    there = beside >= 0
    among = (member[np.maximum(beside, 0)] & there).sum(1) >= SHARE_AROUND * np.maximum(there.sum(1), 1)
    return np.flatnonzero(member | (~column & (patches.sublattice >= 0) & among))


def _grouped(
    patches: Patches,
    model: Model,
    strange: NDArray[np.bool_],
    column: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None,
) -> NDArray[np.intp]:
    """Number of the group that each strange site is in: those that are near to one within a region are in its group."""
    reach = REACH * model.lattice.nearest_neighbour_px
    members, columns = np.flatnonzero(strange), np.flatnonzero(column)
    # asked too few times to be worth a tree in balance
    tree = KDTree(patches.position[columns], balanced_tree=False, compact_nodes=False)
    number = np.array(tree.query_ball_point(patches.position[members], reach, return_length=True))
    own = KDTree(patches.position[members])
    around = np.array(own.query_ball_point(patches.position[members], reach, return_length=True))
    # where the lattice itself is gone, columns are missing that would be odd; beyond the frame they are only not seen
    some = columns[:: max(1, len(columns) // SITES_ASKED)]
    usual = float(np.median(tree.query_ball_point(patches.position[some], reach, return_length=True)))
    gone = np.maximum(usual - number, 0.0)
    margin = model.patch_px / 2 + reach
    gone[_beside_nothing(patches.position[members], patches.shape, mask, margin)] = 0.0
    inside = around + gone >= SHARE_AROUND * (number + gone)
    pairs = own.query_pairs(reach, output_type="ndarray")
    pairs = pairs[inside[pairs].any(1)]
    graph = coo_array((np.ones(len(pairs), np.int8), pairs.T), shape=(len(members), len(members)))
    return np.asarray(connected_components(graph, directed=False)[1], np.intp)


def _outline(position: NDArray[np.float64], margin_px: float) -> NDArray[np.float64]:
    """Corners of the convex polygon around squares about some places, in order around it."""
    square = margin_px * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    points = (position[:, None] + square).reshape(-1, 2)
    corners = points[ConvexHull(points).vertices]
    return corners[:: -(-len(corners) // MOST_CORNERS)]
