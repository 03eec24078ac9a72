"""What all hosts of a frame share: focus, tilt and the scan change every patch alike, a defect changes a few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._oddities import Oddities, squared_lengths

# Fewer sites of a sublattice than these do not tell what is shared from what some have.
FEWEST_SHARING = 20
# So many sites, spread evenly over the frame, say what the others share.
SITES_ASKED = 500
# Variance of a median beside that of a mean, of normal values.
MEDIAN_VARIANCE = np.pi / 2
# What noise alone makes of the medians stays below this many standard deviations.
SURELY_SHARED = 4.0
# Hosts of more than this variance, beside the frames learnt from, are another specimen, and not another focus.
MOST_SHARED = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class SharedChange:
    """How the hosts of one sublattice look in one frame, beside those learnt from.

    Attributes
    ----------
    offset : ndarray of shape (n_axes,), float32
        What is left over of every host [sigma].
    scale : float
        Standard deviation of what is left over beside that, that of the frames learnt from being 1.
    """

    offset: NDArray[np.float32]
    scale: float

    def taken_off(self, residual: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is left over, as it would be in the frames learnt from, shape (m, n_axes)."""
        return (residual - self.offset) * np.float32(1 / self.scale)


def shared_change(residual: NDArray[np.float32], known: Oddities) -> SharedChange | None:
    """The part of what is left over that the sites of one sublattice share in one frame.

    Parameters
    ----------
    residual : ndarray of shape (m, n_axes), float32
        What changes of occupancy leave unexplained; hosts have unit variance [sigma].
    known : Oddities
        Of the sublattice.

    Returns
    -------
    SharedChange or None
        The median over the sites, shrunk by what noise adds to its length (James and Stein 1961), and the scatter about
        it by the median of the squared lengths. None where noise alone may have made both: then nothing changes.
    """
    m, n_axes = residual.shape
    if m < FEWEST_SHARING or n_axes == 0:
        return None
    some = residual[:: max(1, m // SITES_ASKED)]
    middle = _middle(some.T)
    noise = MEDIAN_VARIANCE * n_axes / len(some)
    length = float(middle @ middle)
    moved = length > noise * (1 + SURELY_SHARED * np.sqrt(2 / n_axes))
    offset = (middle * (1 - noise / length) if moved else np.zeros(n_axes)).astype(np.float32)
    squared = squared_lengths(some - offset if moved else some)
    ratio = float(_middle(squared)) / known.usual_square
    error = known.spread * np.sqrt(2 / n_axes * MEDIAN_VARIANCE / len(some))
    wider = ratio > 1 + SURELY_SHARED * error
    if not moved and not wider:
        return None
    return SharedChange(offset, float(np.sqrt(min(ratio, MOST_SHARED))) if wider else 1.0)


def _middle(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Median along the last axis, the same number as that of `numpy.median` in a third of its time."""
    copy = np.array(values, order="C")
    half = copy.shape[-1] // 2
    copy.partition(half, axis=-1)
    upper = copy[..., half]
    if copy.shape[-1] % 2:
        return np.asarray(upper)
    return np.asarray(np.mean([copy[..., :half].max(-1), upper], axis=0, dtype=copy.dtype))
