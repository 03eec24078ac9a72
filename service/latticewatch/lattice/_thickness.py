"""Thickness and gain that vary over a frame: measured cell by cell against the average cell, and taken out.

A thicker place shows the same lattice with higher columns; so does a detector whose gain drifts, or a beam that is
partly cut off. The height of the lattice is the slope of the frame over its own average cell, in windows of one lattice
constant; a median over the windows around keeps steps sharp, and defects out. Where the slope stands out of its own
noise there is lattice, however weak. The frame is then divided by it, so that a column is compared with those around.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from latticewatch.lattice._background import block_means
from latticewatch.lattice._cell import UnitCell, unfold_cell
from latticewatch.lattice._demodulator import block_side
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._sites import predict_sites
from latticewatch.messages import Note
from latticewatch.robust import NORMAL

# The demodulated amplitude is looked at first, which costs nothing: below this share of the usual one, at more than
# this share of the nodes, there may be thinner places.
LOOK_BELOW = 0.75
LOOK_SHARE = 0.02
# Height of the lattice over the frame, its 95th over its 5th percentile, from which it counts as varying.
MIN_VARIATION = 1.4
# Below this share of the usual height, and so many standard errors, no lattice is seen.
MIN_HEIGHT = 0.1
MIN_SIGMA = 4.0
# Single cells that differ by more than this share of the variation are mixed.
MIXED_SHARE = 0.3
# Diameter of the median, in lattice constants: steps stay sharp, and what is smaller than half of it is no thickness.
MEDIAN_CELLS = 4.0
# A step: the height changes by this ratio within so many lattice constants. Columns of both sides light up there.
STEP_RATIO = 1.2
RIM_CELLS = 1.25
# Columns in this share of the ramp that windows of one lattice constant make of a step are on the side that they look
# like themselves, in windows of so many.
OWN_SHARE = 0.75
OWN_CELLS = 0.35
# Of the lattice that is seen, the part without a lattice that is too small to be one [cells].
LEAST_CELLS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Thickness:
    """Height of the lattice over a frame.

    Attributes
    ----------
    height : ndarray of shape (rows, cols), float64
        1 where it is as usual, at the middle of blocks.
    floor : ndarray of shape (rows, cols), float64
        Counts between the columns.
    seen : ndarray of shape (rows, cols), bool
        Where the lattice stands out of its noise.
    block : int
        Side of the blocks [px].
    rim : ndarray of shape (rows, cols), bool
        Where the height changes by a step.
    constant_px : float
        Lattice constant [px].
    """

    height: NDArray[np.float64]
    floor: NDArray[np.float64]
    seen: NDArray[np.bool_]
    block: int
    rim: NDArray[np.bool_]
    constant_px: float

    @property
    def ratio(self) -> float:
        """The highest over the lowest part, without the extreme twentieths."""
        low, high = np.quantile(self.height[self.seen], [0.05, 0.95])
        return float(high / low)

    def levelled(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The frame as if the lattice were as high everywhere.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
            [counts]

        Returns
        -------
        ndarray of shape (height, width), float32
            [counts]
        """
        gain = self._over(self.height, image.shape)
        floor = self._over(self.floor, image.shape)
        usual = np.float32(np.median(self.floor[self.seen]))
        return np.asarray((image - floor) / gain + usual, np.float32)

    def beside_step(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Pixels beside a step; None without one.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns of the frame.

        Returns
        -------
        ndarray of shape (height, width), bool, or None
        """
        return self._over(self.rim.astype(float), shape) > 0.5 if self.rim.any() else None

    @property
    def step_ratio(self) -> float:
        """How many times as high the lattice is on one side of the steps as on the other, at most."""
        heights = self.height[self.rim]
        return float(np.quantile(heights, 0.98) / np.quantile(heights, 0.02)) if len(heights) else 1.0

    def notes(self) -> list[Note]:
        """What there is to say of it."""
        found = [
            Note(
                code="thickness-varies",
                text=(
                    f"The lattice is {self.ratio:.1f} times as strong in some places as in others: thickness, layers "
                    "or gain vary. Every column is compared with those around it."
                ),
                remedy="Compare heights from place to place with care.",
            )
        ]
        if self.rim.any():
            rows, cols = (self.block * (at + 0.5) for at in np.nonzero(self.rim))
            found.append(
                Note(
                    code="step",
                    text=(
                        f"A step in thickness runs from row {rows.min():.0f} to {rows.max():.0f}, column "
                        f"{cols.min():.0f} to {cols.max():.0f}; it is not a row of defects."
                    ),
                )
            )
        return found

    def _over(self, values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Values of blocks at every pixel, bilinear."""
        at = [
            np.clip((np.arange(n) + 0.5) / self.block - 0.5, 0, m - 1)
            for n, m in zip(shape, values.shape, strict=True)
        ]
        out = ndimage.map_coordinates(values, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
        return np.asarray(out, np.float32)


def may_vary(field: PhaseField) -> bool:
    """Whether the amplitude of the waves leaves room for thinner places.

    Parameters
    ----------
    field : PhaseField

    Returns
    -------
    bool
    """
    return float((field.amplitude < LOOK_BELOW).mean()) > LOOK_SHARE


def measure_thickness(
    image: NDArray[np.float32], field: PhaseField, cell: UnitCell, mask: NDArray[np.bool_] | None = None
) -> Thickness | None:
    """Height of a lattice over a frame; None where it hardly varies.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
        Where the lattice lies in it.
    cell : UnitCell
        Its average cell.
    mask : ndarray of shape (height, width), bool, optional
        What is no specimen: what is measured beside it goes on there.

    Returns
    -------
    Thickness or None
    """
    constant = field.lattice_constant
    block = block_side(constant)
    means = block_means(image, block)
    shape = (means.shape[0], means.shape[1])
    perfect = unfold_cell(cell.mean - float(cell.mean.min()), field, shape, block=block)
    height, floor, error = _slopes(means.astype(np.float64), perfect.astype(np.float64), constant / block)
    if mask is not None:
        height, floor, error = _beside(mask, (height, floor, error), block, constant)
    step = max(1, round(constant / block / 4))
    size = round(MEDIAN_CELLS * constant / block / step) | 1
    single, noise = height, error
    round_window = np.hypot(*np.indices((size, size)) - size // 2) <= size / 2
    height, floor, error = (
        _enlarged(
            ndimage.median_filter(values[::step, ::step], footprint=round_window, mode="reflect"), step, shape
        )
        for values in (height, floor, error)
    )
    usual = float(np.quantile(height, 0.9))
    if usual <= 0:
        return None
    seen = _large((height > MIN_HEIGHT * usual) & (height > MIN_SIGMA * error), (constant / block) ** 2)
    if not seen.any():
        return None
    if _is_mixed(single[seen], height[seen], noise[seen]):
        return None
    usual = float(np.median(height[seen]))
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    at = tuple(np.asarray(nearest))
    height, floor = height[at] / usual, floor[at]
    rim = _rim(height, constant / block)
    if rim.any():
        columns = predict_sites(field, cell.columns, (image.shape[0], image.shape[1]), 0.0).position
        size = max(round(OWN_CELLS * constant / block), 3)
        below = ndimage.uniform_filter(perfect, size)
        # where no column is, nothing says its own height
        own = np.divide(
            ndimage.uniform_filter(means - floor, size), below, out=height * usual, where=below > 0
        )
        at = (columns + 0.5) / block - 0.5
        height, floor = _sharpened(height, floor, own / usual, rim, at, constant / block)
    found = Thickness(height, floor, seen, block, rim, constant)
    return found if found.ratio > MIN_VARIATION else None


def _is_mixed(single: NDArray[np.float64], height: NDArray[np.float64], noise: NDArray[np.float64]) -> bool:
    """Whether single cells differ from those around them by more than places do: then columns do, as in an alloy.

    Parameters
    ----------
    single, noise : ndarray of shape (n,), float64
        Height in windows of one lattice constant, and its error.
    height : ndarray of shape (n,), float64
        Median of those around, above 0.
    """
    apart = NORMAL * float(np.median(np.abs(single / height - 1)))
    own = np.sqrt(max(apart**2 - float(np.median(noise / height)) ** 2, 0.0))
    low, high = np.quantile(np.log(height), [0.05, 0.95])
    return own > MIXED_SHARE * (high - low)


def _slopes(
    image: NDArray[np.float64], perfect: NDArray[np.float64], cell_blocks: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Slope of the frame over the perfect one in windows of one lattice constant, what is left at zero, the error."""
    size = max(round(cell_blocks), 3)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.uniform_filter(values, size, mode="reflect")

    i, p = mean(image), mean(perfect)
    ip, pp, ii = mean(image * perfect) - i * p, mean(perfect**2) - p**2, mean(image**2) - i**2
    pp = np.maximum(pp, 1e-3 * float(np.median(pp)) + np.finfo(float).tiny)
    slope = ip / pp
    left = np.maximum(ii - slope * ip, 0.0)
    return slope, i - slope * p, np.sqrt(left / pp) / size


def _beside(
    mask: NDArray[np.bool_], values: tuple[NDArray[np.float64], ...], block: int, constant: float
) -> tuple[NDArray[np.float64], ...]:
    """Values of blocks, where their window reaches into a mask those of the nearest whose window does not."""
    rows, cols = values[0].shape
    inside = mask[: rows * block, : cols * block].reshape(rows, block, cols, block).any((1, 3))
    reach = max(round(constant / block), 3) // 2 + 1
    disturbed = ndimage.maximum_filter(inside, 2 * reach + 1)
    if disturbed.all():
        return values
    nearest = ndimage.distance_transform_edt(disturbed, return_distances=False, return_indices=True)
    at = tuple(np.asarray(nearest))
    return tuple(value[at] for value in values)


def _enlarged(values: NDArray[np.float64], step: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Every value for the block that it was taken at and those up to the next one."""
    rows, cols = (
        np.minimum((np.arange(n) + step // 2) // step, m - 1)
        for n, m in zip(shape, values.shape, strict=True)
    )
    return values[rows][:, cols]


def _large(region: NDArray[np.bool_], cell_blocks: float) -> NDArray[np.bool_]:
    """A region without its scraps."""
    labels = np.asarray(ndimage.label(region)[0], np.intp)  # type: ignore[index]
    size = np.bincount(labels.ravel())
    size[0] = 0
    return (size >= LEAST_CELLS * cell_blocks)[labels]


def _rim(height: NDArray[np.float64], cell_blocks: float) -> NDArray[np.bool_]:
    """Within little more than half a lattice constant of where the height changes by a step."""
    size = max(round(RIM_CELLS * cell_blocks), 3)
    logarithm = np.log(np.maximum(height, 1e-6))
    change = ndimage.maximum_filter(logarithm, size) - ndimage.minimum_filter(logarithm, size)
    return _large(change > np.log(STEP_RATIO), cell_blocks**2)


def _sharpened(
    height: NDArray[np.float64],
    floor: NDArray[np.float64],
    own: NDArray[np.float64],
    rim: NDArray[np.bool_],
    columns: NDArray[np.float64],
    cell_blocks: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height and floor in which every column of the rim of a step has those of its own side, and none those in between.

    Windows of one lattice constant make a ramp of a step, and columns on it would look changed on both sides of it.

    Parameters
    ----------
    height, floor : ndarray of shape (rows, cols), float64
    own : ndarray of shape (rows, cols), float64
        Height in windows that hold one column.
    rim : ndarray of shape (rows, cols), bool
    columns : ndarray of shape (n, 2), float64
        Where the columns are, in blocks.
    cell_blocks : float
        Lattice constant, in blocks.
    """
    plain = ~rim
    if not plain.any() or not len(columns):
        return height, floor
    # the middle of the step beside every block, and on which side of it a block is
    size = 2 * max(round(RIM_CELLS * cell_blocks), 3) + 1
    low, high = ndimage.minimum_filter(height, size), ndimage.maximum_filter(height, size)
    of_rim = ndimage.distance_transform_edt(plain, return_distances=False, return_indices=True)
    at = tuple(np.asarray(of_rim))
    middle = np.sqrt(low * high)[at]
    thick = height > middle
    # a block of the rim is on the side of the column that is nearest, so that no column is cut in two
    blocks = np.argwhere(rim)
    owner = columns[KDTree(columns).query(blocks)[1]]
    row, col = np.clip(np.rint(owner).astype(int), 0, np.array(height.shape) - 1).T
    # where the line passes so near that it does not tell, the column does
    near = np.abs(np.log(height / middle)) < OWN_SHARE * np.log(high / low)[at] / 2
    side = np.where(near, own > middle, thick)[row, col]
    sharp = height.copy(), floor.copy()
    for one in (False, True):
        source = plain & (thick == one)
        mine = tuple(blocks[side == one].T)
        if not source.any() or not len(mine[0]):
            continue
        nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
        at = tuple(np.asarray(nearest)[:, mine[0], mine[1]])
        for new, old in zip(sharp, (height, floor), strict=True):
            new[mine] = old[at]
    return sharp
