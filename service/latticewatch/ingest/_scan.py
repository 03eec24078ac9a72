"""Diffraction frames in, one to a scan position; the picture that a virtual annular detector makes of the scan, out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.config import VirtualDetector
from latticewatch.errors import WireError
from latticewatch.ingest._wire import WireFrame
from latticewatch.messages import FrameHeader, Note

# Of a picture with fewer pixels than this too much is lost: joined late, aborted, or a detector that drops.
MIN_FILLED = 0.9


class AnnularDetector:
    """The sum over a ring of each diffraction frame.

    Parameters
    ----------
    settings : VirtualDetector
    shape : tuple of int
        Rows and columns of a diffraction frame.

    Raises
    ------
    WireError
        No pixel lies within the ring.
    """

    def __init__(self, settings: VirtualDetector, shape: tuple[int, int]) -> None:
        from latticewatch.ingest._ring import (
            sum_at,  # brings numba, which takes a while: a service answers before
        )

        self.shape, self._sum_at = shape, sum_at
        row, col = settings.centre or ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
        rows, cols = np.ogrid[: shape[0], : shape[1]]
        radius = np.hypot(rows - row, cols - col)
        outer = settings.outer_px if settings.outer_px is not None else np.inf
        self._pixels = np.flatnonzero((radius >= settings.inner_px) & (radius < outer)).astype(np.int64)
        if not len(self._pixels):
            raise WireError(f"no pixel of {shape} lies in the ring of ingest.virtual_detector", "shape")

    def sum(self, image: NDArray[Any]) -> float:
        """Sum over the ring; dead pixels (the largest value of an unsigned dtype) count as the mean of the rest."""
        if not image.dtype.isnative or image.dtype == np.float16:
            image = image.astype(np.float32 if image.dtype.kind == "f" else image.dtype.newbyteorder("="))
        dead = np.iinfo(image.dtype).max if image.dtype.kind == "u" and image.dtype.itemsize > 1 else -1
        return float(self._sum_at(image.reshape(-1), self._pixels, dead))


class ScanImage:
    """Puts values into a scan, and gives a frame whenever one is full.

    Parameters
    ----------
    settings : VirtualDetector
    series_id : str
    detector : str
        Which detector, channel or threshold it is.
    **fields
        Further fields of `FrameHeader`.
    """

    def __init__(self, settings: VirtualDetector, series_id: str, detector: str, **fields: Any) -> None:
        self._rows, self._cols = settings.scan
        self._series_id, self._detector, self._fields = series_id, detector, fields
        self._frame = 0
        self._values = np.full(self._rows * self._cols, np.nan, np.float32)

    def put(self, position: int, value: float) -> Iterator[WireFrame | WireError]:
        """The value at the ``position``-th place since the series began, and what is full before or after it."""
        frame, place = divmod(position, self._rows * self._cols)
        if frame < self._frame:
            return  # came after its picture was given
        if frame > self._frame:
            yield from self.finish()
            self._frame = frame
        self._values[place] = value
        if place == len(self._values) - 1:
            yield from self.finish()

    def finish(self) -> Iterator[WireFrame | WireError]:
        """What there is of the picture; lost pixels become the mean of their neighbours."""
        values, frame = self._values.reshape(self._rows, self._cols), self._frame
        lost = np.isnan(values)
        n_lost = int(lost.sum())
        if n_lost == lost.size:
            return
        self._frame += 1
        self._values = np.full(values.size, np.nan, np.float32)
        if n_lost > (1 - MIN_FILLED) * lost.size:
            yield WireError(
                f"{n_lost} of {lost.size} pixels of scan {frame} are missing, more than {1 - MIN_FILLED:.0%}",
                "scan",
            )
            return
        image = _mended(values, lost)
        image.flags.writeable = False
        notes: tuple[Note, ...] = ()
        if n_lost:
            notes = (
                Note(
                    code="pixels-lost",
                    text=f"{n_lost} of {lost.size} pixels of the scan were lost; each is the mean of its neighbours.",
                    remedy="Let the detector send to this service alone, or record more slowly.",
                ),
            )
        header = FrameHeader(
            type="float32",  # type: ignore[call-arg]
            shape=image.shape,
            frame=frame,
            series_id=self._series_id,
            detector=self._detector,
            **self._fields,
        )
        yield WireFrame(header, image, header.pixel_size_nm, notes=notes, pixels_lost=n_lost)


def _mended(values: NDArray[np.float32], lost: NDArray[np.bool_]) -> NDArray[np.float32]:
    if not lost.any():
        return values
    rest = np.float32(np.nanmean(values))
    padded = np.pad(values, 1, constant_values=np.nan)
    around = np.stack(
        [padded[r : r + values.shape[0], c : c + values.shape[1]] for r in range(3) for c in range(3)]
    )
    known = np.isfinite(around)
    total, n = np.where(known, around, 0).sum(0), known.sum(0)
    mean = np.where(n > 0, total / np.maximum(n, 1), rest)
    return np.where(lost, mean, values).astype(np.float32)
