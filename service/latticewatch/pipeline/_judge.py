"""Whether a frame teaches: it is like those before it, or several in a row agree on something else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import Note
from latticewatch.model import DISPLACED
from latticewatch.pipeline._analysis import Classified

# A frame is doubtful where this share more of its sites than usual fits no class, and at least so many of them do not.
MORE_ODD = 0.1
FEWEST_ODD = 30
# Where it has fewer sites than this share of the usual number: the beam was blanked, or the specimen left the view.
FEW_SITES = 0.5
# And where its lattice vectors differ by this share of their length from the usual ones: the stage moved.
MOST_BENT = 0.02
# So many frames in a row that agree with one another are a new state, and teach.
AGREEING = 3
# What is usual follows the frames that teach by this share of the difference.
FOLLOWS = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a frame looks like as a whole.

    Attributes
    ----------
    sites : float
        Number of its sites.
    odd : float
        Share of them that fits no class.
    vectors : ndarray of shape (2, 2), float64
        Of its lattice [px].
    """

    sites: float
    odd: float
    vectors: NDArray[np.float64]

    @classmethod
    def of(cls, analysis: Classified) -> Condition:
        """Of a frame that was classified.

        Parameters
        ----------
        analysis : Classified
        """
        verdict, field = analysis.verdict, analysis.phase_field
        component = verdict.component
        odd = (component < 0) & ((component != DISPLACED) | (verdict.posterior[:, -1] > 0.5))
        n = len(component)
        return cls(float(n), float(odd.sum()) / max(n, 1), np.asarray(field.vectors, np.float64))

    def toward(self, other: Condition, share: float) -> Condition:
        """Between this one and another.

        Parameters
        ----------
        other : Condition
        share : float
            0 is this one, 1 the other.
        """
        return Condition(
            self.sites + share * (other.sites - self.sites),
            self.odd + share * (other.odd - self.odd),
            self.vectors + share * (other.vectors - self.vectors),
        )


class Judge:
    """Tells doubtful frames from sound ones. What classifies is not asked: a doubtful frame is classified too."""

    def __init__(self) -> None:
        self._usual: Condition | None = None
        self._last: Condition | None = None
        self._agreeing = 0

    def doubt(self, seen: Condition) -> Note | None:
        """Judge the next frame.

        Parameters
        ----------
        seen : Condition

        Returns
        -------
        Note or None
            Why nothing is learnt from it; None where it is sound.
        """
        if self._usual is None:
            self._usual = seen
            return None
        why = _unlike(seen, self._usual)
        if why is None:
            self._usual, self._last = self._usual.toward(seen, FOLLOWS), None
            return None
        agrees = (
            self._last is not None and _unlike(seen, self._last) is None and _unlike(self._last, seen) is None
        )
        self._agreeing = self._agreeing + 1 if agrees else 1
        self._last = seen
        if self._agreeing >= AGREEING:
            self._usual, self._last = seen, None
            return None
        return Note(
            code="frame-doubtful",
            text=f"Nothing is learnt from this frame: {why}. It is classified all the same.",
            remedy=f"None for a frame or two; when {AGREEING} in a row agree, they are taken for a new state.",
        )


def _unlike(seen: Condition, usual: Condition) -> str | None:
    """How a frame differs from what is usual, in words; None where it does not."""
    if seen.sites < FEW_SITES * usual.sites:
        return f"it has {seen.sites:.0f} sites, and {usual.sites:.0f} are usual"
    if seen.odd > usual.odd + MORE_ODD and seen.odd * seen.sites >= FEWEST_ODD:
        return f"{seen.odd:.0%} of its sites fit no class, and {usual.odd:.0%} are usual"
    length = np.hypot(*usual.vectors.T)
    bent = float((np.hypot(*(seen.vectors - usual.vectors).T) / length).max())
    if bent > MOST_BENT:
        return (
            f"its lattice vectors differ by {bent:.1%} from the usual ones, and {MOST_BENT:.0%} may be drift"
        )
    return None
