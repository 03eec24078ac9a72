"""Make the figures of ``docs/explanation/method.md`` from a simulated frame and, where it is there, a real one.

``python docs/make_figures.py [--out docs/images] [--data DIR]`` needs the extras ``simulator`` and ``io``. The real
frame is not part of this project: DIR holds ``real/TiWSe2_1028_2/1028_ADF1_2.dm4`` of
github jiadongdan/random-defect-model (MIT); without it, its figures are left as they are.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageColor
from scipy.spatial import KDTree

from latticewatch.config import AnalysisSettings
from latticewatch.estimators import IncrementalPCA
from latticewatch.features import ZernikeMoments
from latticewatch.ingest import Frame, read_frames
from latticewatch.model import Model
from latticewatch.offline import analyse_file
from latticewatch.offline._averages import classes_figure
from latticewatch.offline._overlay import LEGEND_GAP, LEGEND_WIDTH, overlay_figure
from latticewatch.offline._plots import embedding_figure
from latticewatch.offline._style import INK, MARGIN, QUIET, SMALL, TEXT, UNKNOWN, WIDTH, Page, class_looks
from latticewatch.pipeline import Classified, FrameResult, Learner, SiteTable, analyse
from latticewatch_simulator import Microscope, SimulatorSettings

PROJECT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LATTICEWATCH_TEST_DATA") or PROJECT.parent / "shared" / "data")
REAL = Path("real/TiWSe2_1028_2/1028_ADF1_2.dm4")
SIMULATED = SimulatorSettings.model_validate(
    {
        "material": "WS2",
        "shape": (768, 768),
        "pixel_size_nm": 0.012,
        "rotation_deg": 9.0,
        "dose_e_per_a2": 1e5,
        "births_per_frame": 0,
        "seed": 0,
    }
)
# The part of the real frame that is shown: first row and column, and side [px].
REAL_PART = (150, 200, 256)
LARGEST_FILE = 400_000
# Tried in this order until a file is small enough: numbers of greys and of colours.
PALETTES = ((64, 192), (48, 96), (32, 64), (24, 48), (16, 40))
# Channels that differ by less than this are grey.
GREY = 10
# Width of the frame in an overlay [inch].
OVERLAY_WIDTH = WIDTH - 2 * MARGIN - LEGEND_WIDTH - LEGEND_GAP
SHOWN_ORDERS = (2, 4, 6, 8, 10)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One frame, what was learnt from it, and how the model sees it."""

    image: NDArray[np.generic]
    result: FrameResult
    model: Model
    analysis: Classified


def simulated_run() -> Run:
    """The simulated frame, analysed with the default settings."""
    acquired = Microscope(SIMULATED).acquire()
    frame = Frame(acquired.image, series_id="simulated WS2", pixel_size_nm=SIMULATED.pixel_size_nm)
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    result = learner.fold(analyse(frame, None, settings))[-1]
    seen = analyse(frame, learner.model, settings)
    if learner.model is None or not isinstance(seen, Classified):
        sys.exit("the simulated frame shows no lattice; there is nothing to draw")
    return Run(frame.image, result, learner.model, seen)


def basis_figure(size: int = 160) -> Figure:
    """The Zernike polynomials up to order 10, a row for each order."""
    zernike = ZernikeMoments(10, size)
    page = Page()
    top = page.title(
        f"The {len(zernike.n_)} real Zernike polynomials up to order 10",
        "rows: radial order n · columns: azimuthal order m, sines left (m < 0) and cosines right · red is positive",
    )
    step = (WIDTH - 2 * MARGIN - 0.5) / 11
    page.set_height(top + 11 * step + 0.25 + MARGIN)
    outside = np.hypot(*np.meshgrid(*2 * [np.linspace(-1, 1, size)])) > 1
    for n, m, polynomial in zip(zernike.n_, zernike.m_, zernike.basis, strict=True):
        left = MARGIN + 0.5 + (m + 10) / 2 * step
        axes = page.axes(left, top + n * step, 0.94 * step, 0.94 * step)
        limit = np.abs(polynomial).max()
        axes.imshow(np.where(outside, np.nan, polynomial), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.axis("off")
    for n in range(11):
        page.write(MARGIN, top + (n + 0.38) * step, [f"n = {n}"], TEXT, colour=QUIET)
    for m in range(-10, 11, 2):
        label = f"m = {m}".replace("-", "−")
        left = MARGIN + 0.5 + (m + 10) / 2 * step + 0.47 * step - page.text_width(label, SMALL) / 2
        page.write(left, top + 11 * step + 0.02, [label], SMALL, colour=QUIET)
    return page.figure


def expansion_figure(run: Run) -> Figure:
    """A patch, its moments, and what they hold of it, order by order."""
    entry = next(e for e in run.result.classes if e.role == "neighbour")
    size = run.model.patch_px
    flat = run.analysis.survey.flat.image
    members = np.flatnonzero(run.result.sites.class_id == entry.class_id)
    row, col = np.rint(run.result.sites.position[members[0]]).astype(int)
    patch = flat[row - size // 2 : row + size // 2 + 1, col - size // 2 : col + size // 2 + 1]
    zernike = ZernikeMoments(10, size)
    moments = zernike.transform(patch[None].astype(np.float32))[0].astype(float)
    axis = np.arange(size) - (size - 1) / 2
    outside = np.hypot(*np.meshgrid(axis, axis)) > size / 2
    page = Page()
    top = page.title(
        "A patch as 66 numbers",
        f"one patch of {size} × {size} px of a simulated frame ({entry.name}), and what its moments up to order n "
        "hold of it: the lattice comes back, most of the noise does not",
    )
    panels = [patch, *(zernike.reconstruct(np.where(zernike.n_ <= n, moments, 0.0)) for n in SHOWN_ORDERS)]
    titles = ["the patch", *(f"n ≤ {n}: {(n + 1) * (n + 2) // 2} numbers" for n in SHOWN_ORDERS)]
    side = (WIDTH - 2 * MARGIN - 0.12 * (len(panels) - 1)) / len(panels)
    page.set_height(top + 0.2 + side + 2.5 + MARGIN)
    for k, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = MARGIN + k * (side + 0.12)
        page.write(left, top, [title], SMALL)
        axes = page.axes(left, top + 0.18, side, side)
        shown = panel if k == 0 else np.where(outside, np.nan, panel)
        axes.imshow(
            shown, cmap="gray", vmin=float(patch.min()), vmax=float(patch.max()), interpolation="nearest"
        )
        axes.axis("off")
    bars = page.axes(MARGIN + 0.55, top + 0.2 + side + 0.35, WIDTH - 2 * MARGIN - 0.55, 1.75)
    colours = np.where(zernike.n_ % 2 == 0, "#3b6ea5", "#e08e45")
    bars.bar(np.arange(len(moments)), moments, color=colours, width=0.8)
    bars.axhline(0, color=QUIET, linewidth=0.6)
    first = np.flatnonzero(np.diff(zernike.n_, prepend=-1))
    bars.set_xticks(first, [str(n) for n in range(11)])
    bars.set_xlabel("radial order n; from m = −n to n in each", size=TEXT, color=INK)
    bars.set_xlim(-0.8, len(moments) - 0.2)
    bars.set_ylabel("moment", size=TEXT, color=INK)
    _plain(bars)
    return page.figure


def lattice_figure(run: Run, corner: int = 220) -> Figure:
    """Predicted sites in a corner of the frame, and the average unit cell that they come from."""
    lattice, survey = run.model.lattice, run.analysis.survey
    page = Page()
    top = page.title(
        "Sites from the lattice",
        f"left: {corner} × {corner} px of the simulated frame and the sites predicted in it, coloured by sublattice · "
        "right: the average of all unit cells, drawn 2 × 2, and the columns found in it · dim grey levels are raised",
    )
    side = (WIDTH - 2 * MARGIN - 0.4) / 2
    page.set_height(top + side + MARGIN)
    axes = page.axes(MARGIN, top, side, side)
    part = np.maximum(survey.flat.image[:corner, :corner], 0)
    axes.imshow(
        part, cmap="gray", norm=PowerNorm(0.6, 0, float(np.percentile(part, 99.9))), interpolation="nearest"
    )
    colours = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")
    for s in range(len(lattice.cell.columns)):
        at = survey.sites.position[survey.sites.sublattice == s]
        axes.scatter(at[:, 1], at[:, 0], s=190, facecolors="none", edgecolors=colours[s % 4], linewidths=1.4)
    axes.set(xlim=(-0.5, corner - 0.5), ylim=(corner - 0.5, -0.5), xticks=[], yticks=[])
    right = page.axes(MARGIN + side + 0.4, top, side, side)
    vectors, (n1, n2) = lattice.field.vectors, lattice.cell.mean.shape
    # from half a cell before the middle of the columns, so that none lies on the border
    turns = np.angle(np.exp(2j * np.pi * lattice.cell.columns).sum(0)) / (2 * np.pi)
    first = np.rint((turns - 0.5) * (n1, n2)).astype(int)
    u, v = first[0] + np.arange(2 * n1 + 1), first[1] + np.arange(2 * n2 + 1)
    nodes = (u / n1)[:, None, None] * vectors[0] + (v / n2)[None, :, None] * vectors[1]
    cell = lattice.cell.mean[np.ix_(u % n1, v % n2)] - lattice.cell.mean.min()
    right.pcolormesh(
        nodes[..., 1],
        nodes[..., 0],
        cell,
        cmap="gray",
        norm=PowerNorm(0.6),
        shading="gouraud",
        rasterized=True,
    )
    for s, column in enumerate(lattice.cell.columns):
        start = column + np.ceil(first / (n1, n2) - column)
        places = (start + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])) @ vectors
        right.scatter(
            places[:, 1], places[:, 0], s=1100, facecolors="none", edgecolors=colours[s % 4], linewidths=1.8
        )
    right.set_aspect("equal")
    right.invert_yaxis()
    right.axis("off")
    return page.figure


def filter_figure(run: Run) -> Figure:
    """Output of each sublattice's matched filter and the mixture that explains it."""
    verdict, survey = run.analysis.verdict, run.analysis.survey
    looks, names = class_looks(run.result.classes), {e.class_id: e.name for e in run.result.classes}
    page = Page()
    top = page.title(
        "Output of the matched filter and the mixture grown on it",
        "number of sites on a logarithmic scale · bars: sites of the simulated frame · curves: the classes; "
        "one standard deviation of the host is the unit",
    )
    height, gap = 2.1, 0.75
    page.set_height(top + len(run.model.sublattices) * (height + gap) - 0.1)
    for s, known in enumerate(run.model.sublattices):
        values = verdict.score[survey.sites.sublattice == s]
        axes = page.axes(MARGIN + 0.55, top + s * (height + gap), WIDTH - 2 * MARGIN - 0.55, height)
        low, high = min(float(values.min()), -6) - 3, max(float(values.max()), 6) + 3
        width = max((high - low) / 220, 0.3)
        axes.hist(values, np.arange(low, high + width, width).tolist(), color="#c9ced6")
        x = np.linspace(low, high, 3000)
        density = known.mixture.densities(x) * len(values) * width
        for k, class_id in enumerate(known.class_ids):
            colour = INK if k == 0 else looks[int(class_id)].colour
            axes.plot(x, density[:, k], color=colour, linewidth=1.6, label=names[int(class_id)])
        axes.set_yscale("log")
        axes.set(xlim=(low, high), ylim=(0.4, 3 * len(values) * width))
        axes.set_ylabel("sites", size=TEXT, color=INK)
        axes.set_xlabel("change of the height of the column [σ of the host]", size=TEXT, color=INK)
        axes.legend(fontsize=SMALL, frameon=False, loc="upper center", ncols=8)
        _plain(axes)
    return page.figure


def pca_figure(run: Run) -> Figure:
    """Variances of the whitened components with the edge of the noise, and the sites in the first two."""
    patches, verdict = run.analysis.patches, run.analysis.verdict
    ids = run.model.class_ids[verdict.posterior.argmax(1)]
    defects = {e.class_id for e in run.result.classes if e.role == "defect"}
    s = int(
        np.argmax(
            [
                np.isin(ids[patches.sublattice == s], list(defects)).sum()
                for s in range(len(run.model.sublattices))
            ]
        )
    )
    known, rows = run.model.sublattices[s], patches.sublattice == s
    whitened = (patches.moments[rows] - known.filter.mean) @ known.whitening
    pca = IncrementalPCA().fit(whitened)
    variance = pca.explained_variance_
    edge = (1 + np.sqrt(whitened.shape[1] / len(whitened))) ** 2
    above = int((variance > edge).sum())
    page = Page()
    host = next(e.name for e in run.result.classes if e.role == "host" and e.sublattice == s)
    top = page.title(
        "Principal components of whitened moments",
        f"sublattice of {host}, {len(whitened):,} sites · the host has variance 1 in every direction, so what stands "
        "above the edge of pure noise is signal",
    )
    side = 4.4
    page.set_height(top + side + 0.25 + MARGIN)
    left = page.axes(MARGIN + 0.55, top, 3.6, side)
    order = np.arange(1, len(variance) + 1)
    left.scatter(order, variance, s=14, c=np.where(variance > edge, "#d55e00", "#9aa3ad"))
    left.axhline(edge, color=INK, linewidth=0.9, linestyle="--")
    left.text(len(variance), edge * 1.12, "edge of noise", size=SMALL, color=INK, ha="right", va="bottom")
    left.set_yscale("log")
    left.set_xlabel("component", size=TEXT, color=INK)
    left.set_ylabel(f"variance [σ² of the host]; {above} above the edge", size=TEXT, color=INK)
    _plain(left)
    right = page.axes(MARGIN + 5.0, top, WIDTH - 2 * MARGIN - 5.0, side)
    scores = pca.transform(whitened)[:, :2]
    looks = class_looks(run.result.classes) | {-1: UNKNOWN}
    of = ids[rows]
    for entry in sorted(run.result.classes, key=lambda e: -int((of == e.class_id).sum())):
        at = scores[of == entry.class_id]
        if len(at):
            look = looks[entry.class_id]
            colour = "#c9ced6" if entry.role == "host" else look.colour
            right.scatter(
                *at.T, s=14, color=colour, marker=look.marker, linewidths=0, label=f"{entry.name} ({len(at)})"
            )
    right.set_xlabel("first component [σ]", size=TEXT, color=INK)
    right.set_ylabel("second component [σ]", size=TEXT, color=INK)
    right.legend(fontsize=SMALL, frameon=False, loc="best", handletextpad=0.2)
    _plain(right)
    return page.figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL, colors=QUIET, width=0.6)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=QUIET)


def part_of(image: NDArray[np.generic], result: FrameResult) -> tuple[NDArray[np.generic], FrameResult]:
    """`REAL_PART` of a frame and of what was found in it."""
    row, col, side = REAL_PART
    table = result.sites
    position = table.position - np.array([row, col], np.float32)
    inside = np.logical_and(position > 0, position < side - 1).all(1)
    sites = SiteTable(
        position[inside],
        table.sublattice[inside],
        table.class_id[inside],
        table.role[inside],
        table.confidence[inside],
        table.track[inside],
    )
    return image[row : row + side, col : col + side], replace(result, sites=sites, shape=(side, side))


def without_repeats(result: FrameResult) -> FrameResult:
    """The result with the first class of neighbours of each sublattice, which stands for the others."""
    first = {entry.sublattice: entry for entry in reversed(result.classes) if entry.role == "neighbour"}
    kept = (e for e in result.classes if e.role != "neighbour" or e is first[e.sublattice])
    return replace(result, classes=tuple(kept))


def in_palette(picture: Image.Image, greys: int, colours: int, exact: list[str]) -> Image.Image:
    """A picture in its own palette: even greys, colours that are to stay as they are, and a median cut of others."""
    packed = np.asarray(picture, np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, where = np.unique(packed, return_inverse=True)
    rgb = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.uint8)
    even = np.linspace(0, 255, greys).round().astype(np.uint8).repeat(3).reshape(-1, 3)
    parts = [even, *(np.array([ImageColor.getrgb(colour)], np.uint8) for colour in exact)]
    coloured = rgb[np.ptp(rgb, axis=1) >= GREY]
    if len(coloured):
        cut = Image.fromarray(coloured[None]).quantize(colours - len(exact), Image.Quantize.MEDIANCUT)
        parts.append(np.array(cut.getpalette(), np.uint8).reshape(-1, 3))
    palette = np.concatenate(parts)[:256]
    nearest = np.asarray(KDTree(palette.astype(float)).query(rgb.astype(float))[1], np.uint8)
    out = Image.fromarray(nearest[where].reshape(packed.shape))
    out.putpalette(palette.tobytes())
    return out


def save(figure: Figure, path: Path, result: FrameResult | None = None, dpi: float = 150) -> None:
    """Write a figure as a PNG with a palette as fine as the size of a file allows, classes in their own colours."""
    raw = io.BytesIO()
    figure.savefig(raw, dpi=dpi, format="png")
    picture = Image.open(raw).convert("RGB")
    looks = [] if result is None else class_looks(result.classes).values()
    exact = sorted({look.colour for look in looks})
    for greys, colours in PALETTES:
        out = io.BytesIO()
        in_palette(picture, greys, colours, exact).save(out, "png", optimize=True)
        if len(out.getvalue()) < LARGEST_FILE:
            path.write_bytes(out.getvalue())
            sys.stdout.write(
                f"{path}  {picture.width} × {picture.height} px, {len(out.getvalue()):,} bytes\n"
            )
            return
    sys.exit(f"{path}: larger than {LARGEST_FILE:,} bytes with the fewest colours; crop what it shows")


def main() -> None:
    """Make all figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "images")
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    out = arguments.out
    run = simulated_run()
    save(lattice_figure(run), out / "method-lattice.png")
    save(basis_figure(), out / "method-zernike-basis.png")
    save(expansion_figure(run), out / "method-expansion.png")
    save(filter_figure(run), out / "method-filter.png", run.result)
    save(pca_figure(run), out / "method-pca.png", run.result)
    save(embedding_figure(run.result), out / "method-layout.png", run.result)
    # whole pixels of the page for each of the frame
    fitting = run.image.shape[1] / OVERLAY_WIDTH
    save(overlay_figure(run.image, run.result), out / "method-frame.png", run.result, fitting)
    few = without_repeats(run.result)
    save(classes_figure(few), out / "method-classes.png", few)
    real = arguments.data / REAL
    if not real.exists():
        sys.stdout.write(f"{real}: not there; figures of the real frame are left as they are\n")
        return
    analysed = analyse_file(read_frames(real), AnalysisSettings())
    image, result = part_of(analysed.last_image, analysed.results[-1])
    save(
        overlay_figure(image, result), out / "method-real-frame.png", result, 4 * REAL_PART[2] / OVERLAY_WIDTH
    )
    save(classes_figure(analysed.results[-1]), out / "method-real-classes.png", result)


if __name__ == "__main__":
    main()
