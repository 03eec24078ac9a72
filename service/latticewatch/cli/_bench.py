"""``latticewatch bench``: how fast the service is on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from latticewatch.bench import Benchmark
    from latticewatch.cli._bench_screen import Screen

DEFAULT_SIZES = "512,1024,2048,4096"
QUICK_SIZES = "512"
DEFAULT_SECONDS, QUICK_SECONDS = 5.0, 0.5
LIVE_PX, QUICK_LIVE_PX = 1024, 256
PATCHES_PX = (36, 128)
# How many times as long as the other measurements the live path is watched: events are rare.
LIVE_FACTOR = 4
# Replayed again and again; 126 MiB at 1024².
LIVE_FRAMES = 60
SMALLEST_PX, LARGEST_PX = 256, 8192
EXECUTORS = ("threads", "processes")


def bench(
    sizes: Annotated[
        str | None, typer.Option(metavar="PX,PX…", help=f"Sides of the frames.  \\[default: {DEFAULT_SIZES}]")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, max=3600, help=f"For each measurement.  \\[default: {DEFAULT_SECONDS:g}]"),
    ] = None,
    fps: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Frames per second at which latency is measured.")
    ] = 25.0,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Measure the live path too: replay, service, client.")
    ] = True,
    executor: Annotated[
        str,
        typer.Option(metavar="threads|processes", help="Where the service of the live path analyses frames."),
    ] = "threads",
    quick: Annotated[
        bool, typer.Option("--quick", help="A quick look within half a minute: small frames.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides the defects and the noise.")] = 0,
) -> None:
    """Measure kernels, stages, whole frames and the live path on this machine, beside motif-learn if installed."""
    from rich.console import Console

    from latticewatch.cli._bench_screen import Screen

    sides = _sides(sizes or (QUICK_SIZES if quick else DEFAULT_SIZES))
    spent_s = seconds or (QUICK_SECONDS if quick else DEFAULT_SECONDS)
    screen = Screen(Console(stderr=as_json, highlight=False), quiet=as_json)
    live_px = (QUICK_LIVE_PX if quick else LIVE_PX) if live else None
    patches = PATCHES_PX[:1] if quick else PATCHES_PX
    result = _measure(screen, patches, sides, spent_s, fps, live_px, _executor(executor), seed)
    if as_json:
        typer.echo(json.dumps(result.document(), indent=2, ensure_ascii=False))
    else:
        screen.end(result)


def _executor(name: str) -> str:
    if name not in EXECUTORS:
        raise ConfigurationError(f"--executor {name}: expected {' or '.join(EXECUTORS)}")
    return name


def _sides(text: str) -> list[int]:
    sides = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(SMALLEST_PX <= side <= LARGEST_PX for side in sides):
        raise ConfigurationError(
            f"--sizes {text}: expected sides from {SMALLEST_PX} to {LARGEST_PX} px, such as {DEFAULT_SIZES}"
        )
    return list(dict.fromkeys(sides))


def _measure(
    screen: Screen,
    patches: tuple[int, ...],
    sides: list[int],
    seconds: float,
    fps: float,
    live_px: int | None,
    executor: str,
    seed: int,
) -> Benchmark:
    from latticewatch import __version__
    from latticewatch.bench import (
        Benchmark,
        find_script,
        measure_frames,
        measure_latency,
        measure_sustained,
        measure_zernike,
        this_machine,
    )
    from latticewatch.cli._bench_frames import few, frames_of
    from latticewatch.pipeline import warm

    result = Benchmark(__version__, this_machine())
    screen.head(result)
    with screen.doing("compiling kernels (takes long at the first start only)"):
        warm()
        script = find_script()
    for patch_px in patches:
        with screen.doing(f"Zernike moments of {patch_px} px patches"):
            result.zernike += measure_zernike(patch_px, script, seconds)
    screen.zernike(result)
    for side in sides:
        with screen.doing(f"frames of {side} x {side} px"):
            images, pixel_size_nm = frames_of(side, few(side), seed)
            result.frames.append(measure_frames(images, pixel_size_nm, seconds, script))
    screen.frames(result)
    if live_px is not None:
        with screen.doing("frames for the live path"):
            images, pixel_size_nm = frames_of(live_px, LIVE_FRAMES, seed)
        with screen.doing(f"live path at {fps:g} frames/s (learns first)"):
            result.latency = measure_latency(images, pixel_size_nm, fps, LIVE_FACTOR * seconds, executor)
        with screen.doing("live path as fast as it goes (learns first)"):
            result.sustained = measure_sustained(images, pixel_size_nm, LIVE_FACTOR * seconds, executor)
        screen.live(result)
    return result
