"""``latticewatch simulate``: a simulated microscope on the network."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from latticewatch_simulator import Simulation


def simulate(
    bind: Annotated[str, typer.Option(help="Where frames are sent from; port 0 takes a free one.")] = (
        "tcp://127.0.0.1:5555"
    ),
    control: Annotated[str, typer.Option(help="Where the stage is moved from; 'none' for no controls.")] = (
        "tcp://127.0.0.1:5556"
    ),
    material: Annotated[str, typer.Option(help="WS2, WSe2, MoS2, MoSe2, graphene or hBN.")] = "WS2",
    structure: Annotated[
        Path | None, typer.Option(help="Structure file that ASE reads, seen along z.")
    ] = None,
    defects: Annotated[
        str | None, typer.Option(help="Fractions of the columns, such as 'Fe=0.02,S1=0.03', or 'none'.")
    ] = None,
    births: Annotated[float | None, typer.Option(help="Defects born per frame.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    size: Annotated[int, typer.Option(help="Rows and columns of a frame.")] = 1024,
    pixel_size: Annotated[float | None, typer.Option(help="Pixel size [nm].")] = None,
    rotation: Annotated[float | None, typer.Option(help="Rotation of the lattice [degrees].")] = None,
    dose: Annotated[float | None, typer.Option(help="Electrons per square angstrom and frame.")] = None,
    drift: Annotated[str | None, typer.Option(help="Drift per frame 'ROW,COLUMN' [nm].")] = None,
    jitter: Annotated[float | None, typer.Option(help="Line jitter [px rms].")] = None,
    flicker: Annotated[float | None, typer.Option(help="Relative variation of the beam current.")] = None,
    contamination: Annotated[
        float | None, typer.Option(help="Uneven background, in means of the crystal.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the defects and the noise.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write every column of every frame here.")] = None,
    push: Annotated[bool, typer.Option("--push", help="PUSH instead of PUB: wait for the receiver.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Send nothing before somebody receives.")] = False,
) -> None:
    """Send frames of a simulated crystal with point defects, as a microscope would."""
    from latticewatch_simulator import Simulation, SimulatorSettings, is_local

    given = {
        "material": material,
        "structure": structure,
        "defects": None if defects is None else _densities(defects),
        "births_per_frame": births,
        "fps": fps,
        "shape": (size, size),
        "pixel_size_nm": pixel_size,
        "rotation_deg": rotation,
        "dose_e_per_a2": dose,
        "drift_nm_per_frame": None if drift is None else drift.split(","),
        "line_jitter_px": jitter,
        "flicker": flicker,
        "contamination": contamination,
        "seed": seed,
    }
    settings = SimulatorSettings.checked(
        **{name: value for name, value in given.items() if value is not None}
    )
    with Simulation(
        settings,
        bind=bind,
        control=None if control == "none" else control,
        push=push,
        frames=frames,
        truth=truth,
        wait_for_subscriber=wait,
    ) as simulation:
        for endpoint in filter(None, (simulation.endpoint, simulation.control_endpoint)):
            if not is_local(endpoint):
                typer.echo(
                    f"warning: {endpoint} is open to everyone on the network, without a password; "
                    "bind 127.0.0.1 unless that is meant",
                    err=True,
                )
        typer.echo(_summary(simulation, "PUSH" if push else "PUB", truth))
        before = {
            number: signal.signal(number, lambda *_: simulation.request_stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            sent = simulation.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    typer.echo(f"sent {sent} frames")


def _densities(text: str) -> dict[str, float]:
    """``Fe=0.02,S1=0.03`` as a dictionary."""
    densities = {}
    for part in filter(None, text.split(",")) if text != "none" else ():
        name, _, density = part.partition("=")
        try:
            densities[name.strip()] = float(density)
        except ValueError:
            raise ConfigurationError(
                f"--defects {part!r}: give NAME=FRACTION, such as Fe=0.02, or none"
            ) from None
    return densities


def _summary(simulation: Simulation, socket: str, truth: Path | None) -> str:
    microscope = simulation.microscope
    settings = microscope.settings
    rows, cols = settings.shape
    height, width = settings.fov_nm
    counts = microscope.brightest_counts()
    kinds = [kind for kind in microscope.specimen.kinds if kind.density]
    densities = ", ".join(f"{kind.species} {100 * kind.density:.3g} %" for kind in kinds) or "none"
    clipped = ", CLIPPED at 65535: lower the dose" if counts > 65535 else ""
    written = f", truth in {truth}" if truth else ""
    field_of_view = f"{settings.pixel_size_nm:g} nm ({height:.3g} x {width:.3g} nm)"
    dose = f"{microscope.dose_e_per_a2:.3g} e/A^2 per frame"
    return "\n".join(
        (
            f"simulating {microscope.specimen.crystal.name} on {simulation.endpoint} ({socket})",
            f"  controls  {simulation.control_endpoint or 'none'}",
            f"  frames    {rows} x {cols} px of {field_of_view}, {settings.fps:g} per second",
            f"  dose      {dose}, brightest column about {counts:.0f} counts{clipped}",
            f"  defects   {densities} of their columns; {settings.births_per_frame:g} born per frame",
            f"  series    {microscope.series_id}, seed {settings.seed}{written}",
        )
    )
