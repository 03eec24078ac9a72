"""The figures of an analysed file, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latticewatch.offline._averages import classes_figure
from latticewatch.offline._overlay import overlay_figure
from latticewatch.offline._plots import counts_figure, embedding_figure
from latticewatch.offline._stack import Stack, stack_of
from latticewatch.offline._statistics import statistics_figure
from latticewatch.offline._style import DPI
from latticewatch.pipeline import FrameResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "classes_figure",
    "counts_figure",
    "embedding_figure",
    "overlay_figure",
    "save_figures",
    "statistics_figure",
]


def save_figures(out_dir: Path, results: Stack | Sequence[FrameResult], image: NDArray[Any]) -> list[Path]:
    """Write the figures that there is something to draw in.

    Parameters
    ----------
    out_dir : Path
        A folder that exists.
    results : Stack or sequence of FrameResult
        One for each frame, in order; at least one.
    image : ndarray of shape (height, width)
        The last frame, as it was recorded.

    Returns
    -------
    list of Path
        ``overlay.png`` always; ``classes.png`` and ``embedding.png`` once classes are learnt; ``counts.png`` and
        ``statistics.png`` of a stack.

    Raises
    ------
    OSError
        The folder cannot be written to.
    """
    stack = stack_of(results)
    last = stack.last
    assert last is not None
    written = [_save(overlay_figure(image, last), out_dir / "overlay.png")]
    if last.classes:
        written.append(_save(classes_figure(last), out_dir / "classes.png"))
    if len(last.embedding):
        written.append(_save(embedding_figure(last), out_dir / "embedding.png"))
    if len(stack) > 1 and stack.catalogue:
        written.append(_save(counts_figure(stack), out_dir / "counts.png"))
        if stack.counts.classified:
            written.append(_save(statistics_figure(stack), out_dir / "statistics.png"))
    return written


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI)
    return path
