"""How often pages get a picture: all of them together may cost no more than a share of a core."""

from __future__ import annotations

import time
from collections.abc import Callable

# Share of one core that all pages together may cost, with what is not seen from here less than a tenth: the rest
# analyses frames.
SHARE = 0.08
# Weight of the newest beat in the running mean of what one costs.
NEWEST = 0.1
# No page waits longer for what is new than this, however many there are [s].
LONGEST_S = 0.5


class Pace:
    """A beat for all pages: each page gets one message in a beat, and a beat is as long as what it costs allows.

    A single page gets every frame of most streams; twenty of them get fewer. As they are answered at the same moment
    they get the same frame, which is packed once. Used by the event loop alone.

    Parameters
    ----------
    clock : callable
        Monotonic time [s].
    processor : callable
        Processor time of the thread of the event loop [s].

    Notes
    -----
    What a beat costs is the processor time of the event loop since the beat before, with everything else that it did,
    and that of packing messages. After a pause of more than two beats the rest of what the loop did counts for too
    much, and nothing is learnt from it.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock, self._processor = clock, processor
        self._beat = 0
        self._began_at, self._began_with = -LONGEST_S, 0.0
        self._packed_s = 0.0
        self._cost_s: float | None = None

    @property
    def period_s(self) -> float:
        """Length of a beat [s]."""
        return min((self._cost_s or 0.0) / SHARE, LONGEST_S)

    def left_s(self, answered: int) -> float:
        """How long a page has to wait for its next message [s]; 0 where it gets it at once.

        Parameters
        ----------
        answered : int
            The beat in which it got the last one; -1 before the first.

        Returns
        -------
        float
        """
        return max(0.0, self._began_at + self.period_s - self._clock()) if answered == self._beat else 0.0

    def take(self) -> int:
        """A page gets a message now.

        Returns
        -------
        int
            The beat that it belongs to.
        """
        now = self._clock()
        lasted_s = now - self._began_at
        if lasted_s >= self.period_s:
            spent = self._processor()
            cost_s = spent - self._began_with + self._packed_s
            if self._beat and lasted_s < 2 * self.period_s + LONGEST_S / 10:
                self._cost_s = (
                    cost_s if self._cost_s is None else self._cost_s + NEWEST * (cost_s - self._cost_s)
                )
            self._beat, self._began_at, self._began_with, self._packed_s = self._beat + 1, now, spent, 0.0
        return self._beat

    def packed(self, seconds: float) -> None:
        """A message was packed, in another thread.

        Parameters
        ----------
        seconds : float
            Processor time of it [s].
        """
        self._packed_s += seconds
