"""What the tracker takes in and gives out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import Role

ROLES: tuple[Role, ...] = get_args(Role)

TransitionType = Literal["defect.appeared", "defect.reclassified", "defect.moved", "defect.disappeared"]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One frame after classification.

    Attributes
    ----------
    image : ndarray of shape (height, width), float32
        Flattened frame, host columns near 1; looked at only where there is no lattice.
    vectors : ndarray of shape (2, 2), float64, or None
        Lattice vectors as rows (row, col) [px]; ``None`` where no lattice was found.
    position : ndarray of shape (n, 2), float64
        Row and column of every site [px].
    sublattice : ndarray of shape (n,), int16
        -1 for a peak that belongs to no site.
    posterior : ndarray of shape (n, n_classes), float32
        Probability of each class by this frame alone, C-contiguous; each row sums to one. 0 where a class is not of the
        site's sublattice; a row of zeros or NaN says nothing.
    class_ids : ndarray of shape (n_classes,), int16
        Class of each column; the last one is -1, unknown.
    roles : tuple of str
        Role of each column.
    stage_px : tuple of float or None
        Where the centre of the frame is on the specimen, row and column [px], as the stage says.
    log_prior : ndarray of shape (n_classes,), float or None
        The log prior that ``posterior`` holds, which must count once and not once a frame. ``None``: taken to be
        the frequency of the classes.
    time_s : float or None
        When the frame was acquired [s]; the rate of false events refers to it.
    axes : ndarray of shape (2, 2), float64, or None
        From a place of the stage (x, y) [nm] to ``stage_px``; another one after the scan was turned or magnified.
    height : ndarray of shape (n_classes,), float64, or None
        Of the column of each class: those of like height can be one defect that hops between sublattices.
    """

    series_id: str
    number: int
    ordinal: int
    shape: tuple[int, int]
    image: NDArray[np.float32]
    vectors: NDArray[np.float64] | None
    position: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    posterior: NDArray[np.float32]
    class_ids: NDArray[np.int16]
    roles: tuple[str, ...]
    stage_px: tuple[float, float] | None = None
    log_prior: NDArray[np.floating] | None = None
    time_s: float | None = None
    axes: NDArray[np.float64] | None = None
    height: NDArray[np.float64] | None = None


# Classes beside the most probable one that are told of a site, and the least probability that is worth it.
N_OTHERS = 4
MIN_ALTERNATIVE = 0.01


@dataclass(frozen=True, slots=True)
class Transition:
    """A defect appeared, changed its class, moved to another site, or disappeared.

    Attributes
    ----------
    site : int
        Index in the observation; -1 where the frame has no such site any more.
    track : int
        Identity of the defect. A defect that moves takes its track along, and one that disappears ends it: the site
        goes on under another number.
    class_id : int
        The defect's class; for a disappearance the class that it was of.
    previous_class_id : int or None
        Its class before, where it was reclassified, or moved to a site where it is of another one.
    confidence : float
        Probability of what is said: of the class, or, for a disappearance, that no defect is left.
    alternatives : dict of int to float
        Probability of the other classes worth a mention.
    position : tuple of float
        Row, column in the frame [px].
    sigma_px : float
        Standard deviation of the position along either axis [px].
    latency_frames : int
        Frames between the first one that spoke for the change and this one.
    """

    type: TransitionType
    site: int
    track: int
    class_id: int
    previous_class_id: int | None
    confidence: float
    alternatives: dict[int, float]
    position: tuple[float, float]
    sigma_px: float
    latency_frames: int


@dataclass(frozen=True, slots=True, eq=False)
class Away:
    """Defects that were seen before in the place that the newest frame is of, and are out of its view.

    Attributes
    ----------
    position : ndarray of shape (n, 2), float64
        Where they are by now, row and column of the frame continued [px].
    sublattice : ndarray of shape (n,), int16
    track : ndarray of shape (n,), int32
    class_id : ndarray of shape (n,), int16
    confidence : ndarray of shape (n,), float32
        As when they were seen last.
    prospect : ndarray of shape (n,), float32
        As of `Tracked`.
    """

    position: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    track: NDArray[np.int32]
    class_id: NDArray[np.int16]
    confidence: NDArray[np.float32]
    prospect: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """What is known of each site after a frame, its past included.

    Attributes
    ----------
    track : ndarray of shape (n,), int32
        Identity of each site; -1 where it has none.
    class_id : ndarray of shape (n,), int16
        Most probable class by the evidence of all frames.
    role : ndarray of shape (n,), uint8
        Index into the roles host, defect, neighbour, unknown.
    confidence : ndarray of shape (n,), float32
        Posterior probability of that class.
    other_class : ndarray of shape (n, `N_OTHERS`), int16
        The classes that come next, -1 *unknown*.
    other_share : ndarray of shape (n, `N_OTHERS`), float32
        Their probabilities, falling; 0 for those not worth a mention.
    drift_px : tuple of float
        Row, column: how far the specimen has moved in the frame since the series started, ``position_now =
        position_then + drift_px``, with what the stage moved it. The extent of a move that could not be resolved is
        not in it.
    jump : bool
        The frame could not be placed relative to those before: its tracks are new ones.
    transitions : tuple of Transition
    specimen_drift_px : tuple of float
        The same without the moves of the stage, as far as their positions are known.
    sigma_px : float or None
        Standard deviation of a position [px].
    prospect : ndarray of shape (n,), float32, or None
        By what factor a further look would raise the evidence of each site, 1 where it would bring nothing.
    away : Away or None
        Defects that are known and out of view.
    """

    track: NDArray[np.int32]
    class_id: NDArray[np.int16]
    role: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    other_class: NDArray[np.int16]
    other_share: NDArray[np.float32]
    drift_px: tuple[float, float]
    jump: bool
    transitions: tuple[Transition, ...] = ()
    specimen_drift_px: tuple[float, float] = (0.0, 0.0)
    sigma_px: float | None = None
    prospect: NDArray[np.float32] | None = None
    away: Away | None = None
