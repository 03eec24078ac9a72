"""Patches of one or several frames: moments, places and neighbours side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._neighbours import neighbour_index
from latticewatch.model._resampling import without_blur
from latticewatch.model._templates import SublatticeTemplates


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Patches of one or several frames, ready for learning or classification.

    Attributes
    ----------
    moments : ndarray of shape (n, n_moments), float32
    position : ndarray of shape (n, 2), float64
        Row and column [px].
    sublattice : ndarray of shape (n,), int16
    frame : ndarray of shape (n,), int32
        Frame that each was seen in, from 0.
    cell : ndarray of shape (n, 2), int32
        Unit cell that each belongs to.
    index : ndarray of shape (n, k), int32
        Their neighbours, see `neighbour_index`.
    shape : tuple of int
        Rows and columns of the frames.
    """

    moments: NDArray[np.float32]
    position: NDArray[np.float64]
    sublattice: NDArray[np.int16]
    frame: NDArray[np.int32]
    cell: NDArray[np.int32]
    index: NDArray[np.int32]
    shape: tuple[int, int]

    def take(self, which: NDArray[np.intp] | slice) -> Patches:
        """Some of them; the others are no neighbours any more.

        Parameters
        ----------
        which : ndarray of shape (m,), intp, or slice
            Of a slice nothing is copied but neighbours.

        Returns
        -------
        Patches
        """
        index = self.index[which]
        number = np.full(len(self.moments), -1, np.int32)
        number[which] = np.arange(len(index), dtype=np.int32)
        return Patches(
            self.moments[which],
            self.position[which],
            self.sublattice[which],
            self.frame[which],
            self.cell[which],
            np.where(index >= 0, number[np.maximum(index, 0)], index).astype(np.int32),
            self.shape,
        )


def gather_patches(
    frames: list[tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16], NDArray[np.int32]]],
    templates: tuple[SublatticeTemplates, ...],
    shape: tuple[int, int],
) -> Patches:
    """Join the patches of several frames.

    Where the templates know what resampling does to the moments, it is taken off.

    Parameters
    ----------
    frames : list of tuple
        Of each frame: moments of shape (n, n_moments), float32; positions of shape (n, 2), float64 [px]; sublattices of
        shape (n,), int16; cells of shape (n, 2), int32.
    templates : tuple of SublatticeTemplates
    shape : tuple of int
        Rows and columns of the frames.

    Returns
    -------
    Patches
    """
    tables = tuple(t.neighbour for t in templates)
    n_columns = sum(not t.void for t in templates)
    start, parts, index = 0, [], []
    for number, (moments, position, sublattice, cell) in enumerate(frames):
        local = neighbour_index(sublattice, cell, tables, n_columns)
        index.append(np.where(local >= 0, local + start, local) if start else local)
        parts.append((moments, position, sublattice, np.full(len(moments), number, np.int32), cell))
        start += len(moments)
    moments, position, sublattice, frame, cells = (
        p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True)
    )
    index = np.concatenate(index).astype(np.int32)
    slopes = [t.resampling for t in templates if t.resampling is not None]
    if len(slopes) == len(templates):
        moments = without_blur(moments, position, sublattice, np.array(slopes, np.float32))
    return Patches(moments, position, sublattice, frame, cells, index, shape)
