"""AutoScript TEM (Thermo Fisher): acquires a STEM image, and says where and how large it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from latticewatch_client.sources._relay import Grabbed


class AutoScript:
    """Acquires one STEM image after another.

    Parameters
    ----------
    microscope : object
        A connected ``TemMicroscopeClient``.
    detector : object
        Such as ``DetectorType.HAADF``.
    size : int
        Pixels along a side.
    dwell_us : float
        Dwell time.
    """

    def __init__(self, microscope: Any, detector: Any, size: int, dwell_us: float) -> None:
        self._microscope, self._detector = microscope, detector
        self._size, self._dwell_us = size, dwell_us

    def __call__(self) -> Grabbed:
        """Acquire an image; lengths come in metres."""
        image = self._microscope.acquisition.acquire_stem_image(
            self._detector, self._size, self._dwell_us * 1e-6
        )
        position = self._microscope.specimen.stage.position
        fields: dict[str, Any] = {
            "dwell_us": self._dwell_us,
            "detector": str(getattr(self._detector, "name", self._detector)),
            "stage_nm": (position.x * 1e9, position.y * 1e9),
        }
        result = getattr(image.metadata, "binary_result", None)
        if result is not None:
            fields["pixel_size_nm"] = result.pixel_size.x * 1e9
        return Grabbed(np.array(image.data), fields)
