"""What each class looks like on average, how that differs from its host, and the simulated class beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import NotLearntError
from latticewatch.messages import Role
from latticewatch.offline._style import (
    MARGIN,
    NBSP,
    QUIET,
    SMALL,
    TEXT,
    WIDTH,
    Look,
    Page,
    class_looks,
    line_height,
    plural,
)
from latticewatch.pipeline import CatalogueEntry, FrameResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Classes to a row: whichever of these makes fewer rows, the first if they make as many.
COLUMNS = (3, 4)
PANEL_GAP, CELL_GAP, ROW_GAP = 0.08, 0.25, 0.18
CHIP, CHIP_GAP = 0.11, 0.07
GREY_SCALE = 0.1
ORDER: tuple[Role, ...] = ("host", "defect", "neighbour", "unknown")


def classes_figure(result: FrameResult) -> Figure:
    """The average patch of each class and its difference from the host; below, its template and what that leaves.

    Parameters
    ----------
    result : FrameResult

    Returns
    -------
    matplotlib.figure.Figure
        1600 px wide, a section for each sublattice, its host first. The average patches of a sublattice share their
        grey levels, and so do the templates; each difference has limits of its own, written below it.

    Raises
    ------
    NotLearntError
        There are no classes.
    """
    if not result.classes:
        raise NotLearntError(
            f"frame {result.number}: no classes to draw; they are learnt where there is a lattice"
        )
    sublattices = sorted({entry.sublattice for entry in result.classes})
    groups = [_ordered(result, sublattice) for sublattice in sublattices]
    columns = min(COLUMNS, key=lambda n: sum(math.ceil(len(group) / n) for group in groups))
    looks = class_looks(result.classes)

    page = Page()
    top = page.title(f"{plural(len(result.classes), 'class', 'classes')}: average patches", _details(result))
    sections = []
    for members in groups:
        section = _Section(page, result, members, columns)
        top = section.write(top)
        sections.append(section)
    page.set_height(top + MARGIN - ROW_GAP)
    for section in sections:
        section.draw(looks)
    return page.figure


class _Section:
    """The classes of one sublattice: their text first, their panels once the page has its height."""

    def __init__(self, page: Page, result: FrameResult, members: list[CatalogueEntry], columns: int) -> None:
        self._page, self._result, self._members, self._columns = page, result, members, columns
        self._cell = (WIDTH - 2 * MARGIN - (columns - 1) * CELL_GAP) / columns
        self._panel = (self._cell - PANEL_GAP) / 2
        self._low, self._high = _levels([entry.average for entry in members])
        self._hosts = {entry.class_id: entry for entry in result.classes if entry.role == "host"}
        # each class with the corner of its text, the top of its panels and that of its template's
        self._placed: list[tuple[CatalogueEntry, float, float, float, float]] = []

    def write(self, top: float) -> float:
        """Write the text, leave room for the panels; returns where the next section begins."""
        page = self._page
        heading = page.wrapped(_place(self._members[0]), WIDTH - 2 * MARGIN, TEXT)
        top = page.write(MARGIN, top, heading, TEXT, colour=QUIET) + 0.06
        for start in range(0, len(self._members), self._columns):
            row = self._members[start : start + self._columns]
            lefts = [MARGIN + index * (self._cell + CELL_GAP) for index in range(len(row))]
            placed = list(zip(row, lefts, strict=True))
            panels = 0.04 + max(self._describe(left, top, entry) for entry, left in placed)
            captions = panels + self._panel + 0.02
            templates = captions + line_height(SMALL) + 0.04
            self._placed += [(entry, left, top, panels, templates) for entry, left in placed]
            for entry, left in placed:
                self._caption(left, captions, "average", "minus host", self._difference(entry))
                if entry.template_patch is not None:
                    self._caption(
                        left, templates + self._panel + 0.02, "template", "minus template", _left(entry)
                    )
            compared = any(entry.template_patch is not None for entry in row)
            top = (templates + self._panel + 0.02 if compared else captions) + line_height(SMALL) + ROW_GAP
        return top

    def _caption(
        self, left: float, top: float, patch: str, other: str, difference: NDArray[np.float32] | None
    ) -> None:
        """Words below two panels: a patch, and a difference with its limit."""
        self._page.write(left, top, [patch], SMALL, colour=QUIET)
        if difference is not None:
            words = f"{other}, ±{_limit(difference):.2g}"
            self._page.write(left + self._panel + PANEL_GAP, top, [words], SMALL, colour=QUIET)

    def _describe(self, left: float, top: float, entry: CatalogueEntry) -> float:
        """Name, role, number and separation of a class; returns where that ends."""
        page = self._page
        name = page.wrapped(entry.name, self._cell - CHIP - CHIP_GAP, TEXT, "bold")
        bottom = page.write(left + CHIP + CHIP_GAP, top, name, TEXT, "bold")
        facts = [page.wrapped(fact, self._cell, SMALL) for fact in _facts(entry, self._result)]
        return page.write(left, bottom, [line for lines in facts for line in lines], SMALL)

    def _difference(self, entry: CatalogueEntry) -> NDArray[np.float32] | None:
        """Average patch less that of the host; None for the host itself."""
        host = self._hosts.get(-1 if entry.host_class is None else entry.host_class)
        if host is None or host.class_id == entry.class_id or host.average.shape != entry.average.shape:
            return None
        return entry.average - host.average

    def draw(self, looks: dict[int, Look]) -> None:
        """Draw the panels; the page must have its height."""
        for entry, left, top, panels, templates in self._placed:
            chip = self._page.axes(left, top + (line_height(TEXT) - CHIP) / 2, CHIP, CHIP)
            chip.set_facecolor(looks[entry.class_id].colour)
            _bare(chip)
            self._patch(left, panels, entry.average, "gray", self._low, self._high)
            right = left + self._panel + PANEL_GAP
            difference = self._difference(entry)
            if difference is not None:
                limit = _limit(difference)
                self._patch(right, panels, difference, "RdBu_r", -limit, limit)
            elif entry is self._members[0]:
                self._grey_scale(right, panels)
            if entry.template_patch is not None:
                limit = _limit(_left(entry))
                self._patch(left, templates, entry.template_patch, "gray", self._low, self._high)
                self._patch(right, templates, _left(entry), "RdBu_r", -limit, limit)

    def _patch(
        self, left: float, top: float, patch: NDArray[np.float32], colours: str, low: float, high: float
    ) -> None:
        axes = self._page.axes(left, top, self._panel, self._panel)
        axes.imshow(patch, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        _bare(axes)

    def _grey_scale(self, left: float, top: float) -> None:
        """The grey levels of the sublattice, in the room beside its host."""
        axes = self._page.axes(left, top, GREY_SCALE, self._panel)
        levels = np.linspace(self._high, self._low, 256)[:, None]
        axes.imshow(levels, cmap="gray", aspect="auto", extent=(0, 1, self._low, self._high))
        _bare(axes)
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        ends = [self._low, self._high]
        axes.set_yticks(ends, [f"{end:.2f}".replace("-", "−") for end in ends])
        axes.tick_params(axis="y", labelsize=SMALL, colors=QUIET, width=0.5, length=2)
        axes.set_ylabel("signal\n(host column near 1)", size=SMALL, color=QUIET)


def _ordered(result: FrameResult, sublattice: int) -> list[CatalogueEntry]:
    members = [entry for entry in result.classes if entry.sublattice == sublattice]
    return sorted(members, key=lambda entry: (ORDER.index(entry.role), -entry.total, entry.class_id))


def _bare(axes: Axes) -> None:
    """A thin frame and no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=QUIET)


def _place(first: CatalogueEntry) -> str:
    """Heading of a section, by the name of its host."""
    if first.sublattice < 0:
        return "Off the lattice"
    return f"Sublattice of {first.name}" if first.role == "host" else f"Sublattice number {first.sublattice}"


def _levels(patches: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Darkest and brightest value of some patches."""
    low = min(float(patch.min()) for patch in patches)
    high = max(float(patch.max()) for patch in patches)
    return low, high if high > low else low + 1.0


def _limit(difference: NDArray[np.float32]) -> float:
    """Symmetric limit of a difference; 1 for one that is nothing at all."""
    return float(np.abs(difference).max()) or 1.0


def _left(entry: CatalogueEntry) -> NDArray[np.float32]:
    """What the template leaves of the average patch."""
    assert entry.template_patch is not None
    return entry.average - entry.template_patch


def _facts(entry: CatalogueEntry, result: FrameResult) -> list[str]:
    """Lines of text about a class."""
    role = entry.role
    if entry.separation is not None:
        role += f" · d′ = {entry.separation:.1f}{NBSP}σ from host"
    here = int((result.sites.class_id == entry.class_id).sum())
    seen = f"{plural(here, 'site')} in frame {result.number}"
    # totals are brought up to date every few frames only
    if entry.total > here:
        seen += f" · {entry.total:,} so far"
    facts = [role, seen]
    if entry.template is not None:
        score = "" if entry.score is None else f" · score {entry.score:.2f} of 1"
        facts.append(f"looks like {entry.template}{score}")
    elif entry.score is not None:
        facts.append("looks like no simulated class")
    if entry.runner_up is not None:
        word = "then" if entry.template is not None else "nearest"
        facts.append(f"{word} {entry.runner_up[0]} · {entry.runner_up[1]:.2f}")
    return facts


def _details(result: FrameResult) -> str:
    size = result.classes[0].average.shape[0]
    patch = f"patches of {size} × {size}{NBSP}px"
    if result.pixel_size_nm is not None:
        side = size * result.pixel_size_nm
        patch += f" = {side:.3g} × {side:.3g}{NBSP}nm"
    compared = any(entry.role != "host" for entry in result.classes)
    limits = "difference from the host in host columns, up to the limit below each: red is more, blue is less"
    return " · ".join(filter(None, [result.series_id, patch, limits if compared else ""]))
