"""The legend of a figure: classes in groups, each with its mark, its name and its number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latticewatch.offline._style import DARK, QUIET, SMALL, TEXT, Page, line_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWATCH = 0.21
ENTRY_GAP = 0.05
GROUP_GAP = 0.14
BESIDE = 0.1


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the legend.

    Attributes
    ----------
    name : str
    value : str
        Written at the right.
    mark : callable or None
        Draws the mark at the positions (n, 2) of some axes.
    """

    name: str
    value: str
    mark: Callable[[Axes, NDArray[np.float64]], None] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Entries under a heading."""

    heading: str
    entries: Sequence[Entry]


class Legend:
    """Groups of entries, written at once; their marks are drawn when the page has its height.

    Parameters
    ----------
    page : Page
    left, top, width : float
        Where [inch].
    groups : sequence of Group
        Those without entries are left out.
    on_dark : bool, optional
        Show the marks on a dark ground, as they are on a frame.

    Attributes
    ----------
    bottom : float
        Where it ends [inch].
    """

    def __init__(
        self,
        page: Page,
        left: float,
        top: float,
        width: float,
        groups: Sequence[Group],
        on_dark: bool = False,
    ) -> None:
        self._page, self._place, self._on_dark = page, (left, top, width), on_dark
        self._marks: list[tuple[float, Entry]] = []
        self.bottom = top
        for group in groups:
            if group.entries:
                self._write(group)

    def _write(self, group: Group) -> None:
        page, (left, top, width) = self._page, self._place
        y = self.bottom + (GROUP_GAP if self.bottom > top else 0.0)
        heading = page.wrapped(group.heading, width, SMALL, max_lines=3)
        y = page.write(left, y, heading, SMALL, colour=QUIET) + ENTRY_GAP
        column = max(page.text_width(entry.value, TEXT) for entry in group.entries)
        for entry in group.entries:
            begin = left + SWATCH + BESIDE
            lines = page.wrapped(entry.name, width - (begin - left) - column - BESIDE, TEXT)
            self._marks.append((y + line_height(TEXT) / 2, entry))
            value_left = left + width - page.text_width(entry.value, TEXT)
            page.write(value_left, y, [entry.value], TEXT)
            y = page.write(begin, y, lines, TEXT) + ENTRY_GAP
        self.bottom = y

    def draw_marks(self) -> None:
        """Draw the mark of every entry; the page must have its height."""
        left, top, _ = self._place
        marked = [(y, entry.mark) for y, entry in self._marks if entry.mark is not None]
        if not marked:
            return
        axes = self._page.axes(left, top, SWATCH, self.bottom - top)
        axes.set_xlim(0, SWATCH)
        axes.set_ylim(self.bottom - top, 0)
        axes.axis("off")
        for y, mark in marked:
            if self._on_dark:
                half = SWATCH / 2
                axes.fill_between([0, SWATCH], y - top - half, y - top + half, color=DARK, linewidth=0)
            mark(axes, np.array([[SWATCH / 2, y - top]]))
