"""``latticewatch serve``: the service, from frames on the wire to the dashboard."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from latticewatch.messages import FrameCounts
    from latticewatch.serve import Service


def serve(
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Where frames come from, tcp://HOST:PORT; may be repeated, once for each microscope, as NAME=ADDRESS."
        ),
    ] = None,
    pull: Annotated[
        bool | None, typer.Option("--pull/--sub", help="PULL socket (loses nothing) or SUB socket.")
    ] = None,
    req: Annotated[
        bool | None, typer.Option("--req", help="REQ socket: ask a karabo bridge for each train.")
    ] = None,
    bind_source: Annotated[
        bool | None, typer.Option("--bind-source", help="Bind the sources instead of connecting to them.")
    ] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where dashboard and interface listen.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the event log is kept.")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Record frames and results in this folder.")
    ] = None,
    record_results: Annotated[
        bool | None, typer.Option("--record-results", help="Record results alone, without the frames.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with further settings.")] = None,
    lossless: Annotated[
        bool | None,
        typer.Option("--lossless/--latest", help="Hold the sender back, or drop the oldest frame."),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="NM", help="Pixel size where the frames give none, in nm.")
    ] = None,
    patch_size: Annotated[
        str | None, typer.Option(metavar="PX|auto", help="Diameter of the patches, in pixels.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="NAME", help="Detector to analyse, where a stream carries several.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Start from a model that was saved on another day.")
    ] = None,
    invariant: Annotated[
        bool | None, typer.Option("--invariant", help="Orientations of a motif are one class.")
    ] = None,
    material: Annotated[
        str | None,
        typer.Option(
            metavar="FORMULA", help="What the specimen is, such as WS2, or doped WS2:Fe,Te: names classes."
        ),
    ] = None,
    learning_frames: Annotated[
        int | None, typer.Option(metavar="N", help="Frames gathered before classes are discovered.")
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(metavar="threads|processes|dask://HOST:PORT", help="Where frames are analysed."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Frames analysed at the same time.")
    ] = None,
    rotation: Annotated[
        float | None, typer.Option(metavar="DEG", help="Rotation of the scan where the frames give none.")
    ] = None,
    dose: Annotated[
        float | None, typer.Option(metavar="E", help="Dose of a frame where it gives none, in e/Å².")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the microscope in events.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="text|json", help="The log: lines, or a JSON object a line.")
    ] = None,
) -> None:
    """Watch frames as they arrive, and serve what is found: dashboard, API and event log."""
    # As in `latticewatch.execute._prepare`, which turns it on again.
    gc.disable()
    from latticewatch.config import load_settings
    from latticewatch.serve import run_service

    settings = load_settings(
        config,
        ingest={
            "sources": tuple(source) if source else None,
            "socket": "req" if req else _either(pull, "pull", "sub"),
            "bind": bind_source,
            "mode": _either(lossless, "lossless", "latest"),
            "pixel_size_nm": pixel_size,
            "detector": detector,
            "rotation_deg": rotation,
            "dose_e_per_a2": dose,
        },
        analysis={
            "patch_size": patch_size_of(patch_size),
            "invariant": invariant,
            "model": model,
            "material": material,
            "learning_frames": learning_frames,
            "executor": executor,
            "threads": threads,
        },
        serve={"http": http, "instrument": instrument, "log_format": log_format},
        record={
            "data_dir": data_dir,
            "recording": record,
            "recording_frames": False if record_results else None,
        },
    )
    log_to_stderr(as_json=settings.serve.log_format == "json")
    for name, counts in run_service(settings, on_ready=announce).items():
        typer.echo(f"{name}: {accounting(counts)}" if name else accounting(counts))


def _either(chosen: bool | None, yes: str, no: str) -> str | None:
    return None if chosen is None else yes if chosen else no


def patch_size_of(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 3 <= int(text) <= 1024):
        raise ConfigurationError(f"--patch-size {text}: expected 3 to 1024 pixels or 'auto'")
    return int(text)


def log_to_stderr(level: str = "INFO", *, as_json: bool = False) -> None:
    """Send the log to standard error, so that standard output says only what was asked for."""
    import structlog

    for_people: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S", utc=False),
        # The traces that rich draws, with every variable, take half a second each.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    for_programs: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper("iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]
    structlog.configure(
        processors=[structlog.processors.add_log_level, *(for_programs if as_json else for_people)],
        # Looked up for each line: a live display puts itself in the place of standard error.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def announce(service: Service) -> None:
    """Say what the service does and where."""
    for name, engine in service.engines.items():
        settings = engine.settings
        socket = settings.ingest.socket.upper()
        how = f"{socket}, {'bound' if settings.ingest.bind else 'connected'}, {settings.ingest.mode}"
        if settings.ingest.curve_key is not None:
            how += ", encrypted"
        lines: dict[str, Any] = {"microscope": name} if name else {}
        lines |= {
            "frames from": f"{', '.join(engine.sources)}  ({how})",
            "dashboard": service.urls[name],
            "event log": settings.record.data_dir / "events.sqlite",
        }
        record = settings.record
        if record.recording is not None:
            what = "frames and results" if record.recording_frames else "results"
            lines["recording"] = (
                f"{record.recording}  ({what}; beyond {record.recording_max_gib:g} GiB the oldest go)"
            )
        for label, value in lines.items():
            typer.echo(f"{label:<12} {value}")
    if not service.loopback:
        typer.echo(
            "note         keys travel unencrypted: put a TLS proxy in front where others share the network"
        )
    typer.echo("Ctrl-C ends.")


def accounting(counts: FrameCounts) -> str:
    """Where every frame went, in one line."""
    dropped = sum(counts.dropped.values())
    reasons = f" ({_list(counts.dropped)})" if counts.dropped else ""
    line = f"received {counts.received} frames = analysed {counts.analysed} + dropped {dropped}{reasons}"
    if counts.in_flight:
        line += f" + in flight {counts.in_flight}"
    line += f"; lost before they arrived: {counts.lost_upstream}"
    if counts.rejected:
        line += f"; messages that could not be read: {_list(counts.rejected)}"
    return line


def _list(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in reasons.items())
