"""What the sites of a class differ in from their hosts, read off the part of the model that decides for it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import DefectKind
from latticewatch.model._catalogue import VACANT
from latticewatch.model._model import Model, Verdict


@lru_cache(maxsize=8)
def kinds_of(model: Model) -> dict[int, DefectKind]:
    """Kind of each class of defects; hosts, neighbours and *unknown* have none.

    Parameters
    ----------
    model : Model

    Returns
    -------
    dict of int to str
        By class. Of classes that a person merged, the one that took the others in keeps its own kind.
    """
    kinds: dict[int, DefectKind] = {}
    for known in model.sublattices:
        change = known.mixture.mean - known.mixture.mean[0]
        share = change * known.filter.height_of_sigma / known.templates.height
        for class_id, height in zip(known.class_ids[1:].tolist(), share[1:].tolist(), strict=True):
            kinds[class_id] = "added" if known.templates.void else _of_height(height)
        kinds |= dict.fromkeys(known.odd_ids.tolist(), "odd")
        kinds |= dict.fromkeys([*known.shifts.class_ids.tolist(), known.shifts.loose_id], "displaced")
        kinds |= {part.class_id: kinds[k] for part in known.parts for k in part.sources[:1] if k in kinds}
    defects = {entry.class_id for entry in model.classes if entry.role == "defect"}
    return {class_id: kind for class_id, kind in kinds.items() if class_id in defects}


def _of_height(share: float) -> DefectKind:
    if share > 0:
        return "higher"
    return "vacancy" if share <= -VACANT else "lower"


def displacements(model: Model, verdict: Verdict, sublattice: NDArray[np.int16]) -> NDArray[np.float32]:
    """How far each column was found from its place on the lattice, with the standard error.

    Parameters
    ----------
    model : Model
        That classified the frame.
    verdict : Verdict
    sublattice : ndarray of shape (n,), int16

    Returns
    -------
    ndarray of shape (n, 3), float32
        Row, column, and standard error along either axis [px]; NaN for a column that is in its place, and for what
        stands between the columns.

    Notes
    -----
    The standard error is the scatter of the hosts of the sublattice in the frames learnt from: noise of the counts and
    of the scan together. It does not hold what a wrong profile of the column adds, some hundredths of the displacement.
    """
    out = np.full((len(sublattice), 3), np.nan, np.float32)
    moved = verdict.shift.any(1) & (sublattice >= 0) & (sublattice < model.n_columns)
    sigma = np.array([known.displacement.sigma_px for known in model.sublattices])
    out[moved, :2] = verdict.shift[moved]
    out[moved, 2] = sigma[sublattice[moved]]
    return out
