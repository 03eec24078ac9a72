"""DigitalMicrograph (Gatan Microscopy Suite 3.4 and later): the image in front, from inside its Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latticewatch_client.publisher import PublisherError
from latticewatch_client.sources._relay import Grabbed

# What DigitalMicrograph calls its units, in nanometres. It may hand over the micro sign as a byte of Latin-1.
UNITS_NM = {"nm": 1.0, "pm": 1e-3, "Å": 0.1, "A": 0.1, "um": 1e3, "µm": 1e3, "μm": 1e3}


class DigitalMicrograph:
    """Gives the front image of DigitalMicrograph whenever a scan of it is complete.

    A live scan is written into the same image, row after row; it is complete when its last row has changed.

    Parameters
    ----------
    dm : module
        ``DigitalMicrograph``, which only the Python inside of it can import.
    image : object, optional
        The image to follow; by default the one in front now.
    stage_nm : callable, optional
        Gives the stage's x and y [nm].

    Raises
    ------
    PublisherError
        No image is open, or it is not calibrated in a length.
    """

    def __init__(
        self, dm: Any, image: Any = None, stage_nm: Callable[[], tuple[float, float]] | None = None
    ) -> None:
        self._image = dm.GetFrontImage() if image is None else image
        if self._image is None:
            raise PublisherError("no image is open in DigitalMicrograph; start the scan first")
        self._stage_nm = stage_nm
        self._last_row: bytes | None = None

    def __call__(self) -> Grabbed | None:
        """The frame that has just been completed; None while there is none."""
        live = self._image.GetNumArray()
        last_row = np.array(live[-1]).tobytes()
        if last_row == self._last_row:
            return None
        self._last_row = last_row
        fields: dict[str, Any] = {"pixel_size_nm": self._pixel_size_nm()}
        if self._stage_nm is not None:
            fields["stage_nm"] = self._stage_nm()
        # The scan goes on in the same memory.
        return Grabbed(np.array(live), fields)

    def _pixel_size_nm(self) -> float | None:
        sizes = []
        for axis in (0, 1):
            _, scale, unit = self._image.GetDimensionCalibration(axis, 0)
            unit = unit.decode("latin-1") if isinstance(unit, bytes) else str(unit)
            if unit.strip() in ("", "pixel", "pixels"):
                return None
            factor = UNITS_NM.get(unit.strip())
            if factor is None:
                raise PublisherError(
                    f"the image is calibrated in {unit!r}, expected a length; choose the scan's image"
                )
            sizes.append(abs(scale) * factor)
        if abs(sizes[0] - sizes[1]) > 0.01 * sizes[0]:
            raise PublisherError(f"pixels of {sizes[0]:.4g} × {sizes[1]:.4g} nm; expected square ones")
        return sizes[0]
