"""The layout of the sites that were learnt from, and the numbers of defects over the frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from latticewatch.errors import NotLearntError
from latticewatch.messages import Role
from latticewatch.offline._legend import Entry, Group, Legend
from latticewatch.offline._marks import dots
from latticewatch.offline._stack import Stack, stack_of
from latticewatch.offline._style import (
    DARK,
    INK,
    MARGIN,
    QUIET,
    SMALL,
    TEXT,
    UNKNOWN,
    WIDTH,
    Page,
    class_looks,
    plural,
    quiet,
)
from latticewatch.pipeline import FrameResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEGEND_WIDTH, LEGEND_GAP = 2.6, 0.3
MIN_LAYOUT_HEIGHT = 4.0
# Heights of the rows of counts: together, and of one.
ROWS_HEIGHT, MIN_ROW, MAX_ROW = 4.6, 0.5, 1.5
ROW_GAP = 0.1
# Room for the numbers along an axis and its label.
TICKS = 0.55
HEADINGS: dict[Role, str] = {
    "defect": "Defects",
    "unknown": "Unknown",
    "neighbour": "Host columns beside a defect",
    "host": "Hosts",
}


def embedding_figure(result: FrameResult) -> Figure:
    """The force-relaxed layout of the sites that were learnt from, each in the colour of its class.

    Parameters
    ----------
    result : FrameResult

    Returns
    -------
    matplotlib.figure.Figure
        1600 px wide.

    Raises
    ------
    NotLearntError
        There is no layout.
    """
    if not len(result.embedding):
        raise NotLearntError(f"frame {result.number}: no layout to draw; too few sites were learnt from")
    looks = class_looks(result.classes) | {-1: UNKNOWN}
    known = [entry.class_id for entry in result.classes]
    ids = np.where(np.isin(result.embedding_class, known), result.embedding_class, -1)
    rows: list[tuple[int, str, Role]] = [(e.class_id, e.name, e.role) for e in result.classes]
    rows.append((-1, "fits no class", "unknown"))
    shown = [(*row, int((ids == row[0]).sum())) for row in rows if (ids == row[0]).any()]
    shown.sort(key=lambda row: (list(HEADINGS).index(row[2]), -row[3]))
    radius_pt = 1.7 if len(ids) > 1000 else 2.5

    page = Page()
    top = page.title(
        "Force-relaxed layout of the sites",
        f"{plural(len(ids), 'site')} that were learnt from; sites that look alike lie together; "
        "distances and axes have no unit",
    )
    groups = [
        Group(
            f"{heading} [sites]",
            [
                Entry(name, f"{n:,}", partial(dots, look=looks[class_id], radius_pt=3.0))
                for class_id, name, of, n in shown
                if of == role
            ],
        )
        for role, heading in HEADINGS.items()
    ]
    right = WIDTH - MARGIN - LEGEND_WIDTH
    width = right - LEGEND_GAP - MARGIN
    legend = Legend(page, right, top, LEGEND_WIDTH, groups)
    across, along = np.ptp(result.embedding, axis=0)
    height = min(max(width * along / max(across, 1e-9), legend.bottom - top, MIN_LAYOUT_HEIGHT), width)
    page.set_height(max(top + height, legend.bottom) + MARGIN)
    legend.draw_marks()
    axes = page.axes(MARGIN, top, width, height)
    quiet(axes)
    # the rare ones on top
    for class_id, _, role, _ in sorted(shown, key=lambda row: -row[3]):
        size = radius_pt if role == "host" else 1.4 * radius_pt
        dots(axes, result.embedding[ids == class_id], looks[class_id], size)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    return page.figure


def counts_figure(results: Stack | Sequence[FrameResult]) -> Figure:
    """Sites of each defect class, and sites that fit no class, over the frames of a stack.

    Parameters
    ----------
    results : Stack or sequence of FrameResult
        In the order of their frames. Frames in which nothing was classified are gaps.

    Returns
    -------
    matplotlib.figure.Figure
        1600 px wide, a row for each class, each with a scale of its own from zero.

    Raises
    ------
    NotLearntError
        No frame has classes.
    """
    stack = stack_of(results)
    catalogue, last = stack.catalogue, stack.last
    if not catalogue:
        raise NotLearntError(
            f"{plural(len(stack), 'frame')}: no classes to count; they are learnt from a lattice"
        )
    looks = class_looks(catalogue.values())
    rows = [
        (entry.name, looks[entry.class_id], entry.class_id)
        for entry in catalogue.values()
        if entry.role == "defect"
    ]
    counts = stack.counts
    rows.sort(key=lambda row: -np.nan_to_num(counts.mean(row[2])))
    rows.append(("fits no class", UNKNOWN, -1))

    page = Page()
    first, final = counts.numbers
    details = [f"frames {first} to {final}", "each row with its own scale"]
    if np.isnan(counts.course(-1)).any():
        details.append("gaps: nothing was classified")
    if last is not None and last.series_id:
        details.insert(0, last.series_id)
    top = page.title(f"Defects over {plural(len(stack), 'frame')}", " · ".join(details))
    height = min(max(ROWS_HEIGHT / len(rows), MIN_ROW), MAX_ROW)
    right = WIDTH - MARGIN - LEGEND_WIDTH
    for index, (name, _, class_id) in enumerate(rows):
        at = top + index * (height + ROW_GAP)
        lines = page.wrapped(name, LEGEND_WIDTH, TEXT, "bold")
        mean = f"mean {counts.mean(class_id):,.1f} sites per frame" if counts.classified else "not classified"
        page.write(right, page.write(right, at, lines, TEXT, "bold"), [mean], SMALL, colour=QUIET)
    bottom = top + len(rows) * (height + ROW_GAP) - ROW_GAP
    page.set_height(bottom + TICKS + MARGIN)

    edges = counts.edges
    left = MARGIN + TICKS
    for index, (_, look, class_id) in enumerate(rows):
        n = counts.course(class_id)
        axes = page.axes(left, top + index * (height + ROW_GAP), right - LEGEND_GAP - left, height)
        quiet(axes)
        axes.stairs(n, edges, fill=True, color=look.colour)
        axes.stairs(n, edges, color=DARK, linewidth=0.7, baseline=None)
        highest = max(int(np.ceil(np.nanmax(n, initial=0))), 1)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.08 * highest)
        axes.set_yticks([0, highest])
        axes.locator_params(axis="x", integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelbottom=index == len(rows) - 1)
        if index == len(rows) - 1:
            axes.set_xlabel("frame number", size=TEXT, color=INK)
    page.figure.text(
        MARGIN / page.width,
        1 - (top + bottom) / 2 / page.height,
        "sites per frame",
        rotation=90,
        size=TEXT,
        color=INK,
        va="center",
    )
    return page.figure
