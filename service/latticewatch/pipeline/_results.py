"""What the pipeline gives for each frame: everything that is served, recorded or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import (
    ROLES,
    Calibration,
    ClassEventData,
    DefectEventData,
    DefectKind,
    EventType,
    ModelEventData,
    Note,
    OddRegion,
    StreamEventData,
)
from latticewatch.model import CatalogueEntry
from latticewatch.pipeline._space import LiveSpace

__all__ = ["ROLES", "EventDraft", "FrameResult", "SiteTable"]


class EventDraft(NamedTuple):
    """An event before the log gives it its sequence number, as the log takes it."""

    type: EventType
    data: DefectEventData | ClassEventData | ModelEventData | StreamEventData


@dataclass(frozen=True, slots=True, eq=False)
class SiteTable:
    """Every site of one frame, as columns of equal length.

    Attributes
    ----------
    position : ndarray of shape (n, 2), float32
        Row and column [px].
    sublattice : ndarray of shape (n,), int16
        -1 for a peak that belongs to no site.
    class_id : ndarray of shape (n,), int16
        -1 while nothing is learnt or where no class fits.
    role : ndarray of shape (n,), uint8
        Index into `ROLES`.
    confidence : ndarray of shape (n,), float32
        Posterior probability of the class.
    track : ndarray of shape (n,), int32
        Identity of the site over frames; -1 where it has none.
    displacement : ndarray of shape (n, 3), float32, or None
        How far the column was found from its place in this frame: row, column and standard error [px]; NaN for one that
        is in its place. None where no frame was classified.
    other_class : ndarray of shape (n, k), int16, or None
        Classes that come next in probability, -1 *unknown*; None where no frame was classified.
    other_share : ndarray of shape (n, k), float32, or None
        Their posterior probabilities; 0 for those not worth a mention.
    region : ndarray of shape (n,), int16, or None
        Which of the frame's regions of odd sites it lies in, from 0; -1 for none. None where there is no region.
    prospect : ndarray of shape (n,), float32, or None
        By what factor a further look would raise the evidence of each site, 1 where it would bring nothing. None where
        no frame was classified.
    """

    position: NDArray[np.float32]
    sublattice: NDArray[np.int16]
    class_id: NDArray[np.int16]
    role: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    track: NDArray[np.int32]
    displacement: NDArray[np.float32] | None = None
    other_class: NDArray[np.int16] | None = None
    other_share: NDArray[np.float32] | None = None
    region: NDArray[np.int16] | None = None
    prospect: NDArray[np.float32] | None = None

    def probabilities(self, site: int) -> dict[int, float]:
        """Probability of each class that a site may be of, -1 for *unknown*; what is missing to 1 is of all others.

        Parameters
        ----------
        site : int

        Returns
        -------
        dict of int to float
            Its own class first.
        """
        found = {int(self.class_id[site]): float(self.confidence[site])}
        if self.other_class is not None and self.other_share is not None:
            for one, share in zip(
                self.other_class[site].tolist(), self.other_share[site].tolist(), strict=True
            ):
                if share > 0:
                    found[one] = found.get(one, 0.0) + share
        return found

    def displaced_by(self, site: int) -> NDArray[np.float32] | None:
        """Row, column and standard error [px] of the displacement of a site; None where it is in its place.

        Parameters
        ----------
        site : int
            -1 for none.

        Returns
        -------
        ndarray of shape (3,), float32, or None
        """
        if self.displacement is None or site < 0 or np.isnan(self.displacement[site, 0]):
            return None
        return self.displacement[site]

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What folding one frame gives: everything that is served, recorded or written.

    Attributes
    ----------
    picture : ndarray of shape (height, width), uint8
        The frame for display, stretched from the 0.5th to the 99.8th percentile.
    drift_px : tuple of float
        Row, column: how far the specimen has moved in the frame since the series started, by itself and by the stage.
    specimen_drift_px : tuple of float
        The same without the moves of the stage.
    sigma_px : float or None
        Standard deviation of the position of a site that is followed [px].
    space : LiveSpace or None
        Follows what the model works with, frames after this one included; None while nothing is learnt.
    events : tuple of EventDraft
        Transitions that this frame brought, in order.
    learning : tuple of int
        Frames gathered and frames needed; equal once the model is learnt.
    calibration : Calibration or None
        How its pixels lie on the stage; None without a pixel size.
    notes : tuple of Note
        What may be wrong with this frame or with how it was understood.
    odd_regions : tuple of OddRegion
        Places where most sites are odd, the largest first: contamination, another phase, a fold.
    kinds : dict of int to str
        What each class of defects differs in from its host.
    scalars : mapping of str to float or str
        What else was measured or set while the frame was taken, by name.
    regions : mapping of str to ndarray of shape (height, width), bool
        Where no defects are told, by what it is: ``no-specimen``, ``dirt``; and ``odd-sites``, where what is
        found is told as a region; none where there is none.
    epoch : int
        How often tracks have begun anew; none of an epoch before comes back.
    away : SiteTable or None
        Defects that were seen before and are out of view, at their places in the frame continued; None where there are
        none.
    received_at : float or None
        When it was received, in monotonic time of the process that received it [s].
    """

    series_id: str
    number: int
    ordinal: int
    shape: tuple[int, int]
    t_received: float
    t_acquired: float | None
    pixel_size_nm: float | None
    stage_nm: tuple[float, float] | None
    picture: NDArray[np.uint8]
    sites: SiteTable
    lattice_found: bool
    lattice_constant_px: float | None
    drift_px: tuple[float, float]
    model_version: int
    learning: tuple[int, int]
    classes: tuple[CatalogueEntry, ...] = ()
    embedding: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    embedding_class: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    space: LiveSpace | None = None
    events: tuple[EventDraft, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    odd_regions: tuple[OddRegion, ...] = ()
    calibration: Calibration | None = None
    received_at: float | None = None
    epoch: int = 1
    specimen_drift_px: tuple[float, float] = (0.0, 0.0)
    sigma_px: float | None = None
    kinds: Mapping[int, DefectKind] = field(default_factory=dict)
    scalars: Mapping[str, float | str] = field(default_factory=dict)
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    away: SiteTable | None = None
