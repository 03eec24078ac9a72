"""The results of a stack in; events, lifetimes and distances between defects out, as numbers and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latticewatch.errors import NotLearntError
from latticewatch.offline._stack import Stack, stack_of
from latticewatch.offline._style import INK, MARGIN, QUIET, SMALL, TEXT, WIDTH, Page, plural, quiet
from latticewatch.pipeline import ROLES, FrameResult
from latticewatch.statistics import HistoryView, PairDistances, Survival, pair_distances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "appeared": "#009e73",
    "disappeared": "#d55e00",
    "moved": "#0072b2",
    "reclassified": "#cc79a7",
}
EVENTS_HEIGHT, PANEL_HEIGHT = 2.3, 2.1
# Room for the numbers along an axis and its label, beside it and below it.
BESIDE, BELOW = 0.62, 0.5
HEADING_GAP = 0.05


def stack_history(results: Stack | Sequence[FrameResult]) -> HistoryView:
    """Counts, events and lifetimes of a stack; the unit of time is the frame, which every file has.

    Parameters
    ----------
    results : Stack or sequence of FrameResult
        In the order of their frames.
    """
    return stack_of(results).history()


def defect_distances(result: FrameResult) -> PairDistances | None:
    """Distance of each defect of a frame to the nearest other one, beside chance.

    Returns
    -------
    PairDistances or None
        In nanometres where the pixel size is known, else in pixels; ``None`` with fewer than two defects.
    """
    sites = result.sites
    position = sites.position * (result.pixel_size_nm or 1.0)
    return pair_distances(position, sites.sublattice, sites.role == ROLES.index("defect"))


def statistics_summary(
    results: Stack | Sequence[FrameResult], frame_s: float | None = None
) -> dict[str, Any]:
    """The statistics of a stack as numbers, each with its unit in its name.

    Parameters
    ----------
    results : Stack or sequence of FrameResult
        In the order of their frames.
    frame_s : float, optional
        Seconds from one frame to the next; with it, rates and lifetimes in minutes and seconds too.
    """
    stack = stack_of(results)
    view, last = stack.history(), stack.last
    pairs = None if last is None else defect_distances(last)
    life, frames = view.lifetimes, view.seconds
    unit = "px" if last is None or last.pixel_size_nm is None else "nm"
    per_frame = {
        kind: {
            "n": rate.n,
            "n_low": rate.n_low,
            "n_high": rate.n_high,
            "per_frame": rate.n / frames if frames else None,
            "per_nm2_per_frame": rate.n / frames / view.area_nm2 if frames and view.area_nm2 else None,
        }
        | _per_minute(rate.n, frames, view.area_nm2, frame_s)
        for kind, rate in view.rates.items()
    }
    return {
        "frames_classified": int(view.frames.sum()),
        "found_at_first_sight": int(view.events["found"].sum()),
        "events": per_frame,
        "lifetime": {
            "n_disappeared": life.n_ended,
            "n_followed": life.n_followed,
            "mean_frames": life.mean_s,
            "mean_low_frames": life.mean_low_s,
            "mean_high_frames": life.mean_high_s,
            "median_frames": life.median_s,
        }
        | _in_seconds(life.mean_s, life.median_s, frame_s),
        f"nearest_defect_{unit}": None
        if pairs is None
        else {name: value for name, value in asdict(pairs).items() if not isinstance(value, np.ndarray)},
    }


def _per_minute(n: float, frames: float, area_nm2: float | None, frame_s: float | None) -> dict[str, Any]:
    if frame_s is None:
        return {}
    rate = 60.0 * n / (frames * frame_s) if frames else None
    return {
        "per_minute": rate,
        "per_nm2_per_minute": rate / area_nm2 if rate is not None and area_nm2 else None,
    }


def _in_seconds(mean: float | None, median: float | None, frame_s: float | None) -> dict[str, Any]:
    if frame_s is None:
        return {}
    return {
        "mean_s": None if mean is None else mean * frame_s,
        "median_s": None if median is None else median * frame_s,
    }


def statistics_figure(results: Stack | Sequence[FrameResult]) -> Figure:
    """Events over the frames of a stack, distances between defects beside chance, and lifetimes.

    Parameters
    ----------
    results : Stack or sequence of FrameResult
        In the order of their frames.

    Returns
    -------
    matplotlib.figure.Figure
        1600 px wide.

    Raises
    ------
    NotLearntError
        No frame has classes.
    """
    stack = stack_of(results)
    view, last = stack.history(), stack.last
    if last is None or not len(view.frames):
        raise NotLearntError(
            f"{plural(len(stack), 'frame')}: no classes to count; they are learnt from a lattice"
        )
    page = Page()
    found = int(view.events["found"].sum())
    top = page.title(
        f"What happened in {plural(len(stack), 'frame')}",
        f"{plural(found, 'defect')} there at first sight, in no rate · intervals are of 95 % confidence",
    )
    width = WIDTH - 2 * MARGIN
    half = (width - MARGIN) / 2
    below = top + _heading_height(page) + EVENTS_HEIGHT + BELOW + MARGIN / 2
    page.set_height(below + _heading_height(page) + PANEL_HEIGHT + BELOW + MARGIN)
    _draw_events(_panel(page, "Events since the first frame", MARGIN, top, width, EVENTS_HEIGHT), view)
    unit = "px" if last.pixel_size_nm is None else "nm"
    axes = _panel(page, "Nearest other defect, last frame", MARGIN, below, half, PANEL_HEIGHT)
    _draw_distances(axes, defect_distances(last), unit)
    axes = _panel(page, "Lifetime of defects", 2 * MARGIN + half, below, half, PANEL_HEIGHT)
    _draw_lifetimes(axes, view.lifetimes)
    return page.figure


def _heading_height(page: Page) -> float:
    return page.write(0, 0, [""], TEXT) + HEADING_GAP


def _panel(page: Page, heading: str, left: float, top: float, width: float, height: float) -> Axes:
    top = page.write(left, top, [heading], TEXT, "bold") + HEADING_GAP
    axes = page.axes(left + BESIDE, top, width - BESIDE, height)
    quiet(axes)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _draw_events(axes: Axes, view: HistoryView) -> None:
    frames = view.seconds
    for kind, colour in COLOURS.items():
        rate = view.rates[kind]
        label = f"{kind} {rate.n:,}"
        if frames:
            low, high = (_number(n / frames) for n in (rate.n_low, rate.n_high))
            label += f"  ({low} to {high} per frame)"
        axes.step(view.end, np.cumsum(view.events[kind]), where="post", color=colour, label=label, lw=1.4)
    axes.set_xlim(view.start[0], max(view.end[-1], view.start[0] + 1))
    axes.set_ylim(0, max(1.0, 1.08 * axes.get_ylim()[1]))
    axes.locator_params(integer=True)
    _label(axes, "frames since the first", "events")
    _legend(axes, "upper left")


def _draw_distances(axes: Axes, pairs: PairDistances | None, unit: str) -> None:
    if pairs is None:
        _nothing(axes, "fewer than two defects")
        return
    axes.stairs(
        pairs.observed,
        pairs.edges,
        fill=True,
        color=COLOURS["moved"],
        alpha=0.75,
        label=f"{pairs.n:,} defects",
    )
    ratio = (
        f"as many at random: mean {pairs.expected_mean:.3g} {unit}, ratio {pairs.ratio:.2f}, z {pairs.z:+.1f}"
    )
    axes.stairs(pairs.expected, pairs.edges, color=INK, lw=1.1, label=ratio)
    axes.set_xlim(0, pairs.edges[-1])
    axes.set_ylim(0, 1.45 * max(pairs.observed.max(), pairs.expected.max()))
    _label(axes, f"distance [{unit}]", "defects")
    _legend(axes, "upper right")


def _draw_lifetimes(axes: Axes, life: Survival) -> None:
    if not life.n_ended:
        _nothing(axes, "no defect disappeared")
        return
    mean = f"{life.n_ended:,} disappeared: mean {_number(life.mean_s or 0)} frames"
    if life.mean_low_s is not None and life.mean_high_s is not None:
        mean += f" ({_number(life.mean_low_s)} to {_number(life.mean_high_s)})"
    time = np.concatenate([[0.0], life.time_s])
    share = np.concatenate([[1.0], life.share])
    if len(life.time_s):
        label = f"{life.n_followed:,} seen to appear"
        axes.step(time, share, where="post", color=COLOURS["disappeared"], lw=1.4, label=label)
    assert life.mean_s is not None
    ages = np.linspace(0.0, max(1.3 * time[-1], 2 * life.mean_s * (time[-1] == 0)), 100)
    axes.plot(ages, np.exp(-ages / life.mean_s), color=INK, lw=1.0, ls="--", label=mean)
    axes.set_xlim(0, ages[-1])
    axes.set_ylim(0, 1.35)
    axes.set_yticks([0, 0.5, 1])
    _label(axes, "age [frames]", "share still there")
    _legend(axes, "upper right")


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, size=TEXT, color=INK)
    axes.set_ylabel(y, size=TEXT, color=INK)


def _legend(axes: Axes, place: Literal["upper left", "upper right"]) -> None:
    axes.legend(loc=place, fontsize=SMALL, frameon=False, labelcolor=INK, handlelength=1.2)


def _nothing(axes: Axes, why: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, size=TEXT, color=QUIET, ha="center", va="center", transform=axes.transAxes)
