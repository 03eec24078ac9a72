"""Marks of sites: the same on the frame, in the layout and in the legends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latticewatch.offline._style import DARK, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = (0, (2.4, 1.6))


def rings(axes: Axes, xy: NDArray[np.floating], look: Look, radius_pt: float, dashed: bool = False) -> None:
    """Open marks that leave the column they surround to be seen.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    xy : ndarray of shape (n, 2)
        Data coordinates.
    look : Look
    radius_pt : float
        Radius [pt].
    dashed : bool, optional
        For sites that fit no class.
    """
    width = min(max(radius_pt / 3.5, 0.9), 1.6)
    for colour, linewidth in ((DARK, 1.6 * width), (look.colour, width)):
        axes.scatter(
            xy[:, 0],
            xy[:, 1],
            s=(2 * radius_pt) ** 2,
            marker=look.marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=linewidth,
            linestyles=[DASHES] if dashed else "solid",
        )


def dots(axes: Axes, xy: NDArray[np.floating], look: Look, radius_pt: float, alpha: float = 1.0) -> None:
    """Filled marks, with a thin dark edge that keeps pale colours visible on white.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    xy : ndarray of shape (n, 2)
        Data coordinates.
    look : Look
    radius_pt : float
        Radius [pt].
    alpha : float, optional
        Opacity.
    """
    axes.scatter(
        xy[:, 0],
        xy[:, 1],
        s=(2 * radius_pt) ** 2,
        marker=look.marker,
        facecolors=look.colour,
        edgecolors=DARK,
        linewidths=min(0.35, radius_pt / 9),
        alpha=alpha,
    )
