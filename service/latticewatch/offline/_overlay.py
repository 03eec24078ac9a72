"""The frame with its sites: every defect ringed in the colour of its class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import Role
from latticewatch.offline._legend import Entry, Group, Legend
from latticewatch.offline._marks import dots, rings
from latticewatch.offline._style import (
    MARGIN,
    NBSP,
    TEXT,
    UNKNOWN,
    WIDTH,
    Look,
    Page,
    class_looks,
    line_height,
    nice_length,
    plural,
)
from latticewatch.pipeline import FrameResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_WIDTH, LEGEND_GAP = 2.6, 0.3
MAX_IMAGE_HEIGHT = 10.0
# Of an image taller than this is wide, the legend must still fit beside it.
MIN_IMAGE_WIDTH = 1.5
PERCENTILES = (0.5, 99.8)
# Radius of rings, as a share of the lattice constant: they surround a column and leave its neighbours alone.
RING = 0.34
# The same where there is no lattice, as a share of the mean distance of peaks.
PEAK = 0.25
MIN_RADIUS_PT, MAX_RADIUS_PT = 1.5, 11.0
# Radius of dots, as a share of that of rings.
DOT = 0.38
LEGEND_RING_PT, LEGEND_DOT_PT = 4.5, 2.6
# Where nothing is classified there is no class whose colour this could be.
UNCLASSIFIED = Look("#56b4e9")
# The scale bar is at most this share of the width.
SCALE_BAR = 0.22

Kind = Literal["host", "defect", "neighbour", "unknown", "unclassified"]
DOTTED = ("neighbour", "unclassified")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Sites that are drawn alike; ``xy`` (n, 2) are their columns and rows [px]."""

    name: str
    kind: Kind
    look: Look
    xy: NDArray[np.floating]

    def draw(self, axes: Axes, xy: NDArray[np.floating], radius_pt: float) -> None:
        """Mark some positions as sites of this layer."""
        if self.kind in DOTTED:
            dots(axes, xy, self.look, max(DOT * radius_pt, MIN_RADIUS_PT), alpha=0.85)
        elif self.kind != "host":
            rings(axes, xy, self.look, radius_pt, dashed=self.kind == "unknown")


def overlay_figure(image: NDArray[Any], result: FrameResult) -> Figure:
    """The frame with a ring at each defect and a dot at each neighbour; hosts are only counted.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        The frame as it was recorded; shown in grey from its 0.5th to its 99.8th percentile.
    result : FrameResult
        What was found in it. Without a lattice, or before classes are learnt, every site is a dot.

    Returns
    -------
    matplotlib.figure.Figure
        1600 px wide, less for frames that are taller than wide. Distances are in nanometres where the pixel size is
        known, else in pixels.
    """
    rows, cols = image.shape
    width = WIDTH - 2 * MARGIN - LEGEND_WIDTH - LEGEND_GAP
    width = max(min(width, MAX_IMAGE_HEIGHT * cols / rows), MIN_IMAGE_WIDTH)
    height = width * rows / cols
    pt_per_px = 72 * width / cols
    radius_pt = min(max(_radius_px(result) * pt_per_px, MIN_RADIUS_PT), MAX_RADIUS_PT)
    layers = _layers(result)

    page = Page(2 * MARGIN + width + LEGEND_GAP + LEGEND_WIDTH)
    top = page.title(_title(result), _details(result), " ".join(note.text for note in result.notes))
    groups = _groups(layers)
    legend = Legend(page, MARGIN + width + LEGEND_GAP, top, LEGEND_WIDTH, groups, on_dark=True)
    page.set_height(max(top + height, legend.bottom) + MARGIN)
    legend.draw_marks()

    axes = page.axes(MARGIN, top, width, height)
    low, high = _stretch(image)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    axes.axis("off")
    # fixed now: marks at the border must not move them
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    for layer in reversed(layers):
        layer.draw(axes, layer.xy, radius_pt)
    _scale_bar(page, axes, cols / width, cols, result.pixel_size_nm)
    return page.figure


def _layers(result: FrameResult) -> list[Layer]:
    """What is in the frame, most important first: defects by number, unknown, neighbours, hosts."""
    sites = result.sites
    xy = sites.position[:, ::-1]
    if not _classified(result):
        name = "sites, not classified" if result.lattice_found else "peaks"
        return [Layer(name, "unclassified", UNCLASSIFIED, xy)]
    looks = class_looks(result.classes)
    layers = [
        Layer(entry.name, entry.role, looks[entry.class_id], xy[sites.class_id == entry.class_id])
        for entry in result.classes
    ]
    none = ~np.isin(sites.class_id, [entry.class_id for entry in result.classes])
    layers.append(Layer("fits no class", "unknown", UNKNOWN, xy[none & (sites.sublattice >= 0)]))
    off = Layer(
        "peak off the lattice", "unknown", Look(UNKNOWN.colour, "diamond"), xy[none & (sites.sublattice < 0)]
    )
    layers.append(off)
    order: tuple[Role, ...] = ("defect", "unknown", "neighbour", "host")
    layers.sort(key=lambda layer: (order.index(layer.kind), -len(layer.xy)))  # type: ignore[arg-type]
    return [layer for layer in layers if len(layer.xy)]


def _groups(layers: list[Layer]) -> list[Group]:
    headings: dict[Kind, str] = {
        "defect": "Defects: rings [sites]",
        "unknown": "Unknown: dashed [sites]",
        "neighbour": "Host columns beside a defect: dots [sites]",
        "host": "Hosts: counted, not marked [sites]",
        "unclassified": "Not classified: dots [number]",
    }
    groups = []
    for kind, heading in headings.items():
        radius_pt = LEGEND_DOT_PT / DOT if kind in DOTTED else LEGEND_RING_PT
        groups.append(
            Group(
                heading,
                [
                    Entry(
                        layer.name,
                        f"{len(layer.xy):,}",
                        None if kind == "host" else partial(layer.draw, radius_pt=radius_pt),
                    )
                    for layer in layers
                    if layer.kind == kind
                ],
            )
        )
    return groups


def _title(result: FrameResult) -> str:
    n = len(result.sites)
    if not result.lattice_found:
        return f"Frame {result.number}: no lattice found: {plural(n, 'peak')}"
    if not result.classes:
        return f"Frame {result.number}: {plural(n, 'site')}, classes not learnt yet"
    return f"Frame {result.number}: {plural(_n_defects(result), 'defect')} among {plural(n, 'site')}"


def _classified(result: FrameResult) -> bool:
    return result.lattice_found and bool(result.classes)


def _n_defects(result: FrameResult) -> int:
    defects = [entry.class_id for entry in result.classes if entry.role == "defect"]
    return int(np.isin(result.sites.class_id, defects).sum())


def _details(result: FrameResult) -> str:
    rows, cols = result.shape
    pixel, constant = result.pixel_size_nm, result.lattice_constant_px
    parts = [result.series_id] if result.series_id else []
    if pixel is None:
        parts += [f"{rows} × {cols}{NBSP}px", "pixel size not known"]
    else:
        parts += [
            f"{rows} × {cols}{NBSP}px = {rows * pixel:.3g} × {cols * pixel:.3g}{NBSP}nm",
            f"{1e3 * pixel:.4g}{NBSP}pm per px",
        ]
    if result.lattice_found and constant is not None:
        parts.append(
            f"lattice constant {constant:.4g}{NBSP}px"
            if pixel is None
            else f"lattice constant {constant * pixel:.3f}{NBSP}nm ({constant:.4g}{NBSP}px)"
        )
    if _classified(result) and pixel is not None:
        density = _n_defects(result) / (rows * cols * pixel**2)
        parts.append(f"{density:.3g} defects per{NBSP}nm²")
    return " · ".join(parts)


def _radius_px(result: FrameResult) -> float:
    if result.lattice_constant_px is not None:
        return RING * result.lattice_constant_px
    rows, cols = result.shape
    return PEAK * float(np.sqrt(rows * cols / max(len(result.sites), 1)))


def _stretch(image: NDArray[Any]) -> tuple[float, float]:
    """Grey levels that are black and white."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(level) for level in np.percentile(finite, PERCENTILES))
    return low, high if high > low else low + 1.0


def _scale_bar(page: Page, axes: Axes, px_per_inch: float, cols: int, pixel_size_nm: float | None) -> None:
    """A bar of a round length in the lower left corner, with its length above it."""
    limit = SCALE_BAR * cols * (pixel_size_nm or 1.0)
    length = nice_length(limit) if pixel_size_nm is not None else max(nice_length(limit), 1.0)
    text = f"{length:g} {'px' if pixel_size_nm is None else 'nm'}"
    bar = length / (pixel_size_nm or 1.0) / px_per_inch
    pad, thick, step = 0.08, 0.045, line_height(TEXT)
    box = max(bar, page.text_width(text, TEXT, "bold")) + 2 * pad
    rows_end, left = axes.get_ylim()[0], axes.get_xlim()[0]

    def patch(x: float, y: float, width: float, height: float, colour: str, alpha: float) -> None:
        """A rectangle, in inches from the lower left corner."""
        xs = left + np.array([x, x + width]) * px_per_inch
        low, high = (rows_end - edge * px_per_inch for edge in (y, y + height))
        axes.fill_between(xs, low, high, color=colour, alpha=alpha, linewidth=0, zorder=3)

    patch(pad, pad, box, step + thick + 2 * pad, "black", 0.6)
    middle = pad + box / 2
    patch(middle - bar / 2, 2 * pad, bar, thick, "white", 1.0)
    axes.text(
        left + middle * px_per_inch,
        rows_end - (2 * pad + thick + 0.3 * step) * px_per_inch,
        text,
        size=TEXT,
        weight="bold",
        color="white",
        ha="center",
        va="baseline",
        zorder=4,
    )
