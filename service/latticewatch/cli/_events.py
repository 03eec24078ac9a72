"""``latticewatch events``: the event log of a service, one line an event."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from latticewatch.errors import ConfigurationError, CursorGoneError
from latticewatch.messages import EVENT_TYPES, Event

BACKLOG = 10
STYLES = {
    "defect.appeared": "bold yellow",
    "defect.reclassified": "cyan",
    "defect.moved": "cyan",
    "defect.disappeared": "dim",
    "frames.lost": "bold red",
    "stream.stalled": "bold red",
    "stream.resumed": "green",
}

Service = Annotated[str, typer.Option(envvar="LATTICEWATCH_SERVICE", help="Address of the service.")]
Key = Annotated[
    str | None,
    typer.Option(envvar="LATTICEWATCH_KEY", help="Key, where the service has keys; best set there."),
]


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more at the end.")] = False,
    after: Annotated[
        str | None,
        typer.Option(metavar="SEQ", help="Begin after this number, stream:seq, or 'now'."),
    ] = None,
    types: Annotated[
        str | None, typer.Option(help="Only these types, with commas; 'defect.*' is a family.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    service: Service = "http://127.0.0.1:8765",
    key: Key = None,
) -> None:
    """Print events: from the oldest that is kept, or with --follow the last ten and each new one."""
    from rich.console import Console

    from latticewatch_client import Client

    wanted = _types(types)
    console = Console(highlight=False, soft_wrap=True)

    def missed(gone: CursorGoneError) -> None:
        sys.stderr.write(f"latticewatch: events were missed: {gone}; going on from {gone.first_seq}\n")

    with Client(service, key) as client:
        start = _start(after)
        if start is None and follow:
            status = client.status()
            start = max(status.first_seq - 1, status.last_seq - BACKLOG)
        try:
            for event in client.events(start, wanted, follow, on_gap=missed):
                if json:
                    typer.echo(event.model_dump_json())
                else:
                    console.print(event_line(event), style=STYLES.get(event.type, ""), markup=False)
        except KeyboardInterrupt:
            # The end that --follow expects.
            return


def _start(after: str | None) -> str | int | None:
    if after is None or after == "now":
        return after
    number = after.rpartition(":")[2]
    if not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise ConfigurationError(f"--after {after}: expected a sequence number, stream:seq or 'now'")
    return after if ":" in after else int(after)


def _types(types: str | None) -> list[str] | None:
    wanted = [word.strip() for word in (types or "").split(",") if word.strip()]
    for word in wanted:
        family = word.removesuffix("*")
        if not any(name == word or (family != word and name.startswith(family)) for name in EVENT_TYPES):
            raise ConfigurationError(f"--types {word}: expected some of {', '.join(EVENT_TYPES)}")
    return wanted or None


def event_line(event: Event) -> str:
    """An event as one readable line, with units."""
    clock = datetime.fromisoformat(event.time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    family = event.type.split(".")[0]
    describe = {"defect": _defect, "class": _class, "model": _model, "frames": _lost}.get(family, _stream)
    return f"{clock}  {event.seq:>6}  {event.type:<19}  {describe(event.data)}"


def _defect(data: dict[str, Any]) -> str:
    px, nm, stage = data["px"], data.get("nm"), data.get("stage_nm")
    name = data["class_name"]
    if data.get("previous_class_name"):
        name = f"{data['previous_class_name']} → {name}"
    where = f"row {px['row']:.1f} col {px['col']:.1f} px"
    if nm:
        where += f"  x {nm['x']:.3f} y {nm['y']:.3f} nm"
    if stage:
        where += f"  stage {stage['x']:.2f}, {stage['y']:.2f} nm"
    return f"{name:<14} {data['confidence']:4.0%}  track {data['track']}  frame {data['frame']}  {where}"


def _class(data: dict[str, Any]) -> str:
    before = data.get("previous_name")
    renamed = f"{before} → " if before and before != data["class_name"] else ""
    merged = f", took in {', '.join(map(str, data['merged']))}" if data.get("merged") else ""
    return f"{renamed}{data['class_name']} (class {data['class_id']}, {data['role']}{merged})"


def _model(data: dict[str, Any]) -> str:
    return f"version {data['model_version']}, {data['n_classes']} classes: {data['reason']}"


def _lost(data: dict[str, Any]) -> str:
    return f"{data['n']} frames, {data['first_frame']} to {data['last_frame']}, of series {data['series_id']}"


def _stream(data: dict[str, Any]) -> str:
    parts = [f"series {data['series_id']}"]
    if data.get("frames") is not None:
        parts.append(f"{data['frames']} frames")
    if data.get("last_frame_age_s") is not None:
        parts.append(f"last frame {data['last_frame_age_s']:.1f} s ago")
    if data.get("reason"):
        parts.append(data["reason"])
    return ", ".join(parts)
