"""What is put together of a frame: what the tracks are told of it, and its table of sites."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice import Sites
from latticewatch.messages import Role
from latticewatch.model import CatalogueEntry, Model, displacements
from latticewatch.pipeline._analysis import Classified
from latticewatch.pipeline._results import ROLES, SiteTable
from latticewatch.track import Observation, Tracked


def blank_table(sites: Sites) -> SiteTable:
    """Sites of which nothing is said but where they are.

    Parameters
    ----------
    sites : Sites

    Returns
    -------
    SiteTable
    """
    n = len(sites)
    return SiteTable(
        sites.position.astype(np.float32),
        sites.sublattice,
        np.full(n, -1, np.int16),
        np.full(n, ROLES.index("unknown"), np.uint8),
        np.zeros(n, np.float32),
        np.full(n, -1, np.int32),
    )


def site_table(analysis: Classified, tracked: Tracked, model: Model) -> SiteTable:
    """Sites of a frame with what their tracks say of them.

    Parameters
    ----------
    analysis : Classified
    tracked : Tracked
    model : Model
        In force.

    Returns
    -------
    SiteTable
    """
    sublattice = analysis.sites.sublattice
    return SiteTable(
        analysis.sites.position.astype(np.float32),
        _on_lattice(sublattice, model),
        tracked.class_id,
        tracked.role,
        tracked.confidence,
        tracked.track,
        displacements(analysis.model, analysis.verdict, sublattice),
        tracked.other_class,
        tracked.other_share,
        _in_regions(analysis),
        tracked.prospect,
    )


def away_table(tracked: Tracked, model: Model) -> SiteTable | None:
    """Defects that are known and out of view.

    Parameters
    ----------
    tracked : Tracked
    model : Model
        In force.

    Returns
    -------
    SiteTable or None
        None where there are none.
    """
    away = tracked.away
    if away is None:
        return None
    return SiteTable(
        away.position.astype(np.float32),
        _on_lattice(away.sublattice, model),
        away.class_id,
        np.full(len(away.track), ROLES.index("defect"), np.uint8),
        away.confidence,
        away.track,
        prospect=away.prospect,
    )


def _in_regions(analysis: Classified) -> NDArray[np.int16] | None:
    """Which region each site lies in, -1 for none; None where there is no region."""
    if not analysis.odd_regions:
        return None
    out = np.full(len(analysis.sites), -1, np.int16)
    for number, region in enumerate(analysis.odd_regions):
        out[region.rows] = number
    return out


def observation_of(analysis: Classified, model: Model) -> Observation:
    """What the tracks are told of a frame.

    Parameters
    ----------
    analysis : Classified
    model : Model
        In force, with the roles of today.

    Returns
    -------
    Observation
    """
    frame, verdict = analysis.frame, analysis.verdict
    calibration = frame.calibration
    stage = None if calibration is None else calibration.stage_px()
    axes = None
    if calibration is not None:
        along = [calibration.from_nm(*calibration.turn_back(*unit)) for unit in ((1.0, 0.0), (0.0, 1.0))]
        axes = np.array(along).T
    # columns of the model that classified the frame, with the roles of today
    roles = {entry.class_id: entry.role for entry in model.classes}
    classes = analysis.model.classes
    return Observation(
        series_id=frame.series_id,
        number=frame.number,
        ordinal=frame.ordinal,
        shape=analysis.image.shape,  # type: ignore[arg-type]
        image=analysis.survey.flat.image,
        vectors=analysis.phase_field.vectors,
        position=analysis.sites.position,
        sublattice=_on_lattice(analysis.sites.sublattice, analysis.model),
        posterior=verdict.posterior,
        class_ids=analysis.model.class_ids,
        roles=(*(roles.get(entry.class_id, entry.role) for entry in classes), "unknown"),
        stage_px=stage,
        axes=axes,
        time_s=frame.t_acquired,
        log_prior=_log_priors(classes),
        height=_heights(classes),
    )


def roles_and_priors(model: Model) -> tuple[tuple[Role, ...], NDArray[np.float64]]:
    """Role and log prior of each column of a posterior.

    Parameters
    ----------
    model : Model

    Returns
    -------
    roles : tuple of str
        The last is *unknown*.
    log_prior : ndarray of shape (n_classes + 1,), float64
    """
    return (*(entry.role for entry in model.classes), "unknown"), _log_priors(model.classes)


# a model has many frames
@lru_cache(maxsize=16)
def _log_priors(classes: tuple[CatalogueEntry, ...]) -> NDArray[np.float64]:
    """Log prior of each class, and last of *unknown*."""
    return np.log([max(entry.prior, 1e-6) for entry in classes] + [1e-6])


@lru_cache(maxsize=16)
def _heights(classes: tuple[CatalogueEntry, ...]) -> NDArray[np.float64]:
    """Of the column of each class, where host columns are near 1; last of *unknown*, 0."""
    return np.array([_height(entry) for entry in classes] + [0.0])


def _on_lattice(sublattice: NDArray[np.int16], model: Model) -> NDArray[np.int16]:
    """Sublattices, -1 for what belongs to none: it stands between the columns."""
    return np.where(sublattice < model.n_columns, sublattice, -1).astype(np.int16)


def _height(entry: CatalogueEntry) -> float:
    """Of the column of a class, where host columns are near 1."""
    middle = len(entry.average) // 2
    return float(entry.average[middle - 1 : middle + 2, middle - 1 : middle + 2].mean())
