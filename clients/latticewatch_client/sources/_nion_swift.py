"""Nion Swift: frames of a scan that is playing, from inside it.

Nothing of Nion's is imported here or by the service: its packages are under the GPL, and run in their own environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from latticewatch_client.publisher import PublisherError
from latticewatch_client.sources._relay import Grabbed

# What Nion Swift calls its units, in nanometres.
UNITS_NM = {"nm": 1.0, "pm": 1e-3, "Å": 0.1, "um": 1e3, "µm": 1e3, "μm": 1e3}


class NionSwift:
    """Waits for the next frame of a scan to be finished, again and again.

    Parameters
    ----------
    scan : object
        A hardware source, as ``api.get_hardware_source_by_id("superscan", "1")`` gives it; it has to be playing.
    channel : int
        Which of the channels that are enabled, such as HAADF and MAADF.
    timeout_s : float
        How long to wait for a frame.
    """

    def __init__(self, scan: Any, channel: int = 0, timeout_s: float = 60.0) -> None:
        self._scan, self._channel, self._timeout_s = scan, channel, timeout_s

    def __call__(self) -> Grabbed | None:
        """The frame that was finished; None where there was none in time.

        Raises
        ------
        PublisherError
            There is no such channel, or what it gives is no image of a specimen.
        """
        found = self._scan.get_next_xdatas_to_finish(self._timeout_s)
        if not found:
            return None
        if self._channel >= len(found):
            raise PublisherError(f"channel {self._channel} of {len(found)}; enable it, or choose another one")
        data = found[self._channel]
        if data is None:
            return None
        image = np.array(data.data)
        if image.ndim != 2:
            raise PublisherError(f"the channel gives {image.ndim} axes, expected the two of an image")
        fields: dict[str, Any] = {"pixel_size_nm": _pixel_size_nm(data.dimensional_calibrations)}
        source = dict(data.metadata or {}).get("hardware_source", {})
        name = source.get("channel_name")
        if isinstance(name, str) and name:
            fields["detector"] = name
        dwell_us = source.get("pixel_time_us")
        if isinstance(dwell_us, int | float) and dwell_us > 0:
            fields["dwell_us"] = float(dwell_us)
        return Grabbed(image, fields)


def _pixel_size_nm(calibrations: Any) -> float | None:
    sizes = []
    for one in calibrations:
        if not one.units:
            return None
        factor = UNITS_NM.get(one.units)
        if factor is None:
            raise PublisherError(f"the scan is calibrated in {one.units!r}, expected a length")
        sizes.append(abs(one.scale) * factor)
    if abs(sizes[0] - sizes[1]) > 0.01 * sizes[0]:
        raise PublisherError(f"pixels of {sizes[0]:.4g} × {sizes[1]:.4g} nm; expected square ones")
    return sizes[0]
