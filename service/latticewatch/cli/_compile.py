"""``latticewatch compile``: the kernels, compiled before anybody waits for them."""

from __future__ import annotations

from importlib.util import find_spec

import typer


def compile_kernels() -> None:
    """Compile the numerical kernels for this processor, so that the first start is as quick as all others.

    They are kept beside the program or, where that cannot be written, in a folder of the user; NUMBA_CACHE_DIR names
    another one. A computer with another kind of processor compiles its own.
    """
    from latticewatch.execute import compile_all
    from latticewatch.pipeline import last_kernel

    n, seconds = compile_all(_simulated if find_spec("ase") else lambda: None)
    kept = last_kernel.stats.cache_path  # type: ignore[attr-defined]
    if n:
        kernels = "1 kernel" if n == 1 else f"{n} kernels"
        typer.echo(f"{kernels} compiled in {seconds:.0f} s, and kept where this one is: {kept}")
    else:
        typer.echo(f"all kernels are compiled already; this one is kept in {kept}")


def _simulated() -> None:
    """Frames with few electrons a pixel and with many take different ways."""
    from latticewatch_simulator import Microscope, SimulatorSettings

    for dose in (1e3, 1e6):
        settings = SimulatorSettings.checked(shape=(64, 64), pixel_size_nm=0.02, dose_e_per_a2=dose, seed=0)
        Microscope(settings, "compile").acquire()
