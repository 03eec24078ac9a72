"""What one frame shows, before anything is known of its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice import Flattened, Sites


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The sites of one frame and their moments, before anything is known of their classes.

    Attributes
    ----------
    flat : Flattened
    sites : Sites
        Those whose patch lies within the frame.
    moments : ndarray of shape (n, n_moments), float32
    """

    flat: Flattened
    sites: Sites
    moments: NDArray[np.float32]
