"""Verdicts withheld: beside a step or a boundary a column looks changed, and is no defect."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from latticewatch.messages import Note
from latticewatch.model import DISPLACED, Model, Patches, Verdict

# What differs by so many robust standard deviations of the columns beside a line is not as they are.
SPREAD_SIGMA = 6.0
# Where as few columns look changed as elsewhere, or as many as this chance still brings, they are.
AS_ELSEWHERE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Where columns look changed for a reason that is told.

    Attributes
    ----------
    mask : ndarray of shape (height, width), bool
        Pixels of it.
    lowest, highest : float
        Changes of the height of a column that it explains, as shares of the height of the host: those in between.
    own_spread : bool
        Whether it also explains changes such as most columns beside it have.
    notes : tuple of Note
        What there is to say of it.
    everywhere : bool
        There is nothing beside it to learn from.
    counted : bool
        Whether it explains nothing where no more columns look changed than elsewhere.
    """

    mask: NDArray[np.bool_]
    lowest: float = -np.inf
    highest: float = np.inf
    own_spread: bool = False
    notes: tuple[Note, ...] = ()
    everywhere: bool = False
    counted: bool = False


def without_lines(verdict: Verdict, patches: Patches, model: Model, lines: list[Line]) -> Verdict:
    """A verdict in which what a line explains is unknown: neither a defect nor a class of its own.

    Hosts stay hosts, and a height that changed by more than the line can explain stays a defect. That a column is
    displaced it always explains. A line that makes columns look changed makes many of them so: where there are no more
    than elsewhere, they are what they look like.

    Parameters
    ----------
    verdict : Verdict
    patches : Patches
        Of the same sites.
    model : Model
    lines : list of Line
    """
    if not lines:
        return verdict
    doubtful = np.zeros(len(verdict.score), bool)
    role = np.array([entry.role for entry in model.classes] + ["unknown"])
    defect = role[verdict.posterior.argmax(1)] == "defect"
    change = None
    for line in lines:
        row, col = np.rint(patches.position).astype(int).T
        inside = line.mask[np.clip(row, 0, line.mask.shape[0] - 1), np.clip(col, 0, line.mask.shape[1] - 1)]
        if not inside.any():
            continue
        if change is None:
            unit = np.array([m.filter.height_of_sigma / m.templates.height for m in model.sublattices])
            change = verdict.score * unit[patches.sublattice]
        usual = SPREAD_SIGMA * float(np.median(np.abs(change[inside]))) / 0.6745 if line.own_spread else 0.0
        explained = (change > min(line.lowest, -usual)) & (change < max(line.highest, usual))
        moved = verdict.component == DISPLACED
        if line.counted and as_elsewhere(inside, defect & explained & ~moved):
            explained[:] = False
        doubtful |= inside & (explained | moved)
    if not doubtful.any():
        return verdict
    doubtful &= defect
    posterior, component, shift = verdict.posterior.copy(), verdict.component.copy(), verdict.shift.copy()
    posterior[doubtful] = 0.0
    posterior[doubtful, -1] = 1.0
    component[doubtful] = -1
    shift[doubtful] = 0.0
    return replace(verdict, posterior=posterior, component=component, shift=shift)


def as_elsewhere(inside: NDArray[np.bool_], changed: NDArray[np.bool_]) -> bool:
    """Whether no more columns beside a line look changed than elsewhere.

    Parameters
    ----------
    inside, changed : ndarray of shape (n,), bool
        Columns beside the line, and those that look changed.
    """
    usual = (float((changed & ~inside).sum()) + 1) / max(float((~inside).sum()), 1.0)
    here = float((changed & inside).sum())
    # the chance that a Poisson variable is at least so large; scipy.stats would have to be imported for it
    return here < 1 or bool(gammainc(here, usual * inside.sum()) > AS_ELSEWHERE)
