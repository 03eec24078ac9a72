"""What was found in a frame, compared with what the simulator put into it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch.pipeline import ROLES, CatalogueEntry, FrameResult
from latticewatch_simulator import FrameTruth


@dataclass(frozen=True, slots=True)
class KindFound:
    """One kind of defect.

    Attributes
    ----------
    species : str
        As the simulator calls it.
    n, found : int
        How many there are in the part of the frame that is compared, and at how many of them a defect was
        reported.
    classes : Counter of str
        What those that were found are called.
    taken_for : Counter of str
        What those that were missed are called.
    """

    species: str
    n: int
    found: int
    classes: Counter[str]
    taken_for: Counter[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One frame, without the patches at its edges.

    Attributes
    ----------
    frame : int
        Its number.
    margin_px : int
        How far from the edge the comparison begins.
    kinds : tuple of KindFound
        Every kind of defect in the specimen.
    reported, reported_right : int
        Sites of role defect, and how many of them are one.
    columns, columns_found : int
        Columns of the truth, vacant ones included, and how many of them have a site.
    sites, sites_right : int
        Sites, and how many of them have a column.
    """

    frame: int
    margin_px: int
    kinds: tuple[KindFound, ...]
    reported: int
    reported_right: int
    columns: int
    columns_found: int
    sites: int
    sites_right: int

    @property
    def missed(self) -> tuple[KindFound, ...]:
        """Kinds of defect that are in the frame and were not found at all."""
        return tuple(kind for kind in self.kinds if kind.n and not kind.found)


def compare(result: FrameResult, classes: tuple[CatalogueEntry, ...], truth: FrameTruth) -> Comparison:
    """Compare the sites of a frame with its columns.

    Parameters
    ----------
    result : FrameResult
        What was found.
    classes : tuple of CatalogueEntry
        The catalogue, for names and for the size of a patch.
    truth : FrameTruth
        Of the same frame; its positions include drift.
    """
    margin = max((max(entry.average.shape) for entry in classes), default=0)
    columns, sites = truth.positions_px(), result.sites.position.astype(np.float64)
    site_of = matched(columns, sites)
    compared = truth.inside(margin)
    last = np.array(result.shape) - 1 - margin
    sites_compared = np.all((sites >= margin) & (sites <= last), axis=1)

    is_defect = result.sites.role == ROLES.index("defect")
    has_site = site_of >= 0
    found = has_site & is_defect[site_of] if len(sites) else has_site
    column_of = np.full(len(sites), -1)
    column_of[site_of[has_site]] = np.flatnonzero(has_site)
    reported = sites_compared & is_defect
    names = {entry.class_id: entry.name for entry in classes}
    called = np.array([names.get(int(i), "no class") for i in result.sites.class_id] + ["no site"], object)

    kinds = []
    for species in range(truth.n_hosts, len(truth.names)):
        here = compared & (truth.species == species)
        kinds.append(
            KindFound(
                truth.names[species],
                n=int(here.sum()),
                found=int((here & found).sum()),
                classes=Counter(called[site_of[here & found]].tolist()),
                taken_for=Counter(called[site_of[here & ~found]].tolist()),
            )
        )
    return Comparison(
        frame=result.number,
        margin_px=margin,
        kinds=tuple(kinds),
        reported=int(reported.sum()),
        reported_right=int((reported & (column_of >= 0) & truth.is_defect()[column_of]).sum()),
        columns=int(compared.sum()),
        columns_found=int((compared & has_site).sum()),
        sites=int(sites_compared.sum()),
        sites_right=int((sites_compared & (column_of >= 0)).sum()),
    )


def matched(columns: NDArray[np.float64], sites: NDArray[np.float64]) -> NDArray[np.intp]:
    """The site of each column: each is the nearest of the other, within half the spacing of the columns.

    Parameters
    ----------
    columns, sites : ndarray of shape (n, 2) and (m, 2)
        Positions (row, col) [px].

    Returns
    -------
    ndarray of shape (n,), int
        Index of the site; -1 for a column that has none.
    """
    if not len(sites) or len(columns) < 2:
        return np.full(len(columns), -1, np.intp)
    tree = KDTree(columns)
    spacing = float(np.median(tree.query(columns, k=2)[0][:, 1]))
    distance, site = KDTree(sites).query(columns)
    nearest_column = np.asarray(tree.query(sites)[1])
    mutual = nearest_column[site] == np.arange(len(columns))
    return np.where(mutual & (distance <= spacing / 2), site, -1)
