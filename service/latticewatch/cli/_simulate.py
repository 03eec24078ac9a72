"""``latticewatch simulate``: a simulated microscope on the network."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latticewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from latticewatch_simulator import Simulation

PROCESSES = ("creation", "hop", "healing", "substitution", "replacement", "adatom_hop")


def simulate(
    bind: Annotated[str, typer.Option(help="Where frames are sent from; port 0 takes a free one.")] = (
        "tcp://127.0.0.1:5555"
    ),
    control: Annotated[str, typer.Option(help="Where the stage is moved from; 'none' for no controls.")] = (
        "tcp://127.0.0.1:5556"
    ),
    material: Annotated[
        str | None,
        typer.Option(
            help="WS2, WSe2, MoS2, MoSe2, graphene, hBN, SrTiO3, SrRuO3 or PbTiO3; without, WS2.",
            show_default=False,
        ),
    ] = None,
    structure: Annotated[
        Path | None, typer.Option(help="Structure file that ASE reads, seen along z.")
    ] = None,
    specimen: Annotated[
        str,
        typer.Option(
            help="How it is put together and what lies on it: crystal, domains, antiphase, step, wedge, alloy, "
            "dislocation, bilayer, dark, weak, displaced, lone, hollow, hot, dirt, border, elliptic, jitter, "
            "perovskite or few."
        ),
    ] = "crystal",
    amount: Annotated[
        float | None, typer.Option(help="How much of that: times as thick, degrees, per cent …")
    ] = None,
    defects: Annotated[
        str | None, typer.Option(help="Fractions of the columns, such as 'Fe=0.02,S1=0.03', or 'none'.")
    ] = None,
    births: Annotated[float | None, typer.Option(help="Defects born per frame.")] = None,
    dynamics: Annotated[
        str | None,
        typer.Option(help="'births', at a set rate, or 'beam': what the dose does to each column."),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(
            help="Cross-sections for 'beam' [A^2], such as 'creation=2e-9,hop=1e-7'; "
            "also healing, substitution, replacement, adatom_hop."
        ),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    size: Annotated[int, typer.Option(help="Rows and columns of a frame.")] = 1024,
    pixel_size: Annotated[float | None, typer.Option(help="Pixel size [nm].")] = None,
    rotation: Annotated[float | None, typer.Option(help="Rotation of the lattice [degrees].")] = None,
    dose: Annotated[float | None, typer.Option(help="Electrons per square angstrom and frame.")] = None,
    drift: Annotated[str | None, typer.Option(help="Drift per frame 'ROW,COLUMN' [nm].")] = None,
    walk: Annotated[
        float | None, typer.Option(help="Random walk beside the drift, rms per frame [nm].")
    ] = None,
    settling: Annotated[
        float | None, typer.Option(help="Share of a stage move by which the specimen creeps on.")
    ] = None,
    overshoot: Annotated[
        float | None, typer.Option(help="Share of a stage move by which the stage overshoots.")
    ] = None,
    scan_rotation: Annotated[
        float | None, typer.Option(help="Rotation of the scan on the stage [degrees].")
    ] = None,
    jump: Annotated[
        list[str] | None,
        typer.Option(help="Jump that no header tells, 'FRAME:ROW,COLUMN' [nm]; may be given again."),
    ] = None,
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
        "specimen": specimen,
        "amount": amount,
        "defects": None if defects is None else _densities(defects),
        "births_per_frame": births,
        "dynamics": dynamics,
        **({} if rates is None else _cross_sections(rates)),
        "fps": fps,
        "shape": (size, size),
        "pixel_size_nm": pixel_size,
        "rotation_deg": rotation,
        "dose_e_per_a2": dose,
        "drift_nm_per_frame": None if drift is None else drift.split(","),
        "drift_walk_nm": walk,
        "settling_fraction": settling,
        "overshoot": overshoot,
        "scan_rotation_deg": scan_rotation,
        "drift_jumps_nm": None if jump is None else dict(map(_jump, jump)),
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
    return {} if text == "none" else _numbers(text, "--defects", "NAME=FRACTION, such as Fe=0.02, or none")


def _cross_sections(text: str) -> dict[str, float]:
    """``creation=2e-9,hop=1e-7`` as settings."""
    given = _numbers(text, "--rates", "PROCESS=CROSS-SECTION, such as hop=1e-7")
    unknown = [name for name in given if name not in PROCESSES]
    if unknown:
        raise ConfigurationError(f"--rates {unknown[0]!r}: no such process; give {', '.join(PROCESSES)}")
    return {f"{name}_a2": value for name, value in given.items()}


def _numbers(text: str, option: str, form: str) -> dict[str, float]:
    """``NAME=NUMBER,…`` as a dictionary."""
    numbers = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        try:
            numbers[name.strip()] = float(number)
        except ValueError:
            raise ConfigurationError(f"{option} {part!r}: give {form}") from None
    return numbers


def _jump(text: str) -> tuple[int, tuple[float, ...]]:
    """``40:5,0`` as a frame and a displacement."""
    frame, _, displacement = text.partition(":")
    try:
        return int(frame), tuple(map(float, displacement.split(",")))
    except ValueError:
        raise ConfigurationError(f"--jump {text!r}: give FRAME:ROW,COLUMN, such as 40:5,0") from None


def _summary(simulation: Simulation, socket: str, truth: Path | None) -> str:
    microscope = simulation.microscope
    settings = microscope.settings
    rows, cols = settings.shape
    height, width = settings.fov_nm
    counts = microscope.brightest_counts()
    kinds = [kind for kind in microscope.specimen.kinds if kind.density or settings.specimen == "lone"]
    change = f"{settings.births_per_frame:g} born per frame"
    if settings.dynamics == "beam":
        change = f"{settings.creation_a2 * microscope.dose_e_per_a2:.2g} made per column and frame"
    densities = ", ".join(f"{kind.species} {100 * kind.density:.3g} %" for kind in kinds) or "none"
    if settings.specimen == "lone":
        densities = f"one each of {', '.join(kind.species for kind in kinds)}, the others 0 %"
    clipped = ", CLIPPED at 65535: lower the dose" if counts > 65535 else ""
    written = f", truth in {truth}" if truth else ""
    field_of_view = f"{settings.pixel_size_nm:g} nm ({height:.3g} x {width:.3g} nm)"
    dose = f"{microscope.dose_e_per_a2:.3g} e/A^2 per frame"
    what = microscope.specimen.crystal.name
    if settings.specimen != "crystal":
        what = f"{what}, {settings.specimen}"
    return "\n".join(
        (
            f"simulating {what} on {simulation.endpoint} ({socket})",
            f"  controls  {simulation.control_endpoint or 'none'}",
            f"  frames    {rows} x {cols} px of {field_of_view}, {settings.fps:g} per second",
            f"  dose      {dose}, brightest column about {counts:.0f} counts{clipped}",
            f"  defects   {densities} of their columns; {change}",
            f"  series    {microscope.series_id}, seed {settings.seed}{written}",
        )
    )
