"""``latticewatch demo``: a simulated microscope, the service and the dashboard in one command."""

from __future__ import annotations

import contextlib
import errno
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.errors import ConfigurationError, LatticewatchError

if TYPE_CHECKING:
    from rich.console import Console

    from latticewatch.cli._demo_screen import Head
    from latticewatch.cli._demo_simulator import Ready, SimulatorProcess
    from latticewatch.config import Settings
    from latticewatch.serve import Service
    from latticewatch_simulator import SimulatorSettings

REFRESH_S = 0.25
DEFAULT_HTTP = "127.0.0.1:8765"
DEFAULT_CONTROL = "tcp://127.0.0.1:5556"
# Where the output is no terminal, lines are as long as they need to be.
PLAIN_WIDTH = 120


def demo(
    frames: Annotated[
        int | None, typer.Option(min=1, help="End with a summary after so many frames were analysed.")
    ] = None,
    material: Annotated[str, typer.Option(help="WS2, WSe2, MoS2, MoSe2, graphene or hBN.")] = "WS2",
    fps: Annotated[float, typer.Option(help="Frames sent per second.")] = 10.0,
    size: Annotated[int, typer.Option(help="Rows and columns of a frame.")] = 1024,
    dose: Annotated[
        float | None, typer.Option(help="Electrons per square angstrom and frame; default: the material's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the defects and the noise.")] = 0,
    http: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the dashboard listens; if taken, a free port.")
    ] = DEFAULT_HTTP,
    control: Annotated[
        str, typer.Option(help="Where the stage is moved from; another port if this one is in use.")
    ] = DEFAULT_CONTROL,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the event log is kept; by default it is deleted at the end.")
    ] = None,
) -> None:
    """Watch a simulated microscope: simulator, service and dashboard, with a live table here."""
    from rich.console import Console

    from latticewatch.cli._demo_simulator import SimulatorProcess
    from latticewatch.cli._serve import accounting, log_to_stderr
    from latticewatch_simulator import SimulatorSettings

    specimen = SimulatorSettings.checked(
        material=material, shape=(size, size), fps=fps, dose_e_per_a2=dose, seed=seed
    )
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    with contextlib.ExitStack() as stack:
        if data_dir is None:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latticewatch-demo-")))
        settings = _settings(http, data_dir, frames)
        log_to_stderr("WARNING")
        # It starts while the kernels are compiled.
        simulator = stack.enter_context(SimulatorProcess(specimen, control))
        _compile(console, settings)
        ready = simulator.ready()
        service = _service(console, settings, ready)
        stack.callback(service.stop)
        head = _head(specimen, ready, service, frames)
        with _ctrl_c() as stop:
            service.start()
            _watch(console, head, service, simulator, stop)
        counts = service.stop()[""]
        problem = _compare(console, service, simulator)
    console.print(accounting(counts), markup=False, soft_wrap=True)
    if problem is not None:
        typer.echo(f"latticewatch: {problem}", err=True)
        raise typer.Exit(1)


def _settings(http: str, data_dir: Path, frames: int | None) -> Settings:
    from latticewatch.config import load_settings

    settings = load_settings(
        None,
        ingest={"socket": "sub", "bind": False, "mode": "latest"},
        serve={"http": http},
        record={"data_dir": data_dir},
    )
    if frames is not None and frames <= settings.analysis.learning_frames:
        # A short demo learns from fewer frames, rather than end before it has learnt.
        learning = {"learning_frames": max(1, frames - 1)}
        settings = settings.model_copy(update={"analysis": settings.analysis.model_copy(update=learning)})
    return settings


def _can_redraw(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _compile(console: Console, settings: Settings) -> None:
    what = "compiling kernels (takes long at the first start only)"
    if _can_redraw(console):
        waiting = console.status(what)
    else:
        console.print(what)
        waiting = contextlib.nullcontext()
    with waiting:
        from latticewatch.pipeline import warm

        took = warm(settings.analysis)
    console.print(f"kernels ready after {took:.1f} s")


def _service(console: Console, settings: Settings, ready: Ready) -> Service:
    """The service, on a free port where the one asked for is taken."""
    from latticewatch.serve import Service

    ingest = settings.ingest.model_copy(update={"sources": (ready.frames,)})
    settings = settings.model_copy(update={"ingest": ingest})
    try:
        return Service(settings)
    except ConfigurationError as error:
        if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
            raise
    http = settings.serve.http
    anywhere = settings.serve.model_copy(update={"http": f"{http.rpartition(':')[0]}:0"})
    service = Service(settings.model_copy(update={"serve": anywhere}))
    console.print(
        f"{http} is in use; the dashboard of this demo is at {service.url}", markup=False, soft_wrap=True
    )
    return service


def _head(specimen: SimulatorSettings, ready: Ready, service: Service, frames: int | None) -> Head:
    from latticewatch.cli._demo_screen import Head

    rows, cols = specimen.shape
    where = "" if service.url == f"http://{DEFAULT_HTTP}" else f" --service {service.url}"
    control = "" if ready.control == DEFAULT_CONTROL else f" --control {ready.control}"
    return Head(
        specimen=f"{specimen.material}, {rows} × {cols} px of {specimen.pixel_size_nm:g} nm, "
        f"{specimen.fps:g} frames/s, {ready.dose_e_per_a2:,.0f} e/Å² per frame, seed {specimen.seed}",
        dashboard=service.url,
        commands=(
            ("events", f"latticewatch events --follow{where}"),
            ("steer the stage", f"latticewatch loop{where}{control}"),
        ),
        frames=frames,
    )


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and a closed terminal set, in place of what they do otherwise."""
    stop = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(
    console: Console, head: Head, service: Service, simulator: SimulatorProcess, stop: threading.Event
) -> None:
    """Show what happens until it is time to end.

    Raises
    ------
    LatticewatchError
        The simulator ended by itself.
    """
    from rich.live import Live

    from latticewatch.cli._demo_screen import PlainLines, look, screen

    engine = service.engine
    with contextlib.ExitStack() as stack:
        if _can_redraw(console):
            live = stack.enter_context(Live(console=console, auto_refresh=False))

            def show() -> None:
                live.update(screen(head, look(engine), console), refresh=True)
        else:
            for word, what in (("simulated", head.specimen), ("dashboard", head.dashboard), *head.commands):
                console.print(f"{word}: {what}", markup=False, soft_wrap=True)
            lines = PlainLines(console, head)

            def show() -> None:
                lines.update(engine)

        while True:
            show()
            if head.frames is not None and engine.receiver.counts().analysed >= head.frames:
                return
            if not simulator.alive:
                raise LatticewatchError("the simulator ended by itself; its message is above")
            if stop.wait(REFRESH_S):
                return


def _compare(console: Console, service: Service, simulator: SimulatorProcess) -> str | None:
    """Print the comparison with the truth; what is wrong, if anything is."""
    from latticewatch.cli._demo_summary import not_found, print_summary
    from latticewatch.cli._demo_truth import compare

    state = service.engine.state
    result = state.result
    truth = None if result is None else simulator.truth(result.number)
    if result is None or truth is None:
        return "no frame was analysed" if result is None else f"frame {result.number}: its truth is not known"
    if not state.catalogue:
        why = " ".join(note.text for note in result.notes) or "still learning"
        return f"frame {result.number}: {why}; nothing to compare with the truth"
    comparison = compare(result, state.catalogue, truth)
    print_summary(console, comparison)
    return not_found(comparison)
