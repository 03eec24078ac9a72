"""How the demo ends: what was found beside what was put in, and where every frame went."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latticewatch.cli._demo_truth import Comparison, KindFound


def print_summary(console: Console, comparison: Comparison) -> None:
    """Found and true, kind by kind."""
    one = comparison
    console.print(
        f"\nframe {one.frame} beside the simulator's truth, {one.margin_px} px from its edges and more:\n",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("put in")
    for heading in ("in the frame", "found", "recall"):
        table.add_column(heading, justify="right")
    table.add_column("called (share of those found)")
    for kind in one.kinds:
        table.add_row(
            Text(kind.species),
            str(kind.n),
            str(kind.found),
            percent(kind.found, kind.n),
            Text(_called(kind)),
            style="" if kind.found or not kind.n else "bold red",
        )
    console.print(table)
    n, found = sum(kind.n for kind in one.kinds), sum(kind.found for kind in one.kinds)
    console.print(
        f"\ndefects: found {found} of {n} (recall {percent(found, n)}); "
        f"reported {one.reported}, of which right {one.reported_right} "
        f"(precision {percent(one.reported_right, one.reported)})",
        f"sites: found {one.columns_found} of {one.columns} columns "
        f"(recall {percent(one.columns_found, one.columns)}); "
        f"reported {one.sites}, of which right {one.sites_right} "
        f"(precision {percent(one.sites_right, one.sites)})",
        sep="\n",
        markup=False,
        soft_wrap=True,
    )


def not_found(comparison: Comparison) -> str | None:
    """The kinds of defect that were missed altogether, in one line; None where there are none."""
    if not comparison.missed:
        return None
    kinds = "; ".join(
        f"{kind.species} ({kind.n} in the frame, {_taken_for(kind)})" for kind in comparison.missed
    )
    return f"not found at all: {kinds}"


def percent(part: int, whole: int) -> str:
    """A share, rounded down so that 100 % means all."""
    return f"{1000 * part // whole / 10:g} %" if whole else "–"


def _called(kind: KindFound) -> str:
    if not kind.n:
        return "none in this frame"
    return _shares(kind.classes, kind.found) if kind.found else f"not found: {_taken_for(kind)}"


def _taken_for(kind: KindFound) -> str:
    return "taken for " + _shares(kind.taken_for, kind.n)


def _shares(names: Counter[str], whole: int) -> str:
    """The most frequent names; two, because equal sublattices have a class each."""
    return ", ".join(f"{name} ({percent(n, whole)})" for name, n in names.most_common(2))
