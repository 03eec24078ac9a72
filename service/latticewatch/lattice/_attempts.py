"""What a search for a lattice may cost: what failed is not tried again, and no more is tried than a bound.

A frame can suggest a basis in each of its windows, and each costs a pass over the whole frame. Frames that somebody
made so that none of them leads to a lattice must not keep a core busy for minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice._phase import PhaseField, phase_field
from latticewatch.parallel import check_wanted

# Pixels that are followed in one search, all attempts together: some seconds of one core. Where a lattice is, the first
# attempts find it.
MAX_PIXELS = 48 * 2**20
# A large frame has so many attempts all the same.
MIN_ATTEMPTS = 4


class Attempts:
    """The bases that were tried in one search, and those of them that no lattice of the frame has.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    same : callable
        Whether two bases are so nearly the same that both fail if one does.

    Attributes
    ----------
    n : int
        Attempts made.
    limit : int
        Attempts that may be made.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        same: Callable[[NDArray[np.float64], NDArray[np.float64]], bool],
    ) -> None:
        self.n = 0
        self.limit = max(MIN_ATTEMPTS, MAX_PIXELS // (shape[0] * shape[1]))
        self._same = same
        self._failed: list[tuple[NDArray[np.float32], NDArray[np.float64]]] = []

    @property
    def exhausted(self) -> bool:
        """Whether no other basis should be tried."""
        return self.n >= self.limit

    def follow(
        self,
        image: NDArray[np.float32],
        basis: NDArray[np.float64],
        possible: Callable[[PhaseField], bool],
    ) -> PhaseField | None:
        """The phase field of a basis over a frame.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
        basis : ndarray of shape (2, 2), float64
            Reciprocal vectors [cycles per pixel].
        possible : callable
            Whether a field may be that of a lattice at all, wherever it is looked at.

        Returns
        -------
        PhaseField or None
            None where it is not possible.
        """
        check_wanted()
        if any(seen is image and self._same(basis, failed) for seen, failed in self._failed):
            return None
        self.n += 1
        field = phase_field(image, basis)
        if possible(field):
            return field
        self._failed.append((image, basis))
        return None
