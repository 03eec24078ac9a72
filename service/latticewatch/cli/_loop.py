"""``latticewatch loop``: moves the stage to the defects that the service reports."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.cli._events import Key, Service
from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
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
    moves: Annotated[int | None, typer.Option(min=1, help="End after so many moves.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, but do not move.")] = False,
    key: Key = None,
) -> None:
    """Bring one defect after another to the centre of the frame; refuse when what is known is old."""
    from latticewatch_client import Client, ControlLoop, Microscope

    if policy not in POLICIES:
        raise ConfigurationError(f"--policy {policy}: expected {' or '.join(POLICIES)}")
    if not max_age > 0:
        raise ConfigurationError(f"--max-age {max_age:g}: expected a number of seconds above 0")
    with Client(service, key) as client, Microscope(control) as microscope:
        steering = ControlLoop(
            client,
            microscope,
            classes=class_ or (),
            policy=policy,  # type: ignore[arg-type]
            max_age_s=max_age,
            dry_run=dry_run,
            on_decision=_say,
        )
        # Both sides must answer before the waiting begins.
        client.status()
        stage = microscope.stage()
        wanted = " or ".join(class_) if class_ else "any defect"
        typer.echo(
            f"stage at {stage.x_nm:.1f}, {stage.y_nm:.1f} nm (limit ±{stage.limit_nm:g} nm); "
            f"waiting for {wanted}{', dry run' if dry_run else ''}. Ctrl-C ends."
        )
        with contextlib.suppress(KeyboardInterrupt):
            steering.run(moves)
        refused = ", ".join(f"{reason} {n}" for reason, n in steering.report.refused.items())
        typer.echo(f"moves: {steering.report.moved}; refused: {refused or 'none'}")


def _say(decision: Decision) -> None:
    data = decision.event.data
    where = "" if decision.x_nm is None else f" at {decision.x_nm:.2f}, {decision.y_nm:.2f} nm"
    what = f"{data['class_name']} ({data['confidence']:.0%}, track {data['track']}){where}"
    if decision.refused is None:
        typer.echo(f"moved to {what}")
    else:
        typer.echo(f"refused {what}: {decision.refused}, {decision.detail}")
