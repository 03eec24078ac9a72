"""What stands out of a crystal pulls the lattice that is followed: its light is taken off, and it is followed anew.

Waves of the lattice are averaged over some sixteen cells. One atom five times as bright as the columns, out of step
with them, turns the phase of that average by a third of a radian: columns around seem displaced by the same amount.

Many small changes turn the waves of the whole frame, those of the frames learnt from too, in which the columns got
their cell coordinates. By how much is measured once, when a model is learnt (`with_turns`), and comes back wherever
light is taken off (`in_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import NoLatticeError
from latticewatch.lattice import SMOOTHING_CELLS, Lattice, PhaseField, Sites, follow_lattice
from latticewatch.model import NONE, Model, Survey, Verdict, gather_patches
from latticewatch.pipeline._withheld import Line, without_lines

# A pull of more than so many standard errors of a column's place is looked for.
FELT_SIGMA = 3.0
# Light is taken off so many widths of the profile around.
REACH_WIDTHS = 4.0


class Followed(NamedTuple):
    """A frame that is learnt from.

    Attributes
    ----------
    image : ndarray of shape (height, width), float32
    where : PhaseField
        Where the lattice lies in it.
    survey : Survey
        What was seen there.
    lines : tuple of Line
        Beside which columns look changed.
    """

    image: NDArray[np.float32]
    where: PhaseField
    survey: Survey
    lines: tuple[Line, ...]


def changed(verdict: Verdict, sites: Sites, model: Model) -> NDArray[np.float64]:
    """Change of height of every site of a frame that is no host, 0 for hosts.

    Parameters
    ----------
    verdict : Verdict
    sites : Sites
    model : Model

    Returns
    -------
    ndarray of shape (n,), float64
        In units of the flattened frame.
    """
    out = np.zeros(len(sites))
    known = (verdict.component > 0) | (verdict.component == NONE)
    some = np.flatnonzero(known & (sites.sublattice >= 0))
    if len(some):
        unit = np.array([known.filter.height_of_sigma for known in model.sublattices])
        host = np.array([known.mixture.mean[0] for known in model.sublattices])
        which = sites.sublattice[some]
        out[some] = (verdict.score[some] - host[which]) * unit[which]
    return out


def is_pulled(height: NDArray[np.float64], sites: Sites, model: Model) -> bool:
    """Whether changes of height pull the lattice by more than what the place of a column is uncertain by.

    Parameters
    ----------
    height : ndarray of shape (n,), float64
        Of `changed`.
    sites : Sites
    model : Model

    Returns
    -------
    bool
    """
    some = np.flatnonzero(height)
    if not len(some):
        return False
    finest = min(known.displacement.sigma_px for known in model.sublattices[: model.n_columns])
    pull = np.abs(height[some]) * _pulls_px(model)[sites.sublattice[some]]
    return bool(pull.max() > FELT_SIGMA * finest)


@lru_cache(maxsize=8)
def _pulls_px(model: Model) -> NDArray[np.float64]:
    """How far a change of height 1 on each sublattice pulls the lattice around it at most, shape (n_sublattices,)."""
    seen, out = [0] * len(model.lattice.grains), []
    for known in model.sublattices:
        grain, void = known.templates.grain, known.templates.void
        pulls = pulls_px(model.lattice.grains[grain])
        out.append(pulls[-1] if void else pulls[seen[grain]])
        seen[grain] += not void
    return np.array(out)


@lru_cache(maxsize=16)
def pulls_px(lattice: Lattice) -> NDArray[np.float64]:
    """How far a column more pulls the lattice around it.

    What is in step with the lattice makes it stronger, and only what is out of step turns its phase.

    Parameters
    ----------
    lattice : Lattice
        Of one grain.

    Returns
    -------
    ndarray of shape (n_columns + 1,), float64
        As high as the highest column: in place of each column, and last anywhere [px].
    """
    cell, profile, field = lattice.cell, lattice.profile, lattice.field
    waves = np.fft.fft2(cell.mean)[[1, 0], [0, 1]] / cell.mean.size
    square = (field.basis**2).sum(1)
    spot = 2 * np.pi * profile.narrow**2 * np.exp(-2 * np.pi**2 * profile.narrow**2 * square)
    window = 2 * np.pi * (SMOOTHING_CELLS * field.lattice_constant) ** 2
    turn = profile.height.max() * spot / window / np.maximum(np.abs(waves), np.finfo(float).tiny)
    out_of_step = np.abs(np.sin(2 * np.pi * cell.columns + np.angle(waves)))
    way = turn / (2 * np.pi * np.sqrt(square))
    return np.append((out_of_step * way).max(1), way.max())


def without_light(
    image: NDArray[np.float32], height: NDArray[np.float64], position: NDArray[np.float64], lattice: Lattice
) -> NDArray[np.float32]:
    """A frame less what columns of some height add to it.

    Parameters
    ----------
    image : ndarray of shape (rows, cols), float32
    height : ndarray of shape (n,), float64
        In units of the image; 0 for those that add nothing.
    position : ndarray of shape (n, 2), float64
        Row and column [px].
    lattice : Lattice
        Has their profile.

    Returns
    -------
    ndarray of shape (rows, cols), float32
    """
    out, profile = image.copy(), lattice.profile
    reach = int(np.ceil(REACH_WIDTHS * profile.narrow))
    axis = np.arange(-reach, reach + 1)
    for i in np.flatnonzero(height).tolist():
        middle = np.rint(position[i]).astype(int)
        row, col = (middle[k] + axis for k in range(2))
        row, col = row[(row >= 0) & (row < image.shape[0])], col[(col >= 0) & (col < image.shape[1])]
        if not len(row) or not len(col):
            continue
        square = (row[:, None] - position[i, 0]) ** 2 + (col - position[i, 1]) ** 2
        out[row[0] : row[-1] + 1, col[0] : col[-1] + 1] -= (height[i] * profile.at(square)).astype(np.float32)
    return out


def with_turns(model: Model, frames: Sequence[Followed]) -> Model:
    """A model that knows how far changes in the frames it was learnt from turned the waves of its lattice.

    Parameters
    ----------
    model : Model
    frames : sequence of Followed

    Returns
    -------
    Model
        The same object where nothing stands out of these frames.
    """
    lattice = model.lattice
    turns: list[list[NDArray[np.float64]]] = [[] for _ in lattice.grains]
    for image, where, survey, lines in frames:
        # where there were too few places between the columns, none was learnt
        rows = np.flatnonzero(survey.sites.sublattice < len(model.sublattices))
        sites = survey.sites.take(rows)
        patches = gather_patches(
            [(survey.moments[rows], sites.position, sites.sublattice, sites.cell)],
            tuple(known.templates for known in model.sublattices),
            image.shape,  # type: ignore[arg-type]
        )
        verdict = without_lines(model.classify(patches), patches, model, list(lines))
        height = changed(verdict, sites, model)
        if not height.any():
            continue
        void = sites.sublattice >= model.n_columns
        position = sites.position + np.where(void[:, None], verdict.shift, 0.0)
        try:
            alone = follow_lattice(
                without_light(image, height * survey.flat.scale, position, lattice), lattice
            )
        except NoLatticeError:
            continue
        grain = np.array([one.templates.grain for one in model.sublattices])[sites.sublattice]
        for number, (before, after) in enumerate(zip(where.grains, alone.grains, strict=True)):
            mine = sites.position[(grain == number) & ~void]
            if before is not None and after is not None and len(mine):
                turn = after.cell_coordinates(mine) - before.cell_coordinates(mine)
                turns[number].append((turn - np.rint(turn)).mean(0))
    if not any(turns):
        return model
    main, *others = (
        replace(one, turned=tuple(np.mean(turn, 0).tolist())) if turn else one
        for one, turn in zip(lattice.grains, turns, strict=True)
    )
    return replace(model, lattice=replace(main, others=tuple(others)))


def in_step(where: PhaseField, lattice: Lattice) -> PhaseField:
    """Where a lattice lies in a frame that was followed without the light of what stands out.

    Parameters
    ----------
    where : PhaseField
    lattice : Lattice

    Returns
    -------
    PhaseField
        In its cell coordinates.
    """
    main, *others = (
        one if one is None or not known.turned else _turned_back(one, known)
        for one, known in zip(where.grains, lattice.grains, strict=True)
    )
    assert main is not None
    return replace(main, others=tuple(others))


def _turned_back(where: PhaseField, known: Lattice) -> PhaseField:
    return replace(where, phase=where.phase - 2 * np.pi * np.array(known.turned))
