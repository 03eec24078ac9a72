"""What the figures share: a page measured in inches, text that is fitted to it, and how a class looks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latticewatch.messages import Shape, sign_of, signs_of
from latticewatch.pipeline import CatalogueEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

DPI = 150
WIDTH = 1600 / DPI
MARGIN = 0.3
INK = "#1b2129"
QUIET = "#5b6673"
# Under markers that must be seen on white: close to the grey of a frame.
DARK = "#2b313a"
TITLE, TEXT, SMALL = 12.0, 8.5, 7.5
LINE_SPACING = 1.3
# Between a number and its unit, which are not to be parted at the end of a line.
NBSP = "\u00a0"
MARKERS: dict[Shape, str] = {
    "circle": "o",
    "down": "v",
    "up": "^",
    "diamond": "D",
    "square": "s",
    "hexagon": "h",
    "dot": "o",
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a class is drawn, the same in every figure and on the dashboard."""

    colour: str
    shape: Shape = "circle"

    @property
    def marker(self) -> str:
        """Shape of its sites."""
        return MARKERS[self.shape]


UNKNOWN = Look(sign_of("", "unknown").colour)


def class_looks(classes: Iterable[CatalogueEntry]) -> dict[int, Look]:
    """Look of each class by its id: colour and shape are those of the dashboard."""
    signs = signs_of((entry.class_id, entry.name, entry.role) for entry in classes)
    return {number: Look(sign.colour, sign.shape) for number, sign in signs.items()}


def nice_length(limit: float) -> float:
    """The greatest of 1, 2 and 5 times a power of ten that is not above ``limit`` (> 0)."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in (1, 2, 5) if step * power <= limit * (1 + 1e-9))


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    """With a space that does not break: ``1 site``, ``8,012 sites``, ``2 classes``."""
    return f"{n:,}{NBSP}{noun if n == 1 else nouns or noun + 's'}"


def literal(text: str) -> str:
    """The text with its dollar signs kept from being read as formulae."""
    return text.replace("$", r"\$")


class Page:
    """A figure that is laid out in inches from its upper left corner.

    Parameters
    ----------
    width : float
        Inches. The height is set once it is known: after text was written, before axes are made.
    """

    def __init__(self, width: float = WIDTH) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(width, 1.0), dpi=DPI, facecolor="white")
        self._canvas: FigureCanvasAgg = FigureCanvasAgg(self.figure)
        self.width, self.height = width, 1.0

    def set_height(self, height: float) -> None:
        """Give the page its height [inch]."""
        self.height = height
        self.figure.set_size_inches(self.width, height)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place of the page."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box)

    def write(
        self,
        left: float,
        top: float,
        lines: list[str],
        size: float,
        weight: str = "normal",
        colour: str = INK,
    ) -> float:
        """Write lines below one another; returns where the next would begin."""
        from matplotlib.transforms import offset_copy

        step = line_height(size)
        for index, line in enumerate(lines):
            # relative to the corner, which moves when the height is set; and by the baseline, because the tops of
            # letters differ from line to line
            baseline = top + (index + 0.78) * step
            self.figure.text(
                0,
                1,
                literal(line),
                transform=offset_copy(self.figure.transFigure, self.figure, left, -baseline),
                size=size,
                weight=weight,
                color=colour,
                va="baseline",
            )
        return top + len(lines) * step

    def text_width(self, text: str, size: float, weight: str = "normal") -> float:
        """Width of a line of text [inch]."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(size=size, weight=weight)
        width, _, _ = self._canvas.get_renderer().get_text_width_height_descent(text, font, False)
        return width / DPI

    def wrapped(
        self, text: str, width: float, size: float, weight: str = "normal", max_lines: int = 2
    ) -> list[str]:
        """Break a text into lines no wider than ``width`` [inch]; what does not fit ends in an ellipsis."""

        def fits(line: str) -> bool:
            return self.text_width(line, size, weight) <= width

        lines: list[str] = []
        rest = " ".join(text.splitlines()).strip()
        while rest:
            end = len(rest)
            while end > 1 and not fits(rest[:end]):
                # between words if there is one to break at, else within the word
                end = rest.rfind(" ", 0, end) if " " in rest[:end] else end - 1
            if end < len(rest) and len(lines) == max_lines - 1:
                while len(rest) > 1 and not fits(rest + "…"):
                    rest = rest[:-1].rstrip()
                return [*lines, rest + "…"]
            lines.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        return lines

    def title(self, title: str, details: str = "", notes: str = "") -> float:
        """Write the head of the page; returns where the figure may begin [inch]."""
        top = MARGIN * 0.7
        for text, size, weight, colour in (
            (title, TITLE, "bold", INK),
            (details, TEXT, "normal", QUIET),
            (notes, TEXT, "normal", QUIET),
        ):
            if text:
                lines = self.wrapped(text, self.width - 2 * MARGIN, size, weight, max_lines=4)
                top = self.write(MARGIN, top, lines, size, weight, colour)
        return top + 0.12


def line_height(size: float) -> float:
    """Distance of lines of text [inch]."""
    return size * LINE_SPACING / 72


def quiet(axes: Axes) -> None:
    """Thin grey frame and small grey numbers."""
    axes.tick_params(labelsize=SMALL, colors=QUIET, width=0.6)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=QUIET)
