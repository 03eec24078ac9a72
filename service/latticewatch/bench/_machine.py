"""The machine in general terms: what numbers depend on, and nothing that says whose it is."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

from latticewatch.parallel import cores


@dataclass(frozen=True, slots=True)
class Machine:
    """What the numbers depend on.

    Attributes
    ----------
    cores : int
        That this process may use.
    architecture, vectors, system, python : str
        Such as x86_64, AVX-512, Linux, 3.12.1.
    packages : dict
        Versions of numpy, numba, scipy and scikit-learn.
    """

    cores: int
    architecture: str
    vectors: str
    system: str
    python: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """The machine that this runs on."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    widest = next((name for key, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if features.get(key)), "")
    return Machine(
        cores=cores(),
        architecture=platform.machine(),
        vectors=widest or "128 bit",
        system=platform.system(),
        python=platform.python_version(),
        packages={name: version(name) for name in ("numpy", "numba", "scipy", "scikit-learn")},
    )
