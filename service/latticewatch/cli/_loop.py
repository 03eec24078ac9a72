"""``latticewatch loop``: moves the stage to the defects that the service reports."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.cli._events import Key, Service
from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from latticewatch.messages import Event
    from latticewatch_client import Wait
    from latticewatch_client.loop import Decision

POLICIES = ("newest", "most-confident")


def loop(
    service: Service = "http://127.0.0.1:8765",
    control: Annotated[str, typer.Option(help="Control socket of the microscope.")] = "tcp://127.0.0.1:5556",
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class to visit; may be repeated. Default: any defect."),
    ] = None,
    policy: Annotated[str, typer.Option(help=f"Which comes next: {' or '.join(POLICIES)}.")] = "newest",
    max_age: Annotated[
        float, typer.Option(metavar="S", help="A defect seen longer ago, in seconds, is not visited.")
    ] = 30.0,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="A defect less certain than this is not visited.")
    ] = 0.9,
    box: Annotated[
        str | None,
        typer.Option(help="Where the stage may go, 'X0,Y0,X1,Y1' [nm]; its own limit always holds."),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Keep what was done here; a restart visits nothing twice.")
    ] = None,
    moves: Annotated[int | None, typer.Option(min=1, help="End after so many moves.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, but do not move.")] = False,
    key: Key = None,
) -> None:
    """Bring one defect after another to the centre of the frame; refuse when what is known is old."""
    from latticewatch_client import Client, ControlLoop, Gate, Journal, ZmqMicroscope

    if policy not in POLICIES:
        raise ConfigurationError(f"--policy {policy}: expected {' or '.join(POLICIES)}")
    if not max_age > 0:
        raise ConfigurationError(f"--max-age {max_age:g}: expected a number of seconds above 0")
    gate = Gate(max_age_s=max_age, min_confidence=min_confidence, box_nm=None if box is None else _box(box))
    with (
        Client(service, key) as client,
        ZmqMicroscope(control) as microscope,
        Journal(None if dry_run else journal) as kept,
    ):
        steering = ControlLoop(
            client,
            microscope,
            classes=class_ or (),
            policy=policy,  # type: ignore[arg-type]
            dry_run=dry_run,
            on_decision=_say,
            on_wait=_say_wait,
            gate=gate,
            journal=kept,
        )
        # Both sides must answer before the waiting begins.
        client.status()
        stage = microscope.stage()
        wanted = " or ".join(class_) if class_ else "any defect"
        typer.echo(
            f"stage at {stage.x_nm:.1f}, {stage.y_nm:.1f} nm (limit ±{stage.limit_nm:g} nm); "
            f"waiting for {wanted}{', dry run' if dry_run else ''}. Ctrl-C ends."
        )
        for intent in kept.open.values():
            typer.echo(
                f"not known whether it was made: move to {intent['x_nm']:.2f}, {intent['y_nm']:.2f} nm; not repeated"
            )
        before = signal.signal(signal.SIGTERM, lambda *_: steering.stop())
        try:
            with contextlib.suppress(KeyboardInterrupt):
                steering.run(moves)
        finally:
            signal.signal(signal.SIGTERM, before)
        refused = ", ".join(f"{reason} {n}" for reason, n in steering.report.refused.items())
        made = f"would move: {steering.report.would}" if dry_run else f"moves: {steering.report.moved}"
        typer.echo(f"{made}; refused: {refused or 'none'}")


def _say(decision: Decision) -> None:
    data = decision.event.data
    where = "" if decision.x_nm is None else f" at {decision.x_nm:.2f}, {decision.y_nm:.2f} nm"
    what = f"{data['class_name']} ({data['confidence']:.0%}, track {data['track']}){where}"
    if decision.refused is None:
        typer.echo(f"{'would move' if decision.dry else 'moved'} to {what}")
    else:
        typer.echo(f"refused {what}: {decision.refused}, {decision.detail}")


def _say_wait(event: Event, wait: Wait) -> None:
    typer.echo(f"waiting before track {event.data['track']}: {wait.reason}, {wait.detail}")


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError:
        raise ConfigurationError(f"--box {text!r}: give X0,Y0,X1,Y1 in nm, such as -50,-50,50,50") from None
    if not (x0 < x1 and y0 < y1):
        raise ConfigurationError(f"--box {text!r}: the first corner must be the lower one")
    return x0, y0, x1, y1
