"""PyJEM (JEOL): a snapshot of a STEM detector, and where the stage is."""

from __future__ import annotations

from typing import Any

import numpy as np

from latticewatch_client.publisher import PublisherError
from latticewatch_client.sources._relay import Grabbed


class PyJEM:
    """Takes one snapshot after another.

    Parameters
    ----------
    detector : object
        ``PyJEM.detector.Detector(...)``.
    size : int
        Pixels along a side, as set at the detector.
    pixel_size_nm : float, optional
        PyJEM does not say it.
    stage : object, optional
        ``PyJEM.TEM3.Stage3()``; its positions are in nanometres.
    name : str
        Of the detector.
    """

    def __init__(
        self,
        detector: Any,
        size: int,
        pixel_size_nm: float | None = None,
        stage: Any = None,
        name: str = "STEM",
    ) -> None:
        self._detector, self._size = detector, size
        self._fields: dict[str, Any] = {"pixel_size_nm": pixel_size_nm, "detector": name}
        self._stage = stage

    def __call__(self) -> Grabbed:
        """Take a snapshot.

        Raises
        ------
        PublisherError
            It is not of the size that was given.
        """
        raw = self._detector.snapshot_rawdata()
        image = np.frombuffer(raw, np.uint16)
        if image.size != self._size**2:
            raise PublisherError(
                f"snapshot of {image.size} pixels, expected {self._size} × {self._size}; give the size that is set"
            )
        fields = dict(self._fields)
        if self._stage is not None:
            x, y, *_ = self._stage.GetPos()
            fields["stage_nm"] = (float(x), float(y))
        return Grabbed(image.reshape(self._size, self._size), fields)
