"""What a pixel is: how large, how the scan lies on the stage, and from there to the stage's coordinates and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, FiniteFloat

from latticewatch.messages._base import Written
from latticewatch.messages._events import Displacement

Point = tuple[float, float]


class Calibration(Written):
    """From pixels to nanometres to the stage, and back.

    A pixel (row, col) lies at ``x = col * pixel_size_nm``, ``y = row * pixel_size_nm`` of its frame. Seen from
    the frame's origin that vector is flipped, then turned, and added to the position of the stage. Every step
    has its way back.

    Examples
    --------
    >>> turned = Calibration(pixel_size_nm=0.1, rotation_deg=90, stage_nm=(10.0, 20.0))
    >>> tuple(round(value, 6) for value in turned.to_stage(2, 4, (5, 5)))
    (10.0, 20.2)
    >>> tuple(round(value, 6) for value in turned.from_stage(10.0, 20.2, (5, 5)))
    (2.0, 4.0)
    """

    pixel_size_nm: FiniteFloat = Field(gt=0)
    rotation_deg: FiniteFloat = Field(
        default=0.0,
        description="Rotation of the scan: from the stage's x axis to the direction in which columns count up, "
        "towards the stage's y axis.",
    )
    flip_x: bool = Field(default=False, description="Columns count up against x, before the rotation.")
    flip_y: bool = Field(default=False, description="Rows count up against y, before the rotation.")
    stage_nm: tuple[FiniteFloat, FiniteFloat] | None = Field(
        default=None, description="Position x, y of the stage, which is that of the frame's origin."
    )
    origin: Literal["centre", "first pixel"] = Field(
        default="centre", description="The place in the frame that lies at the stage's position."
    )
    id: str | None = Field(default=None, max_length=128, description="Names this calibration at its sender.")

    def to_nm(self, row: float, col: float) -> Point:
        """Position x, y of a pixel in its frame [nm]; the centre of the first pixel is 0, 0.

        Parameters
        ----------
        row, col : float
            [px]

        Returns
        -------
        tuple of float
            x, y [nm].
        """
        return col * self.pixel_size_nm, row * self.pixel_size_nm

    def from_nm(self, x: float, y: float) -> Point:
        """Row and column of a position in the frame; the way back of `to_nm`.

        Parameters
        ----------
        x, y : float
            [nm]

        Returns
        -------
        tuple of float
            Row, column [px].
        """
        return y / self.pixel_size_nm, x / self.pixel_size_nm

    def turn(self, x: float, y: float) -> Point:
        """A displacement in the frame along the axes of the stage [nm].

        Parameters
        ----------
        x, y : float
            Along columns and rows of the frame [nm].

        Returns
        -------
        tuple of float
            x, y of the stage [nm].
        """
        x, y = (-x if self.flip_x else x), (-y if self.flip_y else y)
        cos, sin = self._direction()
        return cos * x - sin * y, sin * x + cos * y

    def turn_back(self, x: float, y: float) -> Point:
        """A displacement of the stage along the axes of the frame [nm]; the way back of `turn`.

        Parameters
        ----------
        x, y : float
            Of the stage [nm].

        Returns
        -------
        tuple of float
            Along columns and rows of the frame [nm].
        """
        cos, sin = self._direction()
        x, y = cos * x + sin * y, -sin * x + cos * y
        return (-x if self.flip_x else x), (-y if self.flip_y else y)

    def displacement(self, shift: Sequence[float]) -> Displacement:
        """A displacement in nanometres, along the axes of positions in the frame.

        Parameters
        ----------
        shift : sequence of 3 float
            Row, column and standard error [px].

        Returns
        -------
        Displacement
        """
        row, col, sigma = (float(value) for value in shift)
        x, y = self.to_nm(row, col)
        return Displacement(x=x, y=y, sigma=sigma * self.pixel_size_nm)

    def to_stage(
        self, row: float, col: float, shape: tuple[int, int], drift_px: Point = (0.0, 0.0)
    ) -> Point | None:
        """Where a pixel is on the specimen, in the coordinates of the stage.

        Parameters
        ----------
        row, col : float
            Position in the frame [px].
        shape : tuple of int
            Rows and columns of the frame.
        drift_px : tuple of float
            Row, column: how far the specimen has moved in the frame without the stage [px]. It is taken off, so that a
            thing keeps its coordinates while everything drifts.

        Returns
        -------
        tuple of float or None
            x, y [nm]; None where the position of the stage is not known.
        """
        if self.stage_nm is None:
            return None
        row0, col0 = self._origin_px(shape)
        x, y = self.turn(*self.to_nm(row - drift_px[0] - row0, col - drift_px[1] - col0))
        return self.stage_nm[0] + x, self.stage_nm[1] + y

    def from_stage(
        self, x: float, y: float, shape: tuple[int, int], drift_px: Point = (0.0, 0.0)
    ) -> Point | None:
        """Row and column of a place on the specimen; the way back of `to_stage`.

        Parameters
        ----------
        x, y : float
            Coordinates of the stage [nm].
        shape, drift_px
            As in `to_stage`.

        Returns
        -------
        tuple of float, or None
            Row and column [px]; None where the place of the stage is not known.
        """
        if self.stage_nm is None:
            return None
        row0, col0 = self._origin_px(shape)
        row, col = self.from_nm(*self.turn_back(x - self.stage_nm[0], y - self.stage_nm[1]))
        return row + row0 + drift_px[0], col + col0 + drift_px[1]

    def stage_px(self) -> Point | None:
        """Position of the stage along rows and columns [px]; differences of it say how far the frame has moved."""
        return None if self.stage_nm is None else self.from_nm(*self.turn_back(*self.stage_nm))

    def _direction(self) -> Point:
        angle = math.radians(self.rotation_deg)
        return math.cos(angle), math.sin(angle)

    def _origin_px(self, shape: tuple[int, int]) -> Point:
        if self.origin == "first pixel":
            return 0.0, 0.0
        return (shape[0] - 1) / 2, (shape[1] - 1) / 2
