"""What is measured: numbers with their units in their names, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from latticewatch.bench._machine import Machine


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of several measurements, and what most of them lie between.

    Attributes
    ----------
    median, p10, p90 : float
        Median, tenth and ninetieth percentile.
    repeats : int
        How many there were.
    """

    median: float
    p10: float
    p90: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float], factor: float = 1.0) -> Self:
        """The spread of values, each multiplied by a factor.

        Parameters
        ----------
        values : sequence of float
        factor : float
            Such as 1000, from seconds to milliseconds.

        Returns
        -------
        Spread
        """
        p10, median, p90 = (factor * float(v) for v in np.percentile(values, (10, 50, 90)))
        return cls(median, p10, p90, len(values))


@dataclass(frozen=True, slots=True)
class ZernikeTimes:
    """One way to get 66 moments of many patches.

    Attributes
    ----------
    name : str
    patch_px : int
        Side of the patches.
    us_per_patch : Spread
        Wall time of all patches together, divided by their number.
    patches_per_s : float
        From the median.
    """

    name: str
    patch_px: int
    us_per_patch: Spread
    patches_per_s: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the analysis; the shares of the stages of a frame add up to 1.

    Attributes
    ----------
    name : str
    ms : Spread
    frames_per_s : float or None
        Frames that this stage alone could take, from the median; None where it took no time.
    share : float
        Of the time of all frames together.
    """

    name: str
    ms: Spread
    frames_per_s: float | None
    share: float


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Whole frames of one size, from decoded to classified and tracked, one at a time.

    Attributes
    ----------
    shape_px : tuple of int
    sites, patch_px : int
        Sites of a frame, and the side of their patches.
    ms : Spread
        Time of a frame.
    frames_per_s : float
        From the median; the service has several frames in work at a time.
    stages : list of Stage
    script_ms : Spread or None
        Time of the script that uses motif-learn and scikit-learn, on all cores, with the patches of ours.
    ratio : float or None
        How many times as long that is.
    """

    shape_px: tuple[int, int]
    sites: int
    patch_px: int
    ms: Spread
    frames_per_s: float
    stages: list[Stage]
    script_ms: Spread | None = None
    script_stages: list[Stage] = field(default_factory=list)
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """The live path at a set rate: replay, ZeroMQ, service, client on a websocket, each a process of its own.

    Attributes
    ----------
    shape_px : tuple of int
    asked_frames_per_s, analysed_frames_per_s : float
        What was sent, and what was analysed.
    seconds : float
        How long it was watched.
    analysed, dropped, lost : int
        Frames in that time: analysed, dropped by the service, lost on the way to it.
    events : int
        Events that the client read.
    event_ms_p50, event_ms_p99 : float or None
        From the frame received to its event readable by the client; None where there was no event.
    picture_ms_p50, picture_ms_p99 : float or None
        The same for the picture of a dashboard that is open beside it.
    """

    shape_px: tuple[int, int]
    asked_frames_per_s: float
    analysed_frames_per_s: float
    seconds: float
    analysed: int
    dropped: int
    lost: int
    events: int
    event_ms_p50: float | None
    event_ms_p99: float | None
    picture_ms_p50: float | None
    picture_ms_p99: float | None


@dataclass(frozen=True, slots=True)
class Sustained:
    """The highest rate of the live path: frames replayed as fast as the service takes them, no dashboard.

    Attributes
    ----------
    shape_px : tuple of int
    frames_per_s : Spread
        Of the seconds that it was watched.
    """

    shape_px: tuple[int, int]
    frames_per_s: Spread


@dataclass(slots=True)
class Benchmark:
    """Everything that was measured, in the order in which it was."""

    version: str
    machine: Machine
    zernike: list[ZernikeTimes] = field(default_factory=list)
    frames: list[FrameTimes] = field(default_factory=list)
    latency: Latency | None = None
    sustained: Sustained | None = None

    def ratio(self, patch_px: int, numerator: str, denominator: str) -> float | None:
        """How many times as long one way to get moments takes as another.

        Parameters
        ----------
        patch_px : int
            Side of the patches [px].
        numerator, denominator : str
            Names of the two ways.

        Returns
        -------
        float or None
            Of the medians; None where one was not measured.
        """
        median = {t.name: t.us_per_patch.median for t in self.zernike if t.patch_px == patch_px}
        if numerator not in median or denominator not in median:
            return None
        return median[numerator] / median[denominator]

    def scaling(self) -> float | None:
        """How many times as long a frame of 4096² takes as one of 1024²; None where one was not measured."""
        median = {times.shape_px[0]: times.ms.median for times in self.frames}
        return median[4096] / median[1024] if {1024, 4096} <= median.keys() else None

    def document(self) -> dict[str, Any]:
        """The whole as JSON takes it."""
        return {**asdict(self), "ratio_4096_to_1024": self.scaling()}
