"""One frame as every later stage sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from latticewatch.messages import Calibration, Note


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A two-dimensional image with what its sender said about it.

    Attributes
    ----------
    image : ndarray of shape (height, width)
        As it was received: any integer or floating-point dtype, read-only, native or foreign byte order.
    series_id : str
        Identifier of the series; a restart of the counter or a change of shape starts a new one here.
    number : int
        Number of the frame in its series, as its sender counts.
    ordinal : int
        Number of the frame since this process started, dense; results are folded in this order.
    t_received : float
        Seconds since 1970 UTC.
    t_acquired : float or None
        The same, from the header.
    pixel_size_nm : float or None
        From the header (or field of view and width), else from the configuration.
    stage_nm : tuple of float or None
        Stage position x, y.
    rotation_deg : float or None
        Rotation of the scan against the stage; from the header, else from the configuration.
    flip_x, flip_y : bool
        Columns or rows count up against the stage's axis; from the header, else from the configuration.
    calibration_id : str or None
        What the sender calls its calibration.
    address : str
        Which source it came from.
    scalars : mapping of str to float or str
        What else was measured or set while the frame was taken.
    notes : tuple of Note
        What in the frame's header cannot all be right.
    dose_e_per_a2 : float or None
        Electrons per square angstrom that this frame cost the specimen; from the header, else from the configuration.
    received_at : float
        When it was received, in monotonic time [s]: durations do not jump when somebody sets the clock.
    """

    image: NDArray[Any]
    series_id: str = ""
    number: int = 0
    ordinal: int = 0
    t_received: float = 0.0
    t_acquired: float | None = None
    pixel_size_nm: float | None = None
    stage_nm: tuple[float, float] | None = None
    rotation_deg: float | None = None
    dwell_us: float | None = None
    detector: str | None = None
    dose_e_per_a2: float | None = None
    flip_x: bool = False
    flip_y: bool = False
    calibration_id: str | None = None
    address: str = ""
    scalars: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    received_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def calibration(self) -> Calibration | None:
        """How pixels lie on the stage; None without a pixel size."""
        if self.pixel_size_nm is None:
            return None
        return Calibration(
            pixel_size_nm=self.pixel_size_nm,
            rotation_deg=self.rotation_deg or 0.0,
            flip_x=self.flip_x,
            flip_y=self.flip_y,
            stage_nm=self.stage_nm,
            id=self.calibration_id,
        )
