"""What ``latticewatch bench`` shows: a line while it measures, a table when a part is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from latticewatch.bench._zernike import MOTIF_LEARN, PRODUCT

if TYPE_CHECKING:
    from rich.console import Console

    from latticewatch.bench import Benchmark, FrameTimes, Spread

# Where the output is no terminal, tables are as wide as they need to be.
PLAIN_WIDTH = 110
# Below this width, tables have medians only.
SPREAD_WIDTH = 100
BAR_CELLS = 24
# Colours of stages, one after another; the bar and its legend share them.
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta", "white")


class Screen:
    """Progress and results on a console.

    Parameters
    ----------
    console : Console
    quiet : bool
        Say what is being done, and show no results: they go elsewhere.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        self._wide = console.width >= SPREAD_WIDTH
        self._quiet = quiet

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what is being measured while it is."""
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            with self._console.status(what):
                yield
        else:
            self._console.print(f"… {what}", markup=False)
            yield

    def head(self, result: Benchmark) -> None:
        """What was measured, on what."""
        machine = result.machine
        packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
        self._print(
            Text.assemble(("Latticewatch ", "bold"), (result.version, "bold"), " on this machine"),
            Text(f"{cores}, {machine.architecture} with {machine.vectors}, {machine.system}"),
            Text(f"Python {machine.python}, {packages}", style="dim"),
        )

    def zernike(self, result: Benchmark) -> None:
        """Times of the ways to get moments."""
        with_rival = any(times.name == MOTIF_LEARN for times in result.zernike)
        table = _table("66 Zernike moments of a patch")
        table.add_column("")
        for heading in self._headings("µs/patch", "p10 – p90", "patches/s", "× product"):
            table.add_column(heading, justify="right")
        if with_rival:
            table.add_column("× motif-learn", justify="right")
        for i, times in enumerate(result.zernike):
            if i == 0 or times.patch_px != result.zernike[i - 1].patch_px:
                table.add_row(Text(f"{times.patch_px} × {times.patch_px} px", style="bold"))
            us = times.us_per_patch
            row = [f"  {times.name}", f"{us.median:.2f}", *self._spread(us, 2), f"{times.patches_per_s:,.0f}"]
            row.append(_times(result.ratio(times.patch_px, PRODUCT, times.name)))
            if with_rival:
                row.append(_times(result.ratio(times.patch_px, MOTIF_LEARN, times.name)))
            table.add_row(*row)
        self._print(
            table,
            Text("product: of patches already copied out; motif-learn: copies them itself", style="dim"),
        )

    def frames(self, result: Benchmark) -> None:
        """Times of whole frames, and the share of each stage."""
        with_script = any(times.script_ms for times in result.frames)
        table = _table("Frame, decoded → classified and tracked, one at a time")
        for heading in self._headings("frame", "sites", "patch", "ms per frame", "p10 – p90", "frames/s"):
            table.add_column(heading, justify="right")
        if with_script:
            table.add_column("script, ms", justify="right")
            table.add_column("× script", justify="right")
        for times in result.frames:
            rows, cols = times.shape_px
            row = [
                f"{rows} × {cols} px",
                f"{times.sites:,}",
                f"{times.patch_px} px",
                f"{times.ms.median:.1f}",
            ]
            row += [*self._spread(times.ms, 1), f"{times.frames_per_s:.1f}"]
            if with_script:
                row.append("–" if times.script_ms is None else f"{times.script_ms.median:.0f}")
                row.append(_times(times.ratio))
            table.add_row(*row)
        self._print(table)
        if with_script:
            self._print(
                Text(
                    "script: motif-learn's peaks, patches and moments, IncrementalPCA, nearest centroid; all cores",
                    style="dim",
                )
            )
        if (scaling := result.scaling()) is not None:
            self._print(Text(f"4096² takes {scaling:.1f} times as long as 1024², for 16 times the pixels"))
        self._print(*(self._stages(times) for times in result.frames))

    def live(self, result: Benchmark) -> None:
        """The live path: latency at a set rate, and the highest rate."""
        latency, sustained = result.latency, result.sustained
        if latency is None or sustained is None:
            return
        rows, cols = latency.shape_px
        table = _table(f"Live path, {rows} × {cols} px: replay → ZeroMQ → service → client on a websocket")
        table.show_header = False
        asked, analysed = latency.asked_frames_per_s, latency.analysed_frames_per_s
        table.add_row(
            f"{asked:g} frames/s sent, one dashboard open",
            f"{analysed:.1f} frames/s analysed for {latency.seconds:.0f} s; "
            f"{latency.dropped} dropped, {latency.lost} lost",
        )
        table.add_row(
            "frame received → event readable",
            f"p50 {_ms(latency.event_ms_p50)}, p99 {_ms(latency.event_ms_p99)} ({latency.events} events)",
        )
        table.add_row(
            "frame received → picture readable",
            f"p50 {_ms(latency.picture_ms_p50)}, p99 {_ms(latency.picture_ms_p99)}",
        )
        rate = sustained.frames_per_s
        table.add_row(
            "highest sustained rate, no dashboard", f"{rate.median:.1f} frames/s ({_range(rate, 1)})"
        )
        self._print(table)

    def end(self, result: Benchmark) -> None:
        """How to go on."""
        if not any(times.name == MOTIF_LEARN for times in result.zernike):
            self._print(Text("pip install 'latticewatch[bench]' measures motif-learn beside it", style="dim"))

    def _stages(self, times: FrameTimes) -> Table:
        """A bar of the stages of a frame, and their legend."""
        rows, cols = times.shape_px
        table = _table(f"Stages of a frame of {rows} × {cols} px")
        for heading in self._headings("stage", "ms", "p10 – p90", "frames/s", "share"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        table.add_column("")
        for i, stage in enumerate(times.stages):
            colour = COLOURS[i % len(COLOURS)]
            table.add_row(
                stage.name,
                f"{stage.ms.median:.2f}",
                *self._spread(stage.ms, 2),
                "–" if stage.frames_per_s is None else f"{stage.frames_per_s:,.0f}",
                f"{100 * stage.share:.1f} %",
                Text("█" * round(BAR_CELLS * stage.share) or "▏", style=colour),
            )
        return table

    def _headings(self, *headings: str) -> list[str]:
        """Headings without that of the spread where there is no room for it."""
        return [heading for heading in headings if self._wide or heading != "p10 – p90"]

    def _spread(self, spread: Spread, digits: int) -> list[str]:
        return [_range(spread, digits)] if self._wide else []

    def _print(self, *parts: Text | Table) -> None:
        if not self._quiet:
            for part in parts:
                self._console.print(part, soft_wrap=isinstance(part, Text))


def _table(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)


def _range(spread: Spread, digits: int) -> str:
    return f"{spread.p10:.{digits}f} – {spread.p90:.{digits}f}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1f}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"
