"""``latticewatch loop``: acts on the defects that the service reports, one after another."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latticewatch.cli._events import Key, Service
from latticewatch.errors import ConfigurationError, ControlError
from latticewatch.messages import KINDS, POLICIES

if TYPE_CHECKING:
    from latticewatch.messages import Target
    from latticewatch_client import Loop, Step

ACTS = "centre, image:FRAMES or expose:SECONDS"


def loop(
    service: Service = "http://127.0.0.1:8765",
    control: Annotated[str, typer.Option(help="Control socket of the microscope.")] = "tcp://127.0.0.1:5556",
    remote: Annotated[
        bool, typer.Option("--remote", help="Allow a control socket on another machine.")
    ] = False,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class to act on; may be repeated. Default: any defect."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help=f"Kind of change: {', '.join(KINDS)}.")
    ] = None,
    policy: Annotated[str, typer.Option(help=f"Which comes next: {', '.join(POLICIES)}.")] = "nearest",
    act: Annotated[str, typer.Option(help=f"What to do with it: {ACTS}.")] = "centre",
    tiles: Annotated[
        str | None,
        typer.Option(help="Fields to go to when there is no target left: 'COLUMNSxROWS:STEP' [nm]."),
    ] = None,
    survey: Annotated[
        int,
        typer.Option(
            min=0, help="First take so many frames of each field; then go to targets, in view or not."
        ),
    ] = 0,
    max_age: Annotated[
        float, typer.Option(metavar="S", help="A defect seen longer ago, in seconds, is refused.")
    ] = 30.0,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="A defect less certain than this is left alone.")
    ] = 0.9,
    box: Annotated[
        str | None,
        typer.Option(help="Where the field may be, 'X0,Y0,X1,Y1' [nm]; the microscope's limits always hold."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="Where targets may be on the specimen, 'X0,Y0,X1,Y1' [nm]; it drifts along."),
    ] = None,
    max_dose: Annotated[
        float | None, typer.Option(help="Most dose for any square nanometre [e/A^2].")
    ] = None,
    max_electrons: Annotated[float | None, typer.Option(help="Most electrons in all.")] = None,
    max_exposure: Annotated[float, typer.Option(help="Longest exposure of one place [s].")] = 10.0,
    journal: Annotated[
        Path | None, typer.Option(help="Keep what was done here; a restart does nothing twice.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many acts.")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="End when there was no target for so long [s].")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask a person before each act.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, but touch nothing.")] = False,
    stop_at: Annotated[
        str | None, typer.Option(help="Listen here, HOST:PORT, for POST /stop: the emergency stop.")
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Release an emergency stop first, when all is well.")
    ] = False,
    key: Key = None,
) -> None:
    """Act on one defect after another; wait or refuse when what is known does not allow it."""
    from latticewatch_client import Client, Gate, Journal, Loop, ZmqMicroscope
    from latticewatch_client._emergency import StopServer, on_key

    if policy not in POLICIES:
        raise ConfigurationError(f"--policy {policy}: expected {', '.join(POLICIES)}")
    for one in kind or ():
        if one not in KINDS:
            raise ConfigurationError(f"--kind {one}: expected {', '.join(KINDS)}")
    if not max_age > 0:
        raise ConfigurationError(f"--max-age {max_age:g}: expected a number of seconds above 0")
    gate = Gate(
        max_age_s=max_age,
        min_confidence=min_confidence,
        box_nm=None if box is None else _box(box, "--box"),
        sample_nm=None if sample is None else _box(sample, "--sample"),
        max_exposure_s=max_exposure,
        max_dose_e_per_a2=max_dose,
        max_electrons=max_electrons,
        approve=_approve if ask else None,
    )
    what = _act(act)
    fields = [] if tiles is None else _tiles(tiles)
    with contextlib.ExitStack() as opened:
        client = opened.enter_context(Client(service, key))
        microscope = opened.enter_context(ZmqMicroscope(control, remote=remote))
        kept = opened.enter_context(Journal(None if dry_run else journal))
        # Both sides must answer before the waiting begins.
        client.status()
        if release:
            microscope.release()
        steering = Loop(
            client,
            microscope,
            policy,  # type: ignore[arg-type]
            what,
            gate,
            kept,
            classes=class_ or (),
            kinds=kind or (),  # type: ignore[arg-type]
            fields=fields,
            survey=survey,
            dry_run=dry_run,
            on_step=_say,
        )
        listening = ""
        if stop_at is not None:
            server = opened.enter_context(StopServer(steering, stop_at, key))
            listening = f", POST http://{server.address}/stop"
        if opened.enter_context(on_key(" ", lambda: _emergency(steering))):
            listening += ", the space bar"
        _say_start(microscope.state(), microscope.limits(), class_ or kind or (), dry_run, listening)
        for intent in kept.open.values():
            typer.echo(f"going on with {intent['target']}, which was interrupted")
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: steering.stop()),
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: _emergency(steering)),
        }
        try:
            report = steering.run(steps, timeout)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    failed = ", ".join(f"{reason} {n}" for reason, n in report.failed.items()) or "none"
    refused = ", ".join(f"{reason} {n}" for reason, n in report.refused.items()) or "none"
    made = f"would act: {report.would}" if dry_run else f"done: {report.done}; failed: {failed}"
    typer.echo(f"{made}; refused: {refused}")


def _emergency(steering: Loop) -> None:
    try:
        steering.emergency_stop()
        typer.echo("EMERGENCY STOP: nothing moves, the beam is blanked; go on with --release", err=True)
    except ControlError as error:
        typer.echo(f"EMERGENCY STOP FAILED: {error}", err=True)


def _approve(target: Target) -> bool | None:
    track = target.track
    return typer.confirm(f"act on {track.class_name} ({track.confidence:.0%}, track {track.track})?")


def _say_start(state: Any, limits: Any, wanted: Any, dry_run: bool, listening: str) -> None:
    x0, y0, x1, y1 = limits.stage_nm
    typer.echo(
        f"stage at {state.x_nm:.1f}, {state.y_nm:.1f} nm (limits {x0:g}, {y0:g} to {x1:g}, {y1:g} nm); "
        f"waiting for {' or '.join(wanted) or 'any defect'}{', dry run' if dry_run else ''}. "
        f"Emergency stop: Ctrl-C{listening}; SIGTERM ends after the action that is being done."
    )


def _say(step: Step) -> None:
    what = "the next field"
    if step.target is not None:
        track = step.target.track
        place = "" if track.stage_nm is None else f" at {track.stage_nm.x:.2f}, {track.stage_nm.y:.2f} nm"
        what = f"{track.class_name} ({track.confidence:.0%}, track {track.track}){place}"
    why = f": {step.reason}, {step.detail}" if step.reason else ""
    off = "" if step.sight is None else f", {step.sight.offset_nm:.3f} nm from the middle"
    words = {"would": "would act on", "waits": "waits before", "done": "done with"}
    typer.echo(f"{words.get(step.outcome, step.outcome)} {what}{off}{why}")


def _act(text: str) -> Callable[..., object]:
    from latticewatch_client import acts

    name, _, value = text.partition(":")
    try:
        if name == "centre" and not value:
            return acts.centre
        if name == "image":
            return acts.image(int(value or 10))
        if name == "expose":
            return acts.expose(float(value))
    except ValueError:
        pass
    raise ConfigurationError(f"--act {text!r}: expected {ACTS}")


def _tiles(text: str) -> list[tuple[float, float]]:
    from latticewatch_client import tiles

    try:
        grid, _, step = text.partition(":")
        n_x, n_y = map(int, grid.split("x"))
        step_nm = float(step)
    except ValueError:
        raise ConfigurationError(f"--tiles {text!r}: expected COLUMNSxROWS:STEP, such as 3x3:10") from None
    if not (0 < n_x <= 1000 and 0 < n_y <= 1000 and step_nm > 0):
        raise ConfigurationError(
            f"--tiles {text!r}: 1 to 1000 fields along either axis, and a step above 0 nm"
        )
    return list(tiles(n_x, n_y, step_nm))


def _box(text: str, name: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError:
        raise ConfigurationError(f"{name} {text!r}: give X0,Y0,X1,Y1 in nm, such as -50,-50,50,50") from None
    if not (x0 < x1 and y0 < y1):
        raise ConfigurationError(f"{name} {text!r}: the first corner must be the lower one")
    return x0, y0, x1, y1
