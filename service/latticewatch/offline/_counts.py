"""Sites of each class in each frame of a stack in; their course in a bounded number of points out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# More than a figure has columns.
POINTS = 4096


class Counts:
    """How many sites of each class the frames of a stack have.

    Every frame has a point of its own up to `POINTS` frames; of a longer stack two points become one each time they are
    used up, so that memory does not grow with its length.
    """

    def __init__(self) -> None:
        # Frames of a point, and frames so far; by point the first and the last number, and how many were classified.
        self._width, self._frames = 1, 0
        self._numbers = np.zeros((2, POINTS), np.int64)
        self._classified = np.zeros(POINTS, np.int64)
        self._sites: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return self._frames

    def add(self, number: int, class_id: NDArray[np.integer] | None) -> None:
        """Count the sites of the next frame.

        Parameters
        ----------
        number : int
            Of the frame.
        class_id : ndarray of shape (n_sites,), integer, or None
            Of its sites; -1: of none. None where nothing was classified.
        """
        if self._frames == POINTS * self._width:
            self._halve()
        point, place = divmod(self._frames, self._width)
        self._numbers[0 if place == 0 else 1, point] = self._numbers[1, point] = number
        self._frames += 1
        if class_id is None:
            return
        self._classified[point] += 1
        for known, n in zip(
            *(found.tolist() for found in np.unique(class_id, return_counts=True)), strict=True
        ):
            self._sites.setdefault(known, np.zeros(POINTS, np.int64))[point] += n

    def _halve(self) -> None:
        half = POINTS // 2
        self._width *= 2
        self._numbers[0, :half], self._numbers[1, :half] = self._numbers[0, ::2], self._numbers[1, 1::2]
        for counts in (self._classified, *self._sites.values()):
            counts[:half] = counts[::2] + counts[1::2]
            counts[half:] = 0

    @property
    def _points(self) -> int:
        return -(-self._frames // self._width)

    @property
    def classified(self) -> bool:
        """Whether any frame was."""
        return bool(self._classified.any())

    @property
    def numbers(self) -> tuple[int, int]:
        """Of the first frame and of the last."""
        return int(self._numbers[0, 0]), int(self._numbers[1, self._points - 1])

    @property
    def edges(self) -> NDArray[np.float64]:
        """Where points begin and end, half way to the frames before and after, shape (n_points + 1,) [frame number]."""
        first, last = self._numbers[:, : self._points].astype(float)
        return np.concatenate([[first[0] - 0.5], (last[:-1] + first[1:]) / 2, [last[-1] + 0.5]])

    def course(self, class_id: int) -> NDArray[np.float64]:
        """Sites of a class in a frame, the mean of each point, shape (n_points,); NaN where nothing was classified."""
        sites, frames = self._of(class_id)
        return np.divide(sites, frames, out=np.full(len(frames), np.nan), where=frames > 0)

    def mean(self, class_id: int) -> float:
        """Sites of a class in a frame, the mean of all that were classified; NaN where none was."""
        sites, frames = self._of(class_id)
        return float(sites.sum() / frames.sum()) if frames.any() else float("nan")

    def _of(self, class_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sites = self._sites.get(class_id, np.zeros(POINTS, np.int64))
        return sites[: self._points], self._classified[: self._points]
